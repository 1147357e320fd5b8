//! The Prometheus metrics, all in one struct, so that `docs/metrics.md` can be compared with what is registered.
//!
//! Built with `App`, shown at `/metrics`. Its rule: labels come from configuration or from our own words, never from a
//! trace. The way not taken: global statics, which two Apps in one test process would share.

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Every metric of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Spans accepted, by door.
    pub spans_accepted: IntCounterVec,
    /// Spans refused as bad, by door.
    pub spans_rejected: IntCounterVec,
    /// Connections that are open, by door.
    pub connections: IntGaugeVec,
    /// Changes of the certificate's files, by what became of them.
    pub tls_reloads: IntCounterVec,
    /// When the certificate in force expires, in seconds since 1970; zero without TLS.
    pub tls_expires: IntGauge,
    /// Requests refused, by reason.
    pub requests_refused: IntCounterVec,
    /// Labels that came in.
    pub labels: IntCounterVec,
    /// Log records and metric points that were accepted and dropped, by signal.
    pub signals_dropped: IntCounterVec,
    /// Pieces of personal data and secrets taken out of spans, by category.
    pub redactions: IntCounterVec,
    /// Traces decided on, by `kept`.
    pub traces_decided: IntCounterVec,
    /// Lowest and highest rate that a limit of sampling gives its values, by kind, name and end.
    pub sampling_rate: GaugeVec,
    /// Spans that came after their trace was decided on.
    pub spans_late: IntCounterVec,
    /// Traces that late spans were put into, by what came of it.
    pub traces_reopened: IntCounterVec,
    /// Verdicts stored, by rubric and outcome.
    pub verdicts: IntCounterVec,
    /// Verdicts of replays, by rubric and outcome.
    pub replayed: IntCounterVec,
    /// Attempts that ended without a verdict, by reason.
    pub attempts_failed: IntCounterVec,
    /// Requests to judges, by judge and result.
    pub judge_requests: IntCounterVec,
    /// Latency of judge requests in seconds, by judge.
    pub judge_seconds: HistogramVec,
    /// Money spent on judges in US dollars, by judge.
    pub judge_cost_usd: prometheus::CounterVec,
    /// Votes whose judge did not repeat the canary, by judge.
    pub canary_failures: IntCounterVec,
    /// Whether a judge is paused or its endpoint left alone, by judge and state.
    pub judge_resting: GaugeVec,
    /// Requests and tokens a minute that a judge's endpoint allows, all workers together, by judge and kind.
    pub judge_limit: GaugeVec,
    /// Part of a budget that is spent, by budget and period; of the fullest subject.
    pub budget_part: GaugeVec,
    /// Events delivered, retried and given up, by sink and result.
    pub events: IntCounterVec,
    /// Of brokers.
    pub sources: SourceMetrics,
    /// Of alerts.
    pub alerts: AlertMetrics,
    /// Of partitions and what retention removes.
    pub retention: RetentionMetrics,
    /// Of drift canaries.
    pub drift: DriftMetrics,
    /// Corrected pass rates with the ends of their intervals, by rubric and bound.
    pub pass_rate: GaugeVec,
    /// Corrected mean scores with the ends of their intervals, by rubric and bound.
    pub mean_score: GaugeVec,
    /// Spans committed at once.
    pub ingest_batch_spans: Histogram,
    /// Work waiting, by kind.
    pub waiting: GaugeVec,
    /// Jobs being evaluated.
    pub in_hand: IntGauge,
    /// Streams that this process watches; zero in those that do not.
    pub watch_streams: IntGauge,
    /// State of each rubric: 1 for the state it is in.
    pub rubric_state: GaugeVec,
    /// Whether a version of a rubric judges: its file's, or an older one while the file cannot be taken.
    pub rubric_judging: GaugeVec,
    /// Changes of rubrics at run time, by rubric and what became of them.
    pub rubric_changes: IntCounterVec,
    /// Database operations that failed, by operation.
    pub store_errors: IntCounterVec,
}

/// The metrics of brokers that traces are taken from, all by source.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    /// Messages, by what became of them.
    pub messages: IntCounterVec,
    /// Messages that wait in the broker.
    pub lag: GaugeVec,
    /// Whether the broker answers.
    pub connected: GaugeVec,
    /// Whether nothing is taken since the backlog is full.
    pub held: GaugeVec,
}

impl SourceMetrics {
    fn registered(r: &Registry) -> Self {
        let messages = "assize_source_messages_total";
        Self {
            messages: counters(r, messages, "Messages of brokers, by what became of them", &["source", "result"]),
            lag: gauges(r, "assize_source_lag_messages", "Messages that wait in the broker", &["source"]),
            connected: gauges(r, "assize_source_connected", "1 while the broker answers", &["source"]),
            held: gauges(r, "assize_source_held", "1 while nothing is taken, the backlog being full", &["source"]),
        }
    }
}

