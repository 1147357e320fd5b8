//! `language_match` on pairs of sentences in the same, in another, and in a closely related language.

use super::checking::{check, trace};
use super::data::{Data, text};
use super::measure::{Item, rows};
use super::report::{Baseline, Family, Goal};
use assize::domain::rubric::CheckKind;

const ABOUT: &str = "Bad: the two sentences are in two languages of 79. `close` pairs are of languages that people confuse too (Bosnian and \
Croatian, Malay and Indonesian, the two Norwegians), `random` ones of any two. Pairs are made of sentences, so `same` pairs may well be \
a sentence and a list of names. What the check says it cannot decide counts as a match.";

pub fn run(data: &Data) -> Result<Family, String> {
    let mut items = Vec::new();
    for line in data.lines("lang_mismatch.jsonl")? {
        let (_, score, flagged) = check(CheckKind::LanguageMatch, &trace(text(&line, "input"), text(&line, "output")));
        items.push(Item {
            set: "lang_pairs".to_owned(),
            source: text(&line, "input_lang").to_owned(),
            bad: line["label"] == 1,
            score,
            flagged,
        });
    }
    let base = |what, value| Baseline { what, set: "lang_pairs", figure: "f1", value };
    let mut family = Family {
        name: "language",
        about: ABOUT,
        rows: rows(&items, &[]),
        baselines: vec![base("py3langid", 0.936), base("lingua", 0.950)],
        ..Family::default()
    };
    family.goals = vec![Goal::least("language mismatch, F1", family.figure("lang_pairs", "f1"), 0.95)];
    Ok(family)
}
