//! L4: HTTP and gRPC: all routes on this page.
//!
//! Started by `cli`. Its rule: a handler decodes, calls a step or the store, and encodes; nothing is decided here. Ops endpoints
//! are open (they tell no content), everything else needs a token with the right scope as soon as one is configured. The
//! way not taken: a web framework's magic; one table of routes is what the next reader looks for.

mod alerts;
mod auth;
mod body;
mod connections;
mod datadog;
mod grpc;
mod intake;
mod label_pages;
mod labels;
mod native;
mod ops;
mod otlp;
mod problem;
mod read;
mod report;
mod status;
mod tls;

use crate::app::App;
use crate::config::Scope;
use crate::pipeline::ingest::Inbox;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use std::sync::Arc;

pub use auth::Guard;
pub use connections::{Door, serve};
pub use tls::{Tls, TlsError};

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
    let mut router = doors(&shared).merge(operations());
    let metrics = Router::new().route("/metrics", get(ops::metrics));
    router = router.merge(scoped(&shared, Scope::Read, if web { reading().merge(metrics) } else { metrics }));
    let label = Router::new().route("/api/v1/labels", post(labels::post));
    router = router.merge(scoped(&shared, Scope::Label, label));
    if web {
        let admin = Router::new()
            .route("/api/v1/alerts/{id}/acknowledge", post(alerts::acknowledge))
            .route("/api/v1/alerts/{id}/resolve", post(alerts::resolve));
        let pages = Router::new()
            .route("/labels", get(label_pages::index))
            .route("/labels/sign-in", post(label_pages::sign_in))
            .route("/labels/{rubric}", get(label_pages::show).post(label_pages::save))
            .route_layer(from_fn_with_state(shared.clone(), auth::require_page));
        router = router.merge(pages).merge(scoped(&shared, Scope::Admin, admin));
    }
    finished(router, shared)
}

/// What is spoken at the address of gRPC: every way in for traces, and the health endpoints.
pub fn ingest_router(app: &Arc<App>, inbox: Inbox, guard: Guard) -> Router {
    let shared = Shared { app: Arc::clone(app), inbox: Some(inbox), guard: Arc::new(guard) };
    finished(doors(&shared).merge(operations()), shared)
}

fn finished(router: Router<Shared>, shared: Shared) -> Router {
    router.method_not_allowed_fallback(ops::not_allowed).fallback(ops::not_found).with_state(shared)
}

fn scoped(shared: &Shared, scope: Scope, router: Router<Shared>) -> Router<Shared> {
    router.route_layer(from_fn_with_state((shared.clone(), scope), auth::require))
}

/// The ways in.
fn doors(shared: &Shared) -> Router<Shared> {
    let otlp = Router::new()
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/logs", post(otlp::logs))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/api/public/otel/v1/traces", post(otlp::traces))
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(grpc::traces))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(grpc::logs))
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", post(grpc::metrics))
        .method_not_allowed_fallback(ops::not_allowed);
    let others = Router::new()
        .route("/api/v2/llmobs", post(datadog::llmobs))
        .route("/evp_proxy/{version}/api/v2/llmobs", post(datadog::llmobs))
        .route("/api/intake/llm-obs/v1/trace/spans", post(datadog::llmobs))
        .route("/v0.4/traces", post(datadog::traces).put(datadog::traces))
        .route("/info", get(datadog::info))
        .route("/api/v1/traces", post(native::traces))
        .route("/api/v1/deployments", post(alerts::deployed));
    let otlp = scoped(shared, Scope::Ingest, otlp).layer(from_fn(status::speak));
    otlp.merge(scoped(shared, Scope::Ingest, others))
}

fn operations() -> Router<Shared> {
    Router::new().route("/livez", get(ops::livez)).route("/readyz", get(ops::readyz))
}

fn reading() -> Router<Shared> {
    Router::new()
        .route("/api/v1/verdicts", get(read::verdicts))
        .route("/api/v1/traces/{id}", get(read::trace))
        .route("/api/v1/labels", get(labels::list))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}", get(alerts::one))
        .route("/api/v1/rubrics", get(read::rubrics))
        .route("/api/v1/report", get(report::report))
        .route("/api/v1/sampling", get(read::sampling))
        .route("/api/v1/queue", get(read::queue))
}
