//! Who of a panel is asked next, when to stop asking, and whether enough have answered.
//!
//! Called by `pipeline::evaluate` and `pipeline::aggregate`. Its rule: a vote that was paid for is not bought again; one after
//! another means the cheapest first, until no further vote could change the verdict or the votes so far are sure enough by
//! error rates learnt from human labels; without labels nothing is called sure. The way not taken: "the first two agree",
//! which loses seven points of accuracy when the second judge is weak.

use super::combine::combine;
use crate::domain::panel::PanelModel;
use crate::domain::rubric::{Ask, Combine, Output, Rubric};
use crate::domain::verdict::{Stopped, Vote};
use std::collections::BTreeMap;

/// What is known about judges when their votes are weighed.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Their configured weights; a judge that is not in them counts 1.
    pub weights: &'a BTreeMap<String, f64>,
    /// What labels have taught about this panel, where there are enough.
    pub model: Option<&'a PanelModel>,
}

impl Known<'_> {
    /// A judge's weight: learnt where `weighted` is asked for and labels have taught one, else configured.
    #[must_use]
    pub fn weight(&self, rule: Combine, judge: &str) -> f64 {
        let learnt = self.model.filter(|_| rule == Combine::Weighted).and_then(|model| {
            let at = model.judges.iter().position(|name| name == judge)?;
            model.prefixes.last()?.weights.get(at).copied()
        });
        // A judge that labels show to be worse than a coin is not listened to; turning its vote round would be a bet.
        learnt.unwrap_or_else(|| self.weights.get(judge).copied().unwrap_or(1.0)).max(0.0)
    }

    /// P(pass) by the votes that are there. A fallback's vote is none that the model was fitted on.
    #[must_use]
    pub fn probability(&self, votes: &[Vote], pass: f64) -> Option<f64> {
        self.model?.probability(&given(votes, pass))
    }

    /// The votes with their weights, for `combine`.
    #[must_use]
    pub fn weighted(&self, rule: Combine, votes: &[Vote]) -> Vec<(f64, f64)> {
        votes.iter().filter_map(|v| Some((v.score?, self.weight(rule, &v.judge)))).collect()
    }
}

fn given(votes: &[Vote], pass: f64) -> Vec<(&str, bool)> {
    let own = votes.iter().filter(|v| v.stood_in.is_none());
    own.filter_map(|v| Some((v.judge.as_str(), v.score? >= pass))).collect()
}

/// Names of the judges that have neither voted nor failed for good.
#[must_use]
pub fn still_to_ask<'a>(panel: &'a [String], votes: &[Vote]) -> Vec<&'a str> {
    let settled = |name: &str| votes.iter().any(|v| v.judge == name && v.is_settled());
    panel.iter().map(String::as_str).filter(|name| !settled(name)).collect()
}

/// The order in which the judges are asked one after another: that of the model that knows them, else by price, else as listed.
/// `price` gives US dollars a million tokens, input and output together.
#[must_use]
pub fn order(panel: &[String], model: Option<&PanelModel>, price: impl Fn(&str) -> Option<f64>) -> Vec<String> {
    let mut order = panel.to_vec();
    if let Some(model) = model.filter(|m| panel.iter().all(|judge| m.judges.contains(judge))) {
        order.sort_by_key(|judge| model.judges.iter().position(|name| name == judge));
    } else if let Some(prices) = panel.iter().map(|judge| price(judge)).collect::<Option<Vec<f64>>>() {
        let mut priced: Vec<(String, f64)> = order.into_iter().zip(prices).collect();
        priced.sort_by(|a, b| a.1.total_cmp(&b.1));
        order = priced.into_iter().map(|(judge, _)| judge).collect();
    }
    order
}

/// Whether the panel need not be asked any further, and why. `None` when all have been asked or the next must be.
#[must_use]
pub fn stopped(rubric: &Rubric, votes: &[Vote], known: &Known) -> Option<Stopped> {
    if rubric.ask == Ask::Together {
        return None;
    }
    let open = still_to_ask(&rubric.panel, votes);
    let given = known.weighted(rubric.combine, votes);
    if open.is_empty() || given.is_empty() {
        return None;
    }
    let (asked, of) = (given.len(), rubric.panel.len());
    let passes = |votes: &[(f64, f64)]| combine(rubric.combine, votes, rubric.pass).map(|c| c.score >= rubric.pass);
    // Every rule is monotone in each vote, so the two extremes say whether anything in between could matter; and a judge
    // may also fail, in which case it is left out.
    let with = |vote: f64| -> Vec<(f64, f64)> {
        let more = open.iter().map(|judge| (vote, known.weight(rubric.combine, judge)));
        given.iter().copied().chain(more).collect()
    };
    let now = passes(&given)?;
    let p = known.probability(votes, rubric.pass);
    // Where the probability is the verdict, it is what must not change.
    let by_labels =
        rubric.combine == Combine::Weighted && !matches!(rubric.output, Output::Score { .. } | Output::Claims { .. });
    let decided = match known.model.filter(|_| by_labels && p.is_some()) {
        Some(model) => model.is_settled(&self::given(votes, rubric.pass), &open),
        None => passes(&with(0.0)) == Some(now) && passes(&with(1.0)) == Some(now),
    };
    if asked >= quorum(of) && decided {
        return Some(Stopped::Decided { asked, of });
    }
    let p = p?;
    let sure = p.max(1.0 - p);
    // Sure of the other side than the rule says: the next judge is asked.
    let agrees = by_labels || (p >= 0.5) == now;
    (rubric.stop_at.is_some_and(|tau| sure >= tau) && agrees).then_some(Stopped::Sure { asked, of, sure })
}

