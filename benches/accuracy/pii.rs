//! `personal_data`'s finder on labelled spans: a span is found when something of its category overlaps it.

use super::data::{Data, text};
use super::report::{Count, Family, Goal};
use assize::checks::personal_data::find;
use serde_json::Value;

const ABOUT: &str = "Spans of e-mail addresses, cards, IBANs, US social security numbers and telephone numbers in synthetic English \
sentences (presidio-research). Names of persons and places and most addresses are not looked for: rules cannot tell them from other \
words. A span counts as found when a finding of its category overlaps it; a finding that overlaps no span of its category is false. \
The forms of telephone numbers were written with an eye on these texts.";

/// Type in the data; category or kind of ours; recall and precision that must hold.
const TYPES: [(&str, &str, (f64, f64)); 5] = [
    ("EMAIL_ADDRESS", "email", (0.97, 0.99)),
    ("CREDIT_CARD", "card", (0.97, 0.99)),
    ("IBAN_CODE", "iban", (0.97, 0.99)),
    ("US_SSN", "us_ssn", (0.97, 0.99)),
    ("PHONE_NUMBER", "phone", (0.90, 0.85)),
];

#[derive(Default)]
struct Tally {
    spans: usize,
    found: usize,
    findings: usize,
    right: usize,
}

pub fn run(data: &Data) -> Result<Family, String> {
    let lines = data.lines("pii.jsonl")?;
    let mut family = Family { name: "pii", about: ABOUT, ..Family::default() };
    for (label, ours, (recall, precision)) in TYPES {
        let mut tally = Tally::default();
        for line in &lines {
            tally.add(line, label, ours);
        }
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let count =
            |what: &str, right, of| Count { set: label.to_owned(), what: what.to_owned(), right, of, baseline: None };
        family.counts.push(count("spans found", tally.found, tally.spans));
        family.counts.push(count("findings that are right", tally.right, tally.findings));
        family.goals.push(Goal::least(format!("{ours}, recall"), share(tally.found, tally.spans), recall));
        family.goals.push(Goal::least(format!("{ours}, precision"), share(tally.right, tally.findings), precision));
    }
    Ok(family)
}

impl Tally {
    fn add(&mut self, line: &Value, label: &str, ours: &str) {
        let body = text(line, "text");
        let places: Vec<usize> = body.char_indices().map(|(at, _)| at).chain([body.len()]).collect();
        let place = |span: &Value, key: &str| {
            span[key].as_u64().and_then(|n| usize::try_from(n).ok()).and_then(|n| places.get(n).copied()).unwrap_or(0)
        };
        let spans: Vec<(usize, usize)> = line["spans"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|span| span["type"] == label)
            .map(|span| (place(span, "start"), place(span, "end")))
            .collect();
        let found: Vec<(usize, usize)> = find(body)
            .iter()
            .filter(|hit| hit.kind == ours || hit.category.as_str() == ours)
            .map(|hit| (hit.start, hit.end))
            .collect();
        let overlap = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.1 && b.0 < a.1;
        self.spans += spans.len();
        self.findings += found.len();
        self.found += spans.iter().filter(|span| found.iter().any(|hit| overlap(span, hit))).count();
        self.right += found.iter().filter(|hit| spans.iter().any(|span| overlap(span, hit))).count();
    }
}
