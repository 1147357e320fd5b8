//! One message → rows of the inbox, or why it is none.
//!
//! Called by `pipeline::pull` on rayon. Its rules: a message is read as the configuration says and as the door of the same format would read it;
//! of a message that can be read in part, that part is taken; headers say something about all spans. The way not taken: reading a
//! message as whatever it looks like.

use crate::app::Bench;
use crate::config::{Format, HeaderField, Source};
use crate::dialect::encoding::unpack;
use crate::dialect::logs::decode_logs;
use crate::dialect::{Encoding, decode, native, units};
use crate::domain::span::Span;
use crate::pipeline::ingest::{ids_are_usable, rows};
use crate::sources::Letter;
use crate::store::inbox::InboxSpan;

/// What a message holds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Its spans, redacted.
    pub rows: Vec<InboxSpan>,
    /// Place and reason of each span or trace that cannot be used.
    pub refused: Vec<String>,
    /// Log records that say nothing about a span.
    pub dropped: u64,
}

/// Reads a message.
///
/// # Errors
/// Why nothing in it can be used; the text may quote the message.
pub(super) fn read(bench: &Bench, source: &Source, letter: &Letter) -> Result<Taken, String> {
    let limit = bench.config.server.body_bytes_max;
    let size = letter.body.len();
    if size > limit {
        return Err(format!("it has {size} bytes, more than the {limit} of server.body_bytes_max"));
    }
    let body = unpack(letter.body.clone(), letter.header("content-encoding"), limit).map_err(|e| e.to_string())?;
    let mut taken = Taken::default();
    let spans = match source.format_of(&letter.subject) {
        Format::OtlpProto => otlp(&body, Encoding::Protobuf, &mut taken)?,
        Format::OtlpJson => otlp(&body, Encoding::Json, &mut taken)?,
        Format::OtlpLogsProto => logs(&body, Encoding::Protobuf, &mut taken)?,
        Format::OtlpLogsJson => logs(&body, Encoding::Json, &mut taken)?,
        Format::Native => traces(&body, &mut taken)?,
    };
    let (mut good, bad): (Vec<_>, Vec<_>) = spans.into_iter().partition(ids_are_usable);
    taken.refused.extend(bad.iter().map(|span| format!("span {:?}: its ids cannot be used", span.name)));
    if good.is_empty()
        && let Some(first) = taken.refused.first()
    {
        return Err(first.clone());
    }
    for span in &mut good {
        apply(source, letter, span);
    }
    taken.rows = rows(bench, good);
    Ok(taken)
}

fn otlp(body: &[u8], encoding: Encoding, taken: &mut Taken) -> Result<Vec<Span>, String> {
    let decoded = decode(body, encoding).map_err(|e| e.0)?;
    taken.refused = decoded.rejected;
    Ok(decoded.spans)
}

fn logs(body: &[u8], encoding: Encoding, taken: &mut Taken) -> Result<Vec<Span>, String> {
    let decoded = decode_logs(body, encoding).map_err(|e| e.0)?;
    taken.dropped = decoded.dropped;
    Ok(decoded.parts)
}

fn traces(body: &[u8], taken: &mut Taken) -> Result<Vec<Span>, String> {
    let (mut spans, mut refused) = (Vec::new(), Vec::new());
    let mut take = |line: usize, unit: Result<serde_json::Value, String>| match unit.and_then(|u| native::spans(&u)) {
        // A trace is one unit: with a span that cannot be stored none of it is.
        Ok(trace) if trace.iter().all(ids_are_usable) => {
            spans.extend(trace);
            true
        }
        Ok(_) => {
            refused.push(format!("line {line}: a span id cannot be used"));
            false
        }
        Err(why) => {
            refused.push(format!("line {line}: {why}"));
            false
        }
    };
    let whole = units::each(body, false, &mut take);
    if spans.is_empty() {
        let none = || "it is empty; a trace is {trace_id: …, input: …, output: …}".to_owned();
        let first = whole.map(|(line, why)| format!("line {line}: {why}")).or_else(|| refused.first().cloned());
        return Err(first.unwrap_or_else(none));
    }
    taken.refused = refused;
    Ok(spans)
}

