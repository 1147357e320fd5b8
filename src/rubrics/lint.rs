//! What is odd about a rubric that can be used: it would judge, but probably not as it was meant.
//!
//! Called by `cli::rubric`. Its rule: every finding has its place and says what to do; a warning is something that a careful
//! reader would send back. The way not taken: opinions about style.

use super::error::{Problem, RubricError, Severity};
use super::parse::{Expect, Parsed, Test};
use super::template;
use super::yaml::Node;
use crate::domain::rubric::{Better, Example, Output, Rubric, Variable};
use crate::domain::words::numbers;
use crate::judge::template::{uses_variable, without_marks};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// Everything odd, by place; `None` when nothing is.
#[must_use]
pub fn lint(path: &Path, parsed: &Parsed) -> Option<RubricError> {
    let (rubric, document) = (&parsed.rubric, &parsed.document);
    let mut found = Vec::new();
    named(path, rubric, document, &mut found);
    prompt(rubric, document, &mut found);
    pass_rule(rubric, document, &mut found);
    limits(rubric, document, &mut found);
    tests(parsed, &mut found);
    examples(parsed, &mut found);
    (!found.is_empty()).then(|| RubricError::new(path.to_owned(), &rubric.source, found))
}

type Found = Vec<Problem>;

fn at(document: &Node, path: &[&str]) -> Range<usize> {
    document.at(path).span.clone()
}

fn named(path: &Path, rubric: &Rubric, document: &Node, found: &mut Found) {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    if stem != rubric.name && stem != "-" {
        let text = format!("the rubric is called `{}` and its file `{stem}`", rubric.name);
        found.push(
            Problem::warning(at(document, &["name"]), text).help("give both the same name, so that people find it"),
        );
    }
    if rubric.title.is_empty() {
        found.push(
            Problem::note(at(document, &["name"]), "there is no `title`").help("say in a few words what it is about"),
        );
    }
}

fn prompt(rubric: &Rubric, document: &Node, found: &mut Found) {
    let (Some(text), Some(node)) = (&rubric.prompt, document.get("prompt")) else { return };
    let own = node.text().unwrap_or_default();
    for (variable, part) in without_marks(text) {
        let place = template::place(&rubric.source, node, own, &in_own(own, text, &part));
        let message =
            format!("`{variable}` loses the marks around it, so text of the trace could pass for an instruction");
        found.push(
            Problem::warning(place, message).help(format!("write `{{{{ {variable} }}}}` without a filter or a slice")),
        );
    }
    let whole = at(document, &["prompt"]);
    let first = whole.start..rubric.source[whole.start..].find('\n').map_or(whole.end, |n| whole.start + n);
    if let Some(missing) = unexplained(&rubric.output, text) {
        let message = format!("the prompt does not say what {missing} means");
        found.push(Problem::warning(first.clone(), message).help("tell the judge when to give each verdict"));
    }
    let guarded = |v: &Variable| text.contains(&format!("if {v}"));
    let required = &rubric.applies_when.requires;
    let is_required = |v: &Variable| {
        required.contains(v)
            || (*v == Variable::Question && required.contains(&Variable::Input))
            || (*v == Variable::Answer && required.contains(&Variable::Output))
    };
    let always_there = [Variable::Metadata, Variable::Claims];
    let used =
        Variable::IN_PROMPTS.into_iter().filter(|v| uses_variable(text, v.as_str()) && !always_there.contains(v));
    for variable in used.filter(|v| !guarded(v) && !is_required(v)) {
        let message = format!("a trace without `{variable}` is not_applicable, because the prompt needs it");
        let help = format!("say so in `applies_when.requires`, or write `{{% if {variable} %}}…{{% endif %}}`");
        found.push(Problem::note(first.clone(), message).help(help));
    }
}

/// A part of the expanded prompt in the prompt as it is written, where it is not from an included text.
fn in_own(own: &str, expanded: &str, part: &Range<usize>) -> Range<usize> {
    let wanted = expanded.get(part.clone()).unwrap_or_default();
    own.find(wanted).map_or(0..0, |at| at..at + wanted.len())
}

