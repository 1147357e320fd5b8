//! What goes wrong on purpose: latency, limits, errors, silence, nonsense.
//!
//! Its rule: which request is hit follows from its number, so that a run can be repeated.

use crate::domain::ids::short_hash;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Settings of the simulated judge, changeable while it runs (`POST /config`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Time to an answer, in milliseconds.
    pub latency_ms: u64,
    /// Up to this much more, in milliseconds.
    pub jitter_ms: u64,
    /// Time from a batch's creation to its answers, in milliseconds.
    pub batch_ms: u64,
    /// Requests a minute; none = unlimited.
    pub rpm: Option<u32>,
    /// Prompt tokens a minute; none = unlimited.
    pub tpm: Option<u32>,
    /// Share of requests answered with 500.
    pub error_rate: f64,
    /// Share of requests never answered.
    pub hang_rate: f64,
    /// Share of requests answered with something that is no verdict.
    pub garbage_rate: f64,
    /// What it refuses with 400, as endpoints do that know less: `json_schema`, `json_object`, `tools`, `temperature`,
    /// `max_tokens`, `max_completion_tokens`, `logprobs`, `seed`, `top_p`.
    pub refuse: Vec<String>,
    /// Whether replies keep quiet about the limits, as servers do that have no `x-ratelimit-*` headers.
    pub hide_limits: bool,
    /// Answer every request with this status, as an endpoint does whose key, model or quota is gone.
    pub unusable: Option<u16>,
    /// Whether the judge obeys instructions in the text it judges, to test that this is noticed.
    pub obedient: bool,
    /// How much lower its scores are than by its rules: a judge that became stricter, or, below 0, milder.
    pub stricter_by: f64,
    /// Share of verdicts turned round by chance, as of a judge that does not always say the same.
    pub flip_rate: f64,
    /// The model that it says it is; none = the one that was asked for.
    pub answers_as: Option<String>,
}

impl Default for Faults {
    /// Nothing goes wrong; only a batch takes a moment, since one that is ready at once would never show a client waiting.
    fn default() -> Self {
        Self {
            latency_ms: 0,
            jitter_ms: 0,
            batch_ms: 200,
            rpm: None,
            tpm: None,
            error_rate: 0.0,
            hang_rate: 0.0,
            garbage_rate: 0.0,
            refuse: Vec::new(),
            hide_limits: false,
            unusable: None,
            obedient: false,
            stricter_by: 0.0,
            flip_rate: 0.0,
            answers_as: None,
        }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Error,
    Hang,
    Garbage,
}

impl Faults {
    /// The first thing in the request that is refused.
    pub(super) fn refused_in(&self, request: &serde_json::Value) -> Option<&str> {
        let kind = request.pointer("/response_format/type").and_then(serde_json::Value::as_str);
        self.refuse.iter().map(String::as_str).find(|name| match *name {
            "json_schema" | "json_object" => kind == Some(*name),
            other => request.get(other).is_some(),
        })
    }

    pub(super) fn draw(&self, number: u64) -> Fault {
        let x = uniform(number, b"fault");
        if x < self.error_rate {
            Fault::Error
        } else if x < self.error_rate + self.hang_rate {
            Fault::Hang
        } else if x < self.error_rate + self.hang_rate + self.garbage_rate {
            Fault::Garbage
        } else {
            Fault::None
        }
    }

    /// A score of the rules as this judge gives it now.
    pub(super) fn bend(&self, score: f64, number: u64) -> f64 {
        let score = if uniform(number, b"flip") < self.flip_rate { 1.0 - score } else { score };
        (score - self.stricter_by).clamp(0.0, 1.0)
    }

    pub(super) fn latency(&self, number: u64) -> Duration {
        Duration::from_millis(self.latency_ms)
            + Duration::from_millis(self.jitter_ms).mul_f64(uniform(number, b"latency"))
    }
}

fn uniform(number: u64, what: &[u8]) -> f64 {
    let hash = short_hash(&[what, &number.to_be_bytes()], 8);
    f64::from(u32::from_str_radix(&hash, 16).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

/// Two token buckets: requests and tokens, each holding one second's worth.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<Option<Buckets>>);

#[derive(Debug)]
struct Buckets {
    at: Instant,
    requests: f64,
    tokens: f64,
}

impl Limiter {
    /// Takes one request and its tokens, or says how long to wait.
    pub(super) fn admit(&self, faults: &Faults, tokens: u64) -> Result<(), Duration> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let per_second = |limit: Option<u32>| limit.map(|l| f64::from(l) / 60.0);
        let (requests, token_rate) = (per_second(faults.rpm), per_second(faults.tpm));
        let full = |rate: Option<f64>| rate.map_or(f64::INFINITY, |r| r.max(1.0));
        let state = guard.get_or_insert(Buckets { at: now, requests: full(requests), tokens: full(token_rate) });
        let passed = (now - state.at).as_secs_f64();
        state.at = now;
        let refill = |level: f64, rate: Option<f64>| {
            rate.map_or(f64::INFINITY, |r| (level.min(full(rate)) + passed * r).min(full(rate)))
        };
        state.requests = refill(state.requests, requests);
        state.tokens = refill(state.tokens, token_rate);
        if state.requests < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - state.requests) / requests.unwrap_or(1.0)));
        }
        // A bucket that is not empty lets one request through and goes into debt, so that a large prompt is not locked out.
        if state.tokens <= 0.0 {
            return Err(Duration::from_secs_f64((1.0 - state.tokens) / token_rate.unwrap_or(1.0)));
        }
        state.requests -= 1.0;
        state.tokens -= tokens as f64;
        Ok(())
    }

    /// Takes the tokens of an answer, which are known only afterwards.
    pub(super) fn debit(&self, tokens: u64) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = guard.as_mut() {
            state.tokens -= tokens as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_faults_is_what_was_asked_for() {
        let faults = Faults { error_rate: 0.2, hang_rate: 0.1, ..Faults::default() };
        let hit = |wanted| (0..10_000).filter(|n| faults.draw(*n) == wanted).count();
        assert!((1_800..2_200).contains(&hit(Fault::Error)) && (850..1_150).contains(&hit(Fault::Hang)));
    }

    #[test]
    fn scores_are_bent_as_was_asked_for() {
        let flips = Faults { flip_rate: 0.2, ..Faults::default() };
        let turned = (0..10_000).filter(|n| flips.bend(0.8, *n) < 0.5).count();
        assert!((1_800..2_200).contains(&turned), "{turned}");
        let strict = Faults { stricter_by: 0.3, ..Faults::default() };
        assert!((strict.bend(0.8, 1) - 0.5).abs() < 1e-12 && strict.bend(0.1, 1).abs() < 1e-12);
        assert!((Faults::default().bend(0.8, 1) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn the_limit_holds_and_says_how_long_to_wait() {
        let limiter = Limiter::default();
        let faults = Faults { rpm: Some(60), ..Faults::default() };
        assert_eq!(limiter.admit(&faults, 10), Ok(()));
        let wait = limiter.admit(&faults, 10).expect_err("one a second");
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(500), "{wait:?}");
        assert_eq!(Limiter::default().admit(&Faults::default(), 1_000_000), Ok(()));
    }
}
