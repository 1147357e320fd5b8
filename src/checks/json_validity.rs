//! Is the answer JSON, and does it fit the requested schema?
//!
//! Applies when the request demanded JSON, or when the rubric's options say so. Its rule: each way of being no clean JSON is a finding
//! of its own, with its place, and can be made a failure, a note or nothing; a schema that cannot be used is not the answer's
//! fault. The way not taken: repairing what came and judging the repair, which hides what the application will meet.

mod scan;
pub(super) mod schema;

use super::subject::{Subject, char_span, evidence};
use super::{CheckOptions, read_options};
use crate::domain::verdict::CheckResult;
use scan::{Flaw, Found, Limits, scan};
use schema::{Dialect, Reading, VIOLATIONS_MAX, compiled};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::Range;

const NAME: &str = "json_validity";

/// Places in a text at which JSON is looked for, with `contains`.
const PLACES_MAX: usize = 32;

/// What a rubric may say about this check.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Judge every answer, whether JSON was demanded or not.
    always: bool,
    /// It is enough that an array or object stands somewhere in the text.
    contains: bool,
    duplicate_keys: Level,
    lone_surrogates: Level,
    not_a_number: Level,
    trailing_text: Level,
    code_fence: Level,
    byte_order_mark: Level,
    depth_max: usize,
    /// In place of the schema that travelled with the trace.
    schema: Option<Value>,
    draft: Dialect,
    formats: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            always: false,
            contains: false,
            // RFC 8259 only advises against them, and test suites accept them.
            duplicate_keys: Level::Note,
            lone_surrogates: Level::Fail,
            not_a_number: Level::Fail,
            trailing_text: Level::Fail,
            code_fence: Level::Fail,
            byte_order_mark: Level::Fail,
            depth_max: 128,
            schema: None,
            draft: Dialect::default(),
            formats: false,
        }
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// The check fails.
    Fail,
    /// It is told, and the check goes on.
    Note,
    /// It is as if it were not there.
    Ignore,
}

/// Whether the options can be used.
pub(super) fn check_options(options: &CheckOptions) -> Result<(), String> {
    let read: Options = read_options(options)?;
    if !(1..=10_000).contains(&read.depth_max) {
        return Err(format!("`depth_max` is {}; give 1 to 10000", read.depth_max));
    }
    let reading = Reading { draft: read.draft, formats: read.formats };
    match read.schema.map(|schema| compiled(&schema, reading)) {
        Some(Err(why)) => Err(format!("`schema` {}", why.as_str())),
        _ => Ok(()),
    }
}

pub(super) fn check(subject: &Subject, options: &CheckOptions) -> CheckResult {
    let Ok(options) = read_options::<Options>(options) else {
        return CheckResult::not_applicable(NAME, "its options cannot be used");
    };
    let demanded = subject.trace.view.response_format.as_ref().filter(|f| f.wants_json());
    if demanded.is_none() && !options.always && !options.contains && options.schema.is_none() {
        return CheckResult::not_applicable(NAME, "no JSON was asked for");
    }
    let Some(answer) = subject.answer() else {
        return CheckResult::not_applicable(NAME, "the trace has no output");
    };
    let sent = demanded.map(|f| &f.schema).filter(|schema| !schema.is_null());
    let schema = options.schema.as_ref().or(sent);
    let cut = subject.trace.view.finish_reason.as_deref() == Some("length");
    let judged = Judged { answer, options: &options, schema, cut, notes: Vec::new() };
    if options.contains { judged.somewhere() } else { judged.whole() }
}

/// One answer on its way through the findings.
struct Judged<'a> {
    answer: &'a str,
    options: &'a Options,
    schema: Option<&'a Value>,
    /// The model stopped at its length limit.
    cut: bool,
    notes: Vec<Value>,
}

