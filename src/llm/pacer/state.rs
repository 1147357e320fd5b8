//! What a pacer knows, and what follows from it at a given time.
//!
//! Used by `pacer` alone, under its lock. Its rule: time is an argument, nothing waits here. Spacing is GCRA's: each amount has
//! a theoretical arrival time, and a request that is late may catch up by a quarter of a second.

use super::{Ended, LOOK_AGAIN, Limits};
use std::time::Duration;
use tokio::time::Instant;

/// Requests in flight until the first reply has shown whether the endpoint advertises a limit.
pub(super) const PROBES: usize = 4;

/// How far requests may bunch together after a pause, as time at the full rate: providers count in windows shorter than a minute.
const BUNCH: Duration = Duration::from_millis(250);

/// Part of a limit that several workers use together.
const SHARED: f64 = 0.995;

/// Time over which 429s are counted.
const STRETCH: Duration = Duration::from_secs(10);

/// The state of a pacer.
#[derive(Debug)]
pub(super) struct State {
    configured: Limits,
    advertised: Limits,
    /// Our part of the limit, 0 to 1, and the latest two divisions: a greater part is taken when both have given it.
    pub(super) share: f64,
    divided: [f64; 2],
    /// Whether others use the limit too.
    is_shared: bool,
    share_until: Option<Instant>,
    /// What 429s without a known reason have cut the rate to, 0 to 1, and when that was last changed.
    factor: f64,
    factor_at: Instant,
    /// Theoretical arrival times (GCRA): when the next request would be due at the even rate.
    request_at: Instant,
    token_at: Instant,
    hold_until: Instant,
    pub(super) in_flight: usize,
    /// Requests in flight at most; none = no 429 has been met.
    pub(super) window: Option<f64>,
    window_at: Instant,
    /// Whether a reply has been seen.
    known: bool,
    /// Requests and 429s of the stretch of time under way, and when it began.
    stretch: (Instant, u32, u32),
    /// Requests and tokens since the demand was last asked for, and when that was.
    demand: (Instant, f64, f64),
    /// Tokens of a request, and the demand, of late.
    usual_tokens: f64,
    usual_demand: f64,
}

impl State {
    /// What is known at first. `shared` = nothing is ours before a share was given.
    pub(super) fn new(configured: Limits, shared: bool, now: Instant) -> Self {
        let share = if shared { 0.0 } else { 1.0 };
        Self {
            configured,
            advertised: Limits::default(),
            share,
            divided: [share; 2],
            is_shared: false,
            share_until: None,
            factor: 1.0,
            factor_at: now,
            request_at: now,
            token_at: now,
            hold_until: now,
            in_flight: 0,
            window: None,
            window_at: now,
            known: false,
            stretch: (now, 0, 0),
            demand: (now, 0.0, 0.0),
            usual_tokens: 0.0,
            usual_demand: 0.0,
        }
    }

    /// Takes over what headers advertise.
    pub(super) fn advertised(&mut self, limits: Limits) {
        let before = self.advertised;
        self.advertised =
            Limits { requests: limits.requests.or(before.requests), tokens: limits.tokens.or(before.tokens) };
        if self.advertised != before {
            self.factor = 1.0;
            self.window = None;
        }
    }

    /// Takes a share: a smaller one at once, a greater one when the two divisions before gave it too.
    pub(super) fn set_share(&mut self, share: f64, alone: bool, until: Instant) {
        self.share = if alone { share } else { self.divided.iter().copied().fold(share, f64::min) };
        self.divided = [self.divided[1], share];
        self.is_shared = !alone;
        self.share_until = Some(until);
    }

    /// The demand since the last call, as a part of the limit.
    pub(super) fn demand(&mut self, waiting: f64, now: Instant) -> f64 {
        let (since, requests, tokens) = std::mem::replace(&mut self.demand, (now, 0.0, 0.0));
        let seconds = (now - since).as_secs_f64().max(0.05);
        let limits = self.limits();
        let part = |amount: f64, limit: Option<f64>| limit.map_or(0.0, |limit| amount / seconds / (limit / 60.0));
        let tokens = tokens + waiting * self.usual_tokens;
        let latest = part(requests + waiting, limits.requests).max(part(tokens, limits.tokens));
        // Up at once and down slowly: a worker whose jobs are away for a second has not stopped.
        self.usual_demand = latest.max(0.7 * self.usual_demand);
        self.usual_demand
    }

    /// About how long a request waits that comes after `ahead` others of the usual size.
    pub(super) fn usual_wait(&self, now: Instant, ahead: usize) -> Duration {
        self.queue_wait(now, ahead, self.usual_tokens)
    }

    /// The limits in force, before the share.
    pub(super) fn limits(&self) -> Limits {
        self.configured.or_less(self.advertised)
    }

    /// Requests and tokens a second that are ours.
    fn rates(&self, now: Instant) -> (Option<f64>, Option<f64>) {
        let limits = self.limits();
        let believed = self.share_until.is_none_or(|until| now < until);
        // Several workers bunch at the same moment now and then: a little is left free for that.
        let spare = if self.is_shared { SHARED } else { 1.0 };
        let part = if believed { self.share * self.factor * spare } else { 0.0 };
        (limits.requests.map(|l| l / 60.0 * part), limits.tokens.map(|l| l / 60.0 * part))
    }

