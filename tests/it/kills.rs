//! kill -9 of two real processes at moments drawn from a seed, while spans come in, are assembled, judged and come late.
//!
//! What must hold afterwards: every acknowledged span is in its trace or counted as left out; a trace has one current verdict a
//! rubric; each of these has one event, and a superseded verdict none.

use crate::support::program::Program;
use crate::support::{
    ANSWERED, JUDGED, config, database, eventually, for_a_while, sim, traces, wait_for_verdicts, with_judges,
};
use assize::config::Config;
use assize::domain::trace::Trace;
use assize::domain::verdict::{Outcome, Verdict};
use assize::llm::sim::Faults;
use assize::store::Store;
use assize::store::verdicts::VerdictFilter;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

const GROUNDED: &str = "name: grounded\napplies_when: {requires: [question, answer, context]}\nchecks: [grounding]\n";
const RUBRICS: usize = 3;
const TRACES: usize = 40;

/// A span as OTLP JSON: the trace's number, its own, its parent's.
fn span(trace: usize, id: u8, parent: Option<u8>, attributes: &Value) -> Value {
    let id_of = |n: u8| format!("{trace:08x}{n:08x}");
    let attributes: Vec<Value> = attributes
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect();
    json!({
        "traceId": format!("{:032x}", trace + 1), "spanId": id_of(id), "parentSpanId": parent.map(id_of),
        "name": "step", "startTimeUnixNano": "1795212483000000000", "endTimeUnixNano": "1795212484000000000",
        "attributes": attributes,
    })
}

/// The spans of a trace that come in time, and the one that comes late: what the answer rests on.
fn spans(trace: usize) -> (Vec<Value>, Value) {
    let answer = "Sofas can be returned within 30 days of delivery.";
    let kind = "openinference.span.kind";
    let question =
        json!({kind: "CHAIN", "input.value": "How long do I have to return a sofa?", "output.value": answer});
    let call = json!({kind: "LLM", "input.value": "How long do I have to return a sofa?", "output.value": answer});
    let found = json!({kind: "RETRIEVER", "retrieval.documents.0.document.content": answer,
                       "retrieval.documents.0.document.id": "ret-002"});
    let early = vec![
        span(trace, 2, Some(1), &call),
        span(trace, 3, Some(1), &json!({kind: "TOOL", "tool.name": "clock"})),
        span(trace, 1, None, &question),
    ];
    (early, span(trace, 4, Some(1), &found))
}