impl Judged<'_> {
    fn limits(&self) -> Limits {
        Limits {
            depth_max: self.options.depth_max,
            not_a_number: self.options.not_a_number != Level::Fail,
            duplicate_keys: self.options.duplicate_keys != Level::Ignore,
        }
    }

    /// The answer as a whole must be JSON.
    fn whole(mut self) -> CheckResult {
        let mut body = 0..self.answer.len();
        if self.answer.starts_with('\u{feff}') {
            body.start = '\u{feff}'.len_utf8();
            if let Some(failed) = self.meet(self.options.byte_order_mark, "byte_order_mark", 0..body.start) {
                return failed;
            }
        }
        if let Some(inner) = fenced(self.answer, &body) {
            if let Some(failed) = self.meet(self.options.code_fence, "fenced", body.start..inner.start) {
                return failed;
            }
            body = inner;
        }
        let found = scan(&self.answer[body.clone()], self.limits());
        let end = body.start + found.end;
        if let Some(broken) = found.broken {
            let at = body.start + broken.at.start..body.start + broken.at.end;
            match broken.flaw {
                Flaw::Trailing => {
                    if let Some(failed) = self.meet(self.options.trailing_text, "trailing_text", at) {
                        return failed;
                    }
                }
                flaw => return self.failed(self.word(flaw, &self.answer[body], broken.at.start), at),
            }
        }
        for Found { flaw, at } in found.oddities {
            let (level, word) = if flaw == Flaw::DuplicateKey {
                (self.options.duplicate_keys, "duplicate_key")
            } else {
                (self.options.lone_surrogates, "lone_surrogate")
            };
            if let Some(failed) = self.meet(level, word, body.start + at.start..body.start + at.end) {
                return failed;
            }
        }
        self.against_schema(body.start..end)
    }

    /// Some array or object in the text must be JSON, and fit the schema where there is one.
    fn somewhere(mut self) -> CheckResult {
        let (mut from, mut misfit) = (0, None);
        for _ in 0..PLACES_MAX {
            let Some(start) = self.answer[from..].find(['{', '[']).map(|at| from + at) else { break };
            let found = scan(&self.answer[start..], self.limits());
            if found.broken.as_ref().is_some_and(|broken| broken.flaw != Flaw::Trailing) {
                from = start + 1;
                continue;
            }
            let end = start + found.end;
            let notes = std::mem::take(&mut self.notes);
            let result = self.against_schema(start..end);
            if result.score == Some(1.0) {
                return result;
            }
            self.notes = notes;
            misfit.get_or_insert(result);
            from = end;
        }
        misfit.unwrap_or_else(|| self.failed("contains_no_json", 0..0))
    }

    fn against_schema(&self, value: Range<usize>) -> CheckResult {
        let Some(schema) = self.schema else { return self.valid(json!({"schema": "not sent with the trace"})) };
        let reading = Reading { draft: self.options.draft, formats: self.options.formats };
        let validator = match compiled(schema, reading) {
            Ok(validator) => validator,
            Err(why) => return self.valid(json!({"schema": why.as_str()})),
        };
        // What the scanner let pass on purpose (NaN, depth) may still be beyond serde.
        let Ok(read) = serde_json::from_str::<Value>(&self.answer[value.clone()]) else {
            return self.valid(json!({"schema": "not checked: the value is beyond our reader"}));
        };
        let violations: Vec<Value> = validator
            .iter_errors(&read)
            .take(VIOLATIONS_MAX)
            .map(|e| json!({"at": e.instance_path().to_string(), "rule": e.schema_path().to_string()}))
            .collect();
        if violations.is_empty() {
            return self.valid(json!({"schema": "fits"}));
        }
        let detail = json!({"finding": "schema_violation", "violations": violations, "notes": self.notes,
            "evidence": [evidence("schema_violation", "answer", self.answer, value)]});
        CheckResult::new(NAME, false, 0.0, detail)
    }

    /// Takes a finding as its level says; a result when the check ends here.
    fn meet(&mut self, level: Level, finding: &str, at: Range<usize>) -> Option<CheckResult> {
        match level {
            Level::Fail => return Some(self.failed(finding, at)),
            Level::Note => self.notes.push(evidence(finding, "answer", self.answer, at)),
            Level::Ignore => {}
        }
        None
    }

    fn failed(&self, finding: &str, at: Range<usize>) -> CheckResult {
        let [start, _] = char_span(self.answer, at.clone());
        let before = &self.answer[..self.answer.floor_char_boundary(at.start)];
        let line = before.matches('\n').count() + 1;
        let column = start - before.rfind('\n').map_or(0, |at| before[..=at].chars().count()) + 1;
        let detail = json!({"finding": finding, "line": line, "column": column, "notes": self.notes,
            "evidence": [evidence(finding, "answer", self.answer, at)]});
        CheckResult::new(NAME, false, 0.0, detail)
    }

    fn valid(&self, mut detail: Value) -> CheckResult {
        detail["finding"] = json!("valid");
        detail["notes"] = json!(self.notes);
        CheckResult::new(NAME, true, 1.0, detail)
    }

    fn word(&self, flaw: Flaw, body: &str, at: usize) -> &'static str {
        match flaw {
            Flaw::Empty => "empty",
            Flaw::Unfinished if self.cut => "truncated",
            Flaw::Unfinished => "unfinished",
            Flaw::NotANumber => "not_a_number",
            Flaw::TooDeep => "too_deep",
            // Not even the first character fits: it is prose.
            _ if body[..at].trim().is_empty() && !body.trim_start().starts_with(['{', '[']) => "text",
            _ => "malformed",
        }
    }
}

