//! `assize datadog`: monitors and the dashboard as code, or put into Datadog.

use super::{Context, table, watched};
use crate::sinks::as_code::apply::{self, Api, Outcome};
use crate::sinks::as_code::monitors::{Options, monitors};
use crate::sinks::as_code::{dashboard::dashboard, terraform};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  assize datadog monitors --notify @slack-llm
  assize datadog monitors --format terraform --out terraform/
  DD_API_KEY=… DD_APP_KEY=… DD_SITE=datadoghq.eu assize datadog monitors --apply --notify @slack-llm
  assize datadog dashboard --apply")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A monitor for each thing that is watched
    Monitors {
        #[command(flatten)]
        output: Output,
        /// Who is notified, as in @slack-llm; may be given several times
        #[arg(long, value_name = "HANDLE", value_parser = handle)]
        notify: Vec<String>,
        /// A page that explains the monitors; #KEY is added. A rubric's alert.runbook wins over it
        #[arg(long, value_name = "URL")]
        runbook: Option<String>,
    },
    /// One dashboard with rows for quality, cost, health and security
    Dashboard {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Create them in Datadog, or bring them up to date; needs DD_API_KEY, DD_APP_KEY and DD_SITE
    #[arg(long, conflicts_with_all = ["format", "out"])]
    apply: bool,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Write files into this folder instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// With --apply: one JSON object instead of a table
    #[arg(long, requires = "apply")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// As the API takes it
    Json,
    /// Resources for the provider DataDog/datadog
    Terraform,
}

fn handle(text: &str) -> Result<String, String> {
    if text.starts_with('@') && !text.contains(char::is_whitespace) {
        Ok(text.to_owned())
    } else {
        Err("a handle begins with @ and has no blanks, as in @slack-llm".to_owned())
    }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let watches = watched::watches(&config)?;
    match args.what {
        What::Monitors { output, notify, runbook } => {
            let made = monitors(&watches, &Options { notify, runbook });
            if output.apply {
                let api = Api::new(&config.datadog)?;
                println!("{}", told(&apply::monitors(&api, &made).await?, &api, output.json));
                return Ok(ExitCode::SUCCESS);
            }
            let files: Vec<(String, String)> = match output.format {
                Format::Terraform => vec![("assize_monitors.tf".to_owned(), terraform::monitors(&made))],
                Format::Json if output.out.is_none() => {
                    let all: Vec<&Value> = made.iter().map(|(_, monitor)| monitor).collect();
                    vec![(String::new(), format!("{:#}\n", json!(all)))]
                }
                Format::Json => {
                    made.iter().map(|(key, m)| (format!("monitor_{key}.json"), format!("{m:#}\n"))).collect()
                }
            };
            written(&files, output.out.as_deref())?;
        }
        What::Dashboard { output } => {
            let made = dashboard(&watches);
            if output.apply {
                let api = Api::new(&config.datadog)?;
                println!("{}", told(&apply::dashboard(&api, &made).await?, &api, output.json));
                return Ok(ExitCode::SUCCESS);
            }
            let file = match output.format {
                Format::Json => ("dashboard.json".to_owned(), format!("{made:#}\n")),
                Format::Terraform => ("assize_dashboard.tf".to_owned(), terraform::dashboard(&made)),
            };
            written(&[file], output.out.as_deref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes files into a folder, or all of them to standard output.
fn written(files: &[(String, String)], out: Option<&Path>) -> anyhow::Result<()> {
    let Some(dir) = out else {
        for (_, text) in files {
            print!("{text}");
        }
        return Ok(());
    };
    let failed = || format!("cannot write into {}; name another folder with --out", dir.display());
    std::fs::create_dir_all(dir).with_context(failed)?;
    for (name, text) in files {
        std::fs::write(dir.join(name), text).with_context(failed)?;
    }
    println!(
        "{} written into {}",
        if files.len() == 1 { "1 file".to_owned() } else { format!("{} files", files.len()) },
        dir.display()
    );
    Ok(())
}

fn told(outcome: &Outcome, api: &Api, as_json: bool) -> String {
    if as_json {
        let applied: Vec<Value> = outcome
            .applied
            .iter()
            .map(|one| json!({"key": one.key, "done": one.done.as_str(), "id": one.id, "doubles": one.doubles}))
            .collect();
        let unwanted: Vec<Value> = outcome.unwanted.iter().map(|(key, id)| json!({"key": key, "id": id})).collect();
        return json!({"applied": applied, "unwanted": unwanted}).to_string();
    }
    let rows =
        outcome.applied.iter().map(|one| vec![one.key.clone(), one.done.as_str().to_owned(), one.id.clone()]).collect();
    let mut text = format!("{}\n\nat {}", table::render(&["key", "done", "id"], rows), api.base());
    for one in outcome.applied.iter().filter(|one| !one.doubles.is_empty()) {
        write!(text, "\nnote: `{}` is there more than once; delete {} in Datadog", one.key, one.doubles.join(", "))
            .expect("a String can be written");
    }
    for (key, id) in &outcome.unwanted {
        write!(text, "\nnote: `{key}` ({id}) is made no more, since its rubric is not loaded; delete it in Datadog")
            .expect("a String can be written");
    }
    text
}
