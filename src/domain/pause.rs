//! A judge or the queue that rests, and why.
//!
//! Made by `llm::judges` when a judge fails for a reason that will not pass, or by a person through `assize queue pause`; kept
//! by `store::pauses`. Its rule: what a program paused it tries again by itself, with one request at a time and longer and
//! longer waits; what a person paused, a person resumes. The way not taken: a switch without a reason.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// First and longest wait before a probe.
const PROBE: (TimeDelta, TimeDelta) = (TimeDelta::minutes(1), TimeDelta::minutes(15));

/// A pause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Why, in our own words.
    pub reason: String,
    /// Whether a person paused it.
    pub by_person: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When one request may try whether the reason has gone; never for a person's.
    pub probe_at: Option<DateTime<Utc>>,
}

impl Pause {
    /// The pause after a failure at `now`: a new one, or the one before with a longer wait until the next probe.
    #[must_use]
    pub fn again(before: Option<Self>, reason: &str, now: DateTime<Utc>) -> Self {
        match before {
            Some(pause) if pause.by_person => pause,
            before => {
                let since = before.map_or(now, |b| b.since);
                let wait = (now - since).clamp(PROBE.0, PROBE.1);
                Self { reason: reason.to_owned(), by_person: false, since, probe_at: Some(now + wait) }
            }
        }
    }

    /// Whether the caller may probe; if so the next probe is a minute away, whatever becomes of this one.
    pub fn probe(&mut self, now: DateTime<Utc>) -> bool {
        match self.probe_at {
            Some(at) if at <= now => {
                self.probe_at = Some(now + PROBE.0);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_one_at_a_time_and_rarer() {
        let start = DateTime::UNIX_EPOCH;
        let minutes = |n| start + TimeDelta::minutes(n);
        let mut pause = Pause::again(None, "401", start);
        assert!(!pause.probe(start));
        assert!(pause.probe(minutes(1)) && !pause.probe(minutes(1)), "one at a time");
        let later = Pause::again(Some(pause.clone()), "401", minutes(10));
        assert_eq!((later.since, later.probe_at), (start, Some(minutes(20))));
        assert_eq!(Pause::again(Some(pause), "401", minutes(100)).probe_at, Some(minutes(115)));
        let mut own = Pause { reason: "x".to_owned(), by_person: true, since: start, probe_at: None };
        assert!(!own.probe(minutes(1_000)));
        assert_eq!(Pause::again(Some(own.clone()), "401", minutes(5)), own);
    }
}
