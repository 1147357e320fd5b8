//! Sections `work`, `export` and `retention`: the bounds of the worker loop and the outbox, and how long things are kept.
//!
//! Its rule: a lease outlives the evaluation it covers, so a slow judge never has its job taken by another worker.

use super::{ConfigError, Judge, at_least_one};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Section `work`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// Jobs evaluated at the same time.
    pub concurrency: usize,
    /// How long a claimed job is ours, in milliseconds.
    pub lease_ms: u64,
    /// Kept back from the lease for storing the verdict and for skewed clocks, in milliseconds.
    pub lease_margin_ms: u64,
    /// Silence of a worker after which others take its jobs, in milliseconds.
    pub dead_after_ms: u64,
    /// Attempts until a job whose judges keep failing ends as `judge_error`.
    pub attempts_max: u32,
    /// Attempts for which the whole panel is waited for; after them a quorum is enough.
    pub full_panel_attempts: u32,
    /// Age of a job from which on a quorum is enough as well, in seconds; held-up attempts do not count.
    pub full_panel_seconds: u64,
    /// Requests to one judge within one attempt.
    pub requests_per_attempt_max: u32,
    /// First wait after a failed attempt, in milliseconds; doubles, with jitter.
    pub retry_ms: u64,
    /// Longest wait between attempts, in milliseconds.
    pub retry_ms_max: u64,
    /// A job older than this ends as `expired`, in seconds.
    pub job_seconds_max: u64,
    /// How often an idle worker looks for work, in milliseconds.
    pub poll_ms: u64,
    /// Verdicts stored in one transaction at most.
    pub record_batch_max: usize,
    /// How long a store waits for more verdicts, in milliseconds.
    pub record_wait_ms: u64,
    /// How long a vote may be used again for the same question, in seconds; 0 = never.
    pub cache_seconds: u64,
    /// Votes kept for that at most.
    pub cache_votes_max: u64,
    /// Requests that make a batch full, for rubrics with `batch_hours`.
    pub batch_requests: u32,
    /// How long a batch waits to become full, in seconds.
    pub batch_wait_seconds: u64,
    /// How often batches are handed over and looked at, in milliseconds.
    pub batch_poll_ms: u64,
    /// Prompts longer than this many bytes of trace text end as `too_large`.
    pub input_bytes_max: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            concurrency: 256,
            lease_ms: 420_000,
            lease_margin_ms: 10_000,
            dead_after_ms: 30_000,
            attempts_max: 12,
            full_panel_attempts: 4,
            full_panel_seconds: 900,
            requests_per_attempt_max: 2,
            retry_ms: 2_000,
            retry_ms_max: 600_000,
            job_seconds_max: 24 * 3_600,
            poll_ms: 500,
            record_batch_max: 500,
            record_wait_ms: 5,
            cache_seconds: 7 * 24 * 3_600,
            cache_votes_max: 1_000_000,
            batch_requests: 500,
            batch_wait_seconds: 300,
            batch_poll_ms: 10_000,
            input_bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl Work {
    pub(super) fn check(&self, judges: &BTreeMap<String, Judge>) -> Result<(), ConfigError> {
        at_least_one("work.concurrency", self.concurrency as u64)?;
        at_least_one("work.attempts_max", self.attempts_max.into())?;
        at_least_one("work.requests_per_attempt_max", self.requests_per_attempt_max.into())?;
        at_least_one("work.record_batch_max", self.record_batch_max as u64)?;
        at_least_one("work.poll_ms", self.poll_ms)?;
        at_least_one("work.batch_poll_ms", self.batch_poll_ms)?;
        if self.dead_after_ms < 1_000 {
            return Err(ConfigError::invalid("work.dead_after_ms", "must be at least 1000"));
        }
        if self.lease_ms <= self.lease_margin_ms {
            return Err(ConfigError::invalid("work.lease_ms", "must be greater than work.lease_margin_ms"));
        }
        let most = self.lease_ms - self.lease_margin_ms;
        if let Some((name, judge)) =
            judges.iter().find(|(_, j)| j.timeout_ms().saturating_mul(self.requests_per_attempt_max.into()) > most)
        {
            let problem = format!(
                "{} ms, {} times (work.requests_per_attempt_max), do not fit into a lease of {most} ms \
                 (work.lease_ms less work.lease_margin_ms); raise the lease or lower the time-out",
                judge.timeout_ms(),
                self.requests_per_attempt_max
            );
            return Err(ConfigError::invalid(format!("judges.{name}.timeout_ms"), problem));
        }
        Ok(())
    }
}

