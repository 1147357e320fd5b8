//! L4: HTTP: all routes on this page.
//!
//! Started by `cli`. Its rule: a handler decodes, calls a step or the store, and encodes; nothing is decided here. Ops endpoints
//! are open (they tell no content), everything else needs a token with the right scope as soon as one is configured. The
//! way not taken: a web framework's magic; one table of routes is what the next reader looks for.

mod alerts;
mod auth;
mod datadog;
mod label_pages;
mod labels;
mod native;
mod ops;
mod otlp;
mod problem;
mod read;
mod report;

use crate::app::App;
use crate::config::Scope;
use crate::pipeline::ingest::Inbox;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

pub use auth::Guard;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Shared {
    app: Arc<App>,
    /// Absent in a process without the role `ingest`.
    inbox: Option<Inbox>,
    guard: Arc<Guard>,
}

/// All routes; the read API and pages only with `web`, `/metrics` and the health endpoints always.
pub fn router(app: &Arc<App>, inbox: Option<Inbox>, web: bool, guard: Guard) -> Router {
    let shared = Shared { app: Arc::clone(app), inbox, guard: Arc::new(guard) };
    let scoped = |router: Router<Shared>, scope: Scope| {
        router.route_layer(from_fn_with_state((shared.clone(), scope), auth::require))
    };
    let ingest = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/api/public/otel/v1/traces", post(otlp::traces))
        .route("/api/v2/llmobs", post(datadog::llmobs))
        .route("/evp_proxy/{version}/api/v2/llmobs", post(datadog::llmobs))
        .route("/api/intake/llm-obs/v1/trace/spans", post(datadog::llmobs))
        .route("/v0.4/traces", post(datadog::traces).put(datadog::traces))
        .route("/info", get(datadog::info))
        .route("/api/v1/traces", post(native::traces))
        .route("/api/v1/deployments", post(alerts::deployed));
    let web_routes = Router::new()
        .route("/api/v1/verdicts", get(read::verdicts))
        .route("/api/v1/traces/{id}", get(read::trace))
        .route("/api/v1/labels", get(labels::list))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}", get(alerts::one))
        .route("/api/v1/rubrics", get(read::rubrics))
        .route("/api/v1/report", get(report::report))
        .route("/api/v1/sampling", get(read::sampling))
        .route("/api/v1/queue", get(read::queue));
    let label = Router::new().route("/api/v1/labels", post(labels::post));
    let pages = Router::new()
        .route("/labels", get(label_pages::index))
        .route("/labels/sign-in", post(label_pages::sign_in))
        .route("/labels/{rubric}", get(label_pages::show).post(label_pages::save))
        .route_layer(from_fn_with_state(shared.clone(), auth::require_page));
    let admin = Router::new()
        .route("/api/v1/alerts/{id}/acknowledge", post(alerts::acknowledge))
        .route("/api/v1/alerts/{id}/resolve", post(alerts::resolve));
    let metrics = Router::new().route("/metrics", get(ops::metrics));
    let read = if web { web_routes.merge(metrics) } else { metrics };
    let pages = if web { pages } else { Router::new() };
    Router::new()
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
        .merge(scoped(ingest, Scope::Ingest))
        .merge(scoped(read, Scope::Read))
        .merge(scoped(label, Scope::Label))
        .merge(pages)
        .merge(if web { scoped(admin, Scope::Admin) } else { Router::new() })
        .fallback(ops::not_found)
        .with_state(shared)
}

/// Serves until `stop`; requests in hand are finished.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}
