//! `assize replay`: judge stored traces again by another version of a rubric, beside what was judged live.

use super::rubric::sources;
use super::{Context, database::Database, table};
use crate::app::Bench;
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::rubric::Rubric;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::TraceLabels;
use crate::pipeline::replay::{self, Outcome, Plan};
use crate::store::replay::{ReplayFilter, ReplayPair};
use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Flips that are listed at most.
const FLIPS_MAX: usize = 50;

/// Arguments.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  assize replay --rubric rubrics/tone.yaml --since 7d
  assize replay --rubric rubrics/tone.yaml --since 7d --feature returns --limit 500 --yes
  assize replay --rubric tone@sha256:0123456789ab --result

Without --yes it only says what it would do and cost. The jobs are judged by the running service when nothing fresh
waits; --result shows what came of them. What was judged already is not judged again, so the same command may be
given twice.")]
pub(super) struct Args {
    /// A file, a name of the configured folder, or NAME@VERSION from the database
    #[arg(long)]
    rubric: String,
    /// Traces decided on from then on: a time as in 2026-11-20T12:00:00Z, or an age as in 90m, 24h, 7d
    #[arg(long, default_value = "24h")]
    since: String,
    /// And before then, in the same forms
    #[arg(long)]
    until: Option<String>,
    /// Only of this feature
    #[arg(long)]
    feature: Option<String>,
    /// Only of this prompt
    #[arg(long)]
    prompt: Option<String>,
    /// Only of this version of the prompt
    #[arg(long)]
    prompt_version: Option<String>,
    /// Only of this model
    #[arg(long)]
    model: Option<String>,
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only of this environment
    #[arg(long)]
    environment: Option<String>,
    /// Only of this service
    #[arg(long)]
    service: Option<String>,
    /// At most so many traces or sessions; of more, so many are drawn by a hash
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Also traces that the rubric has not judged before
    #[arg(long)]
    all: bool,
    /// Only say what it would do and cost; so it is without --yes, too
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Show what came of it: old and new verdicts side by side
    #[arg(long, conflicts_with_all = ["yes", "dry_run"])]
    result: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let filter = filter(&args, SystemClock.now())?;
    let database = Database::open(&config, None).await?;
    let said = act(&args, config, filter, &database).await;
    database.close().await;
    println!("{}", said?);
    Ok(ExitCode::SUCCESS)
}

fn filter(args: &Args, now: DateTime<Utc>) -> anyhow::Result<ReplayFilter> {
    let time = |text: &str| {
        crate::domain::clock::time_or_age(text, now)
            .with_context(|| format!("`{text}` is no time as in 2026-11-20T12:00:00Z and no age as in 90m, 24h, 7d"))
    };
    let until = args.until.as_deref().map(time).transpose()?.unwrap_or(now);
    let labels = TraceLabels {
        service: args.service.clone(),
        environment: args.environment.clone(),
        feature: args.feature.clone(),
        prompt_name: args.prompt.clone(),
        prompt_version: args.prompt_version.clone(),
        model: args.model.clone(),
        tenant: args.tenant.clone(),
        ..TraceLabels::default()
    };
    let since = time(&args.since)?;
    anyhow::ensure!(since < until, "--since is not before --until");
    Ok(ReplayFilter { rubric: String::new(), since, until, labels, all: args.all, limit: args.limit.into() })
}

async fn act(args: &Args, config: Config, filter: ReplayFilter, database: &Database) -> anyhow::Result<String> {
    let rubric = Arc::new(rubric(&args.rubric, &config, database).await?);
    if args.result {
        let outcome = replay::outcome(&database.store, &rubric).await?;
        return Ok(if args.json { serde_json::to_string(&outcome)? } else { result(&rubric, &outcome) });
    }
    if args.all && rubric.evaluates == Evaluates::Session {
        bail!("--all is for rubrics about traces and spans; sessions are judged again that were judged before");
    }
    let unknown = rubric.panel.iter().find(|name| !config.judges.contains_key(*name));
    if rubric.prompt.is_some() && rubric.panel.is_empty() {
        bail!("no judge is configured, so nobody could be asked; add [judges.NAME] or set OPENAI_API_KEY");
    }
    if let Some(name) = unknown {
        bail!("the rubric's panel names the judge `{name}`, which is not configured; add [judges.{name}]");
    }
    let filter = ReplayFilter { rubric: rubric.name.clone(), ..filter };
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), Some(database.store.clone()))?;
    let plan = replay::replay((&bench, &database.store), &rubric, &filter, args.yes).await?;
    if args.json {
        let mut value = serde_json::to_value(&plan)?;
        value["rubric"] = rubric.name.as_str().into();
        value["rubric_version"] = rubric.version.as_str().into();
        value["enqueued"] = args.yes.into();
        return Ok(value.to_string());
    }
    Ok(told(&rubric, &plan, args))
}

