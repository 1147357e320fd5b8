//! What happened to a trace, and why: everything that is stored about it, put together.
//!
//! Called by `cli::explain` and the read API. Its rule: it reads what the steps wrote and uses their own code for what would
//! happen, so it cannot tell another story than the worker. The way not taken: logging decisions as text and searching it.

use super::{sample, steps};
use crate::config::Config;
use crate::domain::policy::SampleDecision;
use crate::domain::trace::Trace;
use crate::domain::verdict::Outcome;
use crate::store::sessions::SessionStory;
use crate::store::verdicts::{CLOCKS_APART_MAX, VerdictFilter};
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

/// Verdicts of one trace that are read at most; a trace has one a rubric and version.
const VERDICTS_MAX: i64 = 1_000;

/// The story of a trace.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The trace.
    pub trace_id: String,
    /// Where it is: `unknown`, `open` (spans are still coming), `kept`, `sampled_out`,
    /// `nothing_to_judge` or `too_large`.
    pub state: &'static str,
    /// When it will be assembled, while it is open.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was decided on.
    pub decided_at: Option<DateTime<Utc>>,
    /// What sampling said; for an unknown trace, what it would say to one without labels.
    pub sampling: SampleDecision,
    /// How many traces it stands for, by our sampling and that of samplers before us; absent where it was never to be kept.
    pub weight: Option<f64>,
    /// Spans it was assembled from, and spans that came later.
    pub spans: (i32, i32),
    /// Of the late ones, those that were not put into it.
    pub late_left_out: i32,
    /// Whether its spans and text have gone by retention; what was decided and said of it is told all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// When it was judged again, for what came late.
    pub reopened_at: Option<DateTime<Utc>>,
    /// What is missing in the trace, and why.
    pub gaps: Vec<crate::domain::span::Gap>,
    /// Jobs that still wait: rubric, attempts, when they are tried, the last error.
    pub waiting: Vec<Waiting>,
    /// The session that the trace is part of.
    pub session: Option<SessionStory>,
    /// Current verdicts, newest first, those of its session included.
    pub verdicts: Vec<Value>,
    /// Verdicts whose place others have taken, newest first, each with `superseded_at`.
    pub superseded: Vec<Value>,
}

/// A job that still waits.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// By which rubric it is to be judged.
    pub rubric: String,
    /// Attempts so far.
    pub attempts: i32,
    /// When it is tried (again).
    pub visible_at: DateTime<Utc>,
    /// Why the last attempt did not settle it.
    pub last_error: Option<String>,
}

impl Explanation {
    /// Whether there is anything about the trace.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.state != "unknown"
    }
}

/// Puts the story together; `rubric` keeps only that one's verdicts and jobs.
///
/// # Errors
/// When the database fails.
pub async fn explain(
    store: &Store,
    config: &Config,
    trace_id: &str,
    rubric: Option<&str>,
) -> Result<Explanation, StoreError> {
    let trace_id = trace_id.to_owned();
    let open = store.open_trace(&trace_id).await?;
    let stored = store.trace(&trace_id).await?;
    let filter = VerdictFilter {
        trace_id: Some(trace_id.clone()),
        rubric: rubric.map(str::to_owned),
        // None is older than the decision: says which days need not be looked at.
        since: stored.as_ref().map(|t| t.decided_at - CLOCKS_APART_MAX),
        limit: VERDICTS_MAX,
        ..VerdictFilter::default()
    };
    let session = store.session_story(&trace_id).await?;
    let mut verdicts = store.verdicts(&filter).await?;
    if let Some(story) = &session {
        // Its own are there already where it was the session's latest.
        let filter = VerdictFilter { trace_id: None, session_id: Some(story.key), since: None, ..filter };
        let of_session = store.verdicts(&filter).await?;
        verdicts.extend(of_session.into_iter().filter(|v| v.trace_id != trace_id));
    }
    let superseded = store.superseded(&trace_id, session.as_ref().map(|s| s.key), VERDICTS_MAX).await?;
    let superseded = superseded.into_iter().filter(|(v, _)| rubric.is_none_or(|wanted| wanted == v.rubric));
    let waiting = store.jobs_of_trace(&trace_id).await?;
    let waiting = waiting.into_iter().filter(|(name, ..)| rubric.is_none_or(|wanted| wanted == name));
    let body = stored.as_ref().and_then(|t| serde_json::from_slice::<Trace>(t.body.as_deref()?).ok());
    let sampling = match &stored {
        Some(stored) => stored.decision.clone(),
        None => {
            let trace = Trace { trace_id: trace_id.clone(), ..Trace::default() };
            let step = steps::latest(store, config).await?;
            sample::draw(&config.sampling, &step, &sample::Evidence::default(), &trace).decision
        }
    };
    let state = match (&stored, &open) {
        (Some(t), _) if t.decision.kept => "kept",
        (Some(t), _) if t.decision.rule == super::assemble::NOTHING_TO_JUDGE => "nothing_to_judge",
        (Some(t), _) if t.decision.rule == super::assemble::TOO_LARGE => Outcome::TooLarge.as_str(),
        (Some(_), _) => Outcome::SampledOut.as_str(),
        (None, Some(_)) => "open",
        (None, None) => "unknown",
    };
    Ok(Explanation {
        state,
        due_at: open.filter(|_| stored.is_none()).map(|(_, due)| due),
        decided_at: stored.as_ref().map(|t| t.decided_at),
        weight: sampling.weight(),
        sampling,
        spans: stored.as_ref().map_or((open.map_or(0, |(n, _)| n), 0), |t| (t.span_count, t.late_spans)),
        late_left_out: stored.as_ref().map_or(0, |t| t.late_left_out),
        removed: stored.as_ref().is_some_and(|t| t.decision.kept && t.body.is_none()),
        reopened_at: stored.as_ref().and_then(|t| t.reopened_at),
        gaps: body.map(|trace| trace.view.gaps).unwrap_or_default(),
        waiting: waiting
            .map(|(rubric, attempts, visible_at, last_error)| Waiting { rubric, attempts, visible_at, last_error })
            .collect(),
        session,
        verdicts: verdicts.iter().map(crate::domain::verdict::Verdict::line).collect(),
        superseded: superseded
            .map(|(verdict, at)| {
                let mut line = verdict.line();
                line["superseded_at"] = serde_json::json!(at);
                line
            })
            .collect(),
        trace_id,
    })
}
