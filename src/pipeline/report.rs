//! Counted verdicts → rates, means and intervals, by rubric version and whatever else is asked for; and two groups side by side.
//!
//! Called by `cli::report` and `server::report`. Its rule: every figure is corrected for sampling and stands beside its interval,
//! what it is from and what was left out; versions of a rubric are lines of their own; what a rate means for the traces to come
//! is asked for (`Target::Process`), so that keeping everything does not make an interval vanish. The way not taken: one average
//! over versions, which moves when the mix does.

use crate::app::App;
use crate::domain::dimension::Dimension;
use crate::domain::label::{LabelledVerdict, Source};
use crate::domain::verdict::{Outcome, TraceLabels};
use crate::pipeline::correct::{Corrected, corrected};
use crate::stats::estimate::{Interval, Level};
use crate::stats::hajek::Target;
use crate::stats::survey::{self, Counted};
use crate::store::StoreError;
use crate::store::labels::LabelledFilter;
use crate::store::report::{Alike, Counting};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Rows that are read at most; more means that scores are continuous or there are very many groups.
const ROWS_MAX: i64 = 500_000;

/// Labelled verdicts of one version that are read at most.
const LABELS_MAX: i64 = 100_000;

/// Pieces of time in a line's course.
const BUCKETS: i32 = 24;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Verdicts made at or after this time.
    pub since: DateTime<Utc>,
    /// Verdicts made before this time.
    pub until: DateTime<Utc>,
    /// Only of this rubric.
    pub rubric: Option<String>,
    /// What lines are told apart by, besides rubric and version.
    pub by: Vec<Dimension>,
}

/// A value with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Rate {
    /// A value with its interval.
    #[must_use]
    pub fn new(value: f64, interval: Interval) -> Self {
        Self { value, lower: interval.low, upper: interval.high }
    }
}

/// One group of verdicts.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The values of what was asked to tell apart, in that order; null where the traces say nothing.
    pub by: Vec<(Dimension, Option<String>)>,
    /// Scored verdicts.
    pub n: usize,
    /// Kish's effective number of them: how many with equal weights would be worth as much.
    pub n_eff: f64,
    /// Share that passed, as the judges say, corrected for sampling.
    pub pass_rate: Option<Rate>,
    /// Share that people would pass, by their labels.
    pub corrected: Corrected,
    /// Mean score, corrected for sampling.
    pub mean_score: Option<Rate>,
    /// Verdicts by outcome; a rate's denominator is `scored`, whatever could not be judged is beside it.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Share of jobs that were to be judged and ended without a score because the judges failed.
    pub judge_error_share: Option<f64>,
    /// Money spent, in US dollars.
    pub cost_usd: f64,
    /// The pass rate in each of 24 pieces of the time asked for; null where nothing was scored.
    pub course: Vec<Option<f64>>,
    /// When its first verdict was made.
    pub first_at: DateTime<Utc>,
    #[serde(skip)]
    passes: Vec<Counted>,
}

/// A report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// From when.
    pub since: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Groups, by rubric, then by age.
    pub lines: Vec<Line>,
    /// Whether verdicts were left out because there were too many different ones; the latest are here.
    pub truncated: bool,
}

/// What changed from one group of verdicts of a rubric version to another.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The rest of what they have in common.
    pub by: Vec<(Dimension, Option<String>)>,
    /// The group before.
    pub before: Rate,
    /// The group after.
    pub after: Rate,
    /// Scored verdicts before and after.
    pub n: (usize, usize),
    /// Pass rate before less pass rate after: positive when it got worse.
    pub drop: Rate,
}

/// Makes a report of what the database has.
///
/// # Errors
/// When the verdicts cannot be counted.
pub async fn report(app: &App, asked: &Asked) -> Result<Report, StoreError> {
    of_store(&app.store, asked).await
}

/// As [`report`], for a command without an [`App`].
///
/// # Errors
/// As [`report`].
pub async fn of_store(store: &crate::store::Store, asked: &Asked) -> Result<Report, StoreError> {
    let bucket = ((asked.until - asked.since) / BUCKETS).max(TimeDelta::seconds(1));
    let counting = Counting {
        since: asked.since,
        until: asked.until,
        rubric: asked.rubric.clone(),
        by: asked.by.clone(),
        bucket,
        limit: ROWS_MAX,
    };
    let alike = store.count_alike(&counting).await?;
    let truncated = i64::try_from(alike.len()).is_ok_and(|n| n >= ROWS_MAX);
    let mut lines = lines(alike, &asked.by);
    correct(store, asked, &mut lines).await?;
    Ok(Report { since: asked.since, until: asked.until, lines, truncated })
}

