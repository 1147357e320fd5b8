//! The one retry policy: how long to wait before trying again.
//!
//! Used for judge requests, jobs and deliveries. Its rule: waits double from a first one up to a highest, spread by half so
//! that many that failed together do not come back together; what the other side asks for wins, within reason. The spread
//! is a hash of what is retried, not a random draw, so that a run can be replayed.

use crate::domain::ids::short_hash;
use std::time::Duration;

/// No other side may make us wait longer than this.
const ASKED_MAX: Duration = Duration::from_secs(15 * 60);

/// First and longest wait.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// Before any try.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after `tries` tries (1 = the first failed). `asked` is a `Retry-After`; `seed` names what is retried.
    #[must_use]
    pub fn wait(&self, tries: u32, asked: Option<Duration>, seed: &[u8]) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1).min(30)));
        let full = doubled.min(self.longest);
        let hash = short_hash(&[seed, &tries.to_be_bytes()], 4);
        let spread = f64::from(u16::from_str_radix(&hash, 16).unwrap_or(0)) / f64::from(u16::MAX);
        let own = full.mul_f64(0.5 + spread / 2.0);
        // A little more than asked, so that a crowd does not return in one instant.
        asked.map_or(own, |asked| own.max(asked.min(ASKED_MAX) + full.mul_f64(spread / 10.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(60) };

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        for (tries, full) in [(1, 2), (2, 4), (3, 8), (10, 60), (4_000_000, 60)] {
            let wait = BACKOFF.wait(tries, None, b"job");
            assert!(wait >= Duration::from_secs(full) / 2 && wait <= Duration::from_secs(full), "{tries}: {wait:?}");
        }
        assert_ne!(BACKOFF.wait(1, None, b"a"), BACKOFF.wait(1, None, b"b"));
        assert_eq!(BACKOFF.wait(1, None, b"a"), BACKOFF.wait(1, None, b"a"));
    }

    #[test]
    fn what_is_asked_for_is_waited_for() {
        let wait = BACKOFF.wait(1, Some(Duration::from_secs(30)), b"job");
        assert!(wait >= Duration::from_secs(30) && wait < Duration::from_secs(31), "{wait:?}");
        assert!(BACKOFF.wait(1, Some(Duration::from_secs(1 << 40)), b"job") < Duration::from_secs(16 * 60));
    }
}
