//! What a detector says ([`Finding`]), and what people are told of: the alert, its life and its text.
//!
//! Findings are made by `pipeline` (the detectors), stored and merged by `store::alerts`, told by `sinks::alerts`. Its rule: a
//! finding names what changed, from what to what, since when, on how much data and with which evidence, so that an alert
//! never says merely "low". Judges' reasons quote traces: they stand in examples and nowhere else. The way not taken: an
//! alert a stream and a tick, which is what people switch off.

pub mod incident;
pub mod notice;
pub mod sample;
pub mod text;

use super::deployment::Deployment;
use super::drift::Canaries;
use super::ids::short_hash;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new version against the versions before it.
    VersionTest,
    /// A change at an unknown time.
    ChangeScan,
    /// A level was crossed.
    Threshold,
    /// Nothing comes any more.
    NoData,
    /// A rate or level of the judging itself, or of a check, has moved.
    Rate,
    /// What was kept does not fit the rates that were configured.
    SamplingMismatch,
    /// A judge gives other verdicts than it did on the same traces.
    JudgeDrift,
}

impl Kind {
    /// The name used on every wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VersionTest => "version_test",
            Self::ChangeScan => "change_scan",
            Self::Threshold => "threshold",
            Self::NoData => "no_data",
            Self::Rate => "rate",
            Self::SamplingMismatch => "sampling_mismatch",
            Self::JudgeDrift => "judge_drift",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::VersionTest => "test of a new version against those before it",
            Self::ChangeScan => "scan for a change at an unknown time",
            Self::Threshold => "configured threshold",
            Self::NoData => "no data",
            Self::Rate => "watched rate",
            Self::SamplingMismatch => "check of the sampling",
            Self::JudgeDrift => "stored traces judged again",
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Share of verdicts that passed.
    PassRate,
    /// Mean score.
    MeanScore,
    /// Share of jobs whose judges failed.
    JudgeErrorRate,
    /// Share of answers that are none.
    FailureRate,
    /// Share of answers that are not the JSON that was asked for.
    InvalidJsonRate,
    /// Share of traces with a prompt injection.
    InjectionRate,
    /// Cost of a verdict, in US dollars.
    CostUsd,
    /// Latency of a verdict, in seconds.
    LatencySeconds,
    /// Verdicts an hour.
    VerdictsPerHour,
    /// Share of traces that were kept.
    KeptShare,
    /// Share of labelled traces on which a judge agrees with the label.
    Agreement,
}

impl Measure {
    /// The name used on every wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PassRate => "pass_rate",
            Self::MeanScore => "mean_score",
            Self::JudgeErrorRate => "judge_error_rate",
            Self::FailureRate => "failure_rate",
            Self::InvalidJsonRate => "invalid_json_rate",
            Self::InjectionRate => "injection_rate",
            Self::CostUsd => "cost_usd",
            Self::LatencySeconds => "latency_seconds",
            Self::VerdictsPerHour => "verdicts_per_hour",
            Self::KeptShare => "kept_share",
            Self::Agreement => "agreement",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::PassRate => "pass rate",
            Self::MeanScore => "mean score",
            Self::JudgeErrorRate => "rate of judge errors",
            Self::FailureRate => "rate of failures to answer",
            Self::InvalidJsonRate => "rate of invalid JSON",
            Self::InjectionRate => "rate of prompt injections",
            Self::CostUsd => "cost of a verdict",
            Self::LatencySeconds => "latency of a verdict",
            Self::VerdictsPerHour => "verdicts an hour",
            Self::KeptShare => "share of traces kept",
            Self::Agreement => "agreement with the labels",
        }
    }

    /// A value for people: shares in per cent, money and time with their unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::MeanScore => format!("{value:.3}"),
            Self::CostUsd => format!("{value:.5} USD"),
            Self::LatencySeconds => format!("{value:.2} s"),
            Self::VerdictsPerHour => format!("{value:.0}"),
            _ => format!("{:.1} %", value * 100.0),
        }
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// Somebody is to be woken.
    Critical,
}

