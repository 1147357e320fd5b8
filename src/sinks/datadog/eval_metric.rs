//! A verdict as an LLM Observability evaluation metric.
//!
//! Called by `eval_metrics`. Compared by test with requests that ddtrace 4.16.0 sent. Its rules: ids join as Datadog demands
//! (OpenTelemetry ids in decimal with `source:otel`; Datadog's own verbatim), a judge's failure is `status: ERROR` without a
//! value, never a zero. A trace whose ids Datadog cannot know (native ones) is not sent: it would never join.

use super::names::{label, ml_app, tag};
use crate::config::Datadog;
use crate::domain::rubric::OutputKind;
use crate::domain::span::IdSource;
use crate::domain::verdict::{Outcome, Verdict};
use serde_json::{Map, Value, json};

/// Longest reasoning that is sent, in characters; Datadog documents no limit.
const REASONING_CHARS_MAX: usize = 4_000;

/// What becomes of a verdict on its way to Datadog.
#[derive(Debug, PartialEq)]
pub(super) enum Made {
    /// It is sent.
    Metric(Box<Value>),
    /// There is nothing to send: Datadog cannot join it, or it was not judged.
    Nothing,
}

/// Makes the metric of a verdict.
pub(super) fn make(verdict: &Verdict, config: &Datadog) -> Made {
    let Some((trace_id, span_id)) = ids(verdict) else { return Made::Nothing };
    let mut metric = Map::new();
    match verdict.outcome {
        Outcome::Scored => value(verdict, &mut metric),
        Outcome::JudgeError | Outcome::TooLarge | Outcome::Expired | Outcome::OverBudget => {
            metric.insert("status".into(), json!("ERROR"));
            let error = json!({"type": verdict.outcome.as_str(), "message": failure(verdict), "stack": ""});
            metric.insert("error".into(), error);
        }
        Outcome::NotApplicable | Outcome::Filtered | Outcome::SampledOut => return Made::Nothing,
    }
    let app = config.ml_app.as_deref().or(verdict.trace.service.as_deref()).unwrap_or("unknown");
    let app = ml_app(app);
    // One metric type per label for ever, so it follows from the rubric, not from how this verdict ended.
    let kind = match verdict.kind {
        OutputKind::Score => "score",
        OutputKind::Boolean => "boolean",
        OutputKind::Category => "categorical",
    };
    metric.insert("metric_type".into(), json!(kind));
    metric.insert("event_kind".into(), json!("evaluation"));
    if let Some(session) = &verdict.session {
        metric.insert("eval_scope".into(), json!("session"));
        metric.insert("session_id".into(), json!(session.session));
    } else {
        metric.insert("eval_scope".into(), json!(if verdict.span_id.is_some() { "span" } else { "trace" }));
        metric.insert("join_on".into(), json!({"span": {"span_id": span_id, "trace_id": trace_id}}));
    }
    metric.insert("label".into(), json!(label(&verdict.rubric)));
    metric.insert("ml_app".into(), json!(app));
    metric.insert("timestamp_ms".into(), json!(verdict.created_at.timestamp_millis()));
    metric.insert("tags".into(), json!(tags(verdict, config, &app)));
    metric.insert("metadata".into(), metadata(verdict));
    Made::Metric(Box::new(Value::Object(metric)))
}

/// Only error words of ours; never a judge's text.
fn failure(verdict: &Verdict) -> String {
    let errors: Vec<&str> = verdict.votes.iter().filter_map(|v| v.error.as_deref()).collect();
    if errors.is_empty() { verdict.outcome.as_str().to_owned() } else { errors.join("; ") }
}

fn value(verdict: &Verdict, metric: &mut Map<String, Value>) {
    let score = verdict.score.unwrap_or_default();
    match verdict.kind {
        OutputKind::Boolean => {
            metric.insert("boolean_value".into(), json!(verdict.raw.as_bool().unwrap_or(score >= 0.5)))
        }
        OutputKind::Category => metric.insert("categorical_value".into(), json!(verdict.label)),
        OutputKind::Score => metric.insert("score_value".into(), json!(score)),
    };
    if let Some(passed) = verdict.passed {
        metric.insert("assessment".into(), json!(if passed { "pass" } else { "fail" }));
    }
}

/// Adds the reasoning, when it may be sent.
pub(super) fn with_reasoning(metric: &mut Value, verdict: &Verdict, config: &Datadog) {
    if config.send_reasoning && verdict.outcome == Outcome::Scored && !verdict.explanation.is_empty() {
        let text: String = verdict.explanation.chars().take(REASONING_CHARS_MAX).collect();
        metric["reasoning"] = json!(text);
    }
}

/// Trace and span id in the form that joins.
fn ids(verdict: &Verdict) -> Option<(String, String)> {
    let span = verdict.span_id.as_ref().unwrap_or(&verdict.join.span_id);
    match verdict.join.source {
        IdSource::Otel => {
            let trace = u128::from_str_radix(&verdict.trace_id, 16).ok()?;
            let span = u64::from_str_radix(span, 16).ok()?;
            Some((trace.to_string(), span.to_string()))
        }
        IdSource::Datadog => Some((verdict.trace_id.clone(), span.clone())),
        IdSource::Native => None,
    }
}

