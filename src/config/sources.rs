//! Sections `[[sources]]`: brokers that traces are taken from.
//!
//! Used by `sources` (how to reach one) and `pipeline::pull` (how to read what it gives). Its rules: a key of one kind is an error for
//! the other, since it would be believed to work; a password is named by its environment variable. The way not taken: guessing the
//! format from the bytes, which makes a broken message look like one of another format.

mod checks;

use super::{Ambient, ConfigError};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is called in logs, metrics and the table of parked messages.
    pub name: String,
    /// The broker's kind.
    pub kind: SourceKind,
    /// NATS: its addresses, with commas between them; default `NATS_URL`. Without user and password.
    #[serde(default)]
    pub url: Option<String>,
    /// NATS: environment variable with its addresses, which may hold user and password.
    #[serde(default)]
    pub url_env: Option<String>,
    /// NATS: the stream.
    #[serde(default)]
    pub stream: Option<String>,
    /// NATS: only messages with such a subject; may have wildcards.
    #[serde(default)]
    pub subject: Option<String>,
    /// NATS: the durable consumer that all replicas share.
    #[serde(default)]
    pub durable: Option<String>,
    /// Kafka: `host:port` of some brokers.
    #[serde(default)]
    pub brokers: Vec<String>,
    /// Kafka: the topics.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Kafka: the consumer group that all replicas share.
    #[serde(default)]
    pub group: Option<String>,
    /// What the messages are.
    pub format: Format,
    /// What those with a certain subject or topic are; the first that fits counts.
    #[serde(default)]
    pub formats: Vec<FormatRule>,
    /// Tenant of traces that name none.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Headers of messages that say something about all of their spans, and win over what the spans say.
    #[serde(default)]
    pub headers: BTreeMap<HeaderField, String>,
    /// Where parked messages go besides the table: a subject or topic.
    #[serde(default)]
    pub dead_letter: Option<String>,
    /// Messages taken at once at most.
    #[serde(default = "batch_messages_max")]
    pub batch_messages_max: usize,
    /// Bytes taken at once at most.
    #[serde(default = "batch_bytes_max")]
    pub batch_bytes_max: usize,
    /// Batches in hand at the same time.
    #[serde(default = "parallel")]
    pub parallel: usize,
    /// NATS: how long a message may be in hand without a sign of life, in milliseconds.
    #[serde(default)]
    pub ack_wait_ms: Option<u64>,
    /// Deliveries after which a message that still fails is parked.
    #[serde(default = "deliver_max")]
    pub deliver_max: u32,
    /// First wait after a failure, in milliseconds; doubles, with jitter.
    #[serde(default = "retry_ms")]
    pub retry_ms: u64,
    /// Longest wait after a failure, in milliseconds.
    #[serde(default = "retry_ms_max")]
    pub retry_ms_max: u64,
    /// Environment variable with the user's name.
    #[serde(default)]
    pub user_env: Option<String>,
    /// Environment variable with the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// NATS: environment variable with a token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// NATS: environment variable with the seed of an nkey.
    #[serde(default)]
    pub nkey_env: Option<String>,
    /// NATS: environment variable with the text of a credentials file.
    #[serde(default)]
    pub credentials_env: Option<String>,
    /// Whether the connection must be encrypted.
    #[serde(default)]
    pub tls: bool,
    /// PEM file with the authorities to trust; default: those of the machine.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, where the broker asks for one.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Kafka: how user and password are proven.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Kafka: more properties of librdkafka; none that we set ourselves, and no secrets.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// What the variables held.
    #[serde(skip)]
    pub secrets: SourceSecrets,
}

fn batch_messages_max() -> usize {
    500
}

fn batch_bytes_max() -> usize {
    16 * 1024 * 1024
}

fn parallel() -> usize {
    2
}

fn deliver_max() -> u32 {
    20
}

fn retry_ms() -> u64 {
    1_000
}

fn retry_ms_max() -> u64 {
    60_000
}

/// What kind of broker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// NATS JetStream.
    Nats,
    /// Kafka, and what speaks its protocol; only in programs that were built with the feature `kafka`.
    Kafka,
}

impl SourceKind {
    /// Its name in the configuration and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Kafka => "kafka",
        }
    }
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An `ExportTraceServiceRequest` in protobuf: the Collector's encoding `otlp_proto` for traces.
    OtlpProto,
    /// The same in JSON: the Collector's encoding `otlp_json` for traces.
    OtlpJson,
    /// An `ExportLogsServiceRequest` in protobuf.
    OtlpLogsProto,
    /// The same in JSON.
    OtlpLogsJson,
    /// Native JSON: one trace, a list of them, or one a line.
    Native,
}

/// What messages with a certain subject or topic are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRule {
    /// NATS: a subject, which may have wildcards. Kafka: a topic.
    pub subject: String,
    /// What they are.
    pub format: Format,
}

/// What a header can say about spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderField {
    /// The customer.
    Tenant,
    /// The environment.
    Environment,
    /// The service.
    Service,
    /// The feature.
    Feature,
}