/// Corrects each line by the labels of its rubric version.
async fn correct(store: &crate::store::Store, asked: &Asked, lines: &mut [Line]) -> Result<(), StoreError> {
    let versions: BTreeSet<(String, String)> =
        lines.iter().map(|l| (l.rubric.clone(), l.rubric_version.clone())).collect();
    for (rubric, version) in versions {
        let filter = LabelledFilter {
            rubric: rubric.clone(),
            rubric_version: Some(version.clone()),
            rank_min: Source::Annotator.rank(),
            limit: LABELS_MAX,
            ..LabelledFilter::default()
        };
        let mut labelled = store.labelled_verdicts(&filter).await?;
        labelled.retain(|l| !l.conflicting);
        for line in lines.iter_mut().filter(|l| l.rubric == rubric && l.rubric_version == version) {
            let among = |l: &&LabelledVerdict| {
                let same = line.by.iter().all(|(d, value)| d.of(&l.trace) == value.as_deref());
                same && (asked.since..asked.until).contains(&l.judged_at)
            };
            let inside: Vec<&LabelledVerdict> = labelled.iter().filter(among).collect();
            line.corrected = corrected(&line.passes, &inside, &labelled);
        }
    }
    Ok(())
}

/// A group's name: rubric, version, values.
type Group = (String, String, Vec<Option<String>>);

fn values(labels: &TraceLabels, by: &[Dimension]) -> Vec<Option<String>> {
    by.iter().map(|d| d.of(labels).map(str::to_owned)).collect()
}

/// Groups what was counted.
#[must_use]
pub fn lines(alike: Vec<Alike>, by: &[Dimension]) -> Vec<Line> {
    let mut groups: BTreeMap<Group, Vec<Alike>> = BTreeMap::new();
    for row in alike {
        let group = (row.rubric.clone(), row.rubric_version.clone(), values(&row.labels, by));
        groups.entry(group).or_default().push(row);
    }
    let mut lines: Vec<Line> = groups.into_iter().map(|(group, rows)| line(group, by, &rows)).collect();
    lines.sort_by(|a, b| (&a.rubric, a.first_at).cmp(&(&b.rubric, b.first_at)));
    lines
}

fn line((rubric, rubric_version, values): Group, by: &[Dimension], rows: &[Alike]) -> Line {
    let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for row in rows {
        *outcomes.entry(row.outcome.as_str()).or_default() += row.count;
    }
    let items = |value: &dyn Fn(&Alike) -> Option<f64>| -> Vec<Counted> {
        let mut alike: BTreeMap<(u64, u64), Counted> = BTreeMap::new();
        for row in rows.iter().filter(|r| r.outcome == Outcome::Scored) {
            let Some(y) = value(row) else { continue };
            let pi = row.inclusion_probability;
            alike.entry((y.to_bits(), pi.to_bits())).or_insert(Counted { y, pi, count: 0 }).count += row.count;
        }
        alike.into_values().collect()
    };
    let passes = items(&|r| r.passed.map(|p| f64::from(u8::from(p))));
    let scores = items(&|r| r.score);
    let failed = outcomes.get(Outcome::JudgeError.as_str()).copied().unwrap_or_default() as f64;
    let judged = outcomes.get(Outcome::Scored.as_str()).copied().unwrap_or_default() as f64 + failed;
    Line {
        n: scores.iter().map(|c| usize::try_from(c.count).unwrap_or(usize::MAX)).sum(),
        n_eff: rate(&scores).map_or(0.0, |(_, n_eff)| n_eff),
        pass_rate: rate(&passes).map(|(rate, _)| rate),
        corrected: Corrected::not(0, "no labels"),
        mean_score: rate(&scores).map(|(rate, _)| rate),
        judge_error_share: (judged > 0.0).then(|| failed / judged),
        cost_usd: rows.iter().map(|r| r.cost_usd).sum(),
        course: course(rows),
        first_at: rows.iter().map(|r| r.first_at).min().unwrap_or_default(),
        by: by.iter().copied().zip(values).collect(),
        outcomes,
        passes,
        rubric,
        rubric_version,
    }
}

/// The mean of items with its interval, and their effective number. What was received besides is not known here, and the weights
/// stand for it.
fn rate(items: &[Counted]) -> Option<(Rate, f64)> {
    let survey = survey::mean_counted(items, Target::Process).ok()?;
    let interval = survey.rate_interval(Level::P95).ok()?;
    Some((Rate::new(survey.estimate.value, interval), survey.n_eff))
}

/// The pass rate in each piece of time.
fn course(rows: &[Alike]) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0.0); BUCKETS.unsigned_abs() as usize];
    for row in rows.iter().filter(|r| r.outcome == Outcome::Scored) {
        let at = usize::try_from(row.bucket).unwrap_or_default().min(sums.len() - 1);
        let weight = row.count as f64 / row.inclusion_probability;
        sums[at].0 += weight * f64::from(u8::from(row.passed == Some(true)));
        sums[at].1 += weight;
    }
    sums.into_iter().map(|(passed, all)| (all > 0.0).then(|| passed / all)).collect()
}