/// What is between the fences of a code block that is all there is, in bytes.
fn fenced(answer: &str, within: &Range<usize>) -> Option<Range<usize>> {
    let body = &answer[within.clone()];
    let start = body.len() - body.trim_start().len();
    let inner = body[start..].strip_prefix("```")?;
    let line = inner.find('\n')? + 1;
    // A block that was cut off has no end.
    let end = inner[line..].rfind("```").unwrap_or(inner.len() - line);
    let from = within.start + start + "```".len() + line;
    Some(from..from + end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Message, ResponseFormat};
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn told(answer: &str, schema: Value, options: &Value, finish_reason: Option<&str>) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.finish_reason = finish_reason.map(str::to_owned);
        trace.view.response_format = Some(ResponseFormat { kind: "json_schema".to_owned(), name: None, schema });
        check(&Subject::new(&trace), options.as_object().expect("options are an object"))
    }

    fn run(answer: &str, schema: Value) -> CheckResult {
        told(answer, schema, &json!({}), None)
    }

    #[test]
    fn valid_json_passes_and_each_defect_has_its_finding() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        assert_eq!(run("{\"n\": 1}", schema.clone()).finding, Finding::Pass);
        for (answer, finding) in [
            ("", "empty"),
            ("{\"n\": ", "unfinished"),
            ("```json\n{\"n\": 1}\n```", "fenced"),
            ("{n: 1}", "malformed"),
            ("Sure! Here it is", "text"),
            ("{\"n\": 1} Hope it helps!", "trailing_text"),
            ("\u{feff}{\"n\": 1}", "byte_order_mark"),
            ("{\"n\": NaN}", "not_a_number"),
            ("{\"n\": \"\\ud800\"}", "lone_surrogate"),
            ("{\"n\": \"one\"}", "schema_violation"),
        ] {
            let result = run(answer, schema.clone());
            assert_eq!((result.finding, &result.detail["finding"]), (Finding::Fail, &json!(finding)), "{answer}");
        }
        let cut = told("{\"n\": ", schema, &json!({}), Some("length"));
        assert_eq!(cut.detail["finding"], "truncated");
    }

    #[test]
    fn each_finding_can_be_switched() {
        for (answer, options) in [
            ("```json\n{\"n\": 1}\n```", json!({"code_fence": "note"})),
            ("{\"n\": 1} Done.", json!({"trailing_text": "ignore"})),
            ("\u{feff}{}", json!({"byte_order_mark": "note"})),
            ("[NaN, -Infinity]", json!({"not_a_number": "ignore"})),
            ("[\"\\ud800\"]", json!({"lone_surrogates": "note"})),
            ("Here: {\"n\": 1}, fine", json!({"contains": true})),
        ] {
            assert_eq!(told(answer, Value::Null, &options, None).finding, Finding::Pass, "{answer}");
        }
        let twice = "{\"a\": 1, \"a\": 2}";
        assert_eq!(run(twice, Value::Null).detail["notes"][0]["at"], json!([10, 11]));
        assert_eq!(told(twice, Value::Null, &json!({"duplicate_keys": "fail"}), None).finding, Finding::Fail);
        assert_eq!(told("[[1]]", Value::Null, &json!({"depth_max": 1}), None).detail["finding"], "too_deep");
    }

    #[test]
    fn one_of_several_values_in_the_text_may_fit() {
        let schema = json!({"required": ["n"]});
        let text = "First {\"m\": 1}, then {broken, then {\"n\": 2}.";
        assert_eq!(told(text, schema.clone(), &json!({"contains": true}), None).finding, Finding::Pass);
        let none = told("no [brackets", schema, &json!({"contains": true}), None);
        assert_eq!(none.detail["finding"], "contains_no_json");
    }

    #[test]
    fn without_a_demand_for_json_it_does_not_apply() {
        let trace = Trace::default();
        assert_eq!(check(&Subject::new(&trace), &CheckOptions::new()).finding, Finding::NotApplicable);
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_not_the_answers_fault() {
        assert_eq!(run("{}", json!({"type": 7})).finding, Finding::Pass);
        let remote = run("{}", json!({"$ref": "https://example.com/x.json"}));
        assert_eq!(remote.detail["schema"], "refers to another document, which is never fetched");
        let lookaround = run("{}", json!({"pattern": "(?=a)b"}));
        assert_eq!(lookaround.finding, Finding::Pass);
    }

    #[test]
    fn metaschemas_that_ship_need_no_fetching() {
        let about = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
        assert_eq!(run("{\"type\": 7}", about).detail["finding"], "schema_violation");
    }

    #[test]
    fn wrong_options_are_named() {
        let wrong = |options: Value| check_options(options.as_object().expect("an object")).expect_err("wrong");
        assert!(wrong(json!({"code_fense": "note"})).contains("unknown field `code_fense`"));
        assert!(wrong(json!({"depth_max": 0})).contains("1 to 10000"));
        assert!(wrong(json!({"schema": {"type": 7}})).contains("cannot be compiled"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(answer in "(\\PC|[\\[\\]{}\":,`\n\u{feff}]){0,100}", contains in proptest::bool::ANY) {
            let result = told(&answer, serde_json::json!({"type": "object"}), &json!({"contains": contains}), None);
            proptest::prop_assert!(result.score.is_some());
        }
    }
}
