//! Sections `judges` and `panels`: the models that are asked, how, and who sits together.
//!
//! Its rule: a key is named by its environment variable and never stands in a file. With `OPENAI_API_KEY` set and no judge
//! configured, two small OpenAI models make the panel `default`.

use super::{Ambient, ConfigError, nearest};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One judge.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judge {
    /// The model's name at its endpoint.
    pub model: String,
    /// Base URL of an OpenAI-compatible API, with `/v1` where it has one; default `OPENAI_BASE_URL`, else OpenAI.
    pub base_url: Option<String>,
    /// Environment variable that holds the key; default `OPENAI_API_KEY`, but only for OpenAI's own address (or that of
    /// `OPENAI_BASE_URL`): nobody else is sent that key unasked.
    pub api_key_env: Option<String>,
    /// The key, filled in from that variable.
    #[serde(skip)]
    pub api_key: Option<SecretString>,
    /// More request headers. A value `$NAME` is taken from that environment variable.
    #[serde(serialize_with = "without_values")]
    pub headers: BTreeMap<String, String>,
    /// How long to wait for a reply, in milliseconds; default a minute, three for models that think first.
    pub timeout_ms: Option<u64>,
    /// Requests a minute at most, all workers together; none = what the endpoint advertises, if it does.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute at most, prompt and answer, all workers together; none = what the endpoint advertises, if it does.
    pub tokens_per_minute: Option<u32>,
    /// Sampling temperature; none = not sent.
    pub temperature: Option<f64>,
    /// Nucleus sampling; none = not sent.
    pub top_p: Option<f64>,
    /// Seed of the sampling; none = not sent.
    pub seed: Option<i64>,
    /// `low`, `medium`, `high` or what else the model knows; none = not sent.
    pub reasoning_effort: Option<String>,
    /// Weight whole-number scores and yes or no by the probabilities of their tokens (G-Eval), where the endpoint gives them.
    pub logprobs: bool,
    /// The judge that is asked in this one's place while it is paused or its endpoint fails.
    pub fallback: Option<String>,
    /// Whether the endpoint has a Batch API, for rubrics with `batch_hours`.
    pub batch: bool,
    /// Tokens of the answer at most; default 1024, 8192 for models that think first.
    pub output_tokens_max: Option<u32>,
    /// Tokens that fit into the model's window, prompt and answer together.
    pub window_tokens: usize,
    /// Prices; none = the built-in table, else nothing.
    pub price: Option<Price>,
    /// Weight in `combine: weighted`, and rank in `combine: strongest`.
    pub weight: f64,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not derived: headers may hold keys.
        f.debug_struct("Judge").field("model", &self.model).field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            model: String::new(),
            base_url: None,
            api_key_env: None,
            api_key: None,
            headers: BTreeMap::new(),
            timeout_ms: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            temperature: Some(0.0),
            top_p: None,
            seed: None,
            reasoning_effort: None,
            logprobs: false,
            fallback: None,
            batch: false,
            output_tokens_max: None,
            window_tokens: 128_000,
            price: None,
            weight: 1.0,
        }
    }
}

impl Judge {
    /// Whether the model is known to think before it answers, by its name.
    #[must_use]
    pub fn thinks(&self) -> bool {
        let name = self.model.rsplit('/').next().unwrap_or_default().to_lowercase();
        let begins = ["o1", "o3", "o4", "gpt-5", "deepseek-r", "qwq", "magistral", "grok-4"];
        let holds = ["reason", "think", "-r1"];
        begins.iter().any(|word| name.starts_with(word)) || holds.iter().any(|word| name.contains(word))
    }

    /// How long to wait for a reply, in milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(if self.thinks() { 180_000 } else { 60_000 })
    }

    /// Tokens of the answer at most.
    #[must_use]
    pub fn output_tokens_max(&self) -> u32 {
        self.output_tokens_max.unwrap_or(if self.thinks() { 8_192 } else { 1_024 })
    }
}

/// Headers may hold keys (Azure's `api-key`), so their values are shown nowhere.
fn without_values<S: serde::Serializer>(headers: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, "***")))
}

