//! OTLP and native JSON at the door: encodings, partial success, errors, logs and metrics, duplicates.

use crate::support::{ANSWERED, Service, config, fixture_bytes, traces};
use assize::config::{Ambient, Config, Scope, Token};
use assize::server::Guard;
use prost::Message;
use serde_json::{Value, json};
use std::io::Write;

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

#[tokio::test]
async fn every_encoding_of_a_capture_gives_the_same_traces() {
    let service = Service::start(config(&[ANSWERED])).await;
    let (pb, json) = (fixture_bytes("otel-genai-openai-span.pb"), fixture_bytes("otel-genai-openai-span.json"));
    let zstd = zstd::encode_all(&pb[..], 1).expect("memory can be written");
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&pb).expect("memory can be written");
    let zlib = zlib.finish().expect("memory can be written");
    for (kind, encoding, body) in [
        ("application/protobuf", "deflate", zlib),
        ("application/x-protobuf", "identity", pb.clone()),
        ("application/x-protobuf", "gzip", gzip(&pb)),
        ("application/x-protobuf", "zstd", zstd),
        ("application/json; charset=utf-8", "identity", json.clone()),
        ("application/json", "gzip", gzip(&json)),
    ] {
        let (status, answer) =
            service.post("/v1/traces", &[("content-type", kind), ("content-encoding", encoding)], body).await;
        assert_eq!(status, 200, "{kind} {encoding}: {}", String::from_utf8_lossy(&answer));
        // Full success is an empty message: no bytes in protobuf, {} in JSON.
        assert!(answer.is_empty() || answer == b"{}", "{answer:?}");
    }
    // The capture has ten traces; one failed without any output, so nothing can be said about its answer.
    let verdicts = service.verdicts(10).await;
    let scored = verdicts.iter().filter(|v| v.score.is_some()).count();
    assert_eq!(scored, 9);
    let refused = verdicts.iter().find(|v| v.passed == Some(false)).expect("the refusal is seen");
    assert_eq!(refused.checks[0].detail["category"], "refusal");
}

#[tokio::test]
async fn two_captures_are_judged_and_read_back_through_the_api() {
    let rubric = "name: grounded\napplies_when: {requires: [question, answer, context]}\nchecks: [grounding]\n";
    let service = Service::start(config(&[rubric])).await;
    for name in ["otel-genai-openai-span.pb", "openinference-openai.pb"] {
        let headers = [("content-type", "application/x-protobuf")];
        let (status, _) = service.post("/v1/traces", &headers, fixture_bytes(name)).await;
        assert_eq!(status, 200);
    }
    service.verdicts(17).await;
    let page = service.get("/api/v1/verdicts?rubric=grounded&outcome=scored").await;
    let scored = page["verdicts"].as_array().expect("a list");
    // One rag trace and one tool trace a capture has something to be grounded in; the tool's has no retrieved context.
    assert_eq!(scored.len(), 2, "{page}");
    for verdict in scored {
        assert!(verdict["score"].as_f64().is_some_and(|s| s > 0.5), "the capture's rag answer is faithful: {verdict}");
        assert_eq!(verdict["trace"]["model"], "gpt-4o-mini");
        assert_eq!(verdict["trace"]["service"], "halden-support-bot");
    }
    let id = scored[0]["trace_id"].as_str().expect("text");
    let story = service.get(&format!("/api/v1/traces/{id}")).await;
    assert_eq!((story["state"].as_str(), story["sampling"]["rule"].as_str()), (Some("kept"), Some("default")));
}

#[tokio::test]
async fn bad_spans_are_a_partial_success_that_names_them() {
    let service = Service::start(config(&[ANSWERED])).await;
    let good = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "ok",
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}]});
    let bad = json!({"traceId": "00", "spanId": "eee19b7ec3c1b174", "name": "broken"});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [good, bad]}]}]}).to_string();
    let (status, answer) = service.post("/v1/traces", &[("content-type", "application/json")], body).await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "1");
    let message = answer["partialSuccess"]["errorMessage"].as_str().expect("text");
    assert!(message.contains("span 1") && message.contains("16 bytes"), "{message}");
    service.verdicts(1).await;
}

