//! Is the answer JSON, and does it fit the requested schema?
//!
//! Applies when JSON was demanded of the answer. Compiled schemas are kept in a bounded cache, since one schema serves many
//! traces and compiling costs forty times the checking. No schema is ever fetched from elsewhere.

use super::subject::Subject;
use crate::domain::verdict::CheckResult;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

const NAME: &str = "json_validity";

/// Schemas kept compiled; when more are seen, all are dropped and compiled again as they come.
const SCHEMAS_MAX: usize = 256;

/// Violations listed as evidence.
const VIOLATIONS_MAX: usize = 5;

type Cache = Mutex<HashMap<String, Option<Arc<Validator>>>>;

static COMPILED: LazyLock<Cache> = LazyLock::new(Cache::default);

pub(super) fn check(subject: &Subject) -> CheckResult {
    let trace = subject.trace;
    let Some(format) = trace.view.response_format.as_ref().filter(|f| f.wants_json()) else {
        return CheckResult::not_applicable(NAME, "no JSON was asked for");
    };
    let Some(answer) = subject.answer() else {
        return CheckResult::not_applicable(NAME, "the trace has no output");
    };
    let cut = trace.view.finish_reason.as_deref() == Some("length");
    let value: Value = match serde_json::from_str(answer.trim()) {
        Ok(value) => value,
        Err(error) => return not_json(answer, &error, cut),
    };
    if format.schema.is_null() {
        return CheckResult::new(NAME, true, 1.0, json!({"finding": "valid", "schema": "not sent with the trace"}));
    }
    let Some(validator) = compiled(&format.schema) else {
        return CheckResult::new(NAME, true, 1.0, json!({"finding": "valid", "schema": "cannot be compiled"}));
    };
    let violations: Vec<Value> = validator
        .iter_errors(&value)
        .take(VIOLATIONS_MAX)
        .map(|e| json!({"at": e.instance_path().to_string(), "rule": e.schema_path().to_string()}))
        .collect();
    if violations.is_empty() {
        CheckResult::new(NAME, true, 1.0, json!({"finding": "valid"}))
    } else {
        CheckResult::new(NAME, false, 0.0, json!({"finding": "schema_violation", "violations": violations}))
    }
}

fn not_json(answer: &str, error: &serde_json::Error, cut: bool) -> CheckResult {
    let trimmed = answer.trim();
    let finding = if trimmed.is_empty() {
        "empty"
    } else if cut || error.is_eof() {
        "truncated"
    } else if trimmed.starts_with("```") {
        "fenced"
    } else if trimmed.starts_with(['{', '[']) {
        "malformed"
    } else {
        "text"
    };
    CheckResult::new(NAME, false, 0.0, json!({"finding": finding, "line": error.line(), "column": error.column()}))
}

fn compiled(schema: &Value) -> Option<Arc<Validator>> {
    let key = schema.to_string();
    let mut cache = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = cache.get(&key) {
        return known.clone();
    }
    if cache.len() >= SCHEMAS_MAX {
        cache.clear();
    }
    let made = jsonschema::validator_for(schema).ok().map(Arc::new);
    cache.insert(key, made.clone());
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Message, ResponseFormat};
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn run(answer: &str, schema: Value) -> CheckResult {
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.response_format = Some(ResponseFormat { kind: "json_schema".to_owned(), name: None, schema });
        check(&Subject::new(&trace))
    }

    #[test]
    fn valid_json_passes_and_each_defect_has_its_finding() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        assert_eq!(run("{\"n\": 1}", schema.clone()).finding, Finding::Pass);
        for (answer, finding) in [
            ("", "empty"),
            ("{\"n\": ", "truncated"),
            ("```json\n{\"n\": 1}\n```", "fenced"),
            ("{n: 1}", "malformed"),
            ("Sure! Here it is", "text"),
            ("{\"n\": \"one\"}", "schema_violation"),
        ] {
            let result = run(answer, schema.clone());
            assert_eq!((result.finding, &result.detail["finding"]), (Finding::Fail, &json!(finding)), "{answer}");
        }
    }

    #[test]
    fn without_a_demand_for_json_it_does_not_apply() {
        assert_eq!(check(&Subject::new(&Trace::default())).finding, Finding::NotApplicable);
    }

    #[test]
    fn a_schema_that_cannot_be_compiled_or_points_elsewhere_is_not_the_answers_fault() {
        assert_eq!(run("{}", json!({"type": 7})).finding, Finding::Pass);
        assert_eq!(run("{}", json!({"$ref": "https://example.com/x.json"})).finding, Finding::Pass);
    }
}
