//! Judging against the bare floor: the real pipeline with one judge, and a loop that only sends the same requests.
//!
//! `make bench`. Floor and worker alternate in one run, on the same simulated judge in a process of its own, with the same
//! concurrency; only the ratios carry over. The worker claims from Postgres (fsync on), judges, and stores every verdict
//! and vote; the floor sends ready bodies with reqwest and reads the reply. Jobs are enqueued before the clock starts.
//!
//! A first request goes out before the clock starts, in both: until it is answered the worker sends four at a time, since it
//! does not know yet whether the endpoint advertises a limit. Then: a panel of three with checks, as wall time of a verdict
//! over that of its slowest vote; peak memory with 10,000 requests in flight, each of the two in a process of its own; and
//! the worker's memory over 100,000 evaluations.
//!
//! `cargo bench --bench judges -- --rounds 3`; one setting alone, to look where time goes: `--only 100 --jobs 20000`.

use assize::app::App;
use assize::config::{Config, Judge};
use assize::domain::clock::SystemClock;
use assize::pipeline::{self, Roles, ingest::Inbox};
use assize::runtime::lifecycle::Lifecycle;
use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONNECTIONS: u32 = 10;

const RUBRIC: &str =
    "name: judged\npanel: default\nprompt: |\n  {{ question }}\n  {{ context }}\n  {{ answer }}\n  Is it supported?\n";

/// One setting: the judge's latency, jobs in flight, jobs.
struct Case {
    latency_ms: u64,
    concurrency: usize,
    jobs: usize,
}

const CASES: [Case; 3] = [
    Case { latency_ms: 0, concurrency: 100, jobs: 5_000 },
    Case { latency_ms: 100, concurrency: 100, jobs: 4_000 },
    Case { latency_ms: 500, concurrency: 1_000, jobs: 8_000 },
];

/// What one run gave.
#[derive(Clone, Copy)]
struct Run {
    per_second: f64,
    cpu_us: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|a| a == "--child") {
        let rest: Vec<&str> = args[at + 1..].iter().map(String::as_str).collect();
        tokio::runtime::Runtime::new().expect("a runtime").block_on(child(&rest));
        return;
    }
    let number =
        |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)?.parse::<usize>().ok());
    let alone = number("--only");
    let cases: Vec<Case> = CASES
        .into_iter()
        .filter(|case| alone.is_none_or(|ms| usize::try_from(case.latency_ms) == Ok(ms)))
        .map(|case| Case { jobs: number("--jobs").unwrap_or(case.jobs), ..case })
        .collect();
    let rest = alone.is_none();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(run(&cases, number("--rounds").unwrap_or(3), rest));
}

/// Runs the settings; and, with `rest`, what is measured beside them.
async fn run(cases: &[Case], rounds: usize, rest: bool) {
    let dir = std::env::temp_dir().join(format!("assize-bench-judges-{}", std::process::id()));
    let cluster = Cluster::start(&dir, true).await.expect("a private Postgres starts");
    let mut lines = Vec::new();
    for case in cases {
        let (mut sim, base) = simulated(case.latency_ms).await;
        let mut ratios = Vec::new();
        let mut cpu = Vec::new();
        for round in 1..=rounds {
            let floor = floor(&base, case).await;
            let url = fresh_database(cluster.url(), "bench").await.expect("a database");
            let worker = worker(&url, &base, case).await;
            ratios.push(worker.per_second / floor.per_second);
            cpu.push(worker.cpu_us / floor.cpu_us);
            eprintln!(
                "{} ms, C={}, round {round}: floor {:.0}/s {:.0} us, worker {:.0}/s {:.0} us, ratio {:.2}, CPU {:.2}x",
                case.latency_ms,
                case.concurrency,
                floor.per_second,
                floor.cpu_us,
                worker.per_second,
                worker.cpu_us,
                ratios[round - 1],
                cpu[round - 1]
            );
        }
        sim.kill().await.expect("it can be killed");
        lines.push(json!({"latency_ms": case.latency_ms, "concurrency": case.concurrency, "ratio": middle(&ratios),
            "ratio_min": ratios.iter().copied().fold(f64::MAX, f64::min),
            "ratio_max": ratios.iter().copied().fold(0.0, f64::max), "cpu_ratio": middle(&cpu)}));
    }
    if rest {
        lines.push(beside(&cluster).await);
    }
    cluster.stop().await;
    drop(std::fs::remove_dir_all(&dir));
    println!("{}", json!({"bench": "judges", "rounds": rounds, "cases": lines}));
}

