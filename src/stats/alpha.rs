//! Krippendorff's alpha: agreement of any number of raters, some of whose votes may be missing.
//!
//! For calibration and reports. alpha = 1 - D_o/D_e; D_o averages a squared distance over pairs of votes on one item, each
//! pair of an item with m votes weighing 1/(m-1), D_e over all pairs of votes (Krippendorff, Content Analysis, 2004,
//! chapter 11; Hayes & Krippendorff, 2007). Items with one vote are left out. Its rule: distances that are those of numbers
//! are summed from moments, so that thousands of different scores cost no more than two. The way not taken: average
//! agreement in percent, which is high by chance when nearly all pass.

use crate::stats::refusal::{Refusal, finite, same_length};

/// How far apart two votes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Same or not.
    Nominal,
    /// By how many votes lie between them.
    Ordinal,
    /// Their difference, squared.
    Interval,
    /// Their difference relative to their sum, squared; for scores of at least 0.
    Ratio,
}

/// Alpha of votes: one row a rater, one column an item.
///
/// # Errors
/// When rows differ in length, a vote is not finite (or negative for [`Metric::Ratio`]), and when alpha is not defined: no
/// item with two votes, or all votes the same.
pub fn krippendorff<R: AsRef<[Option<f64>]>>(raters: &[R], metric: Metric) -> Result<f64, Refusal> {
    let mut items = paired_items(raters)?;
    let counts = counts(&items);
    if counts.len() < 2 {
        let why = if counts.is_empty() { "no item has two votes" } else { "all votes are the same" };
        return Err(Refusal::Undefined { what: "Krippendorff's alpha", why });
    }
    if metric == Metric::Ratio && counts[0].0 < 0.0 {
        let range = "at least 0 on a ratio scale";
        return Err(Refusal::OutOfRange { what: "vote", at: 0, value: counts[0].0, range });
    }
    let mut all: Vec<f64> = items.concat();
    if metric == Metric::Ordinal {
        // The distance of ranks is that of their middles, counted in votes.
        let middles = middles(&counts);
        let place = |value: &f64| middles[counts.partition_point(|(other, _)| other < value)];
        all = all.iter().map(place).collect();
        items = items.iter().map(|votes| votes.iter().map(place).collect()).collect();
    }
    let n = all.len() as f64;
    let observed: f64 = items.iter().map(|votes| distances(votes, metric) / (votes.len() as f64 - 1.0)).sum();
    let expected = distances(&all, metric) / (n - 1.0);
    Ok(1.0 - observed / expected)
}

/// The votes of each item that has at least two.
fn paired_items<R: AsRef<[Option<f64>]>>(raters: &[R]) -> Result<Vec<Vec<f64>>, Refusal> {
    let items = raters.first().map_or(0, |row| row.as_ref().len());
    let mut votes = vec![Vec::new(); items];
    for row in raters {
        same_length(("items of the first rater", items), ("of another", row.as_ref().len()))?;
        for (at, vote) in row.as_ref().iter().enumerate() {
            if let Some(vote) = vote {
                finite("vote", at, *vote)?;
                votes[at].push(*vote);
            }
        }
    }
    votes.retain(|item| item.len() > 1);
    Ok(votes)
}

/// Each value and how often it occurs, in rising order.
fn counts(items: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let mut all = items.concat();
    all.sort_by(f64::total_cmp);
    let runs = all.chunk_by(|a, b| a - b == 0.0);
    runs.map(|run| (run[0], run.len() as f64)).collect()
}

/// For each value the number of votes below it and half of those on it.
fn middles(counts: &[(f64, f64)]) -> Vec<f64> {
    let mut below = 0.0;
    let middle = |(_, n): &(f64, f64)| {
        below += n;
        below - n / 2.0
    };
    counts.iter().map(middle).collect()
}

