//! Step 3: whether a trace is judged. Pure: the same trace and policy give the same answer anywhere.
//!
//! Called by `assemble` and `cli::explain`. Follows the 56-bit threshold form of OpenTelemetry's consistent probability sampling:
//! keep iff R >= T with T = round((1 - p) 2^56). R is of the trace's session if it is in one, a keyed hash of its name; else `rv` of the tracestate's `ot` entry if there is one, else the last 7
//! bytes of a trace id that its sender flags as random (W3C), else 56 bits of a keyed hash of the whole id. The way not
//! taken: a random draw, which redelivery and replay would repeat with another result.

use crate::config::{Sampling, SessionDraw};
use crate::domain::ids::{hashed_randomness, trace_randomness};
use crate::domain::policy::SampleDecision;
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::domain::unit::session_key;
pub use crate::stats::thresholds::{NEVER, nested, threshold};
use crate::stats::thresholds::{parse, probability};
use uuid::Uuid;

/// W3C trace flag: the right-most 7 bytes of the trace id are random.
const RANDOM_FLAG: u32 = 0x02;

/// Where the random bits of a trace are from when its session draws as a whole.
pub const SESSION: &str = "session";

/// The session that a trace belongs to.
#[must_use]
pub fn session_of(view: &Span) -> Option<Uuid> {
    let session = view.session.as_deref().filter(|id| !id.trim().is_empty())?;
    Some(session_key(view.service.as_deref(), view.tenant.as_deref(), session))
}

/// Name of the rule when none matched.
pub const DEFAULT_RULE: &str = "default";

/// Decides on a trace.
#[must_use]
pub fn decide(policy: &Sampling, trace: &Trace) -> SampleDecision {
    let rule = policy.rules.iter().find(|rule| rule.when.refused_by(trace).is_none());
    let (rule, rate) = rule.map_or((DEFAULT_RULE, policy.default_rate), |r| (r.name.as_str(), r.rate));
    let (randomness, source) = randomness(policy, trace);
    let own = threshold(rate);
    // A consistent sampler before us let through only R >= its threshold: our share is taken of that range, and the
    // probability is that of the traces that reach us.
    let consistent = !matches!(source, "keyed hash" | SESSION);
    let upstream = upstream_threshold(trace).filter(|_| consistent).unwrap_or(0);
    let threshold = nested(upstream, own);
    SampleDecision {
        kept: randomness >= threshold,
        rule: rule.to_owned(),
        probability: probability(own),
        randomness,
        threshold,
        source: source.to_owned(),
    }
}

/// `th` of the tracestate's `ot` entry.
fn upstream_threshold(trace: &Trace) -> Option<u64> {
    parse(ot_field(trace.view.trace_state.as_deref()?, "th:")?)
}

fn randomness(policy: &Sampling, trace: &Trace) -> (u64, &'static str) {
    let view = &trace.view;
    // All traces of a session share one draw, whatever their own ids say: it is kept whole or left out whole.
    if let Some(key) = session_of(view).filter(|_| policy.sessions == SessionDraw::Whole) {
        return (hashed_randomness(&policy.hash_key, &key.to_string()), SESSION);
    }
    if let Some(rv) = view.trace_state.as_deref().and_then(random_value) {
        return (rv, "tracestate rv");
    }
    let flagged = view.flags.is_some_and(|flags| flags & RANDOM_FLAG != 0);
    match trace_randomness(&trace.trace_id) {
        Some(r) if flagged => (r, "trace id"),
        _ => (hashed_randomness(&policy.hash_key, &trace.trace_id), "keyed hash"),
    }
}

