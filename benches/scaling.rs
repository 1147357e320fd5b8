//! Scaling out: verdicts a second and CPU of one, two and four worker processes on one Postgres; bytes a row; churn of the inbox.
//!
//! Worker processes (`assize serve --roles work`) judge a queue that is there when they start, against the simulated judge in a
//! process of its own. A worker has 256 places and a judge takes half a second, so one alone comes to 512 a second at most, and the
//! second and fourth show what is shared: Postgres, and here the cores. CPU is what the kernel counts for the processes. The way
//! not taken: more tasks in one process, which share a pool, a pacer and a catalogue.
//!
//! `cargo bench --bench scaling`, `-- --seconds 5` for a quick look, `-- --inbox` for the inbox alone (`--rate 2000` spans a second).

#![expect(clippy::disallowed_methods, reason = "a bench is its own program")]

#[path = "scaling/inbox.rs"]
mod inbox;
mod processes;

use assize::app::App;
use assize::config::{Config, Judge};
use assize::domain::clock::SystemClock;
use assize::pipeline::{self, ingest::Inbox};
use assize::runtime::lifecycle::Lifecycle;
use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use processes::{free_port, program};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::Child;

const RUBRIC: &str = "name: judged\npanel: default\nprompt: |\n  {{ question }}\n  {{ context }}\n  {{ answer }}\n";

/// Places of a worker.
const CONCURRENCY: u32 = 256;

/// What the judge takes, in milliseconds.
const LATENCY_MS: u32 = 500;

/// Ticks of the kernel's clock a second, as Linux shows them to programs everywhere.
const TICKS: f64 = 100.0;

/// Longest that one case may take.
const PATIENCE: Duration = Duration::from_secs(240);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse::<u64>().ok());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if args.iter().any(|a| a == "--inbox") {
        runtime.block_on(inbox::run(number("--seconds").unwrap_or(200), number("--rate").unwrap_or(2_000)));
    } else {
        runtime.block_on(run(number("--seconds").unwrap_or(15)));
    }
}

