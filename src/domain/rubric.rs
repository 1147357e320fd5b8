//! A rubric: what is judged, by which checks and judges, and when it passes.
//!
//! Read from files by `rubrics`, used by `pipeline`. Its rule: the version is a hash of everything that can change a verdict,
//! and a rubric in memory is always valid. The way not taken: rubrics in the database, edited through an API; files in
//! git have review, history and tests.

pub use super::alert_rule::AlertRule;
use super::policy::Matcher;
use super::unit::{Evaluates, SpanMatcher};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// An input that prompts can use and `requires` can demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// The last user message.
    Question,
    /// The answer's text.
    Answer,
    /// The retrieved documents' text.
    Context,
    /// Earlier messages.
    History,
    /// The system instructions.
    System,
    /// The tools that were offered.
    Tools,
    /// The tools that were run, with results.
    ToolCalls,
    /// The JSON Schema that the answer had to have.
    Schema,
    /// Labels and figures of the trace.
    Metadata,
    /// All turns of a session, in rubrics with `evaluates: session`.
    Conversation,
    /// The claims of the answer, in rubrics with `output: {type: claims}`.
    Claims,
    /// The answer (as `answer`); the interface's word in `requires`.
    Output,
    /// The question (as `question`); the interface's word in `requires`.
    Input,
}

impl Variable {
    /// The names that a prompt may use.
    pub const IN_PROMPTS: [Self; 11] = [
        Self::Question,
        Self::Answer,
        Self::Context,
        Self::History,
        Self::System,
        Self::Tools,
        Self::ToolCalls,
        Self::Schema,
        Self::Metadata,
        Self::Conversation,
        Self::Claims,
    ];

    /// Its name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Answer => "answer",
            Self::Context => "context",
            Self::History => "history",
            Self::System => "system",
            Self::Tools => "tools",
            Self::ToolCalls => "tool_calls",
            Self::Schema => "schema",
            Self::Metadata => "metadata",
            Self::Conversation => "conversation",
            Self::Claims => "claims",
            Self::Output => "output",
            Self::Input => "input",
        }
    }

    /// What it is, for people who write rubrics.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Question | Self::Input => "the last user message",
            Self::Answer | Self::Output => "the output's text",
            Self::Context => "the documents that have text, each as `[id] text`",
            Self::History => "earlier messages, a line each",
            Self::System => "the system instructions",
            Self::Tools => "tools that were offered, as JSON",
            Self::ToolCalls => "tools that were run, in order, with arguments, results and errors, as JSON",
            Self::Schema => "the JSON Schema that was asked for",
            Self::Metadata => {
                "labels and figures of the trace as JSON: service, environment, feature, prompt, model, tenant, status, \
                 finish_reason, latency_ms, tags, those that are known"
            }
            Self::Conversation => {
                "all turns of the session, oldest first, with the tools that were run; a line says what is left out where it is \
                 longer than the judges' windows; only with `evaluates: session`"
            }
            Self::Claims => "the claims of the answer, a line each with its id; only with `output: {type: claims}`",
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The checks that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Is the answer JSON, and does it fit the requested schema?
    JsonValidity,
    /// Did the assistant answer at all?
    FailureToAnswer,
    /// Is the answer supported by the context?
    Grounding,
    /// Has the answer the form that the rubric asks for?
    Format,
    /// Were the tools known, called with valid arguments, in order, without loops, and errors heeded?
    ToolUse,
    /// Did the trace stay within its limits of time, cost, tokens and retrieval?
    Limits,
    /// Do citations point at what was retrieved, and do links occur in it?
    Citations,
    /// Does the input, or a retrieved document, try to take over the assistant?
    PromptInjection,
    /// Is there personal data or a secret in the question or the answer?
    PersonalData,
    /// Is the answer in the question's language?
    LanguageMatch,
    /// Is the answer abusive?
    Toxicity,
}

impl CheckKind {
    /// All checks, by name.
    pub const ALL: &[Self] = &[
        Self::JsonValidity,
        Self::FailureToAnswer,
        Self::Grounding,
        Self::Format,
        Self::ToolUse,
        Self::Limits,
        Self::Citations,
        Self::PromptInjection,
        Self::PersonalData,
        Self::LanguageMatch,
        Self::Toxicity,
    ];

    /// Its name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonValidity => "json_validity",
            Self::FailureToAnswer => "failure_to_answer",
            Self::Grounding => "grounding",
            Self::Format => "format",
            Self::ToolUse => "tool_use",
            Self::Limits => "limits",
            Self::Citations => "citations",
            Self::PromptInjection => "prompt_injection",
            Self::PersonalData => "personal_data",
            Self::LanguageMatch => "language_match",
            Self::Toxicity => "toxicity",
        }
    }

    /// The check of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// A check's own options as they stand in the file; `checks::check_options` has approved them.
pub type CheckOptions = serde_json::Map<String, Value>;

