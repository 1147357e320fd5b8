//! Drift canaries: stored units that a rubric's judges judge again, and what that says about the judges.
//!
//! Made by `pipeline::drift`, stored by `store::drift`, told with alerts. Its rule: a judge is compared with itself on the same
//! units, so that nothing of it can be the application's doing. Judges' reasons stand in examples only. The way not taken:
//! watching judges by the rates of live verdicts, where judge and application cannot be told apart.

use super::alert::Example;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Why canaries are judged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// For the first time.
    First,
    /// It was time.
    Scheduled,
    /// A judge's configuration, endpoint or the model that answers for it is another.
    JudgeChanged,
    /// An alert of the rubric asks whether it was the judge.
    Alert,
}

impl Why {
    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::First, Self::Scheduled, Self::JudgeChanged, Self::Alert].into_iter().find(|why| why.as_str() == name)
    }

    /// The name used in the database and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Scheduled => "scheduled",
            Self::JudgeChanged => "judge_changed",
            Self::Alert => "alert",
        }
    }
}

/// What a judge is, as far as that shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Hash of its endpoint, model and parameters.
    pub config: String,
    /// The models that have answered for it so far, as they name themselves.
    pub models: BTreeSet<String>,
    /// The run with which it is compared, where that is not its first judging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Uuid>,
    /// Whether a person has closed the alert about this run, so that what it found is the new normal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebased: bool,
}

/// The judges of a panel, by name.
pub type Marks = BTreeMap<String, Mark>;

/// A judging again of a rubric version's canaries.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// From 1 on.
    pub number: i32,
    /// Why.
    pub why: Why,
    /// The judges.
    pub judges: Marks,
    /// What it may cost, in US dollars.
    pub usd_max: f64,
    /// When its jobs were made.
    pub started_at: DateTime<Utc>,
    /// When it ends with what there is.
    pub due_at: DateTime<Utc>,
    /// What came of it; none while it runs.
    pub ended: Option<Ended>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// When.
    pub at: DateTime<Utc>,
    /// What it cost, in US dollars.
    pub usd: f64,
    /// What it says.
    pub result: Compared,
}

/// A unit that a run judges again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// The live verdict of the unit, which names it.
    pub verdict: Uuid,
    /// The job, and its verdict.
    pub job: Uuid,
    /// The verdict that it is compared with; none: this run makes it.
    pub reference: Option<Uuid>,
}

/// What a run says about a rubric's judges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What became of the panel's verdicts.
    pub canaries: Canaries,
    /// Each judge.
    pub judges: Vec<JudgeCompared>,
}

/// How many canaries' verdicts are others now; stands in alerts, beside what the application seems to have done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Canaries {
    /// Canaries that were judged both times.
    pub of: u64,
    /// Passed before and do not now.
    pub worse: u64,
    /// Pass now and did not before.
    pub better: u64,
    /// Judges that are shown to have moved.
    pub moved: Vec<String>,
    /// When they were judged again.
    pub at: DateTime<Utc>,
}

/// One judge, on the same units before and now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JudgeCompared {
    /// The judge.
    pub judge: String,
    /// The models that answered before.
    pub models_before: BTreeSet<String>,
    /// The models that answer now.
    pub models_now: BTreeSet<String>,
    /// Units that it judged both times.
    pub of: u64,
    /// Of these, those with a lower score now.
    pub worse: u64,
    /// Those with a higher one.
    pub better: u64,
    /// Those that passed before.
    pub passed_before: u64,
    /// Those that pass now.
    pub passed_now: u64,
    /// Mean score before.
    pub mean_before: f64,
    /// Mean score now.
    pub mean_now: f64,
    /// ln of the e-value of this run.
    pub log_e: f64,
    /// ln of the evidence of all runs of the period.
    pub log_total: f64,
    /// Its part of the false-alarm budget.
    pub alpha: f64,
    /// Since when it is taken to have moved; none: it is not shown to have.
    pub moved_since: Option<DateTime<Utc>>,
    /// Units that moved most.
    pub examples: Vec<Example>,
}
