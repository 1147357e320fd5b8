//! `assize queue`: work that waits.

use super::{Context, database::Database, table};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::pause::Pause;
use crate::store::Store;
use crate::store::pauses::QUEUE;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  assize queue stats\n  assize queue dead --json\n  assize queue parked\n  assize queue redrive\n  \
    assize queue pause --reason \"database upgrade\"\n  assize queue resume --judge small"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// One JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// How much waits, by step
    Stats,
    /// Events that a sink refused for good, with the reason
    Dead,
    /// Messages of brokers that could not be taken, with the reason
    Parked,
    /// Try dead events again
    Redrive,
    /// Judge nothing more, or ask one judge no more, until resumed; what is in hand is finished
    Pause(Pausing),
    /// End a pause, also one that the service made because a judge's key, model or quota was refused
    Resume(Resuming),
}

#[derive(Debug, clap::Args)]
struct Pausing {
    /// Only this judge; its jobs wait, or its fallback answers
    #[arg(long)]
    judge: Option<String>,
    /// Why, for others to read
    #[arg(long, default_value = "paused by a person")]
    reason: String,
}

#[derive(Debug, clap::Args)]
struct Resuming {
    /// Only this judge
    #[arg(long)]
    judge: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    if let What::Pause(Pausing { judge: Some(name), .. }) | What::Resume(Resuming { judge: Some(name) }) = &args.what
        && !config.judges.contains_key(name)
    {
        let known: Vec<&str> = config.judges.keys().map(String::as_str).collect();
        anyhow::bail!("there is no judge `{name}` in the configuration; there are: {}", known.join(", "));
    }
    let database = Database::open(&config, None).await?;
    let result = act(&args, &database).await;
    database.close().await;
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}

async fn act(args: &Args, database: &Database) -> anyhow::Result<String> {
    let (store, now) = (&database.store, SystemClock.now());
    match &args.what {
        What::Pause(Pausing { judge, reason }) => {
            let (kind, name) = whom(judge.as_deref());
            let pause = Pause { reason: reason.clone(), by_person: true, since: now, probe_at: None };
            store.put_pause(kind, name, &pause).await?;
            Ok(said(args.json, kind, name, "paused; workers hear of it within two seconds"))
        }
        What::Resume(Resuming { judge }) => {
            let (kind, name) = whom(judge.as_deref());
            let word = if store.end_pause(kind, name, true).await? { "resumed" } else { "was not paused" };
            Ok(said(args.json, kind, name, word))
        }
        What::Stats => {
            let stats = store.queue_stats(now).await?;
            if args.json {
                let mut all = serde_json::to_value(&stats)?;
                let pauses = store.pauses().await?.into_iter();
                let listed: Vec<_> = pauses
                    .map(|((kind, name), pause)| serde_json::json!({"kind": kind, "name": name, "pause": pause}))
                    .collect();
                all["paused"] = serde_json::Value::Array(listed);
                return Ok(all.to_string());
            }
            let mut rows = vec![
                vec!["spans in the inbox".to_owned(), stats.inbox_spans.to_string()],
                vec!["open traces".to_owned(), stats.open_traces.to_string()],
                vec!["jobs ready".to_owned(), stats.ready.to_string()],
                vec!["jobs to be tried again".to_owned(), stats.delayed.to_string()],
                vec!["jobs of a replay".to_owned(), stats.replays.to_string()],
                vec!["jobs in hand".to_owned(), stats.leased.to_string()],
                vec!["oldest ready job, seconds".to_owned(), format!("{:.1}", stats.oldest_ready_seconds.max(0.0))],
            ];
            for ((kind, name), pause) in store.pauses().await? {
                let by = if pause.by_person { " (by a person)" } else { "" };
                rows.push(vec![format!("paused: {kind} {name}"), format!("{}{by}", pause.reason)]);
            }
            for sink in stats.outbox {
                let error = sink.last_error.map_or_else(String::new, |e| format!(" (last error: {e})"));
                rows.push(vec![
                    format!("events for {}", sink.sink),
                    format!("{} waiting, {} dead{error}", sink.waiting, sink.dead),
                ]);
            }
            Ok(table::render(&["what waits", "how much"], rows))
        }
        What::Dead => {
            let dead = store.dead_events(100).await?;
            if args.json {
                return Ok(serde_json::to_string(&dead)?);
            }
            let rows = dead
                .into_iter()
                .map(|e| vec![e.sink, e.trace_id, e.rubric, e.attempts.to_string(), e.last_error.unwrap_or_default()]);
            Ok(table::render(&["sink", "trace", "rubric", "attempts", "reason"], rows.collect()))
        }
        What::Parked => parked(args.json, store).await,
        What::Redrive => {
            let count = store.redrive_events(now).await?;
            Ok(if args.json {
                format!("{{\"redriven\":{count}}}")
            } else {
                format!("{count} events will be tried again")
            })
        }
    }
}

/// Messages of brokers that were parked.
async fn parked(as_json: bool, store: &Store) -> anyhow::Result<String> {
    let parked = store.parked_messages(100).await?;
    if as_json {
        return Ok(serde_json::to_string(&parked)?);
    }
    let rows = parked.into_iter().map(|p| {
        let when = p.parked_at.format("%F %T").to_string();
        vec![p.source, p.position, when, p.size_bytes.to_string(), p.spans_taken.to_string(), p.reason]
    });
    Ok(table::render(&["source", "place", "parked", "bytes", "spans taken", "reason"], rows.collect()))
}

/// Kind and name of what is paused.
fn whom(judge: Option<&str>) -> (&'static str, &str) {
    judge.map_or(("queue", QUEUE), |name| ("judge", name))
}

fn said(as_json: bool, kind: &str, name: &str, word: &str) -> String {
    if as_json {
        return serde_json::json!({ kind: name, "result": word }).to_string();
    }
    if kind == "queue" { format!("the queue: {word}") } else { format!("judge {name}: {word}") }
}