/// A verdict that the prompt never speaks of.
fn unexplained(output: &Output, prompt: &str) -> Option<String> {
    let text = prompt.to_lowercase();
    let says = |word: &str| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        text.match_indices(word)
            .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
    };
    match output {
        Output::Claims { .. } => None,
        Output::Boolean { .. } => [("true", "yes"), ("false", "no")]
            .into_iter()
            .find(|(a, b)| !says(a) && !says(b))
            .map(|(a, _)| format!("`{a}`")),
        Output::Category { values } => values
            .keys()
            .find(|label| !says(&label.to_lowercase()) && !says(&label.to_lowercase().replace('_', " ")))
            .map(|label| format!("the label `{label}`")),
        Output::Score { range: (low, high), .. } => {
            let told: Vec<f64> = numbers(prompt).iter().filter_map(|n| n.parse().ok()).collect();
            [low, high]
                .into_iter()
                .find(|end| !told.iter().any(|n| (n - **end).abs() < 1e-9))
                .map(|end| format!("a score of {end}"))
        }
    }
}

fn pass_rule(rubric: &Rubric, document: &Node, found: &mut Found) {
    let place = at(document, &[if document.get("pass").is_some() { "pass" } else { "output" }]);
    let mut say = |text: &str, help: &str| found.push(Problem::warning(place.clone(), text).help(help));
    if rubric.pass <= 0.0 {
        say("every answer passes, because no score is below 0", "set `pass` above 0");
        return;
    }
    if rubric.prompt.is_none() {
        contradicting_limits(rubric, document, found);
        return;
    }
    let mut say = |text: &str, help: &str| found.push(Problem::warning(place.clone(), text).help(help));
    let Output::Category { values } = &rubric.output else { return };
    let good = values.values().filter(|score| **score >= rubric.pass).count();
    if good == 0 {
        say("no label passes, because all their scores are below `pass`", "lower `pass`, or raise a label's score");
    } else if good == values.len() {
        say("every label passes, because none has a score below `pass`", "raise `pass`, or lower a label's score");
    }
}

/// Where only checks decide, `pass` is the mark for what their limits leave open: the two must not say opposite things.
fn contradicting_limits(rubric: &Rubric, document: &Node, found: &mut Found) {
    let pass = rubric.pass;
    for spec in &rubric.checks {
        let name = spec.kind.as_str();
        let both = [
            (spec.fail_below.filter(|limit| *limit > pass), "fails by fail_below and passes by `pass`"),
            (spec.pass_above.filter(|limit| *limit < pass), "passes by pass_above and fails by `pass`"),
        ];
        for (limit, what) in both.iter().filter_map(|(limit, what)| Some(((*limit)?, what))) {
            let (low, high) = (pass.min(limit), pass.max(limit));
            let text = format!("`{name}`: a score from {low} to {high} {what}");
            let place = place_of(document, name);
            found.push(
                Problem::warning(place, text).help("the limit decides; set `pass` to the same, or leave one out"),
            );
        }
    }
}

/// The key of a check.
fn place_of(document: &Node, check: &str) -> Range<usize> {
    let key = document.at(&["checks"]).list().iter().flat_map(Node::map).find(|(key, _)| key.name == check);
    key.map_or_else(|| at(document, &["checks"]), |(key, _)| key.span.clone())
}

fn limits(rubric: &Rubric, document: &Node, found: &mut Found) {
    for spec in &rubric.checks {
        let name = spec.kind.as_str();
        let place = place_of(document, name);
        if spec.fail_below.is_some_and(|limit| limit <= 0.0) {
            found.push(
                Problem::warning(place.clone(), format!("`{name}` never fails the rubric: no score is below 0"))
                    .help("raise fail_below"),
            );
        }
        if spec.pass_above.is_some_and(|limit| limit >= 1.0) {
            found.push(
                Problem::warning(place, format!("`{name}` never passes the rubric: no score is above 1"))
                    .help("lower pass_above"),
            );
        }
    }
}

