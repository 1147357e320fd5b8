//! A watched stream: the scores of one rubric in one slice of traffic, its change scan and its version tests.
//!
//! Called by the step that watches: load the state, `add` scores, `close` the hours that are over, store the state, act on
//! the `Finding`. The state is plain data (serde): counters of each hour and of each version and day, and the scan. Its rules:
//! time is an argument; the same scores give the same state, to the last bit, with or without a restart; what a version
//! test says does not depend on the order of scores. Hours are those in which judging completed: if failures are judged sooner
//! than passes, hours of the traces themselves look worse than they are until the last score is in. The way not taken:
//! thresholds on a window, which alarm often or see nothing, and have to be tuned for every stream.
//!
//! ```
//! use assize::stats::stream::{Finding, Rules, Score, Stream};
//! use chrono::{DateTime, Duration};
//!
//! let start = DateTime::from_timestamp(1_750_000_000, 0).expect("a date");
//! let rules = Rules { alpha_scan: 0.005, ..Rules::default() };
//! let mut stream = Stream::default();
//! // Forty scores an hour: one in ten fails for ten days, then three in ten.
//! for i in 0..40 * 24 * 12_u32 {
//!     let completed_at = start + Duration::seconds(90 * i64::from(i));
//!     let fails = i % 10 < if i < 40 * 240 { 1 } else { 3 };
//!     let mut score = Score::new(completed_at, if fails { 1.0 } else { 0.0 });
//!     score.version = "v1";
//!     stream.add(&score)?;
//! }
//! // The state goes to the database and comes back.
//! let stored = serde_json::to_string(&stream).expect("plain data");
//! let mut stream: Stream = serde_json::from_str(&stored).expect("its own text");
//! let Finding::Alarm(alarm) = stream.close(start + Duration::days(12), &rules)? else { panic!("a drop of 20 points") };
//! assert!((alarm.since - (start + Duration::days(10))).abs() <= Duration::hours(2));
//! assert!(alarm.before.high < alarm.after.low);
//! assert!(alarm.log_e >= (1.0 / rules.alpha_scan).ln());
//! # Ok::<(), assize::stats::invalid::Invalid>(())
//! ```

mod epoch;
mod versions;

use super::invalid::{Invalid, probability, within};
use super::kernel::tally::Tally;
use super::kernel::version::Arm;
use super::planner;
use chrono::{DateTime, Utc};
use epoch::{Epoch, Hours};
use serde::{Deserialize, Serialize};
pub use versions::{VersionFinding, Versions};

/// Seconds of an hour.
const HOUR_SECONDS: i64 = 3600;
/// Hours of an epoch: a change is looked for that begins in it, with equal prior probability for each.
pub const EPOCH_HOURS: i64 = 30 * 24;
/// Hours of history that the next epoch starts from.
const HISTORY_HOURS: i64 = 28 * 24;
/// A trace older than this when judged (a backfill) enters version tests only.
const LATE_HOURS: i64 = 24;
/// A stream that was silent for this long learns anew.
const SILENT_HOURS_MAX: i64 = 60 * 24;
/// The largest error level of a scan: with few streams a month's budget is not spent on one.
pub const ALPHA_SCAN_MAX: f64 = 0.05;
/// The drop that is said to be detectable is found within so many days.
const PLANNED_DAYS: f64 = 7.0;

/// What is asked of a stream; may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The drop that nobody wants to be told of, in [0, 1].
    pub delta: f64,
    /// The share of the false-alarm budget: how often an epoch without a change may alarm, in (0, 1] (`many::budget`).
    pub alpha_scan: f64,
    /// The same for one version test.
    pub alpha_version: f64,
    /// Whether counts are divided by their overdispersion.
    pub overdispersion: bool,
    /// Least scores before the scan starts.
    pub warm_up_scores: u64,
    /// Least days before the scan starts.
    pub warm_up_days: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            delta: 0.0,
            alpha_scan: ALPHA_SCAN_MAX,
            alpha_version: 0.05,
            overdispersion: true,
            warm_up_scores: 100,
            warm_up_days: 7,
        }
    }
}

impl Rules {
    fn check(&self) -> Result<(), Invalid> {
        within("the tolerated drop", self.delta, 0.0..=1.0, "from 0 to 1")?;
        probability("the error level of the scan", self.alpha_scan)?;
        probability("the error level of version tests", self.alpha_version).map(drop)
    }
}

/// A score as it comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score<'a> {
    /// When judging completed.
    pub completed_at: DateTime<Utc>,
    /// When the trace happened.
    pub occurred_at: DateTime<Utc>,
    /// 1 - score, in [0, 1]; a failure is 1.
    pub loss: f64,
    /// The probability with which it was chosen to be judged, in (0, 1].
    pub inclusion: f64,
    /// What was running: a prompt, model or service version. Empty: not known, no version test.
    pub version: &'a str,
}