/// Votes needed for a score: half of the panel, rounded up.
#[must_use]
pub fn quorum(panel: usize) -> usize {
    panel.div_ceil(2).max(1)
}

/// Mean distance between two votes, 0 to 1; `None` with fewer than two.
#[must_use]
pub fn disagreement(votes: &[Vote]) -> Option<f64> {
    let scores: Vec<f64> = votes.iter().filter_map(|v| v.score).collect();
    let pairs = scores.iter().enumerate().flat_map(|(i, a)| scores[i + 1..].iter().map(move |b| (a - b).abs()));
    let (sum, count) = pairs.fold((0.0, 0.0), |(sum, count), distance| (sum + distance, count + 1.0));
    (count > 0.0).then(|| (sum / count).clamp(0.0, 1.0))
}

/// Earlier and new votes together, in the panel's order; a new vote replaces an earlier failed one of the same judge.
#[must_use]
pub fn merge(panel: &[String], earlier: Vec<Vote>, new: Vec<Vote>) -> Vec<Vote> {
    let (replaced, mut all): (Vec<Vote>, Vec<Vote>) =
        earlier.into_iter().partition(|e| new.iter().any(|n| n.judge == e.judge));
    all.extend(new.into_iter().map(|vote| match replaced.iter().find(|e| e.judge == vote.judge) {
        Some(failed) => with_expenses(vote, failed),
        None => vote,
    }));
    all.sort_by_key(|vote| panel.iter().position(|name| *name == vote.judge).unwrap_or(usize::MAX));
    all
}

