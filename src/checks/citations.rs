//! Do the answer's citations point at what was retrieved, and do its links occur in the context?
//!
//! Its rule: `[id]` and `[1]` count as citations where documents were retrieved; a link counts as known when the context, the question or a tool's
//! result has it. Applies where there is something to hold against. The way not taken: asking whether the cited document says
//! so, which is grounding's question.

use super::read_options;
use super::subject::{Subject, evidence};
use crate::domain::rubric::CheckOptions;
use crate::domain::verdict::CheckResult;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::LazyLock;

const NAME: &str = "citations";

/// Evidence lists this many at most.
const EVIDENCE_MAX: usize = 10;

/// What a rubric may say about this check.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// An answer without any citation fails.
    required: bool,
    /// Links must occur in the context.
    links: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { required: false, links: true }
    }
}

/// One or more ids in square brackets; a Markdown link's text is told apart by what follows it.
static BRACKETS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[\^?([\p{L}\p{N}][^\[\]\n]{0,80})\]").expect("a fixed pattern compiles"));
static LINK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"https?://[^\s<>"'`\])}|\\]+"#).expect("a fixed pattern compiles"));

/// Whether the options can be used.
pub(super) fn check_options(options: &CheckOptions) -> Result<(), String> {
    read_options::<Options>(options).map(drop)
}

pub(super) fn check(subject: &Subject, options: &CheckOptions) -> CheckResult {
    let Ok(options) = read_options::<Options>(options) else {
        return CheckResult::not_applicable(NAME, "its options cannot be used");
    };
    let Some(answer) = subject.answer().filter(|answer| !answer.trim().is_empty()) else {
        return CheckResult::not_applicable(NAME, "there is no answer");
    };
    let documents = &subject.trace.view.documents;
    let names: HashSet<String> = documents.iter().filter_map(|d| d.id.as_ref()).map(|id| id.to_lowercase()).collect();
    let ids = Ids { forms: names.iter().map(|id| form(id)).collect(), names };
    let mut tally = Tally::default();
    if !documents.is_empty() {
        citations(answer, &ids, documents.len(), &mut tally);
    }
    let cited = tally.known + tally.unknown;
    if options.links {
        links(subject, answer, &mut tally);
    }
    let all = tally.known + tally.unknown;
    if options.required && cited == 0 && !documents.is_empty() {
        return CheckResult::new(NAME, false, 0.0, json!({"finding": "no_citation", "documents": documents.len()}));
    }
    if all == 0 {
        return CheckResult::not_applicable(NAME, "the answer cites and links nothing that could be checked");
    }
    let score = f64::from(tally.known) / f64::from(all);
    let finding = tally.evidence.first().map_or("known", |first| first["what"].as_str().unwrap_or("unknown"));
    let detail =
        json!({"finding": finding, "known": tally.known, "unknown": tally.unknown, "evidence": tally.evidence});
    CheckResult::new(NAME, tally.unknown == 0, (score * 1e4).round() / 1e4, detail)
}

#[derive(Default)]
struct Tally {
    known: u32,
    unknown: u32,
    evidence: Vec<Value>,
}

impl Tally {
    fn add(&mut self, known: bool, what: &str, answer: &str, at: std::ops::Range<usize>) {
        if known {
            self.known += 1;
        } else {
            self.unknown += 1;
            if self.evidence.len() < EVIDENCE_MAX {
                self.evidence.push(evidence(what, "answer", answer, at));
            }
        }
    }
}

/// The documents' ids, and how they are made: once, however many citations are held against them.
struct Ids {
    names: HashSet<String>,
    forms: HashSet<String>,
}

