//! `assize rubric diff`: what differs, and whose verdicts would.

use super::super::{Context, database::Database, input, table};
use super::sources;
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::SystemClock;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::Verdict;
use crate::pipeline::{offline, trial};
use crate::rubrics::changes::{Change, changes};
use crate::runtime::lifecycle::Lifecycle;
use anyhow::Context as _;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Traces that are judged at the same time.
const AT_ONCE: usize = 16;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric diff old/tone.yaml rubrics/tone.yaml\n  \
    assize rubric diff tone@sha256:0123456789ab tone --trace-file traces.jsonl --judge sim")]
pub(super) struct Args {
    /// A file, a name, or NAME@VERSION from the database
    from: String,
    /// The same
    to: String,
    /// Judge these traces by both, and show whose verdicts differ; votes come from the database's cache where there are any
    #[arg(long, value_name = "FILE")]
    trace_file: Vec<PathBuf>,
    /// `sim` judges with the simulated judge instead of the configured ones
    #[arg(long, value_parser = ["sim"])]
    judge: Option<String>,
}

pub(super) async fn run(args: &Args, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let (from_name, from) = sources::one(&args.from, &config, context).await?;
    let (to_name, to) = sources::one(&args.to, &config, context).await?;
    let found = changes(&from, &to);
    let pairs = if args.trace_file.is_empty() {
        None
    } else {
        let traces = input::read(&args.trace_file)?;
        traces.rejected.iter().take(20).for_each(|why| eprintln!("not used: {why}"));
        anyhow::ensure!(!traces.traces.is_empty(), "no trace in the file(s) can be used");
        Some(both(args, config, (from.clone(), to.clone()), traces.traces).await?)
    };
    if as_json {
        let verdicts = pairs.as_ref().map(|pairs| {
            let differ: Vec<Value> =
                pairs.iter().filter(|p| differs(p)).map(|(a, b)| json!({"from": a.line(), "to": b.line()})).collect();
            json!({"judged": pairs.len(), "differ": differ})
        });
        println!("{}", json!({"from": from.version, "to": to.version, "changes": found, "verdicts": verdicts}));
    } else {
        println!("--- {from_name} ({})\n+++ {to_name} ({})\n{}", from.version, to.version, as_text(&found));
        if let Some(pairs) = pairs {
            println!("\n{}", compared(&pairs));
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// Each trace's verdicts under both.
async fn both(
    args: &Args,
    mut config: Config,
    (from, to): (Rubric, Rubric),
    traces: Vec<Trace>,
) -> anyhow::Result<Vec<(Verdict, Verdict)>> {
    let life = Lifecycle::default();
    let mut database = None;
    let (from, to) = if args.judge.is_some() {
        trial::simulated(&mut config, &life).await.context("cannot open a port for the simulated judge")?;
        eprintln!("note: verdicts of judges are simulated (--judge sim)");
        (trial::with_simulated_panel(&from), trial::with_simulated_panel(&to))
    } else {
        if config.database.url.is_some() {
            database = Some(Database::open(&config, None).await?);
        }
        (Arc::new(from), Arc::new(to))
    };
    let store = database.as_ref().map(|d| d.store.clone());
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), store)?;
    let bench = &bench;
    let units = if from.evaluates == Evaluates::Session && to.evaluates == Evaluates::Session {
        offline::by_session(&traces)
    } else {
        traces.into_iter().map(|trace| vec![trace]).collect()
    };
    let (from, to) = (&from, &to);
    let pairs: Vec<Vec<(Verdict, Verdict)>> = stream::iter(units)
        .map(|unit| async move {
            let second = judged(bench, to, &unit).await;
            let of = |v: &Verdict| second.iter().find(|w| w.span_id == v.span_id).cloned();
            let first = judged(bench, from, &unit).await;
            first.into_iter().filter_map(|v| of(&v).map(|w| (v, w))).collect()
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let pairs = pairs.into_iter().flatten().collect();
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    if let Some(database) = database {
        database.close().await;
    }
    Ok(pairs)
}

/// The verdicts of one unit: a trace, or a session.
async fn judged(bench: &Bench, rubric: &Arc<Rubric>, unit: &[Trace]) -> Vec<Verdict> {
    let rubrics = std::slice::from_ref(rubric);
    match unit {
        [trace] if rubric.evaluates != Evaluates::Session => {
            offline::judge(bench, rubrics, &Arc::new(trace.clone())).await
        }
        session => offline::judge_session(bench, rubrics, session).await,
    }
}

fn differs((a, b): &(Verdict, Verdict)) -> bool {
    (a.outcome, a.passed, &a.label) != (b.outcome, b.passed, &b.label)
}

fn compared(pairs: &[(Verdict, Verdict)]) -> String {
    let changed: Vec<&(Verdict, Verdict)> = pairs.iter().filter(|p| differs(p)).collect();
    let now = |wanted: Option<bool>| changed.iter().filter(|(a, b)| b.passed == wanted && a.passed != wanted).count();
    let summary = format!(
        "{} of {} verdicts differ: {} now pass, {} now fail, {} are no longer scored",
        changed.len(),
        pairs.len(),
        now(Some(true)),
        now(Some(false)),
        now(None)
    );
    let word = |v: &Verdict| {
        let passed = v.passed.map_or(v.outcome.as_str(), |p| if p { "pass" } else { "fail" });
        let score = v.score.map_or_else(String::new, |s| format!(" {s:.2}"));
        format!("{passed}{score}")
    };
    let rows: Vec<Vec<String>> =
        changed.iter().take(50).map(|(a, b)| vec![a.trace_id.clone(), word(a), word(b)]).collect();
    if rows.is_empty() { summary } else { format!("{}\n{summary}", table::render(&["trace", "from", "to"], rows)) }
}
