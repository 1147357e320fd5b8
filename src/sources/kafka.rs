//! Kafka through librdkafka: a consumer group that all replicas share. Only with the feature `kafka`.
//!
//! Used by `sources::connect`. Its rules: offsets are committed by us and never by the client, up to the first message that is not settled;
//! a rebalance happens only between batches, so what is revoked was finished and committed, but for a batch that takes longer than a
//! minute. Kafka has no second delivery of one message, so what is to come again is kept here, and holds its partition's
//! offset. The way not taken: seeking back, which repeats everything behind a message.

use super::offsets::{Offsets, Place};
use super::{Feed, Letter, Look, Message, POSITION_HEADER, REASON_HEADER, SOURCE_HEADER, SourceError, Ticket};
use crate::config::{Sasl, Source};
use crate::runtime::cpu;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, Statistics, TopicPartitionList};
use secrecy::ExposeSecret;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use tokio::time::Instant;

/// How long one pull waits for a first message, and for each further one.
const WAIT: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(5);

/// How long anything else may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// Well below `max.poll.interval.ms` (5 minutes), and above what a batch takes unless the database is away.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// What the client's callbacks share with us.
#[derive(Debug, Default)]
struct Group {
    source: String,
    offsets: Mutex<Offsets>,
    /// Messages that wait; negative while not known.
    lag: AtomicI64,
    /// Whether a broker answers.
    up: AtomicBool,
}

impl Group {
    fn with_offsets<T>(&self, work: impl FnOnce(&mut Offsets) -> T) -> T {
        // Nothing in there panics; were it so, the offsets would still be whole.
        work(&mut self.offsets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(source = self.source, ?level, facility, text, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        // -1 is a partition that is not ours, or whose end is not known yet.
        let known: Vec<i64> = partitions.map(|p| p.consumer_lag).filter(|lag| *lag >= 0).collect();
        self.lag.store(if known.is_empty() { -1 } else { known.iter().sum() }, Ordering::Relaxed);
        self.up.store(statistics.brokers.values().any(|broker| broker.state == "UP"), Ordering::Relaxed);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.up.store(false, Ordering::Relaxed);
        }
        tracing::warn!(source = self.source, %error, reason, "the Kafka client has trouble");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let mut done = TopicPartitionList::new();
        for element in partitions.elements() {
            let place = (element.topic().to_owned(), element.partition());
            if let Some(offset) = self.with_offsets(|offsets| offsets.revoke(&place)) {
                drop(done.add_partition_offset(&place.0, place.1, Offset::Offset(offset)));
            }
        }
        // When they are lost already, others have them, and our word counts no more.
        if done.count() > 0
            && !consumer.assignment_lost()
            && let Err(error) = consumer.commit(&done, CommitMode::Sync)
        {
            tracing::warn!(source = self.source, %error, "offsets of revoked partitions were not committed; their last messages come again");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(source = self.source, %error, "offsets were not committed; the next commit has them too");
        }
    }
}

/// The client, which leaves the group when it is dropped, so that others get its partitions at once.
struct Member(Option<Arc<StreamConsumer<Group>>>);

impl Deref for Member {
    type Target = Arc<StreamConsumer<Group>>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Member {
    /// Leaving waits for the brokers' answer; when they are away, the process must not wait with it.
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        let (ended, wait) = mpsc::channel();
        std::thread::spawn(move || {
            drop(consumer);
            // Nobody may be waiting any more.
            let _ = ended.send(());
        });
        let _ = wait.recv_timeout(LEAVE);
    }
}

/// One member of the group.
pub struct Kafka {
    consumer: Member,
    producer: Option<(FutureProducer, String)>,
    batch: (usize, usize),
    /// Taken while we only said that we live.
    stash: VecDeque<Message>,
    /// To be given again, and when.
    later: Vec<(Instant, Message)>,
    paused: bool,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own types show nothing.
        f.debug_struct("Kafka").field("source", &self.consumer.context().source).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Joins the group; the client goes on connecting by itself.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn connect(source: &Source) -> Result<Self, SourceError> {
        let group = Group { source: source.name.clone(), lag: AtomicI64::new(-1), ..Group::default() };
        let consumer: StreamConsumer<Group> =
            reader(source).create_with_context(group).map_err(SourceError::op("setting up the Kafka client"))?;
        let topics: Vec<&str> = source.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(SourceError::op("subscribing to topics"))?;
        let producer = match &source.dead_letter {
            Some(topic) => {
                let made = client(source).set("enable.idempotence", "true").create();
                Some((made.map_err(SourceError::op("setting up the client for dead letters"))?, topic.clone()))
            }
            None => None,
        };
        Ok(Self {
            consumer: Member(Some(Arc::new(consumer))),
            producer,
            batch: (source.batch_messages_max, source.batch_bytes_max),
            stash: VecDeque::new(),
            later: Vec::new(),
            paused: false,
        })
    }

