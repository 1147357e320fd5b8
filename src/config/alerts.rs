//! Section `alerts`: channels, who is told of what, and when it may wait.
//!
//! Used by `store::alerts` (routes, quiet hours) and `sinks::alerts`. Its rules: an address or key that is a secret is named by its environment variable;
//! without routes every channel is told everything; a critical alert waits for nothing; judges' reasons stay here unless a channel asks for
//! content. The way not taken: repeating by default, which teaches people to look away.

use super::{Ambient, ConfigError, at_least_one, nearest};
use crate::domain::alert::Severity;
use crate::domain::alert::notice::Links;
use crate::domain::policy::Patterns;
use chrono::{DateTime, Datelike, FixedOffset, NaiveTime, Offset, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Section `alerts`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Where to look at a trace: a URL with `{id}` in it.
    pub trace_url: Option<String>,
    /// Where to look at an alert: a URL with `{id}` in it.
    pub alert_url: Option<String>,
    /// While an alert is open, tell it again every so many hours; none = each change once.
    pub repeat_hours: Option<f64>,
    /// How long one request to a channel may take, in milliseconds.
    pub timeout_ms: u64,
    /// How often an idle process looks for something to tell, in milliseconds.
    pub poll_ms: u64,
    /// How long a claimed notice is ours, in milliseconds.
    pub lease_ms: u64,
    /// First wait after a failed delivery, in milliseconds; doubles, with jitter.
    pub retry_ms: u64,
    /// Longest wait between deliveries, in milliseconds.
    pub retry_ms_max: u64,
    /// Attempts until a notice is given up, and stays visible as dead.
    pub attempts_max: u32,
    /// The channels, by name.
    pub channels: BTreeMap<String, Channel>,
    /// Who is told of what; none = every channel of everything.
    pub routes: Vec<Route>,
    /// When channels are left alone.
    pub quiet_hours: Vec<QuietHours>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            trace_url: None,
            alert_url: None,
            repeat_hours: None,
            timeout_ms: 10_000,
            poll_ms: 1_000,
            lease_ms: 60_000,
            retry_ms: 5_000,
            retry_ms_max: 600_000,
            attempts_max: 20,
            channels: BTreeMap::new(),
            routes: Vec::new(),
            quiet_hours: Vec::new(),
        }
    }
}

/// What a channel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A Slack incoming webhook.
    Slack,
    /// JSON to any address, signed.
    Webhook,
    /// PagerDuty's Events API v2.
    #[serde(rename = "pagerduty")]
    PagerDuty,
    /// Prometheus Alertmanager's API v2.
    Alertmanager,
    /// Event, service check and metric in Datadog, with what `[datadog]` says.
    Datadog,
    /// Text on the standard output.
    Stdout,
}

/// A channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What it speaks.
    pub kind: ChannelKind,
    /// Its address, where that is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Environment variable with its address, where that is a secret (Slack).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
    /// Environment variable with PagerDuty's routing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Environment variable with the secret that webhooks are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
    /// Environment variable with the value of the header `Authorization` (webhook, Alertmanager).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_env: Option<String>,
    /// A minijinja template of a webhook's body, in place of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Whether judges' reasons, which quote traces, are sent along.
    #[serde(default)]
    pub content: bool,
    /// What the variables held.
    #[serde(skip)]
    pub secrets: Secrets,
}

/// What a channel's variables held.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Of `url_env`.
    pub url: Option<SecretString>,
    /// Of `key_env`.
    pub key: Option<SecretString>,
    /// Of `secret_env`.
    pub secret: Option<SecretString>,
    /// Of `authorization_env`.
    pub authorization: Option<SecretString>,
}

/// Who is told of what. All routes that fit an alert count.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Globs over the rubrics of an alert; none = all, alerts without a rubric too.
    pub rubric: Patterns,
    /// Severities; none = all.
    pub severity: Vec<Severity>,
    /// The channels.
    pub channels: Vec<String>,
}

