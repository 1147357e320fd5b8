//! Creates monitors and the dashboard through Datadog's API, or brings them up to date.
//!
//! Called by `cli::datadog`. Its rules: what is ours is found by its tag or mark, so applying twice changes nothing; nothing is
//! ever deleted; people's own tags stay; keys are in no message. It does not retry: what is done stays done, and the command can
//! be run again. The way not taken: a file with the ids of what was created, which gets lost.

use super::{DASHBOARD_MARK, MANAGED, MONITOR_TAG};
use crate::config::Datadog;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::Duration;

/// Monitors and dashboards a page.
const PAGE: usize = 100;
/// Pages that are read at most.
const PAGES_MAX: usize = 100;
/// Characters of Datadog's own words that are shown.
const SAID_CHARS_MAX: usize = 400;

/// Why something cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A key is missing.
    #[error(
        "{key} is not set; --apply needs an API key and an application key of the same organisation (Organization Settings → API Keys, Application Keys)"
    )]
    NoKey {
        /// The variable.
        key: &'static str,
    },
    /// No HTTP client.
    #[error("cannot make an HTTP client for Datadog")]
    Client(#[source] reqwest::Error),
    /// Datadog did not answer.
    #[error("{what}: no answer from {base}; check DD_SITE, datadog.api_url and the network, then run it again")]
    NoAnswer {
        /// What was asked.
        what: String,
        /// Where.
        base: String,
    },
    /// The keys are refused.
    #[error(
        "{what}: Datadog at {base} refuses the keys ({status}); DD_API_KEY and DD_APP_KEY must belong to DD_SITE, and the application key needs the scopes monitors_read, monitors_write, dashboards_read and dashboards_write"
    )]
    Keys {
        /// What was asked.
        what: String,
        /// Where.
        base: String,
        /// The answer's status.
        status: u16,
    },
    /// Too much was asked.
    #[error("{what}: Datadog takes no more for now (429); what is done stays done, run it again in {seconds} s")]
    Limited {
        /// What was asked.
        what: String,
        /// How long to wait.
        seconds: u64,
    },
    /// Any other answer.
    #[error("{what}: Datadog answers {status}: {said}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer's status.
        status: u16,
        /// What it said, without keys.
        said: String,
    },
}

/// What became of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was not there.
    Created,
    /// It was different.
    Updated,
    /// It was as it should be.
    Unchanged,
}

impl Done {
    /// A word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One thing that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its key.
    pub key: String,
    /// What became of it.
    pub done: Done,
    /// Datadog's id.
    pub id: String,
    /// Ids of others with the same key, which are left alone.
    pub doubles: Vec<String>,
}

/// What came of applying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was wanted.
    pub applied: Vec<Applied>,
    /// Keys and ids of ours that are wanted no more, as when a rubric is gone.
    pub unwanted: Vec<(String, String)>,
}

/// Datadog's API.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    /// Who we are.
    key: SecretString,
    /// What we may do.
    application: SecretString,
}

impl Api {
    /// The API that the configuration names.
    ///
    /// # Errors
    /// When a key is missing.
    pub fn new(config: &Datadog) -> Result<Self, ApplyError> {
        let (base, key) = config.api().ok_or(ApplyError::NoKey { key: "DD_API_KEY" })?;
        let application = config.app_key.clone().ok_or(ApplyError::NoKey { key: "DD_APP_KEY" })?;
        let timeout = Duration::from_millis(config.timeout_ms);
        let http = crate::runtime::http::client(timeout).map_err(ApplyError::Client)?;
        Ok(Self { http, base, key, application })
    }

    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    async fn ask(&self, what: &str, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApplyError> {
        let no_answer = |_| ApplyError::NoAnswer { what: what.to_owned(), base: self.base.clone() };
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("DD-API-KEY", self.key.expose_secret())
            .header("DD-APPLICATION-KEY", self.application.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        let seconds = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let wait = seconds("retry-after").or_else(|| seconds("x-ratelimit-reset")).unwrap_or(60);
        let text = response.text().await.map_err(no_answer)?;
        let what = what.to_owned();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ApplyError::Keys { what, base: self.base.clone(), status: status.as_u16() })
            }
            StatusCode::TOO_MANY_REQUESTS => Err(ApplyError::Limited { what, seconds: wait }),
            status if !status.is_success() => {
                Err(ApplyError::Refused { what, status: status.as_u16(), said: self.said(&text) })
            }
            status => serde_json::from_str(&text).map_err(|_| ApplyError::Refused {
                what,
                status: status.as_u16(),
                said: "what it sent is not JSON; is this Datadog's API? see DD_SITE and datadog.api_url".to_owned(),
            }),
        }
    }

    /// Datadog's own words, short and without keys.
    fn said(&self, text: &str) -> String {
        let errors: Option<Vec<String>> = serde_json::from_str::<Value>(text).ok().and_then(|value| {
            Some(value.get("errors")?.as_array()?.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect())
        });
        let text = errors.map_or_else(|| text.to_owned(), |errors| errors.join("; "));
        let hidden =
            [&self.key, &self.application].into_iter().fold(text, |text, key| text.replace(key.expose_secret(), "***"));
        hidden.chars().take(SAID_CHARS_MAX).collect()
    }
}

