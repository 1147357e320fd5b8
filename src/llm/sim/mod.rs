//! The simulated judge: an OpenAI-compatible server whose verdicts come from rules, for the demo, tests and load.
//!
//! Run by `cli::sim`, `cli::demo` and the tests. Its rule: it is a real HTTP server with real latency, limits and faults, and what
//! it says depends only on the prompt and the model's name, so that runs can be repeated; everything that shows its
//! verdicts says that they are simulated. The way not taken: a mock in the process, which would prove nothing about HTTP.

mod batch;
mod claims;
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
    tokens: AtomicU64,
    batched: AtomicU64,
}

/// A snapshot of the counters, as `/stats` shows it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stats {
    /// Requests received, alone or in a batch that was answered.
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
    /// Tokens of requests that were answered, prompts and answers.
    pub tokens: u64,
    /// Answered with a verdict in a batch; `answered` counts them too.
    pub batched: u64,
}

/// The server's state; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sim {
    faults: Arc<RwLock<Faults>>,
    limiter: Arc<Limiter>,
    counters: Arc<Counters>,
    batches: Arc<batch::Batches>,
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
            tokens: read(&c.tokens),
            batched: read(&c.batched),
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
            .merge(batch::routes())
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(self.clone())
    }

    fn faults(&self) -> Faults {
        self.faults.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What becomes of request `number`, which is not refused and within the limits.
    fn outcome(&self, faults: &Faults, request: &Value, number: u64) -> Outcome {
        let model = request.get("model").and_then(Value::as_str).unwrap_or_default();
        let tokens = reply::prompt_tokens(request);
        match faults.draw(number) {
            Fault::Hang => {
                self.counters.hangs.fetch_add(1, Ordering::Relaxed);
                Outcome::Silence
            }
            Fault::Error => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                Outcome::Error
            }
            Fault::Garbage => {
                self.counters.garbage.fetch_add(1, Ordering::Relaxed);
                Outcome::Garbage(reply::completion(model, number, "{\"reason\": \"cut of", "length", tokens))
            }
            Fault::None => {
                let text = reply::answer(request, model, (faults, number));
                let model = faults.answers_as.as_deref().unwrap_or(model);
                let completion = reply::completion(model, number, &text, "stop", tokens);
                let tool = request.get("tools").is_some();
                let completion = reply::with_logprobs(request, completion);
                Outcome::Verdict(if tool { reply::as_tool_call(completion) } else { completion })
            }
        }
    }
}

/// What becomes of a request, whether it came alone or in a batch. Whoever sends a verdict counts it as answered.
enum Outcome {
    /// A completion that holds a verdict.
    Verdict(Value),
    /// A completion that holds none.
    Garbage(Value),
    /// A 500.
    Error,
    /// No answer at all.
    Silence,
}

const ON_PURPOSE: &str = "the simulated judge fails on purpose";

/// Why a request is refused with 400, as kind and message.
fn refusal(faults: &Faults, request: &Value) -> Option<(&'static str, String)> {
    if request.get("model").and_then(Value::as_str).is_none() {
        return Some(("invalid_request_error", "`model` is missing".to_owned()));
    }
    let name = faults.refused_in(request)?;
    Some(("unsupported_parameter", format!("Unsupported parameter: '{name}' is not supported with this model.")))
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
    (status, axum::Json(problem_body(kind, message))).into_response()
}

fn problem_body(kind: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
}

async fn complete(State(sim): State<Sim>, body: Bytes) -> Response {
    let number = sim.counters.requests.fetch_add(1, Ordering::Relaxed);
    let faults = sim.faults();
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return problem(StatusCode::BAD_REQUEST, "invalid_request_error", "the body is not JSON");
    };
    if let Some(status) = faults.unusable.and_then(|s| StatusCode::from_u16(s).ok()) {
        return problem(status, "unusable_on_purpose", "the key, the model or the quota is gone, on purpose");
    }
    if let Some((kind, message)) = refusal(&faults, &request) {
        return problem(StatusCode::BAD_REQUEST, kind, &message);
    }
    if let Err(wait) = sim.limiter.admit(&faults, reply::prompt_tokens(&request)) {
        sim.counters.limited.fetch_add(1, Ordering::Relaxed);
        let seconds = format!("{:.3}", wait.as_secs_f64());
        let limited = problem(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "too many requests");
        return advertise(&faults, ([(header::RETRY_AFTER, seconds)], limited).into_response());
    }
    let completion = match sim.outcome(&faults, &request, number) {
        Outcome::Verdict(completion) => completion,
        Outcome::Garbage(completion) => return axum::Json(completion).into_response(),
        Outcome::Error => return (StatusCode::INTERNAL_SERVER_ERROR, ON_PURPOSE).into_response(),
        Outcome::Silence => std::future::pending().await,
    };
    tokio::time::sleep(faults.latency(number)).await;
    sim.counters.answered.fetch_add(1, Ordering::Relaxed);
    let answered = completion.pointer("/usage/completion_tokens").and_then(Value::as_u64);
    sim.limiter.debit(answered.unwrap_or_default());
    let used = completion.pointer("/usage/total_tokens").and_then(Value::as_u64).unwrap_or_default();
    sim.counters.tokens.fetch_add(used, Ordering::Relaxed);
    advertise(&faults, axum::Json(completion).into_response())
}

/// Adds the headers in which providers say what they allow.
fn advertise(faults: &Faults, mut response: Response) -> Response {
    let limits = [("x-ratelimit-limit-requests", faults.rpm), ("x-ratelimit-limit-tokens", faults.tpm)];
    for (name, limit) in limits.into_iter().filter(|_| !faults.hide_limits) {
        if let Some(limit) = limit {
            response.headers_mut().insert(name, header::HeaderValue::from(limit));
        }
    }
    response
}
