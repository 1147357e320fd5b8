//! Votes to P(pass): a penalised logistic regression on the votes of a panel, one for each number of judges asked, and the
//! order in which they are best asked.
//!
//! Fitted by `benches/votes` and, with the calibration, by `cli`. Follows Wolpert's stacking with the likelihood of
//! logistic regression and the penalty ‖b‖²/2 on the weights, not on the intercept (scikit-learn's
//! `LogisticRegression(C=1)`, whose output is the test vector). Votes may be yes and no, scores in [0,1], or any numbers
//! (categories one-hot). The way not taken: independent error rates a judge, which count judges that err together as if
//! each brought news.

use crate::domain::panel::{Stack, sign};
use crate::stats::refusal::{Refusal, at_least, finite, same_length, share};

/// Labels below which nothing is fitted: 50, from which on the stack was at most a point below the best judge on real
/// votes.
pub const LABELS_MIN: usize = 50;

/// Newton steps at most; five or six are enough.
const STEPS_MAX: usize = 100;

/// Fits P(pass) on votes (one row an item, one column a judge) and the truth.
///
/// `None` when there is nothing to learn: no items, or all of one kind.
#[must_use]
pub fn fit(votes: &[Vec<Option<bool>>], truth: &[bool]) -> Option<Stack> {
    Some(fitted(votes, truth)?.0)
}

/// Fits P(pass) on scores in [0,1], such as a judge's own P(pass); a score counts as 2 s - 1, so 1 as a vote that passes.
///
/// # Errors
/// As for [`fit_rows`], and for a score that is not in [0,1].
pub fn fit_scores(scores: &[Vec<Option<f64>>], truth: &[bool]) -> Result<Stack, Refusal> {
    for (at, score) in scores.iter().enumerate().flat_map(|(at, row)| row.iter().flatten().map(move |s| (at, *s))) {
        share("score of item", at, score)?;
    }
    let rows: Vec<Vec<f64>> = scores.iter().map(|row| row.iter().map(|s| centred(*s)).collect()).collect();
    fit_rows(&rows, truth)
}

/// Fits P(pass) on any numbers, one row an item: for votes of several categories one column a judge and category, 1 where
/// it was given.
///
/// # Errors
/// Without items, when lengths differ, a number is not finite, or all items pass or all fail.
pub fn fit_rows(rows: &[Vec<f64>], truth: &[bool]) -> Result<Stack, Refusal> {
    at_least("labelled items", rows.len(), 1)?;
    same_length(("items", rows.len()), ("labels", truth.len()))?;
    for (at, row) in rows.iter().enumerate() {
        same_length(("columns of the first item", rows[0].len()), ("of another", row.len()))?;
        row.iter().try_for_each(|x| finite("column of item", at, *x))?;
    }
    let with_one: Vec<Vec<f64>> = rows.iter().map(|row| with_intercept(row.iter().copied())).collect();
    newton(&with_one, truth).map(|(stack, _)| stack).ok_or(ONE_KIND)
}

/// P(pass) of a model given scores in [0,1], as [`fit_scores`] takes them; a missing one counts for nothing.
#[must_use]
pub fn probability(stack: &Stack, scores: &[Option<f64>]) -> f64 {
    let sum: f64 = stack.weights.iter().zip(scores).map(|(w, score)| w * centred(*score)).sum();
    1.0 / (1.0 + (-(stack.intercept + sum)).exp())
}

/// One model of scores for each number of judges asked, in the order of the columns.
///
/// # Errors
/// As for [`fit_scores`].
pub fn prefixes_of_scores(scores: &[Vec<Option<f64>>], truth: &[bool]) -> Result<Vec<Stack>, Refusal> {
    let judges = scores.iter().map(Vec::len).min().unwrap_or_default();
    let upto = |k: usize| scores.iter().map(|row| row[..k].to_vec()).collect::<Vec<_>>();
    (1..=judges).map(|k| fit_scores(&upto(k), truth)).collect()
}

const ONE_KIND: Refusal = Refusal::Undefined { what: "the model", why: "the labels all pass, or all fail" };