/// Whether a verdict on the rubric's own scale passes.
fn passes(verdict: &Value, rubric: &Rubric) -> Option<bool> {
    let flip = |unit: f64, better: Better| if better == Better::Lower { 1.0 - unit } else { unit };
    let score = match &rubric.output {
        Output::Score { range: (low, high), better } => flip((verdict.as_f64()? - low) / (high - low), *better),
        Output::Boolean { better } => flip(f64::from(u8::from(verdict.as_bool()?)), *better),
        Output::Category { values } => *values.get(verdict.as_str()?)?,
        Output::Claims { .. } => return None,
    };
    Some(score >= rubric.pass)
}

/// Whether what a test expects passes, as far as it says so other than by `passed`.
fn implied(expect: &Expect, rubric: &Rubric) -> Option<bool> {
    let by_label = expect.label.as_ref().and_then(|label| {
        let verdict = match &rubric.output {
            Output::Boolean { .. } => Value::Bool(label == "true"),
            _ => Value::String(label.clone()),
        };
        passes(&verdict, rubric)
    });
    let by_score = expect.score.and_then(|(low, high)| match (low >= rubric.pass, high < rubric.pass) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    });
    by_label.or(by_score)
}

fn tests(parsed: &Parsed, found: &mut Found) {
    let (rubric, document) = (&parsed.rubric, &parsed.document);
    if parsed.tests.is_empty() {
        let text = "the rubric has no tests, so nobody knows whether an edit breaks it";
        found.push(
            Problem::warning(at(document, &["name"]), text)
                .help("add `tests:` with a good answer and one that only looks good"),
        );
        return;
    }
    for (n, test) in parsed.tests.iter().enumerate() {
        if let (Some(passed), Some(other)) = (test.expect.passed, implied(&test.expect, rubric))
            && passed != other
        {
            let place = at(document, &["tests", &n.to_string(), "expect"]);
            let text =
                format!("the test cannot hold: what it expects {} by `pass`", if other { "passes" } else { "fails" });
            found.push(Problem::warning(place, text).help("change `passed`, or the label or score beside it"));
        }
    }
    let says = |wanted: bool| parsed.tests.iter().any(|t| wants(t, rubric) == Some(wanted));
    for (wanted, word) in [(true, "pass"), (false, "fail")] {
        if !says(wanted) {
            let text = format!("no test must {word}");
            let help = "a rubric that always says the same would be green: add one of the other kind";
            found.push(Problem::warning(at(document, &["tests", "0", "expect"]), text).help(help));
        }
    }
}

fn wants(test: &Test, rubric: &Rubric) -> Option<bool> {
    test.expect.passed.or_else(|| implied(&test.expect, rubric))
}

/// Few-shot examples that say another thing than a test about the same answer.
fn examples(parsed: &Parsed, found: &mut Found) {
    let rubric = &parsed.rubric;
    for (n, example) in rubric.examples.iter().enumerate() {
        let said = passes(&example.verdict, rubric);
        let other = parsed
            .tests
            .iter()
            .find(|test| is_about(test, example) && wants(test, rubric).is_some_and(|w| said == Some(!w)));
        if let Some(test) = other {
            let place = at(&parsed.document, &["examples", &n.to_string(), "verdict"]);
            let text =
                format!("the example says another thing than the test in line {} about the same answer", test.line);
            found.push(Problem::warning(place, text).help("one of the two is wrong"));
        } else if let Some(test) = parsed.tests.iter().find(|test| is_about(test, example)) {
            let place = at(&parsed.document, &["examples", &n.to_string()]);
            let text = format!("the judges are shown the answer of the test in line {}", test.line);
            found.push(
                Problem::note(place, text).help("the test shows nothing then: take another answer for one of them"),
            );
        }
        let earlier =
            rubric.examples[..n].iter().position(|e| e.input == example.input && passes(&e.verdict, rubric) != said);
        if let Some(first) = earlier {
            let place = at(&parsed.document, &["examples", &n.to_string(), "verdict"]);
            let text = format!("the example says another thing than example {} about the same input", first + 1);
            found.push(Problem::warning(place, text).help("one of the two is wrong"));
        }
    }
}

fn is_about(test: &Test, example: &Example) -> bool {
    let same = |key: &str, field: &str| {
        let (Some(shown), Some(Value::String(told))) = (example.input.get(key), test.trace.get(field)) else {
            return false;
        };
        words_of(shown) == words_of(told)
    };
    same("answer", "output") && (!example.input.contains_key("question") || same("question", "input"))
}

