//! Checks one source: which keys its kind needs and which say nothing for it.
//!
//! Called by `config::sources`. Its rule: each problem names the key and the remedy; that files and variables are there is seen when the
//! source connects, since a process without the role `ingest` needs neither.

use super::{Sasl, Source, SourceKind, subject_fits};

/// A key and what is wrong with it.
type Problem = (&'static str, String);

/// Properties that are ours to set, because the guarantees hang on them.
const OUR_PROPERTIES: &[&str] = &[
    "enable.auto.commit",
    "enable.auto.offset.store",
    "group.id",
    "bootstrap.servers",
    "metadata.broker.list",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
];

/// What NATS and Kafka take for one message unless told otherwise.
const BYTES_MIN: usize = 1024 * 1024;

pub(super) fn check(source: &Source) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if source.name.is_empty() || source.name.len() > 64 || !source.name.chars().all(plain) {
        return wrong("name", "must be 1 to 64 letters, digits, `_`, `-` or `.`");
    }
    bounds(source)?;
    if source.cert_file.is_some() != source.key_file.is_some() {
        return wrong("key_file", "belongs with cert_file; give both or neither");
    }
    if !source.tls && (source.ca_file.is_some() || source.cert_file.is_some()) {
        return wrong("tls", "must be true where ca_file or cert_file is given");
    }
    if source.user_env.is_some() != source.password_env.is_some() {
        return wrong("password_env", "belongs with user_env; give both or neither");
    }
    if source.headers.values().any(String::is_empty) {
        return wrong("headers", "must give each field the name of a header");
    }
    match source.kind {
        SourceKind::Nats => nats(source),
        SourceKind::Kafka => kafka(source),
    }
}

fn wrong(field: &'static str, problem: impl Into<String>) -> Result<(), Problem> {
    Err((field, problem.into()))
}

fn bounds(source: &Source) -> Result<(), Problem> {
    if !(1..=10_000).contains(&source.batch_messages_max) {
        return wrong("batch_messages_max", "must be 1 to 10000");
    }
    if source.batch_bytes_max < BYTES_MIN {
        return wrong("batch_bytes_max", format!("must be at least {BYTES_MIN}, the size of a usual message"));
    }
    if !(1..=32).contains(&source.parallel) {
        return wrong("parallel", "must be 1 to 32");
    }
    if source.deliver_max < 2 {
        return wrong("deliver_max", "must be at least 2: a message is delivered again after any crash");
    }
    if source.retry_ms == 0 || source.retry_ms_max < source.retry_ms {
        return wrong("retry_ms_max", "must not be below retry_ms, which must be at least 1");
    }
    if source.ack_wait_ms.is_some_and(|ms| ms < 1_000) {
        return wrong("ack_wait_ms", "must be at least 1000");
    }
    Ok(())
}