/// The metrics of alerts.
#[derive(Debug, Clone)]
pub struct AlertMetrics {
    /// Alerts that are not resolved, by state and severity.
    pub unresolved: GaugeVec,
    /// Findings that were raised, by what came of them.
    pub findings: IntCounterVec,
    /// Notices delivered, retried and given up, by channel and result.
    pub deliveries: IntCounterVec,
    /// Notices that wait, fail or are dead, by channel and state.
    pub notices: GaugeVec,
}

impl AlertMetrics {
    fn registered(r: &Registry) -> Self {
        let (findings, deliveries) = ("assize_alert_findings_total", "assize_alert_deliveries_total");
        Self {
            unresolved: gauges(r, "assize_alerts", "Alerts that are not resolved", &["state", "severity"]),
            findings: counters(r, findings, "Findings of detectors, by what came of them", &["result"]),
            deliveries: counters(r, deliveries, "Notices of alerts, by what became of them", &["channel", "result"]),
            notices: gauges(
                r,
                "assize_alert_notices",
                "Notices of alerts that have not arrived",
                &["channel", "state"],
            ),
        }
    }
}

/// The metrics of partitions and of what retention removes, all by table but `days_ahead`.
#[derive(Debug, Clone)]
pub struct RetentionMetrics {
    /// Partitions that this process dropped.
    pub dropped: IntCounterVec,
    /// Bytes that they had.
    pub dropped_bytes: IntCounterVec,
    /// Rows that this process removed one by one.
    pub rows: IntCounterVec,
    /// Partitions that are over and still there.
    pub overdue: GaugeVec,
    /// Rows in the default partition.
    pub strays: GaugeVec,
    /// Days after today for which every table has its partition.
    pub days_ahead: IntGauge,
}

impl RetentionMetrics {
    fn registered(r: &Registry) -> Self {
        let by = |name: &str, help: &str| counters(r, name, help, &["table"]);
        let now = |name: &str, help: &str| gauges(r, name, help, &["table"]);
        Self {
            dropped: by("assize_partitions_dropped_total", "Partitions dropped"),
            dropped_bytes: by("assize_partitions_dropped_bytes_total", "Bytes of partitions dropped"),
            rows: by("assize_retention_rows_total", "Rows removed one by one"),
            overdue: now("assize_partitions_overdue", "Partitions past their retention"),
            strays: now("assize_partition_strays", "Rows in the default partition"),
            days_ahead: gauge(r, "assize_partition_days_ahead", "Days after today that have their partitions"),
        }
    }
}

/// The metrics of drift canaries.
#[derive(Debug, Clone)]
pub struct DriftMetrics {
    /// Runs that were begun, by rubric and reason.
    pub runs: IntCounterVec,
    /// Share of canaries on which a judge says something else now, by rubric, judge and side.
    pub changed: GaugeVec,
    /// Whether a judge is shown to have moved, by rubric and judge.
    pub moved: GaugeVec,
    /// What canaries have cost or may still cost, of 30 days.
    pub usd: prometheus::Gauge,
}

