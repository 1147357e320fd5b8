//! Traffic as the scans meet it: hours of scores under each scenario, with and without a drop.
//!
//! Used by `benches/simulate.rs`. Scores are counted by hour of completion, as a worker would. Its rule: one stream follows
//! from its seed alone, so that threads change nothing. The way not taken: one score at a time; ten thousand a day for two
//! hundred streams would take most of the time of the run.

use crate::draws::{beta, binomial, exponential, poisson};
use assize::stats::kernel::tally::Tally;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Days before anything is looked at; the scan itself starts when it has learnt enough.
pub const HISTORY_DAYS: usize = 14;
/// Days that are watched.
pub const WATCHED_DAYS: usize = 30;
/// The drop comes after so many of them.
pub const DROP_AFTER_DAYS: usize = 10;

/// What is not as the theory has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scenario {
    /// Independent scores.
    Independent,
    /// The failure rate goes up and down by two points in a day.
    DailyCycle,
    /// The same, and a point worse at weekends.
    Weekend,
    /// All scores of an hour share a shock with this intra-class correlation.
    Shocks(f64),
    /// Half the traffic fails at .02, half at .18; sampling moves from .1 for both to .05 and .5 in the midst.
    MovedSampling,
    /// Passes take six hours to be judged on average, failures ten minutes.
    FastFailures,
}

/// Failure rate where nothing else is said.
pub const FAILURES: f64 = 0.1;

/// Hours of scores: `per_day` of them, for `days` after the history; failures rise by `drop` on the tenth.
pub fn hours(seed: u64, scenario: Scenario, per_day: f64, days: usize, drop: f64) -> Vec<Tally> {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = (HISTORY_DAYS + days) * 24;
    let phase = rng.random_range(0.0..24.0);
    let mut out = vec![Tally::default(); count];
    for hour in 0..count {
        let at = hour as f64;
        let busy = 1.0 + 0.6 * (std::f64::consts::TAU * (at - 9.0) / 24.0).sin();
        let arrivals = poisson(&mut rng, per_day / 24.0 * busy);
        let cycle = 0.02 * (std::f64::consts::TAU * (at + phase) / 24.0).sin();
        let weekend = if (hour / 24) % 7 >= 5 { 0.01 } else { 0.0 };
        let after = if hour >= (HISTORY_DAYS + DROP_AFTER_DAYS) * 24 { drop } else { 0.0 };
        let rate = FAILURES + after;
        match scenario {
            Scenario::Independent => count_up(&mut out[hour], &mut rng, arrivals, rate),
            Scenario::DailyCycle => count_up(&mut out[hour], &mut rng, arrivals, rate + cycle),
            Scenario::Weekend => count_up(&mut out[hour], &mut rng, arrivals, rate + cycle + weekend),
            Scenario::Shocks(correlation) => {
                let shocked = beta(&mut rng, rate, correlation);
                count_up(&mut out[hour], &mut rng, arrivals, shocked);
            }
            Scenario::MovedSampling => {
                let rates = if hour >= (HISTORY_DAYS + DROP_AFTER_DAYS) * 24 { [0.05, 0.5] } else { [0.1, 0.1] };
                for (inclusion, rate) in rates.into_iter().zip([0.02, 0.18]) {
                    let judged = poisson(&mut rng, per_day * 5.0 * inclusion / 24.0 * busy);
                    let failures = binomial(&mut rng, judged, rate);
                    add(&mut out[hour], judged, failures, inclusion);
                }
            }
            Scenario::FastFailures => {
                for _ in 0..arrivals {
                    let fails = rng.random_bool(rate);
                    let wait = exponential(&mut rng) * if fails { 1.0 / 6.0 } else { 6.0 } + rng.random::<f64>();
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours of waiting")]
                    let done = hour + wait as usize;
                    if let Some(tally) = out.get_mut(done) {
                        add(tally, 1, u32::from(fails), 1.0);
                    }
                }
            }
        }
    }
    out
}

fn count_up(tally: &mut Tally, rng: &mut StdRng, scores: u32, rate: f64) {
    let failures = binomial(rng, scores, rate);
    add(tally, scores, failures, 1.0);
}

/// Counts passes and failures.
pub fn add(tally: &mut Tally, scores: u32, failures: u32, inclusion: f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let class = (-inclusion.log2() * 64.0).round() as u16;
    tally.merge(&Tally::from(vec![(class, 100, i64::from(failures)), (class, 0, i64::from(scores - failures))]));
}
