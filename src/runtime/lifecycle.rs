//! How tasks begin and how the process ends.
//!
//! Built by `cli`, passed down as an argument. Its rule: a soft stop ends the taking of work, a hard stop ends work in hand;
//! the hard stop implies the soft one. A task that panics stops the process softly, so that it is restarted whole rather
//! than limping on without a part. The way not taken: a global shutdown flag.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tokens and tracker of one process.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Take no more work.
    pub soft: CancellationToken,
    /// Drop the work in hand.
    pub hard: CancellationToken,
    tracker: TaskTracker,
    broken: Arc<AtomicBool>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let hard = CancellationToken::new();
        Self { soft: hard.child_token(), hard, tracker: TaskTracker::new(), broken: Arc::default() }
    }
}

impl Lifecycle {
    /// Starts a task that the stop waits for. A panic in it is logged and stops the process.
    #[expect(clippy::disallowed_methods, reason = "this is the one door to tokio's spawn")]
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (soft, broken) = (self.soft.clone(), Arc::clone(&self.broken));
        let guarded = self.tracker.track_future(task);
        tokio::spawn(async move {
            if let Err(panic) = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(guarded)).await {
                drop(panic);
                tracing::error!(task = name, "task panicked, stopping");
                broken.store(true, Ordering::Relaxed);
                soft.cancel();
            }
        });
    }

    /// Starts a task whose panic ends nothing but itself: one piece of work among many, which others will try again.
    #[expect(clippy::disallowed_methods, reason = "this is the one door to tokio's spawn")]
    pub fn spawn_contained<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Boxed first: a large future would be copied at each wrapping.
        let guarded = self.tracker.track_future(Box::pin(task));
        tokio::spawn(async move {
            if futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(guarded)).await.is_err() {
                tracing::error!(task = name, "a piece of work panicked; it will be tried again");
            }
        });
    }

    /// Whether a task panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Waits for SIGTERM, SIGINT, or a broken task; then stops softly, and hard after `drain` or at a second signal.
    pub async fn run_until_stopped(&self, drain: Duration) {
        tokio::select! {
            () = signal() => tracing::info!(drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX), "stopping: no new work, finishing work in hand"),
            () = self.soft.cancelled() => {}
        }
        self.stop(drain, signal()).await;
    }

    /// Stops softly now, and hard after `drain` or when `hurry` is ready; returns when every task has ended.
    pub async fn stop(&self, drain: Duration, hurry: impl Future<Output = ()>) {
        self.soft.cancel();
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = tokio::time::sleep(drain) => tracing::warn!("drain time is over, releasing leases"),
            () = hurry => tracing::warn!("second signal, releasing leases"),
        }
        self.hard.cancel();
        self.tracker.wait().await;
    }
}

/// Completes at SIGTERM or SIGINT.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).expect("a process may listen for SIGTERM");
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// The SIGHUPs that come from now on.
#[derive(Debug)]
pub struct Hangups(Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// Listens; where that is not possible there are none.
    #[must_use]
    pub fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self(signal(SignalKind::hangup()).ok())
    }

    /// Completes at the next one.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_soft_stop_waits_for_work_in_hand() {
        let life = Lifecycle::default();
        let (done, wait) = tokio::sync::oneshot::channel();
        let soft = life.soft.clone();
        life.spawn("worker", async move {
            soft.cancelled().await;
            tokio::task::yield_now().await;
            done.send(()).expect("the test waits");
        });
        life.stop(Duration::from_secs(5), std::future::pending()).await;
        wait.await.expect("the task finished before stop returned");
    }

    #[tokio::test]
    async fn a_hard_stop_ends_what_does_not_end_by_itself() {
        let life = Lifecycle::default();
        let hard = life.hard.clone();
        life.spawn("stuck", async move { hard.cancelled().await });
        life.stop(Duration::from_millis(1), std::future::pending()).await;
        assert!(!life.is_broken());
    }

    #[tokio::test]
    async fn a_panic_stops_the_process_softly() {
        let life = Lifecycle::default();
        life.spawn("broken", async { panic!("on purpose") });
        life.soft.cancelled().await;
        assert!(life.is_broken());
    }
}