impl Score<'_> {
    /// A score of a fresh trace, certainly judged, of no known version.
    #[must_use]
    pub fn new(completed_at: DateTime<Utc>, loss: f64) -> Self {
        Self { completed_at, occurred_at: completed_at, loss, inclusion: 1.0, version: "" }
    }
}

/// What the scan says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// There is no baseline yet.
    Learning {
        /// Scores still needed.
        scores_missing: u64,
        /// Days still needed.
        days_missing: f64,
    },
    /// No drop was seen.
    Quiet {
        /// ln of the evidence for one.
        log_e: f64,
        /// The smallest drop that a week of this traffic would show; None if none would.
        detectable_drop: Option<f64>,
        /// By how much counts vary more than independent ones.
        phi: f64,
    },
    /// A drop, until it is acknowledged.
    Alarm(Box<Alarm>),
}

/// A drop that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The hour in which it began, at best guess.
    pub since: DateTime<Utc>,
    /// The end of the hour whose scores raised it; the same at every later look.
    pub raised_at: DateTime<Utc>,
    /// Mean loss from the start of the baseline to `since`.
    pub before: Arm,
    /// Mean loss from `since` on.
    pub after: Arm,
    /// ln of the evidence when it was raised.
    pub log_e: f64,
    /// The share of the false-alarm budget that it was raised on.
    pub alpha: f64,
    /// By how much counts vary more than independent ones.
    pub phi: f64,
}

/// The state of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Scores by hour of completion, back to the start of the oldest epoch or the history.
    hours: Hours,
    /// The hour that is closed next; None before the first score.
    next: Option<i64>,
    /// The hour from which on scores count as history.
    first: i64,
    epoch: Option<Epoch>,
    /// The epoch before: changes that began in it are still looked for.
    retiring: Option<Epoch>,
    alarm: Option<Alarm>,
    versions: Versions,
}

impl Stream {
    /// Counts a score. Takes a time that does not depend on how many there are.
    ///
    /// A score whose hour is closed already counts in the open one; one of a trace that is older than a day enters
    /// version tests only.
    ///
    /// # Errors
    /// When loss or inclusion probability are out of range; nothing is counted then.
    pub fn add(&mut self, score: &Score<'_>) -> Result<(), Invalid> {
        let mut one = Tally::default();
        one.add(score.loss, score.inclusion)?;
        if hour_of(score.completed_at) - hour_of(score.occurred_at) > LATE_HOURS {
            self.versions.add(score.version, score.completed_at, &one);
        } else {
            self.add_counted(score.completed_at, score.version, &one);
        }
        Ok(())
    }

    /// Adds scores of fresh traces that were completed in the same hour and have been counted elsewhere.
    pub fn add_counted(&mut self, completed_at: DateTime<Utc>, version: &str, scores: &Tally) {
        let hour = hour_of(completed_at);
        self.versions.add(version, completed_at, scores);
        let open = *self.next.get_or_insert_with(|| {
            self.first = hour;
            hour
        });
        self.hours.add(hour.max(open), scores);
    }

    /// Exchanges a score for another of the same trace, in version tests. The scan keeps what it has seen: evidence must not be
    /// changed afterwards.
    ///
    /// # Errors
    /// As `add`.
    pub fn rescore(&mut self, old: &Score<'_>, new: &Score<'_>) -> Result<(), Invalid> {
        let mut minus = Tally::default();
        minus.remove(old.loss, old.inclusion)?;
        let mut plus = Tally::default();
        plus.add(new.loss, new.inclusion)?;
        self.versions.add(old.version, old.completed_at, &minus);
        self.versions.add(new.version, new.completed_at, &plus);
        Ok(())
    }

    /// Closes the hours that are over at `now` and says what the scan has found. Calling it twice is calling it once.
    ///
    /// # Errors
    /// When the rules are out of range; nothing is closed then.
    pub fn close(&mut self, now: DateTime<Utc>, rules: &Rules) -> Result<Finding, Invalid> {
        rules.check()?;
        let until = hour_of(now);
        if let Some(mut hour) = self.next {
            if until - hour > SILENT_HOURS_MAX && self.hours.last().is_none_or(|last| last < hour) {
                *self = Self { versions: std::mem::take(&mut self.versions), alarm: self.alarm, ..Self::default() };
                return self.finding(now, rules);
            }
            while hour < until {
                self.step(hour, rules)?;
                hour += 1;
                self.next = Some(hour);
            }
            self.forget(hour);
        }
        self.finding(now, rules)
    }

