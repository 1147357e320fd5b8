//! What the checks cost a trace: each by itself, and the suite, on an answer of 200 words with a context of 2,000.
//!
//! `cargo bench --bench checks`; with `-- --peers` the same inputs go through Python's `json.loads` and rouge-score too, in turns within
//! one run (`checks/peers.rs`, `checks_peers.py`). Its rule: what is measured is `checks::run_all` on a whole trace, shared work included, after one run
//! that compiles what is compiled once. JSON is 64 documents of three kilobytes, as they come from structured output. The way not taken: timing inner
//! functions, which leaves out what callers pay.

#[path = "checks/peers.rs"]
mod peers;

use assize::checks::run_all;
use assize::domain::message::{Document, Message, ResponseFormat};
use assize::domain::rubric::{CheckKind, CheckOptions, CheckSpec};
use assize::domain::trace::Trace;
use criterion::Criterion;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::hint::black_box;

fn spec(kind: CheckKind) -> CheckSpec {
    CheckSpec { kind, fail_below: None, pass_above: None, options: CheckOptions::new() }
}

/// Made-up words, so that nothing is known by heart.
fn words(rng: &mut StdRng, n: usize) -> String {
    let word = |rng: &mut StdRng| -> String {
        (0..rng.random_range(1..=4))
            .flat_map(|_| {
                let (head, tail) = (rng.random_range(0..13), rng.random_range(0..5));
                ["bcdfglmnprstv".as_bytes()[head] as char, "aeiou".as_bytes()[tail] as char]
            })
            .collect()
    };
    (0..n).map(|k| if k % 14 == 13 { word(rng) + "." } else { word(rng) }).collect::<Vec<_>>().join(" ")
}

fn answered(rng: &mut StdRng) -> Trace {
    let mut trace = Trace::default();
    let context = words(rng, 2_000);
    let copied: Vec<&str> = context.split(' ').skip(300).take(120).collect();
    let answer = format!("{} {}", copied.join(" "), words(rng, 80));
    trace.view.input = vec![Message::text("user", words(rng, 20))];
    trace.view.output = vec![Message::text("assistant", answer)];
    trace.view.documents = vec![Document {
        id: Some("doc-1".to_owned()),
        content: Some(context),
        score: Some(0.8),
        ..Document::default()
    }];
    trace
}

fn structured(rng: &mut StdRng, schema: Value) -> Trace {
    let items: Vec<Value> = (0..11)
        .map(|n| json!({"name": words(rng, 2), "qty": n, "price": 12.5, "tags": [words(rng, 1), words(rng, 1)], "note": words(rng, 12)}))
        .collect();
    let mut trace = Trace::default();
    let document = json!({"id": "a-1", "status": "ok", "total": 77.25, "items": items});
    trace.view.output = vec![Message::text("assistant", document.to_string())];
    trace.view.response_format = Some(ResponseFormat { kind: "json_schema".to_owned(), name: None, schema });
    trace
}

fn schema() -> Value {
    json!({"type": "object", "required": ["id", "status", "items"], "properties": {
        "id": {"type": "string", "pattern": "^[a-z0-9-]+$"}, "status": {"enum": ["ok", "failed"]}, "total": {"type": "number"},
        "items": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["name", "qty", "price"],
            "properties": {"name": {"type": "string"}, "qty": {"type": "integer", "minimum": 0}, "price": {"type": "number"},
                "tags": {"type": "array", "items": {"type": "string"}}, "note": {"type": "string"}}}}}})
}

fn bench(criterion: &mut Criterion, name: &str, specs: &[CheckSpec], traces: &[Trace]) {
    let mut next = traces.iter().cycle();
    criterion.bench_function(name, |b| {
        b.iter(|| run_all(black_box(specs), black_box(next.next().expect("a cycle does not end"))));
    });
}

fn main() {
    if std::env::args().any(|argument| argument == "--peers") {
        return peers::compare();
    }
    let criterion = &mut Criterion::default().configure_from_args();
    let mut rng = StdRng::seed_from_u64(3);
    let answers: Vec<Trace> = (0..64).map(|_| answered(&mut rng)).collect();
    let plain: Vec<Trace> = (0..64).map(|_| structured(&mut rng, Value::Null)).collect();
    let shaped: Vec<Trace> = (0..64).map(|_| structured(&mut rng, schema())).collect();
    bench(criterion, "json_validity, no schema", &[spec(CheckKind::JsonValidity)], &plain);
    bench(criterion, "json_validity, schema", &[spec(CheckKind::JsonValidity)], &shaped);
    for kind in CheckKind::ALL {
        if *kind != CheckKind::JsonValidity {
            bench(criterion, kind.as_str(), &[spec(*kind)], &answers);
        }
    }
    let suite: Vec<CheckSpec> = CheckKind::ALL.iter().map(|kind| spec(*kind)).collect();
    bench(criterion, "suite", &suite, &answers);
    criterion.final_summary();
}
