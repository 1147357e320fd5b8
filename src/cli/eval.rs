//! `assize eval`: judge files of traces without a database, with the worker's own steps.

mod gates;
mod html;
mod markdown;
mod out;
mod plots;
mod report;
mod selection;

use super::input::{self, Input};
use super::progress::Progress;
use super::{BAD_INPUT, Context, junit};
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::{Finding, Verdict};
use crate::llm::sim::Sim;
use crate::pipeline::{offline, runs, sample, trial};
use crate::runtime::lifecycle::Lifecycle;
use anyhow::{Context as _, bail};
use futures_util::stream::{self, StreamExt};
use out::{Done, Out};
use report::{Facts, Report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "Examples:\n  assize eval traces.jsonl --judge sim --out verdicts.jsonl\n  \
    assize eval 'exports/**/*.pb' more.jsonl --only faithfulness --min faithfulness=0.9 --confident\n  \
    assize eval traces.jsonl --only check:json_validity\n  \
    assize eval traces.jsonl --baseline main.jsonl --no-worse faithfulness=0.02 --markdown comment.md --html report.html\n  \
    gunzip -c spans.json.gz | assize eval - --judge sim\n\n\
    A run that was cut off goes on from --out: what is judged there already is not judged again.\n\
    Exit code 1 when a --min or --no-worse does not hold, 2 when an input cannot be used, in part too.")]
pub(super) struct Args {
    /// Native JSON lines, OTLP protobuf (.pb) or OTLP JSON, .gz or .zst too; folders, globs; - is standard input
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
    /// Verdicts made at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Write one verdict a line here, and go on from what is there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Forget what is in --out
    #[arg(long, requires = "out")]
    fresh: bool,
    /// Fail when a rubric's pass rate is below this, as in faithfulness=0.9
    #[arg(long, value_name = "NAME=RATE", value_parser = gates::parse)]
    min: Vec<(String, f64)>,
    /// Compare with the verdicts of another run, trace by trace
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Fail when the share that passes has dropped by more than this against the baseline, as in faithfulness=0.02
    #[arg(long, value_name = "NAME=DROP", value_parser = gates::parse, requires = "baseline")]
    no_worse: Vec<(String, f64)>,
    /// Gates look at the end of the 95 % interval that is against them, not at the estimate
    #[arg(long)]
    confident: bool,
    /// Write a JUnit report here
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write Markdown for a comment on a pull request here
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a report as one HTML file with plots here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Show questions, answers and reasons in the reports, redacted as the configuration says
    #[arg(long)]
    show_content: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    let input = input::read(&args.files)?;
    input.tell();
    if input.traces.is_empty() {
        bail!("no trace in {} can be used", if args.files.len() == 1 { "this input" } else { "these inputs" });
    }
    let life = Lifecycle::default();
    let mut config = context.config()?;
    if let Some(dir) = &args.rubrics {
        config.rubrics.dir.clone_from(dir);
    }
    let simulated_judges = args.judge.is_some() || trial::is_simulated(&config);
    if args.judge.is_some() {
        simulated(&mut config, &life).await?;
        eprintln!("note: verdicts of judges are simulated (--judge sim)");
    }
    let rejected = input.rejected.len();
    let result = judge(&args, config, input).await;
    life.stop(Duration::from_secs(1), std::future::pending()).await;
    let judged = result?;
    let report = made(&args, judged, baseline, simulated_judges);
    write_reports(&args, &report)?;
    println!("{}", if args.json { report.json().to_string() } else { report.text() });
    for gate in report.gates.iter().filter(|g| !g.holds) {
        eprintln!("{}", gate.text);
    }
    Ok(match (report.gates.iter().all(|g| g.holds), rejected) {
        (false, _) => ExitCode::from(1),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(BAD_INPUT),
    })
}

fn read_baseline(path: &Path) -> anyhow::Result<(String, Vec<Verdict>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (lines, wrong) = runs::read(&text);
    if let Some(why) = wrong.first() {
        bail!("{}: {why}; --baseline takes what --out has written", path.display());
    }
    if lines.is_empty() {
        bail!("{} has no verdict", path.display());
    }
    Ok((path.display().to_string(), lines.into_iter().map(|(verdict, _)| verdict).collect()))
}

