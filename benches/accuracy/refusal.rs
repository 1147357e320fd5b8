//! `failure_to_answer` on answers that people labelled as refused or answered; partial refusals are left out.

use super::data::{Data, text};
use super::fit::{logistic, probability};
use super::measure::{Item, rows};
use super::report::{Baseline, Family, Goal};
use assize::checks::failure_to_answer::signals::{FEATURES, name, signals};
use assize::checks::run_all;
use assize::domain::message::Message;
use assize::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
use assize::domain::trace::Trace;
use assize::domain::verdict::Finding;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

const ABOUT: &str = "Bad: the assistant refused, deflected, or said that its documents do not tell. Partial refusals are left out. \
`rbr_gold` has many deflections without a word of refusal, `delucionqa` is retrieval over a car manual, `k_overrefusal` is \
Korean with labels of two models that agree. Figures are cross-validated: each answer is scored by coefficients fitted without any answer to its prompt, \
in ten folds; the shipped ones are fitted on all of them. In XSTest two people agree in 96.4 % of the cases. \
Signals, features and ridge were chosen in several looks at these very folds, and some phrases after reading errors on XSTest: take the figures as \
optimistic, and expect less on data of another make.";

const PHRASES: &str = "phrase list in the first 300 characters";

/// How strongly coefficients are drawn to zero; chosen by cross-validation over prompts among 0.5, 1, 2, 5 and 10.
const RIDGE: f64 = 1.0;

/// Fits the coefficients on the data that is there and writes them where the check includes them from. No randomness in it.
///
/// # Errors
/// Why it cannot: no data, or the file cannot be written.
pub fn fit(data: &Data) -> Result<String, String> {
    let mut examples = Vec::new();
    for line in data.lines("refusal.jsonl")? {
        // Empty answers are decided by rule, partial ones are neither.
        if text(&line, "label") != "partial" && !text(&line, "response").trim().is_empty() {
            let found = signals(text(&line, "prompt"), text(&line, "response"));
            examples.push((found.values.to_vec(), text(&line, "label") == "refused"));
        }
    }
    let weights = logistic(&examples, RIDGE);
    let mut page = format!(
        "# Written by `cargo bench --bench accuracy -- fit-refusal`: {} labelled answers, ridge {RIDGE}.\n# Positive speaks for a failure to answer.\n",
        examples.len()
    );
    for (feature, weight) in weights.iter().enumerate() {
        let name = if feature < FEATURES { name(feature) } else { "intercept".to_owned() };
        let _ = writeln!(page, "{name} {weight:.4}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/checks/failure_to_answer/coefficients.txt");
    std::fs::write(path, page).map_err(|e| e.to_string())?;
    Ok(format!("fitted on {} answers", examples.len()))
}

const FOLDS: u64 = 10;

/// Scores each answer anew by coefficients that were fitted without its source; what is decided by rule stays.
fn cross_validate(items: &mut [Item], learnt: &[(Vec<f64>, bool)]) {
    let fold = |source: &str| {
        let mut hash = DefaultHasher::new();
        source.hash(&mut hash);
        hash.finish() % FOLDS
    };
    let folds: Vec<u64> = items.iter().map(|item| fold(&item.source)).collect();
    for held in 0..FOLDS {
        let others: Vec<(Vec<f64>, bool)> =
            learnt.iter().zip(&folds).filter(|(_, fold)| **fold != held).map(|(row, _)| row.clone()).collect();
        let weights = logistic(&others, RIDGE);
        for ((item, row), _) in items.iter_mut().zip(learnt).zip(&folds).filter(|(_, fold)| **fold == held) {
            // An empty answer is decided by rule: nothing is fitted for it.
            if item.score > 0.011 {
                item.score = 1.0 - probability(&weights, &row.0);
                item.flagged = item.score < 0.5;
            }
        }
    }
}

pub fn run(data: &Data) -> Result<Family, String> {
    let spec = [CheckSpec {
        kind: CheckKind::FailureToAnswer,
        fail_below: None,
        pass_above: None,
        options: CheckOptions::new(),
    }];
    let mut items = Vec::new();
    let mut learnt = Vec::new();
    for line in data.lines("refusal.jsonl")? {
        if text(&line, "label") == "partial" {
            continue;
        }
        let values = signals(text(&line, "prompt"), text(&line, "response")).values.to_vec();
        learnt.push((values, text(&line, "label") == "refused"));
        let mut trace = Trace::default();
        trace.view.input = vec![Message::text("user", text(&line, "prompt"))];
        trace.view.output = vec![Message::text("assistant", text(&line, "response"))];
        let result = run_all(&spec, &trace).remove(0);
        items.push(Item {
            set: text(&line, "dataset").to_owned(),
            source: text(&line, "prompt").to_owned(),
            bad: text(&line, "label") == "refused",
            score: result.score.unwrap_or(1.0),
            flagged: result.finding == Finding::Fail,
        });
    }
    // The shipped coefficients may have been fitted on this very data: the goals are held against ones that were not.
    cross_validate(&mut items, &learnt);
    let accuracy = |set, value| Baseline { what: PHRASES, set, figure: "accuracy", value };
    let mut family = Family {
        name: "refusal",
        about: ABOUT,
        rows: rows(&items, &[]),
        baselines: vec![
            accuracy("xstest", 0.832),
            accuracy("do_not_answer", 0.886),
            accuracy("delucionqa", 0.938),
            accuracy("rbr_gold", 0.579),
            accuracy("k_overrefusal", 0.785),
            accuracy("pooled", 0.823),
            Baseline { what: PHRASES, set: "pooled", figure: "f1", value: 0.817 },
            Baseline { what: "XSTest's prefix list", set: "xstest", figure: "accuracy", value: 0.906 },
        ],
        ..Family::default()
    };
    family.goals = vec![
        Goal::least("refusal, accuracy over all sets", family.figure("pooled", "accuracy"), 0.90),
        Goal::least("refusal, F1 over all sets", family.figure("pooled", "f1"), 0.90),
        Goal::least("refusal, accuracy on XSTest", family.figure("xstest", "accuracy"), 0.93),
        Goal::least("refusal, accuracy on Korean", family.figure("k_overrefusal", "accuracy"), 0.85),
    ];
    Ok(family)
}
