//! A run: the verdicts of one evaluation, read from their lines, summed up, and held against another run trace by trace.
//!
//! Called by `cli::eval` and `cli::rubric diff`. Its rule: two runs are compared on the traces that both have scored, and what
//! has no partner is counted beside it. The way not taken: comparing two rates, which throws away that both saw the same
//! traces.

use crate::domain::verdict::{Outcome, Verdict};
use crate::stats::bootstrap;
use crate::stats::estimate::{Interval, Level};
use crate::stats::hajek::Target;
use crate::stats::paired::{self, Comparison, Pair};
use crate::stats::survey::{self, Stratum};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Reads lines of JSON, one a verdict. What cannot be read is told with its line; a last line without its end is what a killed
/// run leaves, and is left out silently.
#[must_use]
pub fn read(text: &str) -> (Vec<(Verdict, Value)>, Vec<String>) {
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for (n, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: Result<Value, String> = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"));
        match value.and_then(|value| Ok((Verdict::of_line(&value)?, value))) {
            Ok(pair) => read.push(pair),
            Err(_) if !line.ends_with('\n') => {}
            Err(why) => wrong.push(format!("line {}: {why}", n + 1)),
        }
    }
    (read, wrong)
}

/// A mean with its standard error and 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The estimate.
    pub value: f64,
    /// Its standard error, as a draw from what made the traces.
    pub standard_error: f64,
    /// Lower end of its interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// What a run says about one rubric.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The rubric's versions that judged; more than one only in files of several runs.
    pub versions: BTreeSet<String>,
    /// Scored verdicts.
    pub n: usize,
    /// Mean score; `None` without scored verdicts.
    pub mean: Option<Mean>,
    /// Share that passes.
    pub pass_rate: Option<Mean>,
    /// Verdicts by outcome.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Money spent, in US dollars.
    pub cost_usd: f64,
}

/// Sums up each rubric of a run.
#[must_use]
pub fn summarise(verdicts: &[Verdict]) -> BTreeMap<String, Summary> {
    let mut by: BTreeMap<&str, Vec<&Verdict>> = BTreeMap::new();
    for verdict in verdicts {
        by.entry(&verdict.rubric).or_default().push(verdict);
    }
    by.into_iter().map(|(name, all)| (name.to_owned(), summary(&all))).collect()
}

fn summary(verdicts: &[&Verdict]) -> Summary {
    let mut made = Summary::default();
    let (mut scores, mut passes) = (Vec::new(), Vec::new());
    for verdict in verdicts {
        made.versions.insert(verdict.rubric_version.clone());
        *made.outcomes.entry(verdict.outcome.as_str()).or_default() += 1;
        made.cost_usd += verdict.cost_usd;
        if let (Outcome::Scored, Some(score)) = (verdict.outcome, verdict.score) {
            scores.push((score, verdict.inclusion_probability));
            passes.push((f64::from(u8::from(verdict.passed == Some(true))), verdict.inclusion_probability));
        }
    }
    made.n = scores.len();
    made.mean = mean(&scores).map(|mean| resampled(mean, &scores));
    made.pass_rate = mean(&passes);
    made
}

fn mean(items: &[(f64, f64)]) -> Option<Mean> {
    let size = items.iter().map(|(_, pi)| 1.0 / pi).sum();
    // What is refused is an empty group.
    let survey = survey::mean(&[Stratum { size, items, clusters: None }], Target::Process).ok()?;
    let interval = survey.rate_interval(Level::P95).ok()?;
    let (value, standard_error) = (survey.estimate.value, survey.estimate.standard_error);
    Some(Mean { value, standard_error, lower: interval.low, upper: interval.high })
}

/// A mean score with the bootstrap's interval, which knows how the scores lie. Not where it is a share, of which few failures tell
/// little, nor where chances to be judged differ.
fn resampled(mean: Mean, items: &[(f64, f64)]) -> Mean {
    let alike = items.windows(2).all(|pair| pair[0].1.to_bits() == pair[1].1.to_bits());
    let scores: Vec<f64> = items.iter().map(|(score, _)| *score).collect();
    match bootstrap::mean_interval(&scores, Level::P95) {
        Ok(interval) if alike && scores.iter().any(|score| score.fract() != 0.0) => {
            let interval = interval.within(0.0, 1.0);
            Mean { lower: interval.low, upper: interval.high, ..mean }
        }
        _ => mean,
    }
}

