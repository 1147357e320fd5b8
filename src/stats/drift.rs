//! Has a judge moved? Evidence over runs in which it judges the same items again.
//!
//! Called by `pipeline::drift`. If nothing has changed, which of two judgings of an item came first is exchangeable, so moves
//! down and up are as likely: e = 2^(a+b) B(a+1, b+1) of a run (`paired::flips_log_e`). Runs use the same items, so their
//! e-values depend on each other: they are summed with shares 1/(j(j+1)) that were fixed before, which sum to 1. The sum has mean
//! at most 1 and only grows, so that it ever reaches 1/alpha has a chance of at most alpha (Markov), however many runs there are
//! and whatever starts them. Its rule: a period has its budget, and a run its share of it. The way not taken: a product over runs,
//! which counts the same first judging again and again.

use super::paired::flips_log_e;

/// Scores that differ by less are the same: what a judge says on a scale is never quite the same twice.
pub const MOVE_MIN: f64 = 0.05;

/// Items on which a judge's word went down and up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// Down: worse than before.
    pub down: u32,
    /// Up: better than before.
    pub up: u32,
}

impl Moves {
    /// Counts an item by its two scores, in [0,1].
    pub fn count(&mut self, before: f64, now: f64) {
        match now - before {
            d if d < -MOVE_MIN => self.down += 1,
            d if d > MOVE_MIN => self.up += 1,
            _ => {}
        }
    }

    /// ln of the run's e-value.
    #[must_use]
    pub fn log_e(self) -> f64 {
        flips_log_e(self.down, self.up)
    }
}

/// ln of the evidence of a period's runs together, in their order; `None` is a run that compared with something else, which has
/// used its share up.
#[must_use]
pub fn log_total(runs: &[Option<f64>]) -> f64 {
    let weighted = runs.iter().zip(1_u32..).filter_map(|(log_e, j)| {
        let j = f64::from(j);
        Some((*log_e)? - (j * (j + 1.0)).ln())
    });
    let terms: Vec<f64> = weighted.collect();
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    largest + terms.iter().map(|term| (term - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// A judge that says "pass" to each of some items with its own probability; drawn anew at each judging.
    fn judged(random: &mut StdRng, items: &[f64]) -> Vec<f64> {
        items.iter().map(|p| f64::from(u8::from(random.random::<f64>() < *p))).collect()
    }

    fn moves(before: &[f64], now: &[f64]) -> Moves {
        let mut moves = Moves::default();
        before.iter().zip(now).for_each(|(b, n)| moves.count(*b, *n));
        moves
    }

    #[test]
    fn a_period_gives_out_its_budget_and_no_more() {
        // By hand: 1/2 · 3.2 + 1/12 · 6.
        let total = log_total(&[Some(3.2_f64.ln()), None, Some(6.0_f64.ln())]);
        assert!((total.exp() - 2.1).abs() < 1e-12, "{total}");
        assert_eq!(log_total(&[]).to_bits(), f64::NEG_INFINITY.to_bits());
        let even = vec![Some(0.0); 10_000];
        assert!(log_total(&even) < 0.0, "shares sum to less than 1");
    }

    #[test]
    fn only_what_is_more_than_noise_of_the_scale_is_a_move() {
        let mut moves = Moves::default();
        for (before, now) in [(0.8, 0.84), (0.8, 0.76), (0.8, 0.7), (1.0, 0.0), (0.2, 0.4)] {
            moves.count(before, now);
        }
        assert_eq!(moves, Moves { down: 2, up: 1 });
        assert!((moves.log_e() - flips_log_e(2, 1)).abs() < 1e-12);
    }

    #[test]
    fn a_judge_that_only_flips_at_its_rate_alarms_no_more_often_than_said_in_a_year_of_looks() {
        let mut random = StdRng::seed_from_u64(7);
        let alpha: f64 = 0.05;
        let alarms = (0..1_000).filter(|_| {
            // One in five items is answered by a coin of .8, the others the same each time.
            let items: Vec<f64> = (0..200).map(|n| if n % 5 == 0 { 0.8 } else { 1.0 }).collect();
            let first = judged(&mut random, &items);
            let mut runs = Vec::new();
            (0..52).any(|_| {
                runs.push(Some(moves(&first, &judged(&mut random, &items)).log_e()));
                log_total(&runs) >= (1.0 / alpha).ln()
            })
        });
        let alarms = alarms.count();
        assert!(alarms <= 50, "{alarms} of 1000 at .05");
    }

    #[test]
    fn a_judge_that_became_stricter_is_mostly_found_at_the_first_run_and_one_that_became_milder_too() {
        let mut random = StdRng::seed_from_u64(8);
        for milder in [false, true] {
            let found = (0..200).filter(|_| {
                let items: Vec<f64> = (0..200).map(|n| if n % 10 == 0 { 0.5 } else { 1.0 }).collect();
                let first = judged(&mut random, &items);
                // 12 of 100 sure passes are fails now.
                let now: Vec<f64> =
                    items.iter().map(|p| if random.random::<f64>() < 0.12 { 0.0 } else { *p }).collect();
                let now = judged(&mut random, &now);
                let (before, now) = if milder { (now, first) } else { (first, now) };
                log_total(&[Some(moves(&before, &now).log_e())]) >= 20_f64.ln()
            });
            let found = found.count();
            // One in ten items wavers, and half of the period's budget is kept for runs to come.
            assert!(found >= 150, "{found} of 200");
        }
    }
}
