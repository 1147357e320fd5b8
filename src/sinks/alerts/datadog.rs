//! Datadog: an event, a service check and the count `llm.eval.alert` for each change; over HTTP with the API key, else as
//! DogStatsD datagrams to the agent.
//!
//! Its rules: the event goes last, since only it would be seen twice if an attempt is repeated (check and point at the same time
//! overwrite themselves); tags from the fixed list; `@` in labels cannot notify anybody. UDP loses silently, so the key is
//! preferred. The way not taken: cadence, which knows neither events nor checks.

use super::{ChannelError, Parts, send};
use crate::config::Datadog as Config;
use crate::domain::alert::Severity;
use crate::domain::alert::incident::State;
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::alert::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use crate::sinks::datadog::names::tag;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the service check.
const CHECK: &str = "llm.eval.quality";
/// Name of the count.
const METRIC: &str = "llm.eval.alert";
const TITLE_CHARS_MAX: usize = 200;
/// Datadog takes 4,000 characters of an event's text; bytes here, so that a datagram fits as well.
const TEXT_BYTES_MAX: usize = 4_000;

/// The way that the configuration gives.
pub(super) fn build(parts: &Parts<'_>, config: &Config) -> Result<Arc<dyn Channel>, ChannelError> {
    let service = config.service.clone();
    if let Some((base, key)) = config.api() {
        return Ok(Arc::new(Api { http: parts.http.clone(), base, key, service }));
    }
    let channel = parts.name.to_owned();
    let Some(url) = &config.dogstatsd_url else { return Err(ChannelError::NoDatadog { channel }) };
    let socket = Socket::open(url).map_err(|source| ChannelError::Statsd { channel, source })?;
    Ok(Arc::new(Statsd { socket, service }))
}

#[derive(Debug)]
struct Api {
    http: reqwest::Client,
    base: String,
    key: SecretString,
    service: String,
}

impl Channel for Api {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        let said = Said::of(notice, &self.service);
        Box::pin(async move {
            let parts = [
                ("/api/v1/check_run", said.check()),
                ("/api/v2/series", said.series()),
                ("/api/v1/events", said.event()),
            ];
            for (path, body) in parts {
                let request =
                    self.http.post(format!("{}{path}", self.base)).header("DD-API-KEY", self.key.expose_secret());
                match send(request.json(&body), "Datadog").await {
                    Delivery::Delivered => {}
                    failed => return failed,
                }
            }
            Delivery::Delivered
        })
    }
}

#[derive(Debug)]
struct Statsd {
    socket: Socket,
    service: String,
}

impl Channel for Statsd {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        let lines = Said::of(notice, &self.service).lines();
        let sent = lines.iter().try_for_each(|line| self.socket.send(line.as_bytes()));
        Box::pin(std::future::ready(match sent {
            Ok(()) => Delivery::Delivered,
            Err(_) => Delivery::Retry { reason: "the statsd socket does not take it".to_owned(), after: None },
        }))
    }
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket, SocketAddr),
    Unix(UnixDatagram, PathBuf),
}

impl Socket {
    fn open(url: &str) -> std::io::Result<Self> {
        if let Some(path) = url.strip_prefix("unix://") {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            return Ok(Self::Unix(socket, path.into()));
        }
        let address = url.trim_start_matches("udp://").trim_end_matches('/');
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:8125") };
        let address =
            address.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("the host has no address"))?;
        let own: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(own)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(socket, address))
    }

    fn send(&self, datagram: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Udp(socket, address) => socket.send_to(datagram, address).map(drop),
            Self::Unix(socket, path) => socket.send_to(datagram, path).map(drop),
        }
    }
}

/// What is said of a notice, in no particular form.
struct Said {
    title: String,
    text: String,
    kind: &'static str,
    status: u8,
    key: String,
    at: DateTime<Utc>,
    tags: Vec<String>,
    change: &'static str,
}

impl Said {
    fn of(notice: &Notice, service: &str) -> Self {
        let alert = &notice.alert;
        let over = alert.state == State::Resolved;
        let (kind, status) = match alert.severity {
            _ if over => ("success", 0),
            Severity::Critical => ("error", 2),
            Severity::Warning => ("warning", 1),
            Severity::Info => ("info", 0),
        };
        let title: String = quiet(&format!("{}: {}", text::heading(notice), text::title(alert)))
            .chars()
            .take(TITLE_CHARS_MAX)
            .collect();
        let mut said = quiet(&text::text(notice));
        let most = (0..=TEXT_BYTES_MAX.min(said.len())).rev().find(|n| said.is_char_boundary(*n)).unwrap_or(0);
        said.truncate(most);
        // Points older than an hour are dropped without a word.
        let at = notice.change.at.max(notice.at - TimeDelta::minutes(50));
        Self {
            title,
            text: said,
            kind,
            status,
            key: notice.dedup_key(),
            at,
            tags: tags(notice, service),
            change: notice.change.kind.as_str(),
        }
    }

