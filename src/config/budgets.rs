//! Section `budgets`: what judging may cost in an hour and a day.
//!
//! Its rule: a budget without any limit is an error, since it would look like protection. A budget is for everything, or for
//! each rubric, feature or tenant by itself.

use super::ConfigError;
use crate::domain::policy::Patterns;
use serde::{Deserialize, Serialize};

/// What a budget is counted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Everything together.
    #[default]
    All,
    /// Each rubric by itself.
    Rubric,
    /// Each feature by itself.
    Feature,
    /// Each tenant by itself.
    Tenant,
}

/// One budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What it is called where a decision is explained.
    pub name: String,
    /// What it is counted for.
    #[serde(default)]
    pub per: Per,
    /// Only rubrics, features or tenants that fit one of these globs; none = all.
    #[serde(default)]
    pub only: Patterns,
    /// US dollars an hour.
    pub usd_per_hour: Option<f64>,
    /// US dollars a day.
    pub usd_per_day: Option<f64>,
    /// Tokens an hour, prompt and answer.
    pub tokens_per_hour: Option<u64>,
    /// Tokens a day, prompt and answer.
    pub tokens_per_day: Option<u64>,
    /// Part of the budget from which on less is sampled.
    #[serde(default = "lower_at")]
    pub lower_at: f64,
}

fn lower_at() -> f64 {
    0.8
}

pub(super) fn check(budgets: &[Budget]) -> Result<(), ConfigError> {
    for (n, budget) in budgets.iter().enumerate() {
        let key = |field: &str| format!("budgets[{n}].{field}");
        if budget.name.is_empty() || budgets[..n].iter().any(|b| b.name == budget.name) {
            return Err(ConfigError::invalid(key("name"), "must be given, and be another for each budget"));
        }
        let money = [budget.usd_per_hour, budget.usd_per_day];
        let tokens = [budget.tokens_per_hour, budget.tokens_per_day];
        if money.iter().all(Option::is_none) && tokens.iter().all(Option::is_none) {
            let problem = "limits nothing; give usd_per_hour, usd_per_day, tokens_per_hour or tokens_per_day";
            return Err(ConfigError::invalid(format!("budgets[{n}]"), problem));
        }
        if money.iter().flatten().any(|m| !(m.is_finite() && *m > 0.0)) || tokens.contains(&Some(0)) {
            return Err(ConfigError::invalid(format!("budgets[{n}]"), "limits must be above 0"));
        }
        if budget.per == Per::All && !budget.only.is_empty() {
            let problem = "says nothing with per = \"all\"; give per = \"rubric\", \"feature\" or \"tenant\"";
            return Err(ConfigError::invalid(key("only"), problem));
        }
        if !(0.0..1.0).contains(&budget.lower_at) {
            return Err(ConfigError::invalid(key("lower_at"), "must be at least 0 and below 1"));
        }
    }
    Ok(())
}
