//! One request to one OpenAI-compatible endpoint, through async-openai.
//!
//! Made by `judges`. Its rule: exactly one HTTP request a call, and no text of the request or the reply in any error, since
//! errors are logged and stored. The library's executor is replaced by a service of our own, because its default retries
//! by itself, drops `Retry-After`, and logs error bodies, which may quote the prompt.

use crate::config::Judge;
use crate::domain::chat::{BoxFuture, ChatError, ChatModel, ChatReply, ChatRequest};
use crate::domain::message::Usage;
use crate::domain::rung::{Parameter, Rung};
use crate::domain::span::normal_finish_reason;
use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
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
    /// Sets up the endpoint of judge `name`.
    ///
    /// # Errors
    /// When there are no TLS roots or a header is invalid.
    pub fn new(name: &str, judge: &Judge) -> Result<Self, ClientError> {
        let timeout = Duration::from_millis(judge.timeout_ms);
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
        let client = Client::build(http.clone(), config).with_http_service(OneRequest { http });
        Ok(Self { client, judge: judge.clone(), timeout })
    }

    /// The body of a chat completion request.
    fn body(&self, request: &ChatRequest) -> Value {
        let messages: Vec<Value> =
            request.messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
        let mut body = json!({"model": self.judge.model, "messages": messages});
        let refused = |parameter| request.traits.refused.contains(&parameter);
        if let Some(temperature) = self.judge.temperature.filter(|_| !refused(Parameter::Temperature)) {
            body["temperature"] = json!(temperature);
        }
        // OpenAI's newer models refuse the old name, most compatible servers know only the old one; whichever is refused
        // gives way to the other, and if both are, no limit is sent.
        let official = self.judge.base_url.as_deref().is_some_and(|url| url.contains("api.openai.com"));
        let (old, new) =
            ((Parameter::MaxTokens, "max_tokens"), (Parameter::MaxCompletionTokens, "max_completion_tokens"));
        let order = if official { [new, old] } else { [old, new] };
        if let Some((_, name)) = order.into_iter().find(|(parameter, _)| !refused(*parameter)) {
            body[name] = json!(request.output_tokens_max);
        }
        if let Some((name, schema)) = &request.schema {
            match request.traits.rung {
                Rung::JsonSchema => {
                    let format = json!({"name": name, "strict": true, "schema": schema});
                    body["response_format"] = json!({"type": "json_schema", "json_schema": format});
                }
                Rung::Tool => {
                    let function = json!({"name": name, "description": "Gives the verdict.", "parameters": schema});
                    body["tools"] = json!([{"type": "function", "function": function}]);
                    body["tool_choice"] = json!({"type": "function", "function": {"name": name}});
                }
                Rung::JsonObject => body["response_format"] = json!({"type": "json_object"}),
                Rung::JsonText | Rung::LabelText => {}
            }
        }
        body
    }

    async fn ask_once(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let body = self.body(request);
        let chat = self.client.chat();
        let reply = tokio::time::timeout(self.timeout, chat.create_byot::<_, Value>(body))
            .await
            .map_err(|_| ChatError::Timeout(self.timeout))?
            .map_err(|e| self.error(e))?;
        read(&reply).ok_or_else(|| ChatError::Unreadable("the reply has no choices".to_owned()))
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

/// Reads a chat completion, tolerantly: compatible servers leave out what they like.
fn read(reply: &Value) -> Option<ChatReply> {
    let choice = reply.get("choices")?.get(0)?;
    let message = choice.get("message")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let usage = reply.get("usage");
    let count = |path: &str| usage.and_then(|u| u.pointer(path)).and_then(Value::as_u64).unwrap_or(0);
    let called = message.pointer("/tool_calls/0/function/arguments");
    Some(ChatReply {
        content: text(message.get("content")).or_else(|| text(called)).unwrap_or_default(),
        refusal: text(message.get("refusal")).filter(|r| !r.is_empty()),
        finish_reason: choice.get("finish_reason").and_then(Value::as_str).and_then(normal_finish_reason),
        model: text(reply.get("model")).unwrap_or_default(),
        usage: Usage {
            input_tokens: count("/prompt_tokens"),
            output_tokens: count("/completion_tokens"),
            cached_input_tokens: count("/prompt_tokens_details/cached_tokens"),
            reasoning_tokens: count("/completion_tokens_details/reasoning_tokens"),
        },
    })
}

/// Sends a request once; an answer that is not 2xx becomes a [`ChatError`] here, where its headers still are.
#[derive(Debug, Clone)]
struct OneRequest {
    http: reqwest::Client,
}

impl tower::Service<HttpRequestFactory> for OneRequest {
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = BoxFuture<'static, Result<reqwest::Response, OpenAIError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let http = self.http.clone();
        Box::pin(async move {
            let request = factory.build().await?;
            let response = http.execute(request).await.map_err(OpenAIError::Reqwest)?;
            if response.status().is_success() {
                return Ok(response);
            }
            Err(OpenAIError::Boxed(Box::new(refused(response).await)))
        })
    }
}

