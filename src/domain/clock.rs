//! The clock seam: the only way the program learns the time.
//!
//! Called by the pipeline and the stores' callers (times are arguments of SQL, never `now()` in it, so that a test
//! can move time by hand). `clippy.toml` bans `Utc::now` elsewhere. The way not taken: tokio's paused time, which
//! breaks real sockets.

use chrono::{DateTime, TimeDelta, Utc};
use std::fmt::Debug;
use std::sync::Mutex;

/// Where the program reads the time of day.
pub trait Clock: Debug + Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A time as in 2026-11-20T12:00:00Z, or an age before `now` as in 90m, 24h, 7d.
#[must_use]
pub fn time_or_age(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let seconds = match text.chars().last()? {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text.get(..text.len() - 1)?.parse().ok()?;
    now.checked_sub_signed(TimeDelta::seconds(seconds * i64::from(number)))
}

/// A clock that tests move by hand.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// A clock standing at `start`.
    #[must_use]
    pub fn at(start: DateTime<Utc>) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward by `by`.
    ///
    /// # Panics
    /// When another holder of the clock panicked while moving it.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().expect("no holder of the clock panics") += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no holder of the clock panics")
    }
}
