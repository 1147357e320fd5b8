//! The numbers we promise: traces from HTTP to stored verdict, as a ratio to the bare statements that write the same rows.
//!
//! `make bench`. Its rule: floor and worker alternate in one run, on one Postgres (fsync on) and with as many connections, because
//! only ratios carry over to another machine. The floor calls the store's own statements with rows that are ready: no HTTP,
//! no JSON, no checks, no waiting. The way not taken: absolute numbers from a quiet day.
//!
//! `cargo bench --bench pipeline -- --traces 50000 --rounds 3`

#![expect(clippy::disallowed_methods, reason = "the doors are for the program; benches stand outside of it")]
#![expect(clippy::format_collect, reason = "bench data is small and reads better so")]

use assize::app::App;
use assize::config::Config;
use assize::domain::chat::BoxFuture;
use assize::domain::clock::SystemClock;
use assize::domain::event::{Delivery, OutboxEvent, Sink};
use assize::pipeline::{self, Roles, ingest::Inbox};
use assize::runtime::lifecycle::Lifecycle;
use assize::server::{self, Guard};
use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod floor;

const CONNECTIONS: u32 = 10;

/// Traces in one request of the load.
const PER_REQUEST: usize = 100;

/// Requests under way at the same time.
const SENDERS: usize = 8;

/// Stands for a configured sink, so that outbox rows are written; nothing is exported in this bench.
#[derive(Debug)]
struct Unsent;

impl Sink for Unsent {
    fn name(&self) -> &'static str {
        "unsent"
    }
    fn batch_max(&self) -> usize {
        1
    }
    fn deliver<'a>(&'a self, events: &'a [OutboxEvent]) -> BoxFuture<'a, Vec<Delivery>> {
        Box::pin(std::future::ready(vec![Delivery::Delivered; events.len()]))
    }
}

fn main() {
    let argument = |name: &str, default: usize| -> usize {
        let args: Vec<String> = std::env::args().collect();
        let at = args.iter().position(|a| a == name);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (traces, rounds) = (argument("--traces", 50_000), argument("--rounds", 3));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run(traces, rounds));
}

async fn run(traces: usize, rounds: usize) {
    let dir = std::env::temp_dir().join(format!("assize-bench-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    eprintln!("{traces} traces a round, {rounds} rounds, {CONNECTIONS} connections, fsync on");
    let mut results = Vec::new();
    for round in 1..=rounds {
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let floor = traces as f64 / floor::run(&store(&url).await, traces).await.as_secs_f64();
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let (took, memory) = worker(&url, traces).await;
        let worker = traces as f64 / took.as_secs_f64();
        eprintln!(
            "round {round}: floor {floor:.0}/s, worker {worker:.0}/s, ratio {:.2}; memory at 20/60/100 %: {:.0}/{:.0}/{:.0} MB",
            worker / floor,
            memory[0],
            memory[1],
            memory[2]
        );
        results.push((floor, worker, memory));
    }
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratios: Vec<f64> = results.iter().map(|(f, w, _)| w / f).collect();
    let line = serde_json::json!({
        "bench": "http_to_stored_verdict",
        "traces": traces,
        "floor_per_second": middle(results.iter().map(|r| r.0).collect()).round(),
        "worker_per_second": middle(results.iter().map(|r| r.1).collect()).round(),
        "ratio": (middle(ratios.clone()) * 1000.0).round() / 1000.0,
        "ratio_min": ratios.iter().copied().fold(f64::MAX, f64::min),
        "ratio_max": ratios.iter().copied().fold(0.0, f64::max),
        "memory_growth_60_to_100_percent": middle(results.iter().map(|r| r.2[2] / r.2[1]).collect()),
    });
    println!("{line}");
}

async fn store(url: &SecretString) -> Store {
    let store = Store::connect(url, CONNECTIONS, Duration::from_secs(30)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    store
}

/// One trace as it is sent, and as the floor stores it: about 1.3 KB.
fn trace(n: usize) -> serde_json::Value {
    serde_json::json!({
        "trace_id": format!("{:032x}", (n as u128 + 1) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128),
        "service": "shop", "environment": "bench", "feature": "returns", "model": "gpt-4o-mini",
        "prompt": {"name": "support", "version": "v1"},
        "input": "How long do I have to return a sofa that I bought last month in your shop?",
        "output": "You can return a sofa within 30 days of delivery, as long as it is unused and all tags are attached [ret-002]. ".repeat(4),
        "context": [{"id": "ret-002", "score": 0.9, "content": "Sofas can be returned within 30 days of delivery. The sofa must be unused and all tags must still be attached. ".repeat(4)}],
        "usage": {"input_tokens": 320, "output_tokens": 80},
    })
}

async fn worker(url: &SecretString, traces: usize) -> (Duration, [f64; 3]) {
    let rubrics = tempfile::tempdir().expect("a folder");
    let text = "name: answered\nchecks: [failure_to_answer]\n";
    std::fs::write(rubrics.path().join("answered.yaml"), text).expect("a rubric can be written");
    let mut config = Config::default();
    config.rubrics.dir = rubrics.path().to_owned();
    let mut app = App::build(config, store(url).await, Arc::new(SystemClock)).await.expect("a valid configuration");
    Arc::get_mut(&mut app).expect("nobody else has it yet").sinks = vec![Arc::new(Unsent)];
    let life = Lifecycle::default();
    let router = server::router(&app, Some(Inbox::start(&app, &life)), false, Guard::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = format!("http://{}/api/v1/traces", listener.local_addr().expect("it has an address"));
    server::serve(&app, server::Door { name: "http", listener, router, tls: None }, &life);
    pipeline::start(&app, Roles { ingest: true, work: true, export: false, watch: false, web: false }, &life);
    // Bodies are made before the clock starts: the load's own cost is not the worker's.
    let bodies: Vec<String> = (0..traces.div_ceil(PER_REQUEST))
        .map(|b| (b * PER_REQUEST..((b + 1) * PER_REQUEST).min(traces)).map(|n| format!("{}\n", trace(n))).collect())
        .collect();
    let start = Instant::now();
    let sending = tokio::spawn(send(target, bodies));
    let memory = watch(&app.store, traces).await;
    let took = start.elapsed();
    sending.await.expect("the senders end");
    life.stop(Duration::from_secs(5), std::future::pending()).await;
    (took, memory)
}

async fn send(target: String, bodies: Vec<String>) {
    use futures_util::stream::{StreamExt, iter};
    let http = assize::runtime::http::client(Duration::from_secs(60)).expect("an HTTP client");
    iter(bodies)
        .for_each_concurrent(SENDERS, |body: String| {
            let (http, target) = (&http, &target);
            async move {
                let body = bytes::Bytes::from(body);
                loop {
                    let request = http.post(target).header("content-type", "application/x-ndjson").body(body.clone());
                    let status = request.send().await.expect("the service answers").status();
                    if status.is_success() {
                        return;
                    }
                    // Back-pressure: come back, as a sender does.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        })
        .await;
}

/// Waits until all verdicts are stored; gives resident memory in MB at 20, 60 and 100 % of them.
async fn watch(store: &Store, traces: usize) -> [f64; 3] {
    let mut memory = [0.0; 3];
    let marks = [traces / 5, traces * 3 / 5, traces];
    loop {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM verdicts")
            .fetch_one(store.pool())
            .await
            .expect("it can be counted");
        let count = usize::try_from(count).expect("a count");
        for (mark, value) in marks.iter().zip(&mut memory) {
            if count >= *mark && *value == 0.0 {
                *value = resident_mb();
            }
        }
        if count >= traces {
            return memory;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