/// How user and password are proven to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sasl {
    /// As they are; only with `tls`.
    #[serde(rename = "plain")]
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// What a source's variables held.
#[derive(Debug, Clone, Default)]
pub struct SourceSecrets {
    /// Of `url_env`, else of `NATS_URL`.
    pub url: Option<SecretString>,
    /// Of `user_env`.
    pub user: Option<SecretString>,
    /// Of `password_env`.
    pub password: Option<SecretString>,
    /// Of `token_env`.
    pub token: Option<SecretString>,
    /// Of `nkey_env`.
    pub nkey: Option<SecretString>,
    /// Of `credentials_env`.
    pub credentials: Option<SecretString>,
}

impl Source {
    /// Environment variables that are named and not set; without them it cannot connect.
    #[must_use]
    pub fn unset(&self) -> Vec<&str> {
        let all = [
            (&self.url_env, &self.secrets.url),
            (&self.user_env, &self.secrets.user),
            (&self.password_env, &self.secrets.password),
            (&self.token_env, &self.secrets.token),
            (&self.nkey_env, &self.secrets.nkey),
            (&self.credentials_env, &self.secrets.credentials),
        ];
        all.iter().filter(|(_, held)| held.is_none()).filter_map(|(name, _)| name.as_deref()).collect()
    }

    /// What a message with this subject or topic is.
    #[must_use]
    pub fn format_of(&self, subject: &str) -> Format {
        let fits = |rule: &&FormatRule| match self.kind {
            SourceKind::Nats => subject_fits(&rule.subject, subject),
            SourceKind::Kafka => rule.subject == subject,
        };
        self.formats.iter().find(fits).map_or(self.format, |rule| rule.format)
    }

    /// The durable consumer or consumer group.
    #[must_use]
    pub fn shared_name(&self) -> &str {
        self.durable.as_deref().or(self.group.as_deref()).unwrap_or("assize")
    }

    /// How long a message may be in hand without a sign of life.
    #[must_use]
    pub fn ack_wait(&self) -> Duration {
        Duration::from_millis(self.ack_wait_ms.unwrap_or(60_000))
    }
}

/// Whether a subject fits a pattern of NATS: `*` is one word, `>` at the end is one or more.
#[must_use]
pub fn subject_fits(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(word)) if wanted == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

pub(super) fn apply(sources: &mut [Source], ambient: &Ambient) {
    for source in sources {
        let secret = |name: &Option<String>| name.as_ref().and_then(|name| ambient.secret(name));
        let well_known = || ambient.secret("NATS_URL").filter(|_| source.url.is_none() && source.url_env.is_none());
        source.secrets = SourceSecrets {
            url: secret(&source.url_env).or_else(well_known),
            user: secret(&source.user_env),
            password: secret(&source.password_env),
            token: secret(&source.token_env),
            nkey: secret(&source.nkey_env),
            credentials: secret(&source.credentials_env),
        };
    }
}

pub(super) fn check(sources: &[Source]) -> Result<(), ConfigError> {
    for (n, source) in sources.iter().enumerate() {
        let place = |field: &str| format!("sources[{n}].{field}");
        if sources[..n].iter().any(|other| other.name == source.name) {
            return Err(ConfigError::invalid(place("name"), "must be another for each source"));
        }
        checks::check(source).map_err(|(field, problem)| ConfigError::invalid(place(field), problem))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_fit_as_in_nats() {
        for (pattern, subject, fits) in [
            ("llm.json", "llm.json", true),
            ("llm.*", "llm.json", true),
            ("llm.*", "llm.json.a", false),
            ("llm.>", "llm.json.a", true),
            ("llm.>", "llm", false),
            ("*.json", "llm.json", true),
            ("llm", "llm.json", false),
            ("llm.json", "llm", false),
        ] {
            assert_eq!(subject_fits(pattern, subject), fits, "{pattern} {subject}");
        }
    }

    #[test]
    fn the_first_format_that_fits_counts() {
        let text = "name = \"a\"\nkind = \"nats\"\nurl = \"nats://x\"\nstream = \"S\"\nformat = \"otlp_proto\"\n\
            formats = [{ subject = \"llm.json.>\", format = \"native\" }, { subject = \"llm.>\", format = \"otlp_json\" }]";
        let source: Source = toml::from_str(text).expect("valid");
        assert_eq!(source.format_of("llm.json.a"), Format::Native);
        assert_eq!(source.format_of("llm.x"), Format::OtlpJson);
        assert_eq!(source.format_of("other"), Format::OtlpProto);
    }

    #[test]
    fn nats_url_is_for_sources_that_name_no_address() {
        let text = "name = \"a\"\nkind = \"nats\"\nstream = \"S\"\nformat = \"native\"\n";
        let one: Source = toml::from_str(text).expect("valid");
        let other = Source { url: Some("nats://other".to_owned()), ..one.clone() };
        let mut sources = [one, other];
        apply(&mut sources, &Ambient::of(&[("NATS_URL", "nats://user:swordfish@host")]));
        assert!(sources[0].secrets.url.is_some() && sources[1].secrets.url.is_none());
        assert!(!format!("{sources:?}").contains("swordfish"));
    }
}
