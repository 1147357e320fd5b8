//! Every parser of text from outside, each behind one door that takes any bytes.
//!
//! Called by `tests/parsers/main.rs` with bytes from proptest and by the targets of `fuzz/` with bytes from libFuzzer. Its rule: a
//! door panics only where a promise is broken: whatever comes, a parser returns, scores stay in range and evidence inside
//! its text. The way not taken: a door a crate, which lets the two ways of testing drift apart.

use assize::checks::{redact::Redactor, run_all};
use assize::config::Config;
use assize::dialect::{self, Encoding, Signal, datadog, encoding, labels, logs, native};
use assize::domain::message::{Document, Message, ResponseFormat, ToolCall, ToolDefinition};
use assize::domain::personal::{Action, Category, RedactionPolicy};
use assize::domain::rubric::{CheckKind, CheckOptions, CheckSpec, Output};
use assize::domain::rung::Rung;
use assize::domain::span::Span;
use assize::domain::trace::Trace;
use assize::judge::{claims, reply};
use assize::rubrics::parse;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// What takes bytes of any kind.
pub type Door = fn(&[u8]);

/// Each door by the name of its fuzz target.
pub const DOORS: [(&str, Door); 18] = [
    ("check_citations", check_citations),
    ("check_format", check_format),
    ("check_injection", check_injection),
    ("check_json", check_json),
    ("check_personal", check_personal),
    ("check_schema", check_schema),
    ("check_text", check_text),
    ("config", config),
    ("datadog_json", datadog_json),
    ("dialect", attributes),
    ("judge_reply", judge_reply),
    ("labels", label_lines),
    ("logs", log_records),
    ("msgpack", msgpack),
    ("native", native_lines),
    ("otlp_json", otlp_json),
    ("otlp_proto", otlp_proto),
    ("rubric", rubric),
];

/// Hands bytes to the door of this name.
pub fn knock(name: &str, data: &[u8]) {
    let (_, door) = DOORS.iter().find(|(known, _)| *known == name).expect("a fuzz target has a door");
    door(data);
}

/// The text of the bytes, and its parts between zero bytes: question, answer, document, instructions.
fn parts(data: &[u8]) -> [String; 4] {
    let mut pieces = data.splitn(4, |b| *b == 0).map(|piece| String::from_utf8_lossy(piece).into_owned());
    [(); 4].map(|()| pieces.next().unwrap_or_default())
}

fn spec(kind: CheckKind, options: &Value) -> CheckSpec {
    let options: CheckOptions = options.as_object().cloned().unwrap_or_default();
    CheckSpec { kind, fail_below: None, pass_above: None, options }
}

fn trace([question, answer, document, system]: &[String; 4]) -> Trace {
    let mut trace = Trace::default();
    trace.view.input = vec![Message::text("user", question.as_str())];
    trace.view.output = vec![Message::text("assistant", answer.as_str())];
    let id = Some(document.chars().take(8).collect());
    trace.view.documents = vec![Document { id, content: Some(document.clone()), ..Document::default() }];
    trace.view.system = Some(system.clone());
    trace
}

/// Runs checks and holds what every check promises.
fn hold(specs: &[CheckSpec], trace: &Trace) {
    for result in run_all(specs, trace) {
        assert!(
            result.score.is_none_or(|score| (0.0..=1.0).contains(&score)),
            "{} scored {:?}",
            result.check,
            result.score
        );
        let longest = [trace.question().map(str::to_owned), trace.answer()].into_iter().flatten();
        let documents = trace.view.documents.iter().filter_map(|d| d.content.clone());
        let most = longest.chain(documents).map(|text| text.chars().count()).max().unwrap_or_default();
        inside(&result.detail, most as u64, &result.check);
    }
}

/// Every `at` is a range of characters that some text of the trace has.
fn inside(detail: &Value, most: u64, check: &str) {
    match detail {
        Value::Object(map) => {
            if let Some([start, end]) = map.get("at").and_then(Value::as_array).map(Vec::as_slice) {
                let (start, end) = (start.as_u64(), end.as_u64());
                assert!(start <= end && end <= Some(most), "{check}: {start:?}..{end:?} of {most}");
            }
            map.values().for_each(|value| inside(value, most, check));
        }
        Value::Array(list) => list.iter().for_each(|value| inside(value, most, check)),
        _ => {}
    }
}

/// All checks as a rubric without options runs them.
fn check_text(data: &[u8]) {
    let specs: Vec<CheckSpec> = CheckKind::ALL.iter().map(|kind| spec(*kind, &Value::Null)).collect();
    hold(&specs, &trace(&parts(data)));
}

