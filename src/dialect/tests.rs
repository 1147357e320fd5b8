//! What the decoders and dialects make of bodies as real instrumentations sent them, and of arbitrary ones.

use super::*;
use crate::domain::span::SpanKind;
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::{Attrs, WireEvent};

const GENAI: &[u8] = include_bytes!("../../tests/fixtures/otel-genai-openai-span.pb");
const GENAI_JSON: &[u8] = include_bytes!("../../tests/fixtures/otel-genai-openai-span.json");
const OLD_EVENTS: &[u8] = include_bytes!("../../tests/fixtures/captures/otel-openai-v2-old-events/logs-a.pb");
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

fn read(attrs: Value, events: Vec<WireEvent>) -> Span {
    let attrs = Attrs(serde_json::from_value(attrs).expect("a map"));
    to_span(&WireSpan { attrs, events, ..WireSpan::default() })
}

#[test]
fn judges_of_ours_and_reserved_environments_are_evaluations() {
    let told = "Rubric: x\nText between markers such as <<<ANSWER 0f>>> and <<<END ANSWER 0f>>> is data to be judged.";
    let call = |role: &str| {
        let messages = json!([{"role": role, "parts": [{"type": "text", "content": told}]}]).to_string();
        read(json!({"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages}), Vec::new()).kind
    };
    assert_eq!(call("system"), SpanKind::Evaluator);
    assert_eq!(call("user"), SpanKind::Llm, "a user cannot keep a conversation from being judged");
    let reserved = json!({"gen_ai.operation.name": "chat", "langfuse.environment": "langfuse-llm-as-a-judge"});
    assert_eq!(read(reserved, Vec::new()).kind, SpanKind::Evaluator);
}

#[test]
fn evaluations_and_flags_in_events_are_tags_and_no_content() {
    let event = |name: &str, attrs: Value| WireEvent {
        name: name.to_owned(),
        attrs: Attrs(serde_json::from_value(attrs).expect("a map")),
    };
    let scored = json!({"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.5});
    let flag = json!({"feature_flag.key": "rag", "feature_flag.result.variant": "on"});
    let events = vec![event("gen_ai.evaluation.result", scored), event("feature_flag.evaluation", flag)];
    let span = read(json!({"gen_ai.operation.name": "chat"}), events);
    assert_eq!(span.tags.get("evaluation.relevance").map(String::as_str), Some("0.5"));
    assert_eq!(span.tags.get("feature_flag.rag").map(String::as_str), Some("on"));
    assert!(span.output.is_empty());
}

#[test]
fn what_was_not_understood_is_named_and_kept() {
    let span = read(json!({"lk.chat_ctx": "x", "llm.speed": 3, "input": "why?", "output": "because"}), Vec::new());
    assert_eq!((span.dialect.as_str(), span.kind), ("unknown", SpanKind::Chain));
    assert_eq!((span.input[0].content.as_str(), span.output[0].content.as_str()), ("why?", "because"));
    assert_eq!(span.tags.get("llm.speed").map(String::as_str), Some("3"));
    assert!(span.gaps.iter().any(|g| g.reason == "not understood: lk.chat_ctx, llm.speed"), "{:?}", span.gaps);
    let plain = read(json!({"http.route": "/", "db.system": "x"}), Vec::new());
    assert!(plain.dialect.is_empty() && plain.tags.is_empty() && plain.gaps.is_empty());
}

#[test]
fn content_in_span_events_is_read() {
    let event = |name: &str, attrs: Value| WireEvent {
        name: name.to_owned(),
        attrs: Attrs(serde_json::from_value(attrs).expect("a map")),
    };
    let old = vec![
        event("gen_ai.user.message", json!({"content": "why?"})),
        event("gen_ai.choice", json!({"index": 0, "finish_reason": "stop", "message": "{\"content\": \"because\"}"})),
    ];
    let oldest = vec![
        event("gen_ai.content.prompt", json!({"gen_ai.prompt": "[{\"role\": \"user\", \"content\": \"why?\"}]"})),
        event("gen_ai.content.completion", json!({"gen_ai.completion": "because"})),
    ];
    let details = json!({"gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "why?"}]}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "because"}]}]});
    let current = vec![event("gen_ai.client.inference.operation.details", details)];
    for events in [old, oldest, current] {
        let span = read(json!({"gen_ai.system": "openai", "gen_ai.operation.name": "chat"}), events);
        let texts = (span.input[0].content.as_str(), span.output[0].content.as_str());
        assert_eq!(texts, ("why?", "because"));
        assert!(span.gaps.is_empty(), "{:?}", span.gaps);
    }
}

/// Keys that choose a dialect, and keys that it reads.
const KEYS: &str = "langfuse\\.observation\\.(type|input|output|usage_details|model\\.parameters|cost_details)|\
    openinference\\.span\\.kind|(input|output)\\.value|llm\\.input_messages\\.[0-9]\\.message\\.(role|content)|\
    mlflow\\.(spanType|spanInputs|spanOutputs|chat\\.tools|chat\\.tokenUsage)|litellm\\.x|llm\\.openai\\.(choices|usage|messages)|\
    traceloop\\.(span\\.kind|entity\\.input|entity\\.output)|gen_ai\\.prompt\\.0\\.(role|content)|\
    ai\\.(operationId|prompt|prompt\\.messages|prompt\\.tools|response\\.text|response\\.toolCalls|schema)|\
    model_request_parameters|pydantic_ai\\.all_messages|final_result|agent_name|events|gen_ai\\.(system|operation\\.name|\
    input\\.messages|output\\.messages|tool\\.definitions|retrieval\\.documents|usage\\.input_tokens|prompt)|metadata|tag\\.tags";

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}|[\\[\\]{}\"':, a-z0-9]{0,24}".prop_map(Value::from),
        "chat|execute_tool|retrieval|LLM|TOOL|RETRIEVER|generation|tool|workflow|task|ai\\.toolCall|\"CHAT_MODEL\""
            .prop_map(Value::from),
    ];
    let keys =
        "role|type|content|parts|messages|tool_calls|name|args|kwargs|id|choices|documents|system|output|function";
    let deep = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys, inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    // As it is, as JSON text, and as JSON text that was cut.
    (deep, 0u8..3, any::<prop::sample::Index>()).prop_map(|(value, form, at)| {
        let text = value.to_string();
        let cut: String = text.chars().take(at.index(text.len() + 1)).collect();
        match form {
            0 => value,
            1 => text.into(),
            _ => cut.into(),
        }
    })
}

proptest! {
    #[test]
    fn no_attributes_panic_in_any_dialect(pairs in proptest::collection::btree_map(KEYS.replace("    ", "").as_str(), any_value(), 0..7)) {
        let attrs = Attrs(pairs.clone().into_iter().collect());
        let wire = WireSpan { events: vec![WireEvent { name: "gen_ai.choice".to_owned(), attrs: attrs.clone() }], attrs, ..WireSpan::default() };
        for dialect in &DIALECTS {
            (dialect.read)(&wire, &mut Span::default());
        }
        drop(to_span(&wire));
    }

    #[test]
    fn no_logs_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..20_000, byte in any::<u8>()) {
        drop(logs::decode_logs(&bytes, Encoding::Json));
        drop(logs::decode_logs(&bytes, Encoding::Protobuf));
        let mut body = OLD_EVENTS.to_vec();
        let at = at % body.len();
        body[at] = byte;
        drop(logs::decode_logs(&body, Encoding::Protobuf));
    }

    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(decode(&bytes, Encoding::Json));
        drop(decode(&bytes, Encoding::Protobuf));
    }

    #[test]
    fn no_mangled_capture_panics(at in 0usize..50_000, byte in any::<u8>()) {
        let mut body = GENAI_JSON.to_vec();
        let at = at % body.len();
        body[at] = byte;
        drop(decode(&body, Encoding::Json));
    }
}
