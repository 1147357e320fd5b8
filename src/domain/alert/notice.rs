//! A change of an alert on its way to one channel, and the channel as a seam.
//!
//! Made by `pipeline::notify`, told by `sinks::alerts`. Its rule: a notice has a stable id, which every payload carries, so that a
//! receiver can tell a repetition from news. The way not taken: payloads stored when the change happens; they would be old
//! when a channel comes back.

use super::incident::{Alert, Change, Merged};
use super::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::fmt::{Debug, Write};
use std::time::Duration;
use uuid::Uuid;

/// Where traces and alerts can be looked at: URLs with `{id}` in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Of a trace.
    pub trace_url: Option<String>,
    /// Of an alert.
    pub alert_url: Option<String>,
}

impl Links {
    /// Where the trace can be looked at.
    #[must_use]
    pub fn trace(&self, id: &str) -> Option<String> {
        self.trace_url.as_ref().map(|url| url.replace("{id}", &escaped(id)))
    }

    /// Where the alert can be looked at.
    #[must_use]
    pub fn alert(&self, id: Uuid) -> Option<String> {
        self.alert_url.as_ref().map(|url| url.replace("{id}", &id.to_string()))
    }
}

/// An id as a part of a URL: what is not plain is written in per cent (RFC 3986, unreserved characters).
fn escaped(id: &str) -> String {
    id.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String can be written");
        }
        out
    })
}

/// What one channel is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Stable: the same change and channel give the same id.
    pub id: Uuid,
    /// What happened.
    pub change: Change,
    /// The alert, as it is now.
    pub alert: Alert,
    /// Where to look.
    pub links: Links,
    /// Whether judges' reasons may be told.
    pub content: bool,
    /// Now.
    pub at: DateTime<Utc>,
    /// Whether it only tries the channel.
    pub test: bool,
}

impl Notice {
    /// The alert's name for receivers that keep state: the same for all of its changes.
    #[must_use]
    pub fn dedup_key(&self) -> String {
        format!("assize-{}", self.alert.id)
    }

    /// The notice as JSON: what the generic webhook sends, and what its templates see.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "type": format!("alert.{}", self.change.kind.as_str()),
            "test": self.test,
            "timestamp": self.change.at,
            "by": self.change.by,
            "why": self.change.why,
            "dedup_key": self.dedup_key(),
            "title": text::title(&self.alert),
            "text": text::text(self),
            "url": self.links.alert(self.alert.id),
            "alert": shown(&self.alert, self.content, &self.links),
        })
    }
}

/// An alert as JSON for programs: with its title, start and links; judges' reasons only with `content`.
#[must_use]
pub fn shown(alert: &Alert, content: bool, links: &Links) -> Value {
    let findings: Vec<Value> = alert.findings.iter().map(|merged| finding(merged, content, links)).collect();
    json!({
        "id": alert.id,
        "state": alert.state,
        "severity": alert.severity,
        "title": text::title(alert),
        "since": alert.since(),
        "opened_at": alert.opened_at,
        "updated_at": alert.updated_at,
        "resolved_at": alert.resolved_at,
        "rubrics": alert.rubrics(),
        "url": links.alert(alert.id),
        "findings": findings,
        "changes": alert.changes,
    })
}

fn finding(merged: &Merged, content: bool, links: &Links) -> Value {
    let mut value = serde_json::to_value(merged).unwrap_or_default();
    for example in value["examples"].as_array_mut().into_iter().flatten() {
        let link = example["trace_id"].as_str().and_then(|id| links.trace(id));
        if let Some(map) = example.as_object_mut() {
            if !content {
                map.remove("reason");
            }
            if let Some(link) = link {
                map.insert("url".to_owned(), json!(link));
            }
        }
    }
    value
}

/// Somewhere people are told of alerts.
pub trait Channel: Debug + Send + Sync {
    /// Tells it, once; what became of it. The text of an error holds neither secrets nor URLs.
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery>;

    /// How often an alert that is not resolved has to be told again, silently, because the receiver forgets.
    fn refresh(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::incident::ChangeKind;
    use super::super::incident::tests::alert;
    use super::*;

    /// A notice of the example alert.
    pub(crate) fn notice(kind: ChangeKind) -> Notice {
        let alert = alert();
        let change = Change { kind, ..alert.changes[0].clone() };
        Notice {
            id: alert.delivery_id(change.number, "test"),
            at: change.at,
            change,
            alert,
            links: Links {
                trace_url: Some("https://assize.example/traces/{id}".to_owned()),
                alert_url: Some("https://assize.example/alerts/{id}".to_owned()),
            },
            content: false,
            test: false,
        }
    }

    #[test]
    fn ids_cannot_break_a_url() {
        let links = notice(ChangeKind::Opened).links;
        assert_eq!(links.trace("a/b?c d"), Some("https://assize.example/traces/a%2Fb%3Fc%20d".to_owned()));
        assert_eq!(Links::default().trace("a"), None);
    }

    #[test]
    fn json_has_reasons_only_with_content() {
        let mut notice = notice(ChangeKind::Opened);
        assert!(!notice.json().to_string().contains("SECRET-REASON"));
        assert!(notice.json()["alert"]["findings"][0]["examples"][0]["url"].is_string());
        notice.content = true;
        assert!(notice.json().to_string().contains("SECRET-REASON"));
    }
}
