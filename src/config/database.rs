//! Section `database`: the Postgres that holds all state.
//!
//! Its rule: no URL means a private cluster, which the program starts itself. The URL is a secret, since it holds a password.

use super::{Ambient, ConfigError, at_least_one};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Section `database`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host/database`; `DATABASE_URL` wins over it. None = a private cluster.
    #[serde(skip_serializing)]
    pub url: Option<SecretString>,
    /// Another database on that server, or in the private cluster, than the one in the address: `assize_demo` is the demo's.
    pub name: Option<String>,
    /// Whether `serve` brings the tables up to date at start.
    pub migrate: bool,
    /// Most connections of this process.
    pub connections_max: u32,
    /// How long to wait for a free connection, in milliseconds.
    pub acquire_ms_max: u64,
    /// Folder of the private cluster.
    pub private_dir: PathBuf,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            name: None,
            migrate: true,
            connections_max: 10,
            acquire_ms_max: 10_000,
            private_dir: PathBuf::from(".assize"),
        }
    }
}

impl Database {
    pub(super) fn apply(&mut self, ambient: &Ambient) {
        if let Some(url) = ambient.secret("DATABASE_URL") {
            self.url = Some(url);
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("database.connections_max", self.connections_max.into())?;
        let is_plain = |name: &String| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        if self.name.as_ref().is_some_and(|name| !is_plain(name)) {
            return Err(ConfigError::invalid("database.name", "must be letters, digits, _ and -"));
        }
        if let Some(url) = &self.url {
            let text = url.expose_secret();
            if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
                let problem = "must begin with postgres:// (as in postgres://user:password@host:5432/assize); \
                               unset DATABASE_URL to use a private Postgres";
                return Err(ConfigError::invalid("database.url", problem));
            }
        }
        Ok(())
    }
}
