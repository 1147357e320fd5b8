//! Assembly: spans and logs that come late reopen a trace once; caps are outcomes; order and splitting change nothing.

use crate::support::intake::Intake;
use crate::support::{ANSWERED, JUDGED, Service, config, database, eventually, fixture, sim, with_judges};
use assize::config::Config;
use assize::dialect::{Encoding, datadog, decode, logs};
use assize::domain::message::Message;
use assize::domain::span::{IdSource, Span, SpanKind};
use assize::domain::trace::Trace;
use assize::domain::verdict::{Outcome, Verdict};
use assize::llm::sim::Faults;
use assize::pipeline::ingest::rows;
use assize::store::Store;
use assize::store::inbox::DueAfter;
use assize::store::verdicts::VerdictFilter;
use chrono::{TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const QUESTION: &str = "How long do I have to return a sofa?";
const GOOD: &str = "Sofas can be returned within 30 days of delivery.";

/// A span under the root `r`, or the root itself.
fn span(trace: u32, id: &str, kind: SpanKind) -> Span {
    let now = Utc::now();
    Span {
        trace_id: format!("{trace:032x}"),
        span_id: id.to_owned(),
        parent_id: (id != "a1a1a1a1a1a1a1a1").then(|| "a1a1a1a1a1a1a1a1".to_owned()),
        kind,
        id_source: IdSource::Otel,
        started_at: Some(now - TimeDelta::seconds(2)),
        ended_at: Some(now),
        ..Span::default()
    }
}

fn root(trace: u32) -> Span {
    Span { input: vec![Message::text("user", QUESTION)], ..span(trace, "a1a1a1a1a1a1a1a1", SpanKind::Chain) }
}

fn call(trace: u32, answer: &str) -> Span {
    let output = if answer.is_empty() { Vec::new() } else { vec![Message::text("assistant", answer)] };
    Span { output, ..span(trace, "b2b2b2b2b2b2b2b2", SpanKind::Llm) }
}

/// `call` with an answer that is not all.
fn cut(trace: u32) -> Span {
    let mut span = call(trace, "I can't help with that.");
    span.gap("output", "cut by the sender: it begins as JSON and does not end");
    span
}

/// A log record with the answer of `call`.
fn record(trace: u32, answer: &str) -> Span {
    Span { part: Some(0), parent_id: None, ended_at: None, ..call(trace, answer) }
}

/// Commits spans as a door does.
async fn put(service: &Service, spans: Vec<Span>) {
    let app = &service.app;
    let config = &app.bench.config.assembly;
    let due = DueAfter { quiet_ms: config.quiet_ms, idle_ms: config.idle_ms, cap_ms: config.hard_cap_ms };
    app.store.put_spans(rows(&app.bench, spans), due, Utc::now()).await.expect("stored");
    app.wake.spans.notify_one();
}

/// Waits until nothing waits.
async fn idle(store: &Store) {
    eventually("nothing is left to do", || async {
        let stats = store.queue_stats(Utc::now()).await.ok()?;
        (stats.open_traces + stats.inbox_spans + stats.ready + stats.delayed + stats.leased == 0).then_some(())
    })
    .await;
}

async fn current(store: &Store) -> Vec<Verdict> {
    store.verdicts(&VerdictFilter { limit: 10_000, ..VerdictFilter::default() }).await.expect("they can be read")
}

/// Every current verdict is the only one of its trace and rubric.
fn each_once(verdicts: &[Verdict]) {
    let keys: BTreeSet<(&str, &str)> = verdicts.iter().map(|v| (v.trace_id.as_str(), v.rubric.as_str())).collect();
    assert_eq!(keys.len(), verdicts.len(), "two current verdicts of a trace and rubric");
}

async fn story(service: &Service, trace: u32) -> serde_json::Value {
    service.get(&format!("/api/v1/traces/{trace:032x}")).await
}

#[tokio::test]
async fn a_log_that_comes_late_is_judged_and_the_old_verdict_is_superseded() {
    let (intake, base) = Intake::start().await;
    let mut config = config(&[ANSWERED]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    put(&service, vec![root(1), cut(1)]).await;
    idle(&service.app.store).await;
    let first = current(&service.app.store).await.remove(0);
    assert_eq!((first.outcome, first.passed), (Outcome::Scored, Some(false)), "as far as it goes it is no answer");
    eventually("it is exported", || async { (intake.accepted().len() == 1).then_some(()) }).await;
    put(&service, vec![record(1, GOOD)]).await;
    idle(&service.app.store).await;
    let second = current(&service.app.store).await;
    assert_eq!((second.len(), second[0].passed), (1, Some(true)));
    assert_ne!(second[0].id, first.id);
    let story = story(&service, 1).await;
    assert_eq!(story["verdicts"].as_array().map(Vec::len), Some(1), "{story}");
    assert_eq!((&story["superseded"][0]["passed"], &story["spans"][1]), (&false.into(), &1.into()));
    assert!(story["superseded"][0]["superseded_at"].is_string() && story["reopened_at"].is_string(), "{story}");
    // Datadog gets the new evaluation for the same span, once.
    eventually("the new one is exported", || async { (intake.accepted().len() == 2).then_some(()) }).await;
    let told = intake.accepted();
    assert_eq!(told[0]["join_on"], told[1]["join_on"]);
    assert_eq!((&told[0]["assessment"], &told[1]["assessment"]), (&"fail".into(), &"pass".into()));
    // It is reopened once: what comes after that is counted, and what is stored stays what was judged.
    put(&service, vec![record(1, "Something else.")]).await;
    idle(&service.app.store).await;
    let last = current(&service.app.store).await;
    assert_eq!((last.len(), last[0].id), (1, second[0].id));
    let story = self::story(&service, 1).await;
    assert_eq!((&story["spans"][1], &story["late_left_out"]), (&2.into(), &1.into()), "{story}");
    assert_eq!(service.app.store.tally_totals().await.expect("it can"), (1, 1));
}

#[tokio::test]
async fn what_no_rubric_reads_is_added_and_nothing_is_judged_again() {
    let service = Service::start(config(&[ANSWERED])).await;
    put(&service, vec![root(1), call(1, GOOD)]).await;
    idle(&service.app.store).await;
    let before = current(&service.app.store).await;
    put(&service, vec![span(1, "c3c3c3c3c3c3c3c3", SpanKind::Other)]).await;
    idle(&service.app.store).await;
    assert_eq!(current(&service.app.store).await, before);
    let stored = service.app.store.trace(&before[0].trace_id).await.expect("it can be read").expect("it is there");
    let trace: Trace = serde_json::from_slice(&stored.body.expect("it was kept")).expect("a trace");
    assert_eq!((trace.spans.len(), stored.late_spans, stored.reopened_at), (3, 1, None));
    // The same spans again are no late spans, and the one chance to be judged again is still there.
    put(&service, trace.into_pieces()).await;
    put(&service, vec![record(1, "ignored: the span has content of its own")]).await;
    idle(&service.app.store).await;
    assert_eq!(current(&service.app.store).await, before);
    assert_eq!(story(&service, 1).await["spans"][1], 2);
    let metrics = &service.app.bench.metrics;
    assert_eq!(metrics.traces_reopened.with_label_values(&["unchanged"]).get(), 2);
    assert_eq!(metrics.traces_reopened.with_label_values(&["judged_again"]).get(), 0);
}

#[tokio::test]
async fn labels_that_come_late_make_a_new_verdict_of_the_votes_that_are_paid_for() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a", "b"]);
    let service = Service::start(config).await;
    // The root comes late: until then an orphan stands for it, and nobody knows the tenant.
    let alone = Span { input: vec![Message::text("user", QUESTION)], ..call(1, GOOD) };
    put(&service, vec![alone]).await;
    idle(&service.app.store).await;
    let first = current(&service.app.store).await.remove(0);
    assert_eq!((first.join.span_id.as_str(), sim.stats().requests), ("b2b2b2b2b2b2b2b2", 2));
    put(&service, vec![Span { tenant: Some("acme".to_owned()), ..root(1) }]).await;
    idle(&service.app.store).await;
    let second = current(&service.app.store).await;
    assert_eq!(second.len(), 1);
    assert_eq!(
        (second[0].trace.tenant.as_deref(), second[0].join.span_id.as_str()),
        (Some("acme"), "a1a1a1a1a1a1a1a1")
    );
    assert_eq!((second[0].score, second[0].votes.len(), sim.stats().requests), (first.score, 2, 2));
    let tallies: Vec<(Option<String>, i64, i64)> =
        sqlx::query_as("SELECT tenant, seen, kept FROM tallies WHERE seen > 0 ORDER BY tenant")
            .fetch_all(service.app.store.pool())
            .await
            .expect("they can be read");
    assert_eq!(tallies, [(Some("acme".to_owned()), 1, 1)], "the trace is counted where it belongs, once");
}

#[tokio::test]
async fn a_job_that_is_under_way_is_given_up_for_the_whole_trace() {
    let (sim, base) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let service = Service::start(config).await;
    put(&service, vec![root(1), call(1, "Half of the answer")]).await;
    eventually("the judge is asked", || async { (sim.stats().requests == 1).then_some(()) }).await;
    sim.set_faults(Faults::default());
    let better = Span { output: vec![Message::text("assistant", GOOD); 2], ..call(1, "") };
    put(&service, vec![better]).await;
    idle(&service.app.store).await;
    let verdicts = current(&service.app.store).await;
    assert_eq!((verdicts.len(), verdicts[0].outcome), (1, Outcome::Scored));
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM verdicts")
        .fetch_one(service.app.store.pool())
        .await
        .expect("it can be counted");
    assert_eq!(all, 1, "nothing was judged that would have to be superseded");
}

#[tokio::test]
async fn after_the_window_late_spans_are_counted_and_told() {
    let mut config = config(&[ANSWERED]);
    config.assembly.reopen_ms = 0;
    let service = Service::start(config).await;
    put(&service, vec![root(1), call(1, "")]).await;
    idle(&service.app.store).await;
    let before = current(&service.app.store).await;
    put(&service, vec![record(1, GOOD)]).await;
    idle(&service.app.store).await;
    assert_eq!(current(&service.app.store).await, before);
    let story = story(&service, 1).await;
    assert_eq!((&story["spans"][1], &story["late_left_out"]), (&1.into(), &1.into()), "{story}");
    assert_eq!(service.app.bench.metrics.spans_late.with_label_values(&["left_out"]).get(), 1);
}

#[tokio::test]
async fn too_many_spans_are_an_outcome_and_the_same_span_many_times_is_one() {
    let mut config = config(&[ANSWERED]);
    config.assembly.trace_spans_max = 5;
    let service = Service::start(config).await;
    let many = |trace: u32| (0..6).map(move |n| span(trace, &format!("{n:016x}"), SpanKind::Tool));
    put(&service, [root(1), call(1, GOOD)].into_iter().chain(many(1)).collect()).await;
    let again = vec![root(2), call(2, GOOD)];
    for _ in 0..4 {
        put(&service, again.clone()).await;
    }
    idle(&service.app.store).await;
    let verdicts = current(&service.app.store).await;
    assert_eq!((verdicts.len(), verdicts[0].passed), (1, Some(true)));
    assert_eq!(
        (&story(&service, 1).await["state"], &story(&service, 1).await["spans"][0]),
        (&"too_large".into(), &8.into())
    );
    // Late spans cannot make it too large either.
    put(&service, many(2).collect()).await;
    idle(&service.app.store).await;
    let story = story(&service, 2).await;
    // Copies of the second trace may have come late too, when it was decided on between them.
    assert!(story["state"] == "kept" && story["late_left_out"].as_i64() >= Some(6), "{story}");
    assert_eq!(current(&service.app.store).await, verdicts);
}

/// All spans of the captures, by directory.
fn captures() -> BTreeMap<String, Vec<Span>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(fixture("captures")).expect("the fixtures are there") {
        let folder = entry.expect("an entry").path();
        let Ok(files) = std::fs::read_dir(&folder) else { continue };
        let mut spans = Vec::new();
        for file in files {
            let path = file.expect("a file").path();
            let body = std::fs::read(&path).expect("the fixture is there");
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            spans.extend(match name {
                n if n.starts_with("llmobs") => datadog::decode_json(&body).expect("it decodes").spans,
                n if n.starts_with("logs") => logs::decode_logs(&body, Encoding::Protobuf).expect("it decodes").parts,
                _ => decode(&body, Encoding::Protobuf).expect("it decodes").spans,
            });
        }
        all.insert(folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()), spans);
    }
    all
}

