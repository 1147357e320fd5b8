//! When a drop of a rubric is worth an alert: the section `alert` of a rubric file.
//!
//! Read by `rubrics::parse`, used by `pipeline::watch`. Its rule: nothing in it changes a verdict, so it is no part of the rubric's
//! version. The way not taken: a threshold a rubric, which nobody can set without knowing the traffic.

use super::dimension::Dimension;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Section `alert` of a rubric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertRule {
    /// What is watched: of `prompt_version`, `model` and `service_version` each new one is tested against those before it; any
    /// other dimension splits the streams further, which are by feature and environment.
    pub by: Vec<Dimension>,
    /// The drop that one wants to be told of, as a share: 0.05 is five points. Half of it is tolerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// False alarms of this rubric's change scans that are put up with, such as `1 per month`; absent: its part of the project's.
    #[serde(rename = "false_alarms", with = "per_month", skip_serializing_if = "Option::is_none")]
    pub false_alarms_per_month: Option<f64>,
    /// What to do: a link or a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

impl Default for AlertRule {
    fn default() -> Self {
        let by = vec![Dimension::PromptVersion, Dimension::Model, Dimension::ServiceVersion];
        Self { by, drop: None, false_alarms_per_month: None, runbook: None }
    }
}

impl AlertRule {
    /// The drop that nobody wants to be told of: half of the one that one wants to be told of, so that such a one is found in
    /// a time that does not depend on luck. `None` = as the project has it.
    #[must_use]
    pub fn tolerance(&self) -> Option<f64> {
        self.drop.map(|drop| drop / 2.0)
    }

    /// Keys that are out of range, and what to do.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(drop) = self.drop.filter(|d| !(*d > 0.0 && *d < 1.0)) {
            let text = format!("`alert.drop` is {drop}; write a share above 0 and below 1, 0.05 for five points");
            found.push(("drop", text));
        }
        if let Some(rate) = self.false_alarms_per_month.filter(|f| !f.is_finite() || *f <= 0.0) {
            let text = format!("`alert.false_alarms` is {rate} per month; write a number above 0, as in `1 per month`");
            found.push(("false_alarms", text));
        }
        found
    }
}

/// A rate such as `1 per week`, as a number a month.
///
/// # Errors
/// How to write it.
pub fn rate_per_month(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no rate; write a number as in `1 per month`, `1 per week` or `1 per day`");
    let (number, unit) = text.split_once(" per ").ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let times = match unit.trim() {
        "month" => 1.0,
        "week" => 30.0 / 7.0,
        "day" => 30.0,
        _ => return Err(wrong()),
    };
    Ok(number * times)
}

/// `1 per month`, as a number a month.
mod per_month {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error;

    #[expect(clippy::ref_option, reason = "serde asks for this form")]
    pub fn serialize<S: Serializer>(rate: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{} per month", rate.unwrap_or_default()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let text = String::deserialize(from)?;
        super::rate_per_month(&text).map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_and_written_alike() {
        let text =
            r#"{"by":["prompt_version","tenant"],"drop":0.05,"false_alarms":"2 per month","runbook":"https://wiki/x"}"#;
        let rule: AlertRule = serde_json::from_str(text).expect("a rule");
        assert_eq!((rule.tolerance(), rule.false_alarms_per_month, rule.problems()), (Some(0.025), Some(2.0), vec![]));
        assert_eq!(serde_json::to_string(&rule).expect("plain data"), text);
        let weekly: AlertRule = serde_json::from_str(r#"{"false_alarms":"7 per week"}"#).expect("a rule");
        assert_eq!(weekly.false_alarms_per_month, Some(30.0));
        assert_eq!(weekly.by, AlertRule::default().by);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [r#"{"false_alarms":"often"}"#, r#"{"by":["mood"]}"#, r#"{"dorp":0.1}"#] {
            assert!(serde_json::from_str::<AlertRule>(wrong).is_err(), "{wrong}");
        }
        let wide = AlertRule { drop: Some(5.0), ..AlertRule::default() };
        let wrong = AlertRule { false_alarms_per_month: Some(0.0), ..wide };
        let found = wrong.problems();
        assert_eq!(found.iter().map(|p| p.0).collect::<Vec<_>>(), ["drop", "false_alarms"], "both at once");
        assert!(found[0].1.contains("0.05 for five points"));
    }
}
