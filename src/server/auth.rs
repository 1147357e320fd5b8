//! Bearer tokens with scopes.
//!
//! A layer on the routes that need one; pages take a cookie in a token's place. Its rule: the hash of what is given is compared
//! with the hash of every token in constant time, so the time it takes tells neither a token nor which one fits; with none
//! configured everybody is let in, which `config` allows on the loopback only. The way not taken: sessions, users.

use super::problem::Problem;
use super::{Shared, label_pages};
use crate::config::{Ambient, Config, ConfigError, Scope};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Cookie of the pages.
pub(super) const PAGE_COOKIE: &str = "assize_labels";

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    tokens: Vec<Known>,
}

/// A token, by its hash.
#[derive(Debug, Clone)]
struct Known {
    hash: [u8; 32],
    scopes: Vec<Scope>,
}

impl Known {
    fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn page_key(hash: &[u8]) -> String {
    hex::encode(Sha256::digest([b"label pages".as_slice(), hash].concat()))
}

impl Guard {
    /// Takes the tokens from the environment.
    ///
    /// # Errors
    /// When a configured token's variable is not set, or its value cannot be a token.
    pub fn new(config: &Config, ambient: &Ambient) -> Result<Self, ConfigError> {
        let secrets = config.server.secrets(ambient)?;
        let known = |(secret, token): &(secrecy::SecretString, &crate::config::Token)| Known {
            hash: digest(secret.expose_secret()),
            scopes: token.scopes.clone(),
        };
        Ok(Self { tokens: secrets.iter().map(known).collect() })
    }

    /// Whether no token is configured.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What a page's cookie holds for a token with the scope `label`: neither the token nor what it could be known by.
    pub(super) fn page_key(&self, token: &str) -> Option<String> {
        self.check(Some(token), Scope::Label).ok()?;
        Some(page_key(&digest(token)))
    }

    /// Whether a cookie opens the pages.
    fn opens_pages(&self, key: &str) -> bool {
        let labels = self.tokens.iter().filter(|known| known.may(Scope::Label));
        let fits = |known: &Known| page_key(&known.hash).as_bytes().ct_eq(key.as_bytes());
        labels.fold(Choice::from(0), |any, known| any | fits(known)).into()
    }

    /// The token that was given; all are compared, whichever fits.
    fn known(&self, token: &str) -> Option<&Known> {
        let given = digest(token);
        let mut found = u64::MAX;
        for (number, known) in (0_u64..).zip(&self.tokens) {
            found.conditional_assign(&number, known.hash.ct_eq(&given));
        }
        self.tokens.get(usize::try_from(found).ok()?)
    }

