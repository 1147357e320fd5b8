//! OTLP/gRPC: the export methods of traces, logs and metrics, each one message in and one out.
//!
//! Its rule: a message goes through the same bounds, unpacking and decoding as a body over HTTP; only the frame around it and the
//! form of the answer are gRPC's. The way not taken: tonic's own server, which unpacks and decodes on the threads that
//! serve, answers a broken message with INTERNAL, and one that is too large with OUT_OF_RANGE, at which OTLP senders try
//! the same message again for ever.

use super::intake::{Kind, Transport, take};
use super::problem::Problem;
use super::status::{Form, GRPC_ENCODINGS, form};
use super::{Shared, body};
use crate::dialect::Encoding;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full};

/// A byte that says whether the message is packed, and its length in four.
const PREFIX_BYTES: usize = 5;

/// `opentelemetry.proto.collector.trace.v1.TraceService/Export`.
pub(super) async fn traces(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Traces).await.into_response()
}

/// `opentelemetry.proto.collector.logs.v1.LogsService/Export`.
pub(super) async fn logs(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Logs).await.into_response()
}

/// `opentelemetry.proto.collector.metrics.v1.MetricsService/Export`.
pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    answer(&shared, &headers, body, Kind::Metrics).await.into_response()
}

async fn answer(shared: &Shared, headers: &HeaderMap, body: Body, kind: Kind) -> Result<Response, Problem> {
    if form(headers) != Some(Form::Grpc) {
        let text = "this is a method of gRPC; OTLP/HTTP goes to /v1/traces, /v1/logs and /v1/metrics";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let framed = body::collect(shared, headers, body, PREFIX_BYTES).await?;
    let (is_packed, message) = message(&framed).map_err(Problem::bad_request)?;
    let packed = is_packed.then(|| packed_with(headers)).transpose()?;
    let bytes = body::unpacked(shared, message, packed).await?;
    let partial = take(shared, kind, bytes, Encoding::Protobuf, Transport::Grpc).await?;
    Ok(framed_answer(&partial.encode()))
}

/// The one message of a request, and whether it is packed.
fn message(framed: &Bytes) -> Result<(bool, Bytes), &'static str> {
    let Some((prefix, rest)) = framed.split_at_checked(PREFIX_BYTES) else {
        return Err("the request holds no gRPC message");
    };
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if usize::try_from(length) != Ok(rest.len()) {
        return Err("the request holds another number of bytes than its one gRPC message announces");
    }
    let is_packed = match prefix[0] {
        0 => false,
        1 => true,
        _ => return Err("the gRPC message has a flag that is neither 0 nor 1"),
    };
    Ok((is_packed, framed.slice(PREFIX_BYTES..)))
}

fn packed_with(headers: &HeaderMap) -> Result<String, Problem> {
    let name = headers.get("grpc-encoding").map_or("identity", |v| v.to_str().unwrap_or("?"));
    if name.eq_ignore_ascii_case("identity") {
        return Err(Problem::bad_request(
            "the gRPC message says that it is packed, but `grpc-encoding` does not say how",
        ));
    }
    Ok(name.to_owned())
}

/// A message that is not packed, and OK in the trailers.
fn framed_answer(message: &[u8]) -> Response {
    // What names refused spans is bounded, so the length fits.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (HeaderName::from_static("grpc-accept-encoding"), HeaderValue::from_static(GRPC_ENCODINGS)),
    ];
    (headers, Body::new(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
        [&[flag][..], &length.to_be_bytes(), message].concat().into()
    }

    #[test]
    fn one_whole_message_is_taken_and_nothing_else() {
        assert_eq!(message(&frame(0, 2, b"ab")), Ok((false, Bytes::from_static(b"ab"))));
        assert_eq!(message(&frame(1, 0, b"")), Ok((true, Bytes::new())));
        assert!(message(&Bytes::from_static(b"\0\0\0\0")).is_err_and(|e| e.contains("no gRPC message")));
        assert!(message(&frame(0, 3, b"ab")).is_err(), "it was cut");
        assert!(message(&frame(0, 1, b"ab")).is_err(), "a second message follows");
        assert!(message(&frame(2, 2, b"ab")).is_err_and(|e| e.contains("flag")));
    }

    proptest! {
        #[test]
        fn no_frame_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let taken = message(&bytes.clone().into());
            if let Ok((_, inside)) = taken {
                prop_assert_eq!(inside.len() + PREFIX_BYTES, bytes.len());
            }
        }
    }
}
