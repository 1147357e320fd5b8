//! Limits and faults: how much of a limit is used, how many 429s that costs, and what becomes of jobs when one in ten requests fails.
//!
//! `make limits`. Worker processes (`assize serve --roles work`) judge a queue against the simulated judge in a process of its
//! own; the figures are the judge's (`/stats`), not ours. Sustained use = verdicts given from five seconds after the first (until
//! then workers divide the limit) to when no more jobs are left than workers may have waiting (twelve seconds' worth; from
//! then on some run dry), as part of what the limit allows in that time. The way not taken: a clock and a judge in this
//! process, which would measure our arithmetic.
//!
//! `cargo bench --bench limits -- --only 600`

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
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Child;

const RUBRIC: &str = "name: judged\npanel: default\nprompt: |\n  {{ question }}\n  {{ context }}\n  {{ answer }}\n";

/// Seconds after the first verdict that are not sustained: workers that have just come take their share a little later.
const WARM_UP: f64 = 5.0;

/// One setting.
struct Case {
    name: &'static str,
    workers: usize,
    /// The judge's faults, as `/config` takes them.
    sim: Value,
    /// Changed to these after ten seconds.
    later: Option<Value>,
    /// What the worker is told of the limit.
    configured: Option<u32>,
    /// Requests a second that the limit allows; none = not limited.
    per_second: Option<f64>,
    jobs: usize,
}

fn cases() -> Vec<Case> {
    let limited = |name, workers, rpm: u32, told: bool| Case {
        name,
        workers,
        sim: json!({"latency_ms": 500, "rpm": rpm}),
        later: None,
        configured: told.then_some(rpm),
        per_second: Some(f64::from(rpm) / 60.0),
        jobs: (rpm / 60 * if rpm > 1_000 { 25 } else { 45 }) as usize,
    };
    vec![
        limited("600 a minute, configured", 1, 600, true),
        limited("600 a minute, learnt", 1, 600, false),
        limited("6000 a minute, configured", 1, 6_000, true),
        limited("6000 a minute, learnt", 1, 6_000, false),
        limited("600 a minute, four workers", 4, 600, true),
        limited("6000 a minute, four workers, learnt", 4, 6_000, false),
        Case {
            name: "tokens a minute, learnt",
            workers: 1,
            sim: json!({"latency_ms": 500, "tpm": 1_000_000}),
            later: None,
            configured: None,
            per_second: None,
            jobs: 480,
        },
        Case {
            name: "600 halved behind our back",
            workers: 1,
            sim: json!({"latency_ms": 500, "rpm": 600, "hide_limits": true}),
            later: Some(json!({"latency_ms": 500, "rpm": 300, "hide_limits": true})),
            configured: Some(600),
            per_second: None,
            jobs: 250,
        },
        Case {
            name: "one in ten fails",
            workers: 1,
            sim: json!({"latency_ms": 50, "error_rate": 0.04, "hang_rate": 0.02, "garbage_rate": 0.04}),
            later: None,
            configured: None,
            per_second: None,
            jobs: 2_000,
        },
    ]
}

/// What one second looked like to the judge.
#[derive(Clone, Copy, Default)]
struct Second {
    at: f64,
    requests: f64,
    answered: f64,
    limited: f64,
    tokens: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let only = args.iter().position(|a| a == "--only").and_then(|at| args.get(at + 1).cloned());
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run(only.as_deref()));
}

