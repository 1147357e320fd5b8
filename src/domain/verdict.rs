//! What judging a trace gave: check results, votes, and the verdict made of them.
//!
//! Built by `checks`, `judge` and `pipeline`, stored by `store::verdicts`, sent out by `sinks`. Its rule: a score exists only
//! where the outcome is `scored`; every way of not having one has its own outcome. The way not taken: a zero, a NaN
//! or a missing row for a judge that failed, which is what users of other systems complain of most.

mod line;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// How the judging of one trace by one rubric ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has a score.
    Scored,
    /// The rubric says nothing about this trace, or an input that it needs is missing.
    NotApplicable,
    /// The rubric's `applies_when` leaves the trace out.
    Filtered,
    /// Sampling left it out.
    SampledOut,
    /// The judges failed, or their replies could not be read.
    JudgeError,
    /// A budget was spent.
    OverBudget,
    /// It does not fit the judge's window or our size limits.
    TooLarge,
    /// It waited longer than it is worth.
    Expired,
}

impl Outcome {
    /// All outcomes, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Scored,
        Self::NotApplicable,
        Self::Filtered,
        Self::SampledOut,
        Self::JudgeError,
        Self::OverBudget,
        Self::TooLarge,
        Self::Expired,
    ];

    /// The name used on every wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::NotApplicable => "not_applicable",
            Self::Filtered => "filtered",
            Self::SampledOut => "sampled_out",
            Self::JudgeError => "judge_error",
            Self::OverBudget => "over_budget",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
        }
    }

    /// The outcome of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// What a deterministic check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The problem is not there.
    Pass,
    /// The problem is there.
    Fail,
    /// The trace has nothing that this check is about.
    NotApplicable,
}

/// The result of one deterministic check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The check's name.
    pub check: String,
    /// What it found.
    pub finding: Finding,
    /// In [0,1], 1 = good; absent when not applicable.
    pub score: Option<f64>,
    /// Evidence: categories, counts and character positions.
    pub detail: Value,
}

impl CheckResult {
    /// A result with a score; the finding follows from `passed`.
    #[must_use]
    pub fn new(check: &str, passed: bool, score: f64, detail: Value) -> Self {
        let finding = if passed { Finding::Pass } else { Finding::Fail };
        Self { check: check.to_owned(), finding, score: Some(score), detail }
    }

    /// A result that says the check is not about this trace, and why.
    #[must_use]
    pub fn not_applicable(check: &str, why: &str) -> Self {
        let detail = serde_json::json!({ "reason": why });
        Self { check: check.to_owned(), finding: Finding::NotApplicable, score: None, detail }
    }
}

/// Tokens of one judge call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VoteTokens {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens, reasoning included.
    pub output: u64,
    /// Of the prompt tokens, those that the provider had cached.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_input: u64,
    /// Of the completion tokens, those that the model thought with.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl std::ops::AddAssign for VoteTokens {
    fn add_assign(&mut self, more: Self) {
        self.input += more.input;
        self.output += more.output;
        self.cached_input += more.cached_input;
        self.reasoning += more.reasoning;
    }
}

/// What one judge said, or why it said nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vote {
    /// The judge's name in the configuration.
    pub judge: String,
    /// The model that answered, as it names itself; else the one that was asked.
    pub model: String,
    /// In [0,1], 1 = good; absent when the judge failed or abstained.
    pub score: Option<f64>,
    /// The score on the rubric's own scale, the boolean or the label, as the judge gave it.
    pub raw: Value,
    /// The label, for boolean and category rubrics.
    pub label: Option<String>,
    /// The judge's reason.
    pub reason: Option<String>,
    /// Tokens of all attempts together, failed ones included.
    pub tokens: VoteTokens,
    /// Cost of all attempts together, by the configured prices, in US dollars.
    pub cost_usd: f64,
    /// From the first request to the last reply, in milliseconds.
    pub latency_ms: i64,
    /// How the answer was structured: `json_schema`, `json_text`.
    pub rung: String,
    /// Why there is no score: `timeout`, `rate_limited`, `unreadable reply: …`.
    pub error: Option<String>,
    /// Hash of the exact messages that were sent.
    pub prompt_hash: String,
    /// The parameters that were sent (temperature, limits, …).
    pub params: Value,
    /// Requests made for this vote.
    pub attempts: u32,
    /// Hash of the exact question: endpoint, model, parameters and messages; empty when the vote may not be cached.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
    /// Whether the vote was taken from the cache, and so cost nothing.
    pub cached: bool,
    /// Whether the reply came in a provider's batch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batched: bool,
    /// The fallback that answered in the judge's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stood_in: Option<String>,
    /// Why the judge has nothing to say about this trace; it then counts neither for nor against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// More about how it came about: claims with their evidence, probabilities of the score's tokens, what was not read.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl Vote {
    /// Whether there is nothing more to ask this judge: it voted, abstained, or failed for good.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.score.is_some() || self.abstained.is_some() || self.error.as_deref().is_some_and(|e| e.starts_with(FINAL))
    }
}

/// Marks errors that no retry can heal, at the start of a vote's error text.
pub const FINAL: &str = "final: ";

