//! Section `watch`: how streams of verdicts are watched, and plain thresholds.
//!
//! Its rule: the detectors need no setting but how often they may be wrong; thresholds are for those who know their level. The way
//! not taken: a threshold for each stream as the only means, which has to be tuned for every one of them.

use super::ConfigError;
use super::canaries::Canaries;
use crate::domain::alert::{Measure, Severity};
use crate::domain::policy::Patterns;
use serde::{Deserialize, Serialize};

/// Section `watch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// How often new verdicts are counted and evidence is looked at, in milliseconds.
    pub tick_ms: u64,
    /// How long a process that says nothing is taken to be the one that watches, in milliseconds.
    pub lease_ms: u64,
    /// False alarms of the change scans that are put up with in 30 days, over all streams together.
    pub false_alarms_per_month: f64,
    /// The drop that nobody wants to be told of, as a share: 0.01 is one point.
    pub tolerance: f64,
    /// How often a version that is no worse may be called worse, ever.
    pub version_alpha: f64,
    /// Days of history before a stream is scanned for changes.
    pub warm_up_days: u32,
    /// Scores of history before a stream is scanned for changes.
    pub warm_up_scores: u64,
    /// Streams at most; verdicts of further ones are not watched, which `assize_watch_streams` shows.
    pub streams_max: usize,
    /// Plain thresholds.
    pub rules: Vec<Rule>,
    /// Judging again what was judged, to see whether a judge has moved.
    pub canaries: Canaries,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            tick_ms: 10_000,
            lease_ms: 60_000,
            false_alarms_per_month: 1.0,
            tolerance: 0.0,
            version_alpha: 0.05,
            warm_up_days: 7,
            warm_up_scores: 100,
            streams_max: 10_000,
            rules: vec![Rule {
                name: "judges fail".to_owned(),
                measure: Measure::JudgeErrorRate,
                above: Some(0.2),
                minutes: 30,
                n_min: 20,
                ..Rule::default()
            }],
            canaries: Canaries::default(),
        }
    }
}

/// A threshold over a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What is measured: `pass_rate`, `mean_score`, `judge_error_rate`, `cost_usd`, `latency_seconds` or `verdicts_per_hour`.
    pub measure: Measure,
    /// Only of these rubrics.
    pub rubric: Patterns,
    /// Only of these features.
    pub feature: Patterns,
    /// Only of these environments.
    pub environment: Patterns,
    /// Trouble when it is above this.
    pub above: Option<f64>,
    /// Trouble when it is below this.
    pub below: Option<f64>,
    /// Length of the window.
    pub minutes: u32,
    /// Verdicts in the window that it takes; `verdicts_per_hour` takes none.
    pub n_min: u32,
    /// How much it matters.
    pub severity: Severity,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            measure: Measure::PassRate,
            rubric: Patterns::default(),
            feature: Patterns::default(),
            environment: Patterns::default(),
            above: None,
            below: None,
            minutes: 60,
            n_min: 20,
            severity: Severity::Warning,
        }
    }
}

/// What a threshold can be about.
const MEASURES: [Measure; 6] = [
    Measure::PassRate,
    Measure::MeanScore,
    Measure::JudgeErrorRate,
    Measure::CostUsd,
    Measure::LatencySeconds,
    Measure::VerdictsPerHour,
];

impl Watch {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::invalid(format!("watch.{key}"), problem));
        if self.tick_ms == 0 || self.lease_ms < self.tick_ms.saturating_mul(2) {
            return invalid("lease_ms", "it must be at least twice watch.tick_ms, which must be above 0".to_owned());
        }
        if self.false_alarms_per_month.is_nan() || self.false_alarms_per_month <= 0.0 {
            return invalid("false_alarms_per_month", "it must be above 0, such as 1".to_owned());
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return invalid("tolerance", format!("{} is not a share of 1; 0.01 is one point", self.tolerance));
        }
        if !(self.version_alpha > 0.0 && self.version_alpha < 1.0) {
            return invalid("version_alpha", "it must be above 0 and below 1, such as 0.05".to_owned());
        }
        self.canaries.check()?;
        for rule in &self.rules {
            let key = format!("rules[{}]", rule.name);
            if rule.name.trim().is_empty() {
                return invalid("rules", "each rule needs a `name`".to_owned());
            }
            if rule.above.is_some() == rule.below.is_some() {
                return invalid(&key, "give either `above` or `below`".to_owned());
            }
            let share = matches!(rule.measure, Measure::PassRate | Measure::MeanScore | Measure::JudgeErrorRate);
            if let Some(level) = rule.above.or(rule.below).filter(|l| share && !(0.0..=1.0).contains(l)) {
                return invalid(&key, format!("{level} is not a share; write a number from 0 to 1, 0.75 for 75 %"));
            }
            if rule.minutes == 0 {
                return invalid(&key, "`minutes` must be above 0".to_owned());
            }
            if !MEASURES.contains(&rule.measure) {
                let known: Vec<&str> = MEASURES.iter().map(|m| m.as_str()).collect();
                return invalid(
                    &key,
                    format!("`{}` cannot be a threshold; there are {}", rule.measure.as_str(), known.join(", ")),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_names_the_key() {
        let said = |watch: Watch| watch.check().map_err(|e| e.to_string());
        assert_eq!(said(Watch::default()), Ok(()));
        let rule = |rule: Rule| Watch { rules: vec![Rule { name: "x".to_owned(), ..rule }], ..Watch::default() };
        for (watch, word) in [
            (Watch { tolerance: 5.0, ..Watch::default() }, "watch.tolerance"),
            (Watch { false_alarms_per_month: 0.0, ..Watch::default() }, "watch.false_alarms_per_month"),
            (rule(Rule::default()), "either `above` or `below`"),
            (rule(Rule { above: Some(0.1), below: Some(0.2), ..Rule::default() }), "either `above` or `below`"),
            (rule(Rule { above: Some(0.1), measure: Measure::KeptShare, ..Rule::default() }), "cannot be a threshold"),
            (rule(Rule { below: Some(75.0), ..Rule::default() }), "0.75 for 75 %"),
        ] {
            let why = said(watch).expect_err("it makes no sense");
            assert!(why.contains(word), "{why}");
        }
    }
}
