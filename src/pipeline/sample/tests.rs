//! The draw, the composition of limits, the steps, and days of traffic through all of them.

#[path = "../../../benches/simulate/days.rs"]
mod days;

use super::*;
use crate::domain::dimension::Dimension;
use crate::domain::limit::{Boost, Ceiling, Feedback, Floor};
use crate::domain::message::Message;
use crate::domain::policy::{Matcher, Patterns, SamplingRule, Upstream};
use crate::domain::span::Status;
use crate::domain::step::{OTHERS, Past, Squeeze};
use chrono::{DateTime, TimeDelta, Utc};

fn trace(id: &str) -> Trace {
    Trace { trace_id: id.to_owned(), ..Trace::default() }
}

fn of_feature(id: &str, feature: &str) -> Trace {
    let mut trace = trace(id);
    trace.view.feature = Some(feature.to_owned());
    trace
}

fn rule(name: &str, feature: &str, rate: f64) -> SamplingRule {
    let when = Matcher { feature: Patterns(vec![feature.to_owned()]), ..Matcher::default() };
    SamplingRule { name: name.to_owned(), when, rate }
}

fn boost(name: &str) -> Boost {
    Boost {
        name: name.to_owned(),
        when: Matcher::default(),
        feedback: None,
        failed_checks: Vec::new(),
        first: None,
        by: None,
        rate: 1.0,
    }
}

fn floor(per_hour: f64) -> Floor {
    Floor { name: "floor".to_owned(), when: Matcher::default(), by: Dimension::Feature, per_hour }
}

fn ceiling(per_hour: f64) -> Ceiling {
    Ceiling { name: "ceiling".to_owned(), when: Matcher::default(), by: None, per_hour }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_032_000, 0).expect("a time")
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = Sampling {
        default_rate: 1.0,
        rules: vec![rule("chat", "chat*", 0.0), rule("all", "*", 1.0)],
        ..Sampling::default()
    };
    assert_eq!(decide(&policy, &trace("t")).rule, DEFAULT_RULE);
    let decision = decide(&policy, &of_feature("t", "chat_small"));
    assert_eq!((decision.rule.as_str(), decision.kept, decision.probability), ("chat", false, 0.0));
    assert_eq!(decide(&policy, &of_feature("t", "returns")).rule, "all");
}

