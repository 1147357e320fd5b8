//! The alert as an incident with a life, and which finding belongs to which.
//!
//! Used by `store::alerts` (inside its transaction) and by whoever shows alerts. Its rule: one cause, one incident; [`place`] is a
//! pure function of finding and alerts, so that a replay ends where the first run did. A resolved alert stays resolved: the same
//! trouble, begun before the resolution, is not told again. The way not taken: a cause key computed from the finding alone,
//! since "within six hours of each other" is no equivalence.

use super::{Finding, Kind, Measure, Severity};
use crate::domain::ids::event_id;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Streams that began to fall within this time of each other may have one cause.
pub const SAME_CAUSE: TimeDelta = TimeDelta::hours(6);

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody has taken it.
    Open,
    /// Somebody looks at it.
    Acknowledged,
    /// Over.
    Resolved,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Open, Self::Acknowledged, Self::Resolved];

    /// The name used on every wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It began.
    Opened,
    /// Another stream joined it.
    Joined,
    /// It became more severe.
    Escalated,
    /// It was told again, because it is still open.
    Repeated,
    /// Somebody took it.
    Acknowledged,
    /// It ended.
    Resolved,
}

impl ChangeKind {
    const ALL: [Self; 6] =
        [Self::Opened, Self::Joined, Self::Escalated, Self::Repeated, Self::Acknowledged, Self::Resolved];

    /// The name used on every wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Joined => "joined",
            Self::Escalated => "escalated",
            Self::Repeated => "repeated",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// The change of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One change, with who and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// From 1 on, in order.
    pub number: i32,
    /// What happened.
    pub kind: ChangeKind,
    /// The alert's severity from then on.
    pub severity: Severity,
    /// When.
    pub at: DateTime<Utc>,
    /// The person who did it; none = the detectors.
    pub by: Option<String>,
    /// Why, in their words.
    pub why: Option<String>,
}

/// A finding under an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// [`Finding::fingerprint`].
    pub fingerprint: String,
    /// As last found.
    #[serde(flatten)]
    pub finding: Finding,
    /// When it was first found.
    pub first_found_at: DateTime<Utc>,
    /// When its detector said that the trouble is over.
    pub recovered_at: Option<DateTime<Utc>>,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its id.
    pub id: Uuid,
    /// Where it is in its life.
    pub state: State,
    /// The highest severity of its findings so far.
    pub severity: Severity,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When a finding or the state last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Its findings, in the order in which they came; never empty.
    pub findings: Vec<Merged>,
    /// Its life.
    pub changes: Vec<Change>,
}

impl Alert {
    /// The finding that says most: of the highest severity, the one with the most evidence, else the first.
    #[must_use]
    pub fn lead(&self) -> Option<&Finding> {
        let weight = |m: &Merged| (m.finding.severity, m.finding.evidence.e_value.unwrap_or(0.0));
        let better = |best: &Merged, next: &Merged| {
            let (a, b) = (weight(best), weight(next));
            b.0 > a.0 || (b.0 == a.0 && b.1 > a.1)
        };
        let mut best = self.findings.first()?;
        for next in &self.findings {
            if better(best, next) {
                best = next;
            }
        }
        Some(&best.finding)
    }

    /// The earliest estimated start of its findings.
    #[must_use]
    pub fn since(&self) -> DateTime<Utc> {
        self.findings.iter().map(|m| m.finding.since).min().unwrap_or(self.opened_at)
    }

