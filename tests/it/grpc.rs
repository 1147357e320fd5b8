//! OTLP/gRPC: tonic's own clients send to us over a real socket; what they are told in each case, and that it is the way in of HTTP.

use crate::support::{ANSWERED, Service, config, fixture_bytes};
use assize::config::{Ambient, Config, Scope, Token};
use assize::server::{Guard, router};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_types::StatusExt;

async fn channel(base: &str) -> Channel {
    Endpoint::from_shared(base.to_owned()).expect("an address").connect().await.expect("it listens")
}

fn capture() -> ExportTraceServiceRequest {
    Message::decode(&fixture_bytes("otel-genai-openai-span.pb")[..]).expect("the capture is whole")
}

/// Spans with these ids in bytes.
fn spans(ids: &[(usize, usize)]) -> ExportTraceServiceRequest {
    let span = |(trace, span): &(usize, usize)| Span {
        trace_id: vec![7; *trace],
        span_id: vec![7; *span],
        name: "made up".to_owned(),
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: ids.iter().map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

/// The delay after which to come back, if the sender should.
fn delay(status: &tonic::Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}

/// A frame of gRPC, and the request around it.
async fn frame(base: &str, encoding: &str, message: &[u8]) -> reqwest::Response {
    let length = u32::try_from(message.len()).expect("it is small").to_be_bytes();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let path = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let request = client.post(format!("{base}/{path}")).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").header("grpc-encoding", encoding);
    request.body([&[1][..], &length, message].concat()).send().await.expect("it answers")
}

#[tokio::test]
async fn spans_logs_and_metrics_come_in_as_over_http() {
    let mut settings = config(&[ANSWERED]);
    (settings.assembly.quiet_ms, settings.assembly.idle_ms) = (1_500, 1_500);
    let service = Service::start(settings).await;
    let base = service.door(Guard::default(), None).await;
    let channel = channel(&base).await;
    for encoding in [None, Some(CompressionEncoding::Gzip)] {
        let mut client = TraceServiceClient::new(channel.clone());
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let answer = client.export(capture()).await.expect("it is taken").into_inner();
        assert_eq!(answer.partial_success, None, "{encoding:?}");
    }
    let packed = zstd::encode_all(&capture().encode_to_vec()[..], 1).expect("memory can be written");
    let answer = frame(&base, "zstd", &packed).await;
    // OK stands in the trailers; an error would stand in the headers.
    assert_eq!((answer.status().as_u16(), answer.headers().get("grpc-status")), (200, None));
    assert_eq!(answer.bytes().await.expect("a body"), vec![0; 5], "an empty message");

    let bytes = |name| fixture_bytes(&format!("captures/otel-openai-v2-old-events/{name}"));
    let logs = ExportLogsServiceRequest::decode(&bytes("logs-a.pb")[..]).expect("the capture is whole");
    let traces = ExportTraceServiceRequest::decode(&bytes("traces-a.pb")[..]).expect("the capture is whole");
    LogsServiceClient::new(channel.clone()).export(logs).await.expect("they are taken");
    TraceServiceClient::new(channel.clone()).export(traces).await.expect("they are taken");
    let nothing = ExportMetricsServiceRequest::default();
    MetricsServiceClient::new(channel).export(nothing).await.expect("they are taken and dropped");
    // Ten traces of one capture, one of which has no output; seven of the other, whose content is in the log records.
    let verdicts = service.verdicts(17).await;
    assert_eq!(verdicts.iter().filter(|v| v.score.is_some()).count(), 9 + 6);
    let accepted = &service.app.bench.metrics.spans_accepted;
    assert!(
        accepted.with_label_values(&["otlp_grpc"]).get() > 0
            && accepted.with_label_values(&["otlp_grpc_logs"]).get() > 0
    );
    assert_eq!(accepted.with_label_values(&["otlp_http"]).get(), 0);
}

#[tokio::test]
async fn what_is_bad_is_refused_for_good() {
    let mut settings = config(&[ANSWERED]);
    settings.server.body_bytes_max = 4_000;
    let service = Service::start(settings).await;
    let base = service.door(Guard::default(), None).await;
    let mut client = TraceServiceClient::new(channel(&base).await);
    let answer = client.export(spans(&[(16, 8), (3, 8)])).await.expect("the good one is taken").into_inner();
    let partial = answer.partial_success.expect("the bad one is named");
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("span 1") && partial.error_message.contains("16 bytes"), "{partial:?}");
    assert_eq!(client.export(spans(&[])).await.expect("empty is fine").into_inner().partial_success, None);

    let refused = |result: Result<_, tonic::Status>| result.map(|_: tonic::Response<_>| ()).expect_err("it is refused");
    let bad = refused(client.export(spans(&[(3, 8)])).await);
    assert_eq!((bad.code(), delay(&bad)), (Code::InvalidArgument, None), "{bad}");
    // RESOURCE_EXHAUSTED without a RetryInfo and not OUT_OF_RANGE, at which senders try again.
    let many = spans(&[(16, 8); 200]);
    let large = refused(client.export(many.clone()).await);
    assert_eq!((large.code(), delay(&large)), (Code::ResourceExhausted, None), "{large}");
    assert!(large.message().contains("server.body_bytes_max"), "{large}");
    let bomb = refused(client.clone().send_compressed(CompressionEncoding::Gzip).export(many).await);
    assert_eq!((bomb.code(), delay(&bomb)), (Code::ResourceExhausted, None), "{bomb}");

    let answer = frame(&base, "snappy", b"x").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"12".parse().expect("text")));
    assert_eq!(answer.headers()["grpc-accept-encoding"], "identity,gzip,zstd,deflate");
    let answer = frame(&base, "gzip", b"not packed").await;
    assert_eq!(answer.headers()["grpc-status"], "3");
    let http = service.http.post(format!("{base}/opentelemetry.proto.collector.trace.v1.TraceService/Export"));
    assert_eq!(http.json(&1).send().await.expect("it answers").status(), 415);
    let unknown = service.http.post(format!("{base}/opentelemetry.proto.Nothing/Export"));
    let unknown = unknown.header("content-type", "application/grpc").send().await.expect("it answers");
    assert_eq!((unknown.status().as_u16(), &unknown.headers()["grpc-status"]), (200, &"12".parse().expect("text")));
}

