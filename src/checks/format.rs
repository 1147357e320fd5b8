//! Has the answer the form that the rubric asks for: patterns, words, lengths, and a syntax?
//!
//! Its rule: only what the rubric's options name is looked at, each broken rule is a finding with its place, and the score is the
//! share of rules kept. Patterns run on the linear regex engine. The way not taken: guessing the wanted form from the question.

mod syntax;

use super::read_options;
use super::subject::{Subject, evidence};
use crate::domain::rubric::CheckOptions;
use crate::domain::verdict::CheckResult;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};
use syntax::{SqlDialect, Syntax};
use unicode_segmentation::UnicodeSegmentation;

const NAME: &str = "format";

/// Patterns kept compiled; when more are seen, all are dropped and compiled again as they come.
const PATTERNS_MAX: usize = 256;

/// A compiled pattern may take this much memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a rubric may demand; absent means not demanded.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    regex: Option<String>,
    not_regex: Option<String>,
    /// All of these.
    contains: Vec<String>,
    /// One of these.
    contains_any: Vec<String>,
    not_contains: Vec<String>,
    starts_with: Option<String>,
    /// For the words above, not for the patterns, which have `(?i)`.
    ignore_case: bool,
    chars_min: Option<usize>,
    chars_max: Option<usize>,
    words_min: Option<usize>,
    words_max: Option<usize>,
    syntax: Option<Syntax>,
    sql_dialect: SqlDialect,
}

static PATTERNS: LazyLock<Mutex<HashMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);

/// Whether the options can be used.
pub(super) fn check_options(options: &CheckOptions) -> Result<(), String> {
    let read: Options = read_options(options)?;
    for (key, pattern) in [("regex", &read.regex), ("not_regex", &read.not_regex)] {
        if let Some(pattern) = pattern {
            build(pattern).map_err(|e| format!("`{key}` does not compile: {e}"))?;
        }
    }
    for (what, least, most) in [("chars", read.chars_min, read.chars_max), ("words", read.words_min, read.words_max)] {
        if least.zip(most).is_some_and(|(least, most)| least > most) {
            return Err(format!("`{what}_min` is above `{what}_max`, so no answer could pass"));
        }
    }
    Ok(())
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build()
}

/// The compiled pattern, from the cache where it was seen before.
fn pattern(text: &str) -> Option<Regex> {
    let mut cache = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(text) {
        return known.clone();
    }
    if cache.len() >= PATTERNS_MAX {
        cache.clear();
    }
    let made = build(text).ok();
    cache.insert(text.to_owned(), made.clone());
    made
}

pub(super) fn check(subject: &Subject, options: &CheckOptions) -> CheckResult {
    let Ok(options) = read_options::<Options>(options) else {
        return CheckResult::not_applicable(NAME, "its options cannot be used");
    };
    let Some(answer) = subject.answer() else {
        return CheckResult::not_applicable(NAME, "the trace has no output");
    };
    let mut rules = Rules { answer, kept: 0, broken: Vec::new() };
    rules.patterns(&options);
    rules.words(&options);
    rules.lengths(&options);
    let mut unchecked = None;
    if let Some(syntax) = options.syntax {
        match syntax::problem(syntax, options.sql_dialect, answer) {
            Ok(found) => rules.rule(found.is_none(), syntax.finding(), found.unwrap_or(0..0)),
            Err(why) => unchecked = Some(why),
        }
    }
    let all = rules.kept + rules.broken.len();
    if all == 0 {
        return CheckResult::not_applicable(NAME, unchecked.unwrap_or("the rubric demands no form"));
    }
    let score = rules.kept as f64 / all as f64;
    let finding = rules.broken.first().map_or("kept", |first| first["what"].as_str().unwrap_or("broken"));
    let detail = json!({"finding": finding, "rules": all, "evidence": rules.broken, "unchecked": unchecked});
    CheckResult::new(NAME, rules.broken.is_empty(), (score * 1e4).round() / 1e4, detail)
}

struct Rules<'a> {
    answer: &'a str,
    kept: usize,
    broken: Vec<Value>,
}

