//! Property tests: whatever the order, the doubling and the splitting of what real instrumentations sent, the trace is the same.
//!
//! Its rule: every capture of `tests/fixtures/captures`, also where some of it comes after the trace was stored; and bodies that
//! are split span by span, record by record, on the wire. The same over HTTP and Postgres is in `tests/it/assembly.rs`.

use super::assemble;
use super::captures::{folder, spans_of, traces};
use crate::dialect::{Encoding, decode, logs};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Every directory, with its spans by trace.
static CAPTURES: LazyLock<BTreeMap<String, BTreeMap<String, Vec<Span>>>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).expect("the fixtures are there") {
        let entry = entry.expect("an entry");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut by_trace: BTreeMap<String, Vec<Span>> = BTreeMap::new();
            for span in spans_of(&name) {
                by_trace.entry(span.trace_id.clone()).or_default().push(span);
            }
            all.insert(name, by_trace);
        }
    }
    assert!(all.len() >= 22, "{} captures", all.len());
    all
});

/// What a trace is after it was stored and read.
fn stored(trace: &Trace) -> Trace {
    serde_json::from_slice(&serde_json::to_vec(trace).expect("a trace can be written")).expect("its own text")
}

/// Shuffled, with some spans twice, and cut into up to four pieces, of which the first is not empty.
fn waves(spans: &[Span], rng: &mut StdRng) -> Vec<Vec<Span>> {
    let mut all = spans.to_vec();
    for span in spans {
        if rng.random_bool(0.3) {
            all.push(span.clone());
        }
    }
    all.shuffle(rng);
    let mut waves = vec![Vec::new(); rng.random_range(1..=4)];
    for (n, span) in all.into_iter().enumerate() {
        let wave = if n == 0 { 0 } else { rng.random_range(0..waves.len()) };
        waves[wave].push(span);
    }
    waves
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn order_doubling_and_lateness_make_no_difference(seed in any::<u64>()) {
        let mut rng = StdRng::seed_from_u64(seed);
        for (directory, by_trace) in CAPTURES.iter() {
            for (id, spans) in by_trace {
                let want = assemble(id, spans.clone());
                let mut waves = waves(spans, &mut rng).into_iter();
                let mut trace = assemble(id, waves.next().unwrap_or_default());
                for late in waves {
                    trace = assemble(id, stored(&trace).into_pieces().into_iter().chain(late).collect());
                }
                prop_assert!(trace == want, "{} {}: {:#?}\n{:#?}", directory, id, trace.view, want.view);
            }
        }
    }
}

/// The bodies of a file, one span or record each.
fn apart(name: &str, body: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    if name.starts_with("logs") {
        let whole = ExportLogsServiceRequest::decode(body).expect("a capture decodes");
        for resource in whole.resource_logs {
            for scope in resource.scope_logs.clone() {
                for record in scope.log_records.clone() {
                    let scope = vec![opentelemetry_proto::tonic::logs::v1::ScopeLogs {
                        log_records: vec![record],
                        ..scope.clone()
                    }];
                    let one =
                        opentelemetry_proto::tonic::logs::v1::ResourceLogs { scope_logs: scope, ..resource.clone() };
                    bodies.push(ExportLogsServiceRequest { resource_logs: vec![one] }.encode_to_vec());
                }
            }
        }
    } else {
        let whole = ExportTraceServiceRequest::decode(body).expect("a capture decodes");
        for resource in whole.resource_spans {
            for scope in resource.scope_spans.clone() {
                for span in scope.spans.clone() {
                    let scope =
                        vec![opentelemetry_proto::tonic::trace::v1::ScopeSpans { spans: vec![span], ..scope.clone() }];
                    let one =
                        opentelemetry_proto::tonic::trace::v1::ResourceSpans { scope_spans: scope, ..resource.clone() };
                    bodies.push(ExportTraceServiceRequest { resource_spans: vec![one] }.encode_to_vec());
                }
            }
        }
    }
    bodies
}

#[test]
fn bodies_split_span_by_span_on_the_wire_give_the_same_traces() {
    let mut bodies = 0;
    for directory in CAPTURES.keys() {
        let (mut spans, mut read) = (Vec::new(), true);
        for entry in std::fs::read_dir(folder().join(directory)).expect("the fixture is there") {
            let path = entry.expect("a file").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            // Datadog's JSON is not an OTLP body.
            read &= path.extension().is_some_and(|e| e == "pb");
            let body = std::fs::read(&path).expect("the fixture is there");
            for one in if read { apart(name, &body) } else { Vec::new() } {
                bodies += 1;
                if name.starts_with("logs") {
                    spans.extend(logs::decode_logs(&one, Encoding::Protobuf).expect("a part decodes").parts);
                } else {
                    spans.extend(decode(&one, Encoding::Protobuf).expect("a part decodes").spans);
                }
            }
        }
        if read {
            spans.reverse();
            let (apart, whole) = (traces(spans), traces(spans_of(directory)));
            let bare = |all: &[Trace]| all.iter().map(|t| (t.view.clone(), t.spans.len())).collect::<Vec<_>>();
            assert_eq!(bare(&apart), bare(&whole), "{directory}");
        }
    }
    assert!(bodies > 200, "{bodies} bodies");
}
