//! `assize demo`: the whole product on one machine, with nothing configured.
//!
//! Its rule: everything is real but the judge (unless a key is set): a private Postgres, OTLP over HTTP, the worker's own loops.
//! Each run begins with an empty database of its own. The way not taken: a canned result.

mod corpus;
mod generator;
mod result;

use super::database::Database;
use super::{Context, eval, input};
use crate::app::App;
use crate::config::Config;
use crate::domain::alert::incident::Alert;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::policy::{Matcher, Patterns, SamplingRule};
use crate::domain::verdict::Verdict;
use crate::pipeline::Roles;
use crate::runtime::http;
use crate::runtime::lifecycle::Lifecycle;
use crate::server::Guard;
use crate::store::alerts::AlertFilter;
use crate::store::verdicts::VerdictFilter;
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  assize demo\n  assize demo --once --json\n  assize demo --traces my-traces.jsonl export.pb"
)]
pub(super) struct Args {
    /// Judge these traces instead of the furniture shop's: native JSON lines or OTLP
    #[arg(long, num_args = 1.., value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// Port of the service; taken: a free one is used
    #[arg(long, default_value_t = 4318)]
    port: u16,
    /// Exit when everything is judged
    #[arg(long)]
    once: bool,
    /// End with one JSON line
    #[arg(long)]
    json: bool,
}

/// Conversations sent in one request.
const BATCH: usize = 20;

/// The database of the demo, beside the usual one.
const DATABASE: &str = "assize_demo";

/// The demo gives up when nothing has moved for this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The rubrics that the program brings along, for running outside a checkout.
const RUBRICS: [(&str, &str); 5] = [
    ("answer_relevance.yaml", include_str!("../../../rubrics/answer_relevance.yaml")),
    ("failure_to_answer.yaml", include_str!("../../../rubrics/failure_to_answer.yaml")),
    ("faithfulness.yaml", include_str!("../../../rubrics/faithfulness.yaml")),
    ("json_validity.yaml", include_str!("../../../rubrics/json_validity.yaml")),
    ("tone_and_brand.yaml", include_str!("../../../rubrics/tone_and_brand.yaml")),
];

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut config = context.config()?;
    let life = Lifecycle::default();
    let simulated = config.judges.is_empty();
    if simulated {
        eval::simulated(&mut config, &life).await?;
    }
    // Simulated verdicts have no business in anybody's Datadog.
    config.datadog = crate::config::Datadog::default();
    // A demo's alert must not wake anybody.
    config.alerts = crate::config::Alerts::default();
    shorten(&mut config);
    bring_rubrics(&mut config)?;
    let listener = listen(args.port).await?;
    let address = listener.local_addr()?;
    config.server.listen = address;
    let place = if config.database.url.is_some() { "the Postgres of DATABASE_URL" } else { "a private Postgres" };
    eprintln!("starting: {place}, the service on http://{address}, {}", who(&config, simulated));
    let database = Database::open(&config, Some(DATABASE)).await?;
    let shown = show(&args, config, &database, (listener, address), &life).await;
    life.stop(Duration::from_secs(5), std::future::pending()).await;
    database.close().await;
    shown.map(|()| ExitCode::SUCCESS)
}

fn who(config: &Config, simulated: bool) -> String {
    if simulated {
        "SIMULATED judges (their verdicts come from rules; set OPENAI_API_KEY for real ones)".to_owned()
    } else {
        format!("judges {}", config.judges.keys().cloned().collect::<Vec<_>>().join(", "))
    }
}

/// A demo does not wait minutes for a trace to be quiet, and shows sampling on small talk.
fn shorten(config: &mut Config) {
    config.assembly.quiet_ms = 300;
    config.assembly.idle_ms = 2_000;
    config.assembly.hard_cap_ms = 10_000;
    config.assembly.tick_ms = 100;
    config.work.poll_ms = 100;
    config.watch.tick_ms = 200;
    if config.sampling.rules.is_empty() {
        let when = Matcher { feature: Patterns(vec!["small_talk".to_owned()]), ..Matcher::default() };
        config.sampling.rules.push(SamplingRule { name: "small talk".to_owned(), when, rate: 0.5 });
    }
}

/// Uses the configured rubrics if they are there, else writes out those that the program brings along.
fn bring_rubrics(config: &mut Config) -> anyhow::Result<()> {
    if config.rubrics.dir.is_dir() {
        return Ok(());
    }
    let dir = config.database.private_dir.join("rubrics");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, text) in RUBRICS {
        std::fs::write(dir.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    config.rubrics.dir = dir;
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let wanted = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            eprintln!("port {port} is taken, using a free one");
            Ok(TcpListener::bind("127.0.0.1:0").await?)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {wanted}")),
    }
}