async fn run(seconds: u64) {
    let dir = std::env::temp_dir().join(format!("assize-bench-scaling-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    let postgres = pid_of_postgres(&dir);
    let most = u64::from(CONCURRENCY) * 1_000 / u64::from(LATENCY_MS);
    println!(
        "{:>7} {:>11} {:>9} {:>20} {:>20}",
        "workers", "verdicts/s", "of bound", "worker CPU ms each", "Postgres CPU ms each"
    );
    let (mut lines, mut sizes) = (Vec::new(), Value::Null);
    for workers in [1_u32, 2, 4] {
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let jobs = usize::try_from(most * u64::from(workers) * seconds).expect("a small number");
        let line = measure((workers, jobs), &url, &dir, postgres).await;
        let each = |key: &str| line[key].as_f64().unwrap_or_default();
        let (rate, ours, theirs) = (each("verdicts_per_second"), each("worker_ms"), each("postgres_ms"));
        let bound = rate / (most as f64 * f64::from(workers)) * 100.0;
        println!("{workers:>7} {rate:>11.0} {bound:>7.0} % {ours:>20.3} {theirs:>20.3}");
        lines.push(line);
        sizes = bytes(&url).await;
    }
    println!("bytes a row, indexes and TOAST included: {sizes}");
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
    println!("{}", json!({"bench": "scaling", "bound_per_worker": most, "cases": lines, "bytes_per_row": sizes}));
}

/// Runs so many workers until so many jobs are done.
async fn measure((workers, jobs): (u32, usize), url: &SecretString, dir: &Path, postgres: u32) -> Value {
    let port = free_port();
    let mut sim = program(&["sim", "--port", &port.to_string()], &[]);
    let base = format!("http://127.0.0.1:{port}");
    let http = assize::runtime::http::client(Duration::from_secs(5)).expect("an HTTP client");
    while http.get(format!("{base}/health")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let faults = json!({"latency_ms": LATENCY_MS});
    assert!(http.post(format!("{base}/config")).json(&faults).send().await.expect("it answers").status().is_success());
    let config = write_config(&base, dir);
    let store = enqueue(jobs, url, &base, dir).await;
    let before = family(postgres);
    let mut running: Vec<Child> = (0..workers)
        .map(|_| {
            let listen = format!("127.0.0.1:{}", free_port());
            let environment = [
                ("DATABASE_URL", url.expose_secret()),
                ("RUST_LOG", "error"),
                ("ASSIZE__SERVER__LISTEN", &listen),
                ("ASSIZE__SERVER__GRPC_LISTEN", "off"),
            ];
            program(&["serve", "--config", config.to_str().expect("plain"), "--roles", "work"], &environment)
        })
        .collect();
    let rate = watch(&store, jobs).await;
    let ours: f64 = running.iter().filter_map(|child| Some(own(child.id()?))).sum();
    let theirs = family(postgres) - before;
    for worker in &mut running {
        drop(worker.kill().await);
    }
    drop(sim.kill().await);
    let each = |seconds: f64| seconds * 1_000.0 / jobs as f64;
    json!({"workers": workers, "jobs": jobs, "verdicts_per_second": rate, "worker_ms": each(ours), "postgres_ms": each(theirs)})
}

fn write_config(base: &str, dir: &Path) -> PathBuf {
    let rubrics = dir.join("rubrics");
    std::fs::create_dir_all(&rubrics).expect("a folder can be made");
    std::fs::write(rubrics.join("judged.yaml"), RUBRIC).expect("a rubric can be written");
    let text = format!(
        "[rubrics]\ndir = \"{}\"\n[judges.judge]\nmodel = \"sim-large\"\nbase_url = \"{base}/v1\"\ntimeout_ms = 20000\n\
         [work]\nconcurrency = {CONCURRENCY}\ncache_seconds = 0\n",
        rubrics.display()
    );
    let path = dir.join("assize.toml");
    std::fs::write(&path, text).expect("a file can be written");
    path
}

/// A trace with about 4 KB of context and 1 KB of answer, of common words in no order, so that it compresses as text does.
fn trace(n: usize) -> Value {
    let common: Vec<&str> = include_str!("../src/checks/grounding/common_words.txt")
        .lines()
        .skip(1)
        .flat_map(str::split_whitespace)
        .collect();
    let words = |from: usize, count: usize| -> String {
        let word = |at: usize| common[(n * 7_919 + at * 104_729 + at * at * 31) % common.len()];
        (from..from + count).map(word).collect::<Vec<_>>().join(" ")
    };
    json!({"trace_id": format!("{:032x}", n + 1), "input": format!("How long do I have to return sofa {n}?"),
        "output": words(0, 130), "context": [{"id": "ret-002", "content": words(130, 520)}]})
}

/// Puts jobs into the queue, through the steps that do so in production.
async fn enqueue(jobs: usize, url: &SecretString, base: &str, dir: &Path) -> Store {
    let mut config = Config::default();
    config.rubrics.dir = dir.join("rubrics");
    let judge = Judge { model: "sim-large".to_owned(), base_url: Some(format!("{base}/v1")), ..Judge::default() };
    config.judges = BTreeMap::from([("judge".to_owned(), judge)]);
    config.panels = BTreeMap::from([("default".to_owned(), vec!["judge".to_owned()])]);
    config.assembly.quiet_ms = 0;
    let store = Store::connect(url, 4, Duration::from_secs(30)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let app = App::build(config, store.clone(), std::sync::Arc::new(SystemClock)).await.expect("a valid configuration");
    // First, as in production: rows that are moved out of a default partition would be counted twice until it is vacuumed.
    pipeline::retention::once(&app, chrono::Utc::now()).await.expect("there are partitions");
    let life = Lifecycle::default();
    let inbox = Inbox::start(&app, &life);
    for from in (0..jobs).step_by(1_000) {
        let some = from..(from + 1_000).min(jobs);
        let spans = some.flat_map(|n| assize::dialect::native::spans(&trace(n)).expect("valid"));
        inbox.submit(spans.map(|span| pipeline::ingest::row(&span)).collect()).await.expect("it is stored");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    while pipeline::assemble::batch(&app).await.expect("it is assembled") {}
    life.stop(Duration::from_secs(5), std::future::pending()).await;
    store
}

/// Waits until all jobs are done; verdicts a second between a fifth of them and four fifths.
async fn watch(store: &Store, jobs: usize) -> f64 {
    let start = Instant::now();
    let mut first: Option<(f64, usize)> = None;
    let mut last = (0.0, 0);
    loop {
        let done: i64 =
            sqlx::query_scalar("SELECT count(*) FROM verdicts").fetch_one(store.pool()).await.expect("a count");
        let (at, done) = (start.elapsed().as_secs_f64(), usize::try_from(done).expect("a count"));
        if done >= jobs / 5 && first.is_none() {
            first = Some((at, done));
        }
        if done <= jobs * 4 / 5 || last.1 == 0 {
            last = (at, done);
        }
        if done >= jobs {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{done} of {jobs} jobs are done");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let first = first.expect("all are done, so a fifth is");
    if last.0 > first.0 { (last.1 - first.1) as f64 / (last.0 - first.0) } else { f64::NAN }
}

/// Bytes a row of the tables that grow, by Postgres's own count.
async fn bytes(url: &SecretString) -> Value {
    let store = Store::connect(url, 1, Duration::from_secs(30)).await.expect("the database is there");
    let rows: Vec<(String, f64)> = sqlx::query_as(
        "SELECT t.name, (SELECT sum(pg_total_relation_size(p.relid)) FROM pg_partition_tree(t.name::regclass) p)::float8 / t.rows
         FROM (SELECT 'traces' AS name, count(*) AS rows FROM traces
               UNION ALL SELECT 'trace_bodies', count(*) FROM trace_bodies
               UNION ALL SELECT 'verdicts', count(*) FROM verdicts
               UNION ALL SELECT 'votes', count(*) FROM votes) t WHERE t.rows > 0 AND t.name <> 'traces'
         UNION ALL SELECT 'traces', pg_total_relation_size('traces')::float8 / count(*) FROM traces",
    )
    .fetch_all(store.pool())
    .await
    .expect("they can be measured");
    rows.into_iter().map(|(name, bytes)| (name, json!(bytes.round()))).collect::<serde_json::Map<_, _>>().into()
}

fn pid_of_postgres(dir: &Path) -> u32 {
    let file = dir.join("postgres").join("postmaster.pid");
    let text = std::fs::read_to_string(&file).expect("the server has written who it is");
    text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process")
}

/// CPU of a process, in seconds; with `ended` that of its children that have ended too.
fn cpu(pid: u32, ended: bool) -> Option<(f64, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces; what follows it is numbers: state, parent, …, utime, stime, cutime, cstime.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    let ticks = number(11) + number(12) + if ended { number(13) + number(14) } else { 0.0 };
    Some((ticks / TICKS, fields.get(1)?.parse().ok()?))
}

fn own(pid: u32) -> f64 {
    cpu(pid, false).map_or(0.0, |(seconds, _)| seconds)
}

/// CPU of a server and its processes.
fn family(pid: u32) -> f64 {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children: f64 = pids.filter_map(|p| cpu(p, false)).filter(|(_, parent)| *parent == pid).map(|(s, _)| s).sum();
    children + cpu(pid, true).map_or(0.0, |(seconds, _)| seconds)
}
