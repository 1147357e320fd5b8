//! Boosts, floors and ceilings: what raises or lowers the rate that the first fitting sampling rule gives.
//!
//! Read by `config`, applied by `pipeline::sample`. Its rule: each looks only at what is known of a trace before the draw, never at
//! a score or at the draw itself, so that the inclusion probability is exact. The way not taken: a token bucket, which drops what
//! comes last and leaves nobody knowing with what probability.

use super::dimension::Dimension;
use super::policy::Matcher;
use super::rubric::CheckKind;
use serde::{Deserialize, Serialize};

/// What people said about a trace by the time it was decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// Somebody said that it was not good: a thumbs-down, a label that does not pass.
    Negative,
}

/// Traces that are worth more than their rule's rate. All conditions that are given must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    /// What it is called where a decision is explained.
    pub name: String,
    /// Conditions on labels, status and latency.
    #[serde(default)]
    pub when: Matcher,
    /// What people must have said by the time of the decision.
    #[serde(default)]
    pub feedback: Option<Feedback>,
    /// Deterministic checks of which one must fail; they run on every trace that the other conditions fit.
    #[serde(default)]
    pub failed_checks: Vec<CheckKind>,
    /// Only the first so many traces of each value of `by`.
    #[serde(default)]
    pub first: Option<u32>,
    /// Whose values `first` counts.
    #[serde(default)]
    pub by: Option<Dimension>,
    /// The rate that such traces get at least, above 0 and at most 1.
    #[serde(default = "all")]
    pub rate: f64,
}

fn all() -> f64 {
    1.0
}

/// At least so many traces an hour of each value, so that small ones are seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// What it is called where a decision is explained.
    pub name: String,
    /// Which traces it is for.
    #[serde(default)]
    pub when: Matcher,
    /// Whose values it is counted for; traces without one are a value too.
    pub by: Dimension,
    /// Traces an hour to be kept of each value, on average.
    pub per_hour: f64,
}

/// At most so many traces an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// What it is called where a decision is explained.
    pub name: String,
    /// Which traces it is for.
    #[serde(default)]
    pub when: Matcher,
    /// Whose values it is counted for; none = all that fit together.
    #[serde(default)]
    pub by: Option<Dimension>,
    /// Traces an hour to be kept, on average.
    pub per_hour: f64,
}