/// Section `export`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// How often an idle exporter looks, in milliseconds.
    pub poll_ms: u64,
    /// How long a claimed batch is ours, in milliseconds.
    pub lease_ms: u64,
    /// First wait after a failed delivery, in milliseconds; doubles, with jitter.
    pub retry_ms: u64,
    /// Longest wait between deliveries, in milliseconds.
    pub retry_ms_max: u64,
    /// An event older than this is given up, in seconds; Datadog takes nothing older than a day.
    pub event_seconds_max: u64,
    /// How far back the gauges of pass rates look, in hours.
    pub gauge_hours: u32,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            poll_ms: 500,
            lease_ms: 60_000,
            retry_ms: 1_000,
            retry_ms_max: 60_000,
            event_seconds_max: 20 * 3_600,
            gauge_hours: 24,
        }
    }
}

impl Export {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("export.poll_ms", self.poll_ms)?;
        at_least_one("export.gauge_hours", self.gauge_hours.into())?;
        at_least_one("export.lease_ms", self.lease_ms)
    }
}

/// Section `retention`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Verdicts and their votes, in seconds; they go a week at a time.
    pub verdicts_seconds: u64,
    /// Kept traces with their text, in seconds; they go a day at a time.
    pub traces_seconds: u64,
    /// Rows of traces that sampling left out, in seconds; their tallies stay.
    pub sampled_out_seconds: u64,
    /// Rows of parked messages, in seconds.
    pub parked_seconds: u64,
    /// Rows of parked messages at most; the oldest go first.
    pub parked_messages_max: i64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            verdicts_seconds: 90 * 86_400,
            traces_seconds: 30 * 86_400,
            sampled_out_seconds: 24 * 3_600,
            parked_seconds: 90 * 86_400,
            parked_messages_max: 100_000,
        }
    }
}

/// Each day of bodies and each week of verdicts is a table of its own, and some look into each: three years of them.
const DAYS_MAX: u64 = 3 * 365;

impl Retention {
    /// `judged`: how long after a trace was decided on something may still read it, in seconds. `told`: how far back verdicts are read
    /// to be sent on, in seconds.
    pub(super) fn check(&self, judged: u64, told: u64) -> Result<(), ConfigError> {
        let least = judged.max(86_400);
        if self.traces_seconds < least {
            let problem = format!(
                "must be at least {least}: so long a trace may wait to be judged (work.job_seconds_max, and the longer of \
                 assembly.reopen_ms and sessions.cap_seconds), and a day at least"
            );
            return Err(ConfigError::invalid("retention.traces_seconds", problem));
        }
        let least = least.max(told);
        if self.verdicts_seconds < least {
            let problem = format!(
                "must be at least {least}: so long verdicts are still made of a trace, sent (export.event_seconds_max) or \
                 counted (export.gauge_hours), and a day at least"
            );
            return Err(ConfigError::invalid("retention.verdicts_seconds", problem));
        }
        for (key, seconds) in [("traces_seconds", self.traces_seconds), ("verdicts_seconds", self.verdicts_seconds)] {
            if seconds > DAYS_MAX * 86_400 {
                let problem = format!(
                    "must be at most {} ({DAYS_MAX} days), for each day or week is a table; copy elsewhere what is to be kept for longer",
                    DAYS_MAX * 86_400
                );
                return Err(ConfigError::invalid(format!("retention.{key}"), problem));
            }
        }
        if self.parked_messages_max < 1 {
            return Err(ConfigError::invalid("retention.parked_messages_max", "must be at least 1"));
        }
        Ok(())
    }
}
