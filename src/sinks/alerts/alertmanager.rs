//! Prometheus Alertmanager's API v2.
//!
//! Its rules are Alertmanager's: an alert is its set of labels, so they are fixed when it opens; it forgets alerts that it
//! does not hear of, so they are told again, and each telling says until when it holds. A resolution ends every severity
//! that the alert had. The way not taken: an end far in the future, which would fire for ever when we stop.

use super::{ChannelError, Parts, send};
use crate::domain::alert::Severity;
use crate::domain::alert::incident::{ChangeKind, State};
use crate::domain::alert::notice::{Channel, Notice};
use crate::domain::alert::text;
use crate::domain::chat::BoxFuture;
use crate::domain::event::Delivery;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often it is told that an alert still holds.
const REFRESH: Duration = Duration::from_secs(5 * 60);

/// How long it holds without hearing of it: three tellings missed.
const HOLDS: TimeDelta = TimeDelta::minutes(20);

#[derive(Debug)]
pub(super) struct Alertmanager {
    http: reqwest::Client,
    url: SecretString,
    authorization: Option<SecretString>,
}

impl Alertmanager {
    pub fn new(parts: &Parts<'_>) -> Result<Self, ChannelError> {
        let base = parts.address("")?;
        let url = format!("{}/api/v2/alerts", base.expose_secret().trim_end_matches("/api/v2/alerts"));
        Ok(Self { http: parts.http.clone(), url: url.into(), authorization: parts.authorization()? })
    }
}

impl Channel for Alertmanager {
    fn tell<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Delivery> {
        let mut request = self.http.post(self.url.expose_secret()).json(&alerts(notice));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.expose_secret());
        }
        Box::pin(send(request, "Alertmanager"))
    }

    fn refresh(&self) -> Option<Duration> {
        Some(REFRESH)
    }
}

/// The alert under its severity, and under each that it had before as ended.
fn alerts(notice: &Notice) -> Vec<Value> {
    let alert = &notice.alert;
    let over = alert.state == State::Resolved || notice.change.kind == ChangeKind::Resolved;
    let now = notice.at;
    let mut had: BTreeSet<Severity> = alert.changes.iter().map(|change| change.severity).collect();
    had.insert(alert.severity);
    had.into_iter()
        .map(|severity| one(notice, severity, if over || severity != alert.severity { now } else { now + HOLDS }))
        .collect()
}

fn one(notice: &Notice, severity: Severity, ends_at: DateTime<Utc>) -> Value {
    let alert = &notice.alert;
    // The first finding, which stays the first: labels must not change.
    let first = alert.findings.first().map(|m| &m.finding);
    let mut labels = json!({
        "alertname": "AssizeQuality",
        "alert_id": alert.id,
        "severity": severity,
    });
    if let Some(rubric) = first.and_then(|f| f.rubric.as_deref()) {
        labels["rubric"] = json!(rubric);
    }
    for key in ["environment", "feature"] {
        if let Some(value) = first.and_then(|f| f.stream.get(key)) {
            labels[key] = json!(text::plain(value));
        }
    }
    let lead = alert.lead();
    let test = if notice.test { "TEST: " } else { "" };
    let mut annotations = json!({
        "summary": format!("{test}{}", text::title(alert)),
        "description": text::text(notice),
        "delivery_id": notice.id,
    });
    if let Some(runbook) = lead.and_then(|f| f.runbook.as_deref()) {
        annotations["runbook_url"] = json!(runbook);
    }
    let mut made = json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": alert.since(),
        "endsAt": ends_at,
    });
    if let Some(url) = notice.links.alert(alert.id) {
        made["generatorURL"] = json!(url);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::notice::tests::notice;

    #[test]
    fn a_more_severe_alert_ends_the_less_severe_one_and_a_resolution_ends_both() {
        let mut notice = notice(ChangeKind::Escalated);
        notice.alert.severity = Severity::Critical;
        let sent = alerts(&notice);
        let ends = |n: usize| sent[n]["endsAt"].as_str().map(str::to_owned);
        assert_eq!((sent.len(), &sent[0]["labels"]["severity"]), (2, &json!("warning")));
        assert_eq!(ends(0), json!(notice.at).as_str().map(str::to_owned));
        assert!(ends(1) > ends(0));
        notice.change.kind = ChangeKind::Resolved;
        assert!(alerts(&notice).iter().all(|a| a["endsAt"] == json!(notice.at)));
    }
}