#[tokio::test]
async fn bad_bodies_are_a_400_with_a_status_in_the_requests_encoding() {
    let service = Service::start(config(&[ANSWERED])).await;
    let protobuf = [("content-type", "application/x-protobuf")];
    let (status, answer) = service.post("/v1/traces", &protobuf, vec![0xff; 20]).await;
    let decoded = Status::decode(&answer[..]).expect("a Status");
    assert_eq!((status, decoded.code), (400, 3));
    assert!(decoded.message.contains("protobuf"), "{}", decoded.message);
    let (status, answer) = service.post("/v1/traces", &[("content-type", "application/json")], "{nonsense").await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, answer["code"].as_i64()), (400, Some(3)));
    let (status, _) = service.post("/v1/traces", &[("content-type", "text/plain")], "x").await;
    assert_eq!(status, 415);
    let corrupt = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let (status, answer) = service.post("/v1/traces", &corrupt, "not gzip").await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&answer));
    let logs_on_the_wrong_path = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "x"}]}]}]}).to_string();
    let json_headers = [("content-type", "application/json")];
    assert_eq!(service.post("/v1/traces", &json_headers, logs_on_the_wrong_path).await.0, 400);
}

/// Status, headers and the code of the `google.rpc.Status` in the body, which has the form of the content type.
async fn refusal(request: reqwest::RequestBuilder) -> (u16, reqwest::header::HeaderMap, i64) {
    let response = request.send().await.expect("the service answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.expect("a body");
    let code = match headers["content-type"].to_str().expect("text") {
        "application/x-protobuf" | "application/protobuf" => Status::decode(&body[..]).expect("a Status").code.into(),
        "application/json" => serde_json::from_slice::<Value>(&body).expect("JSON")["code"].as_i64().expect("a number"),
        other => panic!("{other} is no form of OTLP"),
    };
    (status, headers, code)
}

#[tokio::test]
async fn whatever_refuses_a_request_answers_in_its_form() {
    let mut settings = config(&[ANSWERED]);
    (settings.ingest.backlog_max, settings.server.body_bytes_max) = (0, 100_000);
    let service = Service::start(settings).await;
    let mut guarded = Config::default();
    let token = |name: &str, scope| Token { name: name.to_owned(), token_env: name.to_owned(), scopes: vec![scope] };
    guarded.server.tokens = vec![token("INGEST", Scope::Ingest), token("READ", Scope::Read)];
    let ambient = Ambient::of(&[("INGEST", "in-secret"), ("READ", "read-secret")]);
    let base = service.door(Guard::new(&guarded, &ambient).expect("both are set"), None).await;
    let pb = fixture_bytes("otel-genai-openai-span.pb");
    for kind in ["application/x-protobuf", "application/protobuf", "application/json"] {
        let post = |token: &str, body: Vec<u8>| {
            let request = service.http.post(format!("{base}/v1/traces")).header("content-type", kind);
            request.bearer_auth(token).body(body)
        };
        let body = if kind == "application/json" { fixture_bytes("otel-genai-openai-span.json") } else { pb.clone() };
        let (status, headers, code) = refusal(post("wrong", body.clone())).await;
        assert_eq!((status, code, &headers["www-authenticate"]), (401, 16, &"Bearer".parse().expect("text")), "{kind}");
        assert_eq!(headers["content-type"], kind, "an answer has the content type of its request");
        let (status, _, code) = refusal(post("read-secret", body.clone())).await;
        assert_eq!((status, code), (403, 7), "{kind}");
        let (status, headers, code) = refusal(post("in-secret", body)).await;
        assert_eq!((status, code, &headers["retry-after"]), (429, 8, &"5".parse().expect("text")), "{kind}");
        let (status, headers, code) = refusal(post("in-secret", vec![b' '; 100_001])).await;
        assert_eq!((status, code, headers.get("retry-after")), (413, 8, None), "{kind}");
        let (status, headers, _) = refusal(post("in-secret", b"{\"x".to_vec())).await;
        assert_eq!((status, headers.get("retry-after")), (400, None), "{kind}");
        let put = service.http.put(format!("{base}/v1/traces")).header("content-type", kind).bearer_auth("in-secret");
        let (status, headers, code) = refusal(put).await;
        assert_eq!((status, code, &headers["allow"]), (405, 12, &"POST".parse().expect("text")), "{kind}");
    }
    // An empty message of protobuf is no bytes, and no bytes are an empty request.
    let empty = service.http.post(format!("{base}/v1/traces")).header("content-type", "application/x-protobuf");
    let empty = empty.bearer_auth("in-secret").send().await.expect("it answers");
    assert_eq!((empty.status().as_u16(), empty.content_length()), (200, Some(0)));
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut settings = config(&[ANSWERED]);
    settings.server.body_ms_max = 100;
    let service = Service::start(settings).await;
    let base = service.door(Guard::default(), None).await;
    let mut stream = tokio::net::TcpStream::connect(base.trim_start_matches("http://")).await.expect("it listens");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn logs_and_metrics_are_taken_counted_and_dropped() {
    let service = Service::start(config(&[ANSWERED])).await;
    let logs = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{}, {}]}]}]}).to_string();
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m"}]}]}]}).to_string();
    let headers = [("content-type", "application/json")];
    assert_eq!(service.post("/v1/logs", &headers, logs).await, (200, b"{}".to_vec()));
    assert_eq!(service.post("/v1/metrics", &headers, metrics).await, (200, b"{}".to_vec()));
    let protobuf = [("content-type", "application/x-protobuf")];
    assert_eq!(service.post("/v1/metrics", &protobuf, Vec::new()).await, (200, Vec::new()));
    assert_eq!(service.post("/v1/logs", &protobuf, vec![0xff; 9]).await.0, 400);
    let dropped = &service.app.bench.metrics.signals_dropped;
    assert_eq!(dropped.with_label_values(&["logs"]).get(), 2);
    assert_eq!(dropped.with_label_values(&["metrics"]).get(), 1);
}

