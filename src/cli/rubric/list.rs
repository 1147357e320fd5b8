//! `assize rubric list` and `assize rubric show`.

use super::super::{Context, table};
use super::sources;
use crate::domain::rubric::{Output, Rubric};
use crate::judge::prompt::{self, Template};
use crate::pipeline::trial;
use crate::rubrics::catalog::{Catalog, Entry};
use crate::rubrics::parse::Test;
use crate::rubrics::print::print;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric show faithfulness\n  assize rubric show tone --prompt\n  \
    assize rubric show tone@sha256:0123456789ab")]
pub(super) struct ShowArgs {
    /// A file, a name, or NAME@VERSION from the database
    rubric: String,
    /// What a judge would read about its first test, instead of the rubric
    #[arg(long)]
    prompt: bool,
}

fn kind(output: &Output) -> &'static str {
    match output {
        Output::Score { .. } => "score",
        Output::Boolean { .. } => "boolean",
        Output::Category { .. } => "category",
        Output::Claims { .. } => "claims",
    }
}

pub(super) fn list(as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let judges: Vec<&str> = config.judges.keys().map(String::as_str).collect();
    let catalog = Catalog::load(&config.rubrics.dir, &config.panels, &judges)?;
    if as_json {
        let one = |(name, entry): (&String, &Entry)| {
            let rubric = entry.judging.as_deref();
            json!({
                "name": name, "state": entry.state.as_str(), "why": entry.why(), "file": entry.file, "tests": entry.tests.len(),
                "version": rubric.map(|r| &r.version), "title": rubric.map(|r| &r.title), "output": rubric.map(|r| kind(&r.output)),
                "panel": rubric.map(|r| &r.panel), "sample": rubric.map(|r| r.sample),
            })
        };
        let all: Vec<Value> = catalog.entries().iter().map(one).collect();
        println!("{}", json!({"rubrics": all}));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = catalog.entries().iter().map(|(name, entry)| {
        let rubric = entry.judging.as_deref();
        let of = |get: &dyn Fn(&Rubric) -> String| rubric.map_or_else(|| "-".to_owned(), get);
        let checks = |r: &Rubric| r.checks.iter().map(|c| c.kind.as_str()).collect::<Vec<_>>().join(", ");
        vec![
            name.clone(),
            entry.state.as_str().to_owned(),
            of(&|r| r.version.clone()),
            of(&|r| kind(&r.output).to_owned()),
            of(&|r| r.panel.join(", ")),
            of(&checks),
            entry.tests.len().to_string(),
            entry.why().unwrap_or_else(|| of(&|r| r.title.clone())),
        ]
    });
    println!(
        "{}",
        table::render(&["rubric", "state", "version", "output", "panel", "checks", "tests", ""], rows.collect())
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(args: &ShowArgs, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let (from, rubric) = sources::one(&args.rubric, &config).await?;
    if args.prompt {
        let (_, parsed) = sources::usable(sources::read(std::slice::from_ref(&args.rubric), &config)?)?.swap_remove(0);
        let test = parsed.tests.first().context("the rubric has no test to show its prompt with")?;
        let messages = messages(&parsed.rubric, test)?;
        if as_json {
            println!("{}", json!({"messages": messages}));
        } else {
            let said = |m: &Value, key: &str| m[key].as_str().unwrap_or_default().to_owned();
            for message in &messages {
                println!("--- {}\n{}\n", said(message, "role"), said(message, "content"));
            }
        }
    } else if as_json {
        println!("{}", serde_json::to_string(&rubric)?);
    } else {
        println!("# {from}\n# {}\n{}", rubric.version, print(&rubric));
    }
    Ok(ExitCode::SUCCESS)
}

fn messages(rubric: &Rubric, test: &Test) -> anyhow::Result<Vec<Value>> {
    let seen = trial::seen(rubric, test).map_err(anyhow::Error::msg)?;
    let trace = seen.into_iter().next().context("no span of the rubric's first test fits applies_when")?;
    let inputs = prompt::inputs(&trace);
    let marks = prompt::marks(rubric, &inputs, "");
    let template = Template::new(rubric)?;
    let request = prompt::request(&template, rubric, &inputs, &marks, usize::MAX)?;
    Ok(request.messages.iter().map(|(role, text)| json!({"role": role, "content": text.as_ref()})).collect())
}
