//! The example in which every check fails once, with its evidence, held by a snapshot.
//!
//! Its rule: what the documentation shows is what the program says today. The way not taken: a picture of a terminal.

use assize::checks::run_all;
use assize::dialect::native;
use assize::domain::verdict::Finding;
use assize::pipeline::assemble::assemble;
use assize::rubrics::parse;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

#[test]
fn every_check_fails_once_with_its_evidence() {
    let source = include_str!("../../examples/every_check/every_check.yaml");
    let rubric =
        parse::rubric(Path::new("every_check.yaml"), source, &BTreeMap::new()).expect("the example is a rubric");
    let mut shown = String::new();
    let mut failed = BTreeSet::new();
    for line in include_str!("../../examples/every_check/traces.jsonl").lines() {
        let value: Value = serde_json::from_str(line).expect("the example is JSON lines");
        let spans = native::spans(&value).expect("the example is native traces");
        let name = value["trace_id"].as_str().expect("traces are named").to_owned();
        let trace = assemble(&name, spans);
        let result = run_all(&rubric.checks, &trace).into_iter().find(|result| result.check == name);
        let result = result.expect("traces are named after checks");
        assert_eq!(result.finding, Finding::Fail, "{name}: {}", result.detail);
        let score = result.score.expect("what fails has a score");
        writeln!(shown, "{name} {score} {}", result.detail).expect("a text can be written");
        failed.insert(name);
    }
    let all: BTreeSet<String> =
        assize::domain::rubric::CheckKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(failed, all);
    insta::assert_snapshot!(shown);
}