fn check_json(data: &[u8]) {
    let answer = String::from_utf8_lossy(data).into_owned();
    let specs = [
        json!({"always": true}),
        json!({"contains": true}),
        json!({"always": true, "not_a_number": "note", "trailing_text": "note", "code_fence": "note",
            "lone_surrogates": "note", "duplicate_keys": "fail", "depth_max": 5}),
    ];
    let specs = specs.map(|options| spec(CheckKind::JsonValidity, &options));
    let trace = trace(&[String::new(), answer.clone(), String::new(), String::new()]);
    hold(&specs, &trace);
    // What the check calls valid, another parser reads too.
    let strict = run_all(&specs[..1], &trace);
    if strict[0].score == Some(1.0) {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&answer).is_ok(), "valid for us alone");
    }
}

/// A schema, then an answer; the schema is a tool's too.
fn check_schema(data: &[u8]) {
    let [schema, answer, ..] = parts(data);
    let schema: Value = serde_json::from_str(&schema).unwrap_or_else(|_| json!({"pattern": schema}));
    let mut trace = trace(&[String::new(), answer.clone(), String::new(), String::new()]);
    trace.view.response_format =
        Some(ResponseFormat { kind: "json_schema".to_owned(), name: None, schema: schema.clone() });
    trace.view.tools = vec![ToolDefinition { name: "t".to_owned(), description: None, parameters: schema }];
    trace.view.tool_calls =
        vec![ToolCall { name: "t".to_owned(), arguments: Value::String(answer), ..ToolCall::default() }; 3];
    let drafts = ["7", "2019-09", "2020-12"]
        .map(|draft| spec(CheckKind::JsonValidity, &json!({"draft": draft, "formats": true})));
    hold(&drafts, &trace);
    hold(&[spec(CheckKind::ToolUse, &Value::Null)], &trace);
}

fn check_format(data: &[u8]) {
    let [pattern, answer, word, _] = parts(data);
    let syntaxes = ["markdown", "html", "xml", "sql"].map(|syntax| json!({"syntax": syntax}));
    let dialects = ["mysql", "postgres", "mssql", "bigquery"].map(|sql| json!({"syntax": "sql", "sql_dialect": sql}));
    let words = json!({"regex": pattern, "not_regex": word, "contains": [word], "not_contains": [pattern], "ignore_case": true,
        "starts_with": word, "chars_max": 10, "words_min": 2});
    let all = syntaxes.into_iter().chain(dialects).chain([words]);
    let specs: Vec<CheckSpec> = all.map(|options| spec(CheckKind::Format, &options)).collect();
    hold(&specs, &trace(&[String::new(), answer, String::new(), String::new()]));
}

fn check_injection(data: &[u8]) {
    hold(&[spec(CheckKind::PromptInjection, &Value::Null)], &trace(&parts(data)));
}

fn check_citations(data: &[u8]) {
    hold(&[spec(CheckKind::Citations, &json!({"required": true}))], &trace(&parts(data)));
}

/// Found, and taken out: what was taken out is not found again by its kind alone.
fn check_personal(data: &[u8]) {
    hold(&[spec(CheckKind::PersonalData, &Value::Null)], &trace(&parts(data)));
    let text = String::from_utf8_lossy(data);
    let redactor = redactor();
    if let Some(once) = redactor.text("trace", &text) {
        assert!(once != text, "a text that is told to be changed is another");
        drop(redactor.text("trace", &once));
    }
}

/// Secrets are dropped, everything else is masked.
fn redactor() -> Redactor {
    let policy = RedactionPolicy::new(|c| if c == Category::Secret { Action::Drop } else { Action::Mask });
    Redactor::new(policy, b"key")
}

/// What a door of ours does with spans: every text of them is read again.
fn used(mut spans: Vec<Span>) {
    let redactor = redactor();
    for span in &mut spans {
        redactor.span(span);
        let text = serde_json::to_string(span).expect("a span can be written");
        let again: Span = serde_json::from_str(&text).expect("a span that was written can be read");
        assert_eq!(again.trace_id, span.trace_id, "ids survive storing");
    }
}

fn otlp(data: &[u8], encoding: Encoding) {
    if let Ok(decoded) = dialect::decode(data, encoding) {
        used(decoded.spans);
    }
    for signal in [Signal::Logs, Signal::Metrics] {
        drop(dialect::count_signal(signal, data, encoding));
    }
}

fn otlp_json(data: &[u8]) {
    otlp(data, Encoding::Json);
}

