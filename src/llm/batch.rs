//! A provider's Batch API: many questions in a file, answered within a day at half the price.
//!
//! Called by `pipeline::batch`. Its rule: a call that fails is not tried again here (handing over takes two), and no text of a
//! question or reply is in an error. Both of a batch's files are read, since an expired one holds answers too. The way not
//! taken: the client library's types, which refuse what compatible servers leave out.

use super::client::{headers_of, refusal};
use super::judges::JudgeHandle;
use super::wire::{Completion, body};
use crate::domain::chat::{ChatError, ChatReply, ChatRequest};
use crate::runtime::http;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::Duration;
use uuid::Uuid;

/// Time for one request of the Batch API; files are large.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// How a batch stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Not ended yet.
    Running(String),
    /// Ended, with these files.
    Ended {
        /// As the provider says: completed, expired, cancelled, failed.
        status: String,
        /// Files with replies, the errors' last.
        files: Vec<String>,
    },
}

/// The body of a chat completion request to a judge.
#[must_use]
pub fn request_body(judge: &JudgeHandle, request: &ChatRequest) -> Value {
    serde_json::to_value(body(&judge.config, request)).unwrap_or_default()
}

/// Reads a reply out of a batch as if it had been asked directly.
///
/// # Errors
/// What its status means.
pub fn read(status: u16, body: &Value) -> Result<ChatReply, ChatError> {
    if !(200..300).contains(&status) {
        return Err(refusal(status, None, body));
    }
    let completion: Completion = serde_json::from_value(body.clone())
        .map_err(|_| ChatError::Unreadable("the reply is not a chat completion".to_owned()))?;
    completion.read().ok_or_else(|| ChatError::Unreadable("the reply has no choices".to_owned()))
}

/// Hands questions over; the provider's id of the batch.
///
/// # Errors
/// When the provider refuses or cannot be reached.
pub async fn begin(judge: &JudgeHandle, questions: &[(Uuid, Value)]) -> Result<String, ChatError> {
    let mut lines = String::new();
    for (id, body) in questions {
        let line = json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let part = reqwest::multipart::Part::text(lines)
        .file_name("assize.jsonl")
        .mime_str("application/jsonl")
        .map_err(|_| ChatError::Unreachable("the file cannot be sent".to_owned()))?;
    let form = reqwest::multipart::Form::new().text("purpose", "batch").part("file", part);
    let file = json_of(call(judge, reqwest::Method::POST, "files")?.multipart(form)).await?;
    let file = id_of(&file)?;
    let wanted = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let batch = json_of(call(judge, reqwest::Method::POST, "batches")?.json(&wanted)).await?;
    id_of(&batch)
}

/// How a batch stands.
///
/// # Errors
/// When the provider refuses or cannot be reached.
pub async fn look(judge: &JudgeHandle, id: &str) -> Result<Standing, ChatError> {
    let batch = json_of(call(judge, reqwest::Method::GET, &format!("batches/{id}"))?).await?;
    let status = batch.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(match status.as_str() {
        "completed" | "expired" | "cancelled" | "failed" => {
            let files = ["output_file_id", "error_file_id"];
            let files = files.iter().filter_map(|key| batch.get(*key)?.as_str().map(str::to_owned)).collect();
            Standing::Ended { status, files }
        }
        _ => Standing::Running(status),
    })
}

/// The replies in a file: question, and status and body as one object.
///
/// # Errors
/// When the provider refuses or cannot be reached.
pub async fn replies(judge: &JudgeHandle, file: &str) -> Result<Vec<(Uuid, Value)>, ChatError> {
    let text = text_of(call(judge, reqwest::Method::GET, &format!("files/{file}/content"))?).await?;
    let reply = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let id = line.get("custom_id")?.as_str()?.parse().ok()?;
        let response = line.get("response").filter(|r| !r.is_null())?;
        Some((id, json!({"status": response.get("status_code")?, "body": response.get("body")?})))
    };
    Ok(text.lines().filter_map(reply).collect())
}

/// Gives a batch up; what it has answered is lost.
///
/// # Errors
/// When the provider refuses or cannot be reached.
pub async fn cancel(judge: &JudgeHandle, id: &str) -> Result<(), ChatError> {
    text_of(call(judge, reqwest::Method::POST, &format!("batches/{id}/cancel"))?).await.map(|_| ())
}

fn call(judge: &JudgeHandle, method: reqwest::Method, path: &str) -> Result<reqwest::RequestBuilder, ChatError> {
    static CLIENT: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| http::client(TIMEOUT).ok()).as_ref();
    let client = client.ok_or_else(|| ChatError::Unreachable("no HTTP client".to_owned()))?;
    let mut headers = headers_of(&judge.name, &judge.config).map_err(|e| ChatError::Unreachable(e.to_string()))?;
    // The library says what kind of body it sends.
    headers.remove(CONTENT_TYPE);
    let base = judge.config.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
    Ok(client.request(method, format!("{base}/{path}")).headers(headers))
}

async fn text_of(request: reqwest::RequestBuilder) -> Result<String, ChatError> {
    let broken = |e: reqwest::Error| {
        if e.is_timeout() {
            ChatError::Timeout(TIMEOUT)
        } else {
            ChatError::Unreachable("the connection failed".to_owned())
        }
    };
    let response = request.send().await.map_err(broken)?;
    let status = response.status().as_u16();
    let text = response.text().await.map_err(broken)?;
    if (200..300).contains(&status) {
        return Ok(text);
    }
    Err(refusal(status, None, &serde_json::from_str(&text).unwrap_or_default()))
}

async fn json_of(request: reqwest::RequestBuilder) -> Result<Value, ChatError> {
    let text = text_of(request).await?;
    serde_json::from_str(&text).map_err(|_| ChatError::Unreadable("the reply is not JSON".to_owned()))
}

fn id_of(object: &Value) -> Result<String, ChatError> {
    let id = object.get("id").and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| ChatError::Unreadable("the reply has no id".to_owned()))
}