async fn rubric(given: &str, config: &Config, database: &Database) -> anyhow::Result<Rubric> {
    if let Some((name, version)) = given.split_once('@').filter(|_| !Path::new(given).exists()) {
        let version = if version.starts_with("sha256:") { version.to_owned() } else { format!("sha256:{version}") };
        let found = database.store.rubric_version(name, &version).await?;
        return found
            .with_context(|| format!("{name} {version} is not stored; /api/v1/rubrics and verdicts name versions"));
    }
    let (_, parsed) = sources::usable(sources::read(&[given.to_owned()], config)?)?.swap_remove(0);
    Ok(parsed.rubric)
}

fn told(rubric: &Rubric, plan: &Plan, args: &Args) -> String {
    let what = if rubric.evaluates == Evaluates::Session { "session" } else { "trace" };
    let mut lines = vec![format!("{} {}", rubric.name, rubric.version)];
    let drawn =
        if u64::try_from(plan.taken).is_ok_and(|n| n < plan.fitting) { ", drawn by a hash (--limit)" } else { "" };
    lines.push(format!("  {} stored {what}(s) fit, {} are taken{drawn}", plan.fitting, plan.taken));
    lines.push(format!(
        "  {} to judge, {} judged by this version already, {} that it is not about",
        plan.to_judge, plan.known, plan.not_judged
    ));
    if plan.removed > 0 {
        lines.push(format!("  {} cannot be judged again: their text was removed by retention", plan.removed));
    }
    let cost = &plan.cost;
    if cost.votes > 0 || cost.by_check > 0 {
        lines.push(format!(
            "  of {} looked at: {} decided by a check, {} votes needed, {} of them in the cache",
            cost.reckoned, cost.by_check, cost.votes, cost.cached
        ));
    }
    lines.push(match cost.usd {
        Some(usd) => format!("  about {usd:.4} USD"),
        None => "  the cost is not known: no price is configured, or nothing was judged to go by".to_owned(),
    });
    if plan.fitting == 0 && !args.all {
        lines
            .push(format!("no stored {what} was judged by `{}` in that time; --all takes the others too", rubric.name));
    }
    lines.push(match (args.yes, plan.to_judge) {
        (true, 0) => "nothing is left to enqueue; --result shows what came of it".to_owned(),
        (true, n) => format!(
            "{n} job(s) are enqueued; the service judges them when nothing fresh waits, --result shows what came of it"
        ),
        (false, _) => "nothing is enqueued; --yes does it".to_owned(),
    });
    lines.join("\n")
}

/// A verdict in a word.
fn word(outcome: Option<&str>, passed: Option<bool>, (score, label): (Option<f64>, Option<&String>)) -> String {
    let said = match passed {
        Some(true) => "pass",
        Some(false) => "fail",
        None => outcome.unwrap_or("not judged"),
    };
    let label = label.map_or_else(String::new, |label| format!(" {label}"));
    format!("{said}{label}{}", score.map_or_else(String::new, |s| format!(" {s:.2}")))
}

fn flips(pair: &ReplayPair) -> bool {
    pair.old_outcome.is_some() && (pair.passed, &pair.label) != (pair.old_passed, &pair.old_label)
}

fn result(rubric: &Rubric, outcome: &Outcome) -> String {
    let pairs = &outcome.pairs;
    let scored = pairs.iter().filter(|p| p.outcome == "scored").count();
    let cost: f64 = pairs.iter().map(|p| p.cost_usd).sum();
    let mut lines = vec![format!(
        "{} {}: {} judged again ({scored} scored), {} wait, {cost:.4} USD",
        rubric.name,
        rubric.version,
        pairs.len(),
        outcome.waiting
    )];
    let changed: Vec<&ReplayPair> = pairs.iter().filter(|p| flips(p)).collect();
    if !changed.is_empty() {
        let rows = changed.iter().take(FLIPS_MAX).map(|p| {
            let unit = p.span_id.as_ref().map_or_else(|| p.trace_id.clone(), |span| format!("{} {span}", p.trace_id));
            vec![
                unit,
                word(p.old_outcome.as_deref(), p.old_passed, (p.old_score, p.old_label.as_ref())),
                word(Some(&p.outcome), p.passed, (p.score, p.label.as_ref())),
                p.old_version.clone().unwrap_or_default(),
            ]
        });
        lines.push(table::render(&["trace", "before", "now", "version before"], rows.collect()));
        if changed.len() > FLIPS_MAX {
            lines.push(format!("and {} more (--json has all)", changed.len() - FLIPS_MAX));
        }
    }
    if let Some(compared) = &outcome.passing {
        let percent = |x: f64| format!("{:+.1}", x * 100.0);
        lines.push(format!(
            "of {} scored both times {} now pass that failed, {} now fail that passed; share that passes {} points \
             (95 %: {} to {}), p {:.3}",
            compared.n,
            compared.first_only,
            compared.second_only,
            percent(compared.difference),
            percent(compared.interval.low),
            percent(compared.interval.high),
            compared.p_value
        ));
    }
    lines.join("\n")
}