    /// The alarm was seen by a person, or its incident ended: what came after `since` is the new normal, and is learnt first.
    pub fn acknowledge(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.first = hour_of(alarm.since);
            (self.epoch, self.retiring) = (None, None);
            self.hours.forget_before(self.first);
        }
    }

    /// The incident ended by itself: what comes from `at` on is learnt anew, on top of the day before it.
    pub fn restart(&mut self, at: DateTime<Utc>) {
        self.alarm = None;
        self.first = hour_of(at) - 24;
        (self.epoch, self.retiring) = (None, None);
        self.hours.forget_before(self.first);
    }

    /// By how much counts vary more than independent ones; 1 while that is not known.
    #[must_use]
    pub fn phi(&self) -> f64 {
        self.epoch.as_ref().map_or(1.0, |epoch| epoch.phi)
    }

    /// The scores of the last hours before `now`, the open one included, as one side of a comparison.
    #[must_use]
    pub fn recent(&self, now: DateTime<Utc>, hours: i64) -> Arm {
        let until = hour_of(now) + 1;
        Arm::of(&self.hours.total(until - hours, until), self.phi())
    }

    /// Each version against those that were first seen before it, over the four weeks before it and all it has itself.
    ///
    /// # Errors
    /// When the rules are out of range.
    pub fn versions(&self, rules: &Rules) -> Result<Vec<VersionFinding>, Invalid> {
        rules.check()?;
        self.versions.compare(rules.delta, rules.alpha_version, self.phi())
    }

    /// One hour: evidence first, then the epoch may end.
    fn step(&mut self, hour: i64, rules: &Rules) -> Result<(), Invalid> {
        if self.epoch.is_none() && hour - self.first >= i64::from(rules.warm_up_days) * 24 {
            self.begin(hour, rules)?;
        }
        for epoch in [self.epoch.as_mut(), self.retiring.as_mut()].into_iter().flatten() {
            let log_e = epoch.close(hour, &self.hours, rules.delta)?;
            if self.alarm.is_none() && log_e >= (1.0 / rules.alpha_scan).ln() {
                self.alarm = epoch.alarm(hour, &self.hours, rules.alpha_scan);
            }
        }
        if self.retiring.as_ref().is_some_and(|epoch| hour + 1 >= epoch.start + 2 * EPOCH_HOURS) {
            self.retiring = None;
        }
        if self.epoch.as_ref().is_some_and(|epoch| hour + 1 >= epoch.start + EPOCH_HOURS) {
            self.retiring = self.epoch.take();
            self.first = hour + 1 - HISTORY_HOURS;
        }
        Ok(())
    }

    /// Starts an epoch if the history suffices.
    fn begin(&mut self, hour: i64, rules: &Rules) -> Result<(), Invalid> {
        if self.hours.total(self.first, hour).count() >= rules.warm_up_scores {
            self.epoch = Some(Epoch::begin(self.first, hour, &self.hours, rules)?);
        }
        Ok(())
    }

    /// Drops hours that nothing looks back to.
    fn forget(&mut self, hour: i64) {
        let starts = [self.epoch.as_ref(), self.retiring.as_ref()].into_iter().flatten().map(|epoch| epoch.start);
        let oldest = starts.chain([hour - HISTORY_HOURS]).min().unwrap_or(hour);
        self.hours.forget_before(oldest);
        self.first = self.first.max(oldest.min(hour - HISTORY_HOURS));
    }

    fn finding(&mut self, now: DateTime<Utc>, rules: &Rules) -> Result<Finding, Invalid> {
        if let Some(alarm) = &mut self.alarm {
            // What came since is told as it grows; the evidence and the start stay.
            if let (Some(next), since) = (self.next, hour_of(alarm.since)) {
                alarm.after = Arm::of(&self.hours.total(since, next), alarm.phi);
            }
            return Ok(Finding::Alarm(Box::new(*alarm)));
        }
        let Some(epoch) = &self.epoch else {
            let hours = self.next.map_or(0, |_| hour_of(now) - self.first);
            let seen = self.next.map_or(0, |next| self.hours.total(self.first, next).count());
            return Ok(Finding::Learning {
                scores_missing: rules.warm_up_scores.saturating_sub(seen),
                days_missing: (f64::from(rules.warm_up_days) - hours as f64 / 24.0).max(0.0),
            });
        };
        let log_e = self.retiring.as_ref().map_or(epoch.log_e(), |old| old.log_e().max(epoch.log_e()));
        let (before, a_week) = epoch.traffic(self.next.unwrap_or(epoch.start), PLANNED_DAYS);
        let sizes = planner::pooled(before.n_eff / epoch.phi, a_week / epoch.phi);
        let plan = planner::Plan { rate: before.mean, alpha: rules.alpha_scan, delta: rules.delta };
        Ok(Finding::Quiet { log_e, detectable_drop: plan.detectable_drop(planner::Kind::Scan, sizes)?, phi: epoch.phi })
    }
}

fn hour_of(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(HOUR_SECONDS)
}

fn time_of(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour.saturating_mul(HOUR_SECONDS), 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests;