/// Creates or updates monitors, each with its key.
///
/// # Errors
/// The first answer that is not what it should be; what was done before stays done.
pub async fn monitors(api: &Api, wanted: &[(String, Value)]) -> Result<Outcome, ApplyError> {
    let mut present = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/v1/monitor?monitor_tags={MANAGED}&page={page}&page_size={PAGE}");
        let found = api.ask("listing monitors", Method::GET, &path, None).await?;
        let found = found.as_array().cloned().unwrap_or_default();
        let last = found.len() < PAGE;
        present.extend(found.into_iter().filter_map(|monitor| Some((key_of(&monitor)?, monitor))));
        if last {
            break;
        }
    }
    let mut outcome = Outcome::default();
    for (key, monitor) in wanted {
        let mut same = present.iter().filter(|(k, _)| k == key).map(|(_, monitor)| monitor).collect::<Vec<_>>();
        same.sort_by_key(|monitor| monitor["id"].as_u64());
        let what = |verb: &str| format!("{verb} the monitor `{key}`");
        let applied = match same.split_first() {
            None => {
                let made = api.ask(&what("creating"), Method::POST, "/api/v1/monitor", Some(monitor)).await?;
                Applied { key: key.clone(), done: Done::Created, id: id_of(&made), doubles: Vec::new() }
            }
            Some((old, others)) => {
                let id = id_of(old);
                let done = if contains(old, monitor) {
                    Done::Unchanged
                } else {
                    let path = format!("/api/v1/monitor/{id}");
                    api.ask(&what("updating"), Method::PUT, &path, Some(&with_tags_of(monitor, old))).await?;
                    Done::Updated
                };
                Applied { key: key.clone(), done, id, doubles: others.iter().map(|m| id_of(m)).collect() }
            }
        };
        outcome.applied.push(applied);
    }
    let unwanted = present.iter().filter(|(key, _)| !wanted.iter().any(|(k, _)| k == key));
    outcome.unwanted = unwanted.map(|(key, monitor)| (key.clone(), id_of(monitor))).collect();
    Ok(outcome)
}

/// Creates or updates the dashboard.
///
/// # Errors
/// As [`monitors`].
pub async fn dashboard(api: &Api, wanted: &Value) -> Result<Outcome, ApplyError> {
    let mut ours = Vec::new();
    for page in 0..PAGES_MAX {
        let path = format!("/api/v1/dashboard?count={PAGE}&start={}", page * PAGE);
        let found = api.ask("listing dashboards", Method::GET, &path, None).await?;
        let found = found["dashboards"].as_array().cloned().unwrap_or_default();
        let last = found.len() < PAGE;
        let marked = |board: &Value| board["description"].as_str().is_some_and(|d| d.contains(DASHBOARD_MARK));
        ours.extend(found.iter().filter(|board| marked(board)).map(id_of));
        if last {
            break;
        }
    }
    ours.sort();
    ours.dedup();
    let key = "dashboard".to_owned();
    let applied = match ours.split_first() {
        None => {
            let made = api.ask("creating the dashboard", Method::POST, "/api/v1/dashboard", Some(wanted)).await?;
            Applied { key, done: Done::Created, id: id_of(&made), doubles: Vec::new() }
        }
        Some((id, others)) => {
            let path = format!("/api/v1/dashboard/{id}");
            let old = api.ask("reading the dashboard", Method::GET, &path, None).await?;
            let done = if contains(&old, wanted) {
                Done::Unchanged
            } else {
                api.ask("updating the dashboard", Method::PUT, &path, Some(wanted)).await?;
                Done::Updated
            };
            Applied { key, done, id: id.clone(), doubles: others.to_vec() }
        }
    };
    Ok(Outcome { applied: vec![applied], unwanted: Vec::new() })
}

fn id_of(value: &Value) -> String {
    value["id"].as_str().map_or_else(|| value["id"].to_string(), str::to_owned)
}

fn key_of(monitor: &Value) -> Option<String> {
    let tags = monitor["tags"].as_array()?;
    tags.iter().find_map(|tag| tag.as_str()?.strip_prefix(MONITOR_TAG).map(str::to_owned))
}

/// The monitor with the tags that people have added to the old one.
fn with_tags_of(monitor: &Value, old: &Value) -> Value {
    let mut tags = monitor["tags"].as_array().cloned().unwrap_or_default();
    for tag in old["tags"].as_array().into_iter().flatten() {
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    let mut monitor = monitor.clone();
    monitor["tags"] = json!(tags);
    monitor
}

/// Whether what Datadog has says everything that is wanted; it adds fields of its own, and writes numbers in its own way.
fn contains(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            let there = present.get(key).unwrap_or(&Value::Null);
            match key.as_str() {
                "tags" => {
                    value.as_array().into_iter().flatten().all(|tag| there.as_array().is_some_and(|t| t.contains(tag)))
                }
                // Datadog has two words for it and answers with either.
                "type" if *value == "query alert" => *there == "query alert" || *there == "metric alert",
                _ => contains(there, value),
            }
        }),
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len() && present.iter().zip(wanted).all(|(p, w)| contains(p, w))
        }
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::Number(present), Value::Number(wanted)) => present.as_f64() == wanted.as_f64(),
        _ => present == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_datadog_adds_is_no_difference_and_a_threshold_is() {
        let wanted = json!({"type": "query alert", "tags": ["a"], "options": {"thresholds": {"critical": 1}}, "x": []});
        let mut present = json!({
            "id": 7, "type": "metric alert", "tags": ["b", "a"], "x": null,
            "options": {"thresholds": {"critical": 1.0}, "silenced": {}},
        });
        assert!(contains(&present, &wanted));
        assert_eq!(with_tags_of(&wanted, &present)["tags"], json!(["a", "b"]));
        present["options"]["thresholds"]["critical"] = json!(2.0);
        assert!(!contains(&present, &wanted));
    }
}
