//! The rates of the next step, from the counts of the last hour. Pure.
//!
//! Called by `pipeline::steps`, and by simulations. Its rule: only what was counted before the step begins goes in, and only
//! numbers that do not depend on draws, so that the next trace's inclusion probability is fixed before its bits are looked at.
//! For a step of L seconds, n traces an hour, K of them expected to be kept in the last hour:
//!
//! - a floor gives min(1, B / a), B = n L/3600 + the deficit (n - n L/3600 - K)+ made up within ten minutes, a = arrivals expected
//!   by the lower of the hour's speed and the last minutes';
//! - a ceiling has B = n L/3600 less the excess within ten minutes, at least a tenth of it, and of the sums that are expected by
//!   the higher of the last minutes' and the last step's speed, F of floors and U of all that is wanted, leaves min(1, B/F) of the
//!   floors and (B - F)/(U - F), 0 to 1, of the rest.
//!
//! The way not taken: rates by what was kept, which would make them random.

use crate::config::Sampling;
use crate::domain::step::{Count, OTHERS, Past, Rates, Squeeze, Step, Values};
use crate::stats::thresholds::quantised;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// How far back counts go.
pub const WINDOW: TimeDelta = TimeDelta::hours(1);

/// Over how many seconds the recent speed is taken.
const RECENT_SECONDS: f64 = 300.0;

/// Within how many seconds a deficit or an excess is made up.
const MEND_SECONDS: f64 = 600.0;

/// Part of its pace that a ceiling leaves at least while an excess is made up.
const PACE_MIN: f64 = 0.1;

/// Fewer traces than this in the last step say nothing about its speed.
const BURST_MIN: f64 = 10.0;

/// The step that begins now; without budgets, which the caller knows.
#[must_use]
pub fn next(policy: &Sampling, past: &Past, now: DateTime<Utc>) -> Step {
    let counts = || past.counts.iter().filter(|(at, _)| *at < now && *at >= now - WINDOW);
    // After a start a second tells much: steps are as long as what is known of the past, until they have their length.
    let known_seconds = past.since.map_or(0, |since| (now - since).num_seconds());
    let full_length = i64::try_from(policy.step_seconds).unwrap_or(i64::MAX);
    let length = if policy.adapts() { known_seconds.clamp(1, full_length) } else { full_length };
    let courses = Courses::of(counts(), now, full_length as f64);
    let mut rates = Rates::default();
    for floor in &policy.floors {
        let give = |course: &Course| floor_rate(course, floor.per_hour, length as f64);
        rates.floors.insert(floor.name.clone(), courses.values(&floor.name, policy.values_max, give));
    }
    for ceiling in &policy.ceilings {
        let leave = |course: &Course| squeeze(course, ceiling.per_hour, length as f64);
        rates.ceilings.insert(ceiling.name.clone(), courses.values(&ceiling.name, policy.values_max, leave));
    }
    for boost in &policy.boosts {
        let Some(first) = boost.first else { continue };
        let of_boost = || past.firsts.iter().filter(|(name, ..)| *name == boost.name);
        let old = of_boost().filter(|(_, _, seen)| *seen >= u64::from(first));
        let mut values = Values { known: old.map(|(_, value, _)| (value.clone(), ())).collect(), full: false };
        if of_boost().count() >= policy.values_max {
            values.full = true;
            values.known.insert(OTHERS.to_owned(), ());
        }
        rates.not_new.insert(boost.name.clone(), values);
    }
    Step { starts_at: now, ends_at: now + TimeDelta::seconds(length), rates }
}

/// What was counted of one value of a limit, as speeds in traces a second.
#[derive(Debug, Clone, Copy, Default)]
struct Course {
    /// Traces in the hour.
    seen: f64,
    /// Of them, those expected to be kept.
    expected: f64,
    /// Seconds since it was first seen.
    seconds: f64,
    /// Arrivals in the last minutes, a second.
    recent: f64,
    /// The same of what floors give, and of all that is wanted; by the last step where that is more.
    floored_peak: f64,
    wanted_peak: f64,
}

/// The courses of all limits and values.
struct Courses<'a>(BTreeMap<&'a str, BTreeMap<&'a str, Vec<Counted<'a>>>>);

/// Middle of the step in seconds before now, its length, what was counted, and whether it is the last step.
type Counted<'a> = (f64, f64, &'a Count, bool);

