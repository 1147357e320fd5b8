//! Telling people of alerts: one file a channel.
//!
//! Built by `app` from `[alerts.channels]`, driven by `pipeline::notify`. Its rule: a channel tells once and reports; it never retries.
//! What a status means is said once, here. Errors name neither addresses nor keys, since a Slack address is a secret. The
//! way not taken: a vendor's client a channel; each is one POST.

mod alertmanager;
mod datadog;
mod pagerduty;
mod slack;
mod stdout;
mod webhook;

use crate::config::{Channel as ChannelConfig, ChannelKind, Config};
use crate::domain::alert::notice::Channel;
use crate::domain::event::Delivery;
use crate::runtime::http;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long to leave a receiver alone that refuses us.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// Why a channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No HTTP client.
    #[error("cannot make an HTTP client for alerts")]
    Http(#[source] reqwest::Error),
    /// A variable is not set.
    #[error("alerts.channels.{channel}: environment variable {variable} is not set; set it or remove the channel")]
    Unset {
        /// The channel.
        channel: String,
        /// The variable.
        variable: String,
    },
    /// A variable holds no address. It is not shown: it may be a secret.
    #[error("alerts.channels.{channel}: the address in {variable} does not begin with http:// or https://")]
    Address {
        /// The channel.
        channel: String,
        /// The variable.
        variable: String,
    },
    /// Datadog has nowhere to send to.
    #[error("alerts.channels.{channel}: kind datadog needs DD_API_KEY, or DD_DOGSTATSD_URL or DD_AGENT_HOST")]
    NoDatadog {
        /// The channel.
        channel: String,
    },
    /// The statsd socket.
    #[error("alerts.channels.{channel}: cannot use datadog.dogstatsd_url")]
    Statsd {
        /// The channel.
        channel: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The secret is not what it says it is.
    #[error("alerts.channels.{channel}: the secret in {variable} begins with whsec_ but what follows is not base64")]
    Secret {
        /// The channel.
        channel: String,
        /// The variable.
        variable: String,
    },
}

/// Every channel that is configured, by name.
///
/// # Errors
/// When one cannot be set up.
pub fn build(config: &Config) -> Result<BTreeMap<String, Arc<dyn Channel>>, ChannelError> {
    let client = http::client(Duration::from_millis(config.alerts.timeout_ms)).map_err(ChannelError::Http)?;
    let made = config.alerts.channels.iter().map(|(name, channel)| {
        let parts = Parts { name, channel, http: client.clone() };
        Ok((name.clone(), one(&parts, config)?))
    });
    made.collect()
}

fn one(parts: &Parts<'_>, config: &Config) -> Result<Arc<dyn Channel>, ChannelError> {
    Ok(match parts.channel.kind {
        ChannelKind::Slack => Arc::new(slack::Slack::new(parts)?),
        ChannelKind::Webhook => Arc::new(webhook::Webhook::new(parts)?),
        ChannelKind::PagerDuty => Arc::new(pagerduty::PagerDuty::new(parts)?),
        ChannelKind::Alertmanager => Arc::new(alertmanager::Alertmanager::new(parts)?),
        ChannelKind::Datadog => datadog::build(parts, &config.datadog)?,
        ChannelKind::Stdout => Arc::new(stdout::Stdout),
    })
}

/// What a channel is made of.
struct Parts<'a> {
    name: &'a str,
    channel: &'a ChannelConfig,
    http: reqwest::Client,
}

impl Parts<'_> {
    /// The value of a variable; none where none is named.
    fn secret(
        &self,
        variable: Option<&String>,
        value: Option<&SecretString>,
    ) -> Result<Option<SecretString>, ChannelError> {
        match (variable, value) {
            (None, _) => Ok(None),
            (Some(_), Some(value)) => Ok(Some(value.clone())),
            (Some(variable), None) => {
                Err(ChannelError::Unset { channel: self.name.to_owned(), variable: variable.clone() })
            }
        }
    }

    /// The channel's address, or a default.
    fn address(&self, default: &str) -> Result<SecretString, ChannelError> {
        let named = self.secret(self.channel.url_env.as_ref(), self.channel.secrets.url.as_ref())?;
        let Some(url) = named else {
            return Ok(self.channel.url.as_deref().unwrap_or(default).trim_end_matches('/').into());
        };
        let text = url.expose_secret().trim_end_matches('/');
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(text.into());
        }
        let variable = self.channel.url_env.clone().unwrap_or_default();
        Err(ChannelError::Address { channel: self.name.to_owned(), variable })
    }

    /// The value of the header `Authorization`.
    fn authorization(&self) -> Result<Option<SecretString>, ChannelError> {
        self.secret(self.channel.authorization_env.as_ref(), self.channel.secrets.authorization.as_ref())
    }
}

/// Sends a request and says what its status means; `who` is named where we are refused.
async fn send(request: reqwest::RequestBuilder, who: &str) -> Delivery {
    let later = |reason: &str| Delivery::Retry { reason: reason.to_owned(), after: None };
    match request.send().await {
        Ok(response) => meaning(&response, who),
        // The error's own text has the address in it.
        Err(e) if e.is_builder() => {
            Delivery::Dead { reason: format!("the address or a header for {who} is malformed") }
        }
        Err(e) if e.is_timeout() => later("timeout"),
        Err(e) if e.is_connect() => later("cannot connect"),
        Err(_) => later("the connection broke"),
    }
}

fn meaning(response: &reqwest::Response, who: &str) -> Delivery {
    let status = response.status().as_u16();
    let seconds = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let asked = seconds("retry-after").or_else(|| seconds("x-ratelimit-reset"));
    let after = asked.and_then(|s| Duration::try_from_secs_f64(s).ok());
    let refused = |why: &str| Delivery::Retry {
        reason: format!("status {status}: {why}"),
        after: Some(after.unwrap_or(REFUSED_WAIT)),
    };
    match status {
        200..=299 => Delivery::Delivered,
        // Only these are about the body.
        400 | 413 | 422 => Delivery::Dead { reason: format!("status {status}: {who} does not take the message") },
        408 | 425 | 429 | 500..=599 => Delivery::Retry { reason: format!("status {status}"), after },
        300..=399 => refused("redirects are not followed; give the address that it leads to"),
        401 | 403 => refused(&format!("{who} refuses the key or address")),
        404 | 410 => refused(&format!("{who} does not know the address")),
        _ => refused("is the address right?"),
    }
}