async fn refused(response: reqwest::Response) -> ChatError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    match status {
        429 => {
            // A spent quota is also a 429, but waiting does not bring money.
            let code = error_code(response).await;
            if code == "insufficient_quota" {
                ChatError::Unusable { status, code }
            } else {
                ChatError::RateLimited { retry_after }
            }
        }
        401..=404 => ChatError::Unusable { status, code: error_code(response).await },
        408 | 409 | 500..=599 => ChatError::Server { status, retry_after },
        _ => {
            let body: Value = response.json().await.unwrap_or_default();
            let text = |path: &str| body.pointer(path).and_then(Value::as_str);
            let message =
                text("/error/message").or_else(|| text("/message")).or_else(|| text("/detail")).unwrap_or_default();
            let too_long =
                code_of(&body) == "context_length_exceeded" || message.to_lowercase().contains("context length");
            match Parameter::named_in(text("/error/param"), message) {
                _ if too_long => ChatError::TooLong,
                Some(parameter) if matches!(status, 400 | 422) => ChatError::RefusedParameter { status, parameter },
                _ => ChatError::Rejected { status, code: code_of(&body) },
            }
        }
    }
}

/// The provider's code or type for an error, if it is a plain word; its message may quote the prompt and is not kept.
async fn error_code(response: reqwest::Response) -> String {
    code_of(&response.json().await.unwrap_or_default())
}

fn code_of(body: &Value) -> String {
    let code = ["/error/code", "/error/type", "/code", "/type"].iter().find_map(|path| body.pointer(path)?.as_str());
    let plain =
        |c: &&str| c.len() <= 64 && c.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    code.filter(plain).unwrap_or("no code").to_owned()
}

/// `Retry-After-Ms`, or `Retry-After` in seconds.
fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    Duration::try_from_secs_f64(text("retry-after")?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_reply_is_read() {
        let reply = read(&json!({"choices": [{"message": {"content": "x"}}]})).expect("a choice is enough");
        assert_eq!((reply.content.as_str(), reply.usage.input_tokens), ("x", 0));
        assert_eq!(read(&json!({"choices": []})), None);
        let tool =
            json!({"choices": [{"message": {"content": null, "tool_calls": [{"function": {"arguments": "{}"}}]}}]});
        assert_eq!(read(&tool).expect("a choice").content, "{}");
    }

    #[test]
    fn retry_after_is_read_in_its_forms() {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("retry-after", "2".parse().expect("valid"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(2)));
        headers.insert("retry-after-ms", "1500".parse().expect("valid"));
        assert_eq!(retry_after(&headers), Some(Duration::from_millis(1500)));
        headers.insert("retry-after-ms", "-1".parse().expect("valid"));
        assert_eq!(retry_after(&headers), None);
    }
}
