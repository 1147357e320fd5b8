//! An epoch of a stream: thirty days in which a change may begin, the history before them, and the scan.
//!
//! Used by `stats::stream`. Its rule: bets and cells are fixed by the history; only if an item comes that is rarer than all
//! before, or the tolerated drop changes, is the scan run again from the counters, with bets that such an item can bear. The
//! way not taken: counting such items as less rare than they are, which alarms when sampling is moved from one part of the
//! traffic to another.

use super::{Alarm, EPOCH_HOURS, Rules, time_of};
use crate::stats::invalid::Invalid;
use crate::stats::kernel::Mass;
use crate::stats::kernel::dispersion::overdispersion;
use crate::stats::kernel::scan::Scan;
use crate::stats::kernel::tally::{Summary, Tally};
use crate::stats::kernel::version::{Arm, scan_kernel_after};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Scores by hour.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Hours(BTreeMap<i64, Tally>);

impl Hours {
    pub(super) fn add(&mut self, hour: i64, scores: &Tally) {
        self.0.entry(hour).or_default().merge(scores);
    }

    /// All scores from hour `from` to before hour `to`.
    pub(super) fn total(&self, from: i64, to: i64) -> Tally {
        let mut total = Tally::default();
        self.0.range(from..to.max(from)).for_each(|(_, tally)| total.merge(tally));
        total
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.0.last_key_value().map(|(hour, _)| *hour)
    }

    pub(super) fn forget_before(&mut self, hour: i64) {
        while self.0.first_key_value().is_some_and(|(first, _)| *first < hour) {
            self.0.pop_first();
        }
    }

    fn masses(&self, hour: i64, rarest: u16, phi: f64) -> Vec<Mass> {
        self.0.get(&hour).map_or_else(Vec::new, |tally| tally.masses(rarest, phi))
    }
}

/// An epoch and its scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// The first hour in which a change may begin.
    pub(super) start: i64,
    /// By how much counts vary more than independent ones.
    pub(super) phi: f64,
    /// The hour in which the history begins.
    first: i64,
    history: Tally,
    /// The history and all hours since.
    seen: Tally,
    /// The rarest weight class so far.
    rarest: u16,
    scan: Scan,
}

impl Epoch {
    /// From the hours `first` to before `start`.
    pub(super) fn begin(first: i64, start: i64, hours: &Hours, rules: &Rules) -> Result<Self, Invalid> {
        let history = hours.total(first, start);
        let phi = if rules.overdispersion { phi(first, start, hours, &history.summary())? } else { 1.0 };
        let rarest = history.rarest().unwrap_or(0);
        let scan = scan_after(&history, rarest, phi, rules.delta)?;
        Ok(Self { start, phi, first, seen: history.clone(), history, rarest, scan })
    }

    /// ln of the evidence so far.
    pub(super) fn log_e(&self) -> f64 {
        self.scan.log_e()
    }

    /// Adds an hour; returns ln of the evidence.
    pub(super) fn close(&mut self, hour: i64, hours: &Hours, delta: f64) -> Result<f64, Invalid> {
        let rarest = hours.0.get(&hour).and_then(Tally::rarest).unwrap_or(0).max(self.rarest);
        if rarest > self.rarest || delta.to_bits() != self.scan.kernel().delta().to_bits() {
            self.rarest = rarest;
            self.scan = scan_after(&self.history, rarest, self.phi, delta)?;
            for earlier in self.start..hour {
                self.scan.close(&hours.masses(earlier, rarest, self.phi), self.log_prior(earlier))?;
            }
        }
        if let Some(scores) = hours.0.get(&hour) {
            self.seen.merge(scores);
        }
        let prior = self.log_prior(hour);
        self.scan.close(&hours.masses(hour, self.rarest, self.phi), prior)
    }

    /// ln of the prior probability that a change begins in the hour.
    fn log_prior(&self, hour: i64) -> f64 {
        if hour < self.start + EPOCH_HOURS { -(EPOCH_HOURS as f64).ln() } else { f64::NEG_INFINITY }
    }

    /// What there is to say of the evidence after the hour; None before the first.
    pub(super) fn alarm(&self, hour: i64, hours: &Hours, alpha: f64) -> Option<Alarm> {
        let bins: Vec<_> = (self.start..=hour).map(|at| hours.masses(at, self.rarest, self.phi)).collect();
        let priors: Vec<f64> = (self.start..=hour).map(|at| self.log_prior(at)).collect();
        let history = self.history.masses(self.rarest, self.phi);
        let since = self.start + i64::try_from(self.scan.start(&history, &bins, &priors)?).ok()?;
        let mut before = self.history.clone();
        before.merge(&hours.total(self.start, since));
        Some(Alarm {
            since: time_of(since),
            raised_at: time_of(hour + 1),
            before: Arm::of(&before, self.phi),
            after: Arm::of(&hours.total(since, hour + 1), self.phi),
            log_e: self.log_e(),
            alpha,
            phi: self.phi,
        })
    }

    /// All that was seen until before hour `next`, and the effective number of scores in so many days of such traffic.
    pub(super) fn traffic(&self, next: i64, days: f64) -> (Summary, f64) {
        let seen = self.seen.summary();
        (seen, seen.n_eff * days * 24.0 / (next - self.first).max(1) as f64)
    }
}

fn scan_after(history: &Tally, rarest: u16, phi: f64, delta: f64) -> Result<Scan, Invalid> {
    let masses = history.masses(rarest, phi);
    let mut summary = history.summary();
    // Weights are relative to the rarest class of the whole scan, which may be rarer than any of the history.
    let (weights, squares) =
        masses.iter().fold((0.0, 0.0), |(u, uu), m| (u + m.count * m.weight, uu + m.count * m.weight * m.weight));
    summary.typical_weight = if weights > 0.0 { squares / weights } else { 1.0 };
    summary.n_eff /= phi;
    Scan::new(scan_kernel_after(&summary, summary.typical_weight, delta)?, &masses)
}

/// Overdispersion of the hours, in effective numbers of scores.
fn phi(first: i64, start: i64, hours: &Hours, summary: &Summary) -> Result<f64, Invalid> {
    let each: Vec<Summary> = (first..start).map(|hour| hours.total(hour, hour + 1).summary()).collect();
    let items: Vec<f64> = each.iter().map(|hour| hour.n_eff).collect();
    let losses: Vec<f64> = each.iter().map(|hour| hour.n_eff * hour.mean).collect();
    overdispersion(&items, &losses, if summary.binary { None } else { Some(summary.variance) })
}
