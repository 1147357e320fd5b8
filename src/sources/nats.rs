//! NATS JetStream: a durable pull consumer that all replicas share.
//!
//! Used by `sources::connect`. Its rules: a message is acknowledged one by one and only when told so; the server is never asked to give
//! up by itself (`max_deliver`), since that loses a message without a word. An acknowledgement that gets lost costs a second
//! delivery, which ingest takes for what it is. The way not taken: a push consumer, which sends on while we cannot store.

use super::{Feed, Letter, Look, Message, POSITION_HEADER, REASON_HEADER, SOURCE_HEADER, SourceError, Ticket};
use crate::config::{Source, subject_fits};
use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::AckKind;
use async_nats::jetstream::stream::{RetentionPolicy, Stream};
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, HeaderMap, rustls};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use secrecy::ExposeSecret;
use std::time::Duration;
use tokio::time::Instant;

/// How long one pull waits for a first message.
const WAIT: Duration = Duration::from_secs(1);

/// How long anything else may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server is asked how much waits.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What headers may add to a message's size.
const HEADERS_BYTES: usize = 64 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Nats {
    name: String,
    context: Context,
    consumer: PullConsumer,
    batch: (usize, usize),
    ack_wait: Duration,
    dead_letter: Option<String>,
    lag: Option<u64>,
    counted_at: Option<Instant>,
}

impl Nats {
    /// Connects, and makes the consumer unless it is there.
    ///
    /// # Errors
    /// When the server does not answer, or has no such stream.
    pub async fn connect(source: &Source) -> Result<Self, SourceError> {
        let context = context(source).await?;
        let stream = stream(&context, source).await?;
        let wanted = pull::Config {
            durable_name: Some(source.shared_name().to_owned()),
            description: Some("traces for Assize".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: source.ack_wait(),
            // All replicas together; each has `parallel` batches in hand.
            max_ack_pending: i64::try_from(source.batch_messages_max * 64).unwrap_or(i64::MAX),
            filter_subject: source.subject.clone().unwrap_or_default(),
            ..pull::Config::default()
        };
        let made = stream.get_or_create_consumer(source.shared_name(), wanted).await;
        let consumer = made.map_err(SourceError::op("making the durable consumer"))?;
        let config = &consumer.cached_info().config;
        if config.ack_policy != AckPolicy::Explicit {
            let text = format!(
                "consumer `{}` was made by somebody else, and does not wait for acknowledgements (ack_policy explicit); \
                 give this source another `durable`",
                source.shared_name()
            );
            return Err(SourceError::Setup(text));
        }
        let wanted_subject = source.subject.as_deref().unwrap_or_default();
        if config.filter_subject != wanted_subject {
            let text = format!(
                "consumer `{}` is there already and has the subject `{}`, not `{wanted_subject}`; delete it, or give this \
                 source another `durable`",
                source.shared_name(),
                config.filter_subject
            );
            return Err(SourceError::Setup(text));
        }
        // A single message larger than what is asked for would never be sent, and block all others.
        let largest = context.client().server_info().max_payload + HEADERS_BYTES;
        let ack_wait = if config.ack_wait.is_zero() { source.ack_wait() } else { config.ack_wait };
        Ok(Self {
            name: source.name.clone(),
            context,
            consumer,
            batch: (source.batch_messages_max, source.batch_bytes_max.max(largest)),
            ack_wait,
            dead_letter: source.dead_letter.clone(),
            lag: None,
            counted_at: None,
        })
    }

    async fn take(&mut self) -> Result<Vec<Message>, SourceError> {
        if self.counted_at.is_none_or(|at| at.elapsed() > COUNT_EVERY) {
            let info = within(TIMEOUT, self.consumer.get_info()).await?;
            self.lag = Some(info.map_err(SourceError::op("asking about the consumer"))?.num_pending);
            self.counted_at = Some(Instant::now());
        }
        let asked = self.consumer.fetch().max_messages(self.batch.0).max_bytes(self.batch.1).expires(WAIT).messages();
        let mut batch =
            within(TIMEOUT, asked).await?.map_err(SourceError::op("asking for messages"))?.take(self.batch.0);
        let mut messages = Vec::new();
        // The batch ends itself: at the latest when the server has not answered for five seconds after `WAIT`.
        while let Some(next) = batch.next().await {
            match next {
                Ok(message) => messages.push(self.message(message)?),
                // A batch that is full in bytes ends with an error; what it held is good.
                Err(_) if !messages.is_empty() => break,
                Err(error) => return Err(SourceError::op("taking messages")(error)),
            }
        }
        Ok(messages)
    }

    fn message(&mut self, message: jetstream::Message) -> Result<Message, SourceError> {
        let info = message.info().map_err(SourceError::op("reading a message's place"))?;
        self.lag = Some(info.pending);
        let position = format!("{} {}", info.stream, info.stream_sequence);
        let deliveries = u32::try_from(info.delivered).unwrap_or(u32::MAX);
        let (message, acker) = message.split();
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers.flat_map(|(name, values)| values.iter().map(|v| (name.to_string(), v.to_string())));
        let letter = Letter {
            subject: message.subject.to_string(),
            position,
            headers: headers.collect(),
            body: message.payload,
            deliveries,
        };
        Ok(Message { letter, ticket: Ticket::Nats(Box::new(acker)) })
    }

    async fn answer(&self, messages: &[Message], kind: AckKind) -> Result<(), SourceError> {
        for message in messages {
            match &message.ticket {
                Ticket::Nats(acker) => {
                    acker.ack_with(kind).await.map_err(SourceError::op("answering for a message"))?;
                }
                // No feed is handed another's messages.
                #[cfg(feature = "kafka")]
                Ticket::Kafka { .. } => {}
            }
        }
        Ok(())
    }

    async fn publish(&self, letter: &Letter, reason: &str) -> Result<(), SourceError> {
        let Some(subject) = &self.dead_letter else { return Ok(()) };
        let mut headers = HeaderMap::new();
        for (name, value) in letter.headers.iter().filter(|(name, _)| !name.starts_with("Nats-")) {
            headers.append(name.as_str(), value.as_str());
        }
        headers.insert(REASON_HEADER, reason);
        headers.insert(SOURCE_HEADER, self.name.as_str());
        headers.insert(POSITION_HEADER, letter.position.as_str());
        // The same letter, published twice within the stream's window, is stored once.
        headers.insert("Nats-Msg-Id", format!("{} {}", self.name, letter.position).as_str());
        let sent = self.context.publish_with_headers(subject.clone(), headers, letter.body.clone());
        let stored = within(TIMEOUT, sent).await?.map_err(SourceError::op("sending a dead letter"))?;
        within(TIMEOUT, stored.into_future()).await?.map_err(SourceError::op("storing a dead letter"))?;
        Ok(())
    }
}

impl Feed for Nats {
    fn pull(&mut self) -> BoxFuture<'_, Result<Vec<Message>, SourceError>> {
        self.take().boxed()
    }