fn otlp_proto(data: &[u8]) {
    otlp(data, Encoding::Protobuf);
    for packing in ["gzip", "zstd", "deflate"] {
        if let Ok(body) = encoding::unpack(data.to_vec().into(), Some(packing), 1 << 20) {
            otlp(&body, Encoding::Protobuf);
        }
    }
}

fn log_records(data: &[u8]) {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        if let Ok(decoded) = logs::decode_logs(data, encoding) {
            used(decoded.parts);
        }
    }
}

fn datadog_json(data: &[u8]) {
    if let Ok(decoded) = datadog::decode_json(data) {
        used(decoded.spans);
    }
}

fn msgpack(data: &[u8]) {
    if let Ok(all) = datadog::decode_msgpack(data) {
        used(all.decoded.spans);
    }
}

fn native_lines(data: &[u8]) {
    let mut read = |_: usize, unit: Result<Value, String>| match unit.and_then(|value| native::spans(&value)) {
        Ok(spans) => {
            used(spans);
            true
        }
        Err(_) => false,
    };
    for by_line in [true, false] {
        drop(dialect::units::each(data, by_line, &mut read));
    }
}

fn label_lines(data: &[u8]) {
    for by_line in [true, false] {
        drop(labels::drafts(data, by_line));
    }
}

/// A span by its attributes. Each line is one: two bytes that pick the key among those that dialects know, a byte for the type, and
/// the value; so that any bytes reach the readers behind the recognition.
fn attributes(data: &[u8]) {
    let mut attributes = Vec::new();
    let mut name = String::from("chat");
    for line in data.split(|b| *b == b'\n').take(64) {
        let Some(([low, high, kind], rest)) = line.split_first_chunk::<3>() else { continue };
        let text = String::from_utf8_lossy(rest).into_owned();
        let known = KEYS[usize::from(u16::from_le_bytes([*low, *high])) % KEYS.len()];
        let key = known.replace('#', &(rest.first().copied().unwrap_or_default() % 4).to_string());
        let value = match kind % 7 {
            0 | 1 => json!({"stringValue": text}),
            2 => json!({"intValue": text}),
            3 => json!({"doubleValue": rest.len() as f64 / 3.0}),
            4 => json!({"boolValue": rest.len() % 2 == 0}),
            5 => {
                json!({"arrayValue": {"values": text.split(',').map(|t| json!({"stringValue": t})).collect::<Vec<_>>()}})
            }
            _ => json!({"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": text}}]}}),
        };
        known.clone_into(&mut name);
        attributes.push(json!({"key": key, "value": value}));
    }
    let events = json!([{"name": name, "timeUnixNano": "1", "attributes": attributes}]);
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": name,
        "startTimeUnixNano": "1", "endTimeUnixNano": "2", "attributes": attributes, "events": events});
    let body = json!({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]}]});
    otlp_json(body.to_string().as_bytes());
    let record = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "eventName": name,
        "attributes": attributes, "body": {"kvlistValue": {"values": attributes}}});
    let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]});
    log_records(body.to_string().as_bytes());
}

/// Keys that dialects read or senders write, `#` for an index: those of the recorded bodies and of the dialects' own code.
static KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("keys.txt").lines().collect());

fn rubric(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    drop(parse::rubric(Path::new("fuzz.yaml"), &text, &BTreeMap::new()).map_err(|error| error.render(false)));
}

fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(config) = toml::from_str::<Config>(&text)
        && config.check().is_ok()
    {
        assert!(toml::from_str::<toml::Value>(&config.redacted()).is_ok(), "what is shown is TOML");
    }
}

fn judge_reply(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let outputs = [
        Output::default(),
        Output::Boolean { better: assize::domain::rubric::Better::Lower },
        Output::Category { values: [("good".to_owned(), 1.0), ("bad".to_owned(), 0.0)].into() },
    ];
    for rung in [Rung::JsonSchema, Rung::Tool, Rung::JsonObject, Rung::JsonText, Rung::LabelText] {
        for output in &outputs {
            if let Ok(understood) = reply::read(&text, output, rung, "canary") {
                assert!((0.0..=1.0).contains(&understood.score), "{}", understood.score);
            }
            drop(reply::abstains(&text, output, rung, "canary"));
        }
        drop(claims::read_split(&text, rung, "canary"));
        let claim = claims::Claim::new(1, "It rains.".to_owned());
        drop(claims::read_verdicts(&text, rung, "canary", &[&claim], "It rains in Spain."));
    }
}
