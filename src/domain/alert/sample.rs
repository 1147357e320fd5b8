//! An incident that never was, with every field filled: what a template of a channel is tried on before it is needed.
//!
//! Used by `config`. Its rule: texts hold what breaks a template that forgets to quote them: quotes, a line break, a backslash; and
//! lists have entries, so that a name that is missing is missing. The way not taken: trying the template on the first real alert.

use super::incident::{Alert, Change, ChangeKind, Merged, State};
use super::notice::{Links, Notice};
use super::{Estimate, Evidence, Example, Finding, Kind, Measure, Severity, VersionStep};
use crate::domain::deployment::{Deployed, Deployment};
use crate::domain::dimension::Dimension;
use crate::domain::drift::Canaries;
use chrono::DateTime;
use uuid::Uuid;

const TEXT: &str = "it says \"no\" \\ and\ngoes on";

/// The notice of such an incident's resolution.
#[must_use]
pub fn notice() -> Notice {
    let at = DateTime::UNIX_EPOCH;
    let change = |number, kind| Change {
        number,
        kind,
        severity: Severity::Warning,
        at,
        by: Some(TEXT.to_owned()),
        why: Some(TEXT.to_owned()),
    };
    let finding = finding();
    let alert = Alert {
        id: Uuid::nil(),
        state: State::Resolved,
        severity: Severity::Warning,
        opened_at: at,
        updated_at: at,
        resolved_at: Some(at),
        findings: vec![Merged {
            fingerprint: finding.fingerprint(),
            finding,
            first_found_at: at,
            recovered_at: Some(at),
        }],
        changes: vec![change(1, ChangeKind::Opened), change(2, ChangeKind::Resolved)],
    };
    let link = |what: &str| Some(format!("https://assize.example/{what}/{{id}}"));
    Notice {
        id: Uuid::nil(),
        change: change(2, ChangeKind::Resolved),
        alert,
        links: Links { trace_url: link("traces"), alert_url: link("alerts") },
        content: true,
        at,
        test: true,
    }
}

fn finding() -> Finding {
    let at = DateTime::UNIX_EPOCH;
    let estimate = |value: f64| Some(Estimate { value, lower: Some(value - 0.05), upper: Some(value + 0.05) });
    Finding {
        kind: Kind::VersionTest,
        measure: Measure::PassRate,
        rubric: Some("faithfulness".to_owned()),
        rubric_version: Some("sample".to_owned()),
        stream: Dimension::ALL.iter().map(|d| (d.as_str().to_owned(), TEXT.to_owned())).collect(),
        from: estimate(0.9),
        to: estimate(0.8),
        limit: Some(0.85),
        since: at,
        found_at: at,
        n: 100,
        n_eff: 90.5,
        weights: Some(TEXT.to_owned()),
        evidence: Evidence { e_value: Some(50.0), alpha: Some(0.05), budget_share: Some(0.05), p: Some(0.02) },
        versions: vec![VersionStep {
            what: "prompt_version".to_owned(),
            before: vec![TEXT.to_owned()],
            after: TEXT.to_owned(),
        }],
        severity: Severity::Warning,
        examples: vec![Example { trace_id: TEXT.to_owned(), score: Some(0.1), reason: TEXT.to_owned() }],
        deploys: vec![Deployment {
            id: Uuid::nil(),
            what: Deployed::Service,
            name: TEXT.to_owned(),
            environment: Some(TEXT.to_owned()),
            version: TEXT.to_owned(),
            at,
            link: Some("https://ci.example/1".to_owned()),
            seen: false,
        }],
        runbook: Some(TEXT.to_owned()),
        canaries: Some(Canaries { of: 200, worse: 20, better: 1, moved: vec!["judge".to_owned()], at }),
    }
}