/// Starts the simulated judge and configures a panel of two of it.
pub(super) async fn simulated(config: &mut Config, life: &Lifecycle) -> anyhow::Result<Sim> {
    trial::simulated(config, life).await.context("cannot open a port for the simulated judge")
}

/// What a run has judged.
struct Judged {
    bench: Bench,
    traces: Vec<Trace>,
    verdicts: Vec<Verdict>,
    /// How many of them were there already.
    reused: usize,
    took: Duration,
}

async fn judge(args: &Args, config: Config, input: Input) -> anyhow::Result<Judged> {
    let (bench, rubrics) = selection::select(&args.only, config)?;
    let names = || rubrics.iter().map(|r| r.name.as_str());
    for (name, _) in &args.min {
        selection::known("--min", name, names())?;
    }
    for (name, _) in &args.no_worse {
        selection::known("--no-worse", name, names())?;
    }
    let traces = input.traces;
    let units = units(&traces, &rubrics);
    let contents: Vec<String> = units.iter().map(|unit| out::content(unit.traces())).collect();
    // Each unit with each rubric that is about it, in this order.
    let fits = |unit: &Unit, rubric: &Rubric| match unit {
        // What is in a session is judged with it.
        Unit::Trace(trace) => rubric.evaluates != Evaluates::Session || sample::session_of(&trace.view).is_none(),
        Unit::Session(_) => rubric.evaluates == Evaluates::Session,
    };
    let mut asked: Vec<(usize, &Arc<Rubric>)> = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        asked.extend(rubrics.iter().filter(|rubric| fits(unit, rubric)).map(|rubric| (at, rubric)));
    }
    let prints: Vec<String> =
        asked.iter().map(|(at, rubric)| out::fingerprint(&contents[*at], rubric, &bench.config)).collect();
    let ours: std::collections::HashSet<&str> = prints.iter().map(String::as_str).collect();
    let (out, done) = Out::open(args.out.as_deref(), args.fresh, &|print| ours.contains(print))?;
    let reused = done.values().map(Vec::len).sum();
    let begun = Instant::now();
    let work = Work { bench: &bench, units: &units, asked: &asked, prints: &prints, at_once: args.concurrency.into() };
    let verdicts = work.judge(out, done).await?;
    let took = begun.elapsed();
    drop((asked, units));
    Ok(Judged { bench, traces, verdicts, reused, took })
}

/// What verdicts are about: a trace (and its spans), or the traces of a session.
enum Unit<'a> {
    Trace(&'a Trace),
    Session(Vec<&'a Trace>),
}

impl Unit<'_> {
    fn traces(&self) -> &[&Trace] {
        match self {
            Self::Trace(trace) => std::slice::from_ref(trace),
            Self::Session(traces) => traces,
        }
    }
}

/// Every trace, and every session where a rubric is about sessions.
fn units<'a>(traces: &'a [Trace], rubrics: &[Arc<Rubric>]) -> Vec<Unit<'a>> {
    let has_sessions = rubrics.iter().any(|rubric| rubric.evaluates == Evaluates::Session);
    let sessions = if has_sessions { offline::by_session(traces) } else { Vec::new() };
    traces.iter().map(Unit::Trace).chain(sessions.into_iter().map(Unit::Session)).collect()
}

/// A unit whose turn has come; a trace as it would be stored.
#[derive(Clone)]
enum Ready<'a> {
    Trace(Arc<Trace>),
    Session(&'a [&'a Trace]),
}

/// What is to be judged.
struct Work<'a> {
    bench: &'a Bench,
    units: &'a [Unit<'a>],
    asked: &'a [(usize, &'a Arc<Rubric>)],
    prints: &'a [String],
    at_once: usize,
}

