//! What a run has found: as a table, as JSON and as JUnit's cases.
//!
//! Made by `eval`, also told by `markdown` and `html`. Its rule: text of traces, and judges' reasons, which quote it, leave by the
//! reports that go elsewhere only with `--show-content`, redacted as the configuration says.

use super::super::junit::{Case, Ended};
use super::super::table;
use super::gates::Gate;
use crate::app::Bench;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Outcome, Verdict};
use crate::pipeline::offline;
use crate::pipeline::runs::{Mean, Paired, Summary};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Question and answer by trace.
pub(super) type Texts = BTreeMap<String, (String, String)>;

/// About the run itself.
pub(super) struct Facts {
    pub traces: usize,
    /// Whether the judges are.
    pub simulated: bool,
    /// Verdicts that were there already.
    pub reused: usize,
    pub seconds: f64,
    pub at: DateTime<Utc>,
}

/// Everything that reports tell.
pub(super) struct Report {
    pub facts: Facts,
    pub summaries: BTreeMap<String, Summary>,
    pub verdicts: Vec<Verdict>,
    /// The other run's name, and what has changed by rubric.
    pub baseline: Option<(String, BTreeMap<String, Paired>)>,
    pub gates: Vec<Gate>,
    pub show_content: bool,
    pub texts: Texts,
}

/// Questions and answers as they would be stored.
pub(super) fn texts(bench: &Bench, traces: &[Trace]) -> Texts {
    let one = |trace: &Trace| {
        let trace = offline::stored(bench, trace);
        let question = trace.question().unwrap_or_default().to_owned();
        (trace.trace_id.clone(), (question, trace.answer().unwrap_or_default()))
    };
    traces.iter().map(one).collect()
}

/// A share with its interval, as percentages.
pub(super) fn percentages(mean: Option<Mean>) -> String {
    let of = |m: Mean| format!("{:.1} % ({:.0} to {:.0})", m.value * 100.0, m.lower * 100.0, m.upper * 100.0);
    mean.map_or_else(|| "-".to_owned(), of)
}

/// A mean score with its interval.
pub(super) fn scores(mean: Option<Mean>) -> String {
    mean.map_or_else(|| "-".to_owned(), |m| format!("{:.3} ({:.2} to {:.2})", m.value, m.lower, m.upper))
}

/// The outcomes that are no score.
pub(super) fn others(summary: &Summary) -> String {
    let others = summary.outcomes.iter().filter(|(outcome, _)| **outcome != Outcome::Scored.as_str());
    others.map(|(outcome, n)| format!("{n} {outcome}")).collect::<Vec<_>>().join(", ")
}

/// A change of the share that passes, in points, with its interval; `unit` stands behind the number.
pub(super) fn points(paired: &Paired, unit: &str) -> String {
    let Some(c) = paired.passed else { return "nothing to compare".to_owned() };
    let zero = |x: f64| if x.abs() < 5e-4 { 0.0 } else { x * 100.0 };
    let (by, low, high) = (zero(c.difference), zero(c.interval.low), zero(c.interval.high));
    format!("{by:+.1}{unit} ({low:+.1} to {high:+.1})")
}

/// What follows from a comparison.
pub(super) fn finding(paired: &Paired) -> &'static str {
    match paired.passed.map(|c| (c.interval.low > 0.0, c.interval.high < 0.0)) {
        Some((true, _)) => "better",
        Some((_, true)) => "worse",
        Some(_) => "no difference shown",
        None => "",
    }
}

/// A change of the mean score with its interval.
pub(super) fn score_change(paired: &Paired) -> String {
    let by = paired.means.1 - paired.means.0;
    let zero = |x: f64| if x.abs() < 5e-4 { 0.0 } else { x };
    paired
        .mean_interval
        .map_or_else(|| "-".to_owned(), |i| format!("{:+.3} ({:+.3} to {:+.3})", zero(by), zero(i.low), zero(i.high)))
}

/// Traces that now fail, and that now pass.
pub(super) fn turned(paired: &Paired) -> (usize, usize) {
    let pass = paired.flips.iter().filter(|f| f.passes).count();
    (paired.flips.len() - pass, pass)
}

/// What has no partner.
pub(super) fn unmatched(paired: &Paired) -> String {
    let parts = [
        (paired.only_before, "only in the baseline"),
        (paired.only_now, "only here"),
        (paired.not_scored, "not scored in one"),
    ];
    let told = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    told.collect::<Vec<_>>().join(", ")
}

