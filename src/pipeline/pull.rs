//! Step 1 from brokers: messages into the inbox, settled only after their commit.
//!
//! Started by `cli::serve` beside the server; one lane is one batch in hand. Its rules: what a door would refuse for good is parked, with its
//! reason, and never holds up others; what fails for a while is tried again, here while the database is away, through the broker when
//! only this message fails; nothing is pulled while the backlog is full. The way not taken: counting on exactly-once delivery;
//! spans have keys, so a message that comes twice is stored once.

mod read;
mod reason;
mod take;

use super::ingest::Inbox;
use crate::app::App;
use crate::config::Source;
use crate::runtime::lifecycle::Lifecycle;
use crate::runtime::retry::Backoff;
use crate::sources::{self, Feed, Letter, Message, SourceError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A pull that found nothing sooner than this is not repeated at once.
const IDLE: Duration = Duration::from_millis(200);

/// How often the backlog is looked at while it is full.
const HOLD: Duration = Duration::from_millis(500);

/// Starts every configured source.
pub fn start(app: &Arc<App>, inbox: &Inbox, life: &Lifecycle) {
    for source in &app.bench.config.sources {
        let source = Arc::new(source.clone());
        for _ in 0..source.parallel {
            let lane = Lane {
                app: Arc::clone(app),
                inbox: inbox.clone(),
                source: Arc::clone(&source),
                stop: life.soft.clone(),
            };
            let hard = life.hard.clone();
            life.spawn("pull", async move {
                tokio::select! {
                    () = lane.run() => {}
                    // What is in hand then comes again.
                    () = hard.cancelled() => {}
                }
            });
        }
    }
}

/// One connection to a broker, and what its messages need.
struct Lane {
    app: Arc<App>,
    inbox: Inbox,
    source: Arc<Source>,
    stop: CancellationToken,
}

/// What becomes of a message.
enum Fate {
    /// It is in the inbox.
    Stored,
    /// It is parked, for this reason.
    Parked(String),
    /// It comes again after a while.
    Again,
    /// Others may have it at once.
    Back,
}

impl Lane {
    async fn run(self) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let ended = match sources::connect(&self.source).await {
                Ok(mut feed) => {
                    tracing::info!(source = self.source.name, kind = self.source.kind.as_str(), "taking traces");
                    self.work(feed.as_mut(), &mut failures).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { break };
            failures += 1;
            self.connected(false);
            let (source, why) = (&self.source.name, error.chain());
            tracing::warn!(source, why, failures, "the source cannot be read, connecting again");
            self.rest(failures).await;
        }
        self.connected(false);
    }

    async fn work(&self, feed: &mut dyn Feed, failures: &mut u32) -> Result<(), SourceError> {
        while !self.stop.is_cancelled() {
            self.hold(feed).await?;
            let started = Instant::now();
            let messages = feed.pull().await?;
            *failures = 0;
            self.connected(feed.is_connected());
            if let Some(lag) = feed.lag() {
                self.app.bench.metrics.sources.lag.with_label_values(&[&self.source.name]).set(lag as f64);
            }
            if messages.is_empty() {
                if started.elapsed() < IDLE {
                    self.pause(IDLE).await;
                }
                continue;
            }
            self.batch(feed, messages).await?;
        }
        Ok(())
    }

    /// Takes nothing while too much waits to be judged.
    async fn hold(&self, feed: &mut dyn Feed) -> Result<(), SourceError> {
        let bound = self.app.bench.config.ingest.backlog_max;
        let held = self.app.bench.metrics.sources.held.with_label_values(&[&self.source.name]);
        while self.app.backlog.load(Ordering::Relaxed) >= bound && !self.stop.is_cancelled() {
            held.set(1.0);
            feed.keep(&[]).await?;
            self.pause(HOLD.min(feed.keep_every())).await;
        }
        held.set(0.0);
        Ok(())
    }

    async fn batch(&self, feed: &mut dyn Feed, messages: Vec<Message>) -> Result<(), SourceError> {
        self.count("received", messages.len());
        self.count("redelivered", messages.iter().filter(|m| m.letter.deliveries > 1).count());
        let letters: Arc<[Letter]> = messages.iter().map(|m| m.letter.clone()).collect();
        let fates = {
            let work = self.take(&letters);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    fates = &mut work => break fates,
                    () = tokio::time::sleep(feed.keep_every()) => {
                        // A broker that is away delivers again when it is back; the work goes on.
                        if let Err(error) = feed.keep(&messages).await {
                            tracing::debug!(source = self.source.name, why = error.chain(), "no sign of life was given");
                        }
                    }
                }
            }
        };
        self.finish(feed, messages, fates).await
    }

    async fn finish(&self, feed: &mut dyn Feed, messages: Vec<Message>, fates: Vec<Fate>) -> Result<(), SourceError> {
        let (mut done, mut back, mut unsent) = (Vec::new(), Vec::new(), false);
        for (message, fate) in messages.into_iter().zip(fates) {
            match fate {
                Fate::Stored => {
                    self.count("committed", 1);
                    done.push(message);
                }
                Fate::Parked(reason) if !unsent => match feed.dead_letter(&message.letter, &reason).await {
                    Ok(()) => {
                        self.count("parked", 1);
                        done.push(message);
                    }
                    Err(error) => {
                        // The others of this batch are not even tried: each may take its whole time-out.
                        unsent = true;
                        self.keep_dead_letter(feed, message, &error, &mut done).await?;
                    }
                },
                Fate::Parked(_) | Fate::Again => self.again(feed, message).await?,
                Fate::Back => back.push(message),
            }
        }
        feed.settle(done).await?;
        feed.give_back(back).await
    }

    /// A dead letter that could not be sent comes again; not for ever, since its row tells of it.
    async fn keep_dead_letter(
        &self,
        feed: &mut dyn Feed,
        message: Message,
        error: &SourceError,
        done: &mut Vec<Message>,
    ) -> Result<(), SourceError> {
        let (source, position, why) = (&self.source.name, &message.letter.position, error.chain());
        if message.letter.deliveries < self.source.deliver_max {
            tracing::warn!(source, position, why, "a dead letter was not sent, trying again");
            return self.again(feed, message).await;
        }
        tracing::error!(source, position, why, "a dead letter was given up; parked_messages has its place and reason");
        self.count("parked", 1);
        done.push(message);
        Ok(())
    }

    async fn again(&self, feed: &mut dyn Feed, message: Message) -> Result<(), SourceError> {
        self.count("again", 1);
        let wait = self.backoff().wait(message.letter.deliveries, None, message.letter.position.as_bytes());
        feed.again(message, wait).await
    }

    fn backoff(&self) -> Backoff {
        let ms = Duration::from_millis;
        Backoff { first: ms(self.source.retry_ms), longest: ms(self.source.retry_ms_max) }
    }

    /// Waits after the given failure; false when it is time to stop.
    async fn rest(&self, failures: u32) -> bool {
        self.pause(self.backoff().wait(failures, None, self.source.name.as_bytes())).await
    }

    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stop.cancelled() => false,
        }
    }

    fn connected(&self, is: bool) {
        let gauge = self.app.bench.metrics.sources.connected.with_label_values(&[&self.source.name]);
        gauge.set(f64::from(u8::from(is)));
    }

    fn count(&self, result: &str, how_many: usize) {
        let counter = self.app.bench.metrics.sources.messages.with_label_values(&[self.source.name.as_str(), result]);
        counter.inc_by(how_many as u64);
    }
}
