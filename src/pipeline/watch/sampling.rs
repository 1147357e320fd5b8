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

/// What the prior weighs: deviations of a few points are looked for.
const CONCENTRATION: f64 = 100.0;

/// Rules whose numbers do not fit their rates.
pub(super) async fn findings(app: &App, now: DateTime<Utc>) -> Result<Vec<Finding>, WatchError> {
    let week = now.duration_trunc(TimeDelta::weeks(1)).unwrap_or(now);
    let hours = app.store.kept_by_hour(week, now).await?;
    Ok(mismatches(&hours, (week, now))?)
}

fn mismatches(hours: &[Kept], (since, now): (DateTime<Utc>, DateTime<Utc>)) -> Result<Vec<Finding>, Invalid> {
    let mut rules: BTreeMap<&str, (SampleRatio, [f64; 3])> = BTreeMap::new();
    for hour in hours {
        let (seen, kept) = (hour.seen as f64, hour.kept as f64);
        if !rules.contains_key(hour.rule.as_str()) {
            rules.insert(&hour.rule, (SampleRatio::new(2, CONCENTRATION)?, [0.0; 3]));
        }
        let Some((ratio, sums)) = rules.get_mut(hour.rule.as_str()) else { continue };
        let shares = [hour.probability, 1.0 - hour.probability];
        ratio.update(&[kept, seen - kept], &shares)?;
        for (sum, more) in sums.iter_mut().zip([seen, kept, seen * hour.probability]) {
            *sum += more;
        }
    }
    let wrong = rules.into_iter().filter(|(_, (ratio, [seen, ..]))| ratio.alarms() && *seen > 0.0);
    Ok(wrong.map(|(rule, (ratio, sums))| finding(rule, &ratio, sums, (since, now))).collect())
}

fn finding(
    rule: &str,
    ratio: &SampleRatio,
    [seen, kept, expected]: [f64; 3],
    (since, now): (DateTime<Utc>, DateTime<Utc>),
) -> Finding {
    let share = |part: f64| Some(Estimate { value: part / seen, lower: None, upper: None });
    let evidence = Evidence { e_value: Some(ratio.log_e().exp()), alpha: Some(1.0 / ALARM_AT), ..Evidence::default() };
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
    }
}
