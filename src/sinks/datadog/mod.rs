//! Datadog: evaluation metrics over HTTP, and DogStatsD lines.
//!
//! Its rule: what the wire demands is written once, here, with its source in `docs/datadog.md`; text of prompts and answers
//! goes nowhere but into `reasoning`, and that only when configured. The way not taken: the vendor's client, which has no
//! evaluation endpoint and takes gigabytes to compile.

mod eval_metric;
mod eval_metrics;
mod gauges;
pub(super) mod names;
mod statsd;

pub use eval_metrics::EvalMetrics;
pub use gauges::{Gauge, Gauges};
pub use statsd::Statsd;
