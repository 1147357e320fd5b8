//! Were as many traces kept as the sampling rules say, or are some lost on the way?
//!
//! Called by `pipeline::watch` once an hour. Its rule: evidence is computed anew from the tallies of the week, so it has no state
//! that could be lost; rates may differ from hour to hour. The way not taken: a chi-square test every hour, which alarms
//! every few days.

use super::WatchError;
use crate::app::App;
use crate::domain::alert::{Estimate, Evidence, Finding, Kind, Measure, Severity};
use crate::stats::invalid::Invalid;
use crate::stats::sample_ratio::{ALARM_AT, SampleRatio};
use crate::store::watch::Kept;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What the prior weighs: deviations of a few points are looked for.
const CONCENTRATION: f64 = 100.0;

/// Rules whose numbers do not fit their rates.
pub(super) async fn findings(app: &App, now: DateTime<Utc>) -> Result<Vec<Finding>, WatchError> {
    let week = now.duration_trunc(TimeDelta::weeks(1)).unwrap_or(now);
    let hours = app.store.kept_by_hour(week, now).await?;
    Ok(mismatches(&hours, (week, now))?)
}

fn mismatches(hours: &[Kept], (since, now): (DateTime<Utc>, DateTime<Utc>)) -> Result<Vec<Finding>, Invalid> {
    // A rate each: what was learnt at one says nothing of another.
    let mut rates: BTreeMap<(&str, u64), Counted> = BTreeMap::new();
    for hour in hours {
        let (seen, kept) = (hour.seen as f64, hour.kept as f64);
        let key = (hour.rule.as_str(), hour.probability.to_bits());
        let counted = match rates.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let ratio = SampleRatio::new(2, CONCENTRATION)?;
                new.insert(Counted { ratio, best: 0.0, sums: [0.0; 3] })
            }
        };
        let log_e = counted.ratio.update(&[kept, seen - kept], &[hour.probability, 1.0 - hour.probability])?;
        // What has reached its level has, whatever comes after it.
        counted.best = counted.best.max(log_e);
        for (sum, more) in counted.sums.iter_mut().zip([seen, kept, seen * hour.probability]) {
            *sum += more;
        }
    }
    let mut worst: BTreeMap<&str, &Counted> = BTreeMap::new();
    let tests = rates.len() as f64;
    for ((rule, _), counted) in rates.iter().filter(|(_, c)| c.best >= (ALARM_AT * tests).ln() && c.sums[0] > 0.0) {
        let known = worst.entry(rule).or_insert(counted);
        if counted.best > known.best {
            *known = counted;
        }
    }
    Ok(worst.into_iter().map(|(rule, counted)| finding(rule, counted, (since, now))).collect())
}

/// What was counted of a rule at one rate.
struct Counted {
    ratio: SampleRatio,
    /// The greatest evidence so far, as a logarithm.
    best: f64,
    /// Traces seen, kept, and to be kept on average.
    sums: [f64; 3],
}

fn finding(rule: &str, counted: &Counted, (since, now): (DateTime<Utc>, DateTime<Utc>)) -> Finding {
    let [seen, kept, expected] = counted.sums;
    let share = |part: f64| Some(Estimate { value: part / seen, lower: None, upper: None });
    let evidence = Evidence { e_value: Some(counted.best.exp()), alpha: Some(1.0 / ALARM_AT), ..Evidence::default() };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of traces")]
    let n = seen as u64;
    Finding {
        kind: Kind::SamplingMismatch,
        measure: Measure::KeptShare,
        rubric: None,
        rubric_version: None,
        stream: [("rule".to_owned(), rule.to_owned())].into(),
        from: share(expected),
        to: share(kept),
        limit: None,
        since,
        found_at: now,
        n,
        n_eff: seen,
        weights: None,
        evidence,
        versions: Vec::new(),
        severity: Severity::Warning,
        examples: Vec::new(),
        deploys: Vec::new(),
        runbook: None,
        canaries: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(kept: i64) -> Vec<Kept> {
        let hour = |_| Kept { rule: "default".to_owned(), probability: 0.1, seen: 1_000, kept };
        (0..24).map(hour).collect()
    }

    #[test]
    fn numbers_that_fit_their_rate_are_no_trouble_and_lost_traces_are() {
        let span = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(1));
        assert_eq!(mismatches(&hours(100), span), Ok(Vec::new()));
        assert_eq!(mismatches(&hours(103), span), Ok(Vec::new()), "chance");
        let found = mismatches(&hours(80), span).expect("valid numbers").remove(0);
        assert_eq!((found.kind, found.stream["rule"].as_str(), found.n), (Kind::SamplingMismatch, "default", 24_000));
        let value = |e: Option<Estimate>| e.expect("it has both").value;
        assert!((value(found.from) - 0.1).abs() < 1e-12 && (value(found.to) - 0.08).abs() < 1e-12);
        assert_eq!(mismatches(&[], span), Ok(Vec::new()));
        // A week in which everything was kept hides nothing of what is lost at another rate.
        let all = Kept { probability: 1.0, seen: 100_000, kept: 100_000, ..hours(0)[0].clone() };
        let mixed: Vec<Kept> = std::iter::once(all).chain(hours(80)).collect();
        assert_eq!(mismatches(&mixed, span).map(|found| found.len()), Ok(1));
    }
}
