//! A deployment: what changed in an application, and when.
//!
//! Reported through `server`, or noted by `pipeline::deployments` from traces; alerts name the nearest. Its rule: the id is a hash of what
//! it is about, so that telling us twice changes nothing.

use super::ids::{event_id, storable};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a deployment changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deployed {
    /// A service's version.
    Service,
    /// A prompt's version.
    Prompt,
    /// The model that a feature or service uses.
    Model,
}

impl Deployed {
    /// The name used on every wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Prompt => "prompt",
            Self::Model => "model",
        }
    }

    /// What has that name; a service where the name is unknown, which the table's check rules out.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "prompt" => Self::Prompt,
            "model" => Self::Model,
            _ => Self::Service,
        }
    }
}

/// A change of an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its id.
    pub id: Uuid,
    /// What changed.
    pub what: Deployed,
    /// The service, the prompt, or the feature or service that uses the model.
    pub name: String,
    /// Where.
    pub environment: Option<String>,
    /// The version, or the model's name.
    pub version: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Where to read more.
    pub link: Option<String>,
    /// Whether it was only seen in traces, not reported.
    pub seen: bool,
}

impl Deployment {
    /// One that somebody reports. The same service, environment, version and time give the same one.
    #[must_use]
    pub fn reported(service: &str, version: &str, environment: Option<&str>, at: DateTime<Utc>) -> Self {
        let made = Self {
            id: Uuid::nil(),
            what: Deployed::Service,
            name: storable(service).into_owned(),
            environment: environment.map(|e| storable(e).into_owned()),
            version: storable(version).into_owned(),
            at,
            link: None,
            seen: false,
        };
        Self { id: event_id(Uuid::nil(), &format!("{}\u{1f}{}", made.key(), at.timestamp_micros())), ..made }
    }

    /// One that is first seen in a trace, whenever that was.
    #[must_use]
    pub fn seen(what: Deployed, name: &str, version: &str, environment: Option<&str>, at: DateTime<Utc>) -> Self {
        let made = Self { what, seen: true, ..Self::reported(name, version, environment, at) };
        Self { id: event_id(Uuid::nil(), &format!("seen\u{1f}{}", made.key())), ..made }
    }

    fn key(&self) -> String {
        let environment = self.environment.as_deref().unwrap_or_default();
        format!("{}\u{1f}{}\u{1f}{environment}\u{1f}{}", self.what.as_str(), self.name, self.version)
    }
}