    fn settle(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>> {
        async move { self.answer(&messages, AckKind::Ack).await }.boxed()
    }

    fn again(&mut self, message: Message, after: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        async move { self.answer(&[message], AckKind::Nak(Some(after))).await }.boxed()
    }

    fn give_back(&mut self, messages: Vec<Message>) -> BoxFuture<'_, Result<(), SourceError>> {
        async move {
            self.answer(&messages, AckKind::Nak(None)).await?;
            within(TIMEOUT, self.context.client().flush()).await?.map_err(SourceError::op("flushing"))
        }
        .boxed()
    }

    fn keep<'a>(&'a mut self, messages: &'a [Message]) -> BoxFuture<'a, Result<(), SourceError>> {
        self.answer(messages, AckKind::Progress).boxed()
    }

    fn keep_every(&self) -> Duration {
        self.ack_wait / 3
    }

    fn dead_letter<'a>(&'a mut self, letter: &'a Letter, reason: &'a str) -> BoxFuture<'a, Result<(), SourceError>> {
        self.publish(letter, reason).boxed()
    }

    fn is_connected(&self) -> bool {
        self.context.client().connection_state() == State::Connected
    }

    fn lag(&self) -> Option<u64> {
        self.lag
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, SourceError> {
    tokio::time::timeout(time, work).await.map_err(SourceError::op("waiting for the NATS server"))
}

async fn context(source: &Source) -> Result<Context, SourceError> {
    // rustls asks for one when a program has several; who was first is as good.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let setup = |what: &str, error: std::io::Error| {
        SourceError::Setup(format!("{what} of source `{}` cannot be used: {error}", source.name))
    };
    let secrets = &source.secrets;
    let mut options = ConnectOptions::new()
        .name(format!("assize {}", source.name))
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT))
        .require_tls(source.tls);
    if let (Some(user), Some(password)) = (&secrets.user, &secrets.password) {
        options = options.user_and_password(user.expose_secret().to_owned(), password.expose_secret().to_owned());
    }
    if let Some(token) = &secrets.token {
        options = options.token(token.expose_secret().to_owned());
    }
    if let Some(seed) = &secrets.nkey {
        options = options.nkey(seed.expose_secret().to_owned());
    }
    if let Some(text) = &secrets.credentials {
        // The error may quote the text, so it is not shown.
        let unusable =
            |_| SourceError::Setup(format!("credentials_env of source `{}` holds no credentials file", source.name));
        options = options.credentials(text.expose_secret()).map_err(unusable)?;
    }
    if let Some(file) = &source.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(cert), Some(key)) = (&source.cert_file, &source.key_file) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    for file in [&source.ca_file, &source.cert_file, &source.key_file].into_iter().flatten() {
        tokio::fs::metadata(file).await.map_err(|error| setup(&format!("{}", file.display()), error))?;
    }
    let urls = secrets.url.as_ref().map(ExposeSecret::expose_secret).or(source.url.as_deref());
    let urls = urls.ok_or_else(|| {
        SourceError::Setup(format!("source `{}` has no address; set `url`, `url_env` or NATS_URL", source.name))
    })?;
    let urls: Vec<&str> = urls.split(',').map(str::trim).collect();
    let client = within(TIMEOUT, options.connect(&urls)).await?.map_err(SourceError::op("connecting to NATS"))?;
    let mut context = jetstream::new(client);
    context.set_timeout(TIMEOUT);
    Ok(context)
}

