//! Two judges on the same items: is one right more often, and has one of them moved?
//!
//! For `calibrate` (the panel against its best judge) and for stored items that are judged again. The difference of shares
//! has the interval of Bonett & Price, Adjusted Wald interval for a difference of binomial proportions based on paired
//! data, 2012: both kinds of disagreement plus one, over n + 2; the p-value is McNemar's, exact; for repeated looks e =
//! 2^(a+b) B(a+1, b+1) is an e-value (McNemar with a uniform prior). Its rule: a panel is measured on items it was not
//! fitted on. The way not taken: comparing two separate intervals, which throws away that both saw the same items.

use crate::domain::panel::Stack;
use crate::stats::estimate::{Interval, Level};
use crate::stats::hajek::kish;
use crate::stats::refusal::{Refusal, at_least, positive, same_length};
use crate::stats::stack;
use serde::Serialize;
use statrs::function::beta::{beta_reg, ln_beta};

/// An item on which two judges were tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Whether the first was right.
    pub first: bool,
    /// Whether the second was right.
    pub second: bool,
    /// How many traces it stands for, on any scale.
    pub weight: f64,
}

/// Which is right more often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Finding {
    /// The first: the interval is above zero.
    First,
    /// The second: the interval is below zero.
    Second,
    /// Neither is shown to be.
    Open,
}

/// A comparison on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// Share of items that the first got right minus that of the second.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// Items that only the first got right.
    pub first_only: usize,
    /// Items that only the second got right.
    pub second_only: usize,
    /// Items.
    pub n: usize,
    /// Two-sided, for one look at the data.
    pub p_value: f64,
    /// What follows at the level asked for.
    pub finding: Finding,
}

/// Compares two judges on the same items.
///
/// # Errors
/// Without items, and when a weight is not positive.
pub fn compare(pairs: &[Pair], level: Level) -> Result<Comparison, Refusal> {
    at_least("items", pairs.len(), 1)?;
    for (at, pair) in pairs.iter().enumerate() {
        positive("weight of label", at, pair.weight)?;
    }
    let weights: Vec<f64> = pairs.iter().map(|p| p.weight).collect();
    let total: f64 = weights.iter().sum();
    let share = |first: bool| {
        let only = pairs.iter().filter(|p| p.first == first && p.second != first);
        (only.clone().count(), only.map(|p| p.weight).sum::<f64>() / total)
    };
    let ((first_only, up), (second_only, down)) = (share(true), share(false));
    let n = kish(&weights);
    let (up_more, down_more) = ((up * n + 1.0) / (n + 2.0), (down * n + 1.0) / (n + 2.0));
    let middle = up_more - down_more;
    let error = ((up_more + down_more - middle * middle) / (n + 2.0)).sqrt();
    let interval = Interval::around(middle, level.z() * error).within(-1.0, 1.0);
    let finding = match (interval.low > 0.0, interval.high < 0.0) {
        (true, _) => Finding::First,
        (_, true) => Finding::Second,
        _ => Finding::Open,
    };
    Ok(Comparison {
        difference: up - down,
        interval,
        first_only,
        second_only,
        n: pairs.len(),
        p_value: mcnemar(up * n, down * n),
        finding,
    })
}

/// Two-sided exact p-value that both kinds of disagreement are as likely; counts may be effective ones.
fn mcnemar(a: f64, b: f64) -> f64 {
    let (few, n) = (a.min(b), a + b);
    if n == 0.0 || n - few <= 0.0 {
        return 1.0;
    }
    // P(Bin(n, 1/2) <= few) as an incomplete beta function.
    (2.0 * beta_reg(n - few, few + 1.0, 0.5)).min(1.0)
}

/// The logarithm of the e-value against "a flip to fail is as likely as a flip to pass", of `a` flips one way and `b` the
/// other.
///
/// Products over fresh items, means over items that are used again; evidence at ln 20.
#[must_use]
pub fn flips_log_e(a: u32, b: u32) -> f64 {
    let (a, b) = (f64::from(a), f64::from(b));
    (a + b) * std::f64::consts::LN_2 + ln_beta(a + 1.0, b + 1.0)
}

/// What a panel and its best judge say of an item that neither was chosen on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// The panel's P(pass).
    pub panel: f64,
    /// The vote of the judge that was best on the other items; `None` if it did not vote.
    pub best: Option<bool>,
    /// Which judge that was.
    pub best_judge: usize,
}

