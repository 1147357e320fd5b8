//! `assize explain`: what happened to a trace and why, or what would happen.

mod tell;

use super::{Context, database::Database, input};
use crate::app::Bench;
use crate::config::Config;
use crate::config::nearest::nearest;
use crate::domain::clock::SystemClock;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::pipeline::explain::{Explanation, explain};
use crate::pipeline::foresee::{self, Asked, Foreseen, Wish, foresee};
use crate::pipeline::{offline, sample, sessions, trial, units};
use crate::rubrics::catalog::Entry;
use crate::runtime::lifecycle::Lifecycle;
use crate::store::Store;
use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize explain 5b8efff798038103d269b633813fc60c --rubric faithfulness\n  \
    assize explain order-17 --trace-file traces.jsonl --rubric faithfulness --ask\n  \
    assize explain --trace-file one.json --judge sim --show-content\n\n\
    With --rubric it also shows what each judge is asked, without the text of the trace unless --show-content.\n\
    Exit code 1 when nothing is known of the trace.")]
pub(super) struct Args {
    /// The trace; may be left out when --trace-file has one only
    #[arg(required_unless_present = "trace_file")]
    trace_id: Option<String>,
    /// Only this rubric
    #[arg(long)]
    rubric: Option<String>,
    /// Take the trace from files instead of the database: what would happen to it
    #[arg(long, value_name = "FILE")]
    trace_file: Vec<PathBuf>,
    /// Ask the judges what they would say, which costs money
    #[arg(long)]
    ask: bool,
    /// `sim` asks the simulated judge instead of the configured ones
    #[arg(long, value_parser = ["sim"])]
    judge: Option<String>,
    /// Show the text of the trace in what judges are asked, redacted as the configuration says
    #[arg(long)]
    show_content: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// A rubric that does not judge, and why.
#[derive(Debug, Serialize)]
struct Idle {
    rubric: String,
    state: &'static str,
    why: String,
}

/// Everything that is told.
#[derive(Debug, Default, Serialize)]
struct Told {
    #[serde(flatten)]
    story: Option<Explanation>,
    /// A trace from a file, and what sampling would say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_file: Option<FromFile>,
    /// What rubrics would say that have said nothing.
    would: Vec<Foreseen>,
    /// What judges are asked by rubrics that have judged it, by rubric.
    asked: BTreeMap<String, Vec<Asked>>,
    /// Rubrics that do not judge.
    idle: Vec<Idle>,
}

#[derive(Debug, Serialize)]
struct FromFile {
    trace_id: String,
    spans: usize,
    gaps: Vec<crate::domain::span::Gap>,
    sampling: SampleDecision,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut config = context.config()?;
    let life = Lifecycle::default();
    if args.judge.is_some() {
        trial::simulated(&mut config, &life).await.context("cannot open a port for the simulated judge")?;
    }
    let told = if args.trace_file.is_empty() {
        Box::pin(of_store(&args, config)).await
    } else {
        Box::pin(of_file(&args, config)).await
    };
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    let told = told?;
    let text = if args.json { as_json(&told)?.to_string() } else { tell::text(&told, args.rubric.as_deref()) };
    println!("{text}");
    let known = told.story.as_ref().is_none_or(Explanation::is_known);
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(told: &Told) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(told)?;
    if let Some(file) = &told.from_file {
        // As for a stored trace.
        value["trace_id"] = json!(file.trace_id);
        value["sampling"] = serde_json::to_value(&file.sampling)?;
    }
    Ok(value)
}

async fn of_file(args: &Args, config: Config) -> anyhow::Result<Told> {
    let input = input::read(&args.trace_file)?;
    input.tell();
    let trace = pick(args.trace_id.as_deref(), input.traces)?;
    let bench = bench(config, None)?;
    let sampling = sample::decide(&bench.config.sampling, &trace);
    let from_file = FromFile {
        trace_id: trace.trace_id.clone(),
        spans: trace.spans.len(),
        gaps: trace.view.gaps.clone(),
        sampling: sampling.clone(),
    };
    let mut told = Told { from_file: Some(from_file), ..Told::default() };
    let trace = offline::stored(&bench, &trace);
    would(args, &bench, (&trace, &sampling), &mut told).await?;
    Ok(told)
}

fn pick(id: Option<&str>, mut traces: Vec<Trace>) -> anyhow::Result<Trace> {
    match id {
        Some(id) => {
            let ids: Vec<&str> = traces.iter().map(|t| t.trace_id.as_str()).collect();
            let Some(at) = ids.iter().position(|other| *other == id) else {
                let hint =
                    nearest(id, ids.iter().copied()).map_or_else(String::new, |best| format!("; did you mean {best}?"));
                bail!("trace {id} is not among the {} of the file(s){hint}", traces.len())
            };
            Ok(traces.swap_remove(at))
        }
        None if traces.len() == 1 => Ok(traces.swap_remove(0)),
        None => {
            let some: Vec<&str> = traces.iter().take(5).map(|t| t.trace_id.as_str()).collect();
            bail!("the file(s) have {} traces; say which, as in: assize explain {}", traces.len(), some.join(" or "))
        }
    }
}

async fn of_store(args: &Args, config: Config) -> anyhow::Result<Told> {
    let id = args.trace_id.as_deref().context("say which trace")?;
    let database = Database::open(&config, None).await?;
    let told = stored(args, id, config, &database.store).await;
    database.close().await;
    told
}

async fn stored(args: &Args, id: &str, config: Config, store: &Store) -> anyhow::Result<Told> {
    let happened = explain(store, &config, id, args.rubric.as_deref()).await?;
    let body = store.trace_bodies(&[id.to_owned()]).await?.pop();
    let sampling = happened.sampling.clone();
    let mut told = Told { story: Some(happened), ..Told::default() };
    let Some((_, body)) = body else { return Ok(told) };
    let trace: Arc<Trace> = Arc::new(serde_json::from_slice(&body).context("the stored trace cannot be read")?);
    // The simulated judge has no business in the cache of real ones.
    let store_of_votes = args.judge.is_none().then(|| store.clone());
    let bench = match bench(config, store_of_votes) {
        Ok(bench) => bench,
        // What has happened can be told without the rubrics that are here now.
        Err(error) => {
            eprintln!("note: what would happen cannot be told: {error}");
            return Ok(told);
        }
    };
    if args.rubric.is_some() {
        told.asked = asked(args, &bench, &trace, (store, &told)).await?;
    }
    would(args, &bench, (&trace, &sampling), &mut told).await?;
    Ok(told)
}

fn bench(config: Config, store: Option<Store>) -> anyhow::Result<Bench> {
    Ok(Bench::build(config, Arc::new(SystemClock), store)?)
}

/// What judges are asked under the version that has judged.
async fn asked(
    args: &Args,
    bench: &Bench,
    trace: &Arc<Trace>,
    (store, told): (&Store, &Told),
) -> anyhow::Result<BTreeMap<String, Vec<Asked>>> {
    let mut all = BTreeMap::new();
    let verdicts = told.story.as_ref().map(|s| s.verdicts.as_slice()).unwrap_or_default();
    let by_panel = |v: &&Value| v["votes"].as_array().is_some_and(|votes| !votes.is_empty());
    for verdict in verdicts.iter().filter(by_panel) {
        let word = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
        let Some(rubric) = store.rubric_version(&word("rubric"), &word("rubric_version")).await? else { continue };
        let Some(seen) = seen((bench, store), (&rubric, verdict), trace, told).await? else { continue };
        if let Ok(asked) = foresee::asked(bench, &Arc::new(rubric), &seen, args.show_content) {
            let about = verdict["span_id"].as_str().map_or_else(String::new, |span| format!(" on span {span}"));
            all.insert(format!("{} {}{about}", word("rubric"), word("rubric_version")), asked);
        }
    }
    Ok(all)
}

/// What the judges of a verdict saw: the trace, a span of it, or its session; `None` when it is not stored any more.
async fn seen(
    (bench, store): (&Bench, &Store),
    (rubric, verdict): (&Rubric, &Value),
    trace: &Arc<Trace>,
    told: &Told,
) -> anyhow::Result<Option<Arc<Trace>>> {
    if let Some(span) = verdict["span_id"].as_str() {
        return Ok(units::span_view(trace, span).map(Arc::new));
    }
    if verdict["session"].is_null() {
        return Ok(Some(Arc::clone(trace)));
    }
    let session = told.story.as_ref().and_then(|story| story.session.as_ref());
    let until = serde_json::from_value(verdict["created_at"].clone()).ok();
    let (Some(session), Some(until)) = (session, until) else { return Ok(None) };
    let most = i64::from(bench.config.sessions.traces_max);
    let bodies = store.session_bodies(session.key, until, most).await?;
    Ok(sessions::stored_view(bench, rubric, &bodies).map(|(seen, _)| Arc::new(seen)))
}

/// What the rubrics that are here would say, where they have not.
async fn would(
    args: &Args,
    bench: &Bench,
    (trace, sampling): (&Arc<Trace>, &SampleDecision),
    told: &mut Told,
) -> anyhow::Result<()> {
    let catalog = bench.rubrics.load_full();
    if let Some(name) = &args.rubric {
        let names = || catalog.entries().keys().map(String::as_str);
        let said = told.story.as_ref().is_some_and(|s| !s.verdicts.is_empty() || !s.waiting.is_empty());
        if !catalog.entries().contains_key(name) && !said {
            let hint = nearest(name, names()).map_or_else(String::new, |best| format!("; did you mean `{best}`?"));
            bail!("there is no rubric `{name}` in {}{hint}", bench.config.rubrics.dir.display());
        }
    }
    let wish = Wish { ask: args.ask || args.judge.is_some(), content: args.show_content };
    for (name, entry) in catalog.entries().iter().filter(|(name, _)| args.rubric.as_ref().is_none_or(|r| r == *name)) {
        if let Some(why) = entry.why() {
            told.idle.push(Idle { rubric: name.clone(), state: entry.state.as_str(), why });
        }
        let Some(rubric) = shown(entry) else { continue };
        if told.story.as_ref().is_some_and(|story| is_told(story, &rubric)) {
            continue;
        }
        told.would.extend(foresee(bench, &rubric, trace, sampling, wish).await);
    }
    Ok(())
}

/// What judges, or what the file says if nobody does.
fn shown(entry: &Entry) -> Option<Arc<Rubric>> {
    entry.judging.clone().or_else(|| entry.readable.clone())
}

/// Whether the story has this version's verdict or job.
fn is_told(story: &Explanation, rubric: &Rubric) -> bool {
    let judged = |v: &Value| v["rubric"] == rubric.name.as_str() && v["rubric_version"] == rubric.version.as_str();
    story.verdicts.iter().any(judged) || story.waiting.iter().any(|job| job.rubric == rubric.name)
}
