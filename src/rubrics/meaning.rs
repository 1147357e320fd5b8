//! What a form cannot say: whether the values of a file make sense together.
//!
//! Called by `parse` for what has the right form (`sound`), with the whole document for places. Its rule: what could never judge, or could never hold, is an error; what is
//! merely odd is for `lint`. The way not taken: finding it out when the first trace is judged.

use super::error::Problem;
use super::parse::{File, Test};
use super::yaml::Node;
use crate::domain::rubric::{Ask, CheckSpec, Output, Variable};
use crate::domain::unit::Evaluates;
use crate::judge::template::uses_variable;
use serde_json::Value;
use std::ops::Range;

type Found = Vec<Problem>;

/// Notes everything without sense.
pub(super) fn check(
    file: &File,
    (document, sound): (&Node, &Node),
    (checks, prompt): (&[CheckSpec], Option<&str>),
    found: &mut Found,
) {
    let at = |path: &[&str]| document.at(path).span.clone();
    unit(file, document, found);
    // What seems to be missing may stand there, misspelt.
    if document.map().iter().all(|(key, _)| sound.get(&key.name).is_some()) {
        who_decides(document, (checks, prompt), found);
    }
    asking(file, document, found);
    output(&file.output, document, found);
    let output_is_known = sound.get("output").is_some() || document.get("output").is_none();
    if let Some(prompt) = prompt.filter(|_| output_is_known) {
        claims(prompt, &file.output, at(&["prompt"]), found);
        let unit_is_known = sound.get("evaluates").is_some() || document.get("evaluates").is_none();
        if unit_is_known && file.evaluates != Evaluates::Session && uses_variable(prompt, "conversation") {
            let problem = Problem::at(at(&["prompt"]), "`{{ conversation }}` is there with `evaluates: session` only");
            found.push(problem.help("change `evaluates`, or use `{{ history }}`, `{{ question }}` and `{{ answer }}`"));
        }
    }
    limits(checks, document, found);
    for (key, problem) in file.alert.problems() {
        found.push(Problem::at(at(&["alert", key]), problem));
    }
    for (n, example) in file.examples.iter().enumerate() {
        let place = at(&["examples", &n.to_string(), "verdict"]);
        verdict(&example.verdict, &file.output, place, found);
    }
    for (n, test) in file.tests.iter().enumerate() {
        expectation(test, &file.output, (document, &n.to_string()), found);
    }
}

/// Whether there is anything that could decide.
fn who_decides(document: &Node, (checks, prompt): (&[CheckSpec], Option<&str>), found: &mut Found) {
    let at = |path: &[&str]| document.at(path).span.clone();
    match (prompt, document.get("panel").is_some()) {
        (None, true) => {
            found.push(Problem::at(at(&["panel"]), "a panel needs a `prompt`").help("say what it is asked"));
        }
        (Some(_), false) => {
            found.push(
                Problem::at(at(&["prompt"]), "a prompt needs a `panel`").help("`panel: default` is the usual one"),
            );
        }
        (None, false) if checks.is_empty() => {
            let text = "the rubric has neither `checks` nor a `panel`, so nothing could decide it";
            found.push(Problem::at(key(document, "name"), text).help("add `checks:`, or `panel:` and `prompt:`"));
        }
        _ => {}
    }
}

/// The place of a key itself.
fn key(document: &Node, name: &str) -> Range<usize> {
    document.map().iter().find(|(key, _)| key.name == name).map_or(0..0, |(key, _)| key.span.clone())
}

