//! When a request to an endpoint and model may be sent: requests and tokens a minute, and how many at once.
//!
//! Held by `judges`, fed by `client` (headers), `pipeline::evaluate` (what happened) and `pipeline::shares` (our part of the
//! limit). Its rule: requests are spaced evenly at the smallest of the configured and the advertised limit, times our share;
//! tokens are estimated before and trued up after; what the endpoint asks for (`Retry-After`) holds for all that wait. Where
//! no limit is known, a 429 halves the number of requests in flight, which then grows back by one a round trip. The way
//! not taken: governor's limiter, whose quota is fixed when it is made and which cannot take tokens back (ADR 11).

mod state;

use state::State;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests that wait for the first reply of an unknown endpoint; more come back a moment later.
const FIRST_WAITING: usize = 32;

/// How often a waiting request looks whether the limit has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Limits a minute; absent = unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Requests a minute.
    pub requests: Option<f64>,
    /// Tokens a minute, prompt and answer together.
    pub tokens: Option<f64>,
}

impl Limits {
    /// The smaller of the two, where both are known.
    fn or_less(self, other: Self) -> Self {
        let less = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { requests: less(self.requests, other.requests), tokens: less(self.tokens, other.tokens) }
    }
}

/// How a request ended, as far as pacing is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ended {
    /// Answered, having used so many tokens.
    Answered {
        /// Prompt and answer.
        tokens: u64,
    },
    /// 429.
    Throttled {
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// Anything else.
    Failed,
}

/// Paces the requests to one endpoint and model.
#[derive(Debug)]
pub struct Pacer {
    state: Mutex<State>,
    /// Taken by the request that is next; tokio's mutex is fair, so waiting is first come, first served.
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
    waiting: AtomicUsize,
}

/// The right to send one request. Dropped without [`Permit::end`] it counts as failed.
#[must_use = "a permit is given back by how the request ended"]
#[derive(Debug)]
pub struct Permit<'a> {
    pacer: &'a Pacer,
    reserved: u64,
    ended: bool,
}

impl Pacer {
    /// A pacer that starts with these limits. `shared` = others may use the same limit, so nothing is sent before a share
    /// of it was given.
    #[must_use]
    pub fn new(configured: Limits, shared: bool) -> Self {
        Self {
            state: Mutex::new(State::new(configured, shared, Instant::now())),
            turn: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request of about `tokens` may be sent.
    ///
    /// # Errors
    /// When that would take longer than `most`: about how long it would take.
    pub async fn admit(&self, tokens: u64, most: Duration) -> Result<Permit<'_>, Duration> {
        let start = Instant::now();
        let position = Waiting::join(&self.waiting);
        if position.ahead == 0 && self.state().take(start, tokens).is_ok() {
            return Ok(Permit { pacer: self, reserved: tokens, ended: false });
        }
        if position.ahead >= FIRST_WAITING && self.state().is_unknown() {
            return Err(LOOK_AGAIN);
        }
        let expected = self.state().queue_wait(start, position.ahead, tokens as f64);
        if expected > most {
            return Err(expected);
        }
        let deadline = start + most;
        let Ok(turn) = tokio::time::timeout_at(deadline, self.turn.lock()).await else {
            return Err(expected.max(most));
        };
        loop {
            let now = Instant::now();
            let freed = self.freed.notified();
            let wait = match self.state().take(now, tokens) {
                Ok(()) => break,
                Err(wait) => wait,
            };
            if now + wait > deadline {
                return Err(wait);
            }
            tokio::select! {
                () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
                () = freed => {}
            }
        }
        drop(turn);
        Ok(Permit { pacer: self, reserved: tokens, ended: false })
    }

    /// Takes over what a reply's headers advertise. Values that are not there change nothing.
    pub fn advertised(&self, limits: Limits) {
        self.state().advertised(limits);
    }

    /// Whether a request that came now would wait longer than `most` for its place.
    #[must_use]
    pub fn is_crowded(&self, most: Duration) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting > 0 && self.state().usual_wait(Instant::now(), waiting) > most
    }