/// The vote, with what the failed one before it cost and how far that had come.
fn with_expenses(mut vote: Vote, failed: &Vote) -> Vote {
    vote.tokens += failed.tokens;
    vote.cost_usd += failed.cost_usd;
    vote.attempts += failed.attempts;
    // A judge that could not be asked this time has found nothing; what it had found before is still true.
    if vote.score.is_none() && vote.detail.is_null() {
        vote.detail.clone_from(&failed.detail);
    }
    vote
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::VoteTokens;

    fn vote(judge: &str, score: Option<f64>, error: Option<&str>) -> Vote {
        Vote { judge: judge.to_owned(), score, error: error.map(str::to_owned), ..Vote::default() }
    }

    #[test]
    fn only_those_without_a_settled_vote_are_asked() {
        let panel: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let votes =
            [vote("a", Some(0.5), None), vote("b", None, Some("timeout")), vote("c", None, Some("final: rejected"))];
        assert_eq!(still_to_ask(&panel, &votes), ["b", "d"]);
    }

    #[test]
    fn a_new_vote_replaces_a_failed_one_in_the_panels_order() {
        let panel: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
        let tokens = |input| VoteTokens { input, output: 2 * input, cached_input: 1, reasoning: 3 };
        let partial = serde_json::json!({"partial": true});
        let failed = Vote {
            cost_usd: 0.5,
            tokens: tokens(10),
            attempts: 2,
            detail: partial.clone(),
            ..vote("a", None, Some("timeout"))
        };
        let earlier = vec![vote("b", Some(0.1), None), failed];
        let again = Vote { cost_usd: 0.25, tokens: tokens(5), attempts: 1, ..vote("a", None, Some("paused: key")) };
        let twice = merge(&panel, earlier, vec![again]);
        assert_eq!(twice[0].detail, partial, "how far it was is kept while it cannot be asked");
        let merged = merge(&panel, twice, vec![Vote { cost_usd: 0.25, attempts: 1, ..vote("a", Some(0.9), None) }]);
        assert!((merged[0].cost_usd - 1.0).abs() < 1e-12, "failed attempts cost too");
        assert_eq!(
            (merged[0].attempts, merged[0].tokens),
            (4, VoteTokens { input: 15, output: 30, cached_input: 2, reasoning: 6 })
        );
        assert!(merged[0].detail.is_null(), "of no use once there is a score");
        assert_eq!(merged.iter().map(|v| v.score).collect::<Vec<_>>(), [Some(0.9), Some(0.1)]);
    }

    fn rubric(stop_at: Option<f64>, combine: Combine) -> Rubric {
        Rubric {
            name: "r".to_owned(),
            version: "v".to_owned(),
            sample: 1.0,
            panel: ["a", "b", "c"].map(str::to_owned).to_vec(),
            combine,
            ask: Ask::InTurn,
            stop_at,
            pass: 0.5,
            ..Rubric::default()
        }
    }

    #[test]
    fn a_majority_that_cannot_be_outvoted_is_asked_no_further() {
        let rubric = rubric(None, Combine::Majority);
        let none = BTreeMap::new();
        let known = Known { weights: &none, model: None };
        let one = [vote("a", Some(1.0), None)];
        assert_eq!(stopped(&rubric, &one, &known), None);
        let split = [vote("a", Some(1.0), None), vote("b", Some(0.0), None)];
        assert_eq!(stopped(&rubric, &split, &known), None);
        let alike = [vote("a", Some(1.0), None), vote("b", Some(0.9), None)];
        assert_eq!(stopped(&rubric, &alike, &known), Some(Stopped::Decided { asked: 2, of: 3 }));
        let together = Rubric { ask: Ask::Together, ..rubric };
        assert_eq!(stopped(&together, &alike, &known), None);
    }

    #[test]
    fn sure_is_what_labels_have_taught_and_nothing_else() {
        let rubric = rubric(Some(0.9), Combine::Weighted);
        let none = BTreeMap::new();
        let stack = |weights: &[f64]| crate::domain::panel::Stack { intercept: 0.0, weights: weights.to_vec() };
        let model = PanelModel {
            judges: rubric.panel.clone(),
            prefixes: vec![stack(&[3.0]), stack(&[3.0, 1.0]), stack(&[3.0, 1.0, -0.5])],
            ..PanelModel::default()
        };
        let one = [vote("a", Some(1.0), None)];
        assert_eq!(stopped(&rubric, &one, &Known { weights: &none, model: None }), None, "nothing is known");
        let known = Known { weights: &none, model: Some(&model) };
        let Some(Stopped::Sure { asked: 1, sure, .. }) = stopped(&rubric, &one, &known) else { panic!("it is sure") };
        assert!((sure - 0.952_574_126_822_433).abs() < 1e-9);
        assert!(known.weight(Combine::Weighted, "c").abs() < 1e-12, "worse than a coin: not listened to");
        assert!((known.weight(Combine::Weighted, "b") - 1.0).abs() < 1e-12);
        assert!((known.weight(Combine::Mean, "a") - 1.0).abs() < 1e-12, "learnt weights are for `weighted`");
    }

    #[test]
    fn where_labels_give_the_verdict_they_also_say_whether_it_is_decided() {
        let better = crate::domain::rubric::Better::Higher;
        let boolean = Rubric { output: Output::Boolean { better }, ..rubric(None, Combine::Weighted) };
        let stack = |intercept, weights: &[f64]| crate::domain::panel::Stack { intercept, weights: weights.to_vec() };
        let model = |intercept| PanelModel {
            judges: boolean.panel.clone(),
            prefixes: vec![stack(0.0, &[3.0]), stack(0.0, &[3.0, 1.0]), stack(intercept, &[3.0, 1.0, 0.5])],
            ..PanelModel::default()
        };
        let none = BTreeMap::new();
        let votes = [vote("a", Some(0.0), None), vote("b", Some(0.0), None)];
        let (even, kind) = (model(0.0), model(5.0));
        let by = |model| stopped(&boolean, &votes, &Known { weights: &none, model: Some(model) });
        assert_eq!(by(&even), Some(Stopped::Decided { asked: 2, of: 3 }));
        assert_eq!(by(&kind), None, "with the last judge it would pass, without it it fails");
    }

    #[test]
    fn judges_are_asked_in_the_order_of_labels_then_of_price() {
        let panel = ["dear", "cheap"].map(str::to_owned).to_vec();
        let price = |name: &str| Some(if name == "cheap" { 1.0 } else { 9.0 });
        assert_eq!(order(&panel, None, price), ["cheap", "dear"]);
        assert_eq!(order(&panel, None, |_| None), ["dear", "cheap"], "an unknown price says nothing");
        let model = PanelModel { judges: panel.clone(), ..PanelModel::default() };
        assert_eq!(order(&panel, Some(&model), price), ["dear", "cheap"]);
    }

    #[test]
    fn disagreement_is_the_mean_distance() {
        let votes = |scores: &[f64]| scores.iter().map(|s| vote("x", Some(*s), None)).collect::<Vec<_>>();
        assert_eq!(disagreement(&votes(&[1.0])), None);
        assert_eq!(disagreement(&votes(&[1.0, 0.0])), Some(1.0));
        assert!((disagreement(&votes(&[1.0, 1.0, 0.0])).expect("three") - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn half_of_a_panel_is_enough() {
        assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 1, 2, 2, 3]);
    }
}
