//! The rate of one trace: rule, boosts, floors and ceilings put together.
//!
//! Called by `pipeline::sample`. With r the rate of the first rule that fits, b the highest rate of the boosts that apply and f the
//! highest rate that a floor gives: wanted u = max(r, b, f); a ceiling leaves g min(f, u) + h (u - f), floors first, the rest in
//! proportion; the rate is the least that a ceiling leaves, rounded down to 2^(-k/4), but not below `rate_min` (or u, if that is
//! less). r = 0 means never. The way not taken: min(u, ceiling), which would take from boosted traces before all others.

use super::{DEFAULT_RULE, Evidence, any_fails};
use crate::config::Sampling;
use crate::domain::dimension::Dimension;
use crate::domain::limit::{Boost, Feedback};
use crate::domain::policy::{Matcher, RateParts};
use crate::domain::step::{Count, Squeeze, Step};
use crate::domain::trace::Trace;
use crate::domain::verdict::TraceLabels;
use crate::pipeline::enqueue::labels;
use crate::stats::thresholds::quantised;

/// A trace's rate and how it came about.
#[derive(Debug, Clone)]
pub struct Rate {
    /// 0 to 1.
    pub own: f64,
    /// The rule that fitted first.
    pub rule: String,
    /// How it came about.
    pub parts: RateParts,
    /// What it adds to the counts of limits.
    pub counts: Vec<Count>,
}

/// The rate of a trace.
#[must_use]
pub fn rate(policy: &Sampling, step: &Step, evidence: &Evidence, trace: &Trace) -> Rate {
    let first = policy.rules.iter().find(|rule| rule.when.refused_by(trace).is_none());
    let (rule, base) = first.map_or((DEFAULT_RULE, policy.default_rate), |r| (r.name.as_str(), r.rate));
    let mut rate = Rate {
        own: base,
        rule: rule.to_owned(),
        parts: RateParts { rule: base, ..RateParts::default() },
        counts: vec![],
    };
    if base <= 0.0 {
        return rate;
    }
    let about = About { trace, evidence, labels: labels(&trace.view) };
    boosts(policy, step, &about, &mut rate);
    let floor = floors(policy, step, &about, &mut rate);
    let boosted = rate.parts.boosts.iter().map(|(_, rate)| *rate).fold(base, f64::max);
    let wanted = boosted.max(floor);
    rate.own = wanted;
    ceilings(policy, step, &about, (floor, wanted), &mut rate);
    for count in rate.counts.iter_mut().filter(|c| !c.first) {
        (count.floored, count.wanted, count.expected) = (floor, wanted, rate.own);
    }
    rate
}

/// A trace and what limits look at.
struct About<'a> {
    trace: &'a Trace,
    evidence: &'a Evidence,
    labels: TraceLabels,
}

impl About<'_> {
    fn fits(&self, when: &Matcher) -> bool {
        when.refused_by(self.trace).is_none()
    }

    /// The trace's value; empty where it has none, or where everything is counted together.
    fn value(&self, by: Option<Dimension>) -> &str {
        by.and_then(|by| by.of(&self.labels)).unwrap_or_default()
    }
}

fn counted(limit: &str, value: &str, first: bool) -> Count {
    Count { limit: limit.to_owned(), value: value.to_owned(), first, seen: 1.0, ..Count::default() }
}

fn boosts(policy: &Sampling, step: &Step, about: &About, rate: &mut Rate) {
    for boost in policy.boosts.iter().filter(|boost| about.fits(&boost.when)) {
        if boost.feedback == Some(Feedback::Negative) && !about.evidence.negative_feedback {
            continue;
        }
        if !boost.failed_checks.is_empty() && !any_fails(&boost.failed_checks, about.trace) {
            continue;
        }
        if boost.first.is_some() && !is_new(boost, step, about, rate) {
            continue;
        }
        rate.parts.boosts.push((boost.name.clone(), boost.rate));
    }
}

/// Whether the trace's value had fewer than `first` traces when the step began; the trace is counted.
fn is_new(boost: &Boost, step: &Step, about: &About, rate: &mut Rate) -> bool {
    let (value, old) = (about.value(boost.by), step.rates.not_new.get(&boost.name));
    // Traces without a version are no new version; and without a step nobody knows what is new.
    if value.is_empty() || step.began().is_none() || old.is_some_and(|old| old.counted_as(value) != value) {
        return false;
    }
    rate.counts.push(counted(&boost.name, value, true));
    old.is_none_or(|old| old.get(value).is_none())
}

/// The highest rate of the floors that fit; 0 where none does.
fn floors(policy: &Sampling, step: &Step, about: &About, rate: &mut Rate) -> f64 {
    for floor in policy.floors.iter().filter(|floor| about.fits(&floor.when)) {
        let (value, rates) = (about.value(Some(floor.by)), step.rates.floors.get(&floor.name));
        let counted_as = rates.map_or(value, |rates| rates.counted_as(value));
        // Of a value that was not seen before everything is kept, unless there is no step to say what was seen.
        let gives = match (rates, step.began()) {
            (Some(rates), _) => rates.get(value).copied().unwrap_or(1.0),
            (None, Some(_)) => 1.0,
            (None, None) => 0.0,
        };
        rate.counts.push(counted(&floor.name, counted_as, false));
        if rate.parts.floor.as_ref().is_none_or(|(_, most)| gives > *most) {
            rate.parts.floor = Some((floor.name.clone(), gives));
        }
    }
    rate.parts.floor.as_ref().map_or(0.0, |(_, gives)| *gives)
}

fn ceilings(policy: &Sampling, step: &Step, about: &About, (floor, wanted): (f64, f64), rate: &mut Rate) {
    for ceiling in policy.ceilings.iter().filter(|ceiling| about.fits(&ceiling.when)) {
        let (value, rates) = (about.value(ceiling.by), step.rates.ceilings.get(&ceiling.name));
        rate.counts.push(counted(&ceiling.name, rates.map_or(value, |rates| rates.counted_as(value)), false));
        let Some(squeeze) = rates.and_then(|rates| rates.get(value)) else { continue };
        let left = squeezed(*squeeze, floor, wanted);
        if left < rate.own {
            rate.own = left;
            rate.parts.ceiling = Some((ceiling.name.clone(), left));
        }
    }
    if let Some((_, left)) = &mut rate.parts.ceiling {
        let rounded = quantised(rate.own.clamp(0.0, 1.0)).unwrap_or(rate.own);
        rate.own = rounded.max(policy.rate_min.min(wanted));
        *left = rate.own;
    }
}

/// What a ceiling leaves: floors first, the rest in proportion.
fn squeezed(squeeze: Squeeze, floor: f64, wanted: f64) -> f64 {
    squeeze.floors * floor.min(wanted) + squeeze.rest * (wanted - floor).max(0.0)
}