/// A panel's wall time, and memory.
async fn beside(cluster: &Cluster) -> Value {
    let wall = panel_wall(cluster).await;
    eprintln!("panel of three with checks: {wall:.3} times the slowest judge");
    let (floor_mb, worker_mb) = memory(cluster).await;
    eprintln!("10,000 in flight: floor {floor_mb:.0} MB, worker {worker_mb:.0} MB, ratio {:.2}", worker_mb / floor_mb);
    let growth = growth(cluster).await;
    eprintln!("over 100,000 evaluations: memory at the end {growth:.3} times that at a third");
    let memory = json!({"floor_mb": floor_mb, "worker_mb": worker_mb, "ratio": worker_mb / floor_mb, "growth": growth});
    json!({"panel_wall": wall, "memory": memory})
}

/// A simulated judge in a process of its own.
async fn simulated(latency_ms: u64) -> (tokio::process::Child, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let sim = tokio::process::Command::new(env!("CARGO_BIN_EXE_assize"))
        .args(["sim", "--port", &port.to_string(), "--latency", &format!("{latency_ms}ms")])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the simulated judge starts");
    let base = format!("http://127.0.0.1:{port}/v1");
    wait_for(&base).await;
    (sim, base)
}

/// Wall time of verdicts by three judges and three checks over that of their slowest votes, as stored.
async fn panel_wall(cluster: &Cluster) -> f64 {
    let (mut sim, base) = simulated(300).await;
    let url = fresh_database(cluster.url(), "bench").await.expect("a database");
    let rubrics = tempfile::tempdir().expect("a folder");
    let checks = "checks: [json_validity, failure_to_answer, grounding]\n";
    let rubric = RUBRIC.replace("panel: default\n", &format!("panel: default\n{checks}"));
    let mut config = configuration(&base, 50, rubrics.path(), &rubric);
    let judge = config.judges["judge"].clone();
    for name in ["second", "third"] {
        config.judges.insert(name.to_owned(), judge.clone());
    }
    config.panels.insert("default".to_owned(), ["judge", "second", "third"].map(str::to_owned).to_vec());
    let app = built(config, &url).await;
    enqueue(&app, 300, trace).await;
    work(&app, 300).await;
    let wall: f64 = sqlx::query_scalar(
        "SELECT avg(v.latency_ms::float8 / s.slowest) FROM verdicts v JOIN
             (SELECT verdict_id, max((body->>'latency_ms')::float8) AS slowest FROM votes GROUP BY 1) s
             ON s.verdict_id = v.id",
    )
    .fetch_one(app.store.pool())
    .await
    .expect("a mean");
    sim.kill().await.expect("it can be killed");
    wall
}

/// Peak memory of the bare loop and of the worker with 10,000 requests in flight, in MB.
async fn memory(cluster: &Cluster) -> (f64, f64) {
    let case = Case { latency_ms: 4_000, concurrency: 10_000, jobs: 10_000 };
    let (mut sim, base) = simulated(case.latency_ms).await;
    let floor = in_child(&["floor", &base, "-", "10000", "10000"]).await;
    let url = fresh_database(cluster.url(), "bench").await.expect("a database");
    let rubrics = tempfile::tempdir().expect("a folder");
    let app = built(configuration(&base, 1, rubrics.path(), RUBRIC), &url).await;
    enqueue(&app, case.jobs, trace).await;
    let worker = in_child(&["worker", &base, url.expose_secret(), "10000", "10000"]).await;
    sim.kill().await.expect("it can be killed");
    (floor[0], worker[0])
}

