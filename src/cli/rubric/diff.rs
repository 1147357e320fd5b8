//! `assize rubric diff`: what differs, and whose verdicts would.
//!
//! Its rule: verdicts are made by the worker's own steps, and votes come from the cache where there is a database, and go into
//! it, so that the same question is paid for once. The way not taken: a diff of files, in which a moved key is a change.

use super::super::progress::Progress;
use super::super::{Context, database::Database, input, table};
use super::sources;
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock, time_or_age};
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::Verdict;
use crate::pipeline::runs::{self, Paired};
use crate::pipeline::{offline, trial};
use crate::rubrics::changes::{Change, changes};
use crate::runtime::lifecycle::Lifecycle;
use crate::store::Store;
use anyhow::Context as _;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Traces that are judged at the same time.
const AT_ONCE: usize = 16;

/// Verdicts that are listed at most.
const LISTED_MAX: usize = 50;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric diff old/tone.yaml rubrics/tone.yaml\n  \
    assize rubric diff main/rubrics rubrics\n  \
    assize rubric diff tone@sha256:0123456789ab tone --trace-file traces.jsonl --judge sim\n  \
    assize rubric diff tone@sha256:0123456789ab tone --since 24h --traces-max 200")]
pub(super) struct Args {
    /// A file, a folder, a name, or NAME@VERSION from the database
    from: String,
    /// The same
    to: String,
    /// Judge these traces by both, and show whose verdicts differ; files, folders, globs, - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    trace_file: Vec<PathBuf>,
    /// The same with traces that the service has stored: since a time or an age, as in 24h
    #[arg(long)]
    since: Option<String>,
    /// The newest so many of them
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(i64).range(1..=100_000), requires = "since")]
    traces_max: i64,
    /// `sim` judges with the simulated judge instead of the configured ones
    #[arg(long, value_parser = ["sim"])]
    judge: Option<String>,
}

/// Two versions of a rubric.
struct Two {
    names: (String, String),
    from: Rubric,
    to: Rubric,
    changes: Vec<Change>,
}

/// What two sides have.
#[derive(Default)]
struct Sides {
    both: Vec<Two>,
    added: Vec<String>,
    removed: Vec<String>,
    same: usize,
}

type Pairs = Vec<(Verdict, Verdict)>;