fn citations(answer: &str, ids: &Ids, documents: usize, tally: &mut Tally) {
    for found in BRACKETS.captures_iter(answer) {
        let (Some(whole), Some(inner)) = (found.get(0), found.get(1)) else { continue };
        // `[text](target)` is a link, `a[1]` is code.
        let before = answer[..whole.start()].chars().next_back();
        if answer[whole.end()..].starts_with('(')
            || before.is_some_and(|c| c == '_' || (c.is_ascii_alphanumeric() && ids.names.is_empty()))
        {
            continue;
        }
        for part in inner.as_str().split([',', ';']) {
            let name = part.trim().to_lowercase();
            let at = inner.start() + (part.as_ptr() as usize - inner.as_str().as_ptr() as usize);
            let at = at..at + part.len();
            if ids.names.contains(&name) {
                tally.add(true, "", answer, at);
            } else if let Ok(number) = name.parse::<usize>() {
                // Numbers count the documents from one, as prompts usually number them, unless ids are numbers themselves.
                tally.add((1..=documents).contains(&number), "unknown_citation", answer, at);
            } else if looks_like(&name, ids) {
                tally.add(false, "unknown_citation", answer, at);
            }
        }
    }
}

/// Whether a word in brackets is made like the ids. A bare word is no sign of one: `[sic]`, `[Name]`.
fn looks_like(name: &str, ids: &Ids) -> bool {
    let own = form(name);
    own != "a" && ids.forms.contains(&own)
}

/// How a word is made: separators, letters and digits at the same kinds of places.
fn form(text: &str) -> String {
    let mut form = String::new();
    for c in text.chars() {
        let kind = if c.is_numeric() {
            '0'
        } else if c.is_alphabetic() {
            'a'
        } else {
            c
        };
        if !form.ends_with(kind) {
            form.push(kind);
        }
    }
    form
}

fn links(subject: &Subject, answer: &str, tally: &mut Tally) {
    let view = &subject.trace.view;
    let has_source =
        subject.trace.context().next().is_some() || view.tool_calls.iter().any(|call| !call.result.is_null());
    if !has_source {
        return;
    }
    let mut found = LINK.find_iter(answer).peekable();
    if found.peek().is_none() {
        return;
    }
    let results = view.tool_calls.iter().map(|call| match &call.result {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let documents = subject.trace.context().filter_map(|d| d.content.clone());
    let said = view.input.iter().map(|m| m.content.clone()).chain(view.system.clone());
    let ids = view.documents.iter().filter_map(|d| d.id.clone());
    let sources: Vec<String> = documents.chain(results).chain(said).chain(ids).collect();
    let known: HashSet<&str> = sources.iter().flat_map(|text| LINK.find_iter(text)).map(|l| bare(l.as_str())).collect();
    for link in found {
        let target = bare(link.as_str());
        tally.add(known.contains(target), "unknown_link", answer, link.start()..link.start() + link.len());
    }
}

/// Without what a sentence adds at its end, and without the scheme, which writers change.
fn bare(link: &str) -> &str {
    let link = link.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_', '/']);
    link.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("www.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Document, Message};
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn run(answer: &str, options: &Value) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.documents = vec![Document {
            id: Some("ret-007".to_owned()),
            content: Some("Returns: see https://shop.example/returns.".to_owned()),
            ..Document::default()
        }];
        check(&Subject::new(&trace), options.as_object().expect("an object"))
    }

    #[test]
    fn known_and_unknown_citations_and_links_are_told_apart() {
        for (answer, finding) in [
            ("30 days [ret-007].", Finding::Pass),
            ("30 days [1].", Finding::Pass),
            ("30 days [2].", Finding::Fail),
            ("30 days [ret-999].", Finding::Fail),
            ("30 days [ret-007, ret-001].", Finding::Fail),
            ("See [our page](https://shop.example/returns).", Finding::Pass),
            ("See http://shop.example/returns/.", Finding::Pass),
            ("See https://shop.example/refunds", Finding::Fail),
            ("He said [sic] so.", Finding::NotApplicable),
        ] {
            assert_eq!(run(answer, &json!({})).finding, finding, "{answer}");
        }
        assert_eq!(run("é 30 days [ret-999].", &json!({})).detail["evidence"][0]["at"], json!([11, 18]));
    }

    #[test]
    fn a_rubric_can_demand_citations() {
        assert_eq!(run("30 days.", &json!({"required": true})).detail["finding"], "no_citation");
        assert_eq!(run("30 days.", &json!({})).finding, Finding::NotApplicable);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(answer in "(\\PC|[\\[\\]^,;1-3]|https?://a){0,60}") {
            let _ = run(&answer, &json!({}));
        }
    }
}