/// The worker's memory after 100,000 short evaluations over that after a third of them.
async fn growth(cluster: &Cluster) -> f64 {
    let (mut sim, base) = simulated(0).await;
    let url = fresh_database(cluster.url(), "bench").await.expect("a database");
    let rubrics = tempfile::tempdir().expect("a folder");
    let app = built(configuration(&base, 1, rubrics.path(), RUBRIC), &url).await;
    let short = |n: usize| {
        json!({"trace_id": format!("t-{n}"), "input": "How long?", "output": format!("{n} days."),
        "context": [{"id": "a", "content": "Sofas can be returned within 30 days."}]})
    };
    enqueue(&app, 100_000, short).await;
    let found = in_child(&["growth", &base, url.expose_secret(), "100", "100000"]).await;
    sim.kill().await.expect("it can be killed");
    found[1] / found[0]
}

/// Runs this program as a child, so that memory is measured alone; the numbers that it prints.
async fn in_child(args: &[&str]) -> Vec<f64> {
    let own = std::env::current_exe().expect("a program has a path");
    let mut command = tokio::process::Command::new(own);
    let output = command.arg("--child").args(args).stderr(Stdio::inherit()).output().await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(!numbers.is_empty(), "the child says: {text}");
    numbers
}

/// What a child does: `floor|worker|growth BASE DATABASE CONCURRENCY JOBS`.
async fn child(args: &[&str]) {
    let [what, base, url, concurrency, jobs] = args else { panic!("five arguments") };
    let (concurrency, jobs) = (concurrency.parse().expect("a number"), jobs.parse().expect("a number"));
    let case = Case { latency_ms: 0, concurrency, jobs };
    if *what == "floor" {
        floor(base, &case).await;
        println!("{}", resident_mb("VmHWM"));
        return;
    }
    let rubrics = tempfile::tempdir().expect("a folder");
    let app = built(configuration(base, concurrency, rubrics.path(), RUBRIC), &(*url).into()).await;
    if *what == "worker" {
        work(&app, jobs).await;
        println!("{}", resident_mb("VmHWM"));
        return;
    }
    let life = Lifecycle::default();
    pipeline::start(&app, Roles { ingest: false, work: true, export: false, watch: false, web: false }, &life);
    stored(&app, jobs / 3).await;
    let third = resident_mb("VmRSS");
    stored(&app, jobs).await;
    println!("{third} {}", resident_mb("VmRSS"));
    life.stop(Duration::from_secs(5), std::future::pending()).await;
}

/// Memory of this process, in MB.
fn resident_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2] * 1000.0).round() / 1000.0
}

