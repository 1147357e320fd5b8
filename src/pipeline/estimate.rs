//! Verdicts → corrected means and pass rates, by rubric and prompt version.
//!
//! Called by `cli::demo` and `cli::eval`. Its rule: every mean is weighted by the inverse of the inclusion probability (Hájek),
//! and only scored verdicts are in it; the other outcomes are counted beside it. The way not taken: a plain mean over what
//! happened to be judged, which is wrong as soon as two traces had different rates.

use crate::domain::verdict::{Outcome, Verdict};
use crate::stats::hajek::{self, Estimate};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a group of verdicts says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Group {
    /// Scored verdicts.
    pub n: usize,
    /// Effective number of them (Kish).
    pub n_eff: f64,
    /// Mean score with its standard error; `None` without scored verdicts.
    pub mean: Option<Estimate>,
    /// Pass rate with its standard error.
    pub pass_rate: Option<Estimate>,
    /// Verdicts by outcome.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Money spent, in US dollars.
    pub cost_usd: f64,
}

/// Summarises verdicts.
#[must_use]
pub fn summarise<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Group {
    let mut group = Group::default();
    let (mut scores, mut passes) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        *group.outcomes.entry(verdict.outcome.as_str()).or_default() += 1;
        group.cost_usd += verdict.cost_usd;
        if let (Outcome::Scored, Some(score)) = (verdict.outcome, verdict.score) {
            scores.push((score, verdict.inclusion_probability));
            passes.push((f64::from(u8::from(verdict.passed == Some(true))), verdict.inclusion_probability));
        }
    }
    group.n = scores.len();
    // A scored verdict has a score and a probability above zero, so what is refused is an empty group.
    group.n_eff = hajek::effective_size(&scores).unwrap_or_default();
    group.mean = hajek::mean(&scores).ok();
    group.pass_rate = hajek::mean(&passes).ok();
    group
}

/// Groups verdicts by a key and summarises each group.
#[must_use]
pub fn by<'a, K: Ord>(verdicts: &'a [Verdict], key: impl Fn(&'a Verdict) -> K) -> BTreeMap<K, Group> {
    let mut groups: BTreeMap<K, Vec<&Verdict>> = BTreeMap::new();
    for verdict in verdicts {
        groups.entry(key(verdict)).or_default().push(verdict);
    }
    groups.into_iter().map(|(k, vs)| (k, summarise(vs.into_iter()))).collect()
}