fn centred(score: Option<f64>) -> f64 {
    score.map_or(0.0, |s| 2.0 * s - 1.0)
}

fn with_intercept(row: impl Iterator<Item = f64>) -> Vec<f64> {
    std::iter::once(1.0).chain(row).collect()
}

/// The fit on votes and what it leaves unexplained.
fn fitted(votes: &[Vec<Option<bool>>], truth: &[bool]) -> Option<(Stack, f64)> {
    let judges = votes.first()?.len();
    if votes.len() != truth.len() || votes.iter().any(|row| row.len() != judges) {
        return None;
    }
    let rows: Vec<Vec<f64>> = votes.iter().map(|row| with_intercept(row.iter().map(|v| sign(*v)))).collect();
    newton(&rows, truth)
}

/// The fit on rows that begin with 1, and the penalised negative log-likelihood; `None` when there is nothing to learn.
fn newton(rows: &[Vec<f64>], truth: &[bool]) -> Option<(Stack, f64)> {
    if truth.iter().all(|t| *t) || truth.iter().all(|t| !*t) {
        return None;
    }
    let mut beta = vec![0.0; rows.first()?.len()];
    let mut loss = objective(rows, truth, &beta);
    for _ in 0..STEPS_MAX {
        let step = newton_step(rows, truth, &beta)?;
        // Halved until it helps: far from the optimum a full step can overshoot.
        let mut scale = 1.0;
        let better = loop {
            let next: Vec<f64> = beta.iter().zip(&step).map(|(b, s)| b - scale * s).collect();
            let value = objective(rows, truth, &next);
            if value <= loss {
                break Some((next, value));
            }
            scale /= 2.0;
            if scale < 1e-10 {
                break None;
            }
        };
        let Some((next, value)) = better else { break };
        let moved = beta.iter().zip(&next).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        (beta, loss) = (next, value);
        if moved < 1e-12 {
            break;
        }
    }
    Some((Stack { intercept: beta[0], weights: beta.split_off(1) }, loss))
}

/// The order in which to ask the judges: each time the one that explains most of what the earlier ones leave unexplained,
/// for its cost. `costs` has one positive number a judge, in any unit. Those of whom nothing can be learnt stay as listed.
///
/// The way not taken: by each judge's own accuracy, which puts a judge second that only repeats the first.
#[must_use]
pub fn order(votes: &[Vec<Option<bool>>], truth: &[bool], costs: &[f64]) -> Vec<usize> {
    let pick = |columns: &[usize]| -> Vec<Vec<Option<bool>>> {
        votes.iter().map(|row| columns.iter().map(|j| row[*j]).collect()).collect()
    };
    let mut open: Vec<usize> = (0..costs.len()).collect();
    let mut chosen = Vec::with_capacity(open.len());
    let mut left = fitted(&pick(&chosen), truth).map(|(_, loss)| loss);
    while let Some(now) = left {
        let gains = open.iter().enumerate().filter_map(|(at, judge)| {
            let with: Vec<usize> = chosen.iter().copied().chain([*judge]).collect();
            let (_, loss) = fitted(&pick(&with), truth)?;
            Some((at, loss, (now - loss) / costs[*judge]))
        });
        // Of equals the one that is listed first.
        let best = gains.reduce(|best, next| if next.2 > best.2 { next } else { best });
        let Some((at, loss, _)) = best else { break };
        chosen.push(open.remove(at));
        left = Some(loss);
    }
    chosen.extend(open);
    chosen
}

/// One model for each number of judges asked, in the order of the columns; empty when there is nothing to learn.
#[must_use]
pub fn prefixes(votes: &[Vec<Option<bool>>], truth: &[bool]) -> Vec<Stack> {
    let judges = votes.first().map_or(0, Vec::len);
    let upto = |k: usize| votes.iter().map(|row| row[..k].to_vec()).collect::<Vec<_>>();
    (1..=judges).map_while(|k| fit(&upto(k), truth)).collect()
}