/// A trace whose verdict has turned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// The trace.
    pub trace_id: String,
    /// Whether it passes now.
    pub passes: bool,
    /// Scores before and now.
    pub scores: (f64, f64),
    /// Why, as it is judged now.
    pub explanation: String,
}

/// Two runs on the same traces, for one rubric. Differences are now minus before: negative = worse.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paired {
    /// The rubric's versions before and now.
    pub versions: (String, String),
    /// Traces that both have scored.
    pub n: usize,
    /// Share of them that passed before, and that passes now.
    pub pass_rates: (f64, f64),
    /// The difference of these shares, and McNemar's test. `first` is now, `second` is before.
    pub passed: Option<Comparison>,
    /// Mean scores before and now.
    pub means: (f64, f64),
    /// The interval of their difference (bootstrap).
    pub mean_interval: Option<Interval>,
    /// Traces whose verdict has turned; those that fail now first.
    pub flips: Vec<Flip>,
    /// Traces that only the one before has.
    pub only_before: usize,
    /// Traces that only this one has.
    pub only_now: usize,
    /// Traces of both that one of them has not scored.
    pub not_scored: usize,
}

impl Paired {
    /// How much worse it is now, as a share: the estimate, and the most that the interval leaves room for. `None` without a
    /// pair.
    #[must_use]
    pub fn drop(&self) -> Option<(f64, f64)> {
        self.passed.map(|c| (-c.difference, -c.interval.low))
    }
}

/// The verdicts of one rubric by what they judged.
type ByTrace<'a> = BTreeMap<(&'a str, Option<&'a str>), &'a Verdict>;

/// Compares two runs, each rubric that both have. Where a run has several verdicts of a trace, the last counts.
#[must_use]
pub fn compare(before: &[Verdict], now: &[Verdict]) -> BTreeMap<String, Paired> {
    let (first, second) = (by_rubric(before), by_rubric(now));
    first.iter().filter_map(|(name, old)| Some(((*name).to_owned(), paired(old, second.get(name)?)))).collect()
}

fn by_rubric(verdicts: &[Verdict]) -> BTreeMap<&str, ByTrace<'_>> {
    let mut made: BTreeMap<&str, ByTrace<'_>> = BTreeMap::new();
    for v in verdicts {
        made.entry(&v.rubric).or_default().insert((&v.trace_id, v.span_id.as_deref()), v);
    }
    made
}