impl Severity {
    /// All, from the lowest.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The name used on every wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The severity of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }
}

/// A value with its interval, in the measure's own unit (shares in [0,1]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate, corrected for sampling where the measure is a mean or rate of verdicts.
    pub value: f64,
    /// Lower end of its interval.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
}

/// Why the detector is sure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// The e-value: how many times likelier than under "nothing changed", at any look.
    pub e_value: Option<f64>,
    /// The bound on a false alarm; the e-value reached 1/alpha.
    pub alpha: Option<f64>,
    /// The stream's part of the monthly false-alarm budget, as expected false alarms in 30 days.
    pub budget_share: Option<f64>,
    /// p-value for display: `min(1, 1/max e)`.
    pub p: Option<f64>,
}

/// A version, prompt version or model in a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStep {
    /// `prompt_version`, `model`, `service_version`, or `judge` for the model of a judge.
    pub what: String,
    /// Those before, where it changed; empty where it did not.
    #[serde(default)]
    pub before: Vec<String>,
    /// The one since then.
    pub after: String,
}

/// A trace that shows the trouble.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// The trace.
    pub trace_id: String,
    /// Its score, 1 = good.
    pub score: Option<f64>,
    /// The judges' reason; quotes the trace, so it is shown to those who may read traces only.
    pub reason: String,
}

/// What a detector found in one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// How it was found.
    pub kind: Kind,
    /// What was measured.
    pub measure: Measure,
    /// The rubric, where it is about one.
    pub rubric: Option<String>,
    /// Its version.
    pub rubric_version: Option<String>,
    /// The stream: feature, environment and what the rubric's `alert.by` adds (`tenant` too), by key.
    #[serde(default)]
    pub stream: BTreeMap<String, String>,
    /// Before.
    pub from: Option<Estimate>,
    /// Since then.
    pub to: Option<Estimate>,
    /// The level that was crossed, for thresholds.
    #[serde(default)]
    pub limit: Option<f64>,
    /// The estimated start.
    pub since: DateTime<Utc>,
    /// When it was found.
    pub found_at: DateTime<Utc>,
    /// Verdicts since the start.
    pub n: u64,
    /// Kish's effective number of them.
    pub n_eff: f64,
    /// How they were weighted, where that is worth a word.
    #[serde(default)]
    pub weights: Option<String>,
    /// Why the detector is sure.
    #[serde(default)]
    pub evidence: Evidence,
    /// Versions and models of the stream since the start; one that changed names those before it.
    #[serde(default)]
    pub versions: Vec<VersionStep>,
    /// How much it matters.
    pub severity: Severity,
    /// The worst traces, worst first.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// The deployments nearest to the start; filled in when the finding is raised, unless it has some.
    #[serde(default)]
    pub deploys: Vec<Deployment>,
    /// What to do: the rubric's `runbook`.
    #[serde(default)]
    pub runbook: Option<String>,
    /// What the rubric's judges say now of stored traces, where that was asked since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<Canaries>,
}

