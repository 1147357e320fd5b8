//! The sink seam: verdicts on their way out.
//!
//! Rows of the outbox are read by `pipeline::export` and delivered by whatever implements [`Sink`]. Its rule: a sink says of
//! each event what became of it, so that one bad event never blocks or doubles its neighbours. The way not taken: a
//! sink that retries by itself, out of sight of the outbox.

use super::chat::BoxFuture;
use super::verdict::Verdict;
use std::fmt::Debug;
use std::time::Duration;
use uuid::Uuid;

/// A verdict to be told to one sink.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEvent {
    /// Stable: the same verdict and sink give the same id.
    pub id: Uuid,
    /// Deliveries tried so far.
    pub attempts: i32,
    /// What to tell.
    pub verdict: Verdict,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The other side has it.
    Delivered,
    /// Not now; try again, after this long if the other side said so.
    Retry {
        /// Why, without any text of prompts or answers.
        reason: String,
        /// From `Retry-After`.
        after: Option<Duration>,
    },
    /// Never: the other side refuses this very event.
    Dead {
        /// Why.
        reason: String,
    },
}

/// Somewhere verdicts are pushed to.
pub trait Sink: Debug + Send + Sync {
    /// Name in the outbox, in metrics and in messages.
    fn name(&self) -> &'static str;

    /// The most events that one delivery may hold.
    fn batch_max(&self) -> usize;

    /// Delivers a batch; the answer has one entry an event, in order.
    fn deliver<'a>(&'a self, events: &'a [OutboxEvent]) -> BoxFuture<'a, Vec<Delivery>>;
}