fn paired(before: &ByTrace<'_>, now: &ByTrace<'_>) -> Paired {
    let both: Vec<(&Verdict, &Verdict)> = before.iter().filter_map(|(key, old)| Some((*old, *now.get(key)?))).collect();
    let scored: Vec<(&Verdict, &Verdict, f64, f64)> =
        both.iter().filter_map(|(old, new)| Some((*old, *new, old.score?, new.score?))).collect();
    let passes = |v: &Verdict| v.passed == Some(true);
    let pairs: Vec<Pair> =
        scored.iter().map(|(old, new, ..)| Pair { first: passes(new), second: passes(old), weight: 1.0 }).collect();
    let differences: Vec<f64> = scored.iter().map(|(.., old, new)| new - old).collect();
    let n = scored.len();
    let share = |sum: f64| if n == 0 { 0.0 } else { sum / n as f64 };
    let passing = |second: bool| share(pairs.iter().filter(|p| if second { p.second } else { p.first }).count() as f64);
    let turned = scored.iter().filter(|(old, new, ..)| passes(old) != passes(new));
    let mut flips: Vec<Flip> = turned
        .map(|(_, new, old, score)| Flip {
            trace_id: new.trace_id.clone(),
            passes: passes(new),
            scores: (*old, *score),
            explanation: new.explanation.clone(),
        })
        .collect();
    flips.sort_by(|a, b| a.passes.cmp(&b.passes).then(a.scores.1.total_cmp(&b.scores.1)));
    let version = |all: &ByTrace<'_>| all.values().next_back().map_or_else(String::new, |v| v.rubric_version.clone());
    Paired {
        versions: (version(before), version(now)),
        n,
        pass_rates: (passing(true), passing(false)),
        passed: paired::compare(&pairs, Level::P95).ok(),
        means: (share(scored.iter().map(|s| s.2).sum()), share(scored.iter().map(|s| s.3).sum())),
        mean_interval: bootstrap::mean_interval(&differences, Level::P95).ok(),
        flips,
        only_before: before.len() - both.len(),
        only_now: now.len() - both.len(),
        not_scored: both.len() - n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(trace: usize, score: Option<f64>) -> Verdict {
        let outcome = if score.is_some() { "scored" } else { "judge_error" };
        let passed = score.map(|s| s >= 0.5);
        Verdict::of_line(&json!({
            "trace_id": format!("t{trace}"), "rubric": "r", "rubric_version": "v", "outcome": outcome, "score": score,
            "passed": passed, "cost_usd": 0.5,
        }))
        .expect("a verdict")
    }

    fn run(scores: &[Option<f64>]) -> Vec<Verdict> {
        scores.iter().enumerate().map(|(n, score)| verdict(n, *score)).collect()
    }

    #[test]
    fn runs_are_compared_on_the_traces_that_both_have_scored() {
        let before = run(&[Some(0.9), Some(0.8), Some(0.1), None, Some(1.0)]);
        let mut now = run(&[Some(0.9), Some(0.2), Some(0.6), Some(1.0)]);
        now.push(verdict(9, Some(0.0)));
        let paired = &compare(&before, &now)["r"];
        assert_eq!((paired.n, paired.only_before, paired.only_now, paired.not_scored), (3, 1, 1, 1));
        let told: Vec<(&str, bool)> = paired.flips.iter().map(|f| (f.trace_id.as_str(), f.passes)).collect();
        assert_eq!(told, [("t1", false), ("t2", true)], "those that fail now come first");
        let passed = paired.passed.expect("pairs");
        assert_eq!((passed.first_only, passed.second_only, passed.n), (1, 1, 3));
        assert!((paired.means.1 - paired.means.0 - (-0.1 / 3.0)).abs() < 1e-12, "{paired:?}");
        assert!(paired.drop().is_some_and(|(drop, worst)| drop.abs() < 1e-12 && worst > 0.3));
        assert!(compare(&before, &[]).is_empty());
    }

    #[test]
    fn a_drop_in_most_traces_is_shown_and_none_in_two_alike_runs() {
        let good: Vec<Option<f64>> = vec![Some(0.9); 60];
        let bad: Vec<Option<f64>> = (0..60).map(|n| Some(if n % 3 == 0 { 0.2 } else { 0.9 })).collect();
        let worse = &compare(&run(&good), &run(&bad))["r"];
        assert!(
            worse.passed.is_some_and(|c| c.interval.high < 0.0) && worse.mean_interval.is_some_and(|i| i.high < 0.0)
        );
        let same = &compare(&run(&bad), &run(&bad))["r"];
        assert!(same.flips.is_empty() && same.passed.is_some_and(|c| c.interval.contains(0.0)));
    }

    #[test]
    fn a_summary_has_intervals_that_few_traces_make_wide() {
        let made = &summarise(&run(&[Some(1.0), Some(1.0), Some(1.0), None]))["r"];
        let rate = made.pass_rate.expect("three are scored");
        assert!((rate.value - 1.0).abs() < 1e-12 && rate.lower < 0.5 && made.n == 3, "{made:?}");
        assert_eq!((made.outcomes["scored"], made.outcomes["judge_error"]), (3, 1));
        assert!((made.cost_usd - 2.0).abs() < 1e-12);
    }

    #[test]
    fn half_a_last_line_is_left_out_and_any_other_broken_one_is_told() {
        let line = verdict(1, Some(0.5)).line().to_string();
        let (read, wrong) = super::read(&format!("{line}\n\nnonsense\n{line}\n{}", &line[..40]));
        assert_eq!((read.len(), wrong.len()), (2, 1));
        assert!(wrong[0].starts_with("line 3: not JSON"), "{wrong:?}");
        let whole = super::read(&format!("{line}\n{line}"));
        assert_eq!((whole.0.len(), whole.1.len()), (2, 0), "a whole last line counts without its end");
    }
}