/// Prices in US dollars a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Prompt tokens.
    pub input_usd_per_million: f64,
    /// Completion tokens.
    pub output_usd_per_million: f64,
    /// Prompt tokens that the provider had cached; none = as other prompt tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_usd_per_million: Option<f64>,
}

pub(super) fn apply(
    judges: &mut BTreeMap<String, Judge>,
    panels: &mut BTreeMap<String, Vec<String>>,
    ambient: &Ambient,
) {
    if judges.is_empty() && ambient.get("OPENAI_API_KEY").is_some() {
        for model in ["gpt-4o-mini", "gpt-4.1-mini"] {
            judges.insert(model.to_owned(), Judge { model: model.to_owned(), ..Judge::default() });
        }
    }
    if !judges.is_empty() && panels.is_empty() {
        panels.insert("default".to_owned(), judges.keys().cloned().collect());
    }
    for judge in judges.values_mut() {
        let own = judge.base_url.as_deref().is_none_or(|url| url.contains("://api.openai.com"));
        let variable = judge.api_key_env.as_deref().or(own.then_some("OPENAI_API_KEY"));
        judge.api_key = variable.and_then(|name| ambient.secret(name));
        for value in judge.headers.values_mut() {
            if let Some(found) = value.strip_prefix('$').and_then(|name| ambient.get(name)) {
                found.clone_into(value);
            }
        }
        let base = judge.base_url.take().or_else(|| ambient.get("OPENAI_BASE_URL").map(str::to_owned));
        judge.base_url = Some(base.unwrap_or_else(|| "https://api.openai.com/v1".to_owned()));
    }
}

fn check_fallback(judges: &BTreeMap<String, Judge>, name: &str, other: &str) -> Result<(), ConfigError> {
    let key = format!("judges.{name}.fallback");
    if other == name {
        return Err(ConfigError::invalid(key, "names the judge itself"));
    }
    if !judges.contains_key(other) {
        let hint = nearest::nearest(other, judges.keys().map(String::as_str))
            .map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
        return Err(ConfigError::invalid(key, format!("there is no judge `{other}`{hint}")));
    }
    Ok(())
}

pub(super) fn check(
    judges: &BTreeMap<String, Judge>,
    panels: &BTreeMap<String, Vec<String>>,
) -> Result<(), ConfigError> {
    for (name, judge) in judges {
        let key = |field: &str| format!("judges.{name}.{field}");
        if judge.model.is_empty() {
            return Err(ConfigError::invalid(key("model"), "is missing; give the model's name at its endpoint"));
        }
        let limits = [judge.output_tokens_max, judge.requests_per_minute, judge.tokens_per_minute];
        if judge.timeout_ms == Some(0) || limits.contains(&Some(0)) {
            let problem = "timeout_ms, output_tokens_max, requests_per_minute and tokens_per_minute must be at least 1";
            return Err(ConfigError::invalid(format!("judges.{name}"), problem));
        }
        if judge.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(ConfigError::invalid(key("top_p"), "must be above 0 and at most 1"));
        }
        if let Some(other) = &judge.fallback {
            check_fallback(judges, name, other)?;
        }
        if !judge.weight.is_finite() || judge.weight < 0.0 {
            return Err(ConfigError::invalid(key("weight"), "must be a number that is not negative"));
        }
        if let Some(url) = &judge.base_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return Err(ConfigError::invalid(key("base_url"), "must begin with http:// or https://"));
        }
    }
    for (panel, members) in panels {
        if members.is_empty() {
            return Err(ConfigError::invalid(format!("panels.{panel}"), "has no judges"));
        }
        if let Some(member) = members.iter().find(|m| !judges.contains_key(*m)) {
            let hint = nearest::nearest(member, judges.keys().map(String::as_str))
                .map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
            let problem = format!("there is no judge `{member}`{hint}; add [judges.{member}]");
            return Err(ConfigError::invalid(format!("panels.{panel}"), problem));
        }
    }
    Ok(())
}