/// Judges each item by a panel, and by a best judge, that were chosen on the other folds. Item i is in fold i mod `folds`:
/// shuffle items by a hash of their ids first.
///
/// # Errors
/// With fewer than two folds or fewer items than folds, when lengths differ, and when the labels of the other folds are all
/// of one kind.
pub fn held_out(votes: &[Vec<Option<bool>>], truth: &[bool], folds: usize) -> Result<Vec<HeldOut>, Refusal> {
    at_least("folds", folds, 2)?;
    at_least("labelled items", votes.len(), folds)?;
    same_length(("items", votes.len()), ("labels", truth.len()))?;
    let chosen: Vec<(Stack, usize)> =
        (0..folds).map(|fold| chosen_without(votes, truth, (fold, folds))).collect::<Result<_, _>>()?;
    let of = |(at, row): (usize, &Vec<Option<bool>>)| {
        let (stack, best) = &chosen[at % folds];
        HeldOut { panel: stack.probability(row), best: row.get(*best).copied().flatten(), best_judge: *best }
    };
    Ok(votes.iter().enumerate().map(of).collect())
}

/// The model and the best judge of all items that are not in a fold.
fn chosen_without(
    votes: &[Vec<Option<bool>>],
    truth: &[bool],
    (fold, folds): (usize, usize),
) -> Result<(Stack, usize), Refusal> {
    let kept = (0..votes.len()).filter(|at| at % folds != fold);
    let (rows, labels): (Vec<Vec<Option<bool>>>, Vec<bool>) = kept.map(|at| (votes[at].clone(), truth[at])).unzip();
    let why = "the labels outside of a fold all pass, or all fail, or items have different numbers of judges";
    let model = stack::fit(&rows, &labels).ok_or(Refusal::Undefined { what: "the panel's model", why })?;
    Ok((model, best_judge(&rows, &labels)))
}

/// The judge that is right most often; no answer counts half, and of equals the first is taken.
#[must_use]
pub fn best_judge(votes: &[Vec<Option<bool>>], truth: &[bool]) -> usize {
    let right = |judge: usize| -> f64 {
        let points = |(row, pass): (&Vec<Option<bool>>, &bool)| {
            row.get(judge).copied().flatten().map_or(0.5, |vote| f64::from(u8::from(vote == *pass)))
        };
        votes.iter().zip(truth).map(points).sum()
    };
    let judges = votes.first().map_or(0, Vec::len);
    let scored = (0..judges).map(|judge| (judge, right(judge)));
    scored.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(0, |(judge, _)| judge)
}