pub(super) async fn run(args: &Args, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let sides = sides(sources::several(&args.from, &config).await?, sources::several(&args.to, &config).await?);
    let judged = judged(args, config, &sides).await?;
    let judged = |n: usize| judged.as_ref().and_then(|all| all.get(n));
    if as_json {
        let all: Vec<Value> = sides.both.iter().enumerate().map(|(n, two)| to_json(two, judged(n))).collect();
        let single = sides.both.len() == 1 && sides.added.is_empty() && sides.removed.is_empty() && sides.same == 0;
        let folders = json!({"rubrics": all, "added": sides.added, "removed": sides.removed, "same": sides.same});
        println!("{}", if single { all.first().cloned().unwrap_or_default() } else { folders });
        return Ok(ExitCode::SUCCESS);
    }
    for (n, two) in sides.both.iter().enumerate() {
        let (from, to) = (&two.from.version, &two.to.version);
        println!("--- {} ({from})\n+++ {} ({to})\n{}\n", two.names.0, two.names.1, as_text(&two.changes));
        if let Some(pairs) = judged(n) {
            println!("{}\n", compared(pairs));
        }
    }
    for (sign, names) in [('+', &sides.added), ('-', &sides.removed)] {
        for name in names {
            println!("{sign} {name}");
        }
    }
    if sides.same > 0 {
        println!("{} rubric(s) are the same on both sides", sides.same);
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts together what is to be compared: two single rubrics whatever their names, otherwise those of one name.
fn sides(from: Vec<(String, Rubric)>, to: Vec<(String, Rubric)>) -> Sides {
    let two = |(a, from): (String, Rubric), (b, to): (String, Rubric)| {
        let changes = changes(&from, &to);
        Two { names: (a, b), from, to, changes }
    };
    let mut sides = Sides::default();
    if let ([first], [second]) = (from.as_slice(), to.as_slice()) {
        sides.both.push(two(first.clone(), second.clone()));
        return sides;
    }
    let mut old: BTreeMap<String, (String, Rubric)> = from.into_iter().map(|one| (one.1.name.clone(), one)).collect();
    for second in to {
        match old.remove(&second.1.name) {
            None => sides.added.push(second.1.name),
            Some(first) => {
                let made = two(first, second);
                if made.changes.is_empty() {
                    sides.same += 1;
                } else {
                    sides.both.push(made);
                }
            }
        }
    }
    sides.removed = old.into_keys().collect();
    sides
}

fn as_text(found: &[Change]) -> String {
    if found.is_empty() {
        return "no difference in what is judged, or how".to_owned();
    }
    let one = |change: &Change| {
        let note = if change.verdicts { "" } else { " (no verdict depends on it)" };
        format!("\n{}{note}\n{}", change.key, change.text().trim_end())
    };
    found.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Each pair of rubrics on the traces that are asked for; `None` when none are.
async fn judged(args: &Args, mut config: Config, sides: &Sides) -> anyhow::Result<Option<Vec<Pairs>>> {
    if args.trace_file.is_empty() && args.since.is_none() {
        return Ok(None);
    }
    let database =
        if args.judge.is_some() && args.since.is_none() { None } else { Database::existing(&config).await? };
    let life = Lifecycle::default();
    let work = async {
        let traces = traces(args, database.as_ref().map(|d| &d.store)).await?;
        if args.judge.is_some() {
            trial::simulated(&mut config, &life).await.context("cannot open a port for the simulated judge")?;
            eprintln!("note: verdicts of judges are simulated (--judge sim)");
        }
        let store = database.as_ref().filter(|_| args.judge.is_none()).map(|d| d.store.clone());
        let bench = Bench::without_rubrics(config, Arc::new(SystemClock), store)?;
        let mut all = Vec::new();
        for two in &sides.both {
            all.push(both(&bench, two, &traces, args.judge.is_some()).await);
        }
        Ok(Some(all))
    };
    let all = work.await;
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    if let Some(database) = database {
        database.close().await;
    }
    all
}

async fn traces(args: &Args, store: Option<&Store>) -> anyhow::Result<Vec<Arc<Trace>>> {
    let found = match &args.since {
        None => {
            let input = input::read(&args.trace_file)?;
            input.tell();
            input.traces
        }
        Some(text) => {
            let since = time_or_age(text, SystemClock.now()).with_context(|| {
                format!("`{text}` is no time as in 2026-11-20T12:00:00Z and no age as in 90m, 24h, 7d")
            })?;
            let store = store.context("--since asks for stored traces, and there is no database; set DATABASE_URL")?;
            offline::stored_traces(store, since, args.traces_max).await?
        }
    };
    anyhow::ensure!(
        !found.is_empty(),
        "there is no trace to judge: none in the file(s) can be used, or none is stored since then"
    );
    Ok(found.into_iter().map(Arc::new).collect())
}

/// What is judged at once.
#[derive(Clone, Copy)]
enum Unit<'a> {
    Trace(&'a Arc<Trace>),
    Session(&'a [&'a Trace]),
}

/// The verdicts of a rubric on a unit.
async fn verdicts(bench: &Bench, rubric: &Arc<Rubric>, unit: Unit<'_>) -> Vec<Verdict> {
    let rubrics = std::slice::from_ref(rubric);
    let made = match unit {
        Unit::Session(traces) => offline::judge_session(bench, rubrics, traces).await,
        Unit::Trace(trace) if rubric.evaluates == Evaluates::Session => {
            offline::judge_session(bench, rubrics, &[trace.as_ref()]).await
        }
        Unit::Trace(trace) => offline::judge(bench, rubrics, trace).await,
    };
    offline::keep_votes(bench, &made).await;
    made
}

/// The verdicts of each trace, span or session under both versions, where both have one.
async fn both(bench: &Bench, two: &Two, traces: &[Arc<Trace>], simulated: bool) -> Pairs {
    let panel = |rubric: &Rubric| {
        // A batch may take hours; a comparison is asked now.
        let rubric = Rubric { batch_hours: None, ..rubric.clone() };
        if simulated { trial::with_simulated_panel(&rubric) } else { Arc::new(rubric) }
    };
    let (from, to) = (&panel(&two.from), &panel(&two.to));
    let about_sessions = from.evaluates == Evaluates::Session && to.evaluates == Evaluates::Session;
    let sessions = if about_sessions { offline::by_session(traces) } else { Vec::new() };
    let units: Vec<Unit<'_>> = if about_sessions {
        sessions.iter().map(|session| Unit::Session(session)).collect()
    } else {
        traces.iter().map(Unit::Trace).collect()
    };
    let mut progress = Progress::new(units.len(), if about_sessions { "sessions" } else { "traces" });
    let one = |at: usize| {
        let unit = units[at];
        async move { (at, verdicts(bench, from, unit).await, verdicts(bench, to, unit).await) }
    };
    let mut running = stream::iter(0..units.len()).map(one).buffer_unordered(AT_ONCE);
    let mut pairs = BTreeMap::new();
    while let Some((at, first, second)) = running.next().await {
        progress.one(first.iter().chain(&second).map(|v| v.cost_usd).sum());
        let of = |v: &Verdict| second.iter().find(|w| w.span_id == v.span_id).cloned();
        let both: Pairs = first.into_iter().filter_map(|v| of(&v).map(|w| (v, w))).collect();
        pairs.insert(at, both);
    }
    drop(running);
    progress.end();
    pairs.into_values().flatten().collect()
}

fn differs((a, b): &(Verdict, Verdict)) -> bool {
    (a.outcome, a.passed, &a.label) != (b.outcome, b.passed, &b.label)
}

/// The pass rates compared, where both were scored.
fn paired(pairs: &[(Verdict, Verdict)]) -> Option<Paired> {
    let (before, mut now): (Vec<Verdict>, Vec<Verdict>) = pairs.iter().cloned().unzip();
    // Two single rubrics may have two names.
    for (verdict, (first, _)) in now.iter_mut().zip(pairs) {
        verdict.rubric.clone_from(&first.rubric);
    }
    runs::compare(&before, &now).into_values().next()
}

fn to_json(two: &Two, pairs: Option<&Pairs>) -> Value {
    let verdicts = pairs.map(|pairs| {
        let differ: Vec<Value> =
            pairs.iter().filter(|p| differs(p)).map(|(a, b)| json!({"from": a.line(), "to": b.line()})).collect();
        json!({"judged": pairs.len(), "differ": differ, "paired": paired(pairs)})
    });
    let (from, to) = (&two.from.version, &two.to.version);
    json!({"rubric": two.to.name, "from": from, "to": to, "changes": two.changes, "verdicts": verdicts})
}

fn compared(pairs: &[(Verdict, Verdict)]) -> String {
    let changed: Vec<&(Verdict, Verdict)> = pairs.iter().filter(|p| differs(p)).collect();
    let now = |wanted: Option<bool>| changed.iter().filter(|(a, b)| b.passed == wanted && a.passed != wanted).count();
    let mut summary = format!(
        "{} of {} verdicts differ: {} now pass, {} now fail, {} are no longer scored",
        changed.len(),
        pairs.len(),
        now(Some(true)),
        now(Some(false)),
        now(None)
    );
    if let Some((paired, c)) = paired(pairs).and_then(|p| Some((p.clone(), p.passed?))) {
        let points = |x: f64| x * 100.0;
        summary = format!(
            "{summary}\npassed: {:.1} % → {:.1} %, {:+.1} points ({:+.1} to {:+.1}) on {} traces that both have scored",
            points(paired.pass_rates.0),
            points(paired.pass_rates.1),
            points(c.difference),
            points(c.interval.low),
            points(c.interval.high),
            paired.n
        );
    }
    let word = |v: &Verdict| {
        let passed = v.passed.map_or(v.outcome.as_str(), |p| if p { "pass" } else { "fail" });
        let score = v.score.map_or_else(String::new, |s| format!(" {s:.2}"));
        let label = v.label.as_ref().map_or_else(String::new, |label| format!(" {label}"));
        format!("{passed}{label}{score}")
    };
    let rows: Vec<Vec<String>> =
        changed.iter().take(LISTED_MAX).map(|(a, b)| vec![a.trace_id.clone(), word(a), word(b)]).collect();
    let more = changed.len().saturating_sub(LISTED_MAX);
    let more = if more > 0 { format!("… and {more} more\n") } else { String::new() };
    if rows.is_empty() {
        summary
    } else {
        format!("{}\n{more}{summary}", table::render(&["trace", "from", "to"], rows))
    }
}