async fn stream(context: &Context, source: &Source) -> Result<Stream, SourceError> {
    let name = source.stream.as_deref().unwrap_or_default();
    let mut stream = context.get_stream(name).await.map_err(SourceError::op("looking for the stream"))?;
    let config = &stream.info().await.map_err(SourceError::op("asking about the stream"))?.config;
    let takes = |to: &&String| config.subjects.iter().any(|own| subject_fits(own, to));
    match source.dead_letter.as_ref().filter(|_| source.subject.is_none()).filter(takes) {
        None => Ok(stream),
        Some(to) => {
            let text = format!(
                "dead_letter `{to}` goes into the stream `{name}` itself, so what is parked would come back for ever; \
                 give `subject`, or another stream the subject `{to}`"
            );
            Err(SourceError::Setup(text))
        }
    }
}

/// Looks at stream and consumer.
pub(super) async fn look(source: &Source) -> Result<Look, SourceError> {
    let context = context(source).await?;
    let mut stream = stream(&context, source).await?;
    let kept = stream.info().await.map_err(SourceError::op("asking about the stream"))?.config.retention;
    let mut remarks = Vec::new();
    if kept != RetentionPolicy::Limits && source.dead_letter.is_none() {
        remarks.push("; the stream forgets what is settled, parked messages too: set dead_letter".to_owned());
    }
    if let Some(to) = &source.dead_letter
        && context.stream_by_subject(to.clone()).await.is_err()
    {
        let detail = format!("no stream takes the dead_letter subject `{to}`; make one");
        return Ok(Look { ok: false, detail });
    }
    let name = source.shared_name();
    match stream.consumer_info(name).await {
        Ok(info) => {
            if info.config.max_deliver > 0 {
                let max = info.config.max_deliver;
                remarks.push(format!("; the consumer's own max_deliver {max} drops messages without a word: unset it"));
            }
            let (waiting, in_hand) = (info.num_pending, info.num_ack_pending);
            let detail = format!("consumer {name}: {waiting} messages wait, {in_hand} in hand{}", remarks.concat());
            Ok(Look { ok: info.config.max_deliver <= 0, detail })
        }
        Err(_) => Ok(Look { ok: true, detail: format!("consumer {name} is made at the start{}", remarks.concat()) }),
    }
}
