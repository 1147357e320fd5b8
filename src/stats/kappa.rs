//! Agreement beyond chance on categories: Cohen's kappa of two raters, and Fleiss', Randolph's and Gwet's of many.
//!
//! For calibration: judge against human, and judges among each other. Sources: Cohen, 1960 and (weights) 1968; Fleiss,
//! 1971; Randolph, 2005; Gwet, 2008, with his form for missing votes (Handbook of Inter-Rater Reliability, 2014). Its rule:
//! categories are numbers from 0 in the order of the scale. The way not taken: kappa alone where nearly all pass; there it
//! is near zero although raters agree, and Gwet's AC1 is shown.

use crate::stats::refusal::{Refusal, at_least, hold_category, same_length};

/// How much a disagreement between two categories counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Each the same.
    Plain,
    /// By their distance.
    Linear,
    /// By its square; the usual one on ordinal scales.
    Quadratic,
}

impl Weights {
    fn of(self, a: usize, b: usize) -> f64 {
        let distance = a.abs_diff(b) as f64;
        match self {
            Self::Plain => distance.min(1.0),
            Self::Linear => distance,
            Self::Quadratic => distance * distance,
        }
    }
}

/// Cohen's kappa of two raters on `categories` categories; items that one of them left out do not count.
///
/// # Errors
/// When lengths differ, a vote is no category, no item has two votes, or both gave all items the same category.
pub fn cohen(
    first: &[Option<usize>],
    second: &[Option<usize>],
    categories: usize,
    weights: Weights,
) -> Result<f64, Refusal> {
    same_length(("votes of the first rater", first.len()), ("of the second", second.len()))?;
    in_range(&[first, second], categories)?;
    let pairs: Vec<(usize, usize)> = first.iter().zip(second).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
    at_least("items with two votes", pairs.len(), 1)?;
    let (mut left, mut right) = (vec![0.0; categories], vec![0.0; categories]);
    let mut observed = 0.0;
    for (a, b) in &pairs {
        left[*a] += 1.0;
        right[*b] += 1.0;
        observed += weights.of(*a, *b);
    }
    let by_chance =
        |(a, n): (usize, &f64)| -> f64 { right.iter().enumerate().map(|(b, m)| n * m * weights.of(a, b)).sum() };
    let expected = left.iter().enumerate().map(by_chance).sum::<f64>() / pairs.len() as f64;
    if expected == 0.0 {
        return Err(Refusal::Undefined { what: "Cohen's kappa", why: "both raters gave all items one category" });
    }
    Ok(1.0 - observed / expected)
}

/// Fleiss' kappa: chance by how often each category was given.
///
/// # Errors
/// As for [`gwet_ac1`].
pub fn fleiss<R: AsRef<[Option<usize>]>>(raters: &[R], categories: usize) -> Result<f64, Refusal> {
    beyond_chance(raters, categories, "Fleiss' kappa", |shares| shares.iter().map(|p| p * p).sum())
}

/// Randolph's kappa: chance as if all categories were as likely.
///
/// # Errors
/// As for [`gwet_ac1`].
pub fn randolph<R: AsRef<[Option<usize>]>>(raters: &[R], categories: usize) -> Result<f64, Refusal> {
    beyond_chance(raters, categories, "Randolph's kappa", |shares| 1.0 / shares.len() as f64)
}

/// Gwet's AC1: chance by how evenly categories were given; stays meaningful when nearly all pass.
///
/// Votes have one row a rater, one column an item. Agreement is over items with two votes, shares of categories over items
/// with any.
///
/// # Errors
/// When rows differ in length, a vote is no category, there are fewer than two categories, no item has two votes, or chance
/// explains everything.
pub fn gwet_ac1<R: AsRef<[Option<usize>]>>(raters: &[R], categories: usize) -> Result<f64, Refusal> {
    beyond_chance(raters, categories, "Gwet's AC1", |shares| {
        shares.iter().map(|p| p * (1.0 - p)).sum::<f64>() / (shares.len() as f64 - 1.0)
    })
}

fn beyond_chance<R: AsRef<[Option<usize>]>>(
    raters: &[R],
    categories: usize,
    what: &'static str,
    chance: impl Fn(&[f64]) -> f64,
) -> Result<f64, Refusal> {
    at_least("categories", categories, 2)?;
    let rows: Vec<&[Option<usize>]> = raters.iter().map(AsRef::as_ref).collect();
    let items = rows.first().map_or(0, |row| row.len());
    for row in &rows {
        same_length(("items of the first rater", items), ("of another", row.len()))?;
    }
    in_range(&rows, categories)?;
    let (mut agreement, mut pairs, mut voted) = (0.0, 0.0, 0.0);
    let mut shares = vec![0.0; categories];
    for item in 0..items {
        let mut counts = vec![0.0; categories];
        for vote in rows.iter().filter_map(|row| row[item]) {
            counts[vote] += 1.0;
        }
        let n: f64 = counts.iter().sum();
        if n == 0.0 {
            continue;
        }
        voted += 1.0;
        for (share, count) in shares.iter_mut().zip(&counts) {
            *share += count / n;
        }
        if n > 1.0 {
            pairs += 1.0;
            agreement += counts.iter().map(|c| c * (c - 1.0)).sum::<f64>() / (n * (n - 1.0));
        }
    }
    if pairs == 0.0 {
        return Err(Refusal::TooFew { what: "items with two votes", have: 0, need: 1 });
    }
    for share in &mut shares {
        *share /= voted;
    }
    let (agreement, chance) = (agreement / pairs, chance(&shares));
    if chance >= 1.0 {
        return Err(Refusal::Undefined { what, why: "all items were given one category" });
    }
    Ok((agreement - chance) / (1.0 - chance))
}

