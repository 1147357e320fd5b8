//! A step: rates that hold for a while, and the counts that the next ones are made from.
//!
//! Made by `pipeline::sample::control` from the past alone, kept and shared between workers by `store::sampling_steps`, read by
//! `pipeline::sample`. Its rule: what is in force while a trace is decided on was fixed before, so its inclusion probability is
//! known exactly. The way not taken: a rate that each worker adapts by itself, which nobody can replay.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value under which those beyond `sampling.values_max` are counted together.
pub const OTHERS: &str = "(others)";

/// Something for each known value of a dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values<T> {
    /// By value; the empty one is that of traces without a value.
    pub known: BTreeMap<String, T>,
    /// Whether there are so many that unknown ones count as [`OTHERS`].
    pub full: bool,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), full: false }
    }
}

impl<T> Values<T> {
    /// The value as which it is counted.
    #[must_use]
    pub fn counted_as<'a>(&self, value: &'a str) -> &'a str {
        if self.full && !self.known.contains_key(value) { OTHERS } else { value }
    }

    /// What there is for the value; `None` for one that was not seen before.
    #[must_use]
    pub fn get(&self, value: &str) -> Option<&T> {
        self.known.get(self.counted_as(value))
    }
}

/// What a ceiling leaves: a part of what floors ask for, and a part of what is asked for beyond them; both 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Squeeze {
    /// Of the rate that a floor gives.
    pub floors: f64,
    /// Of the rest.
    pub rest: f64,
}

/// The rate that is left near the end of a budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetRate {
    /// The budget's name.
    pub budget: String,
    /// The rubric, feature or tenant that it is counted for; empty for a budget over everything.
    pub subject: String,
    /// When its hour or day is over.
    pub until: DateTime<Utc>,
    /// 0 to 1.
    pub rate: f64,
}

/// The rates of a step, by the names of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// What each floor gives its values; a value that was not seen before gets everything.
    pub floors: BTreeMap<String, Values<f64>>,
    /// What each ceiling leaves of its values; one that was not seen before is left alone.
    pub ceilings: BTreeMap<String, Values<Squeeze>>,
    /// Values that are not new any more, for boosts of the first traces.
    pub not_new: BTreeMap<String, Values<()>>,
    /// Budgets near their end.
    pub budgets: Vec<BudgetRate>,
}

/// Rates and the time for which they hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Since when.
    pub starts_at: DateTime<Utc>,
    /// Until when; the next one may begin later, when there is something to decide.
    pub ends_at: DateTime<Utc>,
    /// What holds.
    pub rates: Rates,
}

impl Step {
    /// When it began; `None` for the one that stands for "nothing adapts".
    #[must_use]
    pub fn began(&self) -> Option<DateTime<Utc>> {
        (self.ends_at > self.starts_at).then_some(self.starts_at)
    }

    /// Whether it may still be used: its time is not over, and no budget is nearer to its end than it knows.
    #[must_use]
    pub fn serves(&self, now: DateTime<Utc>, budgets: &[BudgetRate]) -> bool {
        let knows = |wanted: &BudgetRate| {
            let same =
                |b: &&BudgetRate| b.budget == wanted.budget && b.subject == wanted.subject && b.until == wanted.until;
            self.rates.budgets.iter().find(same).is_some_and(|b| b.rate <= wanted.rate)
        };
        now < self.ends_at && budgets.iter().all(knows)
    }
}

/// What traces came to under one limit and value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Count {
    /// The floor's, ceiling's or boost's name.
    pub limit: String,
    /// The value.
    pub value: String,
    /// Whether only their number counts, for ever: of boosts of the first traces.
    pub first: bool,
    /// Traces.
    pub seen: f64,
    /// Sum of the rates that floors give them.
    pub floored: f64,
    /// Sum of the rates that they would have without ceilings.
    pub wanted: f64,
    /// Sum of the rates that they have: how many of them are kept on average.
    pub expected: f64,
}

/// What the next step is made from: never the trace that is being decided on.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// When the first step of the last hour began; `None` when there was none.
    pub since: Option<DateTime<Utc>>,
    /// Counts of the last hour, by the start of the step in which they were decided.
    pub counts: Vec<(DateTime<Utc>, Count)>,
    /// How many traces each value of a boost of the first traces has had: boost, value, number.
    pub firsts: Vec<(String, String, u64)>,
}
