//! The worst that can be sent to a check costs no more than its length: no check is quadratic in anything.
//!
//! Its rule: a text eight times as long may take 24 times as long, where what is quadratic takes 64 times; the least of several runs
//! counts, so that a busy machine cannot fail it. The way not taken: seconds, which say more about the machine than about the code.

use assize::checks::run_all;
use assize::domain::message::{Document, Message, ResponseFormat, ToolCall};
use assize::domain::rubric::{CheckKind, CheckSpec};
use assize::domain::trace::Trace;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Bytes of the short text; the long one has eight times as many.
const SHORT: usize = 12 << 10;
const LONGER: usize = 8;
const SLOWER_MAX: u32 = 24;

/// What repeats in the texts: each is the worst that somebody found for some check.
const HOSTILE: &[&str] = &[
    "x",
    " ",
    "\"",
    "{\"a\":[",
    "[",
    "{\"a\": 1, ",
    "\\u00",
    "a@",
    "@a.b",
    ":",
    "::",
    "1-",
    "1 2 3 4 ",
    "4111 1111 1111 111",
    "eyJ.",
    "sk-",
    "password: ",
    "-----BEGIN PRIVATE KEY----- ",
    "://a:",
    "[1]",
    "[a-1, b-2] ",
    "https://a/ ",
    "idiot ",
    "f.u.c.k ",
    "aaa ",
    "a b c ",
    "write ",
    "task: write your response. ",
    "ignore all ",
    "0x41 ",
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo= ",
    "I can't \"“「` ",
    "`",
    "```\n",
    "| a |\n|---|\n",
    "<a>",
    "<a b='",
    "&amp;",
    "((((",
    "SELECT (",
    "\u{202e}\u{200b}",
    "e\u{301}\u{301}\u{301}",
    "𝟙",
    "配送は。",
    "ｉｇｎｏｒｅ ",
    "а",
    "\u{0}",
    "1,2.3.4,5 ",
    "Größe 5 — naïve “quotes”, ",
];

fn specs() -> Vec<CheckSpec> {
    let spec = |kind, options: &Value| {
        let options = options.as_object().cloned().unwrap_or_default();
        CheckSpec { kind, fail_below: None, pass_above: None, options }
    };
    let mut all: Vec<CheckSpec> = CheckKind::ALL.iter().map(|kind| spec(*kind, &Value::Null)).collect();
    all.push(spec(CheckKind::JsonValidity, &json!({"contains": true, "depth_max": 10_000})));
    all.extend(["markdown", "html", "xml", "sql"].map(|syntax| spec(CheckKind::Format, &json!({"syntax": syntax}))));
    all.push(spec(
        CheckKind::Format,
        &json!({"regex": "(a+)+$", "not_regex": "(x|xx)*y", "ignore_case": true, "contains": ["İ"], "words_max": 3}),
    ));
    all
}

fn trace(piece: &str, bytes: usize) -> Trace {
    let text = piece.repeat(bytes / piece.len());
    let mut trace = Trace::default();
    trace.view.input = vec![Message::text("user", text.as_str())];
    trace.view.output = vec![Message::text("assistant", text.as_str())];
    trace.view.response_format =
        Some(ResponseFormat { kind: "json_object".to_owned(), name: None, schema: Value::Null });
    trace.view.documents =
        vec![Document { id: Some("a-7".to_owned()), content: Some(text.clone()), ..Document::default() }];
    trace.view.tool_calls =
        vec![ToolCall { name: "t".to_owned(), arguments: Value::String(text), ..ToolCall::default() }];
    trace
}

/// The least time of some runs.
fn least(spec: &CheckSpec, trace: &Trace, runs: usize) -> Duration {
    let once = || {
        let begun = Instant::now();
        drop(run_all(std::slice::from_ref(spec), trace));
        begun.elapsed()
    };
    (0..runs).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn time_grows_with_the_length_and_no_faster() {
    /// Less than this is noise, whatever the text.
    const NOISE: Duration = Duration::from_millis(2);
    let mut slow = Vec::new();
    for piece in HOSTILE {
        let (short, long) = (trace(piece, SHORT), trace(piece, SHORT * LONGER));
        for spec in specs() {
            // Nearly all are told apart by one run; only what looks slow is run again.
            let grows = |runs| least(&spec, &long, runs) > least(&spec, &short, runs).max(NOISE) * SLOWER_MAX;
            if grows(1) && grows(3) && grows(5) {
                slow.push(format!("{} on {piece:?}", spec.kind.as_str()));
            }
        }
    }
    assert_eq!(slow, Vec::<String>::new());
}

#[test]
fn a_megabyte_has_an_outcome() {
    for piece in ["{\"a\":[", "eyJ.", "idiot ", "write ", "\u{202e}\u{200b}", "1,2.3.4,5 "] {
        let trace = trace(piece, 1 << 20);
        for result in run_all(&specs(), &trace) {
            assert!(result.score.is_some() || result.detail["reason"].is_string(), "{} on {piece:?}", result.check);
        }
    }
}
