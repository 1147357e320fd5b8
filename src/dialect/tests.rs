//! What the two dialects make of bodies as real instrumentations sent them (fixtures copied from captures).

use super::*;
use crate::domain::span::SpanKind;
use serde_json::json;

const GENAI: &[u8] = include_bytes!("../../tests/fixtures/otel-genai-openai-span.pb");
const GENAI_JSON: &[u8] = include_bytes!("../../tests/fixtures/otel-genai-openai-span.json");
const OPENINFERENCE: &[u8] = include_bytes!("../../tests/fixtures/openinference-openai.pb");

fn spans(body: &[u8]) -> Vec<Span> {
    let decoded = decode(body, Encoding::Protobuf).expect("a capture decodes");
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    decoded.spans
}

#[test]
fn json_and_protobuf_give_the_same_spans() {
    let mut a = spans(GENAI);
    let mut b = decode(GENAI_JSON, Encoding::Json).expect("a capture decodes").spans;
    a.sort_by(|x, y| x.span_id.cmp(&y.span_id));
    b.sort_by(|x, y| x.span_id.cmp(&y.span_id));
    assert_eq!(a, b);
}

#[test]
fn genai_spans_are_read() {
    let all = spans(GENAI);
    assert_eq!(all.len(), 44);
    let retrieval = all.iter().find(|s| s.kind == SpanKind::Retrieval).expect("a retrieval");
    assert_eq!(retrieval.documents.len(), 3);
    assert_eq!(retrieval.documents[0].id.as_deref(), Some("ret-002"));
    assert_eq!(retrieval.documents[0].score, Some(0.9132));
    let tool = all.iter().find(|s| s.kind == SpanKind::Tool).expect("a tool");
    assert_eq!(tool.tool_calls[0].arguments, json!({"order_id": "HX-20417"}));
    assert_eq!(tool.tool_calls[0].result["status"], "in_transit");
    let failed = all.iter().find(|s| s.kind == SpanKind::Llm && s.status == Status::Error).expect("an error");
    assert!(failed.error.as_deref().is_some_and(|e| e.contains("500")), "{:?}", failed.error);
    let json_call = all.iter().find(|s| s.response_format.is_some()).expect("a JSON call");
    assert_eq!(json_call.response_format.as_ref().map(|f| f.kind.as_str()), Some("json_object"));
    let chat = all.iter().find(|s| s.kind == SpanKind::Llm && s.status == Status::Ok).expect("a chat");
    assert_eq!(chat.service.as_deref(), Some("halden-support-bot"));
    assert_eq!(chat.environment.as_deref(), Some("production"));
    assert_eq!(chat.tenant.as_deref(), Some("halden"));
    assert_eq!(chat.session.as_deref(), Some("sess-a-7f31"));
    assert_eq!(chat.finish_reason.as_deref(), Some("stop"));
    assert!(chat.usage.is_some_and(|u| u.input_tokens > 0 && u.output_tokens > 0));
}

#[test]
fn openinference_spans_are_read() {
    let all = spans(OPENINFERENCE);
    assert_eq!(all.len(), 17);
    let with_schema = all.iter().find(|s| s.response_format.is_some()).expect("a JSON call");
    let format = with_schema.response_format.as_ref().expect("it has one");
    assert_eq!(format.kind, "json_schema");
    assert_eq!(format.schema["required"][0], "product");
    let retrieval = all.iter().find(|s| s.kind == SpanKind::Retrieval).expect("a retrieval");
    assert_eq!(retrieval.documents.len(), 3);
    let llm = all.iter().find(|s| s.kind == SpanKind::Llm).expect("a call");
    assert_eq!(llm.prompt.version.as_deref(), Some("v7"));
    assert_eq!(llm.tenant.as_deref(), Some("halden"));
    assert_eq!(llm.tags.get("returns").map(String::as_str), Some("true"));
    let asks = all.iter().find(|s| !s.output.is_empty() && !s.output[0].tool_calls.is_empty()).expect("a tool call");
    assert_eq!(asks.output[0].tool_calls[0].arguments, json!({"order_id": "HX-20417"}));
    assert_eq!(asks.tools[0].name, "get_order_status");
}

