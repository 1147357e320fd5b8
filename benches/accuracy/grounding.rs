//! `grounding` on answers that people labelled as faithful to a context or not.

use super::data::{Data, text};
use super::measure::{Item, rows};
use super::report::{Baseline, Family, Goal};
use assize::checks::grounding::model::Coefficients;
use assize::checks::run_all;
use assize::domain::message::{Document, Message};
use assize::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
use assize::domain::trace::Trace;
use assize::domain::verdict::Finding;

const ABOUT: &str = "Bad: the answer says something that its context does not support. The coefficients were fitted on these sets \
(without `halueval_qa`), so these figures flatter; what the same fit gives on contexts and on whole data sets that it has not seen stands \
below, as `make fit-grounding` found it. What the check cannot see is in grounding.md.";

const APART: (&str, &str) =
    ("halueval_qa", "the length of the answer alone tells its label (AUC .97), so it says nothing about support.");

/// AUC of content words + bigrams + half the worst sentence - .3 per unknown number or name, for each family.
const SIMPLE_MIX: [(&str, f64); 23] = [
    ("attr_attributedqa", 0.701),
    ("attr_attrscore", 0.847),
    ("attr_expertqa", 0.654),
    ("attr_gensearch", 0.832),
    ("attr_hagrid", 0.848),
    ("begin", 0.929),
    ("factcc", 0.841),
    ("faithbench", 0.653),
    ("faithdial_audit", 0.821),
    ("halueval_qa", 0.924),
    ("polytope", 0.570),
    ("q2_wow", 0.735),
    ("qags_cnndm", 0.724),
    ("qags_xsum", 0.728),
    ("quintd", 0.670),
    ("rank19", 0.612),
    ("storysumm", 0.516),
    ("summedits", 0.561),
    ("summeval", 0.846),
    ("tabfact", 0.494),
    ("wice", 0.819),
    ("xsumfaith", 0.820),
    ("macro", 0.734),
];

/// What the fit found on data that it had not seen; it stands beside the coefficients.
fn held_out() -> Result<Vec<String>, String> {
    let file: Coefficients = serde_json::from_str(include_str!("../../src/checks/grounding/coefficients.json"))
        .map_err(|e| e.to_string())?;
    let line = |(what, [auc, balanced]): (&String, &[f64; 2])| {
        format!(
            "held out: grounding, {what}: macro AUC {auc:.3}, macro balanced accuracy {balanced:.3} at one threshold"
        )
    };
    Ok(file.held_out.iter().map(line).collect())
}

pub fn run(data: &Data) -> Result<Family, String> {
    let spec =
        [CheckSpec { kind: CheckKind::Grounding, fail_below: None, pass_above: None, options: CheckOptions::new() }];
    let mut items = Vec::new();
    for line in data.lines("faithfulness.jsonl")? {
        let mut trace = Trace::default();
        trace.view.input = vec![Message::text("user", text(&line, "question"))];
        trace.view.output = vec![Message::text("assistant", text(&line, "answer"))];
        trace.view.documents =
            vec![Document { content: Some(text(&line, "context").to_owned()), ..Document::default() }];
        let result = run_all(&spec, &trace).remove(0);
        let set = text(&line, "dataset");
        items.push(Item {
            set: if set.starts_with("summedits") { "summedits" } else { set }.to_owned(),
            source: text(&line, "context").to_owned(),
            bad: line["label"] == 0,
            score: result.score.unwrap_or(1.0),
            flagged: result.finding == Finding::Fail,
        });
    }
    let mut family = Family {
        name: "grounding",
        about: ABOUT,
        rows: rows(&items, &[APART.0]),
        apart: vec![APART],
        named: held_out()?,
        ..Family::default()
    };
    let mix = |(set, value)| Baseline { what: "simple mix of overlaps", set, figure: "auc", value };
    family.baselines = SIMPLE_MIX.into_iter().map(mix).collect();
    let what = "simple mix, best single threshold";
    family.baselines.push(Baseline { what, set: "macro", figure: "balanced", value: 0.632 });
    family.goals = vec![
        Goal::least("grounding, macro AUC", family.figure("macro", "auc"), 0.78),
        Goal::least("grounding, AUC on SummEdits", family.figure("summedits", "auc"), 0.62),
        Goal::least("grounding, macro balanced accuracy", family.figure("macro", "balanced"), 0.69),
    ];
    Ok(family)
}
