//! `assize grafana`: the dashboard over Prometheus, as code.

use super::{Context, watched};
use crate::sinks::as_code::grafana;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize grafana dashboard > assize.json")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The JSON that Grafana imports or provisions
    Dashboard,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let watches = watched::watches(&context.config()?)?;
    match args.what {
        What::Dashboard => println!("{:#}", grafana::dashboard(&watches)),
    }
    Ok(ExitCode::SUCCESS)
}
