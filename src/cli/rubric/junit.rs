//! JUnit XML, as CI systems read it: a suite a rubric, a case a test.

use crate::pipeline::trial::Tried;
use std::fmt::Write;

/// The report.
pub(super) fn report(suites: &[(String, Vec<Tried>)]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (rubric, all) in suites {
        let skipped = all.iter().filter(|t| t.is_skipped()).count();
        let failed = all.iter().filter(|t| !t.is_skipped() && !t.is_passed()).count();
        let name = escaped(rubric);
        writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\">",
            all.len()
        )
        .expect("a String can be written");
        for tried in all {
            let ms: i64 = tried.verdicts.iter().map(|v| v.latency_ms).sum();
            write!(
                out,
                "    <testcase classname=\"{name}\" name=\"{}\" time=\"{:.3}\"",
                escaped(&tried.test.name),
                ms as f64 / 1e3
            )
            .expect("a String can be written");
            let why = escaped(&tried.why().unwrap_or_default());
            let rest = match (tried.is_skipped(), tried.is_passed()) {
                (true, _) => format!("><skipped message=\"{why}\"/></testcase>"),
                (_, true) => "/>".to_owned(),
                _ => format!("><failure message=\"{why}\"/></testcase>"),
            };
            writeln!(out, "{rest}").expect("a String can be written");
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
        c if c.is_control() => String::new(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_attribute() {
        assert_eq!(escaped("a <b> \"c\" &\u{1}\n"), "a &lt;b&gt; &quot;c&quot; &amp; ");
    }
}