/// How the error of a vote begins that no budget was left for.
pub const OVER_BUDGET: &str = "over_budget";

/// The labels of a trace that travel with its verdicts, for grouping.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceLabels {
    /// Service.
    pub service: Option<String>,
    /// Service version.
    pub service_version: Option<String>,
    /// Environment.
    pub environment: Option<String>,
    /// Feature.
    pub feature: Option<String>,
    /// Prompt name.
    pub prompt_name: Option<String>,
    /// Prompt version.
    pub prompt_version: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Tenant.
    pub tenant: Option<String>,
}

/// The ids under which Datadog knows the span that a verdict is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinIds {
    /// `otel`, `datadog` or `native`.
    pub source: super::span::IdSource,
    /// Id of the span that is judged (the root, for a whole trace), as it was received.
    pub span_id: String,
}

/// Everything that evaluating one job gave, before it is made a verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Results of the rubric's checks, in its order.
    pub checks: Vec<CheckResult>,
    /// Votes, in the panel's order.
    pub votes: Vec<Vote>,
    /// Set when something other than votes decided: an input is missing, the trace is too large, time ran out.
    pub ended: Option<(Outcome, String)>,
    /// Why not all judges of the panel were asked, where they were not.
    pub stopped: Option<Stopped>,
    /// Wall time, in milliseconds.
    pub latency_ms: i64,
}

/// Why a panel was not asked to the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stopped", rename_all = "snake_case")]
pub enum Stopped {
    /// Whatever the others said, the verdict would be the same.
    Decided {
        /// Judges asked.
        asked: usize,
        /// Judges of the panel.
        of: usize,
    },
    /// The votes so far are sure enough, by the judges' known error rates.
    Sure {
        /// Judges asked.
        asked: usize,
        /// Judges of the panel.
        of: usize,
        /// Probability that the verdict is right.
        sure: f64,
    },
}

/// What one rubric says about one trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The job's id; there is one verdict for each.
    pub id: Uuid,
    /// The trace.
    pub trace_id: String,
    /// The span, for rubrics that judge spans.
    pub span_id: Option<String>,
    /// The session, for rubrics that judge sessions; the trace is then its latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<super::unit::SessionRef>,
    /// Since when another verdict stands in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_at: Option<DateTime<Utc>>,
    /// The rubric's name.
    pub rubric: String,
    /// Hash of what the rubric said.
    pub rubric_version: String,
    /// What the rubric asks for.
    pub kind: super::rubric::OutputKind,
    /// How it ended.
    pub outcome: Outcome,
    /// In [0,1], 1 = good; present exactly when the outcome is `scored`.
    pub score: Option<f64>,
    /// On the rubric's own scale.
    pub raw: Value,
    /// The label, for boolean and category rubrics.
    pub label: Option<String>,
    /// Whether the rubric's pass rule is met.
    pub passed: Option<bool>,
    /// How sure the verdict is, in [0,1]: agreement of the votes, or the margin of the check that decided.
    pub confidence: Option<f64>,
    /// Mean distance between two votes, 0 (all alike) to 1; absent with fewer than two.
    pub disagreement: Option<f64>,
    /// How the panel was asked: why it stopped before all its judges were asked (`panel`).
    pub detail: Value,
    /// Why, in words.
    pub explanation: String,
    /// `check` or `panel`; absent when nothing decided.
    pub decided_by: Option<String>,
    /// Results of the checks.
    pub checks: Vec<CheckResult>,
    /// Votes of the judges.
    pub votes: Vec<Vote>,
    /// Cost of all votes, in US dollars.
    pub cost_usd: f64,
    /// Wall time of the evaluation, in milliseconds.
    pub latency_ms: i64,
    /// Probability with which this trace and rubric were to be judged, of all traces received.
    pub inclusion_probability: f64,
    /// The trace's labels.
    pub trace: TraceLabels,
    /// Ids for joining in Datadog.
    pub join: JoinIds,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Verdict {
    /// The verdict as one JSON object: the form of `eval --out` and of the read API (a fixed interface).
    #[must_use]
    pub fn line(&self) -> Value {
        let checks: serde_json::Map<String, Value> = self
            .checks
            .iter()
            .map(|c| (c.check.clone(), serde_json::json!({"finding": c.finding, "score": c.score, "detail": c.detail})))
            .collect();
        let mut line = serde_json::json!({
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "rubric": self.rubric,
            "rubric_version": self.rubric_version,
            "outcome": self.outcome,
            "score": self.score,
            "raw": self.raw,
            "label": self.label,
            "passed": self.passed,
            "confidence": self.confidence,
            "disagreement": self.disagreement,
            "detail": self.detail,
            "explanation": self.explanation,
            "decided_by": self.decided_by,
            "checks": checks,
            "votes": self.votes,
            "cost_usd": self.cost_usd,
            "latency_ms": self.latency_ms,
            "inclusion_probability": self.inclusion_probability,
            "trace": self.trace,
            "created_at": self.created_at,
        });
        if let Some(session) = &self.session {
            line["session"] = Value::from(session.session.as_str());
        }
        if let Some(at) = self.superseded_at {
            line["superseded_at"] = serde_json::json!(at);
        }
        line
    }
}
