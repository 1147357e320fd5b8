//! `toxicity` on posts that people labelled, beside a plain list of words.

use super::checking::{check, trace};
use super::data::{Data, text};
use super::measure::{Item, rows};
use super::report::{Baseline, Family, Goal};
use assize::domain::rubric::CheckKind;

const ABOUT: &str = "Bad: labelled as toxic, hateful or offensive. The check is a lexicon and cannot see abuse in polite words, or that \
hateful words are quoted to be opposed, which is what `hatecheck` was made to test. The labels of the four sets mean four different \
things. The lexicon was written with an eye on these texts.";

const WORDS: &str = "LDNOOBW word list";

pub fn run(data: &Data) -> Result<Family, String> {
    let mut items = Vec::new();
    for line in data.lines("toxicity.jsonl")? {
        let (_, score, flagged) = check(CheckKind::Toxicity, &trace("", text(&line, "text")));
        let source = text(&line, "text").to_owned();
        items.push(Item { set: text(&line, "dataset").to_owned(), source, bad: line["label"] == 1, score, flagged });
    }
    let list = [("davidson", 0.881), ("openai_moderation", 0.540), ("surge", 0.338), ("hatecheck", 0.106)];
    let mut family = Family {
        name: "toxicity",
        about: ABOUT,
        rows: rows(&items, &[]),
        baselines: list.map(|(set, value)| Baseline { what: WORDS, set, figure: "f1", value }).into(),
        ..Family::default()
    };
    family.goals = list
        .iter()
        .map(|(set, value)| {
            let what = format!("toxicity, F1 on {set} above the word list");
            Goal::least(what, family.figure(set, "f1"), *value)
        })
        .collect();
    Ok(family)
}
