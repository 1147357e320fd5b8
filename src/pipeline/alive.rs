//! Workers say that they live, and end the leases of those that do not.
//!
//! One loop a process with the role work. Its rule: a lease lasts longer than the slowest judge, but nobody waits that long for a
//! dead process's jobs; only who has itself been heard without a gap may call another dead, so that an outage of the database,
//! which silences all, frees nothing. A worker wrongly taken for dead loses its leases and nothing else: its verdicts settle
//! nothing, and what it asked is in the cache of votes. The way not taken: short leases that are renewed job by job.

use super::note;
use crate::app::App;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Signs of life within the time after which silence means death.
const BEATS: u32 = 6;

/// Says so until stopped and nothing is in hand any more; then [`leave`] signs off.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let silence = Duration::from_millis(app.bench.config.work.dead_after_ms);
    let mut heard = Heard::default();
    while !stop.is_cancelled() || app.bench.metrics.in_hand.get() > 0 {
        once(&app, silence, &mut heard).await;
        let stopping = stop.is_cancelled();
        tokio::select! {
            () = tokio::time::sleep(silence / BEATS) => {}
            () = stop.cancelled(), if !stopping => {}
        }
    }
}

/// Signs this worker off, when nothing is in hand any more.
pub async fn leave(app: &App) {
    if let Err(error) = app.store.leave(app.worker).await {
        note(app, &error, "this worker could not be signed off; its row runs out");
    }
}

/// Since when this worker has been heard without a gap, and when last.
#[derive(Debug, Default)]
struct Heard(Option<(Instant, Instant)>);

impl Heard {
    /// Whether this beat is one of a series that has lasted for the time of silence.
    fn beat(&mut self, at: Instant, silence: Duration) -> bool {
        let since = match self.0 {
            Some((since, last)) if at - last < silence / 2 => since,
            _ => at,
        };
        self.0 = Some((since, at));
        at - since >= silence
    }
}

async fn once(app: &App, silence: Duration, heard: &mut Heard) {
    if let Err(error) = app.store.beat(app.worker).await {
        return note(app, &error, "this worker could not say that it lives, trying again");
    }
    if !app.signed_on.swap(true, Ordering::Relaxed) {
        app.wake.jobs.notify_waiters();
    }
    if !heard.beat(Instant::now(), silence) {
        return;
    }
    match app.store.bury(silence.as_secs_f64(), app.bench.clock.now()).await {
        Ok(buried) if buried.workers > 0 => {
            tracing::warn!(workers = buried.workers, jobs = buried.jobs, "workers went silent, their jobs are free");
            app.wake.jobs.notify_waiters();
        }
        Ok(_) => {}
        Err(error) => note(app, &error, "leases of dead workers could not be ended, trying again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_was_heard_without_a_gap_may_call_another_dead() {
        let (silence, start) = (Duration::from_secs(30), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut heard = Heard::default();
        let mut beats = |seconds: &[u64]| seconds.iter().map(|s| heard.beat(at(*s), silence)).collect::<Vec<_>>();
        assert_eq!(beats(&[0, 5, 10, 15, 20, 25]), [false; 6], "it has just started");
        assert_eq!(beats(&[30, 35]), [true; 2]);
        assert_eq!(beats(&[80, 90, 100]), [false; 3], "the database was away");
        assert_eq!(beats(&[109, 111]), [false, true]);
    }
}
