//! Who of a panel is still to be asked, and whether enough have answered.
//!
//! Its rule: a vote that was paid for in an earlier attempt is not bought again; a vote that failed for good is not asked again
//! either. The way not taken: asking the whole panel again because one of it timed out.

use crate::domain::verdict::{Vote, VoteTokens};

/// Marks errors that no retry can heal, at the start of a vote's error text.
pub const FINAL: &str = "final: ";

/// Names of the judges that have neither voted nor failed for good.
#[must_use]
pub fn still_to_ask<'a>(panel: &'a [String], votes: &[Vote]) -> Vec<&'a str> {
    let settled = |name: &str| {
        votes.iter().any(|v| v.judge == name && (v.score.is_some() || v.error.as_deref().is_some_and(is_final)))
    };
    panel.iter().map(String::as_str).filter(|name| !settled(name)).collect()
}

fn is_final(error: &str) -> bool {
    error.starts_with(FINAL)
}

/// Votes needed for a score: half of the panel, rounded up.
#[must_use]
pub fn quorum(panel: usize) -> usize {
    panel.div_ceil(2).max(1)
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

/// The vote, with what the failed one before it cost.
fn with_expenses(vote: Vote, failed: &Vote) -> Vote {
    Vote {
        tokens: VoteTokens {
            input: vote.tokens.input + failed.tokens.input,
            output: vote.tokens.output + failed.tokens.output,
        },
        cost_usd: vote.cost_usd + failed.cost_usd,
        attempts: vote.attempts + failed.attempts,
        ..vote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let failed = Vote { cost_usd: 0.5, ..vote("a", None, Some("timeout")) };
        let earlier = vec![vote("b", Some(0.1), None), failed];
        let merged = merge(&panel, earlier, vec![Vote { cost_usd: 0.25, ..vote("a", Some(0.9), None) }]);
        assert!((merged[0].cost_usd - 0.75).abs() < 1e-12, "failed attempts cost too");
        assert_eq!(merged.iter().map(|v| v.score).collect::<Vec<_>>(), [Some(0.9), Some(0.1)]);
    }

    #[test]
    fn half_of_a_panel_is_enough() {
        assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 1, 2, 2, 3]);
    }
}
