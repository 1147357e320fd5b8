//! `assize rubric test`: rubrics against their own tests.

use super::super::junit::{self, Case, Ended};
use super::super::progress::Progress;
use super::super::{Context, table};
use super::sources;
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::SystemClock;
use crate::domain::rubric::Rubric;
use crate::pipeline::trial::{self, Tried};
use crate::rubrics::parse::{Expect, Parsed};
use crate::runtime::lifecycle::Lifecycle;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric test tone --judge sim\n  \
    assize rubric test rubrics --times 5 --junit report.xml\n\nExit code 1 when a test fails, 2 when a file cannot be used.")]
pub(super) struct Args {
    /// Files, folders or names; default: the configured folder
    rubrics: Vec<String>,
    /// `sim` judges with the simulated judge instead of the configured ones
    #[arg(long, value_parser = ["sim"])]
    judge: Option<String>,
    /// Run each test so many times, to see verdicts that flip
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
    /// Write a JUnit report here
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

type Suites = Vec<(String, Vec<Tried>)>;

pub(super) async fn run(args: &Args, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let mut config = context.config()?;
    let rubrics = sources::usable(sources::read(&args.rubrics, &config)?)?;
    let life = Lifecycle::default();
    let simulated = args.judge.is_some();
    if simulated {
        trial::simulated(&mut config, &life).await.context("cannot open a port for the simulated judge")?;
        eprintln!("note: verdicts of judges are simulated (--judge sim)");
    }
    let suites = try_all(args, config, rubrics).await;
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    let suites = suites?;
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::report(&cases(&suites)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", if as_json { to_json(&suites).to_string() } else { as_text(&suites, args.times) });
    let failed = suites.iter().any(|(_, all)| all.iter().any(|t| !t.is_skipped() && !t.is_passed()));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn try_all(args: &Args, config: Config, rubrics: Vec<(PathBuf, Parsed)>) -> anyhow::Result<Suites> {
    let simulated = args.judge.is_some();
    for (path, parsed) in rubrics.iter().filter(|_| !simulated) {
        let missing = parsed.rubric.panel.iter().find(|name| !config.judges.contains_key(*name));
        if parsed.rubric.prompt.is_some() && parsed.rubric.panel.is_empty() {
            bail!(
                "{}: no judge is configured; set OPENAI_API_KEY, add [judges.NAME], or use --judge sim",
                path.display()
            );
        }
        if let Some(name) = missing {
            bail!(
                "{}: its panel names the judge `{name}`, which is not configured; add [judges.{name}]",
                path.display()
            );
        }
    }
    let is_simulated = simulated || trial::is_simulated(&config);
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), None)?;
    let count: usize = rubrics.iter().map(|(_, parsed)| parsed.tests.len()).sum();
    let mut progress = Progress::new(count, "tests");
    let mut suites = Vec::new();
    for (_, parsed) in &rubrics {
        let rubric: Arc<Rubric> =
            if simulated { trial::with_simulated_panel(&parsed.rubric) } else { Arc::new(parsed.rubric.clone()) };
        let tried = trial::run(&bench, &rubric, &parsed.tests, (args.times, is_simulated)).await;
        for one in &tried {
            progress.one(one.verdicts.iter().map(|v| v.cost_usd).sum());
        }
        suites.push((rubric.name.clone(), tried));
    }
    progress.end();
    Ok(suites)
}

fn cases(suites: &Suites) -> Vec<(String, Vec<Case>)> {
    let one = |tried: &Tried| {
        let why = tried.why().unwrap_or_default();
        let ended = match (tried.is_skipped(), tried.is_passed()) {
            (true, _) => Ended::Skipped(why),
            (_, true) => Ended::Passed,
            _ => Ended::Failed(why),
        };
        let ms: i64 = tried.verdicts.iter().map(|v| v.latency_ms).sum();
        Case { name: tried.test.name.clone(), seconds: ms as f64 / 1e3, ended }
    };
    suites.iter().map(|(rubric, all)| (rubric.clone(), all.iter().map(one).collect())).collect()
}

/// What a test expects, in words.
fn wanted(expect: &Expect) -> String {
    let mut words = Vec::new();
    words.extend(expect.passed.map(|passed| if passed { "pass" } else { "fail" }.to_owned()));
    words.extend(expect.label.clone());
    words.extend(expect.score.map(|(low, high)| format!("{low} to {high}")));
    words.extend(expect.outcome.clone().filter(|o| o != "scored"));
    words.join(", ")
}

/// What it got, each different verdict once with how often.
fn got(tried: &Tried) -> String {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for verdict in &tried.verdicts {
        let word = match verdict.passed {
            Some(true) => "pass",
            Some(false) => "fail",
            None => verdict.outcome.as_str(),
        };
        let score = verdict.score.map_or_else(String::new, |s| format!(" {s:.2}"));
        let label = verdict.label.as_ref().map_or_else(String::new, |label| format!(" {label}"));
        let text = format!("{word}{label}{score}");
        match seen.iter_mut().find(|(other, _)| *other == text) {
            Some((_, count)) => *count += 1,
            None => seen.push((text, 1)),
        }
    }
    let all = tried.verdicts.len();
    let one = |(text, count): (String, usize)| if all > 1 { format!("{count}x {text}") } else { text };
    seen.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

fn as_text(suites: &Suites, times: u32) -> String {
    let (mut rows, mut whys) = (Vec::new(), Vec::new());
    let (mut passed, mut failed, mut skipped, mut flips, mut cost) = (0, 0, 0, 0, 0.0);
    for (rubric, all) in suites {
        for tried in all {
            cost += tried.verdicts.iter().map(|v| v.cost_usd).sum::<f64>();
            flips += usize::from(tried.flips());
            let result = if tried.is_skipped() {
                skipped += 1;
                "skipped"
            } else if tried.is_passed() {
                passed += 1;
                "ok"
            } else {
                failed += 1;
                if tried.flips() { "FLIPS" } else { "FAILS" }
            };
            if !tried.is_passed() && !tried.is_skipped() {
                let (line, name) = (tried.test.line, &tried.test.name);
                whys.push(format!("{rubric}, line {line}, {name}: {}", tried.why().unwrap_or_default()));
            }
            rows.push(vec![
                rubric.clone(),
                tried.test.name.clone(),
                wanted(&tried.test.expect),
                got(tried),
                result.to_owned(),
            ]);
        }
    }
    let flips = if times > 1 { format!(", {flips} flip in {times} runs") } else { String::new() };
    let skipped = if skipped > 0 { format!(", {skipped} skipped (simulated: false)") } else { String::new() };
    let header = ["rubric", "test", "expected", "got", ""];
    whys.insert(0, table::render(&header, rows));
    let table = whys.join("\n");
    format!("{table}\n\n{passed} pass, {failed} fail{skipped}{flips}; {cost:.4} USD")
}

fn to_json(suites: &Suites) -> Value {
    let one = |tried: &Tried| {
        let verdicts: Vec<Value> = tried.verdicts.iter().map(crate::domain::verdict::Verdict::line).collect();
        json!({
            "name": tried.test.name, "line": tried.test.line, "passed": tried.is_passed(), "skipped": tried.is_skipped(),
            "flips": tried.flips(), "why": tried.why(), "verdicts": verdicts,
        })
    };
    let all: Vec<Value> = suites
        .iter()
        .map(|(rubric, all)| json!({"rubric": rubric, "tests": all.iter().map(one).collect::<Vec<_>>()}))
        .collect();
    let every = || suites.iter().flat_map(|(_, all)| all);
    json!({
        "rubrics": all, "passed": every().filter(|t| t.is_passed()).count(), "skipped": every().filter(|t| t.is_skipped()).count(),
        "failed": every().filter(|t| !t.is_passed() && !t.is_skipped()).count(),
    })
}