/// Whether the keys about what is judged agree.
fn unit(file: &File, document: &Node, found: &mut Found) {
    let at = |path: &[&str]| document.at(path).span.clone();
    if let Some(most) = file.spans_max {
        let place = at(&["spans_max"]);
        if file.evaluates != Evaluates::Span {
            let text = "`spans_max` is about spans, and this rubric does not judge them";
            found.push(Problem::at(place, text).help("write `evaluates: span`, or leave it out"));
        } else if most.fract() != 0.0 {
            found.push(Problem::at(place, format!("`spans_max` is {most}, which is no whole number")).help("round it"));
        }
    }
    for key in ["span_kind", "span_name"] {
        if file.evaluates == Evaluates::Session && document.at(&["applies_when"]).get(key).is_some() {
            let problem =
                Problem::at(at(&["applies_when", key]), format!("`{key}` is about spans, and a session has traces"));
            found.push(problem.help("leave it out, or write `evaluates: span`"));
        }
    }
    for (n, test) in file.tests.iter().enumerate() {
        let (number, mut say) = (n.to_string(), |key: &str, text: &str, help: &str| {
            let place = document.at(&["tests", &n.to_string(), key]).span.clone();
            found.push(Problem::at(place, text).help(help));
        });
        let has = |key: &str| document.at(&["tests", &number]).get(key).is_some();
        match (has("trace"), has("session")) {
            (true, true) => say("session", "the test has a `trace` and a `session`", "leave one of the two out"),
            (false, false) => {
                say("", "the test has nothing to judge", "give it a `trace`, or with `evaluates: session` a `session`");
            }
            (false, true) if file.evaluates != Evaluates::Session => {
                say(
                    "session",
                    "the rubric judges no sessions",
                    "write `evaluates: session`, or give the test a `trace`",
                );
            }
            (false, true) if test.session.is_empty() => say("session", "the session has no trace", "give it one"),
            _ => {}
        }
        if test.expect.span.is_some() && file.evaluates != Evaluates::Span {
            let place = document.at(&["tests", &number, "expect", "span"]).span.clone();
            found.push(Problem::at(place, "the rubric judges no spans").help("leave `span` out"));
        }
    }
}

/// Whether the keys about when judges are asked agree.
fn asking(file: &File, document: &Node, found: &mut Found) {
    let at = |name: &str| document.at(&[name]).span.clone();
    let is_claims = matches!(file.output, Output::Claims { .. });
    let mut say = |name: &str, text: &str, help: &str| found.push(Problem::at(at(name), text).help(help));
    if file.stop_at.is_some_and(|s| s <= 0.5) {
        say("stop_at", "`stop_at` must be above 0.5", "a verdict is never less sure than a coin; 0.95 is usual");
    }
    if file.stop_at.is_some() && file.ask == Some(Ask::Together) {
        say("ask", "`stop_at` needs judges that are asked one after another", "write `ask: in_turn`");
    }
    if file.batch_hours.is_some_and(|hours| hours <= 0.0) {
        say("batch_hours", "`batch_hours` must be above 0 and at most 24", "leave it out to judge at once");
    }
    if file.batch_hours.is_some() && is_claims {
        say("batch_hours", "claims need several requests one after another, which a batch cannot hold", "leave it out");
    }
    if file.swap_positions && is_claims {
        say(
            "swap_positions",
            "claims are held against each document by itself, so there is no order to swap",
            "leave it out",
        );
    }
    if file.abstain && is_claims {
        say(
            "abstain",
            "of claims each has a verdict of its own",
            "leave it out; an answer without claims is not_applicable",
        );
    }
    if file.applies_when.requires.contains(&Variable::Claims) {
        say("applies_when", "no trace has `claims`; they are made of its answer", "require `answer`");
    }
    if file.applies_when.requires.contains(&Variable::Conversation) && file.evaluates != Evaluates::Session {
        say("applies_when", "only a session has a `conversation`", "write `evaluates: session`, or require `history`");
    }
}

fn output(output: &Output, document: &Node, found: &mut Found) {
    match output {
        Output::Score { range: (low, high), .. } if low >= high => {
            let at = document.at(&["output", "range"]).span.clone();
            found.push(
                Problem::at(at, format!("the range [{low}, {high}] is empty")).help("write it as [lowest, highest]"),
            );
        }
        Output::Category { values } if values.len() < 2 => {
            let at = document.at(&["output", "values"]).span.clone();
            found.push(
                Problem::at(at, "a category needs two labels or more").help("name what it is when it is not that"),
            );
        }
        _ => {}
    }
}

