//! Section `sampling`: which share of which traces is judged.
//!
//! Its rule: rules are tried in order, the first that fits decides; rates are between 0 and 1.

use super::ConfigError;
use crate::domain::policy::SamplingRule;
use serde::{Deserialize, Serialize};

/// How the traces of a session draw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionDraw {
    /// One draw for all of them: at one rate a session is kept whole or left out whole.
    #[default]
    Whole,
    /// Each by itself: for applications whose session ids never change, where one draw would be one for everything.
    Apart,
}

/// Section `sampling`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Rate of traces that no rule fits.
    pub default_rate: f64,
    /// Key of the hash for trace ids that are not random; the same for all workers of a project.
    pub hash_key: String,
    /// Whether the traces of a session share one draw.
    pub sessions: SessionDraw,
    /// Ordered rules.
    pub rules: Vec<SamplingRule>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { default_rate: 1.0, hash_key: "assize".to_owned(), sessions: SessionDraw::default(), rules: Vec::new() }
    }
}

impl Sampling {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let rates = self.rules.iter().map(|rule| (format!("sampling.rules[{}].rate", rule.name), rule.rate));
        for (key, rate) in std::iter::once(("sampling.default_rate".to_owned(), self.default_rate)).chain(rates) {
            if !(0.0..=1.0).contains(&rate) {
                return Err(ConfigError::invalid(key, format!("{rate} is not a share; give a number from 0 to 1")));
            }
        }
        Ok(())
    }
}
