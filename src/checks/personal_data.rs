//! Is there personal data, or a secret, in the question or the answer?
//!
//! Called by `checks::run`; the finder is `checks::redact`'s too. Its rule: numbers count by their check digits or by what is said
//! beside them; placeholders that redaction has left count as what they stand for; the data itself is never in the evidence,
//! only its kind and place. The way not taken: names of persons and places, which rules cannot tell from other words.

mod address;
mod checksums;
mod find;
mod network;
mod numbers;
mod secrets;
mod spans;
mod tokens;

pub use find::find;
pub use spans::Hit;

use super::subject::Subject;
use crate::domain::personal::{Category, PLACEHOLDER_DIGITS};
use crate::domain::verdict::CheckResult;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAME: &str = "personal_data";

/// Evidence lists this many findings at most.
const EVIDENCE_MAX: usize = 20;

/// Longer texts are looked at up to here; the evidence says so.
const BYTES_MAX: usize = 1 << 20;

pub(super) fn check(subject: &Subject) -> CheckResult {
    let texts = [("question", subject.trace.question()), ("answer", subject.answer())];
    if texts.iter().all(|(_, text)| text.is_none_or(|t| t.trim().is_empty())) {
        return CheckResult::not_applicable(NAME, "there is neither question nor answer");
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut evidence: Vec<Value> = Vec::new();
    let mut kept_free = 1.0;
    let mut cut = false;
    for (place, text) in texts.into_iter().filter_map(|(place, text)| Some((place, text?))) {
        let part = &text[..text.floor_char_boundary(BYTES_MAX)];
        cut |= part.len() < text.len();
        let mut found = find(part);
        found.extend(placeholders(part));
        for hit in found {
            *counts.entry(hit.category.as_str()).or_default() += 1;
            kept_free *= 1.0 - weight(hit.category);
            if evidence.len() < EVIDENCE_MAX {
                let start = part[..hit.start].chars().count();
                let at = [start, start + part[hit.start..hit.end].chars().count()];
                evidence.push(json!({"in": place, "category": hit.category, "kind": hit.kind, "at": at}));
            }
        }
    }
    let detail = json!({"finding": finding(&counts), "counts": counts, "found": evidence, "cut": cut});
    CheckResult::new(NAME, counts.is_empty(), (kept_free * 1e4_f64).round() / 1e4, detail)
}

/// How many of each category, the most harmful first.
fn finding(counts: &BTreeMap<&str, usize>) -> String {
    let named = Category::ALL.iter().filter_map(|category| Some((category.as_str(), counts.get(category.as_str())?)));
    let named: Vec<String> = named.map(|(name, count)| format!("{count} {}", name.replace('_', " "))).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// How much one finding takes from the score: how sure it is and how much harm it does.
fn weight(category: Category) -> f64 {
    match category {
        Category::Secret | Category::Card | Category::NationalId | Category::Iban => 0.95,
        Category::Email | Category::Phone => 0.8,
        Category::Ip | Category::Address => 0.6,
    }
}

/// Placeholders that redaction has left: `[EMAIL_3fa9c]`, `[CARD]`.
fn placeholders(text: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (start, _) in text.match_indices('[') {
        let inside = &text[start + 1..text.floor_char_boundary(start + 24)];
        let Some((name, _)) = inside.split_once(']') else { continue };
        let label = name.rsplit_once('_').filter(|(_, digits)| {
            digits.len() == PLACEHOLDER_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let label = label.map_or(name, |(label, _)| label);
        if let Some(category) = Category::ALL.into_iter().find(|c| c.label() == label) {
            hits.push(Hit { category, kind: "redacted", start, end: start + name.len() + 2 });
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(&'static str, &str)> {
        find(text).into_iter().map(|hit| (hit.kind, &text[hit.start..hit.end])).collect()
    }

    #[test]
    fn each_kind_is_found_where_it_stands() {
        for (text, kind, value) in [
            ("Write to jo.doe+x@mail.example.co.uk.", "email", "jo.doe+x@mail.example.co.uk"),
            ("card 4111 1111 1111 1111 123", "visa", "4111 1111 1111 1111"),
            ("IBAN DE89 3704 0044 0532 0130 00, please", "iban", "DE89 3704 0044 0532 0130 00"),
            ("SSN: 078-05-1120.", "us_ssn", "078-05-1120"),
            ("call (202) 555-0147 now", "phone", "(202) 555-0147"),
            ("NI number AB 12 34 56 C.", "uk_nino", "AB 12 34 56 C"),
            ("DNI 12345678Z", "es_dni", "12345678Z"),
            ("CPF 111.444.777-35", "br_cpf", "111.444.777-35"),
            ("from 93.184.216.34:80", "ipv4", "93.184.216.34"),
            ("at 2001:db8:85a3::8a2e:370:7334", "ipv6", "2001:db8:85a3::8a2e:370:7334"),
            ("password = \"hunter2hunter2\"", "named_secret", "hunter2hunter2"),
            ("postgres://me:s3cr3t@db/x", "url_password", "s3cr3t"),
            ("He lives at 12 High Street, Apt. 4", "address", "12 High Street, Apt. 4"),
        ] {
            assert!(kinds(text).contains(&(kind, value)), "{text}: {:?}", kinds(text));
        }
    }

    #[test]
    fn numbers_that_are_nobodys_are_left_alone() {
        for text in [
            "Order 4111111111111112 of 2024-05-06, 1,234,567.89 EUR",
            "version 1.2.3.4 and std::vec::Vec at 12:30:45",
            "import logo@2x.png from @types/node",
            "token: your_token_here, password: ********",
            "ISBN 978-3-16-148410-0, id 123456789",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    #[test]
    fn what_redaction_left_counts() {
        let mut trace = crate::domain::trace::Trace::default();
        trace.view.output = vec![crate::domain::message::Message::text("assistant", "It is [CARD_1a2b3].")];
        let result = check(&Subject::new(&trace));
        assert_eq!((&result.detail["counts"], &result.detail["finding"]), (&json!({"card": 1}), &json!("1 card")));
    }

    #[test]
    fn the_finding_counts_and_does_not_quote() {
        let mut trace = crate::domain::trace::Trace::default();
        let answer = "jo@mail.example, al@mail.example, SSN: 078-05-1120";
        trace.view.output = vec![crate::domain::message::Message::text("assistant", answer)];
        assert_eq!(check(&Subject::new(&trace)).detail["finding"], "1 national id, 2 email");
        trace.view.output = vec![crate::domain::message::Message::text("assistant", "Nothing.")];
        assert_eq!(check(&Subject::new(&trace)).detail["finding"], "none");
    }

    proptest! {
        #[test]
        fn findings_are_in_order_on_boundaries(text in "\\PC{0,100}|[0-9@:./ A-Za-z_=+()\"-]{0,200}") {
            let mut last = 0;
            for hit in find(&text) {
                prop_assert!(hit.start >= last && hit.end > hit.start && text.get(hit.start..hit.end).is_some());
                last = hit.end;
            }
        }
    }
}
