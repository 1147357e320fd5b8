//! `assize report`: rates with their intervals, by rubric version and whatever else is asked for.

use super::{Context, database::Database, table};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::dimension::Dimension;
use crate::pipeline::correct::Corrected;
use crate::pipeline::report::{self, Asked, Change, Line, Rate, Report};
use anyhow::Context as _;
use std::fmt::Write;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  assize report --since 24h --by prompt_version
  assize report --rubric faithfulness --by feature,model --json
  assize report --by prompt_version --compare 2026-11-20.1,2026-11-20.2")]
pub(super) struct Args {
    /// From when: a time as in 2026-11-20T12:00:00Z, or an age as in 90m, 24h, 7d
    #[arg(long, default_value = "24h")]
    since: String,
    /// Until when, in the same forms
    #[arg(long)]
    until: Option<String>,
    /// Only this rubric
    #[arg(long)]
    rubric: Option<String>,
    /// What to tell apart: feature, prompt_version, model, tenant, environment, service, service_version
    #[arg(long, value_delimiter = ',', value_parser = dimension)]
    by: Vec<Dimension>,
    /// Two values of the first `--by`, the older one first: what changed between them
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "OLD,NEW", requires = "by")]
    compare: Vec<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn dimension(name: &str) -> Result<Dimension, String> {
    Dimension::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Dimension::ALL.iter().map(|d| d.as_str()).collect();
        format!("there are {}", known.join(", "))
    })
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let time = |text: &str| {
        crate::domain::clock::time_or_age(text, now)
            .with_context(|| format!("`{text}` is no time as in 2026-11-20T12:00:00Z and no age as in 90m, 24h, 7d"))
    };
    let until = args.until.as_deref().map(time).transpose()?.unwrap_or(now + chrono::TimeDelta::seconds(1));
    let asked = Asked { since: time(&args.since)?, until, rubric: args.rubric, by: args.by };
    anyhow::ensure!(asked.since < asked.until, "--since is not before --until");
    let pair = match args.compare.as_slice() {
        [] => None,
        [old, new] => Some((old.as_str(), new.as_str())),
        _ => anyhow::bail!("--compare takes two values of the first --by, as in --compare 1.0,1.1"),
    };
    let config = context.config()?;
    let database = Database::open(&config, None).await?;
    let made = report::of_store(&database.store, &asked).await;
    database.close().await;
    let made = made?;
    let changes = pair.map(|pair| report::changes(&made.lines, asked.by[0], pair));
    let missing = pair.map_or_else(Vec::new, |pair| missing(&made, asked.by[0], pair));
    for why in &missing {
        eprintln!("--compare: {why}");
    }
    if args.json {
        let mut value = serde_json::to_value(&made)?;
        if let Some(changes) = &changes {
            value["changes"] = serde_json::to_value(changes)?;
        }
        println!("{value}");
    } else {
        println!("{}", text(&made, &asked.by));
        if let (Some(changes), Some((old, new))) = (&changes, pair) {
            println!("\n{}", text_of_changes(changes, asked.by[0], old, new));
        }
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Values to compare that no verdict has, with those that there are.
fn missing(report: &Report, dimension: Dimension, (old, new): (&str, &str)) -> Vec<String> {
    let of = |line: &Line| line.by.iter().find(|(d, _)| *d == dimension).and_then(|(_, value)| value.clone());
    let known: std::collections::BTreeSet<String> = report.lines.iter().filter_map(of).collect();
    let name = dimension.as_str();
    let there = if known.is_empty() {
        format!("no verdict of that time has a {name}")
    } else {
        format!("there are {}", known.iter().cloned().collect::<Vec<_>>().join(", "))
    };
    let absent = [old, new].into_iter().filter(|value| !known.contains(*value));
    absent.map(|value| format!("no verdict has {name} {value}; {there}")).collect()
}

/// A rate with its interval, as percentages.
fn shown(rate: Option<Rate>) -> String {
    rate.map_or_else(
        || "-".to_owned(),
        |r| format!("{:.1} % ({:.0} to {:.0})", r.value * 100.0, r.lower * 100.0, r.upper * 100.0),
    )
}

fn text(report: &Report, by: &[Dimension]) -> String {
    if report.lines.is_empty() {
        return "No verdict was made in that time. `assize queue stats` shows what waits, `assize doctor` what is wrong."
            .to_owned();
    }
    let mut header = vec!["rubric", "version"];
    header.extend(by.iter().map(|d| d.as_str()));
    header.extend(["passed (95 %)", "by labels", "mean", "n", "n_eff", "course", "not scored", "USD"]);
    let mut out = table::render(&header, report.lines.iter().map(cells).collect());
    out.push_str(
        "\n\nRates are of scored verdicts, corrected for sampling, with their 95 % intervals; n_eff is what they are worth with equal\nweights. By labels: the rate that people would give, from n labels of the rubric's version.",
    );
    if report.truncated {
        out.push_str(
            "\nThere are too many different verdicts to count them all: only the latest are here. Ask for less time.",
        );
    }
    out
}

fn cells(line: &Line) -> Vec<String> {
    let version = line.rubric_version.trim_start_matches("sha256:").to_owned();
    let mut cells = vec![line.rubric.clone(), version];
    cells.extend(line.by.iter().map(|(_, value)| value.clone().unwrap_or_else(|| "-".to_owned())));
    let others: Vec<String> = line
        .outcomes
        .iter()
        .filter(|(outcome, _)| **outcome != "scored")
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    cells.extend([
        shown(line.pass_rate),
        corrected(&line.corrected),
        line.mean_score.map_or_else(|| "-".to_owned(), |m| format!("{:.3}", m.value)),
        line.n.to_string(),
        format!("{:.0}", line.n_eff),
        sparkline(&line.course),
        others.join(", "),
        format!("{:.4}", line.cost_usd),
    ]);
    cells
}

/// What people would pass, with the number of labels that say so.
fn corrected(corrected: &Corrected) -> String {
    match corrected.rate {
        Some(_) => format!("{}, n {}", shown(corrected.rate), corrected.labels),
        None => format!("uncorrected, n {}", corrected.labels),
    }
}

/// The course of a rate in one line of blocks, from its lowest to its highest value; a space where there is none.
fn sparkline(course: &[Option<f64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let low = course.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = course.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    // A point or two up and down is no mountain range.
    let span = (high - low).max(0.1);
    let block = |rate: f64| {
        let step = ((rate - high) / span * 7.0 + 7.0).round().clamp(0.0, 7.0);
        BLOCKS.iter().zip(0_u8..).find(|(_, n)| f64::from(*n) >= step).map_or('█', |(block, _)| *block)
    };
    course.iter().map(|rate| rate.map_or(' ', block)).collect()
}

fn text_of_changes(changes: &[Change], dimension: Dimension, old: &str, new: &str) -> String {
    if changes.is_empty() {
        return format!("No rubric version has verdicts of both {} {old} and {new}.", dimension.as_str());
    }
    let mut out = format!("{} {old} → {new}:", dimension.as_str());
    for change in changes {
        let points = |x: f64| x * 100.0;
        let (drop, low, high) = (points(change.drop.value), points(change.drop.lower), points(change.drop.upper));
        let verdict = if change.drop.lower > 0.0 {
            "worse"
        } else if change.drop.upper < 0.0 {
            "better"
        } else {
            "no difference shown"
        };
        let rest = change.by.iter().fold(String::new(), |mut text, (d, v)| {
            write!(text, " {}={}", d.as_str(), v.as_deref().unwrap_or("-")).expect("a String can be written");
            text
        });
        write!(
            out,
            "\n  {}{rest}: {:.1} % → {:.1} %, a drop of {drop:.1} points ({low:.1} to {high:.1}), n {} and {}: {verdict}",
            change.rubric,
            points(change.before.value),
            points(change.after.value),
            change.n.0,
            change.n.1
        )
        .expect("a String can be written");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_drawn_from_its_lowest_to_its_highest() {
        assert_eq!(sparkline(&[Some(0.5), None, Some(1.0), Some(0.75)]), "▁ █▅");
        assert_eq!(sparkline(&[Some(0.9), Some(0.9)]), "██", "what does not change is flat");
        assert_eq!(sparkline(&[]), "");
    }
}