#[tokio::test]
async fn content_in_logs_is_joined_with_its_spans_whichever_comes_first() {
    let protobuf = [("content-type", "application/x-protobuf")];
    for order in [["logs-a.pb", "traces-a.pb"], ["traces-a.pb", "logs-a.pb"]] {
        let mut settings = config(&[ANSWERED]);
        // Long enough for the second request to come, on a slow machine too.
        (settings.assembly.quiet_ms, settings.assembly.idle_ms) = (1_500, 1_500);
        let service = Service::start(settings).await;
        for name in order {
            let path = if name.starts_with("logs") { "/v1/logs" } else { "/v1/traces" };
            let body = fixture_bytes(&format!("captures/otel-openai-v2-old-events/{name}"));
            let (status, answer) = service.post(path, &protobuf, body).await;
            assert_eq!((status, answer.len()), (200, 0), "{path}");
        }
        // Seven traces, one of which failed without an answer.
        let verdicts = service.verdicts(7).await;
        assert_eq!(verdicts.iter().filter(|v| v.score.is_some()).count(), 6, "{order:?}");
        assert_eq!(service.app.bench.metrics.signals_dropped.with_label_values(&["logs"]).get(), 0);
    }
}

#[tokio::test]
async fn datadogs_clients_are_answered_as_they_expect() {
    let service = Service::start(config(&[ANSWERED])).await;
    let json_headers = [("content-type", "application/json")];
    let capture = fixture_bytes("captures/datadog-llmobs/llmobs-a.json");
    for path in ["/api/v2/llmobs", "/evp_proxy/v2/api/v2/llmobs"] {
        assert_eq!(service.post(path, &json_headers, capture.clone()).await, (202, b"{}".to_vec()), "{path}");
    }
    let verdicts = service.verdicts(7).await;
    assert_eq!(verdicts.iter().filter(|v| v.score.is_some()).count(), 6);
    let nothing_of_models = rmp_of(&json!([[{"trace_id": 1, "span_id": 2, "name": "web.request"}]]));
    let msgpack = [("content-type", "application/msgpack")];
    let (status, answer) = service.post("/v0.4/traces", &msgpack, nothing_of_models).await;
    assert_eq!((status, answer), (200, br#"{"rate_by_service":{}}"#.to_vec()));
    assert_eq!(service.app.bench.metrics.signals_dropped.with_label_values(&["apm_spans"]).get(), 1);
    assert_eq!(service.post("/v0.4/traces", &msgpack, "nonsense").await.0, 400);
    assert_eq!(service.post("/api/v2/llmobs", &json_headers, "nonsense").await.0, 400);
}

/// JSON of texts, numbers, lists and maps as msgpack.
fn rmp_of(value: &Value) -> Vec<u8> {
    fn packed(value: &Value) -> rmpv::Value {
        match value {
            Value::Array(list) => rmpv::Value::Array(list.iter().map(packed).collect()),
            Value::Object(map) => rmpv::Value::Map(map.iter().map(|(k, v)| (k.as_str().into(), packed(v))).collect()),
            Value::String(text) => text.as_str().into(),
            other => other.as_u64().expect("a number").into(),
        }
    }
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &packed(value)).expect("memory can be written");
    out
}

#[tokio::test]
async fn native_json_is_taken_as_object_list_and_lines() {
    let service = Service::start(config(&[ANSWERED])).await;
    let json = [("content-type", "application/json")];
    let one = traces::trace("one", "Yes, within 30 days.");
    assert_eq!(service.post("/api/v1/traces", &json, one.to_string()).await.0, 200);
    let list = json!(traces::many("list", 2));
    assert_eq!(service.post("/api/v1/traces", &json, list.to_string()).await.0, 200);
    let lines = format!("{}\nnonsense\n{{\"output\": \"no id\"}}\n", traces::trace("line", "Yes, within 30 days."));
    let (status, answer) = service.post("/api/v1/traces", &json, lines).await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, answer["accepted"].as_i64(), answer["rejected"].as_i64()), (200, Some(1), Some(2)));
    assert_eq!(answer["errors"][0]["line"], 2);
    assert!(answer["errors"][1]["error"].as_str().is_some_and(|e| e.contains("trace_id")), "{answer}");
    let (status, answer) = service.post("/api/v1/traces", &json, "{\"output\": 1}").await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&answer));
    service.verdicts(4).await;
}