fn in_range(rows: &[&[Option<usize>]], categories: usize) -> Result<(), Refusal> {
    let mut votes = rows.iter().flat_map(|row| row.iter().enumerate());
    votes.try_for_each(|(at, vote)| hold_category(at, *vote, categories))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, optional, whole};
    use proptest::prelude::*;
    use serde_json::Value;

    fn votes(case: &Value) -> Vec<Vec<Option<usize>>> {
        let row = |row: &Value| optional(row).iter().map(|v| v.map(|v| whole(&v.into()))).collect();
        cases(&case["raters_by_items"]).iter().map(row).collect()
    }

    #[test]
    fn kappas_as_the_reference_packages() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("agreement.json")["cases"]).iter().enumerate() {
            // Cases with missing votes have no kappas.
            let (votes, k, out) = (votes(case), whole(&case["K"]), &case["out"]);
            let mut check = |key: &str, own: Result<f64, Refusal>| {
                if !out[key].is_null() {
                    checks.close(&format!("case {n}, {key}"), own.expect("raters disagree"), &out[key], 1e-9);
                }
            };
            let pair = |weights| cohen(&votes[0], &votes[1], k, weights);
            check("cohen_kappa_score(r0,r1)", pair(Weights::Plain));
            check("cohen_kappa_score(linear)", pair(Weights::Linear));
            check("cohen_kappa_score(quadratic)", pair(Weights::Quadratic));
            check("fleiss_kappa", fleiss(&votes, k));
            check("randolph_kappa", randolph(&votes, k));
            check("gwet_ac1(irrCAC)", gwet_ac1(&votes, k));
        }
        checks.done(12);
    }

    #[test]
    fn where_nearly_all_pass_kappa_says_nothing_and_ac1_does() {
        let judge: Vec<Option<usize>> = (0..100).map(|n| Some(usize::from(n > 1))).collect();
        let human: Vec<Option<usize>> = (0..100).map(|n| Some(usize::from(n < 98))).collect();
        let kappa = cohen(&judge, &human, 2, Weights::Plain).expect("both kinds are there");
        let ac1 = gwet_ac1(&[judge, human], 2).expect("both kinds are there");
        assert!(kappa < 0.0 && ac1 > 0.95, "{kappa} {ac1}");
    }

    #[test]
    fn the_ends() {
        let one = [Some(1), Some(1), None];
        assert!(matches!(cohen(&one, &one, 2, Weights::Plain), Err(Refusal::Undefined { .. })), "one category");
        assert!(matches!(fleiss(&[one, one], 2), Err(Refusal::Undefined { .. })));
        assert!((gwet_ac1(&[one, one], 2).expect("chance is low") - 1.0).abs() < 1e-12);
        assert!(matches!(cohen(&[], &[], 2, Weights::Plain), Err(Refusal::TooFew { .. })));
        assert!(cohen(&[None], &[Some(1)], 2, Weights::Plain).is_err(), "no item with two votes");
        assert!(gwet_ac1(&[[Some(1)], [None]], 2).is_err() && fleiss::<[Option<usize>; 0]>(&[], 2).is_err());
        assert!(cohen(&[Some(2)], &[Some(1)], 2, Weights::Plain).is_err(), "no such category");
        assert!(cohen(&one, &one[..2], 2, Weights::Plain).is_err(), "lengths differ");
        assert!(gwet_ac1(&[one, one], 1).is_err(), "one category is no choice");
    }

    proptest! {
        #[test]
        fn agreement_is_at_most_1_and_does_not_know_who_voted(
            items in prop::collection::vec((0..4_usize, prop::option::of(0..4_usize)), 2..40),
        ) {
            let (a, b): (Vec<_>, Vec<_>) = items.iter().map(|(a, b)| (Some(*a), *b)).unzip();
            for weights in [Weights::Plain, Weights::Linear, Weights::Quadratic] {
                let Ok(kappa) = cohen(&a, &b, 4, weights) else { continue };
                prop_assert!(kappa <= 1.0 + 1e-12);
                prop_assert!((kappa - cohen(&b, &a, 4, weights).expect("the same votes")).abs() < 1e-9);
            }
            for f in [fleiss, randolph, gwet_ac1] {
                let Ok(kappa) = f(&[a.clone(), b.clone()], 4) else { continue };
                prop_assert!(kappa <= 1.0 + 1e-12);
                prop_assert!((kappa - f(&[b.clone(), a.clone()], 4).expect("the same votes")).abs() < 1e-9);
            }
        }
    }
}