/// When channels are left alone, unless an alert is critical.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// From, as `22:00`.
    pub from: String,
    /// To, as `07:00`; earlier than `from` means the next morning, the same means the whole day.
    pub to: String,
    /// `mon` to `sun` on which they begin; none = every day.
    #[serde(default)]
    pub days: Vec<String>,
    /// As `Europe/Berlin`, `UTC` or `+02:00`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The channels; none = all.
    #[serde(default)]
    pub channels: Vec<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl Alerts {
    pub(super) fn apply(&mut self, ambient: &Ambient) {
        for channel in self.channels.values_mut() {
            let secret = |name: &Option<String>| name.as_ref().and_then(|name| ambient.secret(name));
            channel.secrets = Secrets {
                url: secret(&channel.url_env),
                key: secret(&channel.key_env),
                secret: secret(&channel.secret_env),
                authorization: secret(&channel.authorization_env),
            };
        }
    }

    /// Where to look at traces and alerts.
    #[must_use]
    pub fn links(&self) -> Links {
        Links { trace_url: self.trace_url.clone(), alert_url: self.alert_url.clone() }
    }

    /// The channels that are told of an alert about these rubrics.
    #[must_use]
    pub fn channels_for(&self, rubrics: &[&str], severity: Severity) -> Vec<String> {
        let fits = |route: &&Route| {
            let rubric = route.rubric.is_empty() || rubrics.iter().any(|name| route.rubric.accept(Some(name)));
            rubric && (route.severity.is_empty() || route.severity.contains(&severity))
        };
        let routed = |name: &&String| self.routes.iter().filter(fits).any(|route| route.channels.contains(name));
        self.channels.keys().filter(|name| self.routes.is_empty() || routed(name)).cloned().collect()
    }

    /// When a channel may be told, at the earliest: now, or when its quiet hours are over.
    #[must_use]
    pub fn told_from(&self, channel: &str, severity: Severity, now: DateTime<Utc>) -> DateTime<Utc> {
        if severity == Severity::Critical {
            return now;
        }
        let mine =
            || self.quiet_hours.iter().filter(|q| q.channels.is_empty() || q.channels.iter().any(|c| c == channel));
        let mut at = now;
        // One may end in another; with more than that they never end, and then waiting for ever helps nobody.
        for _ in 0..8 {
            match mine().find_map(|quiet| quiet.end(at)) {
                Some(end) => at = end,
                None => return at,
            }
        }
        at
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("alerts.timeout_ms", self.timeout_ms)?;
        at_least_one("alerts.poll_ms", self.poll_ms)?;
        at_least_one("alerts.attempts_max", self.attempts_max.into())?;
        // A Datadog channel makes three requests.
        if self.lease_ms <= self.timeout_ms.saturating_mul(3) {
            return Err(ConfigError::invalid("alerts.lease_ms", "must be more than three times alerts.timeout_ms"));
        }
        if self.repeat_hours.is_some_and(|h| !(h.is_finite() && h > 0.0)) {
            return Err(ConfigError::invalid("alerts.repeat_hours", "must be above 0; leave it out for no repetition"));
        }
        for (key, url) in [("alerts.trace_url", &self.trace_url), ("alerts.alert_url", &self.alert_url)] {
            if url.as_ref().is_some_and(|u| !is_http(u) || !u.contains("{id}")) {
                return Err(ConfigError::invalid(key, "must begin with http:// or https:// and have {id} in it"));
            }
        }
        for (name, channel) in &self.channels {
            channel
                .check()
                .map_err(|(field, problem)| ConfigError::invalid(format!("alerts.channels.{name}.{field}"), problem))?;
        }
        for (n, route) in self.routes.iter().enumerate() {
            if route.channels.is_empty() {
                return Err(ConfigError::invalid(format!("alerts.routes[{n}].channels"), "names no channel"));
            }
            self.known(&format!("alerts.routes[{n}].channels"), &route.channels)?;
        }
        for (n, quiet) in self.quiet_hours.iter().enumerate() {
            let key = |field: &str| format!("alerts.quiet_hours[{n}].{field}");
            quiet.check().map_err(|(field, problem)| ConfigError::invalid(key(field), problem))?;
            self.known(&key("channels"), &quiet.channels)?;
        }
        Ok(())
    }

    fn known(&self, key: &str, names: &[String]) -> Result<(), ConfigError> {
        match names.iter().find(|name| !self.channels.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(ConfigError::invalid(key, self.unknown_channel(name))),
        }
    }

    /// Says that there is no such channel, and which there are.
    #[must_use]
    pub fn unknown_channel(&self, name: &str) -> String {
        let hint = nearest::nearest(name, self.channels.keys().map(String::as_str))
            .map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
        format!("there is no channel `{name}`{hint}; add [alerts.channels.{name}]")
    }
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

impl Channel {
    /// Whether the keys fit the kind; else the key and what is wrong. That variables are set is seen when the channel is made.
    fn check(&self) -> Result<(), (&'static str, String)> {
        use ChannelKind::{Alertmanager, PagerDuty, Slack, Stdout, Webhook};
        if let Some(url) = &self.url
            && !is_http(url)
        {
            return Err(("url", "must begin with http:// or https://".to_owned()));
        }
        let addressed = self.url.is_some() || self.url_env.is_some();
        match self.kind {
            Slack if !addressed => {
                let problem = "is missing; name the variable that holds the incoming webhook's address";
                return Err(("url_env", problem.to_owned()));
            }
            Webhook | Alertmanager if !addressed => return Err(("url", "is missing; or give url_env".to_owned())),
            PagerDuty if self.key_env.is_none() => {
                return Err(("key_env", "is missing; name the variable that holds the routing key".to_owned()));
            }
            _ => {}
        }
        let addressable = matches!(self.kind, Slack | Webhook | PagerDuty | Alertmanager);
        for (field, given, meant) in [
            ("url", self.url.is_some(), addressable),
            ("url_env", self.url_env.is_some(), addressable),
            ("key_env", self.key_env.is_some(), self.kind == PagerDuty),
            ("secret_env", self.secret_env.is_some(), self.kind == Webhook),
            ("authorization_env", self.authorization_env.is_some(), matches!(self.kind, Webhook | Alertmanager)),
            ("template", self.template.is_some(), self.kind == Webhook),
            ("content", self.content, !matches!(self.kind, Stdout) || self.content),
        ] {
            if given && !meant {
                return Err((field, "says nothing for this kind of channel; leave it out".to_owned()));
            }
        }
        if let Some(template) = &self.template {
            super::template::check(template).map_err(|problem| ("template", problem))?;
        }
        Ok(())
    }
}

impl QuietHours {
    fn check(&self) -> Result<(), (&'static str, String)> {
        for (field, text) in [("from", &self.from), ("to", &self.to)] {
            clock(text).ok_or_else(|| (field, format!("`{text}` is no time of day; write it as 22:00")))?;
        }
        for day in &self.days {
            day.parse::<Weekday>()
                .map_err(|_| ("days", format!("`{day}` is no day; write mon, tue, wed, thu, fri, sat or sun")))?;
        }
        if zone(&self.time_zone).is_some() {
            return Ok(());
        }
        let hint = nearest::nearest(&self.time_zone, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()))
            .map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
        let text = &self.time_zone;
        Err(("time_zone", format!("`{text}` is no time zone{hint}; write it as Europe/Berlin, UTC or +02:00")))
    }

    /// When they end, if `now` is in them.
    fn end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (from, to) = (clock(&self.from)?, clock(&self.to)?);
        match zone(&self.time_zone)? {
            Zone::Named(tz) => self.end_in(&now.with_timezone(&tz), from, to),
            Zone::Fixed(offset) => self.end_in(&now.with_timezone(&offset), from, to),
        }
    }

    fn end_in<T: TimeZone>(&self, now: &DateTime<T>, from: NaiveTime, to: NaiveTime) -> Option<DateTime<Utc>> {
        // They may have begun today, or yesterday and go on over midnight.
        let today = now.date_naive();
        [today, today - TimeDelta::days(1)].into_iter().find_map(|day| {
            let wanted = |name: &String| name.parse::<Weekday>().is_ok_and(|d| d == day.weekday());
            if !self.days.is_empty() && !self.days.iter().any(wanted) {
                return None;
            }
            let last = if to > from { day } else { day + TimeDelta::days(1) };
            let local = now.naive_local();
            (local >= day.and_time(from) && local < last.and_time(to)).then(|| {
                // A time that the change to summer time leaves out is taken with the offset of now.
                let end = last.and_time(to);
                let found = now.timezone().from_local_datetime(&end).latest().map(|t| t.to_utc());
                found.unwrap_or_else(|| (end - now.offset().fix()).and_utc())
            })
        })
    }
}