impl DriftMetrics {
    fn registered(r: &Registry) -> Self {
        let (runs, changed) = ("assize_drift_runs_total", "assize_drift_changed_share");
        let usd = prometheus::Gauge::new("assize_drift_usd", "Cost of drift canaries in 30 days, open runs included");
        let usd = usd.expect("names are valid");
        r.register(Box::new(usd.clone())).expect("names are unique");
        Self {
            runs: counters(r, runs, "Runs of drift canaries, by what asked for them", &["rubric", "why"]),
            changed: gauges(r, changed, "Share of canaries judged otherwise now", &["rubric", "judge", "side"]),
            moved: gauges(r, "assize_drift_moved", "1 while a judge is shown to have moved", &["rubric", "judge"]),
            usd,
        }
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let made = IntCounterVec::new(Opts::new(name, help), labels).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn money(registry: &Registry, name: &str, help: &str) -> prometheus::CounterVec {
    let made = prometheus::CounterVec::new(Opts::new(name, help), &["judge"]).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let made = GaugeVec::new(Opts::new(name, help), labels).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let made = IntGauge::new(name, help).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn judge_seconds(registry: &Registry) -> HistogramVec {
    let opts = HistogramOpts::new("assize_judge_seconds", "Latency of judge requests")
        .buckets(vec![0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0]);
    let made = HistogramVec::new(opts, &["judge"]).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn ingest_batch_spans(registry: &Registry) -> Histogram {
    let opts = HistogramOpts::new("assize_ingest_batch_spans", "Spans committed at once")
        .buckets(vec![1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0]);
    let made = Histogram::with_opts(opts).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn connections(registry: &Registry) -> IntGaugeVec {
    let opts = Opts::new("assize_connections", "Connections that are open");
    let made = IntGaugeVec::new(opts, &["door"]).expect("names are valid");
    registry.register(Box::new(made.clone())).expect("names are unique");
    made
}

fn sampling_rate(registry: &Registry) -> GaugeVec {
    let help = "Lowest and highest rate that a limit of sampling gives its values";
    gauges(registry, "assize_sampling_rate", help, &["kind", "limit", "end"])
}

fn rubric_changes(registry: &Registry) -> IntCounterVec {
    let help = "Changes of rubric files at run time";
    counters(registry, "assize_rubric_changes_total", help, &["rubric", "result"])
}

impl Default for Metrics {
    fn default() -> Self {
        let r = Registry::new();
        let judge_cost_usd = money(&r, "assize_judge_cost_usd_total", "Money spent on judges, by configured prices");
        Self {
            spans_accepted: counters(&r, "assize_spans_accepted_total", "Spans accepted", &["door"]),
            spans_rejected: counters(&r, "assize_spans_rejected_total", "Spans refused as bad", &["door"]),
            connections: connections(&r),
            tls_reloads: counters(&r, "assize_tls_reloads_total", "Changes of the certificate's files", &["result"]),
            tls_expires: gauge(&r, "assize_tls_expires_seconds", "When the certificate in force expires"),
            requests_refused: counters(&r, "assize_requests_refused_total", "Requests refused", &["reason"]),
            labels: counters(&r, "assize_labels_total", "Labels that came in", &["door", "result"]),
            signals_dropped: counters(&r, "assize_signals_dropped_total", "Records accepted and dropped", &["signal"]),
            redactions: counters(&r, "assize_redactions_total", "Personal data taken out of spans", &["category"]),
            traces_decided: counters(&r, "assize_traces_decided_total", "Traces decided on", &["kept"]),
            spans_late: counters(&r, "assize_spans_late_total", "Spans after their trace was decided on", &["result"]),
            traces_reopened: counters(&r, "assize_traces_reopened_total", "Traces put together again", &["result"]),
            sampling_rate: sampling_rate(&r),
            replayed: counters(&r, "assize_replayed_verdicts_total", "Verdicts of replays", &["rubric", "outcome"]),
            verdicts: counters(&r, "assize_verdicts_total", "Verdicts stored", &["rubric", "outcome"]),
            attempts_failed: counters(&r, "assize_attempts_failed_total", "Attempts without a verdict", &["reason"]),
            judge_requests: counters(&r, "assize_judge_requests_total", "Requests to judges", &["judge", "result"]),
            judge_seconds: judge_seconds(&r),
            judge_cost_usd,
            canary_failures: counters(
                &r,
                "assize_canary_failures_total",
                "Votes whose judge did not repeat the canary",
                &["judge"],
            ),
            judge_resting: gauges(
                &r,
                "assize_judge_resting",
                "1 while a judge is paused or its endpoint left alone",
                &["judge", "state"],
            ),
            judge_limit: gauges(
                &r,
                "assize_judge_limit_per_minute",
                "What a judge's endpoint allows, all workers together",
                &["judge", "what"],
            ),
            budget_part: gauges(
                &r,
                "assize_budget_part",
                "Part of a budget that is spent, of its fullest subject",
                &["budget", "period"],
            ),
            events: counters(&r, "assize_events_total", "Outbox events, by what became of them", &["sink", "result"]),
            sources: SourceMetrics::registered(&r),
            alerts: AlertMetrics::registered(&r),
            retention: RetentionMetrics::registered(&r),
            drift: DriftMetrics::registered(&r),
            pass_rate: gauges(&r, "assize_pass_rate", "Pass rate, corrected for sampling", &["rubric", "bound"]),
            mean_score: gauges(&r, "assize_mean_score", "Mean score, corrected for sampling", &["rubric", "bound"]),
            ingest_batch_spans: ingest_batch_spans(&r),
            waiting: gauges(&r, "assize_waiting", "Work waiting", &["kind"]),
            in_hand: gauge(&r, "assize_jobs_in_hand", "Jobs being evaluated"),
            watch_streams: gauge(&r, "assize_watch_streams", "Streams watched by this process"),
            rubric_state: gauges(&r, "assize_rubric_state", "1 for the state a rubric is in", &["rubric", "state"]),
            rubric_judging: gauges(&r, "assize_rubric_judging", "1 while a version of the rubric judges", &["rubric"]),
            rubric_changes: rubric_changes(&r),
            store_errors: counters(&r, "assize_store_errors_total", "Database operations that failed", &["operation"]),
            registry: r,
        }
    }
}

impl Metrics {
    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Encoding into memory cannot fail for metrics that were registered.
        TextEncoder::new().encode(&self.registry.gather(), &mut out).expect("registered metrics encode");
        String::from_utf8_lossy(&out).into_owned()
    }
}
