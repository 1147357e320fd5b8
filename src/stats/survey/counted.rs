//! The same estimates from counts of items that are alike, so that memory goes with the kinds of items and not with their number.
//!
//! Used by reports over tens of millions of verdicts. One stratum, no clusters. Its rule: the figures are those of the items written
//! out, to the last digits that rounding leaves. The way not taken: writing them out, at sixteen bytes a verdict.

use super::rate::{self, Part};
use super::{Change, Estimate, Level, Refusal, Survey, Target};
use crate::stats::proportions::difference;
use crate::stats::refusal::{at_least, finite, inclusion};

/// Items that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// Their value.
    pub y: f64,
    /// Their inclusion probability.
    pub pi: f64,
    /// How many they are.
    pub count: u64,
}

/// As [`super::mean`] of one stratum whose size is what the weights stand for.
///
/// # Errors
/// As for [`super::mean`].
pub fn mean_counted(items: &[Counted], target: Target) -> Result<Survey, Refusal> {
    for (at, item) in items.iter().enumerate() {
        finite("score", at, item.y)?;
        inclusion("inclusion probability", at, item.pi)?;
    }
    let n: u64 = items.iter().map(|i| i.count).sum();
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    at_least("items", n, 1)?;
    let there = || items.iter().filter(|i| i.count > 0);
    let sum = |f: &dyn Fn(&Counted) -> f64| there().map(|i| i.count as f64 * f(i)).sum::<f64>();
    let total = sum(&|i| 1.0 / i.pi);
    let mean = sum(&|i| i.y / i.pi) / total;
    // Rounding must not leave a mean of ones above 1.
    let mean =
        mean.min(there().map(|i| i.y).fold(f64::MIN, f64::max)).max(there().map(|i| i.y).fold(f64::MAX, f64::min));
    let share = |i: &Counted| 1.0 / (i.pi * total);
    let variance = sum(&|i| target.share(i.pi) * ((i.y - mean) * share(i)).powi(2));
    let n_interval = 1.0 / sum(&|i| target.share(i.pi) * share(i).powi(2));
    // The shares sum to one.
    let n_eff = 1.0 / sum(&|i| share(i).powi(2));
    let estimate = Estimate { value: mean, standard_error: variance.sqrt() };
    let part = |i: &Counted| (Part { y: i.y, pi: i.pi, weight: share(i), group: 0, mean }, i.count as f64);
    let is_rate = there().all(|i| (0.0..=1.0).contains(&i.y));
    let cells = if is_rate { rate::cells(there().map(part), target) } else { Vec::new() };
    Ok(Survey { estimate, n, n_eff, clusters: None, collapsed: 0, n_interval, cells })
}

/// As [`super::change`] of such groups.
///
/// # Errors
/// As for [`super::change`].
pub fn change_counted(before: &[Counted], after: &[Counted], target: Target, level: Level) -> Result<Change, Refusal> {
    let (before, after) = (mean_counted(before, target)?, mean_counted(after, target)?);
    let of = |s: &Survey| s.rate_interval(level).map(|interval| (s.estimate.value, interval));
    let interval = difference(of(&before)?, of(&after)?);
    let value = before.estimate.value - after.estimate.value;
    let standard_error = before.estimate.standard_error.hypot(after.estimate.standard_error);
    Ok(Change { before, after, drop: Estimate { value, standard_error }, interval })
}

#[cfg(test)]
mod tests {
    use super::super::{Stratum, change, mean};
    use super::*;
    use proptest::prelude::*;

    fn written_out(items: &[Counted]) -> Vec<(f64, f64)> {
        items.iter().flat_map(|i| std::iter::repeat_n((i.y, i.pi), usize::try_from(i.count).expect("few"))).collect()
    }

    fn stratum(items: &[(f64, f64)]) -> [Stratum<'_>; 1] {
        [Stratum { size: items.iter().map(|(_, pi)| 1.0 / pi).sum(), items, clusters: None }]
    }

    fn near(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-9 * (1.0 + a.abs())
    }

    fn some() -> impl Strategy<Value = Vec<Counted>> {
        let one = (0..=4_u32, 1..=20_u32, 0..60_u64);
        let of = |(y, pi, count)| Counted { y: f64::from(y) / 4.0, pi: f64::from(pi) / 20.0, count };
        proptest::collection::vec(one.prop_map(of), 1..8)
    }

    proptest! {
        #[test]
        fn counts_say_what_the_items_say(first in some(), second in some()) {
            for target in [Target::Process, Target::Population] {
                let (items, others) = (written_out(&first), written_out(&second));
                let (ours, theirs) = (mean_counted(&first, target), mean(&stratum(&items), target));
                prop_assert_eq!(ours.is_ok(), theirs.is_ok());
                let (Ok(ours), Ok(theirs)) = (ours, theirs) else { continue };
                prop_assert!(near(ours.estimate.value, theirs.estimate.value) && near(ours.n_eff, theirs.n_eff));
                prop_assert!(near(ours.estimate.standard_error, theirs.estimate.standard_error) && ours.n == theirs.n);
                // The intervals follow from these; they jump where Wilson's begins, so that a rounding may be on the other side.
                prop_assert!(near(ours.n_interval, theirs.n_interval), "{ours:?} {theirs:?}");
                let changed = change_counted(&first, &second, target, Level::P95);
                if let (Ok(ours), Ok(theirs)) = (changed, change(&stratum(&items), &stratum(&others), target, Level::P95)) {
                    prop_assert!(near(ours.drop.value, theirs.drop.value));
                    prop_assert!(near(ours.drop.standard_error, theirs.drop.standard_error));
                }
            }
        }
    }

    #[test]
    fn an_interval_is_that_of_the_items() {
        let counted =
            |passed, failed| [Counted { y: 1.0, pi: 0.5, count: passed }, Counted { y: 0.0, pi: 1.0, count: failed }];
        for (before, after) in [(counted(180, 20), counted(140, 60)), (counted(300, 2), counted(299, 4))] {
            let (items, others) = (written_out(&before), written_out(&after));
            let ours = change_counted(&before, &after, Target::Process, Level::P95).expect("items");
            let theirs = change(&stratum(&items), &stratum(&others), Target::Process, Level::P95).expect("items");
            assert!(near(ours.interval.low, theirs.interval.low) && near(ours.interval.high, theirs.interval.high));
            let rate = |s: &Survey| s.rate_interval(Level::P95).expect("a rate");
            let (a, b) = (rate(&ours.before), rate(&theirs.before));
            assert!(near(a.low, b.low) && near(a.high, b.high) && a.low < a.high, "{a:?} {b:?}");
        }
    }

    #[test]
    fn nothing_and_what_makes_no_sense_is_refused() {
        assert!(mean_counted(&[], Target::Process).is_err());
        assert!(mean_counted(&[Counted { y: 1.0, pi: 0.5, count: 0 }], Target::Process).is_err());
        assert!(mean_counted(&[Counted { y: f64::NAN, pi: 0.5, count: 1 }], Target::Process).is_err());
        assert!(mean_counted(&[Counted { y: 1.0, pi: 0.0, count: 1 }], Target::Process).is_err());
    }
}
