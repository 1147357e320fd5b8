//! Bearer tokens with scopes.
//!
//! A layer on the routes that need one. Its rule: tokens are compared by their hashes, so the time it takes tells nothing; with
//! none configured everybody is let in, which `config` allows on the loopback only. The way not taken: sessions, users.

use super::Shared;
use super::problem::Problem;
use crate::config::{Ambient, Config, ConfigError, Scope};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

/// Who may do what.
#[derive(Debug, Default)]
pub struct Guard {
    tokens: Vec<(Vec<u8>, Vec<Scope>)>,
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

impl Guard {
    /// Takes the tokens from the environment.
    ///
    /// # Errors
    /// When a configured token's variable is not set.
    pub fn new(config: &Config, ambient: &Ambient) -> Result<Self, ConfigError> {
        let tokens = config.server.tokens.iter();
        let tokens = tokens.map(|t| Ok((digest(t.secret(ambient)?.expose_secret()), t.scopes.clone())));
        Ok(Self { tokens: tokens.collect::<Result<_, ConfigError>>()? })
    }

    /// Whether no token is configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// `Ok` when the token allows it, else the status to answer with.
    fn check(&self, token: Option<&str>, scope: Scope) -> Result<(), StatusCode> {
        if self.is_open() {
            return Ok(());
        }
        let given = digest(token.ok_or(StatusCode::UNAUTHORIZED)?);
        let known = self.tokens.iter().find(|(hash, _)| *hash == given).ok_or(StatusCode::UNAUTHORIZED)?;
        if known.1.contains(&scope) || known.1.contains(&Scope::Admin) { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
    }
}

pub(super) async fn require(State((shared, scope)): State<(Shared, Scope)>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = header.and_then(|h| h.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    match shared.guard.check(token.map(|(_, token)| token.trim()), scope) {
        Ok(()) => next.run(request).await,
        Err(StatusCode::FORBIDDEN) => {
            Problem::new(StatusCode::FORBIDDEN, "the token does not have the scope that this needs").into_response()
        }
        Err(status) => {
            let mut response = Problem::new(status, "send `Authorization: Bearer TOKEN`").into_response();
            let scheme = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_scopes_only() {
        let guard = Guard { tokens: vec![(digest("t"), vec![Scope::Ingest]), (digest("a"), vec![Scope::Admin])] };
        assert_eq!(guard.check(Some("t"), Scope::Ingest), Ok(()));
        assert_eq!(guard.check(Some("t"), Scope::Read), Err(StatusCode::FORBIDDEN));
        assert_eq!(guard.check(Some("x"), Scope::Ingest), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(guard.check(None, Scope::Ingest), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(guard.check(Some("a"), Scope::Read), Ok(()));
        assert_eq!(Guard::default().check(None, Scope::Admin), Ok(()));
    }
}
