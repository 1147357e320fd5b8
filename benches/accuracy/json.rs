//! `json_validity` on JSONTestSuite and JSON-Schema-Test-Suite: every case has one right answer, so cases are counted.

use super::data::{Data, text};
use super::report::{Count, Family, Goal};
use assize::checks::run_all;
use assize::domain::message::Message;
use assize::domain::rubric::{CheckKind, CheckSpec};
use assize::domain::trace::Trace;
use assize::domain::verdict::{CheckResult, Finding};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ABOUT: &str = "Cases of JSONTestSuite on which it is decided whether they are JSON, and the groups of JSON-Schema-Test-Suite: \
`core` are the required ones, `optional` depend on what a validator chooses to support (formats are switched on for those about \
formats, off for all others), `remote` refer to documents that do not travel with the schema and are never fetched. Patterns run on a linear \
engine without look-around, so that no answer can keep it busy.";

/// What Python's `json` and `jsonschema` have right of the same cases.
const PYTHON: [(&str, usize); 10] = [
    ("jsontestsuite", 136),
    ("draft7 core", 376),
    ("draft2019-09 core", 531),
    ("draft2020-12 core", 538),
    ("draft7 optional", 228),
    ("draft2019-09 optional", 293),
    ("draft2020-12 optional", 300),
    ("draft7 remote", 6),
    ("draft2019-09 remote", 10),
    ("draft2020-12 remote", 10),
];

pub fn run(data: &Data) -> Result<Family, String> {
    let mut tally = Tally::default();
    for case in data.lines("json_validity/jsontestsuite.jsonl")? {
        let bytes = BASE64_STANDARD.decode(text(&case, "bytes_b64")).map_err(|e| e.to_string())?;
        let accepts = match text(&case, "expect") {
            "accept" => true,
            "reject" => false,
            _ => continue,
        };
        // What is no UTF-8 never becomes an answer: it is refused before.
        let found = std::str::from_utf8(&bytes).is_ok_and(|text| passes(&ask(text, &json!({"always": true}))));
        tally.add("jsontestsuite", found == accepts, text(&case, "id"));
    }
    for group in data.lines("json_schema.jsonl")? {
        group_of_tests(&group, &mut tally);
    }
    let core: Vec<&(usize, usize)> =
        tally.sets.iter().filter(|(set, _)| set.ends_with("core")).map(|(_, n)| n).collect();
    let share = |right: usize, of: usize| right as f64 / of as f64;
    let decided = tally.sets["jsontestsuite"];
    let goals = vec![
        Goal::least("json, share of the decided JSONTestSuite cases", share(decided.0, decided.1), 1.0),
        Goal::least(
            "json, share of JSON-Schema-Test-Suite's core",
            share(core.iter().map(|n| n.0).sum(), core.iter().map(|n| n.1).sum()),
            1.0,
        ),
    ];
    let counts = tally.sets.into_iter().map(|(set, (right, of))| Count {
        baseline: PYTHON.iter().find(|(name, _)| *name == set).map(|(_, right)| ("Python", *right)),
        what: if set == "jsontestsuite" { "decided cases right" } else { "tests right" }.to_owned(),
        set,
        right,
        of,
    });
    Ok(Family { name: "json", about: ABOUT, counts: counts.collect(), named: tally.wrong, goals, ..Family::default() })
}

#[derive(Default)]
struct Tally {
    /// Right, and all.
    sets: BTreeMap<String, (usize, usize)>,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, set: &str, right: bool, case: &str) {
        let count = self.sets.entry(set.to_owned()).or_default();
        count.0 += usize::from(right);
        count.1 += 1;
        if !right {
            self.wrong.push(format!("wrong: `{set}` {case}"));
        }
    }
}

fn group_of_tests(group: &Value, tally: &mut Tally) {
    let kind = match (group["needs_remote"] == json!(true), group["optional"] == json!(true)) {
        (true, _) => "remote",
        (_, true) => "optional",
        _ => "core",
    };
    let draft = text(group, "draft");
    let options = json!({"schema": group["schema"], "draft": draft.trim_start_matches("draft"),
        "formats": text(group, "file").contains("format")  && kind == "optional"});
    let mut wrong = Vec::new();
    let tests = group["tests"].as_array().map_or(&[][..], Vec::as_slice);
    for test in tests {
        let result = ask(&test["data"].to_string(), &options);
        // Unusable schemas pass as unchecked; here that is right for no test.
        let checked = result.detail["schema"] == json!("fits") || result.detail["finding"] == json!("schema_violation");
        let right = checked && test["valid"] == json!(passes(&result));
        let count = tally.sets.entry(format!("{draft} {kind}")).or_default();
        count.0 += usize::from(right);
        count.1 += 1;
        if !right {
            let why = result.detail["schema"].as_str().filter(|_| !checked).map_or("", |_| " (schema not usable)");
            wrong.push(format!("{}{why}", text(test, "description")));
        }
    }
    if !wrong.is_empty() {
        let what = if wrong.len() == tests.len() { "all tests".to_owned() } else { wrong.join("; ") };
        let unusable =
            if wrong.iter().any(|w| w.ends_with("(schema not usable)")) { ", schema not usable" } else { "" };
        tally.wrong.push(format!(
            "wrong: `{draft} {kind}` {}: {}: {what}{unusable}",
            text(group, "file"),
            text(group, "description")
        ));
    }
}

fn ask(answer: &str, options: &Value) -> CheckResult {
    let options = options.as_object().cloned().unwrap_or_default();
    let spec = [CheckSpec { kind: CheckKind::JsonValidity, fail_below: None, pass_above: None, options }];
    let mut trace = Trace::default();
    trace.view.output = vec![Message::text("assistant", answer)];
    run_all(&spec, &trace).remove(0)
}

fn passes(result: &CheckResult) -> bool {
    result.finding == Finding::Pass
}