    /// The part of the limit that is ours, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.state().share
    }

    /// The limits in force, before the share.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.state().limits()
    }

    /// Our share of the limit from now on, 0 to 1, believed until `until`. A greater one is taken two calls later, when those
    /// whose share became smaller have surely heard of it; unless nobody else is there.
    pub fn set_share(&self, share: f64, alone: bool, until: Instant) {
        self.state().set_share(share, alone, until);
        self.freed.notify_waiters();
    }

    /// What would be sent if the whole limit were ours, as a part of it (more than 1 = more than the limit), since the last
    /// call; requests that wait count.
    #[must_use]
    pub fn demand(&self) -> f64 {
        let waiting = self.waiting.load(Ordering::Relaxed) as f64;
        self.state().demand(waiting, Instant::now())
    }
}

impl Permit<'_> {
    /// Gives the permit back.
    pub fn end(mut self, how: Ended) {
        self.settle(how);
    }

    fn settle(&mut self, how: Ended) {
        self.ended = true;
        self.pacer.state().end(how, self.reserved, Instant::now());
        self.pacer.freed.notify_one();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.settle(Ended::Failed);
        }
    }
}

/// Counts a request as waiting until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    ahead: usize,
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Self {
        Self { count, ahead: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::state::{PROBES, whole};
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn rpm(requests: f64) -> Limits {
        Limits { requests: Some(requests), tokens: None }
    }

    /// Sends one request after another for `time`; how many were sent.
    async fn sent(pacer: &Pacer, tokens: (u64, u64), time: Duration) -> u32 {
        let until = Instant::now() + time;
        let mut count = 0;
        loop {
            let Ok(Ok(permit)) = tokio::time::timeout_at(until, pacer.admit(tokens.0, LONG)).await else { break };
            permit.end(Ended::Answered { tokens: tokens.1 });
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_requests_is_used_and_kept() {
        for (limit, expected) in [(600.0, 600), (6_000.0, 6_000), (30.0, 30)] {
            let pacer = Pacer::new(rpm(limit), false);
            let count = sent(&pacer, (10, 10), Duration::from_secs(60)).await;
            let bunch = u32::try_from(whole(limit / 60.0 * 0.25)).expect("small") + 1;
            assert!((expected..=expected + bunch).contains(&count), "{count} of {expected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_estimated_before_and_trued_up_after() {
        for estimate in [500, 1_000, 2_000] {
            let pacer = Pacer::new(Limits { requests: None, tokens: Some(60_000.0) }, false);
            let count = sent(&pacer, (estimate, 1_000), Duration::from_secs(60)).await;
            assert!((59..=62).contains(&count), "{count} with an estimate of {estimate}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_kept_by_many_at_a_time_whose_answers_come_late() {
        let pacer = Pacer::new(Limits { requests: None, tokens: Some(600_000.0) }, false);
        let until = Instant::now() + Duration::from_secs(60);
        let worker = async || {
            let mut count = 0;
            while Instant::now() < until
                && let Ok(Ok(permit)) = tokio::time::timeout_at(until, pacer.admit(500, LONG)).await
            {
                tokio::time::sleep(Duration::from_secs(2)).await;
                permit.end(Ended::Answered { tokens: 1_000 });
                count += 1;
            }
            count
        };
        let all: u32 = futures_util::future::join_all((0..50).map(|_| worker())).await.into_iter().sum();
        // Those of the first two seconds were let go by their estimates, which were half of it.
        assert!((590..=630).contains(&all), "{all} thousand tokens of 600 in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn an_advertised_limit_is_learnt_and_the_smaller_one_holds() {
        let pacer = Pacer::new(Limits::default(), false);
        pacer.admit(1, LONG).await.expect("nothing is known yet").end(Ended::Answered { tokens: 1 });
        pacer.advertised(rpm(120.0));
        assert!((120..=122).contains(&sent(&pacer, (1, 1), Duration::from_secs(60)).await));
        let configured = Pacer::new(rpm(600.0), false);
        configured.advertised(rpm(60.0));
        assert_eq!(configured.limits(), rpm(60.0));
        configured.advertised(rpm(6_000.0));
        assert_eq!(configured.limits(), rpm(600.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_shrinks_at_once_and_grows_two_calls_later() {
        let pacer = Pacer::new(rpm(600.0), true);
        let until = Instant::now() + LONG;
        assert_eq!(sent(&pacer, (1, 1), Duration::from_secs(2)).await, 0, "nothing is ours yet");
        for _ in 0..2 {
            pacer.set_share(0.5, false, until);
            assert_eq!(sent(&pacer, (1, 1), Duration::from_secs(2)).await, 0, "the others may not have heard of us");
        }
        pacer.set_share(0.5, false, until);
        assert!((49..=52).contains(&sent(&pacer, (1, 1), Duration::from_secs(10)).await));
        pacer.set_share(0.25, false, until);
        assert!((23..=26).contains(&sent(&pacer, (1, 1), Duration::from_secs(10)).await));
        pacer.set_share(1.0, true, until);
        let alone = sent(&pacer, (1, 1), Duration::from_secs(10)).await;
        assert!((98..=104).contains(&alone), "{alone}");
        pacer.set_share(1.0, true, Instant::now());
        assert_eq!(sent(&pacer, (1, 1), Duration::from_secs(10)).await, 0, "a share that ran out is somebody else's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_halved_behind_our_back_is_found_within_five_seconds() {
        let pacer = Pacer::new(rpm(600.0), false);
        let (mut level, mut at) = (5.0, Instant::now());
        let mut refused_late = 0;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(15) {
            let permit = pacer.admit(1, LONG).await.expect("it waits");
            let now = Instant::now();
            level = f64::min(level + (now - at).as_secs_f64() * 5.0, 5.0);
            at = now;
            if level >= 1.0 {
                level -= 1.0;
                permit.end(Ended::Answered { tokens: 1 });
            } else {
                permit.end(Ended::Throttled { retry_after: None });
                refused_late += u32::from(begin.elapsed() > Duration::from_secs(5));
            }
        }
        assert!(refused_late <= 8, "{refused_late} refused after five seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_known_limit_a_429_halves_what_is_in_flight_and_it_grows_back() {
        let pacer = Pacer::new(Limits::default(), false);
        pacer.admit(1, LONG).await.expect("free").end(Ended::Answered { tokens: 1 });
        tokio::time::advance(Duration::from_secs(2)).await;
        let mut flying = Vec::new();
        for _ in 0..64 {
            flying.push(pacer.admit(1, LONG).await.expect("nothing is known"));
        }
        flying.pop().expect("one").end(Ended::Throttled { retry_after: None });
        assert_eq!(pacer.state().window, Some(32.0));
        flying.pop().expect("one").end(Ended::Throttled { retry_after: None });
        assert_eq!(pacer.state().window, Some(32.0), "the same event");
        assert!(pacer.admit(1, Duration::from_secs(1)).await.is_err(), "62 are in flight, and 32 may be");
        for permit in flying.drain(..40) {
            permit.end(Ended::Answered { tokens: 1 });
        }
        let more = pacer.admit(1, Duration::from_secs(1)).await.expect("22 are in flight");
        more.end(Ended::Failed);
        assert!(pacer.state().window.is_some_and(|w| w > 32.5), "it grows back");
        drop(flying);
        assert_eq!(pacer.state().in_flight, 0, "a dropped permit is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_requests_to_an_unknown_endpoint_are_few_and_too_long_a_wait_is_refused() {
        let pacer = Pacer::new(Limits::default(), false);
        let mut flying = Vec::new();
        for _ in 0..PROBES {
            flying.push(pacer.admit(1, LONG).await.expect("a probe"));
        }
        assert!(pacer.admit(1, Duration::from_secs(1)).await.is_err(), "until one is answered");
        flying.pop().expect("one").end(Ended::Answered { tokens: 1 });
        for _ in 0..100 {
            flying.push(pacer.admit(1, LONG).await.expect("free"));
        }
        flying.pop().expect("one").end(Ended::Throttled { retry_after: Some(Duration::from_secs(30)) });
        let wait = pacer.admit(1, Duration::from_secs(2)).await.expect_err("half a minute");
        assert!(wait > Duration::from_secs(29), "{wait:?}");
    }
}
