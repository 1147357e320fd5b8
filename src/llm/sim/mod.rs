//! The simulated judge: an OpenAI-compatible server whose verdicts come from rules, for the demo, tests and load.
//!
//! Run by `cli::sim`, `cli::demo` and the tests. Its rule: it is a real HTTP server with real latency, limits and faults, and what
//! it says depends only on the prompt and the model's name, so that runs can be repeated; everything that shows its
//! verdicts says that they are simulated. The way not taken: a mock in the process, which would prove nothing about HTTP.

mod faults;
mod reply;
mod rules;

pub use faults::Faults;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use faults::{Fault, Limiter};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What the server has done so far.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    answered: AtomicU64,
    limited: AtomicU64,
    errors: AtomicU64,
    hangs: AtomicU64,
    garbage: AtomicU64,
}

/// A snapshot of the counters, as `/stats` shows it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stats {
    /// Requests received.
    pub requests: u64,
    /// Answered with a verdict.
    pub answered: u64,
    /// Answered with 429.
    pub limited: u64,
    /// Answered with a 5xx.
    pub errors: u64,
    /// Never answered.
    pub hangs: u64,
    /// Answered with something that is no verdict.
    pub garbage: u64,
}

/// The server's state; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sim {
    faults: Arc<RwLock<Faults>>,
    limiter: Arc<Limiter>,
    counters: Arc<Counters>,
}

impl Sim {
    /// A server with these faults.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults: Arc::new(RwLock::new(faults)), ..Self::default() }
    }

    /// Changes the faults while it runs.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Stats {
            requests: read(&c.requests),
            answered: read(&c.answered),
            limited: read(&c.limited),
            errors: read(&c.errors),
            hangs: read(&c.hangs),
            garbage: read(&c.garbage),
        }
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/models", get(models))
            .route("/health", get(|| async { "ok" }))
            .route("/stats", get(|State(sim): State<Sim>| async move { axum::Json(sim.stats()) }))
            .route("/config", post(configure))
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(self.clone())
    }

    fn faults(&self) -> Faults {
        self.faults.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn models() -> axum::Json<Value> {
    let list = ["sim-large", "sim-small"].map(|id| json!({"id": id, "object": "model", "owned_by": "assize-sim"}));
    axum::Json(json!({"object": "list", "data": list}))
}

async fn configure(State(sim): State<Sim>, body: Bytes) -> Response {
    match serde_json::from_slice::<Faults>(&body) {
        Ok(faults) => {
            sim.set_faults(faults);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(e) => problem(StatusCode::BAD_REQUEST, "invalid_request_error", &e.to_string()),
    }
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": kind}});
    (status, axum::Json(body)).into_response()
}

async fn complete(State(sim): State<Sim>, body: Bytes) -> Response {
    let number = sim.counters.requests.fetch_add(1, Ordering::Relaxed);
    let faults = sim.faults();
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not JSON");
    };
    let Some(model) = request.get("model").and_then(Value::as_str) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request_error", "`model` is missing");
    };
    if let Some(name) = faults.refused_in(&request) {
        let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
        return problem(StatusCode::BAD_REQUEST, "unsupported_parameter", &message);
    }
    let tokens = reply::prompt_tokens(&request);
    if let Err(wait) = sim.limiter.admit(&faults, tokens) {
        sim.counters.limited.fetch_add(1, Ordering::Relaxed);
        let seconds = format!("{:.3}", wait.as_secs_f64());
        let limited = problem(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "too many requests");
        return ([(header::RETRY_AFTER, seconds)], limited).into_response();
    }
    match faults.draw(number) {
        Fault::Hang => {
            sim.counters.hangs.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Fault::Error => {
            sim.counters.errors.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::INTERNAL_SERVER_ERROR, "the simulated judge fails on purpose").into_response();
        }
        Fault::Garbage => {
            sim.counters.garbage.fetch_add(1, Ordering::Relaxed);
            return axum::Json(reply::completion(model, number, "{\"reason\": \"cut of", "length", tokens))
                .into_response();
        }
        Fault::None => {}
    }
    tokio::time::sleep(faults.latency(number)).await;
    let text = reply::answer(&request, model, faults.obedient);
    sim.counters.answered.fetch_add(1, Ordering::Relaxed);
    let completion = reply::completion(model, number, &text, "stop", tokens);
    let completion = if request.get("tools").is_some() { reply::as_tool_call(completion) } else { completion };
    let mut response = axum::Json(completion).into_response();
    if let Some(rpm) = faults.rpm {
        let value = header::HeaderValue::from(rpm);
        response.headers_mut().insert("x-ratelimit-limit-requests", value);
    }
    response
}
