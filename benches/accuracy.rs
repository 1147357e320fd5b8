//! How often the checks are right, on labelled data that nobody here labelled.
//!
//! `make accuracy`, or `cargo bench --bench accuracy -- refusal json` for some families, which then leaves docs/accuracy.md as it
//! is; `-- fit-refusal` fits the coefficients of `failure_to_answer` anew. Its rule: what runs is `checks::run`, the decision is the one threshold that the check ships with, and nothing is chosen
//! on the data measured. Intervals resample sources (a context, a prompt), not items, since items of one source are alike. The data
//! belong to their authors and are not in this repository: they are read from `$ASSIZE_DATA`, else `../shared/data`; a
//! family without its file is skipped and says so. A new family is a file in `accuracy/` and a line in `FAMILIES`. The way not
//! taken: the best threshold of each set, which no worker can know.

#[path = "accuracy/checking.rs"]
mod checking;
#[path = "accuracy/data.rs"]
mod data;
#[path = "accuracy/fit.rs"]
mod fit;
#[path = "accuracy/grounding.rs"]
mod grounding;
#[path = "accuracy/injection.rs"]
mod injection;
#[path = "accuracy/json.rs"]
mod json;
#[path = "accuracy/language.rs"]
mod language;
#[path = "accuracy/measure.rs"]
mod measure;
#[path = "accuracy/pii.rs"]
mod pii;
#[path = "accuracy/refusal.rs"]
mod refusal;
#[path = "accuracy/report.rs"]
mod report;
#[path = "accuracy/toxicity.rs"]
mod toxicity;

use data::Data;
use report::Family;
use serde_json::json;

/// Measures one family, or says why it cannot.
type Run = fn(&Data) -> Result<Family, String>;

const FAMILIES: &[(&str, Run)] = &[
    ("json", json::run),
    ("refusal", refusal::run),
    ("grounding", grounding::run),
    ("injection", injection::run),
    ("pii", pii::run),
    ("language", language::run),
    ("toxicity", toxicity::run),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let data = Data::find();
    if wanted.iter().any(|name| name == "fit-refusal") {
        println!("{}", refusal::fit(&data).unwrap_or_else(|why| format!("accuracy: not fitted: {why}")));
        return;
    }
    let mut families = Vec::new();
    let mut skipped = Vec::new();
    for (name, run) in FAMILIES.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        match run(&data) {
            Ok(family) => {
                print!("{}", family.as_text());
                families.push(family);
            }
            Err(why) => {
                println!("accuracy: {name} skipped: {why}");
                skipped.push(json!({"family": name, "why": why}));
            }
        }
    }
    if wanted.is_empty() && skipped.is_empty() {
        report::write(&families);
    }
    let measured: Vec<_> = families.iter().map(Family::as_json).collect();
    println!("{}", json!({"bench": "accuracy", "families": measured, "skipped": skipped}));
}
