//! The sink that posts evaluation metrics, agentless or through an agent's `evp_proxy`.
//!
//! Its rules, each from the wire's facts: uncompressed JSON (older agents drop the encoding header), at most 1,000 metrics and
//! 1 MiB a request, 400 is bisected until the bad one stands alone, 413 is halved, 401 and 403 are tried
//! again after a minute (a key and a site that do not fit), 408, 429 and 5xx are tried again. There is no idempotency key, so after a 2xx nothing
//! is sent again.

use super::eval_metric::{Made, make, with_reasoning};
use crate::config::{Datadog, DatadogMode};
use crate::domain::chat::BoxFuture;
use crate::domain::event::{Delivery, OutboxEvent, Sink};
use crate::sinks::SinkError;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/api/intake/llm-obs/v2/eval-metric";
const BATCH_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long to leave Datadog alone when it refuses the key.
const REFUSED_KEY_WAIT: Duration = Duration::from_secs(60);

/// Posts evaluation metrics.
#[derive(Debug)]
pub struct EvalMetrics {
    http: reqwest::Client,
    url: String,
    mode: DatadogMode,
    config: Datadog,
}

/// An answer to one request.
enum Answer {
    Accepted,
    /// The request as a whole is bad or too large: look at its parts.
    Split(String),
    Later {
        reason: String,
        after: Option<Duration>,
    },
}

impl EvalMetrics {
    /// Sets it up.
    ///
    /// # Errors
    /// When there are no TLS roots.
    pub fn new(config: &Datadog, mode: DatadogMode) -> Result<Self, SinkError> {
        let http = crate::runtime::http::client(Duration::from_millis(config.timeout_ms)).map_err(SinkError::Http)?;
        let url = match &mode {
            DatadogMode::Agentless { url, .. } => format!("{url}{PATH}"),
            DatadogMode::Agent { url } => format!("{url}/evp_proxy/v2{PATH}"),
        };
        Ok(Self { http, url, mode, config: config.clone() })
    }

    async fn post(&self, metrics: &[&Value]) -> Answer {
        let body = json!({"data": {"type": "evaluation_metric", "attributes": {"metrics": metrics}}});
        let mut request = self.http.post(&self.url).json(&body);
        request = match &self.mode {
            DatadogMode::Agentless { key, .. } => request.header("DD-API-KEY", key.expose_secret()),
            DatadogMode::Agent { .. } => request.header("X-Datadog-EVP-Subdomain", "api"),
        };
        match request.send().await {
            Ok(response) => answer(&response),
            Err(e) if e.is_timeout() => Answer::Later { reason: "timeout".to_owned(), after: None },
            Err(e) if e.is_connect() => Answer::Later { reason: "cannot connect".to_owned(), after: None },
            Err(_) => Answer::Later { reason: "the connection broke".to_owned(), after: None },
        }
    }

    /// Sends a part of the batch, splitting it where that is the remedy; `at` are the parts' places in `out`.
    fn send<'a>(&'a self, at: &'a [usize], metrics: &'a [Value], out: &'a mut [Delivery]) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let picked: Vec<&Value> = at.iter().map(|i| &metrics[*i]).collect();
            match self.post(&picked).await {
                Answer::Accepted => at.iter().for_each(|i| out[*i] = Delivery::Delivered),
                Answer::Split(reason) if at.len() == 1 => out[at[0]] = Delivery::Dead { reason },
                Answer::Split(_) => {
                    let (left, right) = at.split_at(at.len() / 2);
                    self.send(left, metrics, out).await;
                    self.send(right, metrics, out).await;
                }
                Answer::Later { reason, after } => {
                    for i in at {
                        out[*i] = Delivery::Retry { reason: reason.clone(), after };
                    }
                }
            }
        })
    }
}

fn answer(response: &reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let seconds = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let asked = seconds("retry-after").or_else(|| seconds("x-ratelimit-reset"));
    let after = asked.and_then(|s| Duration::try_from_secs_f64(s).ok());
    match status {
        200..=299 => Answer::Accepted,
        401 | 403 => Answer::Later {
            reason: format!("Datadog refuses the key ({status}); check DD_API_KEY and DD_SITE"),
            after: Some(REFUSED_KEY_WAIT),
        },
        // Only these are about the body.
        400 | 413 | 422 => Answer::Split(format!("status {status}")),
        408 | 429 | 500..=599 => Answer::Later { reason: format!("status {status}"), after },
        _ => Answer::Later {
            reason: format!("status {status}: is this Datadog's intake, or an agent with evp_proxy?"),
            after: Some(after.unwrap_or(REFUSED_KEY_WAIT)),
        },
    }
}

impl Sink for EvalMetrics {
    fn name(&self) -> &'static str {
        "datadog"
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn deliver<'a>(&'a self, events: &'a [OutboxEvent]) -> BoxFuture<'a, Vec<Delivery>> {
        Box::pin(async move {
            let mut out = vec![Delivery::Delivered; events.len()];
            let mut metrics = vec![Value::Null; events.len()];
            let (mut parts, mut bytes): (Vec<Vec<usize>>, usize) = (vec![Vec::new()], 0);
            for (i, event) in events.iter().enumerate() {
                let Made::Metric(mut metric) = make(&event.verdict, &self.config) else { continue };
                with_reasoning(&mut metric, &event.verdict, &self.config);
                let size = metric.to_string().len();
                if bytes + size > BODY_BYTES_MAX && bytes > 0 {
                    parts.push(Vec::new());
                    bytes = 0;
                }
                bytes += size;
                metrics[i] = *metric;
                parts.last_mut().expect("there is always a part").push(i);
            }
            for part in parts.iter().filter(|part| !part.is_empty()) {
                self.send(part, &metrics, &mut out).await;
            }
            out
        })
    }
}
