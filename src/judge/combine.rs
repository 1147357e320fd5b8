//! Votes to one score.
//!
//! Its rule: failed votes count neither for nor against; with none left there is no score. The order of the votes makes no
//! difference. The way not taken: a missing vote as a zero or as the mean.

use crate::domain::rubric::Combine;

/// What a panel says together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combined {
    /// In [0,1].
    pub score: f64,
    /// 1 when all votes are alike, 0 when they could not be farther apart; `None` with a single vote.
    pub agreement: Option<f64>,
}

/// Combines votes, each a score in [0,1] with its judge's weight. `pass` is the rubric's pass mark.
#[must_use]
pub fn combine(rule: Combine, votes: &[(f64, f64)], pass: f64) -> Option<Combined> {
    if votes.is_empty() {
        return None;
    }
    let mut sorted: Vec<(f64, f64)> = votes.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let score = match rule {
        Combine::Mean => mean(&sorted),
        Combine::Median => median(&sorted),
        Combine::Weighted => weighted(&sorted),
        Combine::Strongest => {
            let top = sorted.iter().map(|v| v.1).fold(f64::MIN, f64::max);
            let strongest: Vec<_> = sorted.iter().copied().filter(|v| v.1 >= top).collect();
            mean(&strongest)
        }
        Combine::Majority => {
            let (for_it, against): (Vec<_>, Vec<_>) = sorted.iter().copied().partition(|v| v.0 >= pass);
            match for_it.len().cmp(&against.len()) {
                std::cmp::Ordering::Greater => mean(&for_it),
                std::cmp::Ordering::Less => mean(&against),
                // A tie is decided by the mean of all, not by who happens to be listed first.
                std::cmp::Ordering::Equal => mean(&sorted),
            }
        }
    };
    let spread = sorted.iter().map(|v| (v.0 - score).abs()).sum::<f64>() / sorted.len() as f64;
    let agreement = (votes.len() > 1).then(|| (1.0 - 2.0 * spread).clamp(0.0, 1.0));
    Some(Combined { score: score.clamp(0.0, 1.0), agreement })
}

fn mean(votes: &[(f64, f64)]) -> f64 {
    votes.iter().map(|v| v.0).sum::<f64>() / votes.len() as f64
}

fn median(sorted: &[(f64, f64)]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle].0 } else { f64::midpoint(sorted[middle - 1].0, sorted[middle].0) }
}

/// The weighted mean; plain when no vote has weight.
fn weighted(votes: &[(f64, f64)]) -> f64 {
    let total: f64 = votes.iter().map(|v| v.1).sum();
    if total > 0.0 { votes.iter().map(|v| v.0 * v.1).sum::<f64>() / total } else { mean(votes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Combine::Mean, 0.5)]
    #[case(Combine::Median, 0.4)]
    #[case(Combine::Weighted, 0.66)]
    #[case(Combine::Strongest, 0.9)]
    #[case(Combine::Majority, 0.3)]
    fn each_rule_does_what_it_says(#[case] rule: Combine, #[case] expected: f64) {
        let votes = [(0.2, 1.0), (0.9, 3.0), (0.4, 1.0)];
        let combined = combine(rule, &votes, 0.5).expect("there are votes");
        assert!((combined.score - expected).abs() < 1e-9, "{combined:?}");
    }

    #[test]
    fn no_votes_give_no_score() {
        assert_eq!(combine(Combine::Mean, &[], 0.5), None);
    }

    #[test]
    fn agreement_is_known_from_two_votes_on() {
        let of = |votes: &[(f64, f64)]| combine(Combine::Mean, votes, 0.5).expect("there are votes").agreement;
        assert_eq!(of(&[(1.0, 1.0)]), None);
        assert_eq!(of(&[(1.0, 1.0), (1.0, 1.0)]), Some(1.0));
        assert_eq!(of(&[(1.0, 1.0), (0.0, 1.0)]), Some(0.0));
    }

    proptest::proptest! {
        #[test]
        fn order_makes_no_difference_and_the_score_is_between_the_votes(
            mut votes in proptest::collection::vec((0.0f64..=1.0, 0.0f64..5.0), 1..7),
        ) {
            for rule in [Combine::Mean, Combine::Median, Combine::Weighted, Combine::Strongest, Combine::Majority] {
                let forward = combine(rule, &votes, 0.5);
                votes.reverse();
                proptest::prop_assert_eq!(forward, combine(rule, &votes, 0.5));
                let score = forward.expect("there are votes").score;
                let low = votes.iter().map(|v| v.0).fold(1.0, f64::min);
                let high = votes.iter().map(|v| v.0).fold(0.0, f64::max);
                proptest::prop_assert!(score >= low - 1e-12 && score <= high + 1e-12);
            }
        }
    }
}
