//! Bodies of requests, read and unpacked within their bounds.
//!
//! Called by every handler that takes a body. Its rule: size and time are bounded before anything is decoded, and what is packed
//! is unpacked on rayon. The way not taken: layers of tower-http, whose answers would not be ours.

use super::Shared;
use super::problem::Problem;
use crate::dialect::encoding::{UnpackError, unpack};
use crate::runtime::cpu;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use std::time::Duration;

/// Reads and unpacks a body.
pub(super) async fn read(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let raw = collect(shared, headers, body, 0).await?;
    let name = headers.get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?").to_owned());
    unpacked(shared, raw, name).await
}

/// Reads a body as it comes, of `extra` bytes more than `server.body_bytes_max`.
pub(super) async fn collect(shared: &Shared, headers: &HeaderMap, body: Body, extra: usize) -> Result<Bytes, Problem> {
    let config = &shared.app.bench.config.server;
    let limit = config.body_bytes_max.saturating_add(extra);
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(config.body_bytes_max));
    }
    let read = axum::body::to_bytes(body, limit);
    let Ok(read) = tokio::time::timeout(Duration::from_millis(config.body_ms_max), read).await else {
        let text = format!("the body did not arrive within {} ms (server.body_ms_max)", config.body_ms_max);
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, text));
    };
    read.map_err(|e| {
        let cause = std::error::Error::source(&e);
        if cause.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
            too_large(config.body_bytes_max)
        } else {
            Problem::bad_request("the body ended before it was whole")
        }
    })
}

/// Unpacks what has an encoding.
pub(super) async fn unpacked(shared: &Shared, raw: Bytes, encoding: Option<String>) -> Result<Bytes, Problem> {
    let limit = shared.app.bench.config.server.body_bytes_max;
    let Some(name) = encoding else { return Ok(raw) };
    match cpu::run(move || unpack(raw, Some(&name), limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Problem::new(
            match error {
                UnpackError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                UnpackError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                UnpackError::Corrupt(_) => StatusCode::BAD_REQUEST,
            },
            error.to_string(),
        )),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unpacking the body failed")),
    }
}

fn too_large(limit: usize) -> Problem {
    let text = format!("the body is larger than {limit} bytes (server.body_bytes_max); send smaller batches");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}
