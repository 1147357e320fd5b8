//! One request to one OpenAI-compatible endpoint.
//!
//! Made by `judges`. Its rule: exactly one HTTP request a call, and no text of the request or the reply in any error, since
//! errors are logged and stored. The way not taken: the client library async-openai, of whose types and retries nothing
//! could be used (ADR 17), and which took a sixth of a call's time.

use super::headers;
use super::pacer::{Limits, Pacer};
use super::wire::{Completion, body};
use crate::config::Judge;
use crate::domain::chat::{BoxFuture, ChatError, ChatModel, ChatReply, ChatRequest};
use crate::domain::rung::Parameter;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// An endpoint and model.
#[derive(Debug)]
pub struct OpenAiModel {
    http: reqwest::Client,
    url: reqwest::Url,
    headers: HeaderMap,
    judge: Judge,
    timeout: Duration,
    pacer: Arc<Pacer>,
}

/// Why a model cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No HTTP client.
    #[error("cannot make an HTTP client for judge {judge}")]
    Http {
        /// The judge.
        judge: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A header that HTTP does not allow.
    #[error("judges.{judge}.headers: `{header}` is not a valid header")]
    Header {
        /// The judge.
        judge: String,
        /// The header's name.
        header: String,
    },
    /// A base URL that is none.
    #[error("judges.{judge}.base_url is not a URL; write it as https://host/v1")]
    Url {
        /// The judge.
        judge: String,
    },
}

impl OpenAiModel {
    /// Sets up the endpoint of judge `name`. What its replies advertise about limits goes to `pacer`.
    ///
    /// # Errors
    /// When there are no TLS roots, or the URL, a header or the key is invalid.
    pub fn new(name: &str, judge: &Judge, pacer: Arc<Pacer>) -> Result<Self, ClientError> {
        let timeout = Duration::from_millis(judge.timeout_ms());
        let http = crate::runtime::http::client(timeout)
            .map_err(|source| ClientError::Http { judge: name.to_owned(), source })?;
        let base = judge.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
        let url = reqwest::Url::parse(&format!("{base}/chat/completions"))
            .map_err(|_| ClientError::Url { judge: name.to_owned() })?;
        Ok(Self { http, url, headers: headers_of(name, judge)?, judge: judge.clone(), timeout, pacer })
    }

    async fn ask_once(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        // Nearly always enough, so that the text is written once and not moved again and again as it grows.
        let mut written = Vec::with_capacity(request.bytes() + request.bytes() / 8 + 1024);
        serde_json::to_writer(&mut written, &body(&self.judge, request))
            .expect("text and numbers can be written as JSON");
        let sent = self.http.post(self.url.clone()).headers(self.headers.clone()).body(written).send().await;
        let response = sent.map_err(|e| self.broken(&e))?;
        let limits = headers::limits(response.headers());
        if limits != Limits::default() {
            self.pacer.advertised(limits);
        }
        let status = response.status();
        let retry_after = headers::retry_after(response.headers());
        let bytes = response.bytes().await.map_err(|e| self.broken(&e))?;
        if !status.is_success() {
            return Err(refusal(status.as_u16(), retry_after, &serde_json::from_slice(&bytes).unwrap_or_default()));
        }
        let reply: Completion = serde_json::from_slice(&bytes)
            .map_err(|_| ChatError::Unreadable("the reply is not a chat completion".to_owned()))?;
        reply.read().ok_or_else(|| ChatError::Unreadable("the reply has no choices".to_owned()))
    }

    fn broken(&self, error: &reqwest::Error) -> ChatError {
        if error.is_timeout() {
            ChatError::Timeout(self.timeout)
        } else if error.is_connect() {
            ChatError::Unreachable("cannot connect".to_owned())
        } else {
            ChatError::Unreachable("the connection broke".to_owned())
        }
    }
}

/// The headers of every request: the judge's own win over ours.
pub(super) fn headers_of(name: &str, judge: &Judge) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &judge.api_key {
        let invalid = |_| ClientError::Header { judge: name.to_owned(), header: "authorization".to_owned() };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).map_err(invalid)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (header, value) in &judge.headers {
        let invalid = || ClientError::Header { judge: name.to_owned(), header: header.clone() };
        let key = HeaderName::from_bytes(header.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

impl ChatModel for OpenAiModel {
    fn ask<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatReply, ChatError>> {
        Box::pin(self.ask_once(request))
    }
}

/// What a status that is not 2xx means.
pub(super) fn refusal(status: u16, retry_after: Option<Duration>, body: &Value) -> ChatError {
    match status {
        429 => {
            // A spent quota is also a 429, but waiting does not bring money.
            let code = code_of(body);
            if code == "insufficient_quota" {
                ChatError::Unusable { status, code }
            } else {
                ChatError::RateLimited { retry_after }
            }
        }
        401..=404 => ChatError::Unusable { status, code: code_of(body) },
        408 | 409 | 500..=599 => ChatError::Server { status, retry_after },
        _ => {
            let text = |path: &str| body.pointer(path).and_then(Value::as_str);
            let message =
                text("/error/message").or_else(|| text("/message")).or_else(|| text("/detail")).unwrap_or_default();
            let too_long =
                code_of(body) == "context_length_exceeded" || message.to_lowercase().contains("context length");
            match Parameter::named_in(text("/error/param"), message) {
                _ if too_long => ChatError::TooLong,
                Some(parameter) if matches!(status, 400 | 422) => ChatError::RefusedParameter { status, parameter },
                _ => {
                    let code = code_of(body);
                    // Servers that say no more than this refuse a form that they do not know, as a rule.
                    let vague = matches!(status, 400 | 422)
                        && text("/error/param").is_none()
                        && matches!(
                            code.as_str(),
                            "no code" | "invalid_request_error" | "BadRequestError" | "bad_request"
                        );
                    ChatError::Rejected { status, code, vague }
                }
            }
        }
    }
}

/// The provider's code or type for an error, if it is a plain word; its message may quote the prompt and is not kept. A
/// number only repeats the status.
fn code_of(body: &Value) -> String {
    let plain = |c: &&str| {
        c.len() <= 64
            && c.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && !c.chars().all(|c| c.is_ascii_digit())
            && *c != "None"
    };
    let places = ["/error/code", "/error/type", "/code", "/type"];
    let code = places.iter().find_map(|path| body.pointer(path)?.as_str().filter(plain));
    code.unwrap_or("no code").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn codes_are_plain_words() {
        let code = |body: Value| code_of(&body);
        assert_eq!(code(json!({"error": {"code": "400", "type": "no_db_connection"}})), "no_db_connection");
        assert_eq!(code(json!({"error": {"code": "it says: my secret", "type": null}})), "no code");
    }

    #[test]
    fn a_terse_refusal_is_vague_and_a_telling_one_is_not() {
        let vague = |body: Value| matches!(refusal(400, None, &body), ChatError::Rejected { vague: true, .. });
        assert!(vague(json!({"error": {"message": "Invalid request body", "type": "invalid_request_error"}})));
        assert!(vague(json!("bad")));
        assert!(!vague(json!({"error": {"message": "no", "code": "model_not_loaded"}})));
        assert!(!vague(json!({"error": {"message": "no", "param": "messages", "type": "invalid_request_error"}})));
    }
}
