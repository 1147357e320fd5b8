//! Gauges: numbers that stand for a while, such as corrected rates; over DogStatsD, else over HTTP with the API key.
//!
//! Driven by `pipeline::gauges`. Its rules: tags from a fixed list, with `none` where there is no value, so that every series has
//! every tag that monitors group by; never NaN or infinity; a lost gauge is replaced by the next. The way not taken: the outbox; an
//! old gauge is of no use to anybody.

use super::names::tag;
use super::statsd;
use crate::config::Datadog;
use crate::sinks::SinkError;
use cadence::{Gauged, StatsdClient};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::time::Duration;

/// Series in one request; each is a few hundred bytes of the 512,000 that are taken.
const REQUEST_SERIES_MAX: usize = 1_000;

/// A value with its name and tags.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// The metric.
    pub name: &'static str,
    /// The value.
    pub value: f64,
    /// Its tags.
    pub tags: Vec<(&'static str, String)>,
}

impl Gauge {
    fn tags(&self) -> Vec<String> {
        self.tags.iter().map(|(key, value)| tag(key, value)).collect()
    }
}

/// Sends gauges.
#[derive(Debug)]
pub enum Gauges {
    /// As DogStatsD lines.
    Statsd(StatsdClient),
    /// To the API.
    Api {
        /// The client.
        http: reqwest::Client,
        /// Where to.
        url: String,
        /// The key.
        key: SecretString,
    },
}

impl Gauges {
    /// The way that the configuration gives; `None` = there is none.
    ///
    /// # Errors
    /// When the socket or the client cannot be made.
    pub fn build(config: &Datadog) -> Result<Option<Self>, SinkError> {
        if let Some(url) = &config.dogstatsd_url {
            return Ok(Some(Self::Statsd(statsd::client(url)?)));
        }
        let Some((base, key)) = config.api() else { return Ok(None) };
        let http = crate::runtime::http::client(Duration::from_millis(config.timeout_ms)).map_err(SinkError::Http)?;
        Ok(Some(Self::Api { http, url: format!("{base}/api/v2/series"), key }))
    }

    /// Sends them.
    ///
    /// # Errors
    /// Why they did not arrive, as far as that can be known.
    pub async fn send(&self, gauges: &[Gauge], at: DateTime<Utc>) -> Result<(), String> {
        let gauges: Vec<&Gauge> = gauges.iter().filter(|gauge| gauge.value.is_finite()).collect();
        match self {
            Self::Statsd(client) => {
                for gauge in gauges {
                    let line = client.gauge_with_tags(gauge.name, gauge.value);
                    let tags = gauge.tags();
                    let line = tags.iter().fold(line, |line, tag| match tag.split_once(':') {
                        Some((key, value)) => line.with_tag(key, value),
                        None => line,
                    });
                    line.try_send().map_err(|_| "the statsd socket does not take it".to_owned())?;
                }
                // What is still buffered goes now; an error means that nobody listens, which UDP does not promise to tell.
                drop(client.flush());
                Ok(())
            }
            Self::Api { http, url, key } => {
                for part in gauges.chunks(REQUEST_SERIES_MAX) {
                    let body = series(part, at);
                    let request = http.post(url).header("DD-API-KEY", key.expose_secret()).json(&body);
                    let response = request.send().await.map_err(|_| "no answer from Datadog".to_owned())?;
                    match response.status().as_u16() {
                        200..=299 => {}
                        401 | 403 => return Err("Datadog refuses the key; check DD_API_KEY and DD_SITE".to_owned()),
                        status => return Err(format!("Datadog answers {status}")),
                    }
                }
                Ok(())
            }
        }
    }
}

fn series(gauges: &[&Gauge], at: DateTime<Utc>) -> Value {
    const GAUGE: u8 = 3;
    let all = gauges.iter().map(|gauge| {
        json!({
            "metric": gauge.name, "type": GAUGE, "tags": gauge.tags(),
            "points": [{"timestamp": at.timestamp(), "value": gauge.value}],
        })
    });
    json!({"series": all.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_a_series_with_clean_tags() {
        let tags = vec![("eval", "tone".to_owned()), ("feature", "a|b,c".to_owned()), ("env", String::new())];
        let gauge = Gauge { name: "llm.eval.pass_rate", value: 0.93, tags };
        let at = DateTime::from_timestamp(1_795_213_000, 0).expect("a valid time");
        let series = series(&[&gauge], at);
        assert_eq!(
            series["series"][0],
            json!({
                "metric": "llm.eval.pass_rate", "type": 3, "tags": ["eval:tone", "feature:a_b_c", "env:none"],
                "points": [{"timestamp": 1_795_213_000, "value": 0.93}],
            })
        );
    }
}
