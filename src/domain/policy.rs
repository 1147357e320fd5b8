//! Which traces are wanted: matchers over a trace's labels, sampling rules, and what was decided.
//!
//! Used by `config` (to read them), `pipeline::sample` (to decide) and `rubrics` (`applies_when`). Its rule: a matcher looks
//! only at labels that are fixed before anything is judged, never at a score, because estimates would be biased. The
//! way not taken: a small expression language; ordered lists of plain globs cover what peers' users ask for.

use super::span::Status;
use super::trace::Trace;
use chrono::{DateTime, Utc};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use wildmatch::WildMatch;

/// One glob or a list of them (`*` any text, `?` one character); empty matches everything, an absent value too.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Patterns(pub Vec<String>);

impl Patterns {
    /// True when nothing is demanded, or the value is there and fits one of the globs.
    #[must_use]
    pub fn accept(&self, value: Option<&str>) -> bool {
        self.0.is_empty() || value.is_some_and(|v| self.0.iter().any(|p| WildMatch::new(p).matches(v)))
    }

    /// True when nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Patterns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a glob or a list of globs")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Patterns, E> {
                Ok(Patterns(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Patterns, A::Error> {
                let mut globs = Vec::new();
                while let Some(glob) = seq.next_element()? {
                    globs.push(glob);
                }
                Ok(Patterns(globs))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Conditions on a trace's labels; all of them must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// Service names.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub service: Patterns,
    /// Environments.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub environment: Patterns,
    /// Features.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub feature: Patterns,
    /// Models.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub model: Patterns,
    /// Prompt names.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub prompt: Patterns,
    /// Prompt versions.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub prompt_version: Patterns,
    /// Tenants.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub tenant: Patterns,
    /// How the trace ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Only traces that took longer than this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms_over: Option<i64>,
    /// Tags and the globs their values must fit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Patterns>,
}

impl Matcher {
    /// The first condition that the trace does not meet, as `name`; `None` when it meets them all.
    #[must_use]
    pub fn refused_by(&self, trace: &Trace) -> Option<String> {
        let view = &trace.view;
        let labels = [
            ("service", &self.service, view.service.as_deref()),
            ("environment", &self.environment, view.environment.as_deref()),
            ("feature", &self.feature, view.feature.as_deref()),
            ("model", &self.model, view.model.as_deref()),
            ("prompt", &self.prompt, view.prompt.name.as_deref()),
            ("prompt_version", &self.prompt_version, view.prompt.version.as_deref()),
            ("tenant", &self.tenant, view.tenant.as_deref()),
        ];
        if let Some((name, _, _)) = labels.iter().find(|(_, globs, value)| !globs.accept(*value)) {
            return Some((*name).to_owned());
        }
        if self.status.is_some_and(|wanted| wanted != view.status) {
            return Some("status".to_owned());
        }
        if self.latency_ms_over.is_some_and(|limit| trace.latency_ms().is_none_or(|ms| ms <= limit)) {
            return Some("latency_ms_over".to_owned());
        }
        let tag = self.tags.iter().find(|(key, globs)| !globs.accept(view.tags.get(*key).map(String::as_str)));
        tag.map(|(key, _)| format!("tags.{key}"))
    }
}

/// One sampling rule: the first whose conditions hold decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingRule {
    /// What it is called where a decision is explained.
    pub name: String,
    /// Which traces it is for.
    #[serde(default)]
    pub when: Matcher,
    /// The share of them to keep, 0 to 1.
    pub rate: f64,
}

/// What a sampler before us said of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Probability with which it let the trace through, above 0 and at most 1.
    pub probability: f64,
    /// Where that was read: `tracestate th`, `datadog rule`, …
    pub source: String,
    /// False where it decided against the trace, which was sent all the same.
    pub kept: bool,
}

/// How the rate came about: max of rule, boosts and floor, then what ceilings leave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateParts {
    /// The rule's own rate.
    pub rule: f64,
    /// The boosts that apply, with their rates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boosts: Vec<(String, f64)>,
    /// The floor that asks for most, with its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<(String, f64)>,
    /// The ceiling that leaves least, with what it leaves; absent when none lowers the rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<(String, f64)>,
}

/// The rate, rule and draw that decided whether a trace is judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleDecision {
    /// Whether the trace is judged.
    pub kept: bool,
    /// Name of the rule that fitted first; `default` when none did.
    pub rule: String,
    /// Probability with which the trace was to be kept, of all traces received; 0 to 1.
    pub probability: f64,
    /// The trace's 56 random bits.
    pub randomness: u64,
    /// It is kept when `randomness >= threshold`; 2^56 means never.
    pub threshold: u64,
    /// Where the random bits are from: `tracestate rv`, `trace id` or `keyed hash`.
    pub source: String,
    /// How `probability` came about.
    #[serde(default)]
    pub parts: RateParts,
    /// Start of the step whose rates were in force; absent when nothing adapts.
    #[serde(default)]
    pub step: Option<DateTime<Utc>>,
    /// What a sampler before us said; absent when none is known.
    #[serde(default)]
    pub upstream: Option<Upstream>,
}

impl SampleDecision {
    /// Probability with which the trace was to be kept, of all traces there were, as far as samplers before us are known.
    #[must_use]
    pub fn inclusion(&self) -> f64 {
        self.probability * self.upstream.as_ref().map_or(1.0, |u| u.probability)
    }

    /// How many traces it stands for; `None` for one that was never to be kept.
    #[must_use]
    pub fn weight(&self) -> Option<f64> {
        let inclusion = self.inclusion();
        (inclusion > 0.0).then(|| 1.0 / inclusion)
    }

    /// The same trace, not judged whatever its draw; the rule says why.
    #[must_use]
    pub fn never(self, rule: &str, threshold: u64) -> Self {
        Self { kept: false, rule: rule.to_owned(), probability: 0.0, threshold, ..self }
    }
}