    /// The rubrics it is about, each once.
    #[must_use]
    pub fn rubrics(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.findings.iter().filter_map(|m| m.finding.rubric.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether every finding has recovered.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.findings.iter().all(|m| m.recovered_at.is_some())
    }

    /// Id of the delivery that tells `channel` about the change with this number: the same on every machine.
    #[must_use]
    pub fn delivery_id(&self, number: i32, channel: &str) -> Uuid {
        event_id(self.id, &format!("{number}:{channel}"))
    }
}

/// Who is to be called: what moved is the application, a judge, or what comes in.
#[derive(PartialEq)]
enum Side {
    Application,
    Judge,
    Intake,
}

fn side(finding: &Finding) -> Side {
    match (finding.kind, finding.measure) {
        (Kind::NoData | Kind::SamplingMismatch, _) => Side::Intake,
        (Kind::JudgeDrift, _)
        | (_, Measure::JudgeErrorRate | Measure::CostUsd | Measure::LatencySeconds | Measure::Agreement) => Side::Judge,
        _ => Side::Application,
    }
}

/// The versions and models of a finding, from its steps and from its stream.
fn versions(finding: &Finding) -> Vec<(&str, &str)> {
    let steps = finding.versions.iter().map(|step| (step.what.as_str(), step.after.as_str()));
    let named = ["prompt_version", "model", "service_version", "judge"];
    let keys = finding.stream.iter().filter(|(key, _)| named.contains(&key.as_str()));
    steps.chain(keys.map(|(key, value)| (key.as_str(), value.as_str()))).collect()
}

/// The versions that a finding blames: those that changed.
fn changed(finding: &Finding) -> impl Iterator<Item = (&str, &str)> {
    let steps = finding.versions.iter().filter(|step| !step.before.is_empty());
    steps.map(|step| (step.what.as_str(), step.after.as_str()))
}

/// Whether two findings have one cause: both blame one version, or they began within six hours of each other and share a
/// version or model. Where neither names any, the same detector and measure of the same rubric is taken for the same cause.
/// Trouble of the judges is never that of the application, nor that of what comes in.
#[must_use]
pub fn same_cause(a: &Finding, b: &Finding) -> bool {
    if side(a) != side(b) {
        return false;
    }
    if a.kind == Kind::VersionTest
        && b.kind == Kind::VersionTest
        && changed(a).any(|one| changed(b).any(|two| one == two))
    {
        return true;
    }
    if (a.since - b.since).abs() > SAME_CAUSE {
        return false;
    }
    let (ours, theirs) = (versions(a), versions(b));
    if ours.is_empty() && theirs.is_empty() {
        return a.kind == b.kind && a.measure == b.measure && (a.rubric == b.rubric || side(a) == Side::Intake);
    }
    ours.iter().any(|one| theirs.contains(one))
}

/// Whether a finding belongs to an alert that is not resolved: it is one of its findings, or has the cause of one.
#[must_use]
pub fn joins(alert: &Alert, finding: &Finding) -> bool {
    let fingerprint = finding.fingerprint();
    alert.state != State::Resolved
        && alert.findings.iter().any(|m| m.fingerprint == fingerprint || same_cause(&m.finding, finding))
}

/// Where a finding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is a finding of this alert already: its evidence is brought up to date.
    Known(Uuid),
    /// It was told, and the alert is resolved: nothing happens.
    Over(Uuid),
    /// It has the cause of this alert.
    Joins(Uuid),
    /// It opens one.
    Opens,
}