/// `rv` of `ot=…;rv:6e6d1a75832a2f;…`: exactly 14 hex digits.
fn random_value(trace_state: &str) -> Option<u64> {
    let digits = ot_field(trace_state, "rv:")?;
    (digits.len() == 14).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A field of the `ot` entry.
fn ot_field<'a>(trace_state: &'a str, name: &str) -> Option<&'a str> {
    let entry = trace_state.split(',').find_map(|entry| entry.trim().strip_prefix("ot="))?;
    entry.split(';').find_map(|field| field.trim().strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Matcher, Patterns, SamplingRule};

    fn trace(id: &str) -> Trace {
        Trace { trace_id: id.to_owned(), ..Trace::default() }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |name: &str, feature: &str, rate| SamplingRule {
            name: name.to_owned(),
            when: Matcher { feature: Patterns(vec![feature.to_owned()]), ..Matcher::default() },
            rate,
        };
        let policy = Sampling {
            default_rate: 1.0,
            rules: vec![rule("chat", "chat*", 0.0), rule("all", "*", 1.0)],
            ..Sampling::default()
        };
        let mut one = trace("t");
        assert_eq!(decide(&policy, &one).rule, DEFAULT_RULE);
        one.view.feature = Some("chat_small".to_owned());
        let decision = decide(&policy, &one);
        assert_eq!((decision.rule.as_str(), decision.kept, decision.probability), ("chat", false, 0.0));
        one.view.feature = Some("returns".to_owned());
        assert_eq!(decide(&policy, &one).rule, "all");
    }

    #[test]
    fn randomness_is_taken_from_where_opentelemetry_says() {
        let policy = Sampling { default_rate: 0.5, ..Sampling::default() };
        let mut one = trace("5b8efff798038103d2ffffffffffffff");
        assert_eq!(decide(&policy, &one).source, "keyed hash", "without the flag the id is not known to be random");
        one.view.flags = Some(0x03);
        let by_id = decide(&policy, &one);
        assert_eq!((by_id.source.as_str(), by_id.randomness, by_id.kept), ("trace id", NEVER - 1, true));
        one.view.trace_state = Some("dd=s:1, ot=rv:00000000000001".to_owned());
        let by_rv = decide(&policy, &one);
        assert_eq!((by_rv.source.as_str(), by_rv.randomness, by_rv.kept), ("tracestate rv", 1, false));
    }

    #[test]
    fn behind_a_consistent_sampler_the_rate_is_of_what_reaches_us() {
        let policy = Sampling { default_rate: 0.25, ..Sampling::default() };
        let mut kept = 0;
        for n in 0..4_000_u64 {
            // Upstream keeps 10 %: R is uniform from 0.9 on.
            let r = (0.9 + 0.1 * (n as f64 + 0.5) / 4_000.0) * NEVER as f64;
            let mut one = trace("t");
            one.view.trace_state = Some(format!("ot=th:e6666666666666;rv:{:014x}", whole(r)));
            let decision = decide(&policy, &one);
            assert!((decision.probability - 0.25).abs() < 1e-12);
            kept += u32::from(decision.kept);
        }
        assert!((990..=1_010).contains(&kept), "{kept} of 4000");
    }

    #[test]
    fn a_session_is_kept_whole_or_left_out_whole() {
        let mut policy = Sampling { default_rate: 0.3, ..Sampling::default() };
        let one = |session: usize, n: usize| {
            let mut one = trace(&format!("t-{session}-{n}"));
            one.view.session = Some(format!("s-{session}"));
            one.view.trace_state = Some("ot=th:c;rv:ffffffffffffff".to_owned());
            one
        };
        let kept = |policy: &Sampling, s: usize| (0..5).filter(|n| decide(policy, &one(s, *n)).kept).count();
        let counts: Vec<usize> = (0..4_000).map(|s| kept(&policy, s)).collect();
        assert!(counts.iter().all(|n| matches!(n, 0 | 5)));
        let whole = counts.iter().filter(|n| **n == 5).count();
        assert!((1_110..1_290).contains(&whole), "{whole} of 4000 at a rate of 0.3");
        let decision = decide(&policy, &one(1, 1));
        assert_eq!((decision.source.as_str(), decision.probability), (SESSION, probability(threshold(0.3))));
        policy.sessions = SessionDraw::Apart;
        assert_eq!(decide(&policy, &one(1, 1)).source, "tracestate rv");
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^56")]
    fn whole(x: f64) -> u64 {
        x as u64
    }

    #[test]
    fn the_share_kept_is_the_rate_and_higher_rates_keep_the_same_traces() {
        let kept = |rate: f64| -> Vec<usize> {
            let policy = Sampling { default_rate: rate, ..Sampling::default() };
            (0..20_000).filter(|n| decide(&policy, &trace(&format!("order-{n}"))).kept).collect()
        };
        let (few, more) = (kept(0.05), kept(0.3));
        assert!(
            (900..1_100).contains(&few.len()) && (5_800..6_200).contains(&more.len()),
            "{} {}",
            few.len(),
            more.len()
        );
        assert!(few.iter().all(|n| more.binary_search(n).is_ok()), "samples are nested");
        assert!(kept(0.0).is_empty());
        assert_eq!(kept(1.0).len(), 20_000);
    }

    proptest::proptest! {
        #[test]
        fn the_stored_probability_is_that_of_the_threshold(rate in 0.0f64..=1.0) {
            proptest::prop_assert!((probability(threshold(rate)) - rate).abs() < 1e-15);
        }
    }
}