/// The claims are split by us and shown in the prompt; both sides must know of it.
fn claims(prompt: &str, output: &Output, at: Range<usize>, found: &mut Found) {
    let uses = |name: &str| uses_variable(prompt, name);
    match output {
        Output::Claims { .. } if !(uses("claims") && uses("context")) => {
            let text = "with `output: {type: claims}` the prompt shows the claims and what they are held against";
            found.push(Problem::at(at, text).help("use `{{ claims }}` and `{{ context }}` in it"));
        }
        Output::Claims { .. } => {}
        _ if uses("claims") => {
            let text = "`{{ claims }}` is there with `output: {type: claims}` only";
            found.push(Problem::at(at, text).help("change `output`, or use `{{ answer }}`"));
        }
        _ => {}
    }
}

fn limits(checks: &[CheckSpec], document: &Node, found: &mut Found) {
    for spec in checks {
        if let (Some(fail), Some(pass)) = (spec.fail_below, spec.pass_above)
            && fail > pass
        {
            let name = spec.kind.as_str();
            let mut places = document.at(&["checks"]).list().iter().flat_map(Node::map);
            let at = places.find(|(key, _)| key.name == name).map_or(0..0, |(key, _)| key.span.clone());
            let text = format!("`{name}`: fail_below {fail} is above pass_above {pass}, so both could hold");
            found.push(Problem::at(at, text).help("fail_below must be the lower one"));
        }
    }
}

/// Whether a verdict could be given under this output.
fn verdict(verdict: &Value, output: &Output, at: Range<usize>, found: &mut Found) {
    let wanted = match output {
        Output::Score { range: (low, high), .. } => {
            if verdict.as_f64().is_some_and(|n| (*low..=*high).contains(&n)) {
                return;
            }
            format!("a number from {low} to {high}")
        }
        Output::Boolean { .. } if verdict.is_boolean() => return,
        Output::Boolean { .. } => "true or false".to_owned(),
        Output::Category { values } if verdict.as_str().is_some_and(|label| values.contains_key(label)) => return,
        Output::Category { values } => format!("one of {}", values.keys().cloned().collect::<Vec<_>>().join(", ")),
        Output::Claims { .. } => {
            found.push(Problem::at(at, "claims take no examples").help("leave `examples` out"));
            return;
        }
    };
    found.push(
        Problem::at(at, format!("the verdict {verdict} is none that this `output` has")).help(format!("give {wanted}")),
    );
}

fn expectation(test: &Test, output: &Output, (document, number): (&Node, &str), found: &mut Found) {
    let at = |name: &str| document.at(&["tests", number, "expect", name]).span.clone();
    let expect = &test.expect;
    if *expect == (super::parse::Expect { span: expect.span.clone(), ..Default::default() }) {
        let message = "the test expects nothing";
        found.push(Problem::at(at(""), message).help("say `passed`, `label`, `score` or `outcome`"));
    }
    if let Some((low, high)) = expect.score
        && !(0.0 <= low && low <= high && high <= 1.0)
    {
        let message = format!("the score [{low}, {high}] cannot be reached");
        found.push(
            Problem::at(at("score"), message)
                .help("scores are from 0 to 1, whatever the rubric's own range: [lowest, highest]"),
        );
    }
    if let Some(label) = &expect.label {
        let known: Vec<&str> = match output {
            Output::Category { values } => values.keys().map(String::as_str).collect(),
            Output::Boolean { .. } => vec!["true", "false"],
            Output::Score { .. } | Output::Claims { .. } => Vec::new(),
        };
        if known.is_empty() {
            found.push(Problem::at(at("label"), "this `output` has no labels").help("say `passed` or `score`"));
        } else if !known.contains(&label.as_str()) {
            found.push(super::form::unknown(at("label"), "label", label, &known));
        }
    }
    let said = expect.passed.is_some() || expect.label.is_some() || expect.score.is_some();
    if expect.outcome.as_deref().is_some_and(|o| o != "scored") && said {
        let message = "only what is `scored` has a score, a label, or passes";
        found.push(Problem::at(at("outcome"), message).help("leave one of the two out"));
    }
}