/// Keys that were given and say nothing for this kind.
fn foreign(kind: SourceKind, keys: &[(&'static str, bool)]) -> Result<(), Problem> {
    match keys.iter().find(|(_, given)| *given) {
        Some((key, _)) => wrong(key, format!("says nothing for kind = \"{}\"; leave it out", kind.as_str())),
        None => Ok(()),
    }
}

fn nats(source: &Source) -> Result<(), Problem> {
    foreign(
        SourceKind::Nats,
        &[
            ("brokers", !source.brokers.is_empty()),
            ("topics", !source.topics.is_empty()),
            ("group", source.group.is_some()),
            ("sasl", source.sasl.is_some()),
            ("properties", !source.properties.is_empty()),
        ],
    )?;
    if source.url.is_some() && source.url_env.is_some() {
        return wrong("url_env", "says the same as url; give one of them");
    }
    match &source.url {
        Some(url) if url.contains('@') => {
            return wrong("url", "must not hold user and password; put the address into a variable, and give url_env");
        }
        // Without any the address is that of NATS_URL, which is read later.
        Some(url) if url.split(',').any(|one| one.trim().is_empty()) => return wrong("url", "has an empty address"),
        _ => {}
    }
    let word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || ".*>/\\".contains(c));
    match &source.stream {
        None => return wrong("stream", "is missing; name the stream that holds the messages"),
        Some(stream) if !word(stream) => return wrong("stream", "must have no `.`, `*`, `>`, `/` or white space"),
        Some(_) => {}
    }
    if !word(source.shared_name()) {
        return wrong("durable", "must have no `.`, `*`, `>`, `/` or white space");
    }
    let blank = |text: &String| text.is_empty() || text.contains(char::is_whitespace);
    if source.subject.as_ref().is_some_and(blank) || source.formats.iter().any(|rule| blank(&rule.subject)) {
        return wrong("subject", "must be a subject without white space");
    }
    if source.dead_letter.as_ref().is_some_and(|to| blank(to) || to.contains(['*', '>'])) {
        return wrong("dead_letter", "must be one subject, without wildcards and white space");
    }
    if let (Some(own), Some(to)) = (&source.subject, &source.dead_letter)
        && subject_fits(own, to)
    {
        return wrong("dead_letter", format!("fits subject `{own}`, so what is parked would come back for ever"));
    }
    let ways = [&source.user_env, &source.token_env, &source.nkey_env, &source.credentials_env];
    if ways.iter().filter(|way| way.is_some()).count() > 1 {
        return wrong("credentials_env", "is one of several ways to sign in; give one of them");
    }
    Ok(())
}

fn kafka(source: &Source) -> Result<(), Problem> {
    foreign(
        SourceKind::Kafka,
        &[
            ("url", source.url.is_some()),
            ("url_env", source.url_env.is_some()),
            ("stream", source.stream.is_some()),
            ("subject", source.subject.is_some()),
            ("durable", source.durable.is_some()),
            ("ack_wait_ms", source.ack_wait_ms.is_some()),
            ("token_env", source.token_env.is_some()),
            ("nkey_env", source.nkey_env.is_some()),
            ("credentials_env", source.credentials_env.is_some()),
        ],
    )?;
    if !cfg!(feature = "kafka") {
        return wrong("kind", "this program was built without Kafka; build it with `cargo build --features kafka`");
    }
    if source.brokers.is_empty() {
        return wrong("brokers", "is missing; write [\"host:9092\"]");
    }
    if source.topics.is_empty() {
        return wrong("topics", "is missing; the Collector's default is [\"otlp_spans\"]");
    }
    if let Some(topic) = source.dead_letter.as_ref().filter(|to| source.topics.contains(to)) {
        return wrong("dead_letter", format!("`{topic}` is read by this source, so it would come back for ever"));
    }
    if source.sasl.is_some() != source.user_env.is_some() {
        return wrong("sasl", "belongs with user_env and password_env; give all or none");
    }
    if source.sasl == Some(Sasl::Plain) && !source.tls {
        return wrong("sasl", "plain shows the password to the network; set tls = true or use scram-sha-256");
    }
    for key in source.properties.keys() {
        if OUR_PROPERTIES.contains(&key.as_str()) {
            return wrong("properties", format!("`{key}` is set by other keys of this section; leave it out"));
        }
        if ["password", "secret", "key.pem"].iter().any(|word| key.contains(word)) {
            return wrong("properties", format!("`{key}` is a secret, and secrets do not stand in files"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(more: &str) -> String {
        let text = format!("name = \"a\"\nformat = \"native\"\n{more}");
        match toml::from_str::<Source>(&text) {
            Ok(source) => check(&source).map_or_else(|(field, why)| format!("{field}: {why}"), |()| String::new()),
            Err(error) => crate::config::nearest::explain(error.message()),
        }
    }

    #[test]
    fn mistakes_name_the_key_and_the_remedy() {
        let nats = "kind = \"nats\"\nurl = \"nats://host\"\nstream = \"S\"\n";
        assert_eq!(problem(nats), "");
        for (more, words) in [
            ("kind = \"natz\"", "did you mean `nats`"),
            ("kind = \"nats\"", "stream: is missing"),
            ("kind = \"nats\"\nstream = \"a.b\"", "stream: must have no"),
            ("kind = \"nats\"\nstream = \"S\"\nurl = \"nats://u:p@host\"", "url: must not hold user and password"),
            ("kind = \"nats\"\nstream = \"S\"\nstraem = \"S\"", "did you mean `stream`"),
            ("kind = \"kafka\"\nurl = \"x\"", "url: says nothing for kind = \"kafka\""),
        ] {
            assert!(problem(more).contains(words), "{more}: {}", problem(more));
        }
        for (more, words) in [
            ("topics = [\"t\"]", "topics: says nothing for kind = \"nats\""),
            ("durable = \"a.b\"", "durable: must have no"),
            ("subject = \"a.>\"\ndead_letter = \"a.dead\"", "would come back for ever"),
            ("dead_letter = \"a.>\"", "dead_letter: must be one subject"),
            ("user_env = \"A\"", "password_env: belongs with user_env"),
            ("token_env = \"A\"\nnkey_env = \"B\"", "credentials_env: is one of several"),
            ("ca_file = \"ca.pem\"", "tls: must be true"),
            ("tls = true\ncert_file = \"c.pem\"", "key_file: belongs with cert_file"),
            ("batch_messages_max = 0", "batch_messages_max: must be 1 to 10000"),
            ("batch_bytes_max = 1000", "batch_bytes_max: must be at least"),
            ("parallel = 33", "parallel: must be 1 to 32"),
            ("deliver_max = 1", "deliver_max: must be at least 2"),
            ("retry_ms = 10\nretry_ms_max = 5", "retry_ms_max: must not be below"),
            ("ack_wait_ms = 10", "ack_wait_ms: must be at least"),
            ("headers = { tenat = \"x\" }", "did you mean `tenant`"),
        ] {
            let found = problem(&format!("{nats}{more}"));
            assert!(found.contains(words), "{more}: {found}");
        }
    }

    #[cfg(not(feature = "kafka"))]
    #[test]
    fn a_program_without_kafka_says_so() {
        let found = problem("kind = \"kafka\"\nbrokers = [\"h:9092\"]\ntopics = [\"t\"]");
        assert!(found.contains("cargo build --features kafka"), "{found}");
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn mistakes_about_kafka_are_named() {
        let kafka = "kind = \"kafka\"\nbrokers = [\"h:9092\"]\ntopics = [\"t\"]\n";
        assert_eq!(problem(kafka), "");
        for (more, words) in [
            ("dead_letter = \"t\"", "would come back for ever"),
            ("sasl = \"plain\"", "sasl: belongs with user_env"),
            ("sasl = \"plain\"\nuser_env = \"A\"\npassword_env = \"B\"", "set tls = true"),
            ("properties = { \"enable.auto.commit\" = \"true\" }", "is set by other keys"),
            ("properties = { \"sasl.password\" = \"x\" }", "is a secret"),
        ] {
            let found = problem(&format!("{kafka}{more}"));
            assert!(found.contains(words), "{more}: {found}");
        }
    }
}