impl Work<'_> {
    /// Judges what is not there yet; each verdict is written as soon as it is made.
    async fn judge(&self, mut out: Out, mut done: Done) -> anyhow::Result<Vec<Verdict>> {
        let open: Vec<usize> = (0..self.asked.len()).filter(|n| !done.contains_key(&self.prints[*n])).collect();
        let mut progress = Progress::new(open.len(), "verdicts");
        // Redacted once for all its rubrics, and only when its turn comes.
        let whole = open.chunk_by(|a, b| self.asked[*a].0 == self.asked[*b].0).flat_map(|group| {
            let ready = match &self.units[self.asked[group[0]].0] {
                Unit::Trace(trace) => Ready::Trace(offline::stored(self.bench, trace)),
                Unit::Session(traces) => Ready::Session(traces),
            };
            group.iter().map(move |n| (*n, ready.clone()))
        });
        let one = async |(n, ready): (usize, Ready<'_>)| (n, self.one(n, &ready).await);
        let mut made = stream::iter(whole).map(one).buffer_unordered(self.at_once);
        while let Some((n, verdicts)) = made.next().await {
            out.add(&verdicts, &self.prints[n])?;
            progress.one(verdicts.iter().map(|v| v.cost_usd).sum());
            done.insert(self.prints[n].clone(), verdicts);
        }
        drop(made);
        progress.end();
        let pairs: Vec<(&[Verdict], &str)> =
            self.prints.iter().filter_map(|print| Some((done.get(print)?.as_slice(), print.as_str()))).collect();
        out.finish(&mut pairs.iter().copied())?;
        Ok(pairs.into_iter().flat_map(|(verdicts, _)| verdicts.to_vec()).collect())
    }

    /// The verdicts of a rubric on a unit: one, or one for each span.
    async fn one(&self, n: usize, ready: &Ready<'_>) -> Vec<Verdict> {
        let rubric = self.asked[n].1;
        let mut made = match ready {
            Ready::Trace(trace) => offline::judge_stored(self.bench, rubric, trace).await,
            Ready::Session(traces) => offline::judge_session(self.bench, std::slice::from_ref(rubric), traces).await,
        };
        for verdict in &mut made {
            own_finding(verdict);
        }
        made
    }
}

/// A check by itself passes by its own finding, not by a rubric's mark.
fn own_finding(verdict: &mut Verdict) {
    if verdict.rubric.starts_with("check:") {
        let found = verdict.checks.first().map(|c| c.finding);
        verdict.passed = verdict.passed.and(found).map(|f| f == Finding::Pass);
    }
}

/// Sums up, compares, and looks at the gates.
fn made(args: &Args, judged: Judged, baseline: Option<(String, Vec<Verdict>)>, simulated: bool) -> Report {
    let Judged { bench, traces, verdicts, reused, took } = judged;
    let summaries = runs::summarise(&verdicts);
    let baseline = baseline.map(|(name, before)| (name, runs::compare(&before, &verdicts)));
    if let Some((name, by)) = baseline.as_ref().filter(|(_, by)| by.values().all(|p| p.n == 0)) {
        let what = if by.is_empty() { "rubric" } else { "trace" };
        eprintln!("note: {name} has no {what} of this run, so there is nothing to compare");
    }
    let mut gates = gates::min(&args.min, &summaries, args.confident);
    if let Some((_, by)) = &baseline {
        gates.extend(gates::no_worse(&args.no_worse, by, args.confident));
    }
    let facts = Facts { traces: traces.len(), simulated, reused, seconds: took.as_secs_f64(), at: SystemClock.now() };
    let texts = if args.show_content { report::texts(&bench, &traces) } else { report::Texts::new() };
    Report { facts, summaries, verdicts, baseline, gates, show_content: args.show_content, texts }
}

fn write_reports(args: &Args, report: &Report) -> anyhow::Result<()> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        None => Ok(()),
        Some(path) => std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display())),
    };
    write(&args.junit, &|| junit::report(&report.suites()))?;
    write(&args.markdown, &|| markdown::of(report))?;
    write(&args.html, &|| html::of(report))
}