async fn show(
    args: &Args,
    config: Config,
    database: &Database,
    (listener, address): (TcpListener, SocketAddr),
    life: &Lifecycle,
) -> anyhow::Result<()> {
    let simulated = config.judges.keys().any(|name| name.starts_with("sim-"));
    database.store.migrate().await?;
    let app = App::build(config, database.store.clone(), Arc::new(SystemClock)).await?;
    let roles = Roles { ingest: true, work: true, export: true, watch: true, web: true };
    let doors = super::serve::Doors { http: listener, grpc: None, tls: None };
    super::serve::launch(&app, roles, Guard::default(), doors, life);
    let base = format!("http://{address}");
    let sent = if args.traces.is_empty() { send_corpus(&base).await? } else { send_files(&base, &args.traces).await? };
    let seconds = wait(&app, sent, life).await?;
    let verdicts = all_verdicts(&app).await?;
    let alerts = watched(&app).await?;
    let totals = app.store.tally_totals().await?;
    println!("{}", result::text(&verdicts, totals, seconds, simulated));
    println!("{}", result::alerts(&alerts, app.bench.clock.now()));
    println!("{}", result::look_around(DATABASE, verdicts.first(), alerts.first()));
    if args.json {
        println!("{}", result::json(&verdicts, totals, alerts.len()));
    }
    if !args.once {
        println!("The service goes on at {base} until Ctrl-C. Try:");
        println!("  curl -s '{base}/api/v1/verdicts?rubric=faithfulness&limit=1'");
        println!("  curl -s {base}/metrics | grep assize_verdicts");
        life.run_until_stopped(Duration::from_secs(5)).await;
    }
    Ok(())
}

async fn post(client: &reqwest::Client, url: &str, kind: &str, body: Vec<u8>) -> anyhow::Result<()> {
    let response = client.post(url).header("content-type", kind).body(body).send().await?;
    let status = response.status();
    let text = String::from_utf8_lossy(&response.bytes().await?).into_owned();
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    Ok(())
}

/// Sends the corpus; gives the number of traces.
async fn send_corpus(base: &str) -> anyhow::Result<usize> {
    let all = corpus::conversations()?;
    let client = http::client(Duration::from_secs(30))?;
    for batch in all.chunks(BATCH) {
        let body = generator::body(batch, SystemClock.now());
        post(&client, &format!("{base}/v1/traces"), "application/x-protobuf", body).await?;
    }
    Ok(all.len())
}

async fn send_files(base: &str, files: &[PathBuf]) -> anyhow::Result<usize> {
    let count = input::read(files)?.traces.len();
    let client = http::client(Duration::from_secs(60))?;
    for path in files {
        let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (url, kind) = door(base, path, &body);
        post(&client, &url, kind, body).await.with_context(|| format!("{} was not taken", path.display()))?;
    }
    if count == 0 {
        bail!("no trace in these files can be used");
    }
    Ok(count)
}

fn door(base: &str, path: &Path, body: &[u8]) -> (String, &'static str) {
    use crate::dialect::Encoding;
    match input::form(path, body) {
        input::Form::Otlp(Encoding::Protobuf) => (format!("{base}/v1/traces"), "application/x-protobuf"),
        input::Form::Otlp(Encoding::Json) => (format!("{base}/v1/traces"), "application/json"),
        input::Form::Native => (format!("{base}/api/v1/traces"), "application/json"),
    }
}

/// Waits until all traces are decided on and no job is left; gives the seconds it took.
async fn wait(app: &App, traces: usize, life: &Lifecycle) -> anyhow::Result<f64> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} traces judged, {elapsed}")?;
    let bar = ProgressBar::new(traces as u64).with_style(style);
    let start = tokio::time::Instant::now();
    let (mut last, mut moved) = ((0, 0), start);
    loop {
        let stats = app.store.queue_stats(app.bench.clock.now()).await?;
        let (seen, _) = app.store.tally_totals().await?;
        let jobs = stats.ready + stats.delayed + stats.leased;
        let per_trace = i64::try_from(app.bench.rubrics.load().active().len().max(1)).unwrap_or(1);
        bar.set_position(u64::try_from((seen - jobs / per_trace).max(0)).unwrap_or(0));
        if usize::try_from(seen).is_ok_and(|seen| seen >= traces) && jobs == 0 && stats.open_traces == 0 {
            bar.finish_and_clear();
            return Ok(start.elapsed().as_secs_f64());
        }
        if (seen, jobs) != last {
            (last, moved) = ((seen, jobs), tokio::time::Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            bail!(
                "nothing has moved for {PATIENCE:?}: {seen} of {traces} traces decided on, {jobs} jobs left; look at `assize queue stats`"
            );
        }
        if life.soft.is_cancelled() {
            bail!("stopped");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Alerts, once all verdicts have been watched.
async fn watched(app: &App) -> anyhow::Result<Vec<Alert>> {
    let start = tokio::time::Instant::now();
    while app.store.watch_is_behind().await? && start.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What was counted is looked at in the same round, and told at its end.
    let counted = app.watch_rounds.load(Ordering::Relaxed);
    while app.watch_rounds.load(Ordering::Relaxed) == counted && start.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(app.store.alerts(&AlertFilter { limit: 100, ..AlertFilter::default() }).await?)
}

async fn all_verdicts(app: &App) -> anyhow::Result<Vec<Verdict>> {
    let mut all: Vec<Verdict> = Vec::new();
    loop {
        let before = all.last().map(|v| (v.created_at, v.id));
        let page = app.store.verdicts(&VerdictFilter { before, limit: 1_000, ..VerdictFilter::default() }).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