#[test]
fn what_the_generated_reader_refuses_is_read() {
    let body = br#"{"resourceSpans":[{"resource":null,"scopeSpans":[{"spans":[
        {"trace_id":"5B8EFFF798038103D269B633813FC60C","span_id":"EEE19B7EC3C1B174","parentSpanId":null,"name":"x\ud83d",
         "startTimeUnixNano":1795215311876207043.0,"events":null,"status":{"code":"STATUS_CODE_ERROR"},
         "attributes":[{"key":"gen_ai.operation.name","value":{"string_value":"chat"}},
                       {"key":"a","value":{"arrayValue":{}}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":7.0}},
                       {"key":"n","value":{"doubleValue":"NaN"}},{"key":"e","value":{}}]},
        {"traceId":"00","spanId":"eee19b7ec3c1b174","name":"bad id"}]}]}]}"#;
    let decoded = decode(body, Encoding::Json).expect("the body is read");
    assert_eq!(decoded.rejected.len(), 1);
    assert!(
        decoded.rejected[0].contains("span 1") && decoded.rejected[0].contains("16 bytes"),
        "{:?}",
        decoded.rejected
    );
    let span = &decoded.spans[0];
    assert_eq!(span.trace_id, "5b8efff798038103d269b633813fc60c");
    assert_eq!(span.kind, SpanKind::Llm);
    assert_eq!(span.status, Status::Error);
    assert_eq!(span.name, "x\u{fffd}");
    assert_eq!(span.usage.map(|u| u.input_tokens), Some(7));
}

#[test]
fn a_body_that_is_something_else_is_an_error() {
    assert!(decode(b"not json", Encoding::Json).is_err());
    assert!(decode(b"\xff\xff\xff", Encoding::Protobuf).is_err());
    assert!(decode(br#"{"resourceSpans":{}}"#, Encoding::Json).is_err());
    let empty = decode(b"", Encoding::Protobuf).expect("an empty request is a request");
    assert!(empty.spans.is_empty() && empty.rejected.is_empty());
    let logs = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"no ids"}]}]}]}"#;
    assert!(decode(logs, Encoding::Json).is_err(), "ids are demanded");
}

#[test]
fn native_traces_are_read_with_unknown_scalars_as_tags() {
    let trace = json!({"trace_id": "order-1", "input": "hi", "output": [{"role": "assistant", "content": null,
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}],
        "context": ["one", {"id": "d", "content": "two", "score": 0.5}], "tier": "gold", "nested": {"x": 1},
        "spans": [{"span_id": "s1", "kind": "llm", "output": "x"}]});
    let spans = native::spans(&trace).expect("valid");
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[0].tags.get("tier").map(String::as_str), Some("gold"));
    assert!(!spans[0].tags.contains_key("nested"));
    assert_eq!(spans[0].output[0].tool_calls[0].arguments, json!({"a": 1}));
    assert_eq!(spans[1].parent_id.as_ref(), Some(&spans[0].span_id));
    assert!(spans[0].complete);
}

#[test]
fn a_wrong_native_field_is_named() {
    for (trace, word) in [
        (json!({"output": "x"}), "trace_id"),
        (json!({"trace_id": "t", "model": {"a": 1}}), "`model`"),
        (json!({"trace_id": "t", "started_at": "yesterday"}), "`started_at`"),
        (json!({"trace_id": "t", "spans": [{"kind": "nonsense"}]}), "spans[0]"),
        (json!([1]), "object"),
    ] {
        let error = native::spans(&trace).expect_err("invalid");
        assert!(error.contains(word), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        drop(decode(&bytes, Encoding::Json));
        drop(decode(&bytes, Encoding::Protobuf));
    }

    #[test]
    fn no_mangled_capture_panics(at in 0usize..50_000, byte in proptest::prelude::any::<u8>()) {
        let mut body = GENAI_JSON.to_vec();
        let at = at % body.len();
        body[at] = byte;
        drop(decode(&body, Encoding::Json));
    }
}
