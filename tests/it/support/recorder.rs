//! A receiver of alerts: it records what it is sent, and answers as it is told, once each, then 202.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    pub text: String,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }
}

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    Status(u16),
    /// With `Retry-After`, in seconds.
    Wait(u16, u64),
    /// Never.
    Hang,
}

#[derive(Clone, Default)]
pub struct Recorder {
    requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Recorder {
    /// Starts one; gives its base URL too.
    pub async fn start(answers: &[Answer]) -> (Self, String) {
        let recorder = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let base = super::serve(Router::new().fallback(record).with_state(recorder.clone())).await;
        (recorder, base)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics here").clone()
    }

    /// Waits for so many requests.
    pub async fn wait(&self, count: usize) -> Vec<Request> {
        super::eventually(&format!("{count} requests"), || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

async fn record(State(recorder): State<Recorder>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body).into_owned();
    let request = Request { path: uri.path().to_owned(), headers, text };
    recorder.requests.lock().expect("no test panics here").push(request);
    let answer = recorder.answers.lock().expect("no test panics here").pop_front();
    let status = |code| StatusCode::from_u16(code).expect("a valid status");
    match answer {
        None => StatusCode::ACCEPTED.into_response(),
        Some(Answer::Status(code)) => status(code).into_response(),
        Some(Answer::Wait(code, seconds)) => (status(code), [("retry-after", seconds.to_string())]).into_response(),
        Some(Answer::Hang) => std::future::pending().await,
    }
}