/// The sum of squared distances over all ordered pairs.
fn distances(values: &[f64], metric: Metric) -> f64 {
    let n = values.len() as f64;
    match metric {
        Metric::Interval | Metric::Ordinal => {
            let mean = values.iter().sum::<f64>() / n;
            2.0 * n * values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        }
        Metric::Nominal => n * n - runs(values).iter().map(|(_, count)| count * count).sum::<f64>(),
        Metric::Ratio => {
            let runs = runs(values);
            let pair = |(a, n): &(f64, f64), (b, m): &(f64, f64)| {
                if a - b == 0.0 { 0.0 } else { n * m * ((a - b) / (a + b)).powi(2) }
            };
            runs.iter().map(|first| runs.iter().map(|second| pair(first, second)).sum::<f64>()).sum()
        }
    }
}

fn runs(values: &[f64]) -> Vec<(f64, f64)> {
    counts(std::slice::from_ref(&values.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, optional};
    use proptest::prelude::*;

    const ALL: [(&str, Metric); 4] = [
        ("nominal", Metric::Nominal),
        ("ordinal", Metric::Ordinal),
        ("interval", Metric::Interval),
        ("ratio", Metric::Ratio),
    ];

    #[test]
    fn alpha_as_the_reference_package() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("agreement.json")["cases"]).iter().enumerate() {
            let raters: Vec<Vec<Option<f64>>> = cases(&case["raters_by_items"]).iter().map(optional).collect();
            for (name, metric) in ALL {
                let own = krippendorff(&raters, metric).expect("raters disagree");
                let expected = &case["out"][format!("krippendorff.alpha({name})")];
                checks.close(&format!("case {n}, {name}"), own, expected, 1e-9);
            }
        }
        checks.done(8);
    }

    #[test]
    fn the_ends() {
        let agree = [[Some(1.0), Some(2.0), None], [Some(1.0), Some(2.0), Some(9.0)]];
        for (name, metric) in ALL {
            assert!((krippendorff(&agree, metric).expect("two values") - 1.0).abs() < 1e-12, "{name}");
        }
        let undefined = |raters: &[Vec<Option<f64>>]| {
            matches!(krippendorff(raters, Metric::Nominal), Err(Refusal::Undefined { .. }))
        };
        assert!(undefined(&[]) && undefined(&[vec![], vec![]]));
        assert!(undefined(&[vec![Some(1.0), None], vec![None, Some(2.0)]]), "no item has two votes");
        assert!(undefined(&[vec![Some(1.0); 3], vec![Some(1.0); 3]]), "all the same");
        let uneven = [vec![Some(1.0)], vec![Some(1.0), Some(2.0)]];
        assert!(matches!(krippendorff(&uneven, Metric::Nominal), Err(Refusal::Lengths { .. })));
        let nan = [[Some(1.0), Some(f64::NAN)], [Some(1.0), Some(0.0)]];
        assert!(matches!(krippendorff(&nan, Metric::Interval), Err(Refusal::OutOfRange { at: 1, .. })));
        let negative = [[Some(1.0), Some(-1.0)], [Some(1.0), Some(0.0)]];
        assert!(krippendorff(&negative, Metric::Ratio).is_err());
    }

    proptest! {
        #[test]
        fn alpha_is_at_most_1_and_does_not_know_who_voted(
            items in prop::collection::vec((prop::option::of(0..5_i32), 0..5_i32, prop::option::of(0..5_i32)), 2..30),
        ) {
            let number = |v: Option<i32>| v.map(f64::from);
            let rows: [Vec<Option<f64>>; 3] = [
                items.iter().map(|i| number(i.0)).collect(),
                items.iter().map(|i| Some(f64::from(i.1))).collect(),
                items.iter().map(|i| number(i.2)).collect(),
            ];
            let turned = [rows[2].clone(), rows[0].clone(), rows[1].clone()];
            for (name, metric) in ALL {
                let Ok(alpha) = krippendorff(&rows, metric) else { continue };
                prop_assert!(alpha <= 1.0 + 1e-12, "{name}: {alpha}");
                let other = krippendorff(&turned, metric).expect("the same votes");
                prop_assert!((alpha - other).abs() < 1e-9, "{name}");
            }
        }
    }
}
