//! What the detectors say, as findings: from what to what, since when, on how much, with which versions, and the worst traces.
//!
//! Called by `pipeline::watch`. Its rule: losses become scores here, so that people read rates that are good when high; examples
//! are looked up when a finding is told, not at every look. The way not taken: a detector's own numbers in an alert.

use super::streams::{Slice, State, VERSIONED};
use crate::app::App;
use crate::domain::alert::{Estimate, Evidence, Example, Finding, Kind, Measure, Severity, VersionStep};
use crate::domain::dimension::Dimension;
use crate::domain::rubric::{OutputKind, Rubric};
use crate::domain::verdict::TraceLabels;
use crate::stats::kernel::version::Arm;
use crate::stats::many::evalues::display_p;
use crate::stats::stream::{Alarm, VersionFinding};
use crate::store::StoreError;
use chrono::{DateTime, TimeDelta, Utc};

/// Traces shown at most.
const EXAMPLES: i64 = 3;

/// Versions first seen so near to the start of a drop are named with it.
const NEAR: TimeDelta = TimeDelta::hours(6);

/// A drop of this many points wakes somebody.
const CRITICAL_DROP: f64 = 0.2;

fn measure(kind: OutputKind) -> Measure {
    // A score keeps its grades; only yes and no is a rate.
    if kind == OutputKind::Boolean { Measure::PassRate } else { Measure::MeanScore }
}

/// A side of a comparison, losses turned into scores.
fn estimate(arm: &Arm) -> Estimate {
    Estimate { value: 1.0 - arm.rate, lower: Some(1.0 - arm.high), upper: Some(1.0 - arm.low) }
}

fn severity(before: &Arm, after: &Arm) -> Severity {
    if after.rate - before.rate >= CRITICAL_DROP { Severity::Critical } else { Severity::Warning }
}

fn evidence(log_e: f64, alpha: f64, budget_share: Option<f64>) -> Evidence {
    Evidence { e_value: Some(log_e.exp()), alpha: Some(alpha), budget_share, p: display_p(log_e).ok() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of scores")]
fn count(n: f64) -> u64 {
    n.round().max(0.0) as u64
}

/// What is alike in both kinds of findings.
fn plain(slice: &Slice, kind: OutputKind, rubric: &Rubric, (before, after): (&Arm, &Arm)) -> Finding {
    let weighted = (after.n_eff < 0.95 * after.n).then(|| {
        format!("each verdict counts for as many traces as it was drawn from; worth {:.0} equal ones", after.n_eff)
    });
    Finding {
        kind: Kind::ChangeScan,
        measure: measure(kind),
        rubric: Some(slice.rubric.clone()),
        rubric_version: Some(slice.rubric_version.clone()),
        stream: slice.labels.clone(),
        from: Some(estimate(before)),
        to: Some(estimate(after)),
        limit: None,
        since: DateTime::UNIX_EPOCH,
        found_at: DateTime::UNIX_EPOCH,
        n: count(after.n),
        n_eff: after.n_eff,
        weights: weighted,
        evidence: Evidence::default(),
        versions: Vec::new(),
        severity: severity(before, after),
        examples: Vec::new(),
        deploys: Vec::new(),
        runbook: rubric.alert.runbook.clone(),
        canaries: None,
    }
}

/// A drop at an unknown time. Versions that were first seen near its start are named.
pub(super) fn of_scan(slice: &Slice, state: &State, alarm: &Alarm, rubric: &Rubric, now: DateTime<Utc>) -> Finding {
    let mut versions = Vec::new();
    for (dimension, known) in &state.versions {
        let seen = known.first_seen();
        let near = |at: &DateTime<Utc>| (*at - alarm.since).abs() <= NEAR;
        for (at, (version, first)) in seen.iter().enumerate() {
            if at > 0 && near(first) {
                let before = seen[..at].iter().map(|(v, _)| (*v).to_owned()).collect();
                versions.push(VersionStep {
                    what: dimension.as_str().to_owned(),
                    before,
                    after: (*version).to_owned(),
                });
            }
        }
    }
    Finding {
        since: alarm.since,
        found_at: now,
        evidence: evidence(alarm.log_e, alarm.alpha, Some(alarm.alpha)),
        versions,
        ..plain(slice, state.kind(), rubric, (&alarm.before, &alarm.after))
    }
}

/// A version that is worse than those before it.
pub(super) fn of_version(
    slice: &Slice,
    (kind, dimension): (OutputKind, Dimension),
    tested: &VersionFinding,
    (rubric, alpha): (&Rubric, f64),
    now: DateTime<Utc>,
) -> Finding {
    let compared = &tested.comparison;
    Finding {
        kind: Kind::VersionTest,
        since: tested.first_seen,
        found_at: now,
        evidence: evidence(compared.log_e_worse, alpha, None),
        versions: vec![VersionStep {
            what: dimension.as_str().to_owned(),
            before: tested.against.clone(),
            after: tested.version.clone(),
        }],
        ..plain(slice, kind, rubric, (&compared.before, &compared.after))
    }
}

/// The finding with the worst traces of its stream since its start.
pub(super) async fn completed(app: &App, mut finding: Finding) -> Result<Finding, StoreError> {
    let Some(rubric) = finding.rubric.clone().filter(|_| finding.examples.is_empty()) else { return Ok(finding) };
    let mut slice = TraceLabels {
        feature: finding.stream.get("feature").cloned(),
        environment: finding.stream.get("environment").cloned(),
        tenant: finding.stream.get("tenant").cloned(),
        service: finding.stream.get("service").cloned(),
        ..TraceLabels::default()
    };
    if finding.kind == Kind::VersionTest {
        for step in &finding.versions {
            let dimension = Dimension::parse(&step.what).filter(|d| VERSIONED.contains(d));
            match dimension {
                Some(Dimension::PromptVersion) => slice.prompt_version = Some(step.after.clone()),
                Some(Dimension::Model) => slice.model = Some(step.after.clone()),
                Some(Dimension::ServiceVersion) => slice.service_version = Some(step.after.clone()),
                _ => {}
            }
        }
    }
    let of = (rubric.as_str(), finding.rubric_version.as_deref());
    let worst = app.store.worst(of, &slice, finding.since, EXAMPLES).await?;
    let example =
        |w: crate::store::watch::Worst| Example { trace_id: w.trace_id, score: w.score, reason: w.explanation };
    finding.examples = worst.into_iter().map(example).collect();
    Ok(finding)
}