impl Rules<'_> {
    fn rule(&mut self, kept: bool, finding: &str, at: Range<usize>) {
        if kept {
            self.kept += 1;
        } else {
            self.broken.push(evidence(finding, "answer", self.answer, at));
        }
    }

    fn patterns(&mut self, options: &Options) {
        if let Some(regex) = options.regex.as_deref().and_then(pattern) {
            self.rule(regex.is_match(self.answer), "regex_not_found", 0..0);
        }
        if let Some(regex) = options.not_regex.as_deref().and_then(pattern) {
            let found = regex.find(self.answer).map(|found| found.range());
            self.rule(found.is_none(), "regex_found", found.unwrap_or(0..0));
        }
    }

    fn words(&mut self, options: &Options) {
        let fold = |text: &str| if options.ignore_case { text.to_lowercase() } else { text.to_owned() };
        let text = fold(self.answer);
        for word in &options.contains {
            self.rule(text.contains(&fold(word)), "text_missing", 0..0);
        }
        if !options.contains_any.is_empty() {
            self.rule(options.contains_any.iter().any(|w| text.contains(&fold(w))), "text_missing", 0..0);
        }
        for word in &options.not_contains {
            // Folding may move places: they are given only where nothing was folded.
            let found = text.find(&fold(word)).map(|at| if options.ignore_case { 0..0 } else { at..at + word.len() });
            self.rule(found.is_none(), "text_forbidden", found.unwrap_or(0..0));
        }
        if let Some(start) = &options.starts_with {
            self.rule(text.trim_start().starts_with(&fold(start)), "wrong_start", 0..0);
        }
    }

    fn lengths(&mut self, options: &Options) {
        let end = self.answer.len();
        if options.chars_min.is_some() || options.chars_max.is_some() {
            let chars = self.answer.chars().count();
            self.bounds(chars, (options.chars_min, options.chars_max), ("too_short", "too_long"), end);
        }
        if options.words_min.is_some() || options.words_max.is_some() {
            let words = self.answer.unicode_words().count();
            self.bounds(words, (options.words_min, options.words_max), ("too_few_words", "too_many_words"), end);
        }
    }

    fn bounds(&mut self, n: usize, (least, most): (Option<usize>, Option<usize>), words: (&str, &str), end: usize) {
        if let Some(least) = least {
            self.rule(n >= least, words.0, 0..end);
        }
        if let Some(most) = most {
            self.rule(n <= most, words.1, 0..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn run(answer: &str, options: &Value) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        check(&Subject::new(&trace), options.as_object().expect("an object"))
    }

    #[test]
    fn each_rule_can_be_kept_and_broken() {
        for (options, good, bad, finding) in [
            (json!({"regex": r"\bORD-\d+"}), "ORD-12", "none", "regex_not_found"),
            (json!({"not_regex": "(?i)todo"}), "done", "a ToDo", "regex_found"),
            (json!({"contains": ["30", "days"]}), "30 days", "30 weeks", "text_missing"),
            (json!({"contains_any": ["a", "b"]}), "xb", "xc", "text_missing"),
            (json!({"not_contains": ["guarantee"]}), "ok", "we guarantee", "text_forbidden"),
            (json!({"starts_with": "dear", "ignore_case": true}), " Dear all", "Hi", "wrong_start"),
            (json!({"chars_min": 2, "chars_max": 3}), "äöü", "äöüß", "too_long"),
            (json!({"words_min": 2}), "two words", "one", "too_few_words"),
            (json!({"syntax": "xml"}), "<a b=\"1\"><c/></a>", "<a><b></a>", "invalid_xml"),
            (json!({"syntax": "html"}), "<p>one<br>two</p><ul><li>x<li>y</ul>", "<div><b>x</div>", "invalid_html"),
            (json!({"syntax": "sql"}), "SELECT a, b FROM t WHERE c = 1", "SELEC a FROM t", "invalid_sql"),
            (json!({"syntax": "markdown"}), "# T\n```\nx\n```\n", "```rust\nfn x()", "invalid_markdown"),
        ] {
            assert_eq!(run(good, &options).finding, Finding::Pass, "{options}");
            let result = run(bad, &options);
            assert_eq!((result.finding, &result.detail["finding"]), (Finding::Fail, &json!(finding)), "{options}");
        }
        assert_eq!(run("ä a ToDo", &json!({"not_regex": "(?i)todo"})).detail["evidence"][0]["at"], json!([4, 8]));
    }

    #[test]
    fn without_demands_it_does_not_apply() {
        assert_eq!(run("x", &json!({})).finding, Finding::NotApplicable);
    }

    #[test]
    fn wrong_options_are_named() {
        let wrong = |options: Value| check_options(options.as_object().expect("an object")).expect_err("wrong");
        assert!(wrong(json!({"regex": "("})).contains("does not compile"));
        assert!(wrong(json!({"words_min": 3, "words_max": 2})).contains("no answer could pass"));
        assert!(wrong(json!({"regexp": "x"})).contains("unknown field"));
        assert!(wrong(json!({"syntax": "yaml"})).contains("unknown variant"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(answer in "(\\PC|[<>/!='\"`|()\\[\\]a-c\n-]){0,80}") {
            for syntax in ["xml", "html", "sql", "markdown"] {
                let _ = run(&answer, &json!({"syntax": syntax}));
            }
        }
    }
}
