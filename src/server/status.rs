//! Errors of the OTLP doors as `google.rpc.Status`, in the form that the request came in.
//!
//! A layer around those doors, so that what authentication, routing and handlers refuse looks alike to a sender. Its rule: only what a
//! sender should try again is told in words of coming back: 429 and 503 with `Retry-After` over HTTP, over gRPC with a
//! `RetryInfo`. The way not taken: each handler rendering its own errors, of which one always forgets a form.

use super::problem::Problem;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use prost::Message;
use serde_json::json;
use std::time::Duration;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

/// What gRPC messages may be packed with.
pub(super) const GRPC_ENCODINGS: &str = "identity,gzip,zstd,deflate";

/// The forms of OTLP, by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Protobuf over HTTP, by the name that the sender gives it.
    Protobuf(&'static str),
    /// JSON over HTTP.
    Json,
    /// Protobuf over gRPC.
    Grpc,
}

/// The form of a request; parameters of the content type are allowed.
pub(super) fn form(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Form::Protobuf("application/x-protobuf")),
        "application/protobuf" => Some(Form::Protobuf("application/protobuf")),
        "application/json" => Some(Form::Json),
        "application/grpc" | "application/grpc+proto" => Some(Form::Grpc),
        _ => None,
    }
}

/// Gives a problem the form of its request.
pub(super) async fn speak(request: Request, next: Next) -> Response {
    let form = form(request.headers());
    let mut response = next.run(request).await;
    match (form, response.extensions_mut().remove::<Problem>()) {
        (Some(form), Some(problem)) => told(form, &problem, response),
        _ => response,
    }
}

/// `response` keeps its status and headers over HTTP: the protocols say there when to come back, or what is allowed.
pub(super) fn told(form: Form, problem: &Problem, response: Response) -> Response {
    let (content_type, body) = match form {
        Form::Grpc => return grpc(problem).into_http(),
        Form::Protobuf(content_type) => {
            let (code, message) = (code(problem.status) as i32, problem.detail.clone());
            (content_type, tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec())
        }
        Form::Json => {
            let body = json!({"code": code(problem.status) as i32, "message": problem.detail});
            ("application/json", body.to_string().into_bytes())
        }
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Response::from_parts(parts, Body::from(body))
}

fn grpc(problem: &Problem) -> tonic::Status {
    let retry = problem.retry_after.map(Duration::from_secs);
    let details = retry.map_or_else(ErrorDetails::new, |delay| ErrorDetails::with_retry_info(Some(delay)));
    let (code, text) = (code(problem.status), problem.detail.as_str());
    let mut status = if retry.is_some() {
        tonic::Status::with_error_details(code, text, details)
    } else {
        tonic::Status::new(code, text)
    };
    if problem.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let known = tonic::metadata::MetadataValue::from_static(GRPC_ENCODINGS);
        status.metadata_mut().insert("grpc-accept-encoding", known);
    }
    status
}

/// As the Collector has it, backwards. RESOURCE_EXHAUSTED is for both what waits and what is too large: senders try again only
/// where a `RetryInfo` comes with it.
fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 405 | 415 => Code::Unimplemented,
        // Not DEADLINE_EXCEEDED, at which senders try the same slow body again.
        408 => Code::FailedPrecondition,
        413 | 429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use rstest::rstest;

    #[rstest]
    #[case(400, Code::InvalidArgument, false)]
    #[case(401, Code::Unauthenticated, false)]
    #[case(403, Code::PermissionDenied, false)]
    #[case(413, Code::ResourceExhausted, false)]
    #[case(415, Code::Unimplemented, false)]
    #[case(429, Code::ResourceExhausted, true)]
    #[case(500, Code::Internal, false)]
    #[case(503, Code::Unavailable, true)]
    fn grpc_senders_are_told_to_come_back_only_where_http_senders_are(
        #[case] http: u16,
        #[case] code: Code,
        #[case] retried: bool,
    ) {
        let status = StatusCode::from_u16(http).expect("it is one");
        let problem = Problem { retry_after: retried.then_some(7), ..Problem::new(status, "ä reason") };
        let told = grpc(&problem);
        assert_eq!((told.code(), told.message()), (code, "ä reason"));
        let delay = told.get_error_details().retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, retried.then_some(Duration::from_secs(7)));
    }

    #[test]
    fn over_http_status_and_headers_stay() {
        let problem = Problem { retry_after: Some(7), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "later") };
        let response = told(Form::Protobuf("application/protobuf"), &problem, problem.clone().into_response());
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &HeaderValue::from(7)));
        assert_eq!(response.headers()["content-type"], "application/protobuf");
    }
}