/// Whether the panel beats its best judge, on items that neither was chosen on: the first is the panel. Items on which the
/// judge said nothing are left out; `weights` has one for each label.
///
/// # Errors
/// As for [`held_out`] and [`compare`], and when the lengths differ.
pub fn panel_against_best(
    votes: &[Vec<Option<bool>>],
    truth: &[bool],
    weights: &[f64],
    folds: usize,
    level: Level,
) -> Result<Comparison, Refusal> {
    same_length(("labels", truth.len()), ("weights", weights.len()))?;
    let pair = |((held, pass), weight): ((HeldOut, &bool), &f64)| {
        let (first, second) = ((held.panel > 0.5) == *pass, held.best? == *pass);
        Some(Pair { first, second, weight: *weight })
    };
    let pairs = held_out(votes, truth, folds)?.into_iter().zip(truth).zip(weights).filter_map(pair);
    compare(&pairs.collect::<Vec<_>>(), level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn pairs(both: usize, first: usize, second: usize) -> Vec<Pair> {
        let of = |first, second, n| vec![Pair { first, second, weight: 1.0 }; n];
        [of(true, true, both), of(true, false, first), of(false, true, second)].concat()
    }

    #[test]
    fn only_disagreements_tell() {
        let own = compare(&pairs(80, 16, 4), Level::P95).expect("items");
        assert_eq!((own.first_only, own.second_only, own.n, own.finding), (16, 4, 100, Finding::First));
        assert!((own.difference - 0.12).abs() < 1e-12);
        // By hand: 17/102 - 5/102, and twice the sum of binomials up to 4 of 20.
        let (middle, error) = (12.0 / 102.0, ((22.0 / 102.0 - (12.0_f64 / 102.0).powi(2)) / 102.0).sqrt());
        assert!((own.interval.low - (middle - Level::P95.z() * error)).abs() < 1e-12, "{own:?}");
        assert!((own.p_value - 2.0 * 6196.0 / f64::from(1 << 20)).abs() < 1e-12, "{own:?}");
        assert_eq!(compare(&pairs(80, 4, 16), Level::P95).expect("items").finding, Finding::Second);
        let same = compare(&pairs(80, 0, 0), Level::P95).expect("items");
        assert_eq!((same.finding, same.p_value.to_bits()), (Finding::Open, 1.0_f64.to_bits()));
        assert!(same.interval.half_width() > 0.01, "no disagreement in 80 items is not none ever");
        assert!(compare(&[], Level::P95).is_err());
        assert!(compare(&[Pair { first: true, second: true, weight: 0.0 }], Level::P95).is_err());
    }

    #[test]
    fn flips_one_way_are_evidence() {
        // By hand: 2^4 B(5, 1) = 16/5, 2^2 B(2, 2) = 4/6.
        assert!((flips_log_e(4, 0).exp() - 3.2).abs() < 1e-12);
        assert!((flips_log_e(1, 1).exp() - 2.0 / 3.0).abs() < 1e-12);
        assert!(flips_log_e(0, 0).abs() < 1e-12);
        assert!(flips_log_e(9, 0) > 20_f64.ln() && flips_log_e(20, 20) < 0.0);
        // An e-value: its mean under the null is 1, whatever the number of flips.
        let mean: f64 = (0..=12_u32)
            .map(|a| {
                let ways = (0..a).fold(1.0, |c, k| c * f64::from(12 - k) / f64::from(k + 1));
                ways / 4096.0 * flips_log_e(a, 12 - a).exp()
            })
            .sum();
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
    }

    /// Judges with independent errors, right as often as said.
    fn panel(random: &mut StdRng, n: usize, right: &[f64]) -> (Vec<Vec<Option<bool>>>, Vec<bool>) {
        let truth: Vec<bool> = (0..n).map(|_| random.random::<f64>() < 0.6).collect();
        let mut row = |truth: &bool| right.iter().map(|p| Some((random.random::<f64>() < *p) == *truth)).collect();
        (truth.iter().map(&mut row).collect(), truth)
    }

    #[test]
    fn a_panel_of_independent_judges_beats_its_best_and_one_with_a_single_good_judge_does_not() {
        let mut random = StdRng::seed_from_u64(2);
        let (votes, truth) = panel(&mut random, 600, &[0.78, 0.8, 0.8, 0.78, 0.79]);
        let weights = vec![1.0; truth.len()];
        let own = panel_against_best(&votes, &truth, &weights, 5, Level::P95).expect("labels");
        assert_eq!(own.finding, Finding::First, "{own:?}");
        let (votes, truth) = panel(&mut random, 600, &[0.95, 0.55, 0.55]);
        let own = panel_against_best(&votes, &truth, &weights, 5, Level::P95).expect("labels");
        assert_eq!((own.finding, best_judge(&votes, &truth)), (Finding::Open, 0), "{own:?}");
    }

    #[test]
    fn two_equal_judges_are_seldom_told_apart() {
        let mut random = StdRng::seed_from_u64(4);
        let found = (0..1000).filter(|_| {
            let (votes, truth) = panel(&mut random, 100, &[0.85, 0.85]);
            let of = |(row, pass): (&Vec<Option<bool>>, &bool)| Pair {
                first: row[0] == Some(*pass),
                second: row[1] == Some(*pass),
                weight: 1.0,
            };
            let pairs: Vec<Pair> = votes.iter().zip(&truth).map(of).collect();
            compare(&pairs, Level::P95).expect("items").finding != Finding::Open
        });
        let found = found.count();
        assert!((20..=70).contains(&found), "{found} of 1000 at level .95");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let votes = vec![vec![Some(true)]; 10];
        assert!(held_out(&votes, &[true; 10], 5).is_err(), "all pass");
        assert!(held_out(&votes, &[true; 9], 5).is_err() && held_out(&votes, &[true; 10], 1).is_err());
        assert!(held_out(&votes[..3], &[true, false, true], 5).is_err(), "fewer items than folds");
        assert!(panel_against_best(&votes, &[true; 10], &[1.0], 5, Level::P95).is_err());
    }

    proptest! {
        #[test]
        fn turned_round_the_sign_turns(both in 0..50_usize, first in 0..50_usize, second in 1..50_usize) {
            let there = compare(&pairs(both, first, second), Level::P95).expect("items");
            let back = compare(&pairs(both, second, first), Level::P95).expect("items");
            prop_assert!((there.difference + back.difference).abs() < 1e-12);
            prop_assert!((there.interval.low + back.interval.high).abs() < 1e-12);
            prop_assert!((there.p_value - back.p_value).abs() < 1e-12 && (0.0..=1.0).contains(&there.p_value));
        }
    }
}