impl Finding {
    /// Names the trouble, whenever and however often it is found: detector, measure, rubric, stream and, for a version test,
    /// the version that changed. The rubric's version is left out: editing a rubric does not end an incident.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut parts = vec![
            self.kind.as_str().to_owned(),
            self.measure.as_str().to_owned(),
            self.rubric.clone().unwrap_or_default(),
        ];
        parts.extend(self.stream.iter().flat_map(|(key, value)| [key.clone(), value.clone()]));
        if matches!(self.kind, Kind::VersionTest | Kind::JudgeDrift) {
            parts.push("\u{1f}".to_owned());
            let changed = self.versions.iter().filter(|step| !step.before.is_empty());
            parts.extend(changed.flat_map(|step| [step.what.clone(), step.after.clone()]));
        }
        let bytes: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        short_hash(&bytes, 16)
    }

    /// The finding as it can be stored: JSON has no infinity and no NaN.
    #[must_use]
    pub fn storable(mut self) -> Self {
        let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
        for estimate in [&mut self.from, &mut self.to] {
            *estimate = estimate.filter(|e| e.value.is_finite()).map(|e| Estimate {
                value: e.value,
                lower: finite(e.lower),
                upper: finite(e.upper),
            });
        }
        let e_value = self.evidence.e_value.filter(|e| !e.is_nan()).map(|e| e.clamp(0.0, f64::MAX));
        self.evidence = Evidence {
            e_value,
            alpha: finite(self.evidence.alpha),
            budget_share: finite(self.evidence.budget_share),
            p: finite(self.evidence.p),
        };
        self.limit = finite(self.limit);
        self.n_eff = if self.n_eff.is_finite() { self.n_eff } else { 0.0 };
        for example in &mut self.examples {
            example.score = finite(example.score);
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A version test's finding about prompt version v3, found at 16:10 and begun at 14:02 on 2026-11-20.
    pub(crate) fn finding() -> Finding {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a valid time").to_utc();
        Finding {
            kind: Kind::VersionTest,
            measure: Measure::PassRate,
            rubric: Some("faithfulness".to_owned()),
            rubric_version: Some("sha256:0123456789ab".to_owned()),
            stream: [("feature", "support_agent"), ("environment", "production")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            from: Some(Estimate { value: 0.912, lower: Some(0.89), upper: Some(0.931) }),
            to: Some(Estimate { value: 0.784, lower: Some(0.74), upper: Some(0.823) }),
            limit: None,
            since: at("2026-11-20T14:02:00Z"),
            found_at: at("2026-11-20T16:10:00Z"),
            n: 412,
            n_eff: 388.2,
            weights: Some("weighted by 1/inclusion probability".to_owned()),
            evidence: Evidence { e_value: Some(5_230.0), alpha: Some(0.05), budget_share: None, p: Some(0.000_191) },
            versions: vec![
                VersionStep {
                    what: "prompt_version".to_owned(),
                    before: vec!["v2".to_owned()],
                    after: "v3".to_owned(),
                },
                VersionStep { what: "model".to_owned(), before: Vec::new(), after: "gpt-4o-mini".to_owned() },
            ],
            severity: Severity::Warning,
            examples: vec![Example {
                trace_id: "5b8efff798038103d269b633813fc60c".to_owned(),
                score: Some(0.1),
                reason: "SECRET-REASON the answer invents a refund".to_owned(),
            }],
            deploys: Vec::new(),
            runbook: Some("https://runbooks.example/faithfulness".to_owned()),
            canaries: None,
        }
    }

    #[test]
    fn the_same_trouble_has_the_same_fingerprint_whenever_it_is_found() {
        let later = Finding { n: 900, since: finding().found_at, severity: Severity::Critical, ..finding() };
        assert_eq!(finding().fingerprint(), later.fingerprint());
        let edited = Finding { rubric_version: None, ..finding() };
        assert_eq!(finding().fingerprint(), edited.fingerprint());
    }

    #[test]
    fn another_stream_measure_or_version_is_another_trouble() {
        let mut others = vec![finding(); 4];
        others[0].stream.insert("feature".to_owned(), "search".to_owned());
        others[1].measure = Measure::MeanScore;
        others[2].versions[0].after = "v4".to_owned();
        others[3].rubric = Some("tone".to_owned());
        for other in others {
            assert_ne!(finding().fingerprint(), other.fingerprint(), "{other:?}");
        }
    }

    #[test]
    fn what_json_cannot_hold_is_left_out_and_comes_back() {
        let odd = Finding {
            n_eff: f64::NAN,
            from: Some(Estimate { value: f64::NAN, lower: None, upper: None }),
            to: Some(Estimate { value: 0.5, lower: Some(f64::NEG_INFINITY), upper: Some(0.6) }),
            evidence: Evidence { e_value: Some(f64::INFINITY), ..Evidence::default() },
            ..finding()
        };
        let stored = odd.storable();
        let text = serde_json::to_string(&stored).expect("it is JSON");
        let back: Finding = serde_json::from_str(&text).expect("and comes back");
        assert_eq!(back, stored);
        assert_eq!((back.from, back.evidence.e_value), (None, Some(f64::MAX)));
    }
}
