//! PagerDuty's Events API v2: trigger, acknowledge and resolve, under one dedup key an alert.
//!
//! Its rules are the API's: a summary of 1,024 characters, severities critical, error, warning and info, the routing key in the
//! body. Whatever is told twice is one incident there, by its dedup key.

use super::{ChannelError, Parts, send};
use crate::domain::alert::incident::ChangeKind;
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::alert::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

const URL: &str = "https://events.pagerduty.com/v2/enqueue";
const SUMMARY_CHARS_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct PagerDuty {
    http: reqwest::Client,
    url: SecretString,
    key: SecretString,
}

impl PagerDuty {
    pub fn new(parts: &Parts<'_>) -> Result<Self, ChannelError> {
        let key = parts.secret(parts.channel.key_env.as_ref(), parts.channel.secrets.key.as_ref())?;
        // The configuration demands `key_env` for this kind.
        let key =
            key.ok_or_else(|| ChannelError::Unset { channel: parts.name.to_owned(), variable: "key_env".to_owned() })?;
        Ok(Self { http: parts.http.clone(), url: parts.address(URL)?, key })
    }
}

impl Channel for PagerDuty {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        let mut event = event(notice);
        event["routing_key"] = json!(self.key.expose_secret());
        Box::pin(async move { send(self.http.post(self.url.expose_secret()).json(&event), "PagerDuty").await })
    }
}

/// The event, without its routing key.
fn event(notice: &Notice) -> Value {
    let action = match notice.change.kind {
        ChangeKind::Acknowledged => "acknowledge",
        ChangeKind::Resolved => "resolve",
        ChangeKind::Opened | ChangeKind::Joined | ChangeKind::Escalated | ChangeKind::Repeated => "trigger",
    };
    let mut event = json!({"event_action": action, "dedup_key": notice.dedup_key()});
    if action != "trigger" {
        return event;
    }
    let alert = &notice.alert;
    let lead = alert.lead();
    let details: Map<String, Value> =
        text::facts(notice).into_iter().map(|(name, fact)| (name.to_owned(), json!(fact))).collect();
    let test = if notice.test { "TEST: " } else { "" };
    let summary: String = format!("{test}{}", text::title(alert)).chars().take(SUMMARY_CHARS_MAX).collect();
    let stream = |key: &str| lead.and_then(|f| f.stream.get(key)).map(|v| text::plain(v));
    let mut details = Value::Object(details);
    details["delivery_id"] = json!(notice.id);
    event["payload"] = json!({
        "summary": summary,
        "source": stream("environment").unwrap_or_else(|| "assize".to_owned()),
        "severity": alert.severity,
        "timestamp": alert.since(),
        "component": stream("feature"),
        "group": lead.and_then(|f| f.rubric.as_deref()),
        "class": lead.map(|f| f.kind),
        "custom_details": details,
    });
    event["client"] = json!("Assize");
    if let Some(url) = notice.links.alert(alert.id) {
        event["client_url"] = json!(url);
    }
    let links = [("runbook", lead.and_then(|f| f.runbook.clone()).filter(|r| r.starts_with("http")))];
    let links: Vec<Value> =
        links.into_iter().filter_map(|(text, href)| Some(json!({"href": href?, "text": text}))).collect();
    event["links"] = json!(links);
    event
}
