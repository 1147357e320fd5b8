//! Section `sampling`: which share of which traces is judged.
//!
//! Its rule: rules are tried in order, the first that fits decides; boosts and floors raise what it gives, ceilings lower it; a
//! rate of 0 means never, whatever else fits. The way not taken: one list of rules of all kinds, whose order nobody gets right.

use super::ConfigError;
use crate::domain::limit::{Boost, Ceiling, Floor};
use crate::domain::policy::{Matcher, SamplingRule};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Longest step, in seconds: counts of an hour must hold some of them.
const STEP_SECONDS_MAX: u64 = 600;

/// Values that a limit tells apart at most.
const VALUES_MAX: usize = 10_000;

/// What becomes of the rates of samplers before us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamUse {
    /// They are part of the inclusion probability, and what they decided against is left out.
    #[default]
    Use,
    /// Estimates are of the traces that reach us.
    Ignore,
}

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
    /// What becomes of the rates of samplers before us.
    pub upstream: UpstreamUse,
    /// How long rates of floors and ceilings hold before they are made anew, in seconds.
    pub step_seconds: u64,
    /// Ceilings leave at least this rate, so that every trace has a chance.
    pub rate_min: f64,
    /// Values that a floor, a ceiling or a boost tells apart; further ones are counted together.
    pub values_max: usize,
    /// Ordered rules.
    pub rules: Vec<SamplingRule>,
    /// What is worth more.
    pub boosts: Vec<Boost>,
    /// What is to be seen at least.
    pub floors: Vec<Floor>,
    /// What is judged at most.
    pub ceilings: Vec<Ceiling>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            default_rate: 1.0,
            hash_key: "assize".to_owned(),
            sessions: SessionDraw::default(),
            upstream: UpstreamUse::Use,
            step_seconds: 30,
            rate_min: 0.001,
            values_max: 200,
            rules: Vec::new(),
            boosts: Vec::new(),
            floors: Vec::new(),
            ceilings: Vec::new(),
        }
    }
}

impl Sampling {
    /// Whether any rate follows the traffic.
    #[must_use]
    pub fn adapts(&self) -> bool {
        !self.floors.is_empty() || !self.ceilings.is_empty() || self.boosts.iter().any(|b| b.first.is_some())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let rates = self.rules.iter().map(|rule| (format!("sampling.rules[{}].rate", rule.name), rule.rate));
        for (key, rate) in std::iter::once(("sampling.default_rate".to_owned(), self.default_rate)).chain(rates) {
            if !(0.0..=1.0).contains(&rate) {
                return Err(ConfigError::invalid(key, format!("{rate} is not a share; give a number from 0 to 1")));
            }
        }
        if !(1..=STEP_SECONDS_MAX).contains(&self.step_seconds) {
            let problem = format!("must be from 1 to {STEP_SECONDS_MAX}");
            return Err(ConfigError::invalid("sampling.step_seconds", problem));
        }
        if !(self.rate_min > 0.0 && self.rate_min <= 1.0) {
            return Err(ConfigError::invalid("sampling.rate_min", "must be above 0 and at most 1"));
        }
        if !(1..=VALUES_MAX).contains(&self.values_max) {
            return Err(ConfigError::invalid("sampling.values_max", format!("must be from 1 to {VALUES_MAX}")));
        }
        self.check_names()?;
        self.boosts.iter().try_for_each(check_boost)?;
        for floor in &self.floors {
            check_number(&format!("sampling.floors[{}].per_hour", floor.name), floor.per_hour)?;
        }
        for ceiling in &self.ceilings {
            let key = format!("sampling.ceilings[{}].per_hour", ceiling.name);
            check_number(&key, ceiling.per_hour)?;
            let over = |floor: &&Floor| ceiling.by == Some(floor.by) && floor.per_hour > ceiling.per_hour;
            if let Some(floor) = self.floors.iter().find(over) {
                let problem =
                    format!("is below the floor `{}` of the same values; raise it, or lower the floor", floor.name);
                return Err(ConfigError::invalid(key, problem));
            }
        }
        Ok(())
    }

    /// Counts and explanations go by name.
    fn check_names(&self) -> Result<(), ConfigError> {
        let mut known = BTreeSet::new();
        let boosts = self.boosts.iter().map(|b| ("boosts", &b.name));
        let floors = self.floors.iter().map(|f| ("floors", &f.name));
        for (list, name) in boosts.chain(floors).chain(self.ceilings.iter().map(|c| ("ceilings", &c.name))) {
            if name.is_empty() || name.len() > 100 || !known.insert(name) {
                let problem = "names of boosts, floors and ceilings must have 1 to 100 bytes and be another for each";
                return Err(ConfigError::invalid(format!("sampling.{list}[{name}].name"), problem));
            }
        }
        Ok(())
    }
}

