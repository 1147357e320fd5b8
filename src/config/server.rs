//! Section `server`: where we listen, and who may come in.
//!
//! Its rule: without tokens only the loopback may be listened on, so that nobody exposes prompts by accident. The way not
//! taken: a default token, which everybody would leave in place.

use super::{Ambient, ConfigError, at_least_one};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Section `server`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address of OTLP/HTTP, the API and the operations endpoints.
    pub listen: SocketAddr,
    /// Largest request body, before and after decompression, in bytes.
    pub body_bytes_max: usize,
    /// Who may come in; none = only the loopback may be listened on.
    pub tokens: Vec<Token>,
    /// After SIGTERM, how long work in hand may go on before it is cancelled, in milliseconds.
    pub drain_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4318)),
            body_bytes_max: 64 * 1024 * 1024,
            tokens: Vec::new(),
            drain_ms: 30_000,
        }
    }
}

/// What a token's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send traces.
    Ingest,
    /// Read verdicts and traces.
    Read,
    /// Give labels.
    Label,
    /// Everything.
    Admin,
}

/// A bearer token: its value comes from an environment variable, never from the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who it is for, as shown in logs.
    pub name: String,
    /// Environment variable that holds it.
    pub token_env: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
}

impl Token {
    /// The token itself.
    ///
    /// # Errors
    /// When the variable is not set.
    pub fn secret(&self, ambient: &Ambient) -> Result<SecretString, ConfigError> {
        ambient.secret(&self.token_env).ok_or_else(|| {
            let problem = format!("environment variable {} is not set; set it or remove the token", self.token_env);
            ConfigError::invalid(format!("server.tokens[{}]", self.name), problem)
        })
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        at_least_one("server.body_bytes_max", self.body_bytes_max as u64)?;
        if self.tokens.is_empty() && !self.listen.ip().is_loopback() {
            let problem = format!(
                "{} can be reached from other machines but no token is configured; add [[server.tokens]] or listen on 127.0.0.1",
                self.listen
            );
            return Err(ConfigError::invalid("server.listen", problem));
        }
        Ok(())
    }
}