#[tokio::test]
async fn back_pressure_says_when_to_come_back() {
    let mut settings = config(&[ANSWERED]);
    (settings.ingest.backlog_max, settings.ingest.retry_after_seconds) = (0, 7);
    let service = Service::start(settings).await;
    let mut client = TraceServiceClient::new(channel(&service.door(Guard::default(), None).await).await);
    let full = client.export(capture()).await.expect_err("the backlog is full");
    assert_eq!((full.code(), delay(&full)), (Code::ResourceExhausted, Some(Duration::from_secs(7))), "{full}");
    // A process that takes nothing in.
    let base = crate::support::serve(router(&service.app, None, true, Guard::default())).await;
    let mut client = TraceServiceClient::new(channel(&base).await);
    let nobody = client.export(capture()).await.expect_err("there is no inbox");
    assert_eq!((nobody.code(), delay(&nobody)), (Code::Unavailable, Some(Duration::from_secs(7))), "{nobody}");
}

#[tokio::test]
async fn tokens_are_those_of_the_other_doors() {
    let service = Service::start(config(&[ANSWERED])).await;
    let mut guarded = Config::default();
    let token = |name: &str, scope| Token { name: name.to_owned(), token_env: name.to_owned(), scopes: vec![scope] };
    guarded.server.tokens = vec![token("INGEST", Scope::Ingest), token("READ", Scope::Read)];
    let ambient = Ambient::of(&[("INGEST", "in-secret"), ("READ", "read-secret")]);
    let base = service.door(Guard::new(&guarded, &ambient).expect("both are set"), None).await;
    let client = TraceServiceClient::new(channel(&base).await);
    let send = async |name: &'static str, value: &str| {
        let mut request = Request::new(spans(&[]));
        if !value.is_empty() {
            request.metadata_mut().insert(name, value.parse().expect("it is ASCII"));
        }
        client.clone().export(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(send("authorization", "").await, Code::Unauthenticated);
    assert_eq!(send("authorization", "Bearer wrong").await, Code::Unauthenticated);
    assert_eq!(send("authorization", "Bearer read-secret").await, Code::PermissionDenied);
    assert_eq!(send("authorization", "Bearer in-secret").await, Code::Ok);
    assert_eq!(send("dd-api-key", "in-secret").await, Code::Ok);
    let refused = &service.app.bench.metrics.requests_refused;
    assert_eq!(refused.with_label_values(&["unauthenticated"]).get(), 2);
    assert_eq!(refused.with_label_values(&["forbidden"]).get(), 1);
}

#[tokio::test]
async fn a_stop_ends_idle_connections() {
    let service = Service::start(config(&[ANSWERED])).await;
    let base = service.door(Guard::default(), None).await;
    let mut client = TraceServiceClient::new(channel(&base).await);
    client.export(spans(&[])).await.expect("it is taken");
    let open = service.app.bench.metrics.connections.with_label_values(&["test"]);
    assert_eq!(open.get(), 1);
    // A sender may hold its connection for ever; the drain time would be longer than anybody's patience.
    tokio::time::timeout(crate::support::PATIENCE, service.stop(Duration::from_hours(1))).await.expect("it stops");
    assert_eq!(open.get(), 0);
    assert_eq!(client.export(spans(&[])).await.expect_err("nobody listens").code(), Code::Unavailable);
}
