//! Step 6: job → `Evaluation`: checks on rayon, votes on tokio, within deadline and bounds.
//!
//! Called by `claim` and `cli::eval`; `evaluate/question` is what is asked, `turns` who is asked when, `ask` one judge, `talk` the
//! requests to it, `claims` an answer claim by claim. Its rule: checks come first, and when they decide no judge is asked;
//! judges never see each other's votes; a vote that was paid for is never lost, whatever ends the attempt. The way not taken: one error that throws the panel's good votes away with the bad one.

mod ask;
mod batched;
mod claims;
mod question;
mod talk;
mod turns;

use crate::app::Bench;
use crate::checks;
use crate::domain::job::Job;
use crate::domain::rubric::{Output, Rubric};
use crate::domain::trace::Trace;
use crate::domain::verdict::{Evaluation, Outcome, Vote};
use crate::judge::panel;
use crate::llm::tokens;
use crate::pipeline::aggregate;
use crate::runtime::cpu;
use crate::runtime::retry::Backoff;
use chrono::{DateTime, Utc};
use question::Question;
pub use question::{Preview, preview};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An attempt that did not end in an evaluation. What was paid for is in `votes`.
#[derive(Debug)]
pub enum EvalError {
    /// Judges failed in a way that may pass.
    Judges {
        /// Votes so far, failed ones included.
        votes: Vec<Vote>,
        /// Why, in our own words.
        reason: String,
        /// The longest wait that an endpoint asked for.
        asked: Option<Duration>,
        /// Whether it counts as an attempt: not when every open judge was too busy or must be repaired first.
        counts: bool,
    },
    /// We are stopping, or the lease is about to run out.
    Interrupted {
        /// Votes so far.
        votes: Vec<Vote>,
    },
}

/// What is to be done with the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again then.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// Whether the attempt counts.
        counts: bool,
    },
    /// Give the attempt back.
    Interrupted,
}

impl EvalError {
    /// Votes that must not be bought again.
    #[must_use]
    pub fn into_votes(self) -> Vec<Vote> {
        match self {
            Self::Judges { votes, .. } | Self::Interrupted { votes } => votes,
        }
    }

    /// Why, for the job's row.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Judges { reason, .. } => Some(reason.clone()),
            Self::Interrupted { .. } => None,
        }
    }

    /// What is to be done.
    #[must_use]
    pub fn disposition(&self, job: &Job, backoff: Backoff, now: DateTime<Utc>) -> Disposition {
        match self {
            Self::Interrupted { .. } => Disposition::Interrupted,
            Self::Judges { asked, counts, .. } => {
                // Held-up attempts are given back, so their number says nothing; the job's age does.
                let age = (now - job.enqueued_at).to_std().unwrap_or_default();
                let aged = asked.unwrap_or_default().max((age / 10).min(backoff.longest));
                let asked = if *counts { *asked } else { Some(aged) };
                let wait = backoff.wait(job.attempts.cast_unsigned(), asked, job.id.as_bytes());
                Disposition::Retry { at: now + wait, counts: *counts }
            }
        }
    }
}

/// Where an attempt must end.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Cancelled at a hard stop.
    pub cancel: CancellationToken,
    /// Before the lease runs out.
    pub until: Instant,
    /// Whether this is the last attempt, which ends in an evaluation whatever happens.
    pub last: bool,
    /// Whether there is no other attempt whatever happens (a file is judged, not a queue).
    pub only: bool,
    /// Whether a quorum of the panel is enough by now.
    pub quorum_is_enough: bool,
}

