//! Which traces a person should label next, and how a budget is spread over strata.
//!
//! For the queue of labels. piL = min(1, c (0.25 + sqrt(p(1-p)))), at least a floor, with c such that they sum to the
//! budget (Zrnic & Candès, 2024, tempered so that a panel that is sure and wrong is found out); strata get a floor first,
//! the rest by W^q sigma/sqrt(cost) (power allocation, Bankier, 1988; q = 1 is Neyman). Its rule: every trace has a chance,
//! and it is stored before the label exists. The way not taken: the most doubtful first, which tells nothing of the others.

use crate::stats::refusal::{Refusal, at_least, finite, inclusion, not_negative, positive, share};

/// What a trace of which the panel is certain has of the chance of one on which it is split: a third.
const CERTAIN: f64 = 0.25;

/// The probability with which a person is asked about each trace, given the panel's P(pass) of each; they sum to `labels`,
/// or are all 1 when that is as many as there are traces. None is below `floor`.
///
/// # Errors
/// When a P is not in [0,1], the budget is not positive, the floor not above 0 and at most 1, or the floor alone takes more
/// than the budget.
pub fn label_probabilities(pass: &[f64], labels: f64, floor: f64) -> Result<Vec<f64>, Refusal> {
    positive("number of labels", 0, labels)?;
    inclusion("smallest probability", 0, floor)?;
    for (at, p) in pass.iter().enumerate() {
        share("P(pass)", at, *p)?;
    }
    let n = pass.len() as f64;
    if labels >= n {
        return Ok(vec![1.0; pass.len()]);
    }
    if floor * n > labels {
        let range = "at most the number of labels over the number of traces";
        return Err(Refusal::OutOfRange { what: "smallest probability", at: 0, value: floor, range });
    }
    let doubt: Vec<f64> = pass.iter().map(|p| CERTAIN + (p * (1.0 - p)).sqrt()).collect();
    let with = |c: f64| doubt.iter().map(move |u| (c * u).clamp(floor, 1.0));
    // The sum rises with c; from 1/CERTAIN on all are 1.
    let c = bisected(0.0, 1.0 / CERTAIN, |c| with(c).sum::<f64>() - labels);
    Ok(with(c).collect())
}

/// What is known of a stratum before its budget is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Traces in it.
    pub size: f64,
    /// Standard deviation of its scores; 0.5 when nothing is known.
    pub deviation: f64,
    /// Cost of one evaluation, on any scale.
    pub cost: f64,
}

/// How many of each stratum to take: `floor` of each or all of it, the rest of the budget by size^power · deviation /
/// sqrt(cost), never more than there are. Power 1/2 serves the whole and the small alike, 1 is best for the whole alone.
/// The sum is the budget or everything; when the floors take more than the budget they are cut in proportion.
///
/// # Errors
/// Without strata, when a size or deviation is negative, a cost not positive, or budget, floor or power negative.
pub fn allocate(strata: &[Demand], budget: f64, floor: f64, power: f64) -> Result<Vec<f64>, Refusal> {
    at_least("strata", strata.len(), 1)?;
    not_negative("budget", 0, budget)?;
    not_negative("floor", 0, floor)?;
    not_negative("power", 0, power)?;
    finite("power", 0, power)?;
    for (at, stratum) in strata.iter().enumerate() {
        not_negative("size of stratum", at, stratum.size)?;
        not_negative("deviation of stratum", at, stratum.deviation)?;
        positive("cost of stratum", at, stratum.cost)?;
    }
    let sizes: Vec<f64> = strata.iter().map(|s| s.size).collect();
    let all: f64 = sizes.iter().sum();
    if budget >= all {
        return Ok(sizes);
    }
    let floors: Vec<f64> = sizes.iter().map(|size| size.min(floor)).collect();
    let taken: f64 = floors.iter().sum();
    if taken >= budget {
        return Ok(floors.iter().map(|f| f * budget / taken).collect());
    }
    let shares = |s: &Demand| s.size.powf(power) * s.deviation / s.cost.sqrt();
    let mut parts: Vec<f64> = strata.iter().map(shares).collect();
    let open = |parts: &[f64]| -> f64 {
        parts.iter().zip(&sizes).zip(&floors).filter(|((p, _), _)| **p > 0.0).map(|((_, s), f)| s - f).sum()
    };
    if open(&parts) < budget - taken {
        // Where nothing varies the rest goes by size.
        parts.clone_from(&sizes);
    }
    let with = |c: f64| floors.iter().zip(&parts).zip(&sizes).map(move |((f, p), size)| (f + c * p).min(*size));
    let smallest = parts.iter().copied().filter(|p| *p > 0.0).fold(f64::INFINITY, f64::min);
    let c = bisected(0.0, all / smallest, |c| with(c).sum::<f64>() - budget);
    Ok(with(c).collect())
}

