//! Datadog's intake, as far as a test needs it: it records requests and answers as it is told.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// A request that was recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
    /// What it was answered with.
    pub status: u16,
}

impl Recorded {
    /// The evaluation metrics of the request.
    pub fn metrics(&self) -> Vec<Value> {
        self.body["data"]["attributes"]["metrics"].as_array().cloned().unwrap_or_default()
    }
}

/// Decides on an answer from the body; `None` = the set status.
type Decide = fn(&Value) -> Option<u16>;

#[derive(Clone)]
pub struct Intake {
    requests: Arc<Mutex<Vec<Recorded>>>,
    status: Arc<AtomicU16>,
    decide: Decide,
}

impl Intake {
    /// Starts one that accepts everything; gives its base URL too.
    pub async fn start() -> (Self, String) {
        Self::deciding(|_| None).await
    }

    /// Starts one with a mind of its own.
    pub async fn deciding(decide: Decide) -> (Self, String) {
        let intake = Self { requests: Arc::default(), status: Arc::new(AtomicU16::new(202)), decide };
        let router = Router::new().fallback(record).with_state(intake.clone());
        let base = super::serve(router).await;
        (intake, base)
    }

    pub fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().expect("no test panics here").clone()
    }

    /// Metrics of requests that were answered with 2xx.
    pub fn accepted(&self) -> Vec<Value> {
        self.requests().iter().filter(|r| r.status < 300).flat_map(Recorded::metrics).collect()
    }
}

async fn record(State(intake): State<Intake>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let status = (intake.decide)(&body).unwrap_or(intake.status.load(Ordering::Relaxed));
    let recorded = Recorded { path: uri.path().to_owned(), headers, body, status };
    intake.requests.lock().expect("no test panics here").push(recorded);
    StatusCode::from_u16(status).expect("a valid status")
}