/// Evaluates a job. The trace is let go before the judges are asked.
///
/// # Errors
/// When another attempt may do better; see [`EvalError`].
pub async fn evaluate(
    bench: &Bench,
    rubric: &Arc<Rubric>,
    trace: Arc<Trace>,
    job: &Job,
    bounds: &Bounds,
) -> Result<Evaluation, EvalError> {
    let start = Instant::now();
    let done = |evaluation: Evaluation| {
        let latency_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
        Ok(Evaluation { latency_ms, ..evaluation })
    };
    if bench.clock.now() > job.deadline_at {
        let given = job.votes.iter().filter(|v| v.score.is_some()).count();
        if !rubric.panel.is_empty() && given >= panel::quorum(rubric.panel.len()) {
            return done(Evaluation { votes: job.votes.clone(), ..Evaluation::default() });
        }
        return done(ended(Outcome::Expired, "it waited longer than work.job_seconds_max", job.votes.clone()));
    }
    let mut evaluation = Evaluation { checks: run_checks(rubric, &trace).await, ..Evaluation::default() };
    if rubric.panel.is_empty() || aggregate::decided_by_check(rubric, &evaluation.checks).is_some() {
        return done(evaluation);
    }
    let question = match Question::new(bench, rubric, &trace) {
        Ok(question) => question,
        Err(ended) => return done(Evaluation { ended: Some(ended), ..evaluation }),
    };
    drop(trace);
    let answers = turns::ask_panel(bench, &question, job, bounds).await;
    let votes = panel::merge(&rubric.panel, job.votes.clone(), answers.votes);
    if answers.interrupted {
        return Err(EvalError::Interrupted { votes });
    }
    evaluation.stopped = answers.stopped;
    let open = panel::still_to_ask(&rubric.panel, &votes);
    let given = votes.iter().filter(|v| v.score.is_some()).count();
    // A batch that is under way is paid for; the job waits for it as long as the rubric says.
    let waiting = votes.iter().any(batched::waits_for_batch);
    let quorum = bounds.quorum_is_enough && !waiting && given >= panel::quorum(rubric.panel.len());
    let enough = quorum || answers.stopped.is_some();
    let counts = !answers.free;
    let give_up = bounds.last && (counts || bounds.only);
    if !open.is_empty() && !enough && !give_up {
        let failed = votes.iter().filter_map(|v| Some(format!("{}: {}", v.judge, v.error.as_deref()?)));
        let reason = failed.collect::<Vec<_>>().join("; ");
        return Err(EvalError::Judges { votes, reason, asked: answers.wait, counts });
    }
    evaluation.votes = votes;
    done(evaluation)
}

/// What asking a panel would come to.
#[derive(Debug, Clone, Default)]
pub struct Foreseen {
    /// Whether a check decides, so that nobody is asked.
    pub by_check: bool,
    /// For each judge the key of its vote in the cache, and what the vote costs about, in US dollars; absent when its price or the
    /// number of its requests is unknown.
    pub votes: Vec<(String, Option<f64>)>,
}

/// Tokens that a judge's reply is taken to have: a reason of two sentences and the verdict.
const REPLY_TOKENS: f64 = 80.0;

/// What judging would ask and cost, without asking; `None` when it could not be asked.
#[must_use]
pub fn foresee(bench: &Bench, rubric: &Arc<Rubric>, trace: &Trace) -> Option<Foreseen> {
    let found = checks::run_all(&rubric.checks, trace);
    if rubric.panel.is_empty() || aggregate::decided_by_check(rubric, &found).is_some() {
        return Some(Foreseen { by_check: true, ..Foreseen::default() });
    }
    let question = Question::new(bench, rubric, trace).ok()?;
    let claims = matches!(rubric.output, Output::Claims { .. });
    let one = |seat: &String| {
        let judge = bench.judges.get(seat)?;
        let request = question.request(seat, &crate::domain::rung::Traits::default());
        let tokens: usize = request.messages.iter().map(|(_, text)| tokens::count(&judge.config.model, text)).sum();
        let price = judge.price.filter(|_| !claims);
        let usd =
            price.map(|p| (tokens as f64 * p.input_usd_per_million + REPLY_TOKENS * p.output_usd_per_million) / 1e6);
        Some((question.cache_key(seat, judge), usd))
    };
    Some(Foreseen { by_check: false, votes: rubric.panel.iter().filter_map(one).collect() })
}

fn ended(outcome: Outcome, why: &str, votes: Vec<Vote>) -> Evaluation {
    Evaluation { ended: Some((outcome, why.to_owned())), votes, ..Evaluation::default() }
}

/// The results of a rubric's checks.
pub(super) async fn run_checks(rubric: &Arc<Rubric>, trace: &Arc<Trace>) -> Vec<crate::domain::verdict::CheckResult> {
    if rubric.checks.is_empty() {
        return Vec::new();
    }
    let (rules, about) = (Arc::clone(rubric), Arc::clone(trace));
    let work = move || checks::run_all(&rules.checks, &about);
    // A check that panics is a bug; the rubric is judged without checks rather than not at all.
    cpu::run(work).await.unwrap_or_default()
}
