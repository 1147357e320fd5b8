//! `assize labels`: import, queue, review.
//!
//! Its rule: everything that counts is done by `pipeline`, so that files, the API and the forms cannot differ. Rubrics are those
//! of the files, and those that the database has seen where there are no files.

mod import;
mod review;

use super::{Context, database::Database, table};
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock};
use crate::pipeline::label_queue::{self, Draw};
use crate::pipeline::labels::Book;
use crate::rubrics::catalog::Catalog;
use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  assize labels import labels.csv --dry-run\n  assize labels queue faithfulness --n 50 --since 7d\n  \
    assize labels review faithfulness --as ann"
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
    /// Store labels from files: JSON lines, a JSON list, CSV, or native traces with a `label`
    Import(import::Args),
    /// Draw traces for people to label, more of what is uncertain, and show what waits
    Queue(Queueing),
    /// Label what was drawn, one trace after another; every answer is saved at once
    Review(review::Args),
}

#[derive(Debug, clap::Args)]
struct Queueing {
    /// The rubric
    rubric: String,
    /// About how many to draw; more of the same time with a greater number later. 0 = only show what waits
    #[arg(long = "n", default_value_t = 50, value_name = "N")]
    wanted: u16,
    /// Of the traces judged since: an age as in 90m, 24h, 7d, or a time
    #[arg(long, default_value = "7d")]
    since: String,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    // What is wrong with the files is known before a database is started for it.
    let read = match &args.what {
        What::Import(import) => Some(import::read(&import.files)?),
        _ => None,
    };
    let database = Database::open(&config, None).await?;
    let result = act(&args, read, &config, &database).await;
    database.close().await;
    result
}

async fn act(
    args: &Args,
    read: Option<Vec<import::File>>,
    config: &Config,
    database: &Database,
) -> anyhow::Result<ExitCode> {
    let store = &database.store;
    if config.database.migrate {
        store.migrate().await?;
    }
    let book = book(config, database).await?;
    let named = |name: &str| book.get(name).cloned().map_err(|why| anyhow::anyhow!("{name}: {why}"));
    match &args.what {
        What::Import(import) => import::run(import, read.unwrap_or_default(), args.json, (store, &book)).await,
        What::Review(review) => review::run(review, store, named(&review.rubric)?.as_ref()).await,
        What::Queue(queue) => {
            let rubric = named(&queue.rubric)?;
            let now = SystemClock.now();
            let since = since(&queue.since, now)?;
            let draw = match queue.wanted {
                0 => None,
                wanted => {
                    let key = &config.sampling.hash_key;
                    Some(label_queue::draw(store, &rubric, wanted, key, (since, now)).await?)
                }
            };
            show(&rubric.name, draw.as_ref(), args.json, database).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The rubrics of the files, and those of the database that have no file.
async fn book(config: &Config, database: &Database) -> anyhow::Result<Book> {
    let names: Vec<&str> = config.judges.keys().map(String::as_str).collect();
    let files = match Catalog::load(&config.rubrics.dir, &config.panels, &names) {
        Ok(catalog) => Book::of(&catalog),
        Err(error) => {
            tracing::warn!(%error, "rubrics are taken from the database only");
            Book::default()
        }
    };
    Ok(files.or(database.store.newest_rubrics().await?))
}

/// An age as in 90m, 24h, 7d, or a time.
fn since(text: &str, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let units = [('m', 60), ('h', 3_600), ('d', 86_400)];
    let seconds =
        units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?.parse::<u32>().ok()?, *seconds)));
    let (count, unit) =
        seconds.context("`--since` must be an age as in 90m, 24h, 7d, or a time as in 2026-11-20T12:00:00Z")?;
    Ok(now - TimeDelta::seconds(i64::from(count) * unit))
}

async fn show(rubric: &str, draw: Option<&Draw>, as_json: bool, database: &Database) -> anyhow::Result<()> {
    const SHOWN_MAX: i64 = 10_000;
    let waiting = database.store.waiting_for_labels(rubric, SHOWN_MAX).await?;
    let progress = database.store.label_progress(rubric).await?;
    if as_json {
        let drawn =
            draw.map(|d| json!({"batch_id": d.batch.id, "population": d.batch.population, "drawn": d.drawn.len()}));
        let items: Vec<_> = waiting
            .iter()
            .map(|w| {
                json!({"trace_id": w.trace_id, "rubric": rubric, "batch_id": w.batch_id, "stratum": w.stratum,
                            "probability": w.probability})
            })
            .collect();
        let labelled = json!({"labelled": progress.labelled, "skipped": progress.skipped});
        println!("{}", json!({"rubric": rubric, "batch": drawn, "done": labelled, "waiting": items}));
        return Ok(());
    }
    if let Some(draw) = draw {
        let rows = draw.strata.iter().map(|(name, (traces, expected, drawn))| {
            vec![name.clone(), traces.to_string(), format!("{expected:.1}"), drawn.to_string()]
        });
        println!("{}\n", table::render(&["feature and score", "traces", "expected", "drawn"], rows.collect()));
        let (drawn, of) = (draw.drawn.len(), draw.batch.population);
        println!("{drawn} of {of} traces drawn, with known probabilities (batch {}).", draw.batch.id);
    }
    println!("{} wait, {} are labelled, {} were skipped.", waiting.len(), progress.labelled, progress.skipped);
    if !waiting.is_empty() {
        println!("Label them with `assize labels review {rubric} --as NAME`, or on the page /labels of the service.");
    }
    Ok(())
}
