//! Section `watch.canaries`: how often judges are asked again about traces that they have judged.
//!
//! Its rule: it says how many, how often, and what it may cost at most, since this is the one thing that spends money by itself.
//! The way not taken: a schedule in the language of cron, of which only the interval would matter.

use super::ConfigError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Canaries of a run at most.
const TRACES_MAX: u32 = 2_000;

/// A year.
const EVERY_HOURS_MAX: f64 = 8_784.0;

/// Section `watch.canaries`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canaries {
    /// Stored units of each rubric that are judged again; 0 = none.
    pub traces: u32,
    /// Hours between two runs, where nothing else asks for one.
    pub every_hours: f64,
    /// What all runs of 30 days may cost together, in US dollars, by the judges' prices.
    pub usd_per_month: f64,
    /// What is different for a rubric, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rubrics: BTreeMap<String, OfRubric>,
}

/// What is different for one rubric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfRubric {
    /// As in the section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<u32>,
    /// As in the section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_hours: Option<f64>,
}

impl Default for Canaries {
    fn default() -> Self {
        Self { traces: 200, every_hours: 168.0, usd_per_month: 10.0, rubrics: BTreeMap::new() }
    }
}

impl Canaries {
    /// How many units of a rubric, and how many hours from run to run.
    #[must_use]
    pub fn of(&self, rubric: &str) -> (u32, f64) {
        let own = self.rubrics.get(rubric);
        let traces = own.and_then(|o| o.traces).unwrap_or(self.traces);
        (traces, own.and_then(|o| o.every_hours).unwrap_or(self.every_hours))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::invalid(format!("watch.canaries.{key}"), problem));
        let all = self.rubrics.iter().map(|(name, own)| (format!("rubrics.{name}."), own.traces, own.every_hours));
        let all = all.chain([(String::new(), Some(self.traces), Some(self.every_hours))]);
        for (place, traces, every_hours) in all {
            if let Some(traces) = traces.filter(|n| *n > TRACES_MAX || (1..20).contains(n)) {
                let problem = format!("{traces} is not from 20 to {TRACES_MAX}; 0 asks judges nothing again");
                return invalid(&format!("{place}traces"), problem);
            }
            if let Some(hours) = every_hours.filter(|h| !(1.0..=EVERY_HOURS_MAX).contains(h)) {
                return invalid(&format!("{place}every_hours"), format!("{hours} is not from 1 to {EVERY_HOURS_MAX}"));
            }
        }
        if !(self.usd_per_month.is_finite() && self.usd_per_month >= 0.0) {
            return invalid("usd_per_month", "it must be 0 or more, such as 10".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rubric_may_have_its_own_and_what_makes_no_sense_names_the_key() {
        let own = |traces, every_hours| {
            let rubrics = [("tone".to_owned(), OfRubric { traces, every_hours })].into();
            Canaries { rubrics, ..Canaries::default() }
        };
        assert_eq!((own(Some(50), None).of("tone"), own(Some(50), None).of("other")), ((50, 168.0), (200, 168.0)));
        assert!(own(Some(0), Some(24.0)).check().is_ok());
        for (canaries, key) in [
            (own(Some(5), None), "watch.canaries.rubrics.tone.traces"),
            (own(None, Some(f64::NAN)), "watch.canaries.rubrics.tone.every_hours"),
            (Canaries { traces: 9_999, ..Canaries::default() }, "watch.canaries.traces"),
            (Canaries { every_hours: 0.0, ..Canaries::default() }, "watch.canaries.every_hours"),
            (Canaries { usd_per_month: -1.0, ..Canaries::default() }, "watch.canaries.usd_per_month"),
        ] {
            let said = canaries.check().expect_err("it makes no sense").to_string();
            assert!(said.contains(key), "{said}");
        }
    }
}
