//! The numbers we promise: what real instrumentations sent, replayed with fresh ids, from HTTP to the commit, as a ratio to bare
//! inserts of the same rows.
//!
//! `make bench`. Its rule: floor and doors alternate in one run, on one Postgres with fsync on; the floor is one
//! `INSERT … SELECT FROM unnest(…)` and one commit for every thousand rows that are ready: no HTTP, no protobuf, no redaction, no
//! JSON, no table of open traces. The bodies are `tests/fixtures/captures`, each replay with other trace ids. The way not taken:
//! one made body over and over, whose attributes are as easy as we thought them.
//!
//! `cargo bench --bench ingest -- --spans 60000 --rounds 3`

#![expect(clippy::disallowed_methods, reason = "the doors are for the program; benches stand outside of it")]

use assize::app::App;
use assize::config::Config;
use assize::dialect::{Encoding, decode};
use assize::domain::clock::SystemClock;
use assize::domain::ids::short_hash;
use assize::pipeline::ingest::{Inbox, rows};
use assize::runtime::lifecycle::Lifecycle;
use assize::server::{self, Guard};
use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use assize::store::inbox::InboxSpan;
use futures_util::stream::{StreamExt, iter};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use secrecy::SecretString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 10;

/// Rows of one insert of the floor: what a commit of the doors holds at most.
const BATCH: usize = 1_000;

/// Requests under way at the same time.
const SENDERS: usize = 32;

fn main() {
    let argument = |name: &str, default: usize| -> usize {
        let args: Vec<String> = std::env::args().collect();
        let at = args.iter().position(|a| a == name);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (spans, rounds) = (argument("--spans", 60_000), argument("--rounds", 3));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(spans, rounds));
}

async fn run(spans: usize, rounds: usize) {
    let dir = std::env::temp_dir().join(format!("assize-bench-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    let captures = captures();
    eprintln!("{} bodies of captures, about {spans} spans a round, {rounds} rounds, fsync on", captures.len());
    let mut results = Vec::new();
    for round in 0..rounds {
        let bodies = replayed(&captures, spans, round);
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let app = app(&url).await;
        let rows: Vec<InboxSpan> = bodies.iter().flat_map(|body| rows_of(&app, body)).collect();
        let (count, bytes) = (rows.len(), rows.iter().map(|row| row.body.len()).sum::<usize>());
        let floor = count as f64 / floor(&app.store, rows).await.as_secs_f64();
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let (took, memory) = doors(&url, bodies, count).await;
        let doors = count as f64 / took.as_secs_f64();
        eprintln!(
            "round {}: {count} spans, {:.1} MB; floor {floor:.0}/s, doors {doors:.0}/s, ratio {:.2}; memory at 20/60/100 %: {:.0}/{:.0}/{:.0} MB",
            round + 1,
            bytes as f64 / 1e6,
            doors / floor,
            memory[0],
            memory[1],
            memory[2]
        );
        results.push((floor, doors, memory));
    }
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratios: Vec<f64> = results.iter().map(|(floor, doors, _)| doors / floor).collect();
    let line = serde_json::json!({
        "bench": "captures_to_commit",
        "floor_spans_per_second": middle(results.iter().map(|r| r.0).collect()).round(),
        "doors_spans_per_second": middle(results.iter().map(|r| r.1).collect()).round(),
        "ratio": (middle(ratios.clone()) * 1000.0).round() / 1000.0,
        "ratio_min": ratios.iter().copied().fold(f64::MAX, f64::min),
        "ratio_max": ratios.iter().copied().fold(0.0, f64::max),
        "memory_growth_60_to_100_percent": middle(results.iter().map(|r| r.2[2] / r.2[1]).collect()),
    });
    println!("{line}");
}

/// The OTLP bodies of every capture.
fn captures() -> Vec<ExportTraceServiceRequest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures");
    let mut bodies = Vec::new();
    let mut folders: Vec<_> =
        std::fs::read_dir(root).expect("the fixtures are there").map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        for file in std::fs::read_dir(folder).expect("the fixtures are there") {
            let path = file.expect("a file").path();
            let is_traces = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("traces-"));
            if is_traces {
                let body = std::fs::read(&path).expect("the fixture is there");
                bodies.push(ExportTraceServiceRequest::decode(body.as_slice()).expect("it decodes"));
            }
        }
    }
    bodies
}