/// A text without layout and capitals, in which a copy may differ.
fn words_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).collect()
}

impl RubricError {
    /// Whether anything is worse than a note.
    #[must_use]
    pub fn is_serious(&self) -> bool {
        self.problems.iter().any(|p| p.severity > Severity::Note)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Surroundings, parse};
    use super::*;
    use std::collections::BTreeMap;

    fn findings(source: &str) -> Vec<String> {
        let (panels, shared) = (BTreeMap::new(), BTreeMap::new());
        let parsed = parse(Path::new("x.yaml"), source, Surroundings { panels: &panels, shared: &shared });
        let parsed = parsed.unwrap_or_else(|error| panic!("{}", error.render(false)));
        let found = lint(Path::new("x.yaml"), &parsed);
        found.map_or_else(Vec::new, |f| f.problems.iter().map(|p| f.line_of(p)).collect())
    }

    const CLEAN: &str = "name: x\ntitle: X\npanel: default\napplies_when: {requires: [answer]}\noutput: {type: category, values: {polite: 1, rude: 0}}\nprompt: |\n  {{ answer }}\n  polite: it is kind. rude: it is not.\ntests:\n  - {trace: {output: Please.}, expect: {passed: true}}\n  - {trace: {output: Shut up.}, expect: {label: rude}}\n";

    #[test]
    fn a_careful_rubric_has_nothing_odd() {
        assert_eq!(findings(CLEAN), Vec::<String>::new());
    }

    #[test]
    fn each_oddity_is_named_with_its_place() {
        for (from, to, place, words) in [
            ("name: x", "name: y", "1:7", "file `x`"),
            ("{{ answer }}", "{{ answer | upper }}", "7:6", "loses the marks"),
            (" rude: it is not.", "", "7:3", "what the label `rude` means"),
            ("polite: 1, rude: 0", "polite: 1, rude: 0.5", "5:9", "every label passes"),
            ("polite: 1, rude: 0", "polite: 0.4, rude: 0", "5:9", "no label passes"),
            ("panel: default", "panel: default\npass: 0", "4:7", "every answer passes"),
            ("label: rude", "passed: true", "10:40", "no test must fail"),
            ("label: rude", "label: rude, passed: true", "11:", "cannot hold"),
            ("requires: [answer]", "requires: [question]", "7:3", "not_applicable"),
            ("panel: default", "panel: default\nchecks: [{grounding: {fail_below: 0}}]", "4:11", "never fails"),
            (
                "prompt: |",
                "examples: [{input: {answer: Please.}, verdict: rude}]\nprompt: |",
                "6:48",
                "the test in line 11",
            ),
        ] {
            let source = CLEAN.replace(from, to);
            let found = findings(&source);
            assert!(
                found.iter().any(|f| f.starts_with(&format!("x.yaml:{place}")) && f.contains(words)),
                "{to}: {found:#?}"
            );
        }
        let checks = "name: x\ntitle: X\nchecks: [{grounding: {fail_below: 0.8}}]\npass: 0.6\ntests:\n  - {trace: {output: a}, expect: {passed: true}}\n  - {trace: {output: b}, expect: {passed: false}}\n";
        let found = findings(checks);
        assert!(
            found.iter().any(|f| f.contains("3:11") && f.contains("from 0.6 to 0.8 fails by fail_below")),
            "{found:#?}"
        );
        assert!(findings(&checks.replace("0.6", "0.8")).is_empty());
        let twice = "examples: [{input: {answer: Hm.}, verdict: rude}, {input: {answer: Hm.}, verdict: polite}, {input: {answer: ' shut  UP.'}, verdict: rude}]\nprompt: |";
        let found = findings(&CLEAN.replace("prompt: |", twice));
        assert!(found.iter().any(|f| f.contains("than example 1 about the same input")), "{found:#?}");
        assert!(found.iter().any(|f| f.contains("shown the answer of the test in line 12")), "{found:#?}");
        let none = CLEAN.split("tests:").next().expect("a start");
        assert!(findings(none)[0].contains("no tests"), "{:?}", findings(none));
    }
}
