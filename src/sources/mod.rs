//! L2: brokers that traces are pulled from, one file a kind.
//!
//! Used by `pipeline::pull`. Its rule: a feed gives messages and is told what became of each; it decides nothing and reads no body.
//! A message that is not settled comes again, from the broker, so nothing here needs to survive a crash. The way not taken:
//! letting the broker's client acknowledge or commit by itself, which says "done" before Postgres has said so.

#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nats;
#[cfg(any(feature = "kafka", test))]
mod offsets;

use crate::config::{Source, SourceKind};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt::Debug;
use std::time::Duration;

/// Header of a dead letter that says why it is one.
pub const REASON_HEADER: &str = "Assize-Reason";
/// Header of a dead letter that says which source parked it.
pub const SOURCE_HEADER: &str = "Assize-Source";
/// Header of a dead letter that says where it was.
pub const POSITION_HEADER: &str = "Assize-Position";

/// A failed operation on a broker; no text of a message is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What was configured does not fit what is there, or a variable or file is missing.
    #[error("{0}")]
    Setup(String),
    /// The broker does not answer, or refuses.
    #[error("{operation} failed")]
    Broker {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SourceError {
    /// Makes an error of `operation` out of a client's.
    fn op<E>(operation: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Broker { operation, source: source.into() }
    }

    /// The error with its causes, for a log line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// What a message says, apart from what its broker needs to settle it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its subject or topic.
    pub subject: String,
    /// Where it is: stream and sequence, or topic, partition and offset.
    pub position: String,
    /// Its headers; a name may occur twice.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// How often it was handed to anybody, this time included.
    pub deliveries: u32,
}

impl Letter {
    /// The last header with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a broker needs to settle a message.
pub(crate) enum Ticket {
    /// NATS: where to answer to.
    Nats(Box<async_nats::jetstream::message::Acker>),
    /// Kafka.
    #[cfg(feature = "kafka")]
    Kafka {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

impl Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own type shows nothing.
        match self {
            Self::Nats(_) => f.write_str("Nats"),
            #[cfg(feature = "kafka")]
            Self::Kafka { partition, offset } => write!(f, "Kafka({partition}, {offset})"),
        }
    }
}

/// A message in hand. It comes again unless it is settled.
#[derive(Debug)]
#[must_use]
pub struct Message {
    /// What it says.
    pub letter: Letter,
    pub(crate) ticket: Ticket,
}

/// One connection to a broker. `&mut`, since one batch is in hand at a time.
pub trait Feed: Debug + Send {
    /// Takes up to a batch; an empty one after about a second without messages.
    fn pull(&mut self) -> BoxFuture<'_, Result<Vec<Message>, SourceError>>;

    /// Says that messages are dealt with: they are in Postgres, or parked.
    fn settle(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>>;

    /// Asks for a message again after a while, and says whether the broker itself was told.
    fn again(&mut self, message: Message, after: Duration) -> BoxFuture<'_, Result<(), SourceError>>;

    /// Lets others have messages at once.
    fn give_back(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>>;

    /// Tells the broker that we live and still work on these messages (none: that we take none for now).
    fn keep<'a>(&'a mut self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), SourceError>>;

    /// How often [`Feed::keep`] must be called while no messages are pulled.
    fn keep_every(&self) -> Duration;

    /// Hands a message to whoever looks after parked ones, with the reason in its headers; returns when the broker has it.
    fn dead_letter<'a>(&'a mut self, letter: &'a Letter, reason: &'a str) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Whether the broker answers, as far as is known: clients connect again by themselves.
    fn is_connected(&self) -> bool;

    /// Messages that wait in the broker, as far as is known.
    fn lag(&self) -> Option<u64>;
}

/// What a look at a source shows; nothing is taken or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whether it can be worked with.
    pub ok: bool,
    /// What was found, and the remedy.
    pub detail: String,
}

/// Connects to a broker.
///
/// # Errors
/// When it does not answer, or has not what the configuration names.
pub async fn connect(source: &Source) -> Result<Box<dyn Feed>, SourceError> {
    ready(source)?;
    match source.kind {
        SourceKind::Nats => Ok(Box::new(nats::Nats::connect(source).await?)),
        #[cfg(feature = "kafka")]
        SourceKind::Kafka => Ok(Box::new(kafka::Kafka::connect(source)?)),
        #[cfg(not(feature = "kafka"))]
        SourceKind::Kafka => Err(without_kafka()),
    }
}

/// Looks at a broker for `assize doctor`.
pub async fn look(source: &Source) -> Look {
    let found = match ready(source) {
        Err(error) => Err(error),
        Ok(()) => match source.kind {
            SourceKind::Nats => nats::look(source).await,
            #[cfg(feature = "kafka")]
            SourceKind::Kafka => kafka::look(source).await,
            #[cfg(not(feature = "kafka"))]
            SourceKind::Kafka => Err(without_kafka()),
        },
    };
    found.unwrap_or_else(|error| Look { ok: false, detail: error.chain() })
}

#[cfg(not(feature = "kafka"))]
fn without_kafka() -> SourceError {
    SourceError::Setup("this program was built without Kafka; build it with `cargo build --features kafka`".to_owned())
}

fn ready(source: &Source) -> Result<(), SourceError> {
    match source.unset().first() {
        None => Ok(()),
        Some(name) => {
            let text = format!("environment variable {name} is not set; source `{}` needs it", source.name);
            Err(SourceError::Setup(text))
        }
    }
}