/// Negative log-likelihood plus half the squared weights.
fn objective(rows: &[Vec<f64>], truth: &[bool], beta: &[f64]) -> f64 {
    let fitted: f64 = rows
        .iter()
        .zip(truth)
        .map(|(row, pass)| {
            let z = dot(row, beta) * if *pass { 1.0 } else { -1.0 };
            // log(1 + exp(-z)) without overflow.
            if z > 0.0 { (-z).exp().ln_1p() } else { -z + z.exp().ln_1p() }
        })
        .sum();
    fitted + beta[1..].iter().map(|b| b * b).sum::<f64>() / 2.0
}

/// Inverse Hessian times gradient.
fn newton_step(rows: &[Vec<f64>], truth: &[bool], beta: &[f64]) -> Option<Vec<f64>> {
    let n = beta.len();
    let mut gradient = vec![0.0; n];
    let mut hessian = vec![vec![0.0; n]; n];
    for (row, pass) in rows.iter().zip(truth) {
        let p = 1.0 / (1.0 + (-dot(row, beta)).exp());
        let miss = p - f64::from(u8::from(*pass));
        for i in 0..n {
            gradient[i] += miss * row[i];
            for j in 0..n {
                hessian[i][j] += p * (1.0 - p) * row[i] * row[j];
            }
        }
    }
    for i in 1..n {
        gradient[i] += beta[i];
        hessian[i][i] += 1.0;
    }
    solve(hessian, gradient)
}