/// Decides where a finding goes. `alerts` are all that are not resolved, and those resolved that have its fingerprint.
#[must_use]
pub fn place(finding: &Finding, alerts: &[Alert]) -> Place {
    let fingerprint = finding.fingerprint();
    let holds = |alert: &&Alert| alert.findings.iter().any(|m| m.fingerprint == fingerprint);
    if let Some(alert) = alerts.iter().filter(|a| a.state != State::Resolved).find(holds) {
        return Place::Known(alert.id);
    }
    // A version test goes on finding the same version worse, whatever its estimate of the start: told is told.
    let once = finding.kind == Kind::VersionTest;
    let told = |alert: &&Alert| once || alert.resolved_at.is_some_and(|at| finding.since <= at);
    if let Some(alert) = alerts.iter().filter(|a| a.state == State::Resolved).filter(holds).find(told) {
        return Place::Over(alert.id);
    }
    // The oldest first, so that the answer does not depend on the order of the list.
    let mut fitting: Vec<&Alert> = alerts.iter().filter(|a| joins(a, finding)).collect();
    fitting.sort_by_key(|a| (a.opened_at, a.id));
    fitting.first().map_or(Place::Opens, |alert| Place::Joins(alert.id))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::tests::finding;
    use super::*;
    use crate::domain::alert::VersionStep;

    /// An open alert of one finding.
    pub(crate) fn alert() -> Alert {
        of(&finding())
    }

    fn of(finding: &Finding) -> Alert {
        let at = finding.found_at;
        Alert {
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            state: State::Open,
            severity: finding.severity,
            opened_at: at,
            updated_at: at,
            resolved_at: None,
            findings: vec![Merged {
                fingerprint: finding.fingerprint(),
                finding: finding.clone(),
                first_found_at: at,
                recovered_at: None,
            }],
            changes: vec![Change {
                number: 1,
                kind: ChangeKind::Opened,
                severity: finding.severity,
                at,
                by: None,
                why: None,
            }],
        }
    }

    fn scan(rubric: &str, hours: i64, model: Option<&str>) -> Finding {
        let step = |m: &str| VersionStep { what: "model".to_owned(), before: Vec::new(), after: m.to_owned() };
        Finding {
            kind: Kind::ChangeScan,
            rubric: Some(rubric.to_owned()),
            since: finding().since + TimeDelta::hours(hours),
            versions: model.map(step).into_iter().collect(),
            ..finding()
        }
    }

    #[test]
    fn streams_that_blame_one_version_join_whenever_they_are_found() {
        let other =
            Finding { rubric: Some("tone".to_owned()), since: finding().since + TimeDelta::days(3), ..finding() };
        assert!(joins(&alert(), &other));
        let mut next = other;
        next.versions[0].after = "v4".to_owned();
        assert!(!joins(&alert(), &next), "another version, days later");
    }

    #[test]
    fn streams_join_within_six_hours_when_they_share_a_model() {
        let open = of(&scan("faithfulness", 0, Some("m1")));
        assert!(joins(&open, &scan("tone", 6, Some("m1"))));
        assert!(joins(&open, &scan("tone", -6, Some("m1"))));
        assert!(!joins(&open, &scan("tone", 7, Some("m1"))), "too late");
        assert!(!joins(&open, &scan("tone", 1, Some("m2"))), "another model");
        assert!(!joins(&open, &scan("tone", 1, None)), "nothing that they share is known");
        let mut keyed = scan("tone", 1, None);
        keyed.stream.insert("model".to_owned(), "m1".to_owned());
        assert!(joins(&open, &keyed), "a key of the stream counts as well");
    }

    #[test]
    fn without_any_version_only_the_same_measure_of_the_same_rubric_joins() {
        let open = of(&scan("faithfulness", 0, None));
        let mut elsewhere = scan("faithfulness", 2, None);
        elsewhere.stream.insert("feature".to_owned(), "search".to_owned());
        assert!(joins(&open, &elsewhere));
        assert!(!joins(&open, &scan("tone", 2, None)));
        let silent = Finding { kind: Kind::NoData, measure: Measure::VerdictsPerHour, ..scan("faithfulness", 0, None) };
        assert!(joins(&of(&silent), &Finding { rubric: Some("tone".to_owned()), ..silent.clone() }), "all is silent");
    }

    #[test]
    fn trouble_of_a_judge_is_not_that_of_the_application() {
        let drift = Finding { kind: Kind::JudgeDrift, ..scan("faithfulness", 0, Some("m1")) };
        assert!(!joins(&of(&scan("faithfulness", 0, Some("m1"))), &drift));
        let errors = Finding { kind: Kind::Rate, measure: Measure::JudgeErrorRate, ..drift.clone() };
        assert!(joins(&of(&drift), &errors));
    }

    #[test]
    fn a_known_finding_is_known_and_a_resolved_one_is_over() {
        let mut resolved = alert();
        assert_eq!(place(&finding(), &[resolved.clone()]), Place::Known(resolved.id));
        resolved.state = State::Resolved;
        resolved.resolved_at = Some(finding().found_at + TimeDelta::hours(1));
        assert_eq!(place(&finding(), &[resolved.clone()]), Place::Over(resolved.id));
        let again = Finding { since: finding().since + TimeDelta::days(9), ..finding() };
        assert_eq!(place(&again, &[resolved.clone()]), Place::Over(resolved.id), "the version is still the same");
    }

    #[test]
    fn a_scan_that_falls_again_after_the_resolution_opens_anew() {
        let first = scan("faithfulness", 0, Some("m1"));
        let mut resolved = of(&first);
        resolved.state = State::Resolved;
        resolved.resolved_at = Some(first.since + TimeDelta::hours(8));
        let shifted = scan("faithfulness", 7, Some("m1"));
        assert_eq!(place(&shifted, &[resolved.clone()]), Place::Over(resolved.id), "begun before the resolution");
        assert_eq!(place(&scan("faithfulness", 9, Some("m1")), &[resolved]), Place::Opens);
    }

    #[test]
    fn the_oldest_of_several_fitting_alerts_is_joined_in_any_order() {
        let mut old = of(&scan("a", 0, Some("m1")));
        let mut new = of(&scan("b", 5, Some("m1")));
        old.id = Uuid::from_u128(2);
        new.id = Uuid::from_u128(1);
        old.opened_at -= TimeDelta::hours(1);
        let both = scan("c", 3, Some("m1"));
        for list in [[old.clone(), new.clone()], [new, old.clone()]] {
            assert_eq!(place(&both, &list), Place::Joins(old.id));
        }
    }
}