/// What must be the same however spans come: the trace's view and spans, and what its verdicts say. Ids of traces apart.
fn essence(trace: Trace, verdicts: &[Verdict]) -> String {
    let mut trace = Trace { trace_id: String::new(), pieces: Vec::new(), ..trace };
    trace.view.trace_id.clear();
    trace.spans.iter_mut().for_each(|span| span.trace_id.clear());
    let mut said: Vec<String> = verdicts
        .iter()
        .map(|v| {
            format!("{} {:?} {:?} {:?} {:?} {:?}", v.rubric, v.outcome, v.score, v.passed, v.trace, v.join.span_id)
        })
        .collect();
    said.sort();
    format!("{said:#?}\n{}", serde_json::to_string_pretty(&trace).expect("it can be written"))
}

async fn essences(store: &Store, ids: impl Iterator<Item = &String>) -> BTreeMap<String, String> {
    let verdicts = current(store).await;
    each_once(&verdicts);
    let mut all = BTreeMap::new();
    for id in ids {
        let stored = store.trace(id).await.expect("it can be read").expect("every trace is decided on");
        assert_eq!(stored.late_left_out, 0, "{id}");
        let Some(body) = stored.body else { continue };
        let mine: Vec<Verdict> = verdicts.iter().filter(|v| v.trace_id == *id).cloned().collect();
        assert_eq!(mine.len(), 2, "{id}");
        all.insert(id.clone(), essence(serde_json::from_slice(&body).expect("a trace"), &mine));
    }
    all
}

