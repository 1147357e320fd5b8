//! `assize rubric`: work on rubric files before they judge anything.

mod check;
mod cost;
mod diff;
mod list;
mod new;
pub(super) mod sources;
mod test;

use super::Context;
use crate::rubrics::schema::schema;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric new politeness --title \"Polite to the customer\"\n  \
    assize rubric check rubrics\n  assize rubric test rubrics/tone.yaml --judge sim\n  \
    assize rubric diff tone@sha256:0123456789ab rubrics/tone.yaml --trace-file traces.jsonl\n\n\
    A rubric is named by its file, by its name, or by NAME@VERSION where a database is configured or `serve` keeps its private one.\n\
    Exit code 1 when a check warns or a test fails, 2 when a file cannot be used.")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All rubrics of the folder, with the state of each
    List,
    /// Find mistakes, and what is odd, and say what a thousand traces would cost
    Check(check::Args),
    /// Run the tests of rubrics against the configured judges, or the simulated one
    Test(test::Args),
    /// Print a rubric as it is understood, or what a judge would read
    Show(list::ShowArgs),
    /// What differs between two rubrics, and whose verdicts would
    Diff(diff::Args),
    /// Write a new rubric with comments and two tests
    New(new::Args),
    /// Print the JSON Schema of rubric files, for editors
    Schema,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List => list::list(args.json, context),
        What::Check(check) => check::run(&check, args.json, context),
        What::Test(test) => test::run(&test, args.json, context).await,
        What::Show(show) => list::show(&show, args.json, context).await,
        What::Diff(diff) => diff::run(&diff, args.json, context).await,
        What::New(new) => new::run(&new, args.json, context),
        What::Schema => {
            println!("{}", serde_json::to_string_pretty(&schema())?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