    fn check(&self) -> Value {
        json!([{
            "check": CHECK, "host_name": "assize", "status": self.status, "timestamp": self.at.timestamp(),
            "message": self.title, "tags": self.tags,
        }])
    }

    fn series(&self) -> Value {
        json!({"series": [{
            "metric": METRIC, "type": 1, "interval": 1, "tags": self.counted(),
            "points": [{"timestamp": self.at.timestamp(), "value": 1.0}],
        }]})
    }

    fn event(&self) -> Value {
        json!({
            "title": self.title, "text": self.text, "alert_type": self.kind, "aggregation_key": self.key,
            "date_happened": self.at.timestamp(), "tags": self.tags,
        })
    }

    fn counted(&self) -> Vec<String> {
        self.tags.iter().cloned().chain([tag("change", self.change)]).collect()
    }

    /// The three datagrams; a newline is written as two characters, lengths are in bytes of what is sent.
    fn lines(&self) -> [String; 3] {
        let (title, text) = (self.title.replace('\n', "\\n"), self.text.replace('\n', "\\n"));
        let (tags, at) = (self.tags.join(","), self.at.timestamp());
        [
            format!("_sc|{CHECK}|{}|d:{at}|#{tags}|m:{}", self.status, title.replace("m:", "m\\:").replace('|', "/")),
            format!("{METRIC}:1|c|#{}", self.counted().join(",")),
            format!(
                "_e{{{},{}}}:{title}|{text}|d:{at}|k:{}|t:{}|#{tags}",
                title.len(),
                text.len(),
                self.key,
                self.kind
            ),
        ]
    }
}

/// Text that notifies nobody: `@name` in an event does.
fn quiet(text: &str) -> String {
    text.replace('@', "(at)")
}

fn tags(notice: &Notice, service: &str) -> Vec<String> {
    let mut tags = vec![tag("severity", notice.alert.severity.as_str()), tag("evaluator", "assize")];
    tags.extend(notice.alert.rubrics().iter().map(|rubric| tag("eval", rubric)));
    let Some(lead) = notice.alert.lead() else { return tags };
    tags.push(tag("kind", lead.kind.as_str()));
    tags.push(tag("measure", lead.measure.as_str()));
    let step = |what: &str| lead.versions.iter().find(|s| s.what == what).map(|s| s.after.as_str());
    let value = |key: &str| lead.stream.get(key).map(String::as_str);
    let labels = [
        ("env", value("environment")),
        ("service", value("service").or(Some(service))),
        ("version", value("service_version").or_else(|| step("service_version"))),
        ("feature", value("feature")),
        ("prompt_name", value("prompt_name")),
        ("prompt_version", value("prompt_version").or_else(|| step("prompt_version"))),
        ("model", value("model").or_else(|| step("model"))),
    ];
    tags.extend(labels.into_iter().filter_map(|(key, value)| Some(tag(key, value?))));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::incident::ChangeKind;
    use crate::domain::alert::notice::tests::notice;

    #[test]
    fn labels_notify_nobody_and_lengths_are_bytes() {
        let mut notice = notice(ChangeKind::Opened);
        let stream = &mut notice.alert.findings[0].finding.stream;
        stream.insert("feature".to_owned(), "@pagerduty-é|x\n#y".to_owned());
        let said = Said::of(&notice, "assize");
        assert!(!said.event().to_string().contains('@'));
        let [check, count, event] = said.lines();
        assert!([&check, &count, &event].iter().all(|line| !line.contains('\n')), "{check} {count} {event}");
        let (head, body) = event.split_once("}:").expect("a head");
        let (title, text) = head.trim_start_matches("_e{").split_once(',').expect("two lengths");
        let (title, text): (usize, usize) = (title.parse().expect("a number"), text.parse().expect("a number"));
        assert_eq!(&body[title..=title], "|");
        assert!(body[title + 1 + text..].starts_with("|d:"), "{body}");
    }

    #[test]
    fn a_resolution_is_a_success_and_the_check_is_ok() {
        let mut notice = notice(ChangeKind::Resolved);
        notice.alert.state = State::Resolved;
        let said = Said::of(&notice, "assize");
        assert_eq!((said.kind, said.status), ("success", 0));
    }

    #[test]
    fn an_old_change_is_counted_where_datadog_still_takes_it() {
        let mut notice = notice(ChangeKind::Opened);
        notice.at += TimeDelta::hours(9);
        assert_eq!(Said::of(&notice, "assize").at, notice.at - TimeDelta::minutes(50));
    }
}