#[test]
fn behind_a_consistent_sampler_the_rate_is_of_what_reaches_us_and_its_own_is_multiplied_in() {
    let policy = Sampling { default_rate: 0.25, ..Sampling::default() };
    let mut kept = 0;
    for n in 0..4_000_u64 {
        // Upstream keeps 10 %: R is uniform from 0.9 on.
        let r = (0.9 + 0.1 * (n as f64 + 0.5) / 4_000.0) * NEVER as f64;
        let mut one = trace("t");
        one.view.trace_state = Some(format!("ot=th:e6666666666666;rv:{:014x}", whole(r)));
        let decision = decide(&policy, &one);
        assert!((decision.probability - 0.25).abs() < 1e-12);
        assert!(
            (decision.inclusion() - 0.025).abs() < 1e-12 && decision.weight().is_some_and(|w| (w - 40.0).abs() < 1e-9)
        );
        kept += u32::from(decision.kept);
    }
    assert!((990..=1_010).contains(&kept), "{kept} of 4000");
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^56")]
fn whole(x: f64) -> u64 {
    x as u64
}

#[test]
fn a_head_sampler_that_used_the_same_bits_without_saying_so_does_not_spoil_the_draw() {
    // Keeps ids whose lower half is small, as samplers by ratio of the trace id do.
    let policy = Sampling { default_rate: 0.5, ..Sampling::default() };
    let kept = (0..2_000_u64).filter(|n| {
        let mut one = trace(&format!("5b8efff798038103{:016x}", n * 1_000_003));
        one.view.flags = Some(0x03);
        decide(&policy, &one).kept
    });
    let kept = kept.count();
    assert!((900..1_100).contains(&kept), "{kept} of 2000 at a rate of one half");
}

#[test]
fn what_a_sampler_before_us_decided_against_is_left_out_unless_it_is_to_be_ignored() {
    let mut one = trace("t");
    one.view.upstream = Some(Upstream { probability: 0.2, source: "datadog rule".to_owned(), kept: false });
    let decision = decide(&Sampling::default(), &one);
    assert_eq!((decision.kept, decision.rule.as_str(), decision.weight()), (false, LEFT_OUT_UPSTREAM, None));
    let ignoring = Sampling { upstream: UpstreamUse::Ignore, ..Sampling::default() };
    let decision = decide(&ignoring, &one);
    assert!(decision.kept && decision.upstream.is_none() && (decision.inclusion() - 1.0).abs() < 1e-12);
}

#[test]
fn the_share_kept_is_the_rate_and_higher_rates_keep_the_same_traces() {
    let kept = |rate: f64| -> Vec<usize> {
        let policy = Sampling { default_rate: rate, ..Sampling::default() };
        (0..20_000).filter(|n| decide(&policy, &trace(&format!("order-{n}"))).kept).collect()
    };
    let (few, more) = (kept(0.05), kept(0.3));
    assert!((900..1_100).contains(&few.len()) && (5_800..6_200).contains(&more.len()), "{} {}", few.len(), more.len());
    assert!(few.iter().all(|n| more.binary_search(n).is_ok()), "samples are nested");
    assert!(kept(0.0).is_empty());
    assert_eq!(kept(1.0).len(), 20_000);
}

#[test]
fn boosts_raise_the_rate_and_say_why_but_never_what_is_never_wanted() {
    let mut policy = Sampling {
        default_rate: 0.1,
        rules: vec![rule("health", "health*", 0.0)],
        boosts: vec![
            Boost { when: Matcher { status: Some(Status::Error), ..Matcher::default() }, ..boost("errors") },
            Boost { feedback: Some(Feedback::Negative), rate: 0.8, ..boost("disliked") },
            Boost { failed_checks: vec![CheckKind::FailureToAnswer], rate: 0.5, ..boost("refusals") },
        ],
        ..Sampling::default()
    };
    let none = Evidence::default();
    let rate = |policy: &Sampling, evidence: &Evidence, one: &Trace| {
        let decision = draw(policy, &Step::default(), evidence, one).decision;
        (decision.probability * 1e6).round() / 1e6
    };
    let mut plain = of_feature("t", "a");
    plain.view.output = vec![Message::text("assistant", "It is open from nine to five on weekdays.")];
    assert!((rate(&policy, &none, &plain) - 0.1).abs() < 1e-9);
    assert!((rate(&policy, &Evidence { negative_feedback: true }, &plain) - 0.8).abs() < 1e-9);
    let mut refusal = plain.clone();
    refusal.view.output = vec![Message::text("assistant", "I'm sorry, but I can't help with that.")];
    assert!((rate(&policy, &none, &refusal) - 0.5).abs() < 1e-9);
    let mut failed = plain.clone();
    failed.view.status = Status::Error;
    let decision = draw(&policy, &Step::default(), &Evidence { negative_feedback: true }, &failed).decision;
    assert!(decision.kept && (decision.probability - 1.0).abs() < 1e-12);
    assert_eq!(decision.parts.boosts, [("errors".to_owned(), 1.0), ("disliked".to_owned(), 0.8)]);
    assert!((decision.parts.rule - 0.1).abs() < 1e-12 && decision.rule == DEFAULT_RULE);
    failed.view.feature = Some("health_check".to_owned());
    assert!(rate(&policy, &none, &failed).abs() < 1e-12, "a rate of 0 means never");
    policy.default_rate = 0.0;
    assert!(rate(&policy, &Evidence { negative_feedback: true }, &plain).abs() < 1e-12);
}

fn draft(said: Said) -> Draft {
    Draft::of(said)
}

#[test]
fn a_thumbs_down_is_known_in_all_its_forms() {
    for (said, negative) in [
        (Said::Passed(false), true),
        (Said::Passed(true), false),
        (Said::Score(0.2), true),
        (Said::Score(0.5), false),
        (Said::Rating { given: 2.0, worst: 1.0, best: 5.0 }, true),
        (Said::Rating { given: 4.0, worst: 1.0, best: 5.0 }, false),
    ] {
        assert_eq!(is_negative(&draft(said.clone())), negative, "{said:?}");
    }
}

/// A step of a policy with a floor and a ceiling.
fn step_with(floors: &[(&str, f64)], squeeze: Option<Squeeze>) -> Step {
    let mut step = Step { starts_at: start(), ends_at: start() + TimeDelta::seconds(30), ..Step::default() };
    let known = floors.iter().map(|(value, rate)| ((*value).to_owned(), *rate)).collect();
    step.rates.floors.insert("floor".to_owned(), crate::domain::step::Values { known, full: false });
    let known = squeeze.into_iter().map(|squeeze| (String::new(), squeeze)).collect();
    step.rates.ceilings.insert("ceiling".to_owned(), crate::domain::step::Values { known, full: false });
    step
}

#[test]
fn floors_and_ceilings_compose_as_documented() {
    let policy = Sampling {
        default_rate: 0.1,
        rules: vec![rule("much", "much", 0.5)],
        floors: vec![floor(10.0)],
        ceilings: vec![ceiling(100.0)],
        rate_min: 0.01,
        ..Sampling::default()
    };
    let of = |step: &Step, feature: &str| {
        let Draw { decision, counts } = draw(&policy, step, &Evidence::default(), &of_feature("t", feature));
        assert_eq!(counts.len(), 2, "one for each limit");
        assert!(counts.iter().all(|c| (c.expected - decision.probability).abs() < 1e-12));
        decision
    };
    let free = step_with(&[("small", 0.5), ("large", 0.01), ("much", 0.25)], None);
    assert!((of(&free, "small").probability - 0.5).abs() < 1e-12, "the floor is more than the rule");
    assert!((of(&free, "large").probability - 0.1).abs() < 1e-12, "the rule is more than the floor");
    assert!((of(&free, "unheard of").probability - 1.0).abs() < 1e-12, "what was not seen before");
    assert_eq!(of(&free, "small").step, Some(start()));
    let tight = step_with(&[("small", 0.5), ("large", 0.01), ("much", 0.25)], Some(Squeeze { floors: 1.0, rest: 0.5 }));
    let much = of(&tight, "much");
    // 0.25 + 0.5 (0.5 - 0.25) = 0.375, down to 2^(-6/4).
    assert!((much.probability - 2.0_f64.powf(-1.5)).abs() < 1e-12, "{much:?}");
    assert_eq!(much.parts.ceiling.as_ref().map(|(name, _)| name.as_str()), Some("ceiling"));
    assert!((of(&tight, "small").probability - 0.5).abs() < 1e-12, "a floor comes first");
    let shut = step_with(&[("small", 0.5), ("large", 0.0), ("much", 0.0)], Some(Squeeze { floors: 0.0, rest: 0.0 }));
    assert!((of(&shut, "large").probability - 0.01).abs() < 1e-12, "but never without a chance");
}

/// What `draw` counts for these traces, as if they came in one step.
fn counted(policy: &Sampling, step: &Step, traces: &[Trace]) -> Vec<(DateTime<Utc>, Count)> {
    let counts = traces.iter().flat_map(|one| draw(policy, step, &Evidence::default(), one).counts);
    counts.map(|count| (step.starts_at, count)).collect()
}

fn many(feature: &str, n: usize) -> Vec<Trace> {
    (0..n).map(|i| of_feature(&format!("{feature}-{i}"), feature)).collect()
}

/// Runs `steps` of 30 s with so many traces of a feature in each; the expected number kept in the last hour.
fn run(policy: &Sampling, arrivals: impl Fn(usize) -> Vec<Trace>, steps: usize) -> f64 {
    let (mut past, mut now) = (Past::default(), start());
    for n in 0..steps {
        let step = control::next(policy, &past, now);
        past.since.get_or_insert(step.starts_at);
        past.counts.extend(counted(policy, &step, &arrivals(n)));
        now = step.ends_at;
    }
    let last_hour = past.counts.iter().filter(|(at, _)| *at >= now - control::WINDOW);
    last_hour.map(|(_, count)| count.expected).sum()
}

#[test]
fn a_floor_is_kept_by_what_is_large_enough_and_small_ones_are_kept_whole() {
    let policy = Sampling { default_rate: 0.001, floors: vec![floor(20.0)], ..Sampling::default() };
    let kept = run(&policy, |_| many("large", 5), 300);
    assert!((19.0..30.0).contains(&kept), "{kept} of 600 an hour at a floor of 20");
    let kept = run(&policy, |n| many("small", usize::from(n % 10 == 0)), 300);
    assert!((11.0..13.5).contains(&kept), "{kept} of 12 an hour at a floor of 20");
}

#[test]
fn a_ceiling_holds_in_the_long_run_and_after_a_burst() {
    let policy = Sampling { ceilings: vec![ceiling(100.0)], ..Sampling::default() };
    let kept = run(&policy, |_| many("a", 30), 300);
    assert!((70.0..102.0).contains(&kept), "{kept} of 3,600 an hour at a ceiling of 100");
    // A burst of fifty times the traffic in the fifth last step.
    let burst = |n: usize| many("a", if n == 295 { 400 } else { 8 });
    let calm = Sampling { ceilings: vec![ceiling(2_000.0)], ..Sampling::default() };
    let kept = run(&calm, burst, 300);
    assert!(kept < 1_400.0, "{kept}: all of 960 an hour, and the step that could not know");
}

#[test]
fn after_a_start_steps_are_short_and_know_more_each_time() {
    let policy = Sampling { ceilings: vec![ceiling(60.0)], ..Sampling::default() };
    let (mut past, mut now, mut lengths) = (Past::default(), start(), Vec::new());
    let mut first_minute = 0.0;
    while now < start() + TimeDelta::minutes(1) {
        let step = control::next(&policy, &past, now);
        let seconds = (step.ends_at - step.starts_at).num_seconds();
        let counts = counted(&policy, &step, &many("a", usize::try_from(seconds * 20).expect("few")));
        first_minute += counts.iter().map(|(_, c)| c.expected).sum::<f64>();
        past.since.get_or_insert(step.starts_at);
        past.counts.extend(counts);
        lengths.push(seconds);
        now = step.ends_at;
    }
    assert_eq!(&lengths[..5], [1, 1, 2, 4, 8]);
    assert!(first_minute < 25.0, "{first_minute} of 1,200 at a ceiling of one a minute");
}

#[test]
fn a_new_version_is_kept_whole_until_enough_of_it_were_seen_when_the_step_began() {
    let by = Some(Dimension::PromptVersion);
    let policy = Sampling {
        default_rate: 0.1,
        boosts: vec![Boost { first: Some(50), by, ..boost("new") }],
        ..Sampling::default()
    };
    let mut one = trace("t");
    one.view.prompt.version = Some("v2".to_owned());
    let rate = |seen: u64| {
        let past = Past { firsts: vec![("new".to_owned(), "v2".to_owned(), seen)], ..Past::default() };
        let step = control::next(&policy, &past, start());
        let Draw { decision, counts } = draw(&policy, &step, &Evidence::default(), &one);
        assert!(counts.iter().all(|c| c.first && c.value == "v2") && counts.len() == 1);
        decision.probability
    };
    assert!((rate(0) - 1.0).abs() < 1e-12 && (rate(49) - 1.0).abs() < 1e-12);
    assert!((rate(50) - 0.1).abs() < 1e-12);
    let step = control::next(&policy, &Past::default(), start());
    let without = draw(&policy, &step, &Evidence::default(), &trace("t"));
    assert!(
        (without.decision.probability - 0.1).abs() < 1e-12 && without.counts.is_empty(),
        "no version is no new one"
    );
}

#[test]
fn values_beyond_the_most_that_are_told_apart_are_counted_together() {
    let by = Some(Dimension::PromptVersion);
    let policy = Sampling {
        default_rate: 0.001,
        values_max: 3,
        floors: vec![floor(3_600.0)],
        boosts: vec![Boost { first: Some(5), by, ..boost("new") }],
        ..Sampling::default()
    };
    let first = control::next(&policy, &Past::default(), start());
    let traces: Vec<Trace> = (0..9).flat_map(|n| many(&format!("f{n}"), 10 * (10 - n))).collect();
    let firsts = (0..3).map(|n| ("new".to_owned(), format!("v{n}"), 1)).collect();
    let past = Past { since: Some(start()), counts: counted(&policy, &first, &traces), firsts };
    let step = control::next(&policy, &past, start() + TimeDelta::seconds(30));
    let floors = &step.rates.floors["floor"];
    assert!(floors.full && floors.known.len() == 4 && floors.known.contains_key(OTHERS), "{floors:?}");
    assert_eq!((floors.counted_as("f0"), floors.counted_as("f8"), floors.counted_as("new")), ("f0", OTHERS, OTHERS));
    let mut one = trace("t");
    one.view.prompt.version = Some("v9".to_owned());
    let counts = draw(&policy, &step, &Evidence::default(), &one).counts;
    assert!(counts.iter().all(|c| !c.first), "no row for each of endless versions");
}

#[test]
fn over_simulated_days_weighted_estimates_are_right_and_the_plain_mean_is_not() {
    use crate::stats::estimate::Level;
    use crate::stats::hajek::Target;
    use crate::stats::survey::{Stratum, mean};
    let (mut weighted, mut plain) = (days::Record::default(), days::Record::default());
    for day in (0..8).flat_map(|seed| days::week(6_100_000 + seed, 600)) {
        let truth = day.failures.iter().sum::<f64>() / day.traces.iter().sum::<f64>();
        let items: Vec<(f64, f64)> = day.kept.iter().map(|k| (k.failed, k.inclusion)).collect();
        let size = items.iter().map(|(_, pi)| 1.0 / pi).sum();
        let survey = mean(&[Stratum { size, items: &items, clusters: None }], Target::Population).expect("a sample");
        let interval = survey.rate_interval(Level::P95).expect("a rate");
        weighted.note(survey.estimate.value, truth, (interval.low..=interval.high).contains(&truth));
        let mean = items.iter().map(|(y, _)| y).sum::<f64>() / items.len() as f64;
        plain.note(mean, truth, false);
        assert!(day.kept.iter().all(|k| k.feature < 4) && day.hazard.iter().sum::<f64>() > 0.0);
    }
    assert!(weighted.bias().abs() < 3.5, "{}", weighted.bias());
    assert!((0.9..=1.0).contains(&weighted.coverage()), "{} of 56 days", weighted.coverage());
    assert!(plain.bias() > 10.0, "the plain mean is off by {} standard errors", plain.bias());
}

proptest::proptest! {
    #[test]
    fn the_stored_probability_is_that_of_the_threshold(rate in 0.0f64..=1.0) {
        proptest::prop_assert!((probability(threshold(rate)) - rate).abs() < 1e-15);
    }

    #[test]
    fn whatever_the_past_every_wanted_trace_has_a_chance_and_none_more_than_its_limits_allow(
        base in 0.0f64..=1.0, floors in 0.1f64..500.0, ceilings in 0.1f64..500.0,
        batches in proptest::collection::vec((1i64..3_000, 1usize..40), 0..8),
    ) {
        let policy = Sampling {
            default_rate: base, floors: vec![floor(floors)], ceilings: vec![ceiling(ceilings)], ..Sampling::default()
        };
        let (mut past, now) = (Past::default(), start() + TimeDelta::hours(1));
        for (ago, n) in batches {
            let step = control::next(&policy, &past, now - TimeDelta::seconds(ago));
            past.since.get_or_insert(step.starts_at);
            past.counts.extend(counted(&policy, &step, &many("a", n)));
        }
        let step = control::next(&policy, &past, now);
        let rates = &step.rates;
        for rate in rates.floors["floor"].known.values() {
            proptest::prop_assert!((0.0..=1.0).contains(rate));
        }
        for squeeze in rates.ceilings["ceiling"].known.values() {
            proptest::prop_assert!((0.0..=1.0).contains(&squeeze.floors) && (0.0..=1.0).contains(&squeeze.rest));
        }
        let decision = draw(&policy, &step, &Evidence::default(), &of_feature("x", "a")).decision;
        proptest::prop_assert_eq!(decision.probability > 0.0, base > 0.0);
        proptest::prop_assert!(decision.probability <= 1.0);
        let again = draw(&policy, &step, &Evidence::default(), &of_feature("x", "a")).decision;
        proptest::prop_assert_eq!(decision, again);
    }
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
    let upstream = decision.upstream.expect("the sampler before us has said its rate");
    assert!((upstream.probability - 0.25).abs() < 1e-12, "which still counts for the trace");
    policy.sessions = SessionDraw::Apart;
    assert_eq!(decide(&policy, &one(1, 1)).source, "tracestate rv");
}