async fn run(only: Option<&str>) {
    let dir = std::env::temp_dir().join(format!("assize-bench-limits-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    let mut lines = Vec::new();
    println!("{:<38} {:>8} {:>8} {:>8} {:>8} {:>9}", "case", "use", "429s", "scored", "requests", "settled");
    for case in cases().into_iter().filter(|c| only.is_none_or(|word| c.name.contains(word))) {
        let url = fresh_database(cluster.url(), "bench").await.expect("a database");
        let line = measure(&case, &url, &dir).await;
        println!("{}", shown(&line));
        lines.push(line);
    }
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
    println!("{}", json!({"bench": "limits", "cases": lines}));
}

fn shown(line: &Value) -> String {
    let percent = |key: &str| line[key].as_f64().map_or_else(|| "-".to_owned(), |x| format!("{:.2} %", x * 100.0));
    let mut text =
        format!("{:<38} {:>8} {:>8}", line["case"].as_str().unwrap_or_default(), percent("use"), percent("limited"));
    let settled = line["settled_seconds"].as_f64().map_or_else(|| "-".to_owned(), |s| format!("{s:.0} s"));
    let requests = line["requests_per_job"].as_f64().unwrap_or_default();
    write!(text, " {:>8} {requests:>8.3} {settled:>9}", percent("scored")).expect("a String can be written");
    text
}

async fn measure(case: &Case, url: &SecretString, dir: &Path) -> Value {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let mut sim = program(&["sim", "--port", &port.to_string()], &[]);
    let base = format!("http://127.0.0.1:{port}");
    let http = assize::runtime::http::client(Duration::from_secs(5)).expect("an HTTP client");
    while http.get(format!("{base}/health")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    configure(&http, &base, &case.sim).await;
    let config = write_config(case, &base, dir);
    let store = enqueue(case, url, &base, dir).await;
    let environment = [("DATABASE_URL", url.expose_secret()), ("RUST_LOG", "error")];
    let mut workers: Vec<Child> = (0..case.workers)
        .map(|_| {
            let listen = format!("127.0.0.1:{}", free_port());
            let mut all = environment.to_vec();
            all.push(("ASSIZE__SERVER__LISTEN", &listen));
            all.push(("ASSIZE__SERVER__GRPC_LISTEN", "off"));
            program(&["serve", "--config", config.to_str().expect("plain"), "--roles", "work"], &all)
        })
        .collect();
    let seconds = watch(case, &http, &base, &store).await;
    for worker in &mut workers {
        drop(worker.kill().await);
    }
    drop(sim.kill().await);
    summary(case, &seconds, &store).await
}

async fn configure(http: &reqwest::Client, base: &str, faults: &Value) {
    let request = http.post(format!("{base}/config")).json(faults);
    assert!(request.send().await.expect("it answers").status().is_success());
}

fn write_config(case: &Case, base: &str, dir: &Path) -> std::path::PathBuf {
    let rubrics = dir.join("rubrics");
    std::fs::create_dir_all(&rubrics).expect("a folder can be made");
    std::fs::write(rubrics.join("judged.yaml"), RUBRIC).expect("a rubric can be written");
    let limit = case.configured.map_or_else(String::new, |rpm| format!("requests_per_minute = {rpm}\n"));
    let text = format!(
        "[rubrics]\ndir = \"{}\"\n[judges.judge]\nmodel = \"sim-large\"\nbase_url = \"{base}/v1\"\ntimeout_ms = 2000\n{limit}\
         [work]\nconcurrency = 200\ncache_seconds = 0\nretry_ms = 500\nretry_ms_max = 2000\n",
        rubrics.display()
    );
    let path = dir.join("assize.toml");
    std::fs::write(&path, text).expect("a file can be written");
    path
}

/// A trace with about 4 KB of context and 1 KB of answer.
fn trace(n: usize) -> Value {
    let context = "Sofas can be returned within 30 days of delivery. The sofa must be unused. ".repeat(54);
    let answer = "You can return a sofa within 30 days of delivery, as long as it is unused. ".repeat(13);
    json!({"trace_id": format!("t-{n}"), "input": format!("How long do I have to return sofa {n}?"),
        "output": answer, "context": [{"id": "ret-002", "content": context}]})
}

/// Puts the jobs into the queue, through the steps that do so in production.
async fn enqueue(case: &Case, url: &SecretString, base: &str, dir: &Path) -> Store {
    let mut config = Config::default();
    config.rubrics.dir = dir.join("rubrics");
    let judge = Judge { model: "sim-large".to_owned(), base_url: Some(format!("{base}/v1")), ..Judge::default() };
    config.judges = BTreeMap::from([("judge".to_owned(), judge)]);
    config.panels = BTreeMap::from([("default".to_owned(), vec!["judge".to_owned()])]);
    config.assembly.quiet_ms = 0;
    let store = Store::connect(url, 4, Duration::from_secs(30)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let app = App::build(config, store.clone(), Arc::new(SystemClock)).await.expect("a valid configuration");
    let life = Lifecycle::default();
    let inbox = Inbox::start(&app, &life);
    let spans = (0..case.jobs).flat_map(|n| assize::dialect::native::spans(&trace(n)).expect("valid"));
    inbox.submit(spans.map(|span| pipeline::ingest::row(&span)).collect()).await.expect("it is stored");
    tokio::time::sleep(Duration::from_millis(50)).await;
    while pipeline::assemble::batch(&app).await.expect("it is assembled") {}
    life.stop(Duration::from_secs(5), std::future::pending()).await;
    store
}

/// Looks at the judge once a second until every job has its verdict.
async fn watch(case: &Case, http: &reqwest::Client, base: &str, store: &Store) -> Vec<Second> {
    let start = Instant::now();
    let mut seconds = Vec::new();
    let mut later = case.later.clone();
    loop {
        let stats: Value =
            http.get(format!("{base}/stats")).send().await.expect("it answers").json().await.expect("JSON");
        let number = |key: &str| stats[key].as_f64().unwrap_or_default();
        seconds.push(Second {
            at: start.elapsed().as_secs_f64(),
            requests: number("requests"),
            answered: number("answered"),
            limited: number("limited"),
            tokens: number("tokens"),
        });
        if start.elapsed() > Duration::from_secs(10)
            && let Some(faults) = later.take()
        {
            configure(http, base, &faults).await;
        }
        let done: i64 =
            sqlx::query_scalar("SELECT count(*) FROM verdicts").fetch_one(store.pool()).await.expect("a count");
        if usize::try_from(done).is_ok_and(|done| done >= case.jobs) || start.elapsed() > Duration::from_secs(180) {
            return seconds;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn summary(case: &Case, seconds: &[Second], store: &Store) -> Value {
    let scored: i64 = sqlx::query_scalar("SELECT count(*) FROM verdicts WHERE outcome = 'scored'")
        .fetch_one(store.pool())
        .await
        .expect("a count");
    let last = seconds.last().copied().unwrap_or_default();
    // Warm-up and the tail, in which no work is left, are not sustained.
    let begin = seconds.iter().find(|s| s.answered > 0.0).map_or(0.0, |s| s.at) + WARM_UP;
    let waiting = case.per_second.unwrap_or(10.0) * 12.0;
    let full = case.jobs as f64 - waiting;
    let within: Vec<&Second> = seconds.iter().filter(|s| s.at >= begin && s.answered <= full).collect();
    let rate = |of: fn(&Second) -> f64| {
        let (first, last) = (within.first()?, within.last()?);
        (last.at > first.at).then(|| (of(last) - of(first)) / (last.at - first.at))
    };
    let used = match (case.per_second, case.sim["tpm"].as_f64()) {
        (Some(limit), _) => rate(|s| s.answered).map(|r| r / limit),
        (None, Some(tpm)) => rate(|s| s.tokens).map(|r| r / (tpm / 60.0)),
        _ => None,
    };
    let settled = case.later.as_ref().map(|_| {
        let changed = 10.0;
        let noisy = seconds.windows(2).filter(|w| w[1].limited - w[0].limited > 0.2 * (w[1].requests - w[0].requests));
        noisy.map(|w| w[1].at - changed).fold(0.0, f64::max)
    });
    json!({"case": case.name, "use": used, "limited": last.limited / last.requests, "scored": scored as f64 / case.jobs as f64,
        "requests_per_job": last.requests / case.jobs as f64, "settled_seconds": settled})
}
