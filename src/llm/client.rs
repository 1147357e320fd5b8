//! One request to one OpenAI-compatible endpoint, through async-openai.
//!
//! Made by `judges`. Its rule: exactly one HTTP request a call, and no text of the request or the reply in any error, since
//! errors are logged and stored. The library's executor is replaced by a service of our own, because its default retries
//! by itself, drops `Retry-After`, and logs error bodies, which may quote the prompt.

use crate::config::Judge;
use crate::domain::chat::{BoxFuture, ChatError, ChatModel, ChatReply, ChatRequest};
use crate::domain::rung::Parameter;
use crate::llm::headers;
use crate::llm::pacer::{Limits, Pacer};
use crate::llm::wire::{Completion, body};
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// An endpoint and model.
#[derive(Debug)]
pub struct OpenAiModel {
    client: Client<OpenAIConfig>,
    judge: Judge,
    timeout: Duration,
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
}

impl OpenAiModel {
    /// Sets up the endpoint of judge `name`. What its replies advertise about limits goes to `pacer`.
    ///
    /// # Errors
    /// When there are no TLS roots or a header is invalid.
    pub fn new(name: &str, judge: &Judge, pacer: Arc<Pacer>) -> Result<Self, ClientError> {
        let timeout = Duration::from_millis(judge.timeout_ms());
        let http = crate::runtime::http::client(timeout)
            .map_err(|source| ClientError::Http { judge: name.to_owned(), source })?;
        let mut config = OpenAIConfig::new()
            .with_api_base(judge.base_url.as_deref().unwrap_or_default().trim_end_matches('/'))
            .with_api_key(judge.api_key.as_ref().map_or("none", |key| key.expose_secret()));
        for (header, value) in &judge.headers {
            let invalid = || ClientError::Header { judge: name.to_owned(), header: header.clone() };
            let key = reqwest::header::HeaderName::from_bytes(header.as_bytes()).map_err(|_| invalid())?;
            config = config.with_header(key, value.as_str()).map_err(|_| invalid())?;
        }
        let client = Client::build(http.clone(), config).with_http_service(OneRequest { http, pacer });
        Ok(Self { client, judge: judge.clone(), timeout })
    }

    async fn ask_once(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let body = body(&self.judge, request);
        let chat = self.client.chat();
        let reply = tokio::time::timeout(self.timeout, chat.create_byot::<_, Completion>(body))
            .await
            .map_err(|_| ChatError::Timeout(self.timeout))?
            .map_err(|e| self.error(e))?;
        reply.read().ok_or_else(|| ChatError::Unreadable("the reply has no choices".to_owned()))
    }

    fn error(&self, error: OpenAIError) -> ChatError {
        match error {
            OpenAIError::Boxed(inner) => match inner.downcast::<ChatError>() {
                Ok(own) => *own,
                Err(_) => ChatError::Unreachable("the request failed".to_owned()),
            },
            OpenAIError::Reqwest(e) if e.is_timeout() => ChatError::Timeout(self.timeout),
            OpenAIError::Reqwest(e) if e.is_connect() => ChatError::Unreachable("cannot connect".to_owned()),
            OpenAIError::Reqwest(_) => ChatError::Unreachable("the connection broke".to_owned()),
            // Its text quotes the reply, which may quote the trace.
            OpenAIError::JSONDeserialize(..) => ChatError::Unreadable("the reply is not JSON".to_owned()),
            _ => ChatError::Unreadable("the reply is not a chat completion".to_owned()),
        }
    }
}

impl ChatModel for OpenAiModel {
    fn ask<'a>(&'a self, request: &'a ChatRequest) -> BoxFuture<'a, Result<ChatReply, ChatError>> {
        Box::pin(self.ask_once(request))
    }
}

/// Sends a request once; an answer that is not 2xx becomes a [`ChatError`] here, where its headers still are.
#[derive(Debug, Clone)]
struct OneRequest {
    http: reqwest::Client,
    pacer: Arc<Pacer>,
}

impl tower::Service<HttpRequestFactory> for OneRequest {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = BoxFuture<'static, Result<reqwest::Response, OpenAIError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let (http, pacer) = (self.http.clone(), Arc::clone(&self.pacer));
        Box::pin(async move {
            let request = factory.build().await?;
            let response = http.execute(request).await.map_err(OpenAIError::Reqwest)?;
            let limits = headers::limits(response.headers());
            if limits != Limits::default() {
                pacer.advertised(limits);
            }
            if response.status().is_success() {
                return Ok(response);
            }
            Err(OpenAIError::Boxed(Box::new(refused(response).await)))
        })
    }
}

async fn refused(response: reqwest::Response) -> ChatError {
    let status = response.status().as_u16();
    let retry_after = headers::retry_after(response.headers());
    let body: Value = response.json().await.unwrap_or_default();
    refusal(status, retry_after, &body)
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