fn clock(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M").ok()
}

enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

fn zone(text: &str) -> Option<Zone> {
    text.parse().map(Zone::Fixed).ok().or_else(|| text.parse().map(Zone::Named).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Alerts, String> {
        let alerts: Alerts = toml::from_str(text).map_err(|e| nearest::explain(e.message()))?;
        alerts.check().map(|()| alerts).map_err(|e| e.to_string())
    }

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("a valid time").to_utc()
    }

    const CHANNELS: &str =
        "[channels.team]\nkind = \"slack\"\nurl_env = \"A\"\n[channels.pager]\nkind = \"pagerduty\"\nkey_env = \"B\"\n";

    #[test]
    fn mistakes_name_the_key_and_the_remedy() {
        for (text, words) in [
            ("[channels.x]\nkind = \"slak\"", "did you mean `slack`"),
            ("[channels.x]\nkind = \"slack\"\nurl_evn = \"A\"", "did you mean `url_env`"),
            ("[channels.x]\nkind = \"slack\"", "alerts.channels.x.url_env: is missing"),
            ("[channels.x]\nkind = \"pagerduty\"", "alerts.channels.x.key_env: is missing"),
            ("[channels.x]\nkind = \"webhook\"", "alerts.channels.x.url: is missing"),
            ("[channels.x]\nkind = \"webhook\"\nurl = \"ftp://x\"", "must begin with http"),
            ("[channels.x]\nkind = \"stdout\"\nurl = \"http://x\"", "says nothing for this kind"),
            ("[channels.x]\nkind = \"webhook\"\nurl = \"http://x\"\ntemplate = \"{{ a\"", "is no minijinja template"),
            ("trace_url = \"https://x/\"", "{id}"),
            ("repeat_hours = 0.0", "alerts.repeat_hours"),
            ("lease_ms = 1000", "alerts.lease_ms"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        for (more, words) in [
            ("[[routes]]\nchannels = [\"temm\"]", "did you mean `team`"),
            ("[[routes]]\nrubric = \"x\"", "alerts.routes[0].channels"),
            ("[[routes]]\nseverity = [\"critica\"]\nchannels = [\"team\"]", "did you mean `critical`"),
            ("[[quiet_hours]]\nfrom = \"22\"\nto = \"07:00\"", "alerts.quiet_hours[0].from"),
            (
                "[[quiet_hours]]\nfrom = \"22:00\"\nto = \"07:00\"\ntime_zone = \"Europe/Berlni\"",
                "did you mean `Europe/Berlin`",
            ),
            ("[[quiet_hours]]\nfrom = \"22:00\"\nto = \"07:00\"\ndays = [\"funday\"]", "mon, tue"),
        ] {
            let error = parse(&format!("{CHANNELS}{more}")).expect_err(more);
            assert!(error.contains(words), "{more}: {error}");
        }
    }

    #[test]
    fn routes_choose_by_rubric_and_severity() {
        let all = parse(CHANNELS).expect("valid");
        assert_eq!(all.channels_for(&[], Severity::Info), ["pager", "team"], "no routes: everybody");
        let routes = "[[routes]]\nrubric = \"faith*\"\nchannels = [\"team\"]\n[[routes]]\nseverity = [\"critical\"]\nchannels = [\"pager\"]";
        let some = parse(&format!("{CHANNELS}{routes}")).expect("valid");
        assert_eq!(some.channels_for(&["faithfulness"], Severity::Warning), ["team"]);
        assert_eq!(some.channels_for(&["tone", "faithfulness"], Severity::Critical), ["pager", "team"]);
        assert!(some.channels_for(&["tone"], Severity::Warning).is_empty());
        assert!(some.channels_for(&[], Severity::Warning).is_empty());
    }

    #[test]
    fn quiet_hours_end_in_the_morning_of_their_time_zone() {
        let quiet = |more: &str| {
            parse(&format!("{CHANNELS}[[quiet_hours]]\nfrom = \"22:00\"\nto = \"07:00\"\n{more}")).expect("valid")
        };
        let berlin = quiet("time_zone = \"Europe/Berlin\"");
        let from = |alerts: &Alerts, time: &str| alerts.told_from("team", Severity::Warning, at(time));
        assert_eq!(from(&berlin, "2026-11-20T21:30:00Z"), at("2026-11-21T06:00:00Z"), "22:30 in winter");
        assert_eq!(from(&berlin, "2026-07-01T20:30:00Z"), at("2026-07-02T05:00:00Z"), "22:30 in summer");
        assert_eq!(from(&berlin, "2026-11-21T05:59:00Z"), at("2026-11-21T06:00:00Z"));
        assert_eq!(from(&berlin, "2026-11-21T06:00:00Z"), at("2026-11-21T06:00:00Z"));
        let critical = berlin.told_from("team", Severity::Critical, at("2026-11-20T21:30:00Z"));
        assert_eq!(critical, at("2026-11-20T21:30:00Z"), "critical waits for nothing");
        let offset = quiet("time_zone = \"-05:00\"\nchannels = [\"team\"]");
        assert_eq!(from(&offset, "2026-11-21T04:00:00Z"), at("2026-11-21T12:00:00Z"));
        assert_eq!(offset.told_from("pager", Severity::Info, at("2026-11-21T04:00:00Z")), at("2026-11-21T04:00:00Z"));
    }

    #[test]
    fn a_weekend_is_one_stretch() {
        let text = "[[quiet_hours]]\nfrom = \"00:00\"\nto = \"00:00\"\ndays = [\"sat\", \"sun\"]\n[[quiet_hours]]\nfrom = \"18:00\"\nto = \"09:00\"";
        let alerts = parse(&format!("{CHANNELS}{text}")).expect("valid");
        // Friday evening → Monday, nine o'clock.
        let told = alerts.told_from("team", Severity::Warning, at("2026-11-20T19:00:00Z"));
        assert_eq!(told, at("2026-11-23T09:00:00Z"));
    }

    #[test]
    fn secrets_come_from_the_environment_and_are_never_shown() {
        let mut alerts = parse(CHANNELS).expect("valid");
        alerts.apply(&Ambient::of(&[("A", "https://hooks.example/swordfish"), ("B", "swordfish-key")]));
        assert!(alerts.channels["team"].secrets.url.is_some() && alerts.channels["pager"].secrets.key.is_some());
        let shown = format!("{alerts:?}{}", toml::to_string(&alerts).expect("it can be written"));
        assert!(!shown.contains("swordfish"), "{shown}");
    }
}