#[tokio::test]
async fn hostile_text_is_stored_and_judged_like_any_other() {
    let service = Service::start(config(&[ANSWERED])).await;
    let nasty = "nul \u{0} bell \u{7} rtl \u{202e} '); DROP TABLE verdicts; -- \u{1f4a9}";
    let mut trace = traces::trace("bad\u{0}id", nasty);
    trace["feature"] = json!("fea\u{0}ture");
    trace["tags"] = json!({"k\u{0}": "v\u{0}"});
    service.send(&[trace]).await;
    let verdicts = service.verdicts(1).await;
    assert_eq!(verdicts[0].trace.feature.as_deref(), Some("fea\u{fffd}ture"));
}

#[tokio::test]
async fn spans_sent_again_and_late_make_no_second_verdict() {
    let service = Service::start(config(&[ANSWERED])).await;
    let headers = [("content-type", "application/x-protobuf")];
    let body = fixture_bytes("openinference-openai.pb");
    service.post("/v1/traces", &headers, body.clone()).await;
    service.post("/v1/traces", &headers, body.clone()).await;
    service.verdicts(7).await;
    // Again, after all has been decided: nothing new is judged, and the repeated spans are not taken for late ones.
    service.post("/v1/traces", &headers, body).await;
    let verdicts = service.verdicts(7).await;
    let id = &verdicts[0].trace_id;
    assert_eq!(service.get(&format!("/api/v1/traces/{id}")).await["spans"][1], 0);
    // A span that is new is added to its trace.
    let late = json!({"resourceSpans": [{"scopeSpans": [{"spans": [
        {"traceId": id, "spanId": "00000000000000ff", "parentSpanId": "00000000000000aa", "name": "late"}]}]}]});
    service.post("/v1/traces", &[("content-type", "application/json")], late.to_string()).await;
    let path = format!("/api/v1/traces/{id}");
    crate::support::eventually("the late span is counted", || async {
        (service.get(&path).await["spans"][1] == 1).then_some(())
    })
    .await;
    service.verdicts(7).await;
}

#[tokio::test]
async fn a_trace_split_over_requests_waits_until_it_is_quiet() {
    let mut config = config(&["name: grounded\napplies_when: {requires: [context]}\nchecks: [grounding]\n"]);
    config.assembly.quiet_ms = 300;
    config.assembly.idle_ms = 2_000;
    let service = Service::start(config).await;
    let parts: Vec<Vec<u8>> =
        (1..=4).map(|n| fixture_bytes(&format!("openinference-openai-split-{n:02}.pb"))).collect();
    for part in parts {
        service.post("/v1/traces", &[("content-type", "application/x-protobuf")], part).await;
    }
    let verdicts = service.verdicts(2).await;
    let rag =
        verdicts.iter().find(|v| v.score.is_some()).expect("the documents came in another request than the answer");
    assert!(rag.score.is_some_and(|s| s > 0.5), "{rag:?}");
}
