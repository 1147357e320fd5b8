//! JUnit XML, as CI systems read it: suites of cases, each passed, failed, in error or skipped.
//!
//! Written by `rubric test` (a suite a rubric, a case a test) and `eval` (a suite a rubric, a case a trace). The way not taken:
//! a crate for four elements.

use std::fmt::Write;

/// How a case ended, and why.
pub(super) enum Ended {
    Passed,
    Failed(String),
    Error(String),
    Skipped(String),
}

/// One case.
pub(super) struct Case {
    pub name: String,
    pub seconds: f64,
    pub ended: Ended,
}

/// The report.
pub(super) fn report(suites: &[(String, Vec<Case>)]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (name, cases) in suites {
        let count = |is: fn(&Ended) -> bool| cases.iter().filter(|case| is(&case.ended)).count();
        let name = escaped(name);
        writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            cases.len(),
            count(|e| matches!(e, Ended::Failed(_))),
            count(|e| matches!(e, Ended::Error(_))),
            count(|e| matches!(e, Ended::Skipped(_))),
            cases.iter().map(|case| case.seconds).sum::<f64>(),
        )
        .expect("a String can be written");
        for case in cases {
            let child = |element: &str, why: &str| format!("><{element} message=\"{}\"/></testcase>", escaped(why));
            let rest = match &case.ended {
                Ended::Passed => "/>".to_owned(),
                Ended::Failed(why) => child("failure", why),
                Ended::Error(why) => child("error", why),
                Ended::Skipped(why) => child("skipped", why),
            };
            let (case_name, seconds) = (escaped(&case.name), case.seconds);
            writeln!(out, "    <testcase classname=\"{name}\" name=\"{case_name}\" time=\"{seconds:.3}\"{rest}")
                .expect("a String can be written");
        }
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

/// A text within an attribute; what XML has no place for is left out.
fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\n' | '\t' => " ".to_owned(),
        // Also the two that are characters and still no XML.
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => String::new(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_attribute() {
        assert_eq!(escaped("a <b> \"c\" &\u{1}\n\u{ffff}"), "a &lt;b&gt; &quot;c&quot; &amp; ");
    }

    #[test]
    fn a_report_is_well_formed_and_counts() {
        let case = |name: &str, ended| Case { name: name.to_owned(), seconds: 0.5, ended };
        let cases = vec![
            case("a", Ended::Passed),
            case("<b>", Ended::Failed("\"no\"".to_owned())),
            case("c", Ended::Error("timeout".to_owned())),
            case("d", Ended::Skipped("filtered".to_owned())),
        ];
        let xml = report(&[("r".to_owned(), cases)]);
        let read = roxmltree::Document::parse(&xml).expect("XML");
        let suite = read.descendants().find(|n| n.has_tag_name("testsuite")).expect("a suite");
        let counts = ["tests", "failures", "errors", "skipped", "time"].map(|name| suite.attribute(name));
        assert_eq!(counts, ["4", "1", "1", "1", "2.000"].map(Some));
        let failed = read.descendants().find(|n| n.has_tag_name("failure")).expect("a failure");
        assert_eq!(
            (failed.attribute("message"), failed.parent().and_then(|c| c.attribute("name"))),
            (Some("\"no\""), Some("<b>"))
        );
    }
}
