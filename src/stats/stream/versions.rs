//! The versions of a stream: counters of each, a day each, and each version against those before it.
//!
//! Used by `stats::stream`. Its rule: a sum of whole numbers by day of completion, so order, splitting and re-scoring leave no
//! trace; what is older than sixty days goes, and so does the oldest version beyond a dozen. The way not taken: against the
//! last version alone, which a short-lived version makes worthless.

use crate::stats::invalid::Invalid;
use crate::stats::kernel::tally::Tally;
use crate::stats::kernel::version::{Comparison, Question, compare};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most versions that are kept.
const VERSIONS_MAX: usize = 12;
/// Days after which counters go.
const DAYS_KEPT: i64 = 60;
/// Days before a version that it is compared with.
const DAYS_BEFORE: i64 = 28;

/// A version against those before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionFinding {
    /// The version.
    pub version: String,
    /// Those that were first seen before it.
    pub against: Vec<String>,
    /// When its first score was completed.
    pub first_seen: DateTime<Utc>,
    /// What the evidence says.
    pub comparison: Comparison,
}

/// Counters of each version of one thing: prompt, model or service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Versions(BTreeMap<String, Seen>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// The hour of its first score.
    first: i64,
    /// The microsecond of it; what was stored before this was kept has the hour only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_us: Option<i64>,
    days: BTreeMap<i64, Tally>,
}

impl Seen {
    /// When its first score was completed.
    fn began(&self) -> DateTime<Utc> {
        let exact = self.first_us.and_then(DateTime::from_timestamp_micros);
        exact.unwrap_or_else(|| super::time_of(self.first))
    }
}

impl Versions {
    /// Counts a score of a version, completed at this time.
    ///
    /// # Errors
    /// When loss or inclusion probability are out of range; nothing is counted then.
    pub fn count(
        &mut self,
        version: &str,
        completed_at: DateTime<Utc>,
        (loss, inclusion): (f64, f64),
    ) -> Result<(), Invalid> {
        let mut one = Tally::default();
        one.add(loss, inclusion)?;
        self.add(version, completed_at, &one);
        Ok(())
    }

    /// Takes back a score that was counted with the same arguments; one that was not, or is forgotten, is left alone.
    ///
    /// # Errors
    /// As `count`.
    pub fn uncount(
        &mut self,
        version: &str,
        completed_at: DateTime<Utc>,
        (loss, inclusion): (f64, f64),
    ) -> Result<(), Invalid> {
        let day = super::hour_of(completed_at).div_euclid(24);
        let Some(known) = self.0.get_mut(version) else { return Ok(()) };
        if let Some(tally) = known.days.get_mut(&day) {
            tally.take(loss, inclusion)?;
        }
        known.days.retain(|_, tally| !tally.is_empty());
        if known.days.is_empty() {
            self.0.remove(version);
        }
        Ok(())
    }

    /// The versions with the time when each was first seen, the oldest first.
    #[must_use]
    pub fn first_seen(&self) -> Vec<(&str, DateTime<Utc>)> {
        let mut seen: Vec<(&str, DateTime<Utc>)> =
            self.0.iter().map(|(version, days)| (version.as_str(), days.began())).collect();
        seen.sort_by_key(|(version, at)| (*at, *version));
        seen
    }

    /// Adds (or takes back) scores that were completed at this time, or in its hour and not before it.
    pub(super) fn add(&mut self, version: &str, completed_at: DateTime<Utc>, scores: &Tally) {
        if version.is_empty() {
            return;
        }
        let (hour, at_us) = (super::hour_of(completed_at), completed_at.timestamp_micros());
        let day = hour.div_euclid(24);
        if let Some(known) = self.0.get_mut(version) {
            known.first_us = Some(known.began().timestamp_micros().min(at_us));
            known.first = known.first.min(hour);
            known.days.entry(day).or_default().merge(scores);
            if known.days.len() > usize::try_from(DAYS_KEPT).unwrap_or(usize::MAX) {
                known.days.pop_first();
            }
            return;
        }
        let days = Seen { first: hour, first_us: Some(at_us), days: BTreeMap::from([(day, scores.clone())]) };
        self.0.insert(version.to_owned(), days);
        if self.0.len() > VERSIONS_MAX {
            let oldest = self.0.iter().min_by_key(|(name, days)| (days.began(), *name)).map(|(name, _)| name.clone());
            oldest.map(|name| self.0.remove(&name));
        }
    }

    /// Each version against those that were first seen before it.
    ///
    /// # Errors
    /// When delta, alpha or phi are out of range.
    pub fn compare(&self, delta: f64, alpha: f64, phi: f64) -> Result<Vec<VersionFinding>, Invalid> {
        let question = Question { delta, alpha, phi };
        let mut found = Vec::new();
        for (version, own) in &self.0 {
            let from = own.first.div_euclid(24) - DAYS_BEFORE;
            let earlier: Vec<_> =
                self.0.iter().filter(|(name, days)| (days.began(), *name) < (own.began(), version)).collect();
            let (mut before, mut after) = (Tally::default(), Tally::default());
            for (_, days) in &earlier {
                days.days.range(from..).for_each(|(_, tally)| before.merge(tally));
            }
            own.days.values().for_each(|tally| after.merge(tally));
            if !before.is_empty() {
                let against = earlier.into_iter().map(|(name, _)| name.clone()).collect();
                let comparison = compare(&before, &after, &question)?;
                let first_seen = own.began();
                found.push(VersionFinding { version: version.clone(), against, first_seen, comparison });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn versions_of_one_hour_are_in_the_order_in_which_they_came() {
        let start = DateTime::from_timestamp(1_750_000_000, 0).expect("a date");
        let at = |minutes| start + TimeDelta::minutes(minutes);
        // Told out of order, and with names in the other order: nothing of that counts.
        for order in [[("a", 9), ("b", 2), ("c", 5)], [("c", 5), ("a", 9), ("b", 2)]] {
            let mut versions = Versions::default();
            for (name, minutes) in order {
                for more in [20, 0, 10] {
                    versions.count(name, at(minutes + more), (0.0, 1.0)).expect("in range");
                }
            }
            assert_eq!(versions.first_seen(), [("b", at(2)), ("c", at(5)), ("a", at(9))]);
            let found = versions.compare(0.0, 0.05, 1.0).expect("in range");
            let against = |name: &str| found.iter().find(|f| f.version == name).map(|f| f.against.clone());
            assert_eq!((against("b"), against("c")), (None, Some(vec!["b".to_owned()])));
            assert_eq!(against("a"), Some(vec!["b".to_owned(), "c".to_owned()]));
        }
        // What was stored with the hour alone can be read, and keeps its place.
        let old: Versions = serde_json::from_str(r#"{"a": {"first": 0, "days": {}}}"#).expect("as it was stored");
        assert_eq!(old.first_seen(), [("a", DateTime::UNIX_EPOCH)]);
    }
}
