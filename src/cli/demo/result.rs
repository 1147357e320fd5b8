//! What the demo shows at its end: a table, the worst traces with the judges' reasons, one JSON line.

use crate::cli::table;
use crate::domain::alert::incident::Alert;
use crate::domain::alert::notice::{Links, Notice};
use crate::domain::alert::text;
use crate::domain::verdict::Verdict;
use crate::pipeline::estimate::{self, Group};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::fmt::Write;

const WORST: usize = 5;

/// The result for people.
pub(super) fn text(verdicts: &[Verdict], (seen, kept): (i64, i64), seconds: f64, simulated: bool) -> String {
    let mut out =
        format!("{seen} traces received, {kept} kept by sampling, {} verdicts in {seconds:.1} s\n\n", verdicts.len());
    if simulated {
        out.push_str("Verdicts of judges are SIMULATED: they come from rules, not from a model.\n");
    }
    out.push_str(&by_rubric_and_version(verdicts));
    out.push_str("\n\nOutcomes without a score:\n");
    for (rubric, group) in estimate::by(verdicts, |v| v.rubric.clone()) {
        let others: Vec<String> =
            group.outcomes.iter().filter(|(o, _)| **o != "scored").map(|(o, n)| format!("{n} {o}")).collect();
        if !others.is_empty() {
            writeln!(out, "  {rubric}: {}", others.join(", ")).expect("a String can be written");
        }
    }
    out.push_str("\nThe worst traces:\n");
    out.push_str(&worst(verdicts));
    out
}

fn version(verdict: &Verdict) -> String {
    verdict.trace.prompt_version.clone().unwrap_or_else(|| "-".to_owned())
}

fn by_rubric_and_version(verdicts: &[Verdict]) -> String {
    let mut rows = Vec::new();
    let mut last = String::new();
    for ((rubric, version), group) in estimate::by(verdicts, |v| (v.rubric.clone(), version(v))) {
        if group.n == 0 {
            continue;
        }
        let name = if rubric == last { String::new() } else { rubric.clone() };
        last = rubric;
        rows.push(vec![
            name,
            version,
            group.n.to_string(),
            group.mean.map_or_else(|| "-".to_owned(), |m| format!("{:.3}", m.value)),
            group.pass_rate.map_or_else(|| "-".to_owned(), |p| table::percent(p.value)),
            format!("{:.4}", group.cost_usd),
        ]);
    }
    table::render(&["rubric", "prompt version", "n", "mean", "passed", "USD"], rows)
}

fn worst(verdicts: &[Verdict]) -> String {
    let mut failed: Vec<&Verdict> =
        verdicts.iter().filter(|v| v.passed == Some(false) && !v.votes.is_empty()).collect();
    failed.sort_by(|a, b| {
        a.score.unwrap_or(1.0).total_cmp(&b.score.unwrap_or(1.0)).then_with(|| a.trace_id.cmp(&b.trace_id))
    });
    let mut seen = std::collections::HashSet::new();
    let picked = failed.into_iter().filter(|v| seen.insert(v.trace_id.clone())).take(WORST);
    let rows = picked.map(|v| {
        vec![
            v.trace_id.clone(),
            v.rubric.clone(),
            version(v),
            v.score.map_or_else(String::new, |s| format!("{s:.2}")),
            v.explanation.clone(),
        ]
    });
    table::render(&["trace", "rubric", "prompt version", "score", "the judges' reason"], rows.collect())
}

fn figures(group: &Group) -> Value {
    json!({
        "n": group.n,
        "mean": group.mean.map(|m| m.value),
        "pass_rate": group.pass_rate.map(|p| p.value),
    })
}

/// What the detectors have found, for people.
pub(super) fn alerts(alerts: &[Alert], now: DateTime<Utc>) -> String {
    if alerts.is_empty() {
        return "No alert: no version is worse than those before it.".to_owned();
    }
    let mut out = String::from("Alerts (in production they go to Slack, PagerDuty, Datadog, …: docs/alerts.md):\n");
    for alert in alerts {
        // As it was opened; what joined it since is in its facts.
        let Some(change) = alert.changes.first().cloned() else { continue };
        let notice = Notice {
            id: alert.delivery_id(change.number, "demo"),
            change,
            alert: alert.clone(),
            links: Links::default(),
            content: true,
            at: now,
            test: false,
        };
        writeln!(out, "\n{}", text::text(&notice)).expect("a String can be written");
    }
    out.trim_end().to_owned()
}

/// Commands that look at what the demo has stored.
pub(super) fn look_around(database: &str, verdict: Option<&Verdict>, alert: Option<&Alert>) -> String {
    let mut out = format!("\nLook around in what it has stored:\n  export ASSIZE__DATABASE__NAME={database}\n");
    out.push_str("  assize report --by prompt_version\n");
    if let Some(alert) = alert {
        writeln!(out, "  assize alerts show {}", alert.id).expect("a String can be written");
    }
    if let Some(verdict) = verdict {
        let (trace, rubric) = (&verdict.trace_id, &verdict.rubric);
        writeln!(out, "  assize explain {trace} --rubric {rubric}").expect("a String can be written");
    }
    out
}

/// The result for programs: one line (a fixed interface).
pub(super) fn json(verdicts: &[Verdict], (seen, kept): (i64, i64), alerts: usize) -> String {
    let all = estimate::summarise(verdicts.iter());
    let rubrics: Map<String, Value> =
        estimate::by(verdicts, |v| v.rubric.clone()).iter().map(|(name, g)| (name.clone(), figures(g))).collect();
    let mut versions: Map<String, Value> = Map::new();
    for (version, group) in estimate::by(verdicts, version) {
        let mut entry = figures(&group);
        let mine: Vec<Verdict> = verdicts.iter().filter(|v| self::version(v) == version).cloned().collect();
        let by_rubric: Map<String, Value> =
            estimate::by(&mine, |v| v.rubric.clone()).iter().map(|(name, g)| (name.clone(), figures(g))).collect();
        entry["rubrics"] = Value::Object(by_rubric);
        versions.insert(version, entry);
    }
    json!({
        "traces": seen,
        "kept": kept,
        "verdicts": all.outcomes,
        "rubrics": rubrics,
        "by_prompt_version": versions,
        "alerts": alerts,
        "cost_usd": all.cost_usd,
    })
    .to_string()
}