    /// Takes a place now, or says how long to wait before asking again.
    pub(super) fn take(&mut self, now: Instant, tokens: u64) -> Result<(), Duration> {
        self.recover(now);
        let window = self.window.map_or(usize::MAX, whole);
        let window = if self.is_unknown() { window.min(PROBES) } else { window };
        if self.in_flight >= window {
            return Err(LOOK_AGAIN);
        }
        let (requests, token_rate) = self.rates(now);
        let at = self
            .hold_until
            .max(due(self.request_at, requests).unwrap_or(now + LOOK_AGAIN * 4))
            .max(due(self.token_at, token_rate).unwrap_or(now + LOOK_AGAIN * 4));
        if at > now {
            return Err(at - now);
        }
        if let Some(rate) = requests {
            self.request_at = self.request_at.max(now.checked_sub(BUNCH).unwrap_or(now)) + seconds(1.0 / rate);
        }
        if let Some(rate) = token_rate {
            self.token_at = self.token_at.max(now.checked_sub(BUNCH).unwrap_or(now)) + seconds(tokens as f64 / rate);
        }
        self.in_flight += 1;
        self.demand.1 += 1.0;
        self.demand.2 += tokens as f64;
        self.usual_tokens += (tokens as f64 - self.usual_tokens) / 8.0;
        Ok(())
    }

    /// Whether no reply has shown yet what the endpoint allows.
    pub(super) fn is_unknown(&self) -> bool {
        !self.known && self.limits() == Limits::default()
    }

    /// About how long a request waits that comes after `ahead` others.
    pub(super) fn queue_wait(&self, now: Instant, ahead: usize, tokens: f64) -> Duration {
        let (requests, token_rate) = self.rates(now);
        let each = |rate: Option<f64>, amount: f64| rate.filter(|r| *r > 0.0).map_or(0.0, |rate| amount / rate);
        let gap = each(requests, 1.0).max(each(token_rate, tokens));
        let next = self.hold_until.max(self.request_at).max(self.token_at).min(now + seconds(3_600.0));
        next.saturating_duration_since(now) + seconds(gap * ahead as f64)
    }

    /// What was cut grows back: half a point of the rate a second, five where the endpoint itself has said what it allows.
    fn recover(&mut self, now: Instant) {
        if self.factor < 1.0 {
            let speed = if self.advertised == Limits::default() { 0.005 } else { 0.05 };
            self.factor = (self.factor + speed * (now - self.factor_at).as_secs_f64()).min(1.0);
        }
        self.factor_at = now;
    }

    /// A request ended; `reserved` tokens had been taken for it.
    pub(super) fn end(&mut self, how: Ended, reserved: u64, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if now - self.stretch.0 > STRETCH {
            self.stretch = (now, 0, 0);
        }
        self.stretch.1 += 1;
        match how {
            Ended::Answered { tokens } => {
                self.known = true;
                if let Some(rate) = self.rates(now).1.filter(|r| *r > 0.0) {
                    // True up: what was reserved too much comes back, what was too little is owed.
                    let (used, reserved) = (tokens as f64, reserved as f64);
                    if used >= reserved {
                        self.token_at += seconds((used - reserved) / rate);
                    } else {
                        let back = seconds((reserved - used) / rate);
                        self.token_at = self.token_at.checked_sub(back).unwrap_or(self.token_at);
                    }
                }
                if let Some(window) = &mut self.window {
                    *window += 1.0 / *window;
                    // Never reached any more: no bound is needed.
                    if *window > 4.0 * (self.in_flight as f64 + 8.0) {
                        self.window = None;
                    }
                }
            }
            Ended::Throttled { retry_after } => {
                self.known = true;
                self.stretch.2 += 1;
                self.throttled(now, retry_after);
            }
            // What the endpoint allows is as unknown as before.
            Ended::Failed => {}
        }
    }

    fn throttled(&mut self, now: Instant, retry_after: Option<Duration>) {
        let limits = self.limits();
        if let Some(asked) = retry_after {
            self.hold_until = self.hold_until.max(now + asked.min(Duration::from_secs(60)));
        }
        let (since, requests, refused) = self.stretch;
        if limits.requests.is_some() || limits.tokens.is_some() {
            // One stray 429 says nothing; a stretch in which one request in twenty is refused says that the limit is
            // lower: about as low as what got through.
            if refused >= 3 && refused * 20 >= requests && now - since >= Duration::from_secs(1) {
                let through = f64::from(requests - refused) / f64::from(requests);
                self.factor = (self.factor * through * 0.97).max(0.05);
                self.stretch = (now, 0, 0);
            }
        } else if now - self.window_at > Duration::from_secs(1) {
            // All that were in flight may be refused: that is one event, and halves once.
            let flying = self.in_flight as f64 + 1.0;
            self.window = Some((self.window.unwrap_or(flying).min(flying) / 2.0).max(1.0));
            self.window_at = now;
        }
    }
}

/// When the next amount is due; `None` while nothing is ours. Without a limit: long ago.
fn due(at: Instant, rate: Option<f64>) -> Option<Instant> {
    match rate {
        None => Some(at.checked_sub(Duration::from_secs(1)).unwrap_or(at)),
        Some(rate) if rate > 0.0 => Some(at),
        Some(_) => None,
    }
}

fn seconds(x: f64) -> Duration {
    Duration::try_from_secs_f64(x.clamp(0.0, 86_400.0)).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a window is at least 1 and small")]
pub(super) fn whole(window: f64) -> usize {
    window as usize
}