    async fn take(&mut self) -> Result<Vec<Message>, SourceError> {
        if self.paused {
            let ours = self.consumer.assignment().map_err(SourceError::op("asking which partitions are ours"))?;
            self.consumer.resume(&ours).map_err(SourceError::op("resuming partitions"))?;
            self.paused = false;
        }
        let mut messages = self.waiting();
        let mut bytes: usize = messages.iter().map(|m| m.letter.body.len()).sum();
        // As many as a batch fail already: no more until they are through.
        let full = self.later.len() >= self.batch.0;
        let mut wait = if messages.is_empty() { WAIT } else { LINGER };
        while !full && messages.len() < self.batch.0 && bytes < self.batch.1 {
            match tokio::time::timeout(wait, self.consumer.recv()).await {
                Ok(Ok(message)) => {
                    let message = opened(self.consumer.context(), &message);
                    bytes += message.letter.body.len();
                    messages.push(message);
                    wait = LINGER;
                }
                Ok(Err(error)) if messages.is_empty() => return Err(SourceError::op("taking messages")(error)),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Ok(messages)
    }

    /// What is here already: taken while waiting, or to be given again now.
    fn waiting(&mut self) -> Vec<Message> {
        let mut messages: Vec<Message> = self.stash.drain(..).collect();
        let now = Instant::now();
        for (_, mut message) in self.later.extract_if(.., |(due, _)| *due <= now) {
            message.letter.deliveries += 1;
            messages.push(message);
        }
        messages
    }

    /// Polls without taking: a member that does not poll is thrown out of the group.
    fn idle(&mut self) -> Result<(), SourceError> {
        let ours = self.consumer.assignment().map_err(SourceError::op("asking which partitions are ours"))?;
        self.consumer.pause(&ours).map_err(SourceError::op("pausing partitions"))?;
        self.paused = true;
        while self.stash.len() < self.batch.0 {
            match self.consumer.recv().now_or_never() {
                Some(Ok(message)) => self.stash.push_back(opened(self.consumer.context(), &message)),
                Some(Err(error)) => return Err(SourceError::op("polling")(error)),
                None => break,
            }
        }
        Ok(())
    }

    fn commit(&self) -> Result<(), SourceError> {
        let due = due(self.consumer.context());
        if due.count() == 0 {
            return Ok(());
        }
        self.consumer.commit(&due, CommitMode::Async).map_err(SourceError::op("committing offsets"))
    }

    fn settled(&self, messages: &[Message]) {
        self.consumer.context().with_offsets(|offsets| {
            for message in messages {
                if let Some((place, offset)) = place(message) {
                    offsets.settle(&place, offset);
                }
            }
        });
    }

    async fn publish(&self, letter: &Letter, reason: &str) -> Result<(), SourceError> {
        let Some((producer, topic)) = &self.producer else { return Ok(()) };
        let ours = [
            (REASON_HEADER, reason),
            (SOURCE_HEADER, self.consumer.context().source.as_str()),
            (POSITION_HEADER, letter.position.as_str()),
        ];
        let theirs = letter.headers.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let headers = theirs
            .chain(ours)
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let record = FutureRecord::<(), [u8]>::to(topic).payload(&letter.body[..]).headers(headers);
        let sent = producer.send(record, TIMEOUT).await;
        sent.map(drop).map_err(|(error, _)| SourceError::op("sending a dead letter")(error))
    }
}

impl Feed for Kafka {
    fn pull(&mut self) -> BoxFuture<'_, Result<Vec<Message>, SourceError>> {
        self.take().boxed()
    }

    fn settle(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>> {
        self.settled(&messages);
        std::future::ready(self.commit()).boxed()
    }

    fn again(&mut self, message: Message, after: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        self.later.push((Instant::now() + after, message));
        std::future::ready(Ok(())).boxed()
    }

    /// Their offsets are not committed, so others get them; what is settled is committed before we leave.
    fn give_back(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>> {
        if messages.is_empty() {
            return std::future::ready(Ok(())).boxed();
        }
        let (consumer, due) = (Arc::clone(&self.consumer), due(self.consumer.context()));
        async move {
            if due.count() == 0 {
                return Ok(());
            }
            let committed = cpu::run(move || consumer.commit(&due, CommitMode::Sync)).await;
            let committed = committed.map_err(SourceError::op("committing offsets"))?;
            committed.map_err(SourceError::op("committing offsets"))
        }
        .boxed()
    }

    fn keep<'a>(&'a mut self, _messages: &'a [Message]) -> BoxFuture<'a, Result<(), SourceError>> {
        std::future::ready(self.idle()).boxed()
    }

    fn keep_every(&self) -> Duration {
        KEEP_EVERY
    }

    fn dead_letter<'a>(&'a mut self, letter: &'a Letter, reason: &'a str) -> BoxFuture<'a, Result<(), SourceError>> {
        self.publish(letter, reason).boxed()
    }

    fn is_connected(&self) -> bool {
        self.consumer.context().up.load(Ordering::Relaxed)
    }

    fn lag(&self) -> Option<u64> {
        u64::try_from(self.consumer.context().lag.load(Ordering::Relaxed)).ok()
    }
}

/// What may be committed.
fn due(group: &Group) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in group.with_offsets(Offsets::due) {
        // Fails only for an offset that is none.
        drop(list.add_partition_offset(&topic, partition, Offset::Offset(offset)));
    }
    list
}

fn place(message: &Message) -> Option<(Place, i64)> {
    match message.ticket {
        Ticket::Kafka { partition, offset } => Some(((message.letter.subject.clone(), partition), offset)),
        Ticket::Nats(_) => None,
    }
}

/// A message in our form; its offset is open from now on.
fn opened(group: &Group, message: &BorrowedMessage<'_>) -> Message {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    group.with_offsets(|offsets| offsets.open((topic.to_owned(), partition), offset));
    group.up.store(true, Ordering::Relaxed);
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let letter = Letter {
        subject: topic.to_owned(),
        position: format!("{topic} {partition} {offset}"),
        headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
        body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        deliveries: 1,
    };
    Message { letter, ticket: Ticket::Kafka { partition, offset } }
}

/// How to reach the brokers.
fn client(source: &Source) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in &source.properties {
        config.set(key, value);
    }
    let protocol = match (source.tls, source.sasl) {
        (false, None) => "plaintext",
        (true, None) => "ssl",
        (false, Some(_)) => "sasl_plaintext",
        (true, Some(_)) => "sasl_ssl",
    };
    config
        .set("bootstrap.servers", source.brokers.join(","))
        .set("client.id", "assize")
        .set("security.protocol", protocol);
    if let Some(sasl) = source.sasl {
        let mechanism = match sasl {
            Sasl::Plain => "PLAIN",
            Sasl::ScramSha256 => "SCRAM-SHA-256",
            Sasl::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
    }
    for (key, secret) in [("sasl.username", &source.secrets.user), ("sasl.password", &source.secrets.password)] {
        if let Some(secret) = secret {
            config.set(key, secret.expose_secret());
        }
    }
    for (key, file) in [
        ("ssl.ca.location", &source.ca_file),
        ("ssl.certificate.location", &source.cert_file),
        ("ssl.key.location", &source.key_file),
    ] {
        if let Some(file) = file {
            config.set(key, file.display().to_string());
        }
    }
    config
}

/// How to read as a member of the group.
fn reader(source: &Source) -> ClientConfig {
    let mut config = client(source);
    if !source.properties.contains_key("auto.offset.reset") {
        // A new group begins at what is there, not at what comes next.
        config.set("auto.offset.reset", "earliest");
    }
    config
        .set("group.id", source.shared_name())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("statistics.interval.ms", "5000")
        .set("queued.max.messages.kbytes", (source.batch_bytes_max / 1024).to_string());
    config
}

/// Looks at the topics.
pub(super) async fn look(source: &Source) -> Result<Look, SourceError> {
    let (config, topics) = (client(source), source.topics.clone());
    let found = cpu::run(move || -> Result<Look, SourceError> {
        let consumer: BaseConsumer = config.create().map_err(SourceError::op("setting up the Kafka client"))?;
        let mut partitions = 0;
        for topic in &topics {
            let metadata =
                consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(SourceError::op("asking the brokers"))?;
            let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
            match found {
                Some(found) => partitions += found.partitions().len(),
                None => return Ok(Look { ok: false, detail: format!("there is no topic `{topic}`; make it") }),
            }
        }
        Ok(Look { ok: true, detail: format!("{} with {partitions} partitions", topics.join(", ")) })
    });
    found.await.map_err(SourceError::op("looking at Kafka"))?
}
