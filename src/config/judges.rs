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
    /// How long to wait for a reply, in milliseconds.
    pub timeout_ms: u64,
    /// Requests a minute at most; none = no limit of ours.
    pub requests_per_minute: Option<u32>,
    /// Sampling temperature; none = not sent.
    pub temperature: Option<f64>,
    /// Tokens of the answer at most.
    pub output_tokens_max: u32,
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
            timeout_ms: 60_000,
            requests_per_minute: None,
            temperature: Some(0.0),
            output_tokens_max: 1_024,
            window_tokens: 128_000,
            price: None,
            weight: 1.0,
        }
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

pub(super) fn check(
    judges: &BTreeMap<String, Judge>,
    panels: &BTreeMap<String, Vec<String>>,
) -> Result<(), ConfigError> {
    for (name, judge) in judges {
        let key = |field: &str| format!("judges.{name}.{field}");
        if judge.model.is_empty() {
            return Err(ConfigError::invalid(key("model"), "is missing; give the model's name at its endpoint"));
        }
        if judge.timeout_ms == 0 || judge.output_tokens_max == 0 || judge.requests_per_minute == Some(0) {
            let problem = "timeout_ms, output_tokens_max and requests_per_minute must be at least 1";
            return Err(ConfigError::invalid(format!("judges.{name}"), problem));
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
