//! `assize calibrate`: how good the judges are by human labels, and weights that panels use from then on.

use super::{Context, database::Database, table};
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::label::Source;
use crate::domain::rubric::Rubric;
use crate::llm::judges::list_price;
use crate::pipeline::calibrate::{Calibration, JudgeFigures, calibrate};
use crate::pipeline::correct::Corrected;
use crate::pipeline::report::{self, Asked};
use crate::rubrics::catalog::Catalog;
use crate::stats::accuracy::{Accuracy, Rate};
use crate::stats::labels_needed::Needed;
use crate::store::labels::LabelledFilter;
use anyhow::Context as _;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// Labelled traces that are read at most for one rubric.
const LABELS_MAX: i64 = 100_000;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  assize calibrate
  assize calibrate faithfulness --json
  assize calibrate faithfulness --dry-run

Weights are stored for the rubric's version as it is on disk, and running services use them from then on:
`combine: weighted` and `stop_at` read them.")]
pub(super) struct Args {
    /// Only this rubric
    rubric: Option<String>,
    /// Also count users' feedback, which is a label of lower rank
    #[arg(long)]
    feedback: bool,
    /// Verdicts whose rate is corrected: made since this time, or not older than this age
    #[arg(long, default_value = "7d")]
    since: String,
    /// Show everything, store nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// A rubric's calibration, with its corrected rate.
struct Shown {
    calibration: Calibration,
    corrected: Option<Corrected>,
    stored: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let judges: Vec<&str> = config.judges.keys().map(String::as_str).collect();
    let catalog = Catalog::load(&config.rubrics.dir, &config.panels, &judges)?;
    let wanted = |r: &&std::sync::Arc<Rubric>| args.rubric.as_ref().is_none_or(|name| *name == r.name);
    let rubrics: Vec<_> = catalog.active().iter().filter(wanted).filter(|r| !r.panel.is_empty()).cloned().collect();
    if rubrics.is_empty() {
        let names: Vec<&str> = catalog.active().iter().map(|r| r.name.as_str()).collect();
        anyhow::bail!("no active rubric of that name has a panel; active are: {}", names.join(", "));
    }
    let database = Database::open(&config, None).await?;
    let mut all = Vec::new();
    for rubric in &rubrics {
        all.push(one(&args, &config, &database, rubric).await);
    }
    database.close().await;
    let all: Vec<Shown> = all.into_iter().collect::<anyhow::Result<_>>()?;
    if args.json {
        let line = |s: &Shown| {
            let mut value = json!(s.calibration);
            value["corrected"] = json!(s.corrected);
            value["labels_needed"] = json!(needed(s));
            value["stored"] = json!(s.stored);
            value
        };
        println!("{}", json!({"rubrics": all.iter().map(line).collect::<Vec<_>>()}));
    } else {
        println!("{}", all.iter().map(text).collect::<Vec<_>>().join("\n\n"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(args: &Args, config: &Config, database: &Database, rubric: &Rubric) -> anyhow::Result<Shown> {
    let now = SystemClock.now();
    let since = crate::domain::clock::time_or_age(&args.since, now).with_context(|| {
        format!("`{}` is no time as in 2026-11-20T12:00:00Z and no age as in 90m, 24h, 7d", args.since)
    })?;
    let rank_min = if args.feedback { Source::UserFeedback } else { Source::Annotator }.rank();
    let filter = LabelledFilter {
        rubric: rubric.name.clone(),
        rubric_version: Some(rubric.version.clone()),
        rank_min,
        limit: LABELS_MAX,
        ..LabelledFilter::default()
    };
    let labelled = database.store.labelled_verdicts(&filter).await?;
    let cost = |judge: &str| {
        let price = config.judges.get(judge).and_then(|j| j.price.or_else(|| list_price(&j.model)));
        price.map_or(1.0, |p| p.input_usd_per_million + p.output_usd_per_million)
    };
    let calibration = calibrate(rubric, labelled, cost, now)?;
    let asked = Asked { since, until: now, rubric: Some(rubric.name.clone()), by: Vec::new() };
    let report = report::of_store(&database.store, &asked).await?;
    let corrected = report.lines.into_iter().find(|l| l.rubric_version == rubric.version).map(|line| line.corrected);
    let mut stored = false;
    if let Some(model) = calibration.model.as_ref().filter(|_| !args.dry_run) {
        database.store.put_panel_model(model).await?;
        stored = true;
    }
    Ok(Shown { calibration, corrected, stored })
}

/// Labels still to make for half-widths of 3 and 5 points.
fn needed(shown: &Shown) -> Vec<(f64, Option<Needed>)> {
    [0.03, 0.05].map(|half| (half, shown.corrected.as_ref().and_then(|c| c.needed(half)))).to_vec()
}

fn share(rate: Option<Rate>) -> String {
    rate.map_or_else(
        || "-".to_owned(),
        |r| {
            let (value, low, high) = (r.value * 100.0, r.interval.low * 100.0, r.interval.high * 100.0);
            format!("{value:.1} % ({low:.1} to {high:.1})")
        },
    )
}

fn figures(accuracy: &Accuracy) -> [String; 3] {
    [share(accuracy.sensitivity), share(accuracy.specificity), share(accuracy.accuracy)]
}

fn text(shown: &Shown) -> String {
    let found = &shown.calibration;
    let mut out = format!(
        "{} ({}): {} labels, {} of them a probability sample\n",
        found.rubric, found.rubric_version, found.labels, found.sampled
    );
    let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
    let row = |judge: &JudgeFigures| {
        let [sensitivity, specificity, accuracy] = figures(&judge.accuracy);
        let name = format!("{} ({})", judge.judge, judge.model);
        vec![name, sensitivity, specificity, accuracy, number(judge.kappa), number(judge.weight)]
    };
    let mut rows: Vec<Vec<String>> = found.judges.iter().map(row).collect();
    if let Some(panel) = &found.panel {
        let [sensitivity, specificity, accuracy] = figures(panel);
        let dash = || "-".to_owned();
        rows.push(vec!["the panel".to_owned(), sensitivity, specificity, accuracy, dash(), dash()]);
    }
    if !rows.is_empty() {
        let header = ["judge", "passes what passes", "fails what fails", "right", "kappa", "weight"];
        out.push_str(&table::render(&header, rows));
        out.push('\n');
    }
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String can be written");
    if let Some(alpha) = found.alpha {
        line(format!("the judges agree with each other at alpha {alpha:.2} (1 = always, 0 = as by chance)"));
    }
    if let Some(compared) = &found.panel_against_best {
        line(format!(
            "the panel with learnt weights against `{}`, on traces held out: {:+.1} points ({:+.1} to {:+.1})",
            found.best_judge.as_deref().unwrap_or_default(),
            compared.difference * 100.0,
            compared.interval.low * 100.0,
            compared.interval.high * 100.0
        ));
    }
    if let Some(rate) = shown.corrected.as_ref().and_then(|c| c.rate) {
        let (value, low, high) = (rate.value * 100.0, rate.lower * 100.0, rate.upper * 100.0);
        line(format!("the pass rate that people would give: {value:.1} % ({low:.1} to {high:.1})"));
    }
    for (half, needed) in needed(shown) {
        let points = half * 100.0;
        match needed {
            Some(Needed::Enough) => line(format!("for ± {points:.0} points these labels are enough")),
            Some(Needed::More(n)) => line(format!("for ± {points:.0} points: about {n} labels more")),
            Some(Needed::JudgedTraces) => {
                line(format!("for ± {points:.0} points more traces have to be judged; labels alone do not get there"));
            }
            None => {}
        }
    }
    for advice in &found.advice {
        line(advice.clone());
    }
    if let Some(model) = found.model.as_ref().filter(|_| shown.stored) {
        line(format!("weights stored; asked in turn, the order is {}", model.judges.join(", ")));
    }
    out.trim_end().to_owned()
}
