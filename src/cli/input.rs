//! Files of traces: native JSON lines, OTLP protobuf and OTLP JSON.
//!
//! Read by `eval` and `demo`. Its rule: the form is told from the content where the name does not say it; a bad line is named
//! and the rest is used. The way not taken: a flag for the format.

use crate::dialect::{Encoding, decode, native};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::pipeline::assemble::assemble;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Traces of some files, and what could not be used.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub traces: Vec<Trace>,
    pub rejected: Vec<String>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Otlp(Encoding),
    Native,
}

/// Tells the form of a file.
pub(super) fn form(path: &Path, body: &[u8]) -> Form {
    let named = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if matches!(named, "pb" | "binpb" | "protobuf") {
        return Form::Otlp(Encoding::Protobuf);
    }
    let start = &body[..body.len().min(4096)];
    let has = |needle: &[u8]| start.windows(needle.len()).any(|w| w == needle);
    if has(b"\"resourceSpans\"") || has(b"\"resource_spans\"") { Form::Otlp(Encoding::Json) } else { Form::Native }
}

/// Reads files.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Input> {
    let mut input = Input::default();
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for path in files {
        let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let place = |what: &str| format!("{}: {what}", path.display());
        let found = match form(path, &body) {
            Form::Otlp(encoding) => {
                let decoded = decode(&body, encoding).with_context(|| place("not an OTLP body"))?;
                input.rejected.extend(decoded.rejected.iter().map(|why| place(why)));
                decoded.spans
            }
            Form::Native => {
                native_spans(&body, &mut |line, why| input.rejected.push(place(&format!("line {line}: {why}"))))
            }
        };
        for span in found {
            spans.entry(span.trace_id.clone()).or_default().push(span);
        }
    }
    input.traces = spans.into_iter().map(|(id, spans)| assemble(&id, spans)).collect();
    Ok(input)
}

fn native_spans(body: &[u8], reject: &mut dyn FnMut(usize, String)) -> Vec<Span> {
    let mut found = Vec::new();
    let mut take = |line: usize, value: Result<serde_json::Value, String>| match value.and_then(|v| native::spans(&v)) {
        Ok(spans) => found.extend(spans),
        Err(why) => reject(line, why),
    };
    match serde_json::from_slice(body) {
        Ok(serde_json::Value::Array(list)) => list.into_iter().enumerate().for_each(|(n, v)| take(n + 1, Ok(v))),
        Ok(one) => take(1, Ok(one)),
        Err(_) => {
            for (n, line) in body.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
                take(n + 1, serde_json::from_slice(line).map_err(|e| format!("not JSON: {e}")));
            }
        }
    }
    found
}