async fn wait_for(base: &str) {
    let http = client();
    while http.get(format!("{base}/models")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn client() -> reqwest::Client {
    assize::runtime::http::client(Duration::from_secs(60)).expect("an HTTP client")
}

/// A trace with about 4 KB of context and 1 KB of answer, different each time.
fn trace(n: usize) -> Value {
    let context = "Sofas can be returned within 30 days of delivery. The sofa must be unused. ".repeat(54);
    let answer = "You can return a sofa within 30 days of delivery, as long as it is unused. ".repeat(13);
    json!({"trace_id": format!("t-{n}"), "input": format!("How long do I have to return sofa {n}?"),
        "output": answer, "context": [{"id": "ret-002", "content": context}]})
}

/// The bare loop: the same number of requests of the same size, and nothing else.
async fn floor(base: &str, case: &Case) -> Run {
    use futures_util::stream::{StreamExt, iter};
    let (http, url) = (client(), format!("{base}/chat/completions"));
    let bodies: Vec<bytes::Bytes> = (0..case.jobs)
        .map(|n| {
            let trace = trace(n);
            let prompt = format!(
                "<<<ANSWER ab>>>\n{}\n<<<END ANSWER ab>>>\n{}\n{}",
                trace["output"], trace["context"], trace["input"]
            );
            let schema =
                json!({"type": "object", "properties": {"reason": {"type": "string"}, "score": {"type": "number"}}});
            let body = json!({"model": "sim-large", "temperature": 0.0, "max_tokens": 1024,
                "messages": [{"role": "system", "content": "x".repeat(600)}, {"role": "user", "content": prompt}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}});
            body.to_string().into()
        })
        .collect();
    drop(http.get(format!("{base}/models")).send().await);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    iter(bodies)
        .for_each_concurrent(case.concurrency, |body| {
            let (http, url) = (&http, &url);
            async move {
                let request = http.post(url).header("content-type", "application/json").body(body);
                let reply: Value = request.send().await.expect("it answers").json().await.expect("JSON");
                let text = reply["choices"][0]["message"]["content"].as_str().expect("text");
                let _: Value = serde_json::from_str(text).expect("JSON");
            }
        })
        .await;
    measured(case.jobs, start, cpu)
}

async fn worker(url: &SecretString, base: &str, case: &Case) -> Run {
    let rubrics = tempfile::tempdir().expect("a folder");
    let app = built(configuration(base, case.concurrency, rubrics.path(), RUBRIC), url).await;
    enqueue(&app, case.jobs, trace).await;
    // The first request, which the floor has sent too.
    let judge = app.bench.judges.get("judge").expect("it is configured");
    let permit = judge.pacer.admit(1, Duration::from_secs(5)).await.expect("nothing else is sent");
    permit.end(assize::llm::pacer::Ended::Answered { tokens: 1 });
    let (start, cpu) = (Instant::now(), cpu_seconds());
    work(&app, case.jobs).await;
    measured(case.jobs, start, cpu)
}

fn configuration(base: &str, concurrency: usize, rubrics: &std::path::Path, rubric: &str) -> Config {
    std::fs::write(rubrics.join("judged.yaml"), rubric).expect("a rubric can be written");
    let mut config = Config::default();
    rubrics.clone_into(&mut config.rubrics.dir);
    config.work.concurrency = concurrency;
    config.work.cache_seconds = 0;
    config.assembly.tick_ms = 10;
    let judge = Judge { model: "sim-large".to_owned(), base_url: Some(base.to_owned()), ..Judge::default() };
    config.judges = BTreeMap::from([("judge".to_owned(), judge)]);
    config.panels = BTreeMap::from([("default".to_owned(), vec!["judge".to_owned()])]);
    config
}

async fn built(config: Config, url: &SecretString) -> Arc<App> {
    let store = Store::connect(url, CONNECTIONS, Duration::from_secs(30)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    App::build(config, store, Arc::new(SystemClock)).await.expect("a valid configuration")
}

/// Works until so many verdicts are stored.
async fn work(app: &Arc<App>, jobs: usize) {
    let life = Lifecycle::default();
    pipeline::start(app, Roles { ingest: false, work: true, export: false, watch: false, web: false }, &life);
    stored(app, jobs).await;
    life.stop(Duration::from_secs(5), std::future::pending()).await;
}

async fn stored(app: &Arc<App>, jobs: usize) {
    loop {
        let done: i64 =
            sqlx::query_scalar("SELECT count(*) FROM verdicts").fetch_one(app.store.pool()).await.expect("a count");
        if usize::try_from(done).is_ok_and(|done| done >= jobs) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Puts all jobs into the queue, through the steps that do so in production.
async fn enqueue(app: &Arc<App>, jobs: usize, trace: impl Fn(usize) -> Value) {
    let life = Lifecycle::default();
    let inbox = Inbox::start(app, &life);
    for begin in (0..jobs).step_by(10_000) {
        let part = begin..jobs.min(begin + 10_000);
        let spans = part.flat_map(|n| assize::dialect::native::spans(&trace(n)).expect("valid"));
        inbox.submit(spans.map(|span| pipeline::ingest::row(&span)).collect()).await.expect("it is stored");
        while pipeline::assemble::batch(app).await.expect("it is assembled") {}
    }
    life.stop(Duration::from_secs(5), std::future::pending()).await;
}

fn measured(jobs: usize, start: Instant, cpu: f64) -> Run {
    Run { per_second: jobs as f64 / start.elapsed().as_secs_f64(), cpu_us: (cpu_seconds() - cpu) * 1e6 / jobs as f64 }
}

/// User and system time of this process: Postgres and the simulated judge are others.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}
