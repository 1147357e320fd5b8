//! A circuit for each endpoint: after many failures in a row it is left alone for a while, then tried with one request.
//!
//! Held by `judges`, asked by `pipeline::evaluate` before a request. Its rule: only time-outs, broken connections and 5xx in a
//! row count, so that one bad request in ten never opens it; what is not sent because of it still uses up the job's attempt,
//! so that a job ends as it would with the requests. The way not taken: a share of failures over a window, which one
//! burst of a busy minute decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES: u32 = 10;

/// First and longest time that it stays open.
const OPEN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// The circuit of one endpoint.
#[derive(Debug, Default)]
pub struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    openings: u32,
    open_until: Option<Instant>,
    /// Whether one request is trying.
    trying: bool,
    why: String,
}

impl Circuit {
    /// Whether a request may be sent. When the time is over, one may, and the others wait for how it ends.
    ///
    /// # Errors
    /// How long to wait, and the failure that opened it.
    pub fn check(&self) -> Result<(), (Duration, String)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match state.open_until {
            None => Ok(()),
            Some(until) if until > now => Err((until - now, state.why.clone())),
            Some(_) => {
                state.open_until = Some(now + OPEN.0);
                state.trying = true;
                Ok(())
            }
        }
    }

    /// The endpoint answered, whatever it said.
    pub fn good(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failures > 0 || state.open_until.is_some() {
            *state = State::default();
        }
    }

    /// The endpoint failed; true when that opened the circuit.
    pub fn bad(&self, why: &str) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        // Requests that were under way when it opened fail after it; they open nothing anew.
        let late = state.open_until.is_some() && !state.trying;
        if late || (state.failures < FAILURES && !state.trying) {
            return false;
        }
        let time = (OPEN.0 * 2_u32.saturating_pow(state.openings.min(10))).min(OPEN.1);
        state.open_until = Some(Instant::now() + time);
        state.openings += 1;
        state.trying = false;
        why.clone_into(&mut state.why);
        true
    }

    /// Why it is open, if it is.
    #[must_use]
    pub fn open(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.open_until.map(|_| state.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_failures_in_a_row_open_it_and_one_request_tries_again() {
        let circuit = Circuit::default();
        for _ in 0..FAILURES * 3 {
            circuit.bad("timeout");
            circuit.good();
        }
        assert_eq!(circuit.check(), Ok(()), "every second one is answered");
        for _ in 0..FAILURES - 1 {
            assert!(!circuit.bad("timeout"));
        }
        assert!(circuit.bad("timeout"));
        let (wait, why) = circuit.check().expect_err("open");
        assert_eq!((wait, why.as_str()), (OPEN.0, "timeout"));
        for _ in 0..3 * FAILURES {
            assert!(!circuit.bad("late"), "those that were under way open nothing anew");
        }
        assert_eq!(circuit.check().expect_err("open"), (OPEN.0, "timeout".to_owned()));
        tokio::time::advance(OPEN.0).await;
        assert_eq!(circuit.check(), Ok(()), "one may try");
        assert!(circuit.check().is_err(), "only one");
        assert!(circuit.bad("server_error"), "it failed");
        assert_eq!(circuit.check().expect_err("open").0, OPEN.0 * 2);
        tokio::time::advance(OPEN.0 * 2).await;
        assert_eq!(circuit.check(), Ok(()));
        circuit.good();
        assert_eq!((circuit.check(), circuit.open()), (Ok(()), None));
    }
}
