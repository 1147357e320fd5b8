//! L2: pushing verdicts out, and telling people of alerts.
//!
//! Built by `app` from the configuration, driven by `pipeline::export`. Its rule: a sink delivers and reports, it never retries or
//! stores. To add a sink, implement `domain::event::Sink` in a file here and add it in [`build`].

pub mod alerts;
pub mod as_code;
pub mod datadog;

use crate::config::Config;
use crate::domain::event::Sink;
use std::sync::Arc;

/// Why a sink cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No HTTP client.
    #[error("cannot make an HTTP client for Datadog")]
    Http(#[source] reqwest::Error),
    /// A channel of alerts.
    #[error(transparent)]
    Channel(#[from] alerts::ChannelError),
    /// The statsd address cannot be used.
    #[error("datadog.dogstatsd_url: cannot use `{url}`; write udp://host:8125 or unix:///path/to/dsd.socket")]
    Statsd {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Every sink that the configuration asks for.
///
/// # Errors
/// When one of them cannot be set up.
pub fn build(config: &Config) -> Result<Vec<Arc<dyn Sink>>, SinkError> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    if let Some(mode) = config.datadog.mode() {
        sinks.push(Arc::new(datadog::EvalMetrics::new(&config.datadog, mode)?));
    }
    if let Some(url) = &config.datadog.dogstatsd_url {
        sinks.push(Arc::new(datadog::Statsd::new(&config.datadog, url)?));
    }
    Ok(sinks)
}