/// Where the processes are, and the spans that they have acknowledged, by trace.
#[derive(Clone)]
struct World {
    bases: Arc<Mutex<Vec<String>>>,
    taken: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl World {
    /// Sends spans one by one, each until somebody has acknowledged it, as an exporter does.
    async fn send(self, spans: Vec<Value>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let http = assize::runtime::http::client(Duration::from_secs(10)).expect("an HTTP client");
        for span in spans {
            let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
            loop {
                let base = {
                    let bases = self.bases.lock().expect("no test panics here");
                    bases[rng.random_range(0..bases.len())].clone()
                };
                let sent = http.post(format!("{base}/v1/traces")).json(&body).send().await;
                if sent.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                for_a_while(Duration::from_millis(20)).await;
            }
            let text = |key: &str| span[key].as_str().expect("text").to_owned();
            let mut taken = self.taken.lock().expect("no test panics here");
            taken.entry(text("traceId")).or_default().insert(text("spanId"));
        }
    }
}

/// Kills one of the processes after each wait and starts it again, until the senders are done.
async fn reap(
    (url, config): (&SecretString, &Config),
    processes: &mut [Program],
    world: &World,
    kills: usize,
    rng: &mut StdRng,
) {
    for _ in 0..kills {
        for_a_while(Duration::from_millis(rng.random_range(30..900))).await;
        let which = rng.random_range(0..processes.len());
        let fresh = Program::serve(url, config, "warn").await;
        std::mem::replace(&mut processes[which], fresh).kill().await;
        world.bases.lock().expect("no test panics here")[which].clone_from(&processes[which].base);
    }
}

async fn idle(store: &Store) {
    eventually("nothing is left to do", || async {
        let stats = store.queue_stats(chrono::Utc::now()).await.ok()?;
        let left = stats.open_traces + stats.inbox_spans + stats.ready + stats.delayed + stats.leased;
        (left == 0).then_some(())
    })
    .await;
}

fn settings(judges: &str) -> Config {
    let mut config = config(&[ANSWERED, JUDGED, GROUNDED]);
    with_judges(&mut config, judges, &["a"]);
    config.judges.values_mut().for_each(|judge| judge.timeout_ms = Some(1_000));
    config.work.lease_ms = 3_000;
    config.work.lease_margin_ms = 500;
    config.assembly.quiet_ms = 150;
    // Longer than a process takes to come back, so that a trace is cut in two only where the test does it.
    config.assembly.idle_ms = 2_500;
    config.assembly.hard_cap_ms = 20_000;
    // Nobody is there: events stay, and can be counted.
    config.datadog.agent_url = Some("http://127.0.0.1:9".to_owned());
    config
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_no_span_and_doubles_no_verdict_and_no_event() {
    let url = database().await;
    let (_, judges) = sim(Faults { latency_ms: 20, ..Faults::default() }).await;
    let config = settings(&judges);
    let mut processes = vec![Program::serve(&url, &config, "warn").await, Program::serve(&url, &config, "warn").await];
    let world = World {
        bases: Arc::new(Mutex::new(processes.iter().map(|p| p.base.clone()).collect())),
        taken: Arc::default(),
    };
    let store = Store::connect(&url, 4, Duration::from_secs(10)).await.expect("the database is there");
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let (early, late): (Vec<_>, Vec<_>) = (0..TRACES).map(spans).unzip();
    for (wave, kills) in [(early.concat(), 4), (late, 3)] {
        let halves = [wave[..wave.len() / 2].to_vec(), wave[wave.len() / 2..].to_vec()];
        let senders: Vec<_> =
            halves.into_iter().enumerate().map(|(n, half)| tokio::spawn(world.clone().send(half, n as u64))).collect();
        reap((&url, &config), &mut processes, &world, kills, &mut rng).await;
        for sender in senders {
            sender.await.expect("the sender ends");
        }
        idle(&store).await;
    }
    let verdicts =
        store.verdicts(&VerdictFilter { limit: 1_000, ..VerdictFilter::default() }).await.expect("they can be read");
    holds(&store, &verdicts, &world).await;
    for process in processes {
        process.kill().await;
    }
}

async fn holds(store: &Store, verdicts: &[Verdict], world: &World) {
    let keys: BTreeSet<(&str, &str)> = verdicts.iter().map(|v| (v.trace_id.as_str(), v.rubric.as_str())).collect();
    assert_eq!((keys.len(), verdicts.len()), (TRACES * RUBRICS, TRACES * RUBRICS), "one a trace and rubric");
    let taken = world.taken.lock().expect("no test panics here").clone();
    assert_eq!(taken.len(), TRACES);
    let mut whole = 0;
    for (id, acknowledged) in &taken {
        let stored = store.trace(id).await.expect("it can be read").expect("it was decided on");
        let trace: Trace = serde_json::from_slice(&stored.body.expect("it was kept")).expect("a trace");
        let there: BTreeSet<String> = trace.spans.iter().map(|s| s.span_id.clone()).collect();
        let missing = acknowledged.difference(&there).count();
        let counted = usize::try_from(stored.late_left_out).expect("a count");
        assert!(missing <= counted, "{id}: {missing} of {} spans lost, {counted} counted", acknowledged.len());
        whole += usize::from(missing == 0);
        let grounded = verdicts.iter().find(|v| v.trace_id == *id && v.rubric == "grounded").expect("it is there");
        let expected = if missing == 0 { Outcome::Scored } else { grounded.outcome };
        assert_eq!(grounded.outcome, expected, "{id}: the verdict is about the whole trace");
    }
    assert!(whole * 10 >= TRACES * 9, "only {whole} of {TRACES} traces are whole");
    let superseded: i64 = sqlx::query_scalar("SELECT count(*) FROM verdicts WHERE superseded_at IS NOT NULL")
        .fetch_one(store.pool())
        .await
        .expect("it can be counted");
    assert!(superseded > 0, "late spans made verdicts anew");
    let events: Vec<(Uuid,)> =
        sqlx::query_as("SELECT verdict_id FROM outbox").fetch_all(store.pool()).await.expect("they can be read");
    let told: BTreeSet<Uuid> = events.iter().map(|(id,)| *id).collect();
    let current: BTreeSet<Uuid> = verdicts.iter().map(|v| v.id).collect();
    assert_eq!(told.len(), events.len(), "an event twice");
    assert_eq!(told, current, "each current verdict has its event, and no other has");
}

#[tokio::test]
async fn a_dead_workers_jobs_are_free_long_before_their_leases_end_and_a_slow_workers_are_not() {
    // No more than a judge that has not answered yet is asked at the same time.
    const JOBS: usize = 3;
    let url = database().await;
    let (sim, judges) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judges, &["a"]);
    config.judges.get_mut("a").expect("it is there").timeout_ms = Some(30_000);
    config.work.dead_after_ms = 1_000;
    let store = Store::connect(&url, 4, Duration::from_secs(10)).await.expect("the database is there");
    let dying = Program::serve(&url, &config, "warn").await;
    let client = assize::runtime::http::client(Duration::from_secs(10)).expect("an HTTP client");
    for trace in traces::many("t", JOBS) {
        let sent = client.post(format!("{}/api/v1/traces", dying.base)).json(&trace).send().await;
        assert!(sent.is_ok_and(|answer| answer.status().is_success()));
    }
    eventually("all are asked about", || async { (sim.stats().requests == JOBS as u64).then_some(()) }).await;
    dying.kill().await;
    // Slower than the time after which silence means death: whoever speaks keeps what it has.
    sim.set_faults(Faults { latency_ms: 4_000, ..Faults::default() });
    let (one, two) = (Program::serve(&url, &config, "warn").await, Program::serve(&url, &config, "warn").await);
    let verdicts = wait_for_verdicts(&store, JOBS).await;
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored));
    assert_eq!(sim.stats().requests, 2 * JOBS as u64, "each was asked about once more");
    one.kill().await;
    two.kill().await;
}
