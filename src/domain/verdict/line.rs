//! A verdict read back from its line of JSON.
//!
//! Called by `pipeline::runs` for files that `eval --out` or the read API wrote. Its rule: of a line only what says what was
//! judged, and how it ended, is a must, so that lines of other programs can be compared too. The way not taken: deriving it,
//! which would make every internal field a part of the interface.

use super::{CheckResult, Finding, JoinIds, Outcome, TraceLabels, Verdict, Vote};
use crate::domain::rubric::OutputKind;
use crate::domain::unit::{SessionRef, Unit, session_key, unit_job_id};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Line {
    trace_id: String,
    #[serde(default)]
    span_id: Option<String>,
    #[serde(default)]
    session: Option<String>,
    rubric: String,
    #[serde(default)]
    rubric_version: String,
    outcome: Outcome,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    raw: Value,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    passed: Option<bool>,
    #[serde(default)]
    confidence: Option<f64>,
    #[serde(default)]
    disagreement: Option<f64>,
    #[serde(default)]
    detail: Value,
    #[serde(default)]
    explanation: String,
    #[serde(default)]
    decided_by: Option<String>,
    #[serde(default)]
    checks: BTreeMap<String, Check>,
    #[serde(default)]
    votes: Vec<Vote>,
    #[serde(default)]
    cost_usd: f64,
    #[serde(default)]
    latency_ms: i64,
    #[serde(default = "one")]
    inclusion_probability: f64,
    #[serde(default)]
    trace: TraceLabels,
    #[serde(default)]
    created_at: DateTime<Utc>,
    #[serde(default)]
    superseded_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Check {
    finding: Finding,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    detail: Value,
}

fn one() -> f64 {
    1.0
}

impl Verdict {
    /// Reads the form of [`Verdict::line`]; fields that the line does not have are at their defaults.
    ///
    /// # Errors
    /// What is missing, of the wrong type, or cannot be: a scored verdict without a score from 0 to 1.
    pub fn of_line(line: &Value) -> Result<Self, String> {
        let line = Line::deserialize(line).map_err(|e| e.to_string())?;
        let is_scored = line.outcome == Outcome::Scored;
        if is_scored != line.score.is_some_and(|s| (0.0..=1.0).contains(&s)) {
            return Err("a score from 0 to 1 belongs to the outcome `scored`, and only to it".to_owned());
        }
        if is_scored && !(line.inclusion_probability > 0.0 && line.inclusion_probability <= 1.0) {
            return Err("what is scored has an `inclusion_probability` above 0 and at most 1".to_owned());
        }
        let result =
            |(check, c): (String, Check)| CheckResult { check, finding: c.finding, score: c.score, detail: c.detail };
        let key = |name: &String| session_key(line.trace.service.as_deref(), line.trace.tenant.as_deref(), name);
        // Which of its judgings it was, a line does not say.
        let session = line.session.clone().map(|session| SessionRef { key: key(&session), session, ordinal: 1 });
        let unit = match (&session, &line.span_id) {
            (Some(session), _) => Unit::Session(session.clone()),
            (None, Some(span)) => Unit::Span(span.clone()),
            (None, None) => Unit::Trace,
        };
        Ok(Self {
            id: unit_job_id(&line.trace_id, &unit, &line.rubric, &line.rubric_version),
            trace_id: line.trace_id,
            span_id: line.span_id,
            session,
            superseded_at: line.superseded_at,
            rubric: line.rubric,
            rubric_version: line.rubric_version,
            kind: OutputKind::default(),
            outcome: line.outcome,
            score: line.score,
            raw: line.raw,
            label: line.label,
            passed: line.passed,
            confidence: line.confidence,
            disagreement: line.disagreement,
            detail: line.detail,
            explanation: line.explanation,
            decided_by: line.decided_by,
            checks: line.checks.into_iter().map(result).collect(),
            votes: line.votes,
            cost_usd: line.cost_usd,
            latency_ms: line.latency_ms,
            inclusion_probability: line.inclusion_probability,
            trace: line.trace,
            join: JoinIds::default(),
            created_at: line.created_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let line = json!({
            "trace_id": "t", "span_id": null, "rubric": "r", "rubric_version": "sha256:0", "outcome": "scored", "score": 0.25,
            "raw": 2, "label": "rude", "passed": false, "confidence": 0.5, "disagreement": 0.1, "detail": {"panel": 1},
            "explanation": "why", "decided_by": "panel",
            "checks": {"grounding": {"finding": "fail", "score": 0.1, "detail": {"a": 1}}},
            "votes": [serde_json::to_value(Vote { judge: "a".to_owned(), ..Vote::default() }).expect("plain data")],
            "cost_usd": 0.5, "latency_ms": 3, "inclusion_probability": 0.5, "trace": TraceLabels::default(),
            "created_at": "2026-11-20T12:00:00Z",
        });
        assert_eq!(Verdict::of_line(&line).expect("a verdict").line(), line);
        for (key, value) in [("session", "s"), ("superseded_at", "2026-11-20T12:00:00Z"), ("span_id", "a")] {
            let mut more = line.clone();
            more[key] = json!(value);
            let read = Verdict::of_line(&more).expect("a verdict");
            assert_eq!(read.line(), more);
            assert_eq!(read.id == Verdict::of_line(&line).expect("a verdict").id, key == "superseded_at");
        }
    }

    #[test]
    fn little_is_enough_and_what_cannot_be_is_refused() {
        let read = |line: Value| Verdict::of_line(&line);
        let least = json!({"trace_id": "t", "rubric": "r", "outcome": "judge_error"});
        assert!((read(least).expect("a verdict").inclusion_probability - 1.0).abs() < f64::EPSILON);
        for (wrong, word) in [
            (json!({"rubric": "r", "outcome": "scored"}), "trace_id"),
            (json!({"trace_id": "t", "rubric": "r", "outcome": "good"}), "good"),
            (json!({"trace_id": "t", "rubric": "r", "outcome": "scored"}), "a score"),
            (json!({"trace_id": "t", "rubric": "r", "outcome": "judge_error", "score": 0.0}), "a score"),
            (json!({"trace_id": "t", "rubric": "r", "outcome": "scored", "score": 3}), "a score"),
            (
                json!({"trace_id": "t", "rubric": "r", "outcome": "scored", "score": 1, "inclusion_probability": 0}),
                "inclusion",
            ),
        ] {
            let why = read(wrong).expect_err("it cannot be");
            assert!(why.contains(word), "{why}");
        }
    }
}
