//! What human labels have taught about a panel: how far each judge's vote moves the probability that a trace passes.
//!
//! Fitted by `stats::stack`, stored by `store::panel_models`, used by `judge::panel` (is the verdict sure enough?) and
//! `judge::combine` (the weights). Its rule: a model belongs to one version of one rubric and names its judges, so that it is
//! never applied to votes it was not fitted on. The way not taken: one weight a judge for all rubrics; a judge that is
//! good at tone is not therefore good at facts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A logistic model of "passes" on votes: `P = 1/(1+exp(-(intercept + Σ weight·x)))`, x = +1 for a vote that passes, -1 for
/// one that fails, 0 for none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// Log-odds of passing when nobody has voted.
    pub intercept: f64,
    /// Log-odds for each judge, in the model's order.
    pub weights: Vec<f64>,
}

impl Stack {
    /// P(pass), 0 to 1, given the votes in the model's order; missing and surplus votes count for nothing.
    #[must_use]
    pub fn probability(&self, votes: &[Option<bool>]) -> f64 {
        1.0 / (1.0 + (-self.log_odds(votes)).exp())
    }

    /// The same as log-odds: 0 is even.
    #[must_use]
    pub fn log_odds(&self, votes: &[Option<bool>]) -> f64 {
        self.intercept + self.weights.iter().zip(votes).map(|(w, vote)| w * sign(*vote)).sum::<f64>()
    }
}

/// A vote as a number: +1, -1, or 0 for none.
#[must_use]
pub fn sign(vote: Option<bool>) -> f64 {
    match vote {
        Some(true) => 1.0,
        Some(false) => -1.0,
        None => 0.0,
    }
}

/// What is known of a panel that judges by one version of one rubric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PanelModel {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The judges, in the order in which they are asked.
    pub judges: Vec<String>,
    /// One model for each number of judges asked, the first for one judge.
    pub prefixes: Vec<Stack>,
    /// Human labels that it was fitted on.
    pub labels: u32,
    /// When.
    pub fitted_at: DateTime<Utc>,
}

impl PanelModel {
    /// P(pass) after the votes that are there, by judge; `None` before the first vote, or when a judge is not in the model.
    #[must_use]
    pub fn probability(&self, votes: &[(&str, bool)]) -> Option<f64> {
        let (asked, last) = self.placed(votes)?;
        Some(self.prefixes.get(last)?.probability(&asked))
    }

    /// Whether P stays on its side of one half, whatever those who are still open say, and whichever of them say anything.
    #[must_use]
    pub fn is_settled(&self, votes: &[(&str, bool)], open: &[&str]) -> bool {
        let Some((asked, last)) = self.placed(votes) else { return false };
        let is_open: Vec<bool> = self.judges.iter().map(|judge| open.contains(&judge.as_str())).collect();
        let mut sides = (last..self.judges.len()).filter(|k| *k == last || is_open[*k]).map(|k| {
            let stack = self.prefixes.get(k)?;
            let now = stack.log_odds(&asked);
            let moved: f64 = stack.weights.iter().zip(&is_open).filter(|(_, open)| **open).map(|(w, _)| w.abs()).sum();
            let (low, high) = (now - moved >= 0.0, now + moved >= 0.0);
            (low == high).then_some(low)
        });
        let first = sides.next().flatten();
        first.is_some() && sides.all(|side| side == first)
    }

    /// The votes in the model's order, and the place of the last judge that voted.
    fn placed(&self, votes: &[(&str, bool)]) -> Option<(Vec<Option<bool>>, usize)> {
        let place = |name: &str| self.judges.iter().position(|judge| judge == name);
        let mut asked = vec![None; self.judges.len()];
        let mut last = None;
        for (judge, passes) in votes {
            let at = place(judge)?;
            asked[at] = Some(*passes);
            last = last.max(Some(at));
        }
        Some((asked, last?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_the_last_judge_that_voted_decides() {
        let model = PanelModel {
            judges: vec!["a".to_owned(), "b".to_owned()],
            prefixes: vec![
                Stack { intercept: 0.0, weights: vec![1.0] },
                Stack { intercept: 0.0, weights: vec![0.5, 2.0] },
            ],
            ..PanelModel::default()
        };
        let p = |votes: &[(&str, bool)]| model.probability(votes);
        assert_eq!(p(&[]), None);
        assert_eq!(p(&[("c", true)]), None, "a judge that the model does not know");
        assert!((p(&[("a", true)]).expect("known") - 0.731_058_578_630_004_9).abs() < 1e-12);
        let split = p(&[("a", true), ("b", false)]).expect("known");
        assert!((split - 1.0 / (1.0 + 1.5_f64.exp())).abs() < 1e-12, "{split}");
        let alone = p(&[("b", false)]).expect("known");
        assert!((alone - 1.0 / (1.0 + 2.0_f64.exp())).abs() < 1e-12, "a missing vote counts for nothing");
    }

    #[test]
    fn it_is_settled_only_when_no_later_prefix_could_turn_it() {
        let stack = |intercept, weights: &[f64]| Stack { intercept, weights: weights.to_vec() };
        let of = |last: Stack| PanelModel {
            judges: ["a", "b"].map(str::to_owned).to_vec(),
            prefixes: vec![stack(0.0, &[2.0]), last],
            ..PanelModel::default()
        };
        let strong = of(stack(0.0, &[2.0, 1.0]));
        assert!(strong.is_settled(&[("a", true)], &["b"]));
        assert!(strong.is_settled(&[("a", false)], &["b"]));
        assert!(!strong.is_settled(&[("b", true)], &["a"]), "the stronger one is still open");
        assert!(strong.is_settled(&[("b", true)], &[]), "nobody is open");
        assert!(!of(stack(1.5, &[2.0, 1.0])).is_settled(&[("a", false)], &["b"]), "the intercept and b outweigh a");
        assert!(
            !of(stack(0.0, &[2.0, -3.0])).is_settled(&[("a", true)], &["b"]),
            "a judge that is wrong tells something too"
        );
        assert!(!strong.is_settled(&[], &["a", "b"]));
    }
}