fn check_number(key: &str, per_hour: f64) -> Result<(), ConfigError> {
    if per_hour.is_finite() && per_hour > 0.0 {
        return Ok(());
    }
    Err(ConfigError::invalid(key, format!("{per_hour} is no number of traces an hour; give one above 0")))
}

fn check_boost(boost: &Boost) -> Result<(), ConfigError> {
    let key = |field: &str| format!("sampling.boosts[{}].{field}", boost.name);
    if !(boost.rate > 0.0 && boost.rate <= 1.0) {
        return Err(ConfigError::invalid(key("rate"), "must be above 0 and at most 1; to judge less, write a rule"));
    }
    if boost.first.is_some() != boost.by.is_some() {
        let problem = "`first` and `by` go together: the first so many traces of each value of what?";
        return Err(ConfigError::invalid(key("first"), problem));
    }
    if boost.first == Some(0) {
        return Err(ConfigError::invalid(key("first"), "must be at least 1"));
    }
    let bare = boost.when == Matcher::default() && boost.feedback.is_none() && boost.failed_checks.is_empty();
    if bare && boost.first.is_none() {
        let problem = "fits every trace; give `when`, `feedback`, `failed_checks` or `first`, or set `default_rate`";
        return Err(ConfigError::invalid(format!("sampling.boosts[{}]", boost.name), problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let sampling: Sampling = toml::from_str(text).expect("it parses");
        sampling.check().expect_err("it makes no sense").to_string()
    }

    #[test]
    fn limits_are_read_and_what_makes_no_sense_names_place_and_remedy() {
        let text = "[[boosts]]\nname = \"errors\"\nwhen = { status = \"error\" }\n\
                    [[boosts]]\nname = \"disliked\"\nfeedback = \"negative\"\n\
                    [[boosts]]\nname = \"refusals\"\nfailed_checks = [\"failure_to_answer\"]\nrate = 0.5\n\
                    [[boosts]]\nname = \"new\"\nfirst = 200\nby = \"prompt_version\"\n\
                    [[floors]]\nname = \"features\"\nby = \"feature\"\nper_hour = 20\n\
                    [[ceilings]]\nname = \"all\"\nper_hour = 1000\n";
        let sampling: Sampling = toml::from_str(text).expect("it parses");
        sampling.check().expect("it is valid");
        assert!(sampling.adapts() && !Sampling::default().adapts());
        assert!((sampling.boosts[0].rate - 1.0).abs() < 1e-12);
        for (text, place) in [
            ("step_seconds = 0", "step_seconds"),
            ("rate_min = 0.0", "rate_min"),
            ("values_max = 0", "values_max"),
            ("[[boosts]]\nname = \"b\"", "boosts[b]: fits every trace"),
            ("[[boosts]]\nname = \"b\"\nfirst = 3", "`first` and `by` go together"),
            ("[[boosts]]\nname = \"b\"\nfeedback = \"negative\"\nrate = 0.0", "boosts[b].rate"),
            ("[[floors]]\nname = \"f\"\nby = \"feature\"\nper_hour = 0", "floors[f].per_hour"),
            ("[[floors]]\nname = \"\"\nby = \"feature\"\nper_hour = 1", "floors[].name"),
            ("[[ceilings]]\nname = \"c\"\nper_hour = nan", "ceilings[c].per_hour"),
            (
                "[[floors]]\nname = \"f\"\nby = \"feature\"\nper_hour = 9\n\
                 [[ceilings]]\nname = \"c\"\nby = \"feature\"\nper_hour = 5",
                "below the floor `f`",
            ),
            (
                "[[floors]]\nname = \"x\"\nby = \"feature\"\nper_hour = 9\n[[ceilings]]\nname = \"x\"\nper_hour = 50",
                "another for each",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(place), "{text}: {error}");
        }
        assert!(toml::from_str::<Sampling>("[[floors]]\nname = \"f\"\nper_hour = 1").is_err(), "by is missing");
        assert!(toml::from_str::<Sampling>("[[boosts]]\nname = \"b\"\nfailed_checks = [\"grundig\"]").is_err());
    }
}