    /// `Ok` when the token allows it, else the status to answer with.
    fn check(&self, token: Option<&str>, scope: Scope) -> Result<(), StatusCode> {
        if self.is_open() {
            return Ok(());
        }
        let known = self.known(token.ok_or(StatusCode::UNAUTHORIZED)?).ok_or(StatusCode::UNAUTHORIZED)?;
        if known.may(scope) { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let token = header.and_then(|h| h.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token.trim())
}

/// The token of a request to a door of traces, which clients of other services give in their own ways: the secret key of
/// Langfuse's basic authentication, the key of Datadog's header. Nowhere else: browsers send basic authentication by themselves.
fn ingest_token(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = bearer(headers) {
        return Some(token.to_owned());
    }
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some((_, pair)) =
        header.and_then(|h| h.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("basic"))
    {
        let decoded = base64::engine::general_purpose::STANDARD.decode(pair.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        return text.split_once(':').map(|(_, secret)| secret.to_owned());
    }
    headers.get("dd-api-key").and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// Lets people to the pages: by cookie or token; where none is configured, whoever asks for the loopback by its name.
pub(super) async fn require_page(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let (headers, guard) = (request.headers(), &shared.guard);
    let own = is_same_origin(headers);
    // A name of somebody else's that leads to the loopback (DNS rebinding) would have the same origin.
    let named = !guard.is_open() || host(headers).is_some_and(is_loopback);
    if !named || (request.method() != Method::GET && own == Some(false)) {
        let why = "This form was sent from another site. Open /labels by the service's own address and try again.";
        return label_pages::refused(StatusCode::FORBIDDEN, why);
    }
    let cookie = cookie(headers).is_some_and(|key| guard.opens_pages(key));
    let by_cookie = cookie && (request.method() == Method::GET || own == Some(true));
    let signing_in = request.uri().path() == "/labels/sign-in";
    if by_cookie || signing_in || guard.check(bearer(headers), Scope::Label).is_ok() {
        return next.run(request).await;
    }
    label_pages::sign_in_form(None)
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|v| v.to_str().ok())
}

/// `localhost:4318`, `127.0.0.1`, `[::1]:4318`.
fn is_loopback(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// Whether a request is from our own pages; `None` when it does not say, as requests of programs do not.
fn is_same_origin(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return Some(matches!(site, "same-origin" | "none"));
    }
    let origin = text("origin")?;
    Some(host(headers).is_some_and(|host| origin.split_once("://").is_some_and(|(_, from)| from == host)))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|line| line.split(';'));
    all.filter_map(|pair| pair.trim().split_once('=')).find(|(name, _)| *name == PAGE_COOKIE).map(|(_, key)| key)
}

pub(super) async fn require(State((shared, scope)): State<(Shared, Scope)>, request: Request, next: Next) -> Response {
    let token = match scope {
        Scope::Ingest => ingest_token(request.headers()),
        _ => bearer(request.headers()).map(str::to_owned),
    };
    let Err(status) = shared.guard.check(token.as_deref(), scope) else {
        return next.run(request).await;
    };
    let forbidden = status == StatusCode::FORBIDDEN;
    let reason = if forbidden { "forbidden" } else { "unauthenticated" };
    shared.app.bench.metrics.requests_refused.with_label_values(&[reason]).inc();
    if forbidden {
        return Problem::new(status, "the token does not have the scope that this needs").into_response();
    }
    let mut response = Problem::new(status, "send `Authorization: Bearer TOKEN`").into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(tokens: &[(&str, Scope)]) -> Guard {
        let known = |(token, scope): &(&str, Scope)| Known { hash: digest(token), scopes: vec![*scope] };
        Guard { tokens: tokens.iter().map(known).collect() }
    }

    #[test]
    fn a_token_opens_its_scopes_only() {
        let guard = guard(&[("t", Scope::Ingest), ("a", Scope::Admin)]);
        assert_eq!(guard.check(Some("t"), Scope::Ingest), Ok(()));
        assert_eq!(guard.check(Some("t"), Scope::Read), Err(StatusCode::FORBIDDEN));
        assert_eq!(guard.check(Some("x"), Scope::Ingest), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(guard.check(None, Scope::Ingest), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(guard.check(Some("a"), Scope::Read), Ok(()));
        assert_eq!(Guard::default().check(None, Scope::Admin), Ok(()));
    }

    #[test]
    fn clients_of_other_services_give_tokens_in_their_ways() {
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header"));
            ingest_token(&headers)
        };
        let basic = base64::engine::general_purpose::STANDARD.encode("pk:secret");
        assert_eq!(with("authorization", &format!("Basic {basic}")).as_deref(), Some("secret"));
        assert_eq!(with("authorization", "Bearer t").as_deref(), Some("t"));
        assert_eq!(with("dd-api-key", "k").as_deref(), Some("k"));
        assert_eq!(with("authorization", "Basic !"), None);
    }

    #[test]
    fn a_cookie_is_no_token_and_opens_pages_only() {
        let guard = guard(&[("l", Scope::Label), ("r", Scope::Read)]);
        let key = guard.page_key("l").expect("it has the scope");
        assert!(guard.opens_pages(&key) && !guard.opens_pages("l"));
        assert_eq!(guard.page_key("r"), None);
        assert_eq!(guard.check(Some(&key), Scope::Label), Err(StatusCode::UNAUTHORIZED));
    }

    #[test]
    fn other_sites_and_other_names_are_told_apart() {
        for (host, is) in
            [("localhost:4318", true), ("127.0.0.1", true), ("[::1]:1", true), ("evil.example:4318", false)]
        {
            assert_eq!(is_loopback(host), is, "{host}");
        }
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(k, v)| (header::HeaderName::from_static(k), header::HeaderValue::from_static(v)))
                .collect()
        };
        assert_eq!(is_same_origin(&headers(&[("host", "a:1"), ("origin", "http://a:1")])), Some(true));
        assert_eq!(is_same_origin(&headers(&[("host", "a:1"), ("origin", "https://b")])), Some(false));
        assert_eq!(is_same_origin(&headers(&[("host", "a:1"), ("origin", "null")])), Some(false));
        assert_eq!(is_same_origin(&headers(&[("sec-fetch-site", "cross-site")])), Some(false));
        assert_eq!(is_same_origin(&headers(&[("host", "a:1")])), None);
    }
}