impl<'a> Courses<'a> {
    fn of(counts: impl Iterator<Item = &'a (DateTime<Utc>, Count)> + Clone, now: DateTime<Utc>, longest: f64) -> Self {
        let starts: BTreeSet<DateTime<Utc>> = counts.clone().map(|(at, _)| *at).collect();
        let mut all: BTreeMap<&str, BTreeMap<&str, Vec<Counted>>> = BTreeMap::new();
        for (at, count) in counts {
            let following = starts.range(*at..).nth(1);
            let length = (*following.unwrap_or(&now) - *at).as_seconds_f64().clamp(1.0, longest);
            let age = (now - *at).as_seconds_f64() - length / 2.0;
            let rows = all.entry(&count.limit).or_default().entry(&count.value).or_default();
            rows.push((age.max(0.0), length, count, following.is_none()));
        }
        Self(all)
    }

    /// Something for each value of a limit; those with the fewest traces beyond the most that are told apart together.
    fn values<T>(&self, limit: &str, most: usize, make: impl Fn(&Course) -> T) -> Values<T> {
        let none = BTreeMap::new();
        let by_value = self.0.get(limit).unwrap_or(&none);
        let mut ranked: Vec<(&str, &Vec<Counted>, f64)> = by_value
            .iter()
            .map(|(value, rows)| (*value, rows, rows.iter().map(|(_, _, count, _)| count.seen).sum()))
            .collect();
        ranked.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(b.0)));
        let full = ranked.iter().filter(|(value, ..)| *value != OTHERS).count() >= most;
        let mut values = Values { known: BTreeMap::new(), full };
        let mut others: Vec<Counted> = Vec::new();
        for (value, rows, _) in ranked {
            if value == OTHERS || values.known.len() >= most {
                others.extend(rows);
            } else {
                values.known.insert(value.to_owned(), make(&course(rows)));
            }
        }
        if full && !others.is_empty() {
            values.known.insert(OTHERS.to_owned(), make(&course(&others)));
        }
        values
    }
}

fn course(rows: &[Counted]) -> Course {
    // Since the start of the first step in which it was seen.
    let seconds = rows.iter().map(|(age, length, ..)| age + length / 2.0).fold(1.0, f64::max);
    let sum = |of: fn(&Count) -> f64| rows.iter().map(|(_, _, count, _)| of(count)).sum::<f64>();
    // An exponential mean over the time since then.
    let reach = RECENT_SECONDS * (1.0 - (-seconds / RECENT_SECONDS).exp());
    let recent = |of: fn(&Count) -> f64| {
        rows.iter().map(|(age, _, count, _)| of(count) * (-age / RECENT_SECONDS).exp()).sum::<f64>() / reach
    };
    let last = |of: fn(&Count) -> f64| {
        let rows = || rows.iter().filter(|(_, _, _, is_last)| *is_last);
        let enough = rows().map(|(_, _, count, _)| count.seen).sum::<f64>() >= BURST_MIN;
        rows().filter(|_| enough).map(|(_, length, count, _)| of(count) / length).sum::<f64>()
    };
    Course {
        seen: sum(|c| c.seen),
        expected: sum(|c| c.expected),
        seconds,
        recent: recent(|c| c.seen),
        floored_peak: recent(|c| c.floored).max(last(|c| c.floored)),
        wanted_peak: recent(|c| c.wanted).max(last(|c| c.wanted)),
    }
}

fn floor_rate(course: &Course, per_hour: f64, length: f64) -> f64 {
    let pace = per_hour * length / 3600.0;
    let deficit = (per_hour - pace - course.expected).max(0.0);
    let wanted = pace + deficit * (length / MEND_SECONDS).min(1.0);
    let arrivals = (course.seen / course.seconds).min(course.recent) * length;
    if arrivals <= wanted {
        return 1.0;
    }
    let exact = wanted / arrivals;
    let down = quantised(exact).unwrap_or(exact);
    // Up to the next class, so that the floor is kept.
    if down >= exact * (1.0 - 1e-9) { down } else { (down * 2.0_f64.powf(0.25)).min(1.0) }
}

fn squeeze(course: &Course, per_hour: f64, length: f64) -> Squeeze {
    let pace = per_hour * length / 3600.0;
    let excess = (course.expected - (per_hour - pace)).max(0.0);
    let left = (pace - excess * (length / MEND_SECONDS).min(1.0)).max(pace * PACE_MIN);
    let (floored, wanted) = (course.floored_peak * length, course.wanted_peak * length);
    Squeeze {
        floors: if floored > left { left / floored } else { 1.0 },
        rest: if wanted > left { ((left - floored) / (wanted - floored)).clamp(0.0, 1.0) } else { 1.0 },
    }
}