/// Solves a small linear system by elimination with pivoting; `None` when it is singular.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|i, j| a[*i][column].abs().total_cmp(&a[*j][column].abs()))?;
        if a[pivot][column].abs() < 1e-12 {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        for row in column + 1..n {
            let factor = a[row][column] / a[column][column];
            let (above, below) = a.split_at_mut(row);
            for (value, top) in below[0][column..].iter_mut().zip(&above[column][column..]) {
                *value -= factor * top;
            }
            b[row] -= factor * b[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row][k] * b[k]).sum();
        b[row] = (b[row] - known) / a[row][row];
    }
    Some(b)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::file;
    use proptest::prelude::*;
    use serde_json::Value;

    fn votes(of: &Value) -> Vec<Vec<Option<bool>>> {
        let row = |row: &Value| {
            let cell = |v: &Value| v.as_f64().map(|x| x > 0.5);
            row.as_array().expect("a row").iter().map(cell).collect()
        };
        of.as_array().expect("rows").iter().map(row).collect()
    }

    #[test]
    fn the_coefficients_are_scikit_learns() {
        let file = file("stacking.json");
        let n = usize::try_from(file["n_calibration"].as_u64().expect("a number")).expect("small");
        let rows = votes(&file["votes"]);
        let truth: Vec<bool> =
            file["y"].as_array().expect("labels").iter().map(|y| y.as_f64().expect("0 or 1") > 0.5).collect();
        let fitted = prefixes(&rows[..n], &truth[..n]);
        let expected = file["prefix_models"].as_array().expect("models");
        assert_eq!(fitted.len(), expected.len());
        for (own, reference) in fitted.iter().zip(expected) {
            let close = |a: f64, b: &Value| (a - b.as_f64().expect("a number")).abs() < 1e-5;
            assert!(close(own.intercept, &reference["intercept"]), "{own:?}");
            for (weight, coef) in own.weights.iter().zip(reference["coef"].as_array().expect("numbers")) {
                assert!(close(*weight, coef), "{own:?}");
            }
            for (row, p) in rows[n..].iter().zip(reference["prob_test"].as_array().expect("numbers")) {
                assert!(close(own.probability(row), p));
            }
        }
        for (tau, decided) in file["sequential"].as_object().expect("by tau") {
            let tau: f64 = tau.parse().expect("a number");
            for (i, row) in rows[n..].iter().enumerate() {
                let sure = |k: &usize| {
                    let p = fitted[k - 1].probability(row);
                    p.max(1.0 - p) >= tau
                };
                let calls = (1..=fitted.len()).find(sure).unwrap_or(fitted.len());
                assert_eq!(Some(calls as u64), decided["calls"][i].as_u64(), "item {i} at {tau}");
                let pass = u64::from(fitted[calls - 1].probability(row) > 0.5);
                assert_eq!(Some(pass), decided["verdict"][i].as_u64(), "item {i} at {tau}");
            }
        }
    }

    #[test]
    fn a_judge_that_only_repeats_another_is_asked_late() {
        // Right 8 of 10 times, the same once more, and one that is right 7 of 10 times but errs elsewhere.
        let truth: Vec<bool> = (0..100).map(|n| n % 2 == 0).collect();
        let says = |n: usize, wrong: &[usize]| Some(truth[n] != wrong.contains(&(n / 2 % 10)));
        let rows: Vec<Vec<Option<bool>>> =
            (0..100).map(|n| vec![says(n, &[0, 1, 2]), says(n, &[8, 9]), says(n, &[8, 9])]).collect();
        assert_eq!(order(&rows, &truth, &[1.0; 3]), [1, 0, 2]);
        assert_eq!(order(&rows, &truth, &[1.0, 60.0, 1.0]), [2, 0, 1], "the same news for less");
        assert_eq!(order(&rows, &[true; 100], &[1.0; 3]), [0, 1, 2], "nothing to learn");
    }

    #[test]
    fn nothing_is_learnt_from_nothing() {
        assert_eq!(fit(&[], &[]), None);
        let one_kind = vec![vec![Some(true)], vec![Some(false)]];
        assert_eq!(fit(&one_kind, &[true, true]), None);
        assert!(prefixes(&one_kind, &[true, true]).is_empty());
        let uneven = vec![vec![Some(true)], vec![Some(false), Some(true)]];
        assert_eq!(fit(&uneven, &[true, false]), None);
    }

    #[test]
    fn sure_scores_are_votes_and_unsure_ones_count_less() {
        let file = file("stacking.json");
        let rows = votes(&file["votes"]);
        let truth: Vec<bool> =
            file["y"].as_array().expect("labels").iter().map(|y| y.as_f64().expect("0 or 1") > 0.5).collect();
        let scores: Vec<Vec<Option<f64>>> =
            rows.iter().map(|row| row.iter().map(|v| v.map(|v| f64::from(u8::from(v)))).collect()).collect();
        let (by_votes, by_scores) = (prefixes(&rows, &truth), prefixes_of_scores(&scores, &truth).expect("labels"));
        assert_eq!(by_votes, by_scores);
        for (row, score) in rows.iter().zip(&scores) {
            assert!((by_votes[3].probability(row) - probability(&by_scores[3], score)).abs() < 1e-12);
        }
        let unsure = probability(&by_scores[0], &[Some(0.6)]);
        let (none, sure) = (probability(&by_scores[0], &[None]), probability(&by_scores[0], &[Some(1.0)]));
        assert!(none < unsure && unsure < sure);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fit = |score| fit_scores(&[vec![Some(0.5)], vec![Some(score)]], &[true, false]);
        assert!(fit(0.2).is_ok() && fit(f64::NAN).is_err() && fit(1.5).is_err());
        assert_eq!(fit_rows(&[vec![1.0], vec![0.0]], &[true, true]), Err(ONE_KIND));
        assert!(fit_rows(&[], &[]).is_err() && fit_rows(&[vec![1.0]], &[true, false]).is_err());
        assert!(fit_rows(&[vec![1.0], vec![]], &[true, false]).is_err());
        assert!(fit_rows(&[vec![1.0], vec![f64::INFINITY]], &[true, false]).is_err());
    }

    proptest! {
        #[test]
        fn a_fit_is_a_probability_model_for_any_votes(
            items in prop::collection::vec((prop::collection::vec(prop::option::of(any::<bool>()), 3), any::<bool>()), 2..40),
        ) {
            let (rows, truth): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            let Some(stack) = fit(&rows, &truth) else { return Ok(()) };
            let mean = rows.iter().map(|row| stack.probability(row)).sum::<f64>() / rows.len() as f64;
            let share = truth.iter().filter(|t| **t).count() as f64 / truth.len() as f64;
            // The intercept is not penalised, so the model passes as many as people do.
            prop_assert!((mean - share).abs() < 1e-6, "{mean} {share}");
        }
    }
}
