//! Section `datadog`: where evaluation metrics and statsd lines go, and how they are named.
//!
//! Its rule: an agent wins over the key (the agent has its own), and with neither nothing is sent. Facts of the wire are in
//! `sinks::datadog`. The way not taken: a switch `enabled`, which people forget to set beside the key.

use super::{Ambient, ConfigError};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Section `datadog`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Datadog {
    /// The API key; `DD_API_KEY` wins over it.
    #[serde(skip_serializing)]
    pub api_key: Option<SecretString>,
    /// The application key, with which `assize datadog --apply` may write; `DD_APP_KEY` wins over it.
    #[serde(skip_serializing)]
    pub app_key: Option<SecretString>,
    /// `datadoghq.com`, `datadoghq.eu`, …; `DD_SITE`.
    pub site: String,
    /// Base URL of an agent, as `http://agent:8126`; `DD_TRACE_AGENT_URL` or `DD_AGENT_HOST`.
    pub agent_url: Option<String>,
    /// Base URL instead of `https://api.SITE`, for a proxy.
    pub api_url: Option<String>,
    /// `udp://host:8125` or `unix:///path`; `DD_DOGSTATSD_URL` or `DD_AGENT_HOST`.
    pub dogstatsd_url: Option<String>,
    /// Application name in LLM Observability; `DD_LLMOBS_ML_APP`. None = the trace's service.
    pub ml_app: Option<String>,
    /// Environment where the trace has none; `DD_ENV`.
    pub env: Option<String>,
    /// Service on metrics where the trace has none; `DD_SERVICE`.
    pub service: String,
    /// Version on metrics where the trace has none; `DD_VERSION`.
    pub version: Option<String>,
    /// Whether judges' reasons are sent along (they may quote the trace).
    pub send_reasoning: bool,
    /// How long to wait for an answer, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for Datadog {
    fn default() -> Self {
        Self {
            api_key: None,
            app_key: None,
            site: "datadoghq.com".to_owned(),
            agent_url: None,
            api_url: None,
            dogstatsd_url: None,
            ml_app: None,
            env: None,
            service: "assize".to_owned(),
            version: None,
            send_reasoning: true,
            timeout_ms: 10_000,
        }
    }
}

/// How evaluation metrics reach Datadog.
#[derive(Debug, Clone)]
pub enum DatadogMode {
    /// Straight to the API, with the key.
    Agentless {
        /// Base URL.
        url: String,
        /// The key.
        key: SecretString,
    },
    /// Through an agent's `evp_proxy`, which adds the key.
    Agent {
        /// Base URL of the agent.
        url: String,
    },
}

impl Datadog {
    pub(super) fn apply(&mut self, ambient: &Ambient) {
        let text = |key: &str| ambient.get(key).map(str::to_owned);
        if let Some(key) = ambient.secret("DD_API_KEY") {
            self.api_key = Some(key);
        }
        if let Some(key) = ambient.secret("DD_APP_KEY") {
            self.app_key = Some(key);
        }
        if let Some(site) = text("DD_SITE") {
            self.site = site;
        }
        let host = text("DD_AGENT_HOST");
        let http = |url: &String| url.starts_with("http");
        // A trace agent on a Unix socket is for tracers; evaluation metrics go by HTTP.
        let agent =
            text("DD_TRACE_AGENT_URL").filter(http).or_else(|| host.as_ref().map(|h| format!("http://{h}:8126")));
        self.agent_url = agent.or(self.agent_url.take());
        let statsd = text("DD_DOGSTATSD_URL").or_else(|| host.map(|h| format!("udp://{h}:8125")));
        self.dogstatsd_url = statsd.or(self.dogstatsd_url.take());
        self.ml_app = text("DD_LLMOBS_ML_APP").or(self.ml_app.take());
        self.env = text("DD_ENV").or(self.env.take());
        self.version = text("DD_VERSION").or(self.version.take());
        if let Some(service) = text("DD_SERVICE") {
            self.service = service;
        }
    }

    /// How evaluation metrics are sent; `None` = not at all.
    #[must_use]
    pub fn mode(&self) -> Option<DatadogMode> {
        if let Some(url) = &self.agent_url {
            return Some(DatadogMode::Agent { url: url.trim_end_matches('/').to_owned() });
        }
        self.api().map(|(url, key)| DatadogMode::Agentless { url, key })
    }

    /// Base URL of the API and the key, where there is one.
    #[must_use]
    pub fn api(&self) -> Option<(String, SecretString)> {
        let key = self.api_key.clone()?;
        let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
        Some((self.api_url.as_ref().map_or_else(|| format!("https://api.{}", self.site), trimmed), key))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, url) in [("datadog.agent_url", &self.agent_url), ("datadog.api_url", &self.api_url)] {
            if url.as_ref().is_some_and(|u| !u.starts_with("http://") && !u.starts_with("https://")) {
                return Err(ConfigError::invalid(key, "must begin with http:// or https://"));
            }
        }
        if let Some(url) = &self.dogstatsd_url
            && !url.starts_with("udp://")
            && !url.starts_with("unix://")
        {
            return Err(ConfigError::invalid("datadog.dogstatsd_url", "must begin with udp:// or unix://"));
        }
        Ok(())
    }
}