/// Where a rising function crosses zero.
fn bisected(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    // Enough halvings to reach neighbouring numbers.
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubt_is_asked_about_three_times_as_often() {
        let p = label_probabilities(&[0.5, 0.0, 1.0, 0.5], 1.0, 0.01).expect("a budget");
        assert!((p[0] / p[1] - 3.0).abs() < 1e-9 && (p[1] - p[2]).abs() < 1e-12, "{p:?}");
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(label_probabilities(&[0.5, 0.9], 5.0, 0.01), Ok(vec![1.0; 2]), "as many labels as traces");
        assert_eq!(label_probabilities(&[], 5.0, 0.01), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(label_probabilities(&[0.5; 10], 1.0, 0.2).is_err(), "ten floors of 0.2 are two labels");
        for wrong in [f64::NAN, -0.1, 1.1] {
            assert!(label_probabilities(&[0.5, wrong], 1.0, 0.01).is_err(), "{wrong}");
        }
        assert!(
            label_probabilities(&[0.5; 3], 0.0, 0.01).is_err() && label_probabilities(&[0.5; 3], 1.0, 0.0).is_err()
        );
        let one = Demand { size: 10.0, deviation: 0.5, cost: 1.0 };
        assert!(allocate(&[], 5.0, 1.0, 0.5).is_err() && allocate(&[one], f64::NAN, 1.0, 0.5).is_err());
        assert!(allocate(&[Demand { cost: 0.0, ..one }], 5.0, 1.0, 0.5).is_err());
        assert!(allocate(&[Demand { size: -1.0, ..one }], 5.0, 1.0, 0.5).is_err());
    }

    #[test]
    fn small_strata_get_their_floor_and_large_ones_the_root_of_their_size() {
        let of = |size| Demand { size, deviation: 0.3, cost: 1.0 };
        let n = allocate(&[of(1e6), of(1e4), of(30.0)], 2000.0, 50.0, 0.5).expect("a budget");
        assert!((n[2] - 30.0).abs() < 1e-9, "all of it: {n:?}");
        assert!(((n[0] - 50.0) / (n[1] - 50.0) - 10.0).abs() < 1e-6, "{n:?}");
        assert!((n.iter().sum::<f64>() - 2000.0).abs() < 1e-6);
        let short = allocate(&[of(1e6), of(1e6)], 60.0, 50.0, 0.5).expect("a budget");
        assert!(short.iter().all(|n| (n - 30.0).abs() < 1e-9), "{short:?}");
        let still = allocate(&[Demand { deviation: 0.0, ..of(100.0) }], 60.0, 10.0, 0.5).expect("a budget");
        assert!((still[0] - 60.0).abs() < 1e-9, "nothing varies: {still:?}");
    }

    proptest! {
        #[test]
        fn probabilities_keep_budget_and_floor(pass in prop::collection::vec(0.0..=1.0_f64, 1..200), part in 0.05..2.0_f64) {
            let labels = part * pass.len() as f64;
            let p = label_probabilities(&pass, labels, 0.02).expect("a budget");
            prop_assert!(p.iter().all(|p| (0.02..=1.0).contains(p)));
            prop_assert!((p.iter().sum::<f64>() - labels.min(pass.len() as f64)).abs() < 1e-6);
        }

        #[test]
        fn an_allocation_spends_the_budget(
            sizes in prop::collection::vec((0.0..1e5_f64, 0.0..0.5_f64, 0.1..9.0_f64), 1..20),
            part in 0.0..1.5_f64,
            floor in 0.0..100.0_f64,
        ) {
            let demand = |(size, deviation, cost): (f64, f64, f64)| Demand { size, deviation, cost };
            let strata: Vec<Demand> = sizes.into_iter().map(demand).collect();
            let all: f64 = strata.iter().map(|s| s.size).sum();
            let n = allocate(&strata, part * all, floor, 0.5).expect("a budget");
            prop_assert!(n.iter().zip(&strata).all(|(n, s)| *n >= 0.0 && *n <= s.size + 1e-9));
            prop_assert!((n.iter().sum::<f64>() - (part * all).min(all)).abs() <= 1e-6 * all.max(1.0));
        }
    }
}