/// A check in a rubric, with the scores at which it decides by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Which.
    pub kind: CheckKind,
    /// Below this score the rubric fails and no judge is asked.
    pub fail_below: Option<f64>,
    /// Above this score the rubric passes and no judge is asked.
    pub pass_above: Option<f64>,
    /// What the check itself is told: patterns, limits, what counts.
    #[serde(default, skip_serializing_if = "CheckOptions::is_empty")]
    pub options: CheckOptions,
}

/// What a judge is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// A number in a range.
    Score {
        /// Lowest and highest; default 0 to 1.
        #[serde(default = "unit_range")]
        range: (f64, f64),
        /// Which end is good.
        #[serde(default)]
        better: Better,
    },
    /// Yes or no; yes is good unless `better: lower`.
    Boolean {
        /// Whether `true` (higher) or `false` (lower) is good.
        #[serde(default)]
        better: Better,
    },
    /// One of these labels, each with its score in [0,1].
    Category {
        /// Label to score.
        values: BTreeMap<String, f64>,
    },
    /// The answer's claims, each with a verdict of its own; the score is the share of good ones.
    Claims {
        /// Which claims count against the answer.
        #[serde(default)]
        against: Against,
    },
}

/// Which claims count against an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// Those that the context does not support, contradicted ones included.
    #[default]
    Unsupported,
    /// Only those that the context contradicts.
    Contradicted,
}

/// The kind of an output, without its details.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// A number.
    #[default]
    Score,
    /// Yes or no.
    Boolean,
    /// A label.
    Category,
}

impl Output {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::Score { .. } | Self::Claims { .. } => OutputKind::Score,
            Self::Boolean { .. } => OutputKind::Boolean,
            Self::Category { .. } => OutputKind::Category,
        }
    }
}

fn unit_range() -> (f64, f64) {
    (0.0, 1.0)
}

impl Default for Output {
    fn default() -> Self {
        Self::Score { range: unit_range(), better: Better::Higher }
    }
}

/// Which way is good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    #[default]
    Higher,
    /// Less is better.
    Lower,
}

/// How votes become one score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Most judges' side of the pass mark; the score is the mean of that side.
    Majority,
    /// The middle score.
    Median,
    /// The mean score.
    #[default]
    Mean,
    /// The mean, weighted by the judges' configured weights.
    Weighted,
    /// The score of the judge with the greatest weight.
    Strongest,
}

/// When the judges of a panel are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// All at the same time.
    #[default]
    Together,
    /// One after another, the cheapest first, until the verdict cannot change any more or is sure enough.
    InTurn,
}

/// True for what a version hash leaves out, so that a new key does not change the version of rubrics without it.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a trace must have for the rubric to be about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AppliesWhen {
    /// Inputs that must be present, else the rubric is not applicable.
    pub requires: Vec<Variable>,
    /// Labels that must fit, else the trace is filtered.
    pub labels: Matcher,
    /// Which spans are judged; for a rubric about traces, which one must be there.
    #[serde(default, skip_serializing_if = "SpanMatcher::is_empty")]
    pub spans: SpanMatcher,
}

/// A few-shot example shown to the judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Inputs by variable name.
    pub input: BTreeMap<String, String>,
    /// The right verdict: a number, a boolean or a label.
    pub verdict: Value,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A rubric, checked and ready.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rubric {
    /// Its name; also the label in Datadog.
    pub name: String,
    /// A title for people.
    pub title: String,
    /// `sha256:` and 12 hex digits of everything that can change a verdict.
    pub version: String,
    /// What one verdict is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub evaluates: Evaluates,
    /// Spans of one trace that are judged at most; `None` is [`super::unit::SPANS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spans_max: Option<u32>,
    /// When it is about a trace.
    pub applies_when: AppliesWhen,
    /// Share of the kept traces that it judges, 0 to 1.
    pub sample: f64,
    /// Deterministic checks, in order.
    pub checks: Vec<CheckSpec>,
    /// Names of the judges; empty for a rubric that only checks decide.
    pub panel: Vec<String>,
    /// How votes are combined.
    pub combine: Combine,
    /// Whether the judges are asked at the same time or one after another.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ask: Ask,
    /// Ask no further judge once the verdict is this sure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<f64>,
    /// Whether every second judge sees lists (documents, tools, labels) in the opposite order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub swap_positions: bool,
    /// Where the judging is not urgent: hours within which a provider's batch may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_hours: Option<f64>,
    /// Whether users' thumbs and ratings that name no rubric are labels of this one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub feedback: bool,
    /// When a drop is worth an alert.
    #[serde(default, skip_serializing_if = "is_default")]
    pub alert: AlertRule,
    /// What judges are asked for.
    pub output: Output,
    /// Whether a judge may say that it cannot tell.
    #[serde(default, skip_serializing_if = "is_default")]
    pub abstain: bool,
    /// The score from which on it passes.
    pub pass: f64,
    /// Template of the question to the judges.
    pub prompt: Option<String>,
    /// Few-shot examples.
    pub examples: Vec<Example>,
    /// The file's text, stored so that every version that ever judged can be read again.
    pub source: String,
}
