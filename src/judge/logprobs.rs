//! The probabilities of a score's tokens to an expected score (G-Eval).
//!
//! Called by `pipeline::evaluate` for judges with `logprobs`. Follows Liu et al. 2023 (G-Eval): s = Σ k p_k / Σ p_k over the
//! tokens that are scores; the mass Σ p_k is kept, and below 0.8 the judge counts as unsure. Its rule: only where a score is
//! one token, so for whole numbers and yes or no. The way not taken: sampling the judge many times for the same number.

use crate::domain::chat::TokenChoice;
use crate::domain::rubric::{Better, Output};

/// Mass below which the judge is unsure.
pub const MASS_MIN: f64 = 0.8;

/// Scores that a single token can stand for, at most.
const STEPS_MAX: f64 = 100.0;

/// An expected score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// On the rubric's own scale; the probability of yes for a boolean.
    pub raw: f64,
    /// In [0,1], 1 = good.
    pub score: f64,
    /// Probability that the token was a score at all.
    pub mass: f64,
}

/// Σ k p_k / Σ p_k and Σ p_k.
#[must_use]
pub fn mean(choices: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let (sum, mass) = choices.fold((0.0, 0.0), |(sum, mass), (score, logprob)| {
        let p = logprob.exp();
        (sum + score * p, mass + p)
    });
    (mass > 0.0).then(|| (sum / mass, mass))
}

/// The expected score of a reply, from its tokens. `None` when the rubric's scores are no single tokens, or the token is
/// not found.
#[must_use]
pub fn expected(tokens: &[TokenChoice], output: &Output) -> Option<Expected> {
    let (member, low, high) = match output {
        Output::Score { range: (low, high), .. } => ("\"score\"", *low, *high),
        Output::Boolean { .. } => ("\"verdict\"", 0.0, 1.0),
        Output::Category { .. } | Output::Claims { .. } => return None,
    };
    let boolean = matches!(output, Output::Boolean { .. });
    let whole = low.fract() == 0.0 && high.fract() == 0.0 && high - low >= 2.0 && high - low <= STEPS_MAX;
    if !boolean && !whole {
        return None;
    }
    let value = |token: &str| -> Option<f64> {
        let word = token.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-').to_ascii_lowercase();
        match word.as_str() {
            "true" if boolean => Some(1.0),
            "false" if boolean => Some(0.0),
            _ if boolean => None,
            number => number.parse::<i32>().ok().map(f64::from).filter(|n| (low..=high).contains(n)),
        }
    };
    let at = place(tokens, member, |token| value(token).is_some())?;
    // 4.5 is three tokens, of which the first says little.
    if tokens.get(at + 1).is_some_and(|next| next.token.starts_with(|c: char| c == '.' || c.is_ascii_digit())) {
        return None;
    }
    let choices = &tokens[at].top_logprobs;
    let own = [(value(&tokens[at].token)?, tokens[at].logprob)];
    let (raw, mass) = if choices.is_empty() {
        mean(own.into_iter())?
    } else {
        mean(choices.iter().filter_map(|c| Some((value(&c.token)?, c.logprob))))?
    };
    let unit = (raw - low) / (high - low);
    let better = match output {
        Output::Score { better, .. } | Output::Boolean { better } => *better,
        Output::Category { .. } | Output::Claims { .. } => Better::Higher,
    };
    let score = if better == Better::Lower { 1.0 - unit } else { unit };
    Some(Expected { raw, score: score.clamp(0.0, 1.0), mass: mass.min(1.0) })
}

/// The first token after the last `member` that is a value; text before it may quote the member.
fn place(tokens: &[TokenChoice], member: &str, is_value: impl Fn(&str) -> bool) -> Option<usize> {
    let mut text = String::new();
    let mut ends = Vec::with_capacity(tokens.len());
    for token in tokens {
        text.push_str(&token.token);
        ends.push(text.len());
    }
    let after = text.rfind(member)? + member.len();
    let first = ends.iter().position(|end| *end > after)?;
    (first..tokens.len().min(first + 6)).find(|i| is_value(&tokens[*i].token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, tops: &[(&str, f64)]) -> TokenChoice {
        let top = |(t, p): &(&str, f64)| TokenChoice { token: (*t).to_owned(), logprob: p.ln(), top_logprobs: vec![] };
        TokenChoice { token: text.to_owned(), logprob: 0.0, top_logprobs: tops.iter().map(top).collect() }
    }

    #[test]
    fn the_formula_gives_the_vectors() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/stats/misc_formulas.json")).expect("JSON");
        for case in file["g_eval_expected_score"].as_array().expect("cases") {
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().expect("numbers").iter().filter_map(serde_json::Value::as_f64).collect()
            };
            let (raw, mass) = mean(numbers("scores").into_iter().zip(numbers("logprobs"))).expect("there are some");
            assert!((raw - case["expected"].as_f64().expect("a number")).abs() < 1e-12);
            assert!((mass - case["mass"].as_f64().expect("a number")).abs() < 1e-12);
        }
    }

    #[test]
    fn the_scores_token_is_found_and_weighed() {
        let output = Output::Score { range: (1.0, 5.0), better: Better::Higher };
        let tokens = [
            token("{\"reason\":\"says \\\"score\\\": 1\",\"", &[]),
            token("score", &[]),
            token("\":", &[]),
            token(" 4", &[(" 4", 0.6), (" 5", 0.3), (" high", 0.1)]),
            token("}", &[]),
        ];
        let found = expected(&tokens, &output).expect("it is there");
        assert!((found.mass - 0.9).abs() < 1e-9 && (found.raw - (4.0 * 0.6 + 5.0 * 0.3) / 0.9).abs() < 1e-9);
        assert!((found.score - (found.raw - 1.0) / 4.0).abs() < 1e-12);
        assert_eq!(expected(&tokens, &Output::default()), None, "0 to 1 is no whole number");
        let half = [token("\"score\":", &[]), token("4", &[]), token(".", &[]), token("5", &[])];
        assert_eq!(expected(&half, &output), None);
    }

    #[test]
    fn yes_and_no_are_weighed() {
        let tokens = [token("{\"verdict\":", &[]), token("true", &[("true", 0.7), ("false", 0.3)]), token("}", &[])];
        let lower = expected(&tokens, &Output::Boolean { better: Better::Lower }).expect("it is there");
        assert!((lower.score - 0.3).abs() < 1e-9 && (lower.raw - 0.7).abs() < 1e-9);
    }
}
