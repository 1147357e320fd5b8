//! `assize eval`: judge files of traces without a database, with the worker's own steps.

use super::input::{self, Input};
use super::{BAD_INPUT, Context, table};
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::SystemClock;
use crate::domain::rubric::{CheckKind, CheckOptions, CheckSpec, Rubric};
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::Verdict;
use crate::llm::sim::Sim;
use crate::pipeline::{estimate, offline, trial};
use crate::rubrics::catalog::State;
use crate::runtime::lifecycle::Lifecycle;
use anyhow::{Context as _, bail};
use futures_util::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize eval traces.jsonl --judge sim --out verdicts.jsonl\n  \
    assize eval traces.jsonl --only faithfulness --min faithfulness=0.9\n  \
    assize eval traces.jsonl --only check:json_validity\n\n\
    Exit code 1 when a --min is missed, 2 when the input cannot be used.")]
pub(super) struct Args {
    /// Native JSON lines, OTLP protobuf (.pb) or OTLP JSON
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder of rubrics instead of the configured one
    #[arg(long)]
    rubrics: Option<PathBuf>,
    /// Only these rubrics; check:NAME runs a deterministic check by itself
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// `sim` judges with the simulated judge instead of the configured ones
    #[arg(long, value_parser = ["sim"])]
    judge: Option<String>,
    /// Traces judged at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Write one verdict a line here
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fail when a rubric's pass rate is below this, as in faithfulness=0.9
    #[arg(long, value_name = "NAME=RATE", value_parser = minimum)]
    min: Vec<(String, f64)>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn minimum(text: &str) -> Result<(String, f64), String> {
    let (name, rate) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write NAME=0.9"))?;
    let rate: f64 = rate.parse().map_err(|_| format!("`{rate}` is not a number"))?;
    if (0.0..=1.0).contains(&rate) { Ok((name.to_owned(), rate)) } else { Err("give a rate from 0 to 1".to_owned()) }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let input = input::read(&args.files)?;
    for why in input.rejected.iter().take(20) {
        eprintln!("not used: {why}");
    }
    if input.traces.is_empty() {
        bail!("no trace in {} file(s) can be used", args.files.len());
    }
    let life = Lifecycle::default();
    let mut config = context.config()?;
    if let Some(dir) = &args.rubrics {
        config.rubrics.dir.clone_from(dir);
    }
    if args.judge.is_some() {
        simulated(&mut config, &life).await?;
        eprintln!("note: verdicts of judges are simulated (--judge sim)");
    }
    let rejected = input.rejected.len();
    let result = judge(&args, config, input).await;
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    let verdicts = result?;
    if let Some(path) = &args.out {
        write(path, &verdicts)?;
    }
    let groups = estimate::by(&verdicts, |v| v.rubric.clone());
    println!("{}", if args.json { as_json(&groups) } else { as_table(&groups) });
    let missed = missed(&args.min, &groups)?;
    for why in &missed {
        eprintln!("{why}");
    }
    Ok(match (missed.is_empty(), rejected) {
        (false, _) => ExitCode::from(1),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(BAD_INPUT),
    })
}

/// Starts the simulated judge and configures a panel of two of it.
pub(super) async fn simulated(config: &mut Config, life: &Lifecycle) -> anyhow::Result<Sim> {
    trial::simulated(config, life).await.context("cannot open a port for the simulated judge")
}

async fn judge(args: &Args, config: Config, input: Input) -> anyhow::Result<Vec<Verdict>> {
    let (alone, named): (Vec<&String>, Vec<&String>) = args.only.iter().partition(|name| name.starts_with("check:"));
    let mut rubrics = Vec::new();
    for name in &alone {
        rubrics.push(Arc::new(check_rubric(name.trim_start_matches("check:"))?));
    }
    let only_checks = !alone.is_empty() && named.is_empty();
    let clock = Arc::new(SystemClock);
    let bench =
        if only_checks { Bench::without_rubrics(config, clock, None)? } else { Bench::build(config, clock, None)? };
    if !only_checks {
        let catalog = bench.rubrics.load();
        for (name, entry) in catalog.entries() {
            if let Some(why) = entry.why().filter(|_| named.is_empty() || named.contains(&name)) {
                // Green without the rubric that somebody just broke would be a lie.
                if let State::Unparsable(error) = &entry.state {
                    eprintln!("{}", error.render(std::io::stderr().is_terminal()));
                    bail!("rubric {name} cannot be used: {why}");
                }
                eprintln!("rubric {name} does not judge: {why}");
            }
        }
        for name in &named {
            if !catalog.entries().contains_key(*name) {
                let known: Vec<&str> = catalog.entries().keys().map(String::as_str).collect();
                bail!("there is no rubric `{name}`; there are {}", known.join(", "));
            }
        }
        let wanted = catalog.active().iter().filter(|r| named.is_empty() || named.contains(&&r.name));
        rubrics.extend(wanted.cloned());
    }
    if rubrics.is_empty() {
        bail!("no rubric is left to judge by");
    }
    for (name, _) in &args.min {
        if !rubrics.iter().any(|r| r.name == *name) {
            let known: Vec<&str> = rubrics.iter().map(|r| r.name.as_str()).collect();
            bail!("--min names `{name}`, which is not judged here; there are {}", known.join(", "));
        }
    }
    let bar = progress(input.traces.len() as u64);
    let has_sessions = rubrics.iter().any(|rubric| rubric.evaluates == Evaluates::Session);
    let sessions = if has_sessions { offline::by_session(&input.traces) } else { Vec::new() };
    let mut verdicts: Vec<Vec<Verdict>> = stream::iter(input.traces)
        .map(|trace| one(&bench, &rubrics, Arc::new(trace), &bar))
        .buffered(args.concurrency.into())
        .collect()
        .await;
    bar.set_length(bar.length().unwrap_or_default() + sessions.len() as u64);
    let (bench, rubrics, bar) = (&bench, &rubrics, &bar);
    let judged: Vec<Vec<Verdict>> = stream::iter(sessions)
        .map(|session| async move {
            let verdicts = offline::judge_session(bench, rubrics, &session).await;
            bar.inc(1);
            verdicts
        })
        .buffered(args.concurrency.into())
        .collect()
        .await;
    verdicts.extend(judged);
    bar.finish_and_clear();
    Ok(verdicts.into_iter().flatten().collect())
}

/// A rubric that is one deterministic check.
fn check_rubric(name: &str) -> anyhow::Result<Rubric> {
    let Some(kind) = CheckKind::parse(name) else {
        let known: Vec<&str> = CheckKind::ALL.iter().map(|k| k.as_str()).collect();
        bail!("there is no check `{name}`; there are {}", known.join(", "));
    };
    Ok(Rubric {
        name: format!("check:{name}"),
        version: concat!("assize ", env!("CARGO_PKG_VERSION")).to_owned(),
        sample: 1.0,
        checks: vec![CheckSpec { kind, fail_below: None, pass_above: None, options: CheckOptions::new() }],
        pass: 0.5,
        ..Rubric::default()
    })
}

async fn one(bench: &Bench, rubrics: &[Arc<Rubric>], trace: Arc<Trace>, bar: &ProgressBar) -> Vec<Verdict> {
    let mut verdicts = offline::judge(bench, rubrics, &trace).await;
    for verdict in verdicts.iter_mut().filter(|v| v.rubric.starts_with("check:")) {
        // A check by itself passes by its own finding, not by a rubric's mark.
        let found = verdict.checks.first().map(|c| c.finding);
        verdict.passed = verdict.passed.and(found).map(|f| f == crate::domain::verdict::Finding::Pass);
    }
    bar.inc(1);
    verdicts
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} traces, {per_sec}, {eta} left");
    // Hidden by indicatif itself when stderr is no terminal.
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn write(path: &PathBuf, verdicts: &[Verdict]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for verdict in verdicts {
            writeln!(file, "{}", verdict.line())?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn as_table(groups: &BTreeMap<String, estimate::Group>) -> String {
    let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
    let rows = groups.iter().map(|(name, g)| {
        let others: Vec<String> =
            g.outcomes.iter().filter(|(o, _)| **o != "scored").map(|(o, n)| format!("{n} {o}")).collect();
        vec![
            name.clone(),
            g.n.to_string(),
            number(g.mean.map(|m| m.value)),
            g.pass_rate.map_or_else(|| "-".to_owned(), |p| table::percent(p.value)),
            format!("{:.4}", g.cost_usd),
            others.join(", "),
        ]
    });
    table::render(&["rubric", "scored", "mean", "passed", "USD", "other outcomes"], rows.collect())
}

fn as_json(groups: &BTreeMap<String, estimate::Group>) -> String {
    serde_json::json!({ "rubrics": groups }).to_string()
}

fn missed(wanted: &[(String, f64)], groups: &BTreeMap<String, estimate::Group>) -> anyhow::Result<Vec<String>> {
    let mut missed = Vec::new();
    for (name, rate) in wanted {
        let group = groups.get(name).with_context(|| format!("--min names `{name}`, which was not judged"))?;
        match group.pass_rate {
            Some(found) if found.value >= *rate => {}
            Some(found) => missed.push(format!("{name}: pass rate {:.3} is below {rate}", found.value)),
            None => missed.push(format!("{name}: nothing was scored, so {rate} is not met")),
        }
    }
    Ok(missed)
}