/// Headers win over what a span says, since whoever runs the pipeline sets them; the constant is for spans that say nothing.
fn apply(source: &Source, letter: &Letter, span: &mut Span) {
    for (field, name) in &source.headers {
        let Some(value) = letter.header(name).filter(|value| !value.is_empty()) else { continue };
        let place = match field {
            HeaderField::Tenant => &mut span.tenant,
            HeaderField::Environment => &mut span.environment,
            HeaderField::Service => &mut span.service,
            HeaderField::Feature => &mut span.feature,
        };
        *place = Some(value.to_owned());
    }
    if span.tenant.is_none() {
        span.tenant.clone_from(&source.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::clock::SystemClock;
    use bytes::Bytes;
    use std::io::Write;
    use std::sync::Arc;

    const NATIVE: &str = r#"{"trace_id":"t-1","input":"a","output":"b","tenant":"own"}"#;

    fn bench() -> Bench {
        Bench::without_rubrics(Config::default(), Arc::new(SystemClock), None).expect("the defaults are valid")
    }

    fn source(more: &str) -> Source {
        let text = format!("name = \"a\"\nkind = \"nats\"\nurl = \"nats://x\"\nstream = \"S\"\n{more}");
        toml::from_str(&text).expect("a valid source")
    }

    fn letter(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Letter {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Letter { subject: "llm.a".to_owned(), position: "S 1".to_owned(), headers, body: body.into(), deliveries: 1 }
    }

    fn tenants(taken: &Taken) -> Vec<Option<String>> {
        let span = |row: &InboxSpan| serde_json::from_slice::<Span>(&row.body).expect("a row is a span").tenant;
        taken.rows.iter().map(span).collect()
    }

    #[test]
    fn headers_win_and_the_constant_fills() {
        let source =
            source("format = \"native\"\ntenant = \"everybody\"\n[headers]\ntenant = \"X-Tenant\"\nfeature = \"f\"");
        let read = |headers: &[(&str, &str)], body: &'static str| {
            tenants(&read(&bench(), &source, &letter(headers, body)).expect("it can be read"))
        };
        assert_eq!(read(&[("x-tenant", "acme")], NATIVE), [Some("acme".to_owned())]);
        assert_eq!(read(&[], NATIVE), [Some("own".to_owned())]);
        assert_eq!(read(&[("x-tenant", "")], r#"{"trace_id":"t","output":"b"}"#), [Some("everybody".to_owned())]);
    }

    #[test]
    fn a_message_is_taken_in_part_or_not_at_all() {
        let source = source("format = \"native\"");
        let two = format!("{NATIVE}\n{{\"output\":\"no id\"}}\n");
        let taken = read(&bench(), &source, &letter(&[], two)).expect("one of two can be read");
        assert_eq!((taken.rows.len(), taken.refused.len()), (1, 1));
        assert!(taken.refused[0].starts_with("line 2: `trace_id` is missing"), "{:?}", taken.refused);
        for (body, words) in
            [("", "it is empty"), ("{", "line 1: not JSON"), ("{\"output\":1}", "`trace_id` is missing")]
        {
            let error = read(&bench(), &source, &letter(&[], body)).expect_err(body);
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_packed_body_is_unpacked_within_the_limit() {
        let source = source("format = \"native\"");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(NATIVE.as_bytes()).expect("memory can be written");
        let packed = packed.finish().expect("memory can be written");
        let gzip = letter(&[("Content-Encoding", "gzip")], packed);
        assert_eq!(read(&bench(), &source, &gzip).expect("it can be read").rows.len(), 1);
        let mut small = bench();
        small.config.server.body_bytes_max = 10;
        assert!(read(&small, &source, &gzip).expect_err("too large").contains("server.body_bytes_max"));
    }

    #[test]
    fn the_wrong_format_is_poison() {
        for format in ["otlp_proto", "otlp_json", "otlp_logs_json"] {
            let source = source(&format!("format = \"{format}\""));
            assert!(read(&bench(), &source, &letter(&[], NATIVE)).is_err(), "{format}");
        }
        // No spans at all are no mistake: a Collector may send such a request.
        let source = source("format = \"otlp_json\"");
        let taken = read(&bench(), &source, &letter(&[], "{\"resourceSpans\":[]}")).expect("an empty request is one");
        assert!(taken.rows.is_empty() && taken.refused.is_empty());
    }
}
