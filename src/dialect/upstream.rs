//! What Datadog's samplers say of a trace: their rates, and whether they were for keeping it.
//!
//! Called by `dialect` for OTLP attributes and by `datadog` for APM spans and LLM Observability events. Source: the tracers' tags
//! `_dd.p.dm` (which sampler decided, as `-N`), `_dd.rule_psr`, `_dd.limit_psr`, `_dd.agent_psr` (their rates) and
//! `_sampling_priority_v1` (above 0 = keep); `_dd.sample_rate` and `_dd.sampling_decision` of LLM Observability. Its rule: a rate
//! that is no probability says nothing. The way not taken: multiplying all rates that are there; only one sampler decided, and the
//! others' rates are left over from it.

use super::facts;
use crate::domain::policy::Upstream;
use serde_json::Value;

/// What the tracer's sampler said, from a span's attributes, metrics or meta.
pub(super) fn of_tracer<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Option<Upstream> {
    let number = |key: &str| get(key).and_then(facts::number);
    let rate = |key: &str| number(key).filter(|rate| *rate > 0.0 && *rate <= 1.0);
    let by_rule = || Some((rate("_dd.rule_psr")? * rate("_dd.limit_psr").unwrap_or(1.0), "datadog rule"));
    let by_agent = || Some((rate("_dd.agent_psr")?, "datadog agent"));
    let older = || Some((rate("_sampling_priority_rate_v1").or_else(|| rate("_sampling_priority_rate"))?, "datadog"));
    let found = match get("_dd.p.dm").and_then(mechanism) {
        // Rules of the tracer or from remote, with the limit that stands behind them.
        Some(3 | 6 | 11 | 12) => by_rule(),
        Some(1 | 2) => by_agent(),
        // No rates were known yet, or it was kept for what it is: nothing was drawn.
        Some(0 | 4 | 5) => Some((1.0, "datadog, without a draw")),
        Some(_) => None,
        None => by_rule().or_else(by_agent).or_else(older),
    };
    let kept = number("_sampling_priority_v1").is_none_or(|priority| priority > 0.0);
    match found {
        Some((probability, source)) => Some(Upstream { probability, source: source.to_owned(), kept }),
        // Rejected without a rate: by hand, or by one of 0.
        None => (!kept).then(|| Upstream { probability: 1.0, source: "datadog, rejected".to_owned(), kept }),
    }
}

/// What the sampler of LLM Observability said in an event's `_dd`.
pub(super) fn of_event(dd: Option<&Value>) -> Option<Upstream> {
    let get = |key: &str| dd?.get(key).and_then(facts::number);
    let kept = get("sampling_decision").is_none_or(|decision| decision > 0.0);
    let rate = get("sample_rate").filter(|rate| *rate > 0.0 && *rate <= 1.0);
    if rate.is_none() && kept {
        return None;
    }
    Some(Upstream { probability: rate.unwrap_or(1.0), source: "datadog llmobs".to_owned(), kept })
}

/// The number behind the last minus.
fn mechanism(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => text.rsplit('-').next()?.trim().parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|n| u32::try_from(n.abs()).ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tracer(tags: &Value) -> Option<(f64, bool)> {
        of_tracer(|key| tags.get(key)).map(|u| ((u.probability * 1e6).round() / 1e6, u.kept))
    }

    #[test]
    fn the_sampler_that_decided_is_asked_for_its_rate() {
        let rates =
            json!({"_dd.rule_psr": 0.2, "_dd.limit_psr": 0.5, "_dd.agent_psr": 0.9, "_sampling_priority_v1": 2});
        let with = |dm: &str| {
            let mut tags = rates.clone();
            tags["_dd.p.dm"] = dm.into();
            tracer(&tags)
        };
        assert_eq!(with("-3"), Some((0.1, true)));
        assert_eq!(with("-11"), Some((0.1, true)));
        assert_eq!(with("-1"), Some((0.9, true)));
        assert_eq!(with("934086a686-4"), Some((1.0, true)), "kept by hand, in the older form");
        assert_eq!(with("-8"), None, "one span of a trace that was dropped");
        assert_eq!(tracer(&rates), Some((0.1, true)), "who decided is not said");
        assert_eq!(tracer(&json!({"_dd.agent_psr": "0.25"})), Some((0.25, true)));
        assert_eq!(tracer(&json!({"_sampling_priority_rate_v1": 0.3})), Some((0.3, true)));
    }

    #[test]
    fn what_was_rejected_and_sent_all_the_same_is_known_as_that() {
        assert_eq!(tracer(&json!({"_dd.rule_psr": 0.2, "_sampling_priority_v1": -1})), Some((0.2, false)));
        assert_eq!(tracer(&json!({"_sampling_priority_v1": 0})), Some((1.0, false)));
        assert_eq!(tracer(&json!({"_sampling_priority_v1": 1})), None);
        for no_rate in [json!(0), json!(1.5), json!(-0.1), json!("x"), json!(null), json!({})] {
            assert_eq!(tracer(&json!({"_dd.rule_psr": no_rate})), None);
        }
    }

    #[test]
    fn llm_observability_has_a_rate_of_its_own() {
        let event = |dd: Value| of_event(Some(&dd)).map(|u| (u.probability, u.kept));
        assert_eq!(event(json!({"sample_rate": "0.5", "sampling_decision": "1"})), Some((0.5, true)));
        assert_eq!(event(json!({"sample_rate": 0.5, "sampling_decision": "0"})), Some((0.5, false)));
        assert_eq!(event(json!({"apm_trace_id": "1"})), None);
        assert_eq!(of_event(None), None);
    }
}
