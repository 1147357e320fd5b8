//! `assize prometheus`: alerting rules, as code.

use super::{Context, watched};
use crate::sinks::as_code::monitors::Options;
use crate::sinks::as_code::prometheus_rules;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize prometheus rules > assize_rules.yml\n  \
    assize prometheus rules --runbook https://wiki.example/assize")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The YAML that `rule_files` names
    Rules {
        /// A page that explains the rules; #KEY is added. A rubric's alert.runbook wins over it
        #[arg(long, value_name = "URL")]
        runbook: Option<String>,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let watches = watched::watches(&context.config()?)?;
    match args.what {
        What::Rules { runbook } => {
            let rules = prometheus_rules::rules(&watches, &Options { notify: Vec::new(), runbook });
            print!("{}", yaml_serde::to_string(&rules)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