impl Report {
    /// The whole cost.
    pub fn usd(&self) -> f64 {
        self.summaries.values().fold(0.0, |sum, s| sum + s.cost_usd)
    }

    /// For people.
    pub fn text(&self) -> String {
        let rows = self.summaries.iter().map(|(name, s)| {
            let usd = format!("{:.4}", s.cost_usd);
            vec![name.clone(), s.n.to_string(), scores(s.mean), percentages(s.pass_rate), usd, others(s)]
        });
        let header = ["rubric", "scored", "mean (95 %)", "passed (95 %)", "USD", "other outcomes"];
        let mut out = table::render(&header, rows.collect());
        if let Some((name, by)) = self.baseline.as_ref().filter(|(_, by)| !by.is_empty()) {
            let rows = by.iter().map(|(rubric, p)| {
                let (fail, pass) = turned(p);
                vec![
                    rubric.clone(),
                    p.n.to_string(),
                    format!("{} → {}", table::percent(p.pass_rates.0), table::percent(p.pass_rates.1)),
                    points(p, ""),
                    p.passed.map_or_else(String::new, |c| format!("{:.3}", c.p_value)),
                    score_change(p),
                    format!("{fail} fail, {pass} pass"),
                    [finding(p).to_owned(), unmatched(p)]
                        .iter()
                        .filter(|t| !t.is_empty())
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("; "),
                ]
            });
            let header = ["rubric", "pairs", "passed", "points (95 %)", "p", "mean score", "now", ""];
            let compared = table::render(&header, rows.collect());
            write!(out, "\n\nAgainst {name}, on the traces that both have scored:\n{compared}")
                .expect("a String can be written");
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let baseline = self.baseline.as_ref().map(|(name, by)| json!({"file": name, "rubrics": by}));
        json!({
            "rubrics": self.summaries, "baseline": baseline, "gates": self.gates, "traces": self.facts.traces,
            "reused": self.facts.reused, "simulated": self.facts.simulated, "cost_usd": self.usd(),
            "seconds": self.facts.seconds,
        })
    }

    /// JUnit's suites: a rubric each, a trace a case.
    pub fn suites(&self) -> Vec<(String, Vec<Case>)> {
        let case = |v: &Verdict| {
            let said = self.reason(v).map_or_else(String::new, |why| format!(": {why}"));
            let ended = match (v.outcome, v.passed) {
                (Outcome::Scored, Some(true)) => Ended::Passed,
                (Outcome::Scored, _) => Ended::Failed(format!("{}{said}", said_of(v))),
                (Outcome::JudgeError | Outcome::OverBudget | Outcome::Expired, _) => {
                    Ended::Error(format!("{}{said}", v.outcome.as_str()))
                }
                (other, _) => Ended::Skipped(format!("{}{said}", other.as_str())),
            };
            Case { name: v.trace_id.clone(), seconds: v.latency_ms as f64 / 1e3, ended }
        };
        let of = |name: &String| self.verdicts.iter().filter(|v| v.rubric == *name).map(case).collect();
        self.summaries.keys().map(|name| (name.clone(), of(name))).collect()
    }

    /// Why, where that may be told: a judge's words quote the trace, ours do not.
    pub fn reason<'a>(&self, verdict: &'a Verdict) -> Option<&'a str> {
        let ours = verdict.outcome != Outcome::Scored && verdict.votes.iter().all(|v| v.abstained.is_none());
        Some(verdict.explanation.as_str()).filter(|why| !why.is_empty() && (ours || self.show_content))
    }

    /// The verdicts that do not pass, the worst first.
    pub fn worst(&self, rubric: &str, most: usize) -> Vec<&Verdict> {
        let mut failed: Vec<&Verdict> =
            self.verdicts.iter().filter(|v| v.rubric == rubric && v.passed == Some(false)).collect();
        failed.sort_by(|a, b| {
            a.score.unwrap_or(1.0).total_cmp(&b.score.unwrap_or(1.0)).then(a.trace_id.cmp(&b.trace_id))
        });
        failed.truncate(most);
        failed
    }
}

/// Score, label and who decided.
pub(super) fn said_of(v: &Verdict) -> String {
    let score = v.score.map_or_else(|| v.outcome.as_str().to_owned(), |s| format!("score {s:.2}"));
    let label = v.label.as_ref().map_or_else(String::new, |label| format!(", {label}"));
    let by = v.decided_by.as_ref().map_or_else(String::new, |by| format!(", decided by {by}"));
    format!("{score}{label}{by}")
}