/// What changed between two values of a dimension, for each rubric version that has both. The dimension must be among those
/// that the lines are told apart by.
#[must_use]
pub fn changes(lines: &[Line], dimension: Dimension, (before, after): (&str, &str)) -> Vec<Change> {
    let is = |line: &Line, value: &str| line.by.iter().any(|(d, v)| *d == dimension && v.as_deref() == Some(value));
    let rest = |line: &Line| -> Vec<(Dimension, Option<String>)> {
        line.by.iter().filter(|(d, _)| *d != dimension).cloned().collect()
    };
    let mut found = Vec::new();
    for first in lines.iter().filter(|l| is(l, before)) {
        let same = |l: &&Line| {
            is(l, after)
                && (&l.rubric, &l.rubric_version) == (&first.rubric, &first.rubric_version)
                && rest(l) == rest(first)
        };
        let Some(second) = lines.iter().find(same) else { continue };
        let change = survey::change_counted(&first.passes, &second.passes, Target::Process, Level::P95);
        let Ok(change) = change else { continue };
        let (Some(before), Some(after)) = (first.pass_rate, second.pass_rate) else { continue };
        found.push(Change {
            rubric: first.rubric.clone(),
            rubric_version: first.rubric_version.clone(),
            by: rest(first),
            before,
            after,
            n: (first.n, second.n),
            drop: Rate::new(change.drop.value, change.interval),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(version: &str, passed: bool, pi: f64, count: u64) -> Alike {
        Alike {
            rubric: "r".to_owned(),
            rubric_version: "v".to_owned(),
            labels: TraceLabels { prompt_version: Some(version.to_owned()), ..TraceLabels::default() },
            bucket: 3,
            outcome: Outcome::Scored,
            passed: Some(passed),
            score: Some(f64::from(u8::from(passed))),
            inclusion_probability: pi,
            count,
            cost_usd: 0.5,
            first_at: DateTime::UNIX_EPOCH,
        }
    }

    fn failed(version: &str, count: u64) -> Alike {
        Alike { outcome: Outcome::JudgeError, score: None, passed: None, ..alike(version, true, 1.0, count) }
    }

    #[test]
    fn a_rate_is_corrected_for_sampling_and_names_what_it_is_from() {
        let rows = vec![alike("1", false, 1.0, 100), alike("1", true, 0.1, 90), failed("1", 10)];
        let lines = lines(rows, &[Dimension::PromptVersion]);
        let line = &lines[0];
        let rate = line.pass_rate.expect("there are verdicts");
        assert!((rate.value - 900.0 / 1_000.0).abs() < 1e-12, "each kept trace stands for ten: {rate:?}");
        assert!(rate.lower < 0.9 && rate.upper > 0.9 && rate.lower > 0.85, "{rate:?}");
        assert_eq!((line.n, line.outcomes["scored"], line.outcomes["judge_error"]), (190, 190, 10));
        assert!(line.judge_error_share.is_some_and(|s| (s - 0.05).abs() < 1e-12));
        assert!(line.n_eff > 100.0 && line.n_eff < 190.0, "{}", line.n_eff);
        assert_eq!(line.course.iter().flatten().count(), 1);
        assert!((line.cost_usd - 1.5).abs() < 1e-12);
    }

    #[test]
    fn two_versions_are_compared_with_an_interval_and_never_across_rubric_versions() {
        let mut rows = vec![alike("1", true, 1.0, 180), alike("1", false, 1.0, 20)];
        rows.extend([alike("2", true, 1.0, 140), alike("2", false, 1.0, 60)]);
        let other = Alike { rubric_version: "w".to_owned(), ..alike("2", false, 1.0, 500) };
        rows.push(other);
        let lines = lines(rows, &[Dimension::PromptVersion]);
        assert_eq!(lines.len(), 3);
        let changes = changes(&lines, Dimension::PromptVersion, ("1", "2"));
        assert_eq!(changes.len(), 1);
        let drop = changes[0].drop;
        assert!((drop.value - 0.2).abs() < 1e-12 && drop.lower > 0.1 && drop.upper < 0.3, "{drop:?}");
        assert!(super::changes(&lines, Dimension::Model, ("1", "2")).is_empty());
    }

    #[test]
    fn tens_of_millions_of_verdicts_are_a_few_numbers() {
        let rows = vec![alike("1", true, 0.5, 45_000_000), alike("1", false, 0.5, 5_000_000)];
        let lines = lines(rows, &[]);
        assert_eq!((lines[0].n, lines[0].passes.len()), (50_000_000, 2));
        let rate = lines[0].pass_rate.expect("there are verdicts");
        assert!((rate.value - 0.9).abs() < 1e-12 && rate.upper - rate.lower < 0.001, "{rate:?}");
    }

    #[test]
    fn nothing_scored_is_no_rate() {
        let lines = lines(vec![failed("1", 3)], &[]);
        assert_eq!((lines[0].pass_rate, lines[0].n, lines[0].judge_error_share), (None, 0, Some(1.0)));
    }
}
