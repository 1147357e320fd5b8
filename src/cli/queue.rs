//! `assize queue`: work that waits.

use super::{Context, database::Database, table};
use crate::domain::clock::{Clock, SystemClock};
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize queue stats\n  assize queue dead --json\n  assize queue redrive")]
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
    /// Try dead events again
    Redrive,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let database = Database::open(&context.config()?, None).await?;
    let result = act(&args, &database).await;
    database.close().await;
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}

async fn act(args: &Args, database: &Database) -> anyhow::Result<String> {
    let (store, now) = (&database.store, SystemClock.now());
    match args.what {
        What::Stats => {
            let stats = store.queue_stats(now).await?;
            if args.json {
                return Ok(serde_json::to_string(&stats)?);
            }
            let mut rows = vec![
                vec!["spans in the inbox".to_owned(), stats.inbox_spans.to_string()],
                vec!["open traces".to_owned(), stats.open_traces.to_string()],
                vec!["jobs ready".to_owned(), stats.ready.to_string()],
                vec!["jobs to be tried again".to_owned(), stats.delayed.to_string()],
                vec!["jobs in hand".to_owned(), stats.leased.to_string()],
                vec!["oldest ready job, seconds".to_owned(), format!("{:.1}", stats.oldest_ready_seconds.max(0.0))],
            ];
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
