//! The sink that sends DogStatsD lines, through cadence.
//!
//! Its rules: unpacked lines of types `d`, `c` and `g`, unsampled, in datagrams of at most 1,432 bytes, so that every server agrees on
//! them; tags only from the fixed list; never NaN or infinity, which DogStatsD would accept. UDP loses silently: Postgres is
//! the truth.

use super::names::tag_value;
use crate::config::Datadog;
use crate::domain::chat::BoxFuture;
use crate::domain::event::{Delivery, OutboxEvent, Sink};
use crate::domain::verdict::{Outcome, Verdict, Vote};
use crate::sinks::SinkError;
use cadence::{
    BufferedUdpMetricSink, BufferedUnixMetricSink, Counted, Distributed, MetricBuilder, MetricResult, StatsdClient,
};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

/// Sends statsd lines.
#[derive(Debug)]
pub struct Statsd {
    client: StatsdClient,
    config: Datadog,
}

/// A datagram that fits an Ethernet frame.
const DATAGRAM_BYTES_MAX: usize = 1_432;

/// A client for `udp://host:port` or `unix:///path`.
///
/// # Errors
/// When no socket can be opened or the host has no address.
pub(super) fn client(url: &str) -> Result<StatsdClient, SinkError> {
    let failed = |source| SinkError::Statsd { url: url.to_owned(), source };
    let builder = if let Some(path) = url.strip_prefix("unix://") {
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        StatsdClient::builder("", BufferedUnixMetricSink::with_capacity(path, socket, DATAGRAM_BYTES_MAX))
    } else {
        let address = url.trim_start_matches("udp://").trim_end_matches('/');
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:8125") };
        let socket = UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let sink = BufferedUdpMetricSink::with_capacity(address, socket, DATAGRAM_BYTES_MAX)
            .map_err(|e| failed(std::io::Error::other(e.to_string())))?;
        StatsdClient::builder("", sink)
    };
    Ok(builder.build())
}

impl Statsd {
    /// Sets it up for `udp://host:port` or `unix:///path`.
    ///
    /// # Errors
    /// When no socket can be opened or the host has no address.
    pub fn new(config: &Datadog, url: &str) -> Result<Self, SinkError> {
        Ok(Self { client: client(url)?, config: config.clone() })
    }

    fn tell(&self, verdict: &Verdict) -> MetricResult<()> {
        let tags = Tags::of(verdict, &self.config);
        let passed = verdict.passed.map_or("none", |p| if p { "true" } else { "false" });
        let count = self.client.count_with_tags("llm.eval.count", 1);
        tags.on(count).with_tag("outcome", verdict.outcome.as_str()).with_tag("passed", passed).try_send()?;
        if verdict.outcome == Outcome::Scored
            && let Some(score) = verdict.score.filter(|s| s.is_finite())
        {
            let metric = tags.on(self.client.distribution_with_tags("llm.eval.score", score));
            metric.with_tag("weight_class", &weight_class(verdict.inclusion_probability).to_string()).try_send()?;
        }
        if verdict.cost_usd.is_finite() && !verdict.votes.is_empty() {
            tags.on(self.client.distribution_with_tags("llm.eval.cost_usd", verdict.cost_usd)).try_send()?;
        }
        verdict.votes.iter().try_for_each(|vote| self.tell_vote(vote, &tags))
    }

    fn tell_vote(&self, vote: &Vote, tags: &Tags) -> MetricResult<()> {
        let judge = tag_value("judge", &vote.judge);
        let latency = u64::try_from(vote.latency_ms).unwrap_or(0);
        let metric = self.client.distribution_with_tags("llm.eval.judge.latency_ms", latency);
        tags.on(metric).with_tag("judge", &judge).try_send()?;
        let tokens = i64::try_from(vote.tokens.input + vote.tokens.output).unwrap_or(i64::MAX);
        let metric = self.client.count_with_tags("llm.eval.judge.tokens", tokens);
        tags.on(metric).with_tag("judge", &judge).try_send().map(drop)
    }
}

/// The class of a verdict's weight: k where the inclusion probability is about 2^(-k/4), so that a score of class k stands for
/// about 2^(k/4) traces. At most 64, which is one in 65,536.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 64")]
fn weight_class(inclusion_probability: f64) -> u8 {
    const CLASS_MAX: f64 = 64.0;
    (-4.0 * inclusion_probability.log2()).round().clamp(0.0, CLASS_MAX) as u8
}

/// The tags of a verdict, sanitised: none from free text, none from an id.
struct Tags(Vec<(&'static str, String)>);

impl Tags {
    fn of(verdict: &Verdict, config: &Datadog) -> Self {
        let t = &verdict.trace;
        let service = t.service.as_deref().unwrap_or(&config.service);
        let all = [
            ("env", t.environment.as_deref().or(config.env.as_deref())),
            ("service", Some(service)),
            ("version", t.service_version.as_deref().or(config.version.as_deref())),
            ("ml_app", config.ml_app.as_deref().or(Some(service))),
            ("eval", Some(verdict.rubric.as_str())),
            ("feature", t.feature.as_deref()),
            ("prompt_name", t.prompt_name.as_deref()),
            ("prompt_version", t.prompt_version.as_deref()),
            ("model", t.model.as_deref()),
        ];
        Self(all.into_iter().filter_map(|(key, value)| Some((key, tag_value(key, value?)))).collect())
    }

    fn on<'m, 'c, T>(&'m self, metric: MetricBuilder<'m, 'c, T>) -> MetricBuilder<'m, 'c, T>
    where
        T: cadence::Metric + From<String>,
    {
        self.0.iter().fold(metric, |metric, (key, value)| metric.with_tag(key, value))
    }
}

impl Sink for Statsd {
    fn name(&self) -> &'static str {
        "dogstatsd"
    }

    fn batch_max(&self) -> usize {
        1_000
    }

    fn deliver<'a>(&'a self, events: &'a [OutboxEvent]) -> BoxFuture<'a, Vec<Delivery>> {
        let told = events.iter().map(|event| match self.tell(&event.verdict) {
            Ok(()) => Delivery::Delivered,
            Err(_) => Delivery::Retry { reason: "the statsd socket does not take it".to_owned(), after: None },
        });
        let told: Vec<Delivery> = told.collect();
        // What is still buffered goes now; an error means that nobody listens, which UDP does not promise to tell.
        drop(self.client.flush());
        Box::pin(std::future::ready(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_weights_is_a_fourth_of_a_doubling() {
        let classes = [1.0, 0.9, 0.84, 0.5, 0.1, 0.05, 1e-9, 0.0].map(weight_class);
        assert_eq!(classes, [0, 1, 1, 4, 13, 17, 64, 64]);
        for probability in [0.7, 0.3, 0.02, 0.001] {
            let weight = (f64::from(weight_class(probability)) / 4.0).exp2();
            assert!((weight * probability).log2().abs() <= 0.125 + 1e-12, "{probability} {weight}");
        }
    }
}