fn tags(verdict: &Verdict, config: &Datadog, app: &str) -> Vec<String> {
    let t = &verdict.trace;
    let mut tags = vec![format!("ml_app:{app}")];
    if verdict.join.source == IdSource::Otel {
        tags.push("source:otel".to_owned());
    }
    let env = t.environment.as_deref().or(config.env.as_deref());
    let labels = [
        ("env", env),
        ("service", t.service.as_deref()),
        ("version", t.service_version.as_deref()),
        ("feature", t.feature.as_deref()),
        ("prompt_name", t.prompt_name.as_deref()),
        ("prompt_version", t.prompt_version.as_deref()),
        ("model", t.model.as_deref()),
        ("evaluator", Some("assize")),
    ];
    tags.extend(labels.into_iter().filter_map(|(key, value)| Some(tag(key, value?))));
    tags
}

/// Numbers and names only; per judge what it said and cost.
fn metadata(verdict: &Verdict) -> Value {
    let votes: Vec<Value> = verdict
        .votes
        .iter()
        .map(|v| json!({"judge": v.judge, "model": v.model, "score": v.score, "latency_ms": v.latency_ms, "cost_usd": v.cost_usd}))
        .collect();
    json!({
        "rubric_version": verdict.rubric_version,
        "decided_by": verdict.decided_by,
        "score": verdict.score,
        "confidence": verdict.confidence,
        "inclusion_probability": verdict.inclusion_probability,
        "cost_usd": verdict.cost_usd,
        "votes": votes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Job;
    use crate::domain::unit::SessionRef;
    use crate::domain::verdict::{JoinIds, TraceLabels, Vote};
    use chrono::DateTime;

    fn verdict() -> Verdict {
        let now = DateTime::from_timestamp_millis(1_795_212_483_296).expect("a valid time");
        let job = Job {
            id: uuid::Uuid::nil(),
            trace_id: "5b8efff798038103d269b633813fc60c".to_owned(),
            unit: crate::domain::unit::Unit::Trace,
            replay: false,
            canary: false,
            rubric: "faithfulness".into(),
            rubric_version: "sha256:abc".into(),
            inclusion_probability: 0.5,
            attempts: 1,
            votes: Vec::new(),
            enqueued_at: now,
            deadline_at: now,
        };
        let labels = TraceLabels { service: Some("eval-demo".to_owned()), ..TraceLabels::default() };
        let join = JoinIds { source: IdSource::Otel, span_id: "7e6d7a2b1c0d9e8f".to_owned() };
        Verdict {
            score: Some(0.87),
            passed: Some(true),
            raw: json!(0.87),
            explanation: "All claims supported.".to_owned(),
            join,
            ..job.unscored(Outcome::Scored, String::new(), labels, now)
        }
    }

    fn made(verdict: &Verdict) -> Value {
        match make(verdict, &Datadog::default()) {
            Made::Metric(metric) => *metric,
            Made::Nothing => panic!("a metric was expected"),
        }
    }

    /// The reference is what ddtrace 4.16.0 sent for the same ids.
    #[test]
    fn otel_ids_join_as_in_the_reference_capture() {
        let text = include_str!("../../../tests/fixtures/datadog-eval-metric-otel.json");
        let capture: Value = serde_json::from_str(text).expect("the capture is JSON");
        let reference = &capture["body"]["data"]["attributes"]["metrics"][0];
        let ours = made(&verdict());
        for key in ["join_on", "event_kind", "metric_type", "ml_app", "timestamp_ms"] {
            assert_eq!(ours[key], reference[key], "{key}");
        }
        assert!(ours["tags"].as_array().is_some_and(|t| t.contains(&json!("source:otel"))));
    }

    #[test]
    fn the_fields_are_those_of_the_reference_capture() {
        let text = include_str!("../../../tests/fixtures/datadog-eval-metric.json");
        let capture: Value = serde_json::from_str(text).expect("the capture is JSON");
        let reference = capture["body"]["data"]["attributes"]["metrics"][0].as_object().expect("an object");
        let mut ours = made(&verdict());
        with_reasoning(&mut ours, &verdict(), &Datadog::default());
        let ours = ours.as_object().expect("an object").clone();
        let keys: Vec<&String> = ours.keys().collect();
        let wanted: Vec<&String> = reference.keys().collect();
        assert_eq!(keys.len(), wanted.len());
        assert!(wanted.iter().all(|key| ours.contains_key(*key)), "{keys:?} {wanted:?}");
    }

    #[test]
    fn a_judges_failure_is_an_error_without_a_value() {
        let vote = Vote { error: Some("timeout: no reply".to_owned()), ..Vote::default() };
        let failed = Verdict { outcome: Outcome::JudgeError, score: None, votes: vec![vote], ..verdict() };
        let metric = made(&failed);
        assert_eq!(metric["status"], "ERROR");
        assert_eq!(metric["error"]["type"], "judge_error");
        assert!(metric.get("score_value").is_none() && metric.get("reasoning").is_none());
    }

    #[test]
    fn what_cannot_join_or_was_not_judged_is_not_sent() {
        let native = Verdict { join: JoinIds::default(), ..verdict() };
        assert_eq!(make(&native, &Datadog::default()), Made::Nothing);
        let span = made(&Verdict { span_id: Some("00000000000000ff".to_owned()), ..verdict() });
        assert_eq!((&span["eval_scope"], &span["join_on"]["span"]["span_id"]), (&json!("span"), &json!("255")));
        let session = SessionRef { key: uuid::Uuid::nil(), session: "s-1".to_owned(), ordinal: 1 };
        let session = made(&Verdict { session: Some(session), ..verdict() });
        assert_eq!((&session["eval_scope"], &session["session_id"]), (&json!("session"), &json!("s-1")));
        assert!(session.get("join_on").is_none(), "a session is joined by its id alone: {session}");
        let filtered = Verdict { outcome: Outcome::Filtered, score: None, ..verdict() };
        assert_eq!(make(&filtered, &Datadog::default()), Made::Nothing);
    }
}