/// The captures again and again, with other trace ids each time, until there are so many spans.
fn replayed(captures: &[ExportTraceServiceRequest], spans: usize, round: usize) -> Vec<bytes::Bytes> {
    let (mut bodies, mut count) = (Vec::new(), 0);
    for replay in 0_u64.. {
        for capture in captures {
            let mut body = capture.clone();
            for span in body.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans) {
                let parts: [&[u8]; 3] = [&span.trace_id, &replay.to_be_bytes(), &(round as u64).to_be_bytes()];
                span.trace_id = hex::decode(short_hash(&parts, 32)).expect("hex digits");
                count += 1;
            }
            bodies.push(body.encode_to_vec().into());
            if count >= spans {
                return bodies;
            }
        }
    }
    bodies
}

fn rows_of(app: &App, body: &[u8]) -> Vec<InboxSpan> {
    rows(&app.bench, decode(body, Encoding::Protobuf).expect("it decodes").spans)
}

async fn app(url: &SecretString) -> Arc<App> {
    let rubrics = tempfile::tempdir().expect("a folder").keep();
    std::fs::write(rubrics.join("answered.yaml"), "name: answered\nchecks: [failure_to_answer]\n").expect("a rubric");
    let mut config = Config::default();
    config.rubrics.dir = rubrics;
    let store = Store::connect(url, CONNECTIONS, Duration::from_secs(30)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    App::build(config, store, Arc::new(SystemClock)).await.expect("a valid configuration")
}

/// Inserts the rows, as many batches at a time as there are connections.
async fn floor(store: &Store, rows: Vec<InboxSpan>) -> Duration {
    type Columns = (Vec<String>, Vec<String>, Vec<Vec<u8>>);
    let mut batches: Vec<Columns> = Vec::new();
    for (n, row) in rows.into_iter().enumerate() {
        if n % BATCH == 0 {
            batches.push(Columns::default());
        }
        let columns = batches.last_mut().expect("one was just made");
        columns.0.push(row.trace_id);
        columns.1.push(row.span_id);
        columns.2.push(row.body);
    }
    let now = chrono::Utc::now();
    let start = Instant::now();
    iter(batches)
        .for_each_concurrent(CONNECTIONS as usize, |(traces, spans, bodies)| async move {
            sqlx::query(
                "INSERT INTO inbox_spans (trace_id, span_id, received_at, body)
                 SELECT t, s, $4, b FROM unnest($1::text[], $2::text[], $3::bytea[]) AS u(t, s, b) ON CONFLICT DO NOTHING",
            )
            .bind(traces)
            .bind(spans)
            .bind(bodies)
            .bind(now)
            .execute(store.pool())
            .await
            .expect("rows are inserted");
        })
        .await;
    start.elapsed()
}

/// Sends the bodies to the door until all are acknowledged; resident memory in MB at 20, 60 and 100 % of them.
async fn doors(url: &SecretString, bodies: Vec<bytes::Bytes>, spans: usize) -> (Duration, [f64; 3]) {
    let app = app(url).await;
    let life = Lifecycle::default();
    let router = server::router(&app, Some(Inbox::start(&app, &life)), false, Guard::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = format!("http://{}/v1/traces", listener.local_addr().expect("it has an address"));
    server::serve(&app, server::Door { name: "http", listener, router, tls: None }, &life);
    let http = assize::runtime::http::client(Duration::from_secs(60)).expect("an HTTP client");
    let done = std::sync::atomic::AtomicUsize::new(0);
    let marks = [bodies.len() / 5, bodies.len() * 3 / 5, bodies.len()];
    let memory = std::sync::Mutex::new([0.0; 3]);
    let start = Instant::now();
    iter(bodies)
        .for_each_concurrent(SENDERS, |body| {
            let (http, target, done, memory) = (&http, &target, &done, &memory);
            async move {
                loop {
                    let request = http.post(target).header("content-type", "application/x-protobuf").body(body.clone());
                    if request.send().await.expect("the service answers").status().is_success() {
                        break;
                    }
                    // Back-pressure: come back, as a sender does.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                let n = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                if let Some(at) = marks.iter().position(|mark| *mark == n) {
                    memory.lock().expect("nobody panics with it")[at] = resident_mb();
                }
            }
        })
        .await;
    let took = start.elapsed();
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM inbox_spans").fetch_one(app.store.pool()).await.expect("a count");
    assert_eq!(usize::try_from(stored).expect("a count"), spans, "every span was stored");
    life.stop(Duration::from_secs(5), std::future::pending()).await;
    let memory = *memory.lock().expect("nobody panics with it");
    (took, memory)
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