/// Gives spans to two replicas in any order, some twice, in pieces of any size.
async fn scatter(replicas: &[Service], mut spans: Vec<Span>, rng: &mut StdRng) {
    let twice: Vec<Span> = spans.iter().filter(|_| rng.random_bool(0.2)).cloned().collect();
    spans.extend(twice);
    spans.shuffle(rng);
    while !spans.is_empty() {
        let piece = spans.split_off(spans.len().saturating_sub(rng.random_range(1..60)));
        put(&replicas[rng.random_range(0..replicas.len())], piece).await;
    }
}

fn property_config() -> Config {
    let grounded = "name: grounded\napplies_when: {requires: [question, answer, context]}\nchecks: [grounding]\n";
    let mut config = config(&[ANSWERED, grounded]);
    // Longer than it takes to give all of them, so that what is late comes in one go.
    config.assembly.idle_ms = 2_500;
    config.assembly.quiet_ms = 2_500;
    config.assembly.hard_cap_ms = 30_000;
    config
}

/// The captures of every instrumentation, over two replicas: what some of them come late, reopens, and ends the same.
#[tokio::test]
async fn any_order_doubling_splitting_and_lateness_gives_the_same_traces_and_verdicts() {
    let url = database().await;
    let replicas = [Service::start_on(&url, property_config()).await, Service::start_on(&url, property_config()).await];
    let store = &replicas[0].app.store;
    let captures = captures();
    let plain: Vec<Span> = captures.values().flatten().cloned().collect();
    let ids: BTreeSet<String> = plain.iter().map(|s| s.trace_id.clone()).collect();
    put(&replicas[0], plain.clone()).await;
    idle(store).await;
    let want = essences(store, ids.iter()).await;
    assert!(want.len() > 80, "{} traces", want.len());
    for seed in 0..2_u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        // Fresh ids, so that it is all done again.
        let fresh = |id: &str| format!("{}{seed:02}", &id[..id.len() - 2]);
        let spans = plain.iter().map(|s| Span { trace_id: fresh(&s.trace_id), ..s.clone() });
        // Of each trace something that can be judged is in time, or it is not kept at all.
        let mut judgeable = BTreeSet::new();
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for span in spans {
            let is_first =
                !matches!(span.kind, SpanKind::Other | SpanKind::Evaluator) && judgeable.insert(span.trace_id.clone());
            if is_first || rng.random_bool(0.7) { early.push(span) } else { late.push(span) }
        }
        scatter(&replicas, early, &mut rng).await;
        idle(store).await;
        scatter(&replicas, late, &mut rng).await;
        idle(store).await;
        let again: BTreeSet<String> = want.keys().map(|id| fresh(id)).collect();
        assert_eq!(again.len(), want.len(), "the fresh ids differ");
        let got = essences(store, again.iter()).await;
        for (id, essence) in &want {
            let other = got.get(&fresh(id)).unwrap_or_else(|| panic!("{id} was kept"));
            assert!(essence == other, "seed {seed}, {id}\n{essence}\n-----\n{other}");
        }
    }
    let superseded: i64 = sqlx::query_scalar("SELECT count(*) FROM verdicts WHERE superseded_at IS NOT NULL")
        .fetch_one(store.pool())
        .await
        .expect("it can be counted");
    assert!(superseded > 10, "only {superseded} verdicts were made again: the test tests nothing");
}
