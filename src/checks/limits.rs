//! Did the trace stay within its limits: time, cost, tokens, and what was retrieved?
//!
//! Its rule: only what the rubric sets a limit for is looked at, and what the sender did not tell is not counted as zero. The score
//! is limit over value for the worst one, so that twice the limit is 0.5. The way not taken: limits built in, which fit nobody.

use super::read_options;
use super::subject::Subject;
use crate::domain::rubric::CheckOptions;
use crate::domain::trace::Trace;
use crate::domain::verdict::CheckResult;
use serde::Deserialize;
use serde_json::json;

const NAME: &str = "limits";

/// What a rubric may set; absent means no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    latency_ms_max: Option<f64>,
    cost_usd_max: Option<f64>,
    input_tokens_max: Option<f64>,
    output_tokens_max: Option<f64>,
    total_tokens_max: Option<f64>,
    tool_calls_max: Option<f64>,
    documents_min: Option<f64>,
    /// The best document must score at least this, on the retriever's own scale.
    best_document_score_min: Option<f64>,
}

impl Options {
    fn all(&self) -> [(&'static str, Option<f64>); 8] {
        [
            ("latency_ms_max", self.latency_ms_max),
            ("cost_usd_max", self.cost_usd_max),
            ("input_tokens_max", self.input_tokens_max),
            ("output_tokens_max", self.output_tokens_max),
            ("total_tokens_max", self.total_tokens_max),
            ("tool_calls_max", self.tool_calls_max),
            ("documents_min", self.documents_min),
            ("best_document_score_min", self.best_document_score_min),
        ]
    }
}

/// Whether the options can be used.
pub(super) fn check_options(options: &CheckOptions) -> Result<(), String> {
    let read: Options = read_options(options)?;
    match read.all().into_iter().find(|(_, limit)| limit.is_some_and(|l| !l.is_finite() || l < 0.0)) {
        Some((name, Some(limit))) if name != "best_document_score_min" => {
            Err(format!("`{name}` is {limit}; give a number from 0 up"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check(subject: &Subject, options: &CheckOptions) -> CheckResult {
    let Ok(options) = read_options::<Options>(options) else {
        return CheckResult::not_applicable(NAME, "its options cannot be used");
    };
    let (mut over, mut within, mut unknown, mut worst) = (Vec::new(), 0, Vec::new(), 1.0_f64);
    for (name, limit) in options.all() {
        let Some(limit) = limit else { continue };
        let Some(value) = value(subject.trace, name) else {
            unknown.push(name);
            continue;
        };
        let kept = if name.ends_with("_min") { value >= limit } else { value <= limit };
        if kept {
            within += 1;
            continue;
        }
        let (small, large) = if name.ends_with("_min") { (value, limit) } else { (limit, value) };
        let share = if large > 0.0 { (small / large).clamp(0.0, 0.99) } else { 0.0 };
        worst = worst.min(share);
        over.push(json!({"what": name, "limit": limit, "value": value}));
    }
    if within == 0 && over.is_empty() {
        let why =
            if unknown.is_empty() { "the rubric sets no limit" } else { "the trace tells nothing that is limited" };
        return CheckResult::not_applicable(NAME, why);
    }
    let finding = over.first().map_or("within", |first| first["what"].as_str().unwrap_or("over"));
    let detail = json!({"finding": finding, "evidence": over, "unknown": unknown});
    CheckResult::new(NAME, over.is_empty(), (worst * 1e4).round() / 1e4, detail)
}

/// What the trace tells about it; `None` when it does not.
fn value(trace: &Trace, name: &str) -> Option<f64> {
    let view = &trace.view;
    let tokens = |count: fn(&crate::domain::message::Usage) -> u64| view.usage.as_ref().map(|u| count(u) as f64);
    match name {
        "latency_ms_max" => trace.latency_ms().map(|ms| ms as f64),
        "cost_usd_max" => view.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0),
        "input_tokens_max" => tokens(|u| u.input_tokens),
        "output_tokens_max" => tokens(|u| u.output_tokens),
        "total_tokens_max" => tokens(|u| u.input_tokens.saturating_add(u.output_tokens)),
        "tool_calls_max" => Some(view.tool_calls.len() as f64),
        "documents_min" => Some(view.documents.len() as f64),
        // No document at all is for `documents_min` to say.
        _ => view.documents.iter().filter_map(|d| d.score).filter(|s| s.is_finite()).reduce(f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Document, Usage};
    use crate::domain::verdict::Finding;
    use chrono::{DateTime, TimeDelta};
    use serde_json::Value;

    fn trace() -> Trace {
        let mut trace = Trace::default();
        trace.view.started_at = Some(DateTime::UNIX_EPOCH);
        trace.view.ended_at = Some(DateTime::UNIX_EPOCH + TimeDelta::milliseconds(2_000));
        trace.view.usage = Some(Usage { input_tokens: 900, output_tokens: 100, ..Usage::default() });
        trace.view.documents = vec![Document { score: Some(0.3), ..Document::default() }];
        trace
    }

    fn run(options: &Value) -> CheckResult {
        check(&Subject::new(&trace()), options.as_object().expect("an object"))
    }

    #[test]
    fn each_limit_can_be_broken_and_says_by_how_much() {
        for (options, score) in [
            (json!({"latency_ms_max": 1000}), 0.5),
            (json!({"input_tokens_max": 450}), 0.5),
            (json!({"output_tokens_max": 50}), 0.5),
            (json!({"total_tokens_max": 500}), 0.5),
            (json!({"documents_min": 2}), 0.5),
            (json!({"best_document_score_min": 0.6}), 0.5),
        ] {
            let result = run(&options);
            assert_eq!((result.finding, result.score), (Finding::Fail, Some(score)), "{options}");
            assert_eq!(
                result.detail["evidence"][0]["limit"].as_f64(),
                options.as_object().and_then(|o| o.values().next()?.as_f64())
            );
        }
        assert_eq!(run(&json!({"latency_ms_max": 2000, "tool_calls_max": 0})).score, Some(1.0));
    }

    #[test]
    fn what_is_not_told_is_not_zero() {
        assert_eq!(run(&json!({"cost_usd_max": 0.01})).finding, Finding::NotApplicable);
        assert_eq!(run(&json!({})).finding, Finding::NotApplicable);
        assert_eq!(
            run(&json!({"cost_usd_max": 0.01, "latency_ms_max": 9000})).detail["unknown"],
            json!(["cost_usd_max"])
        );
    }

    #[test]
    fn a_negative_limit_is_refused() {
        let options = json!({"latency_ms_max": -1});
        assert!(check_options(options.as_object().expect("an object")).expect_err("wrong").contains("from 0 up"));
    }
}
