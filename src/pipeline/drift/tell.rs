//! Judges that have moved, as findings and as metrics.
//!
//! Called by `pipeline::drift`. Its rule: a finding says from what to what on the same traces, how many went each way, and which
//! model answered before and now; a run that is the new normal is no trouble. The way not taken: an alert of the rubric's rate.

use crate::app::App;
use crate::domain::alert::{Estimate, Evidence, Finding, Kind, Measure, Severity, VersionStep};
use crate::domain::drift::{Canaries, JudgeCompared, Run};
use crate::domain::rubric::{OutputKind, Rubric};
use crate::stats::estimate::Level;
use crate::stats::many::evalues::display_p;
use crate::stats::proportions::wilson;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A move of this many points wakes somebody: every alarm of the rubric means something else now.
const CRITICAL_MOVE: f64 = 0.2;

/// The last run of each rubric version that has ended.
fn latest(runs: &[Run]) -> BTreeMap<(&str, &str), &Run> {
    let ended = runs.iter().filter(|r| r.ended.is_some());
    ended.map(|r| ((r.rubric.as_str(), r.rubric_version.as_str()), r)).collect()
}

/// The judges that have moved.
pub(super) fn findings(runs: &[Run], rubrics: &[Arc<Rubric>], now: DateTime<Utc>) -> Vec<Finding> {
    let mut found = Vec::new();
    for run in latest(runs).into_values() {
        let rubric = rubrics.iter().find(|r| r.name == run.rubric && r.version == run.rubric_version);
        let (Some(rubric), Some(ended)) = (rubric, &run.ended) else { continue };
        for judge in &ended.result.judges {
            let is_new_normal = run.judges.get(&judge.judge).is_some_and(|m| m.rebased);
            if let Some(since) = judge.moved_since.filter(|_| !is_new_normal) {
                found.push(finding(rubric, judge, run.started_at, (since, now)));
            }
        }
    }
    found
}

fn finding(
    rubric: &Rubric,
    judge: &JudgeCompared,
    at: DateTime<Utc>,
    (since, now): (DateTime<Utc>, DateTime<Utc>),
) -> Finding {
    let n = judge.of as f64;
    let rate = |passed: u64| {
        let value = passed as f64 / n.max(1.0);
        let interval = wilson(value, n, Level::P95).ok();
        Estimate { value, lower: interval.map(|i| i.low), upper: interval.map(|i| i.high) }
    };
    let mean = |value| Estimate { value, lower: None, upper: None };
    let (measure, from, to) = if rubric.output.kind() == OutputKind::Boolean {
        (Measure::PassRate, rate(judge.passed_before), rate(judge.passed_now))
    } else {
        (Measure::MeanScore, mean(judge.mean_before), mean(judge.mean_now))
    };
    let fresh: Vec<String> = judge.models_now.difference(&judge.models_before).cloned().collect();
    let step = |after: String| VersionStep {
        what: "model of the judge".to_owned(),
        before: judge.models_before.iter().cloned().collect(),
        after,
    };
    let severity = if (from.value - to.value).abs() >= CRITICAL_MOVE { Severity::Critical } else { Severity::Warning };
    let (of, worse, better) = (judge.of, judge.worse, judge.better);
    Finding {
        kind: Kind::JudgeDrift,
        measure,
        rubric: Some(rubric.name.clone()),
        rubric_version: Some(rubric.version.clone()),
        stream: [("judge".to_owned(), judge.judge.clone())].into(),
        from: Some(from),
        to: Some(to),
        limit: None,
        since,
        found_at: now,
        n: of,
        n_eff: n,
        weights: None,
        evidence: Evidence {
            e_value: Some(judge.log_total.exp()),
            alpha: Some(judge.alpha),
            budget_share: Some(judge.alpha),
            p: display_p(judge.log_total).ok(),
        },
        versions: (!fresh.is_empty()).then(|| step(fresh.join(", "))).into_iter().collect(),
        severity,
        examples: judge.examples.clone(),
        deploys: Vec::new(),
        runbook: rubric.alert.runbook.clone(),
        canaries: Some(Canaries { of, worse, better, moved: vec![judge.judge.clone()], at }),
    }
}

/// Puts what the last runs say into the metrics of this process.
pub(super) fn show(app: &App, runs: &[Run], usd: f64) {
    let metrics = &app.bench.metrics.drift;
    metrics.changed.reset();
    metrics.moved.reset();
    for run in latest(runs).into_values() {
        let Some(ended) = &run.ended else { continue };
        for judge in &ended.result.judges {
            let labels = [run.rubric.as_str(), judge.judge.as_str()];
            let is_new_normal = run.judges.get(&judge.judge).is_some_and(|m| m.rebased);
            let moved = judge.moved_since.is_some() && !is_new_normal;
            metrics.moved.with_label_values(&labels).set(f64::from(u8::from(moved)));
            if judge.of > 0 {
                let share = |count: u64| count as f64 / judge.of as f64;
                metrics.changed.with_label_values(&[labels[0], labels[1], "worse"]).set(share(judge.worse));
                metrics.changed.with_label_values(&[labels[0], labels[1], "better"]).set(share(judge.better));
            }
        }
    }
    metrics.usd.set(usd);
}
