//! `assize migrate`: bring the tables up to date.

use super::{Context, database::Database};
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  DATABASE_URL=postgres://assize@db/assize assize migrate")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let database = Database::open(&context.config()?, None).await?;
    let result = database.store.migrate().await;
    database.close().await;
    result?;
    println!("the tables are up to date");
    Ok(ExitCode::SUCCESS)
}
