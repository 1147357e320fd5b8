//! Step 6: job → `Evaluation`: checks on rayon, votes on tokio, within deadline and bounds.
//!
//! Called by `claim` and `cli::eval`. Its rule: checks come first, and when they decide no judge is asked; judges of a panel are
//! asked at the same time and never see each other's votes; a vote that was paid for is never lost, whatever ends the
//! attempt. The way not taken: one error that throws the panel's good votes away with the bad one.

mod ask;

use crate::app::Bench;
use crate::checks;
use crate::domain::chat::ChatRequest;
use crate::domain::job::Job;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Evaluation, Outcome, Vote};
use crate::judge::panel::{self, FINAL};
use crate::judge::prompt;
use crate::pipeline::aggregate;
use crate::runtime::cpu;
use crate::runtime::retry::Backoff;
use ask::{Failure, ask_judge};
use chrono::{DateTime, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt};
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

/// Evaluates a job.
///
/// # Errors
/// When another attempt may do better; see [`EvalError`].
pub async fn evaluate(
    bench: &Bench,
    rubric: &Arc<Rubric>,
    trace: &Arc<Trace>,
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
    let mut evaluation = Evaluation { checks: run_checks(rubric, trace).await, ..Evaluation::default() };
    if rubric.panel.is_empty() || aggregate::decided_by_check(rubric, &evaluation.checks).is_some() {
        return done(evaluation);
    }
    let request = match ask_for(bench, rubric, trace) {
        Ok(question) => Arc::new(question),
        Err(ended) => return done(Evaluation { ended: Some(ended), ..evaluation }),
    };
    let answers = ask_panel(bench, rubric, job, &request, bounds).await;
    let votes = panel::merge(&rubric.panel, job.votes.clone(), answers.votes);
    if answers.interrupted {
        return Err(EvalError::Interrupted { votes });
    }
    let open = panel::still_to_ask(&rubric.panel, &votes);
    let given = votes.iter().filter(|v| v.score.is_some()).count();
    let enough = bounds.quorum_is_enough && given >= panel::quorum(rubric.panel.len());
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

fn ended(outcome: Outcome, why: &str, votes: Vec<Vote>) -> Evaluation {
    Evaluation { ended: Some((outcome, why.to_owned())), votes, ..Evaluation::default() }
}

async fn run_checks(rubric: &Arc<Rubric>, trace: &Arc<Trace>) -> Vec<crate::domain::verdict::CheckResult> {
    if rubric.checks.is_empty() {
        return Vec::new();
    }
    let (rules, about) = (Arc::clone(rubric), Arc::clone(trace));
    let work = move || rules.checks.iter().map(|spec| checks::run(spec.kind, &about)).collect();
    // A check that panics is a bug; the rubric is judged without checks rather than not at all.
    cpu::run(work).await.unwrap_or_default()
}

/// The request to the panel, or why there is none.
fn ask_for(bench: &Bench, rubric: &Rubric, trace: &Trace) -> Result<(ChatRequest, String), (Outcome, String)> {
    let judges: Vec<_> = rubric.panel.iter().filter_map(|name| bench.judges.get(name)).collect();
    let output = judges.iter().map(|j| j.config.output_tokens_max).min().unwrap_or(1_024);
    let inputs = prompt::inputs(trace);
    let nonce = prompt::nonce(rubric, &inputs, &bench.config.sampling.hash_key);
    let made = prompt::request(rubric, &inputs, &nonce, bench.config.work.input_bytes_max, output);
    let request = made.map(|request| (request, nonce)).map_err(|error| {
        let outcome = match error {
            prompt::PromptError::Missing(_) => Outcome::NotApplicable,
            prompt::PromptError::TooLarge { .. } => Outcome::TooLarge,
            prompt::PromptError::Template { .. } => Outcome::JudgeError,
        };
        (outcome, error.to_string())
    })?;
    // Three bytes a token is on the safe side for every tokenizer we know.
    let bytes: usize = request.0.messages.iter().map(|(_, text)| text.len()).sum();
    let needed = bytes / 3 + output as usize;
    match judges.iter().find(|j| needed > j.config.window_tokens) {
        Some(judge) => Err((
            Outcome::TooLarge,
            format!(
                "about {needed} tokens are needed, judge {} takes {} (window_tokens)",
                judge.name, judge.config.window_tokens
            ),
        )),
        None => Ok(request),
    }
}

struct Answers {
    votes: Vec<Vote>,
    interrupted: bool,
    wait: Option<Duration>,
    /// Every failure was one that counts for nothing.
    free: bool,
}

/// Asks every judge that has not voted yet, at the same time.
async fn ask_panel(
    bench: &Bench,
    rubric: &Rubric,
    job: &Job,
    question: &Arc<(ChatRequest, String)>,
    bounds: &Bounds,
) -> Answers {
    let mut calls: FuturesUnordered<_> = panel::still_to_ask(&rubric.panel, &job.votes)
        .into_iter()
        .map(|name| async move {
            match bench.judges.get(name) {
                Some(judge) => ask_judge(bench, judge, rubric, job, question).await,
                None => {
                    let error = Some(format!("{FINAL}there is no judge `{name}` in the configuration"));
                    (Vote { judge: name.to_owned(), error, ..Vote::default() }, Failure::default())
                }
            }
        })
        .collect();
    let mut answers = Answers { votes: Vec::new(), interrupted: false, wait: None, free: true };
    loop {
        tokio::select! {
            next = calls.next() => match next {
                Some((vote, failure)) => {
                    answers.wait = answers.wait.max(failure.wait);
                    answers.free &= vote.score.is_some() || failure.free;
                    answers.votes.push(vote);
                }
                None => return answers,
            },
            () = bounds.cancel.cancelled() => {
                answers.interrupted = true;
                return answers;
            }
            () = tokio::time::sleep_until(bounds.until) => break,
        }
    }
    // Those that have not answered before the lease runs out have failed this attempt.
    drop(calls);
    let silent = panel::still_to_ask(&rubric.panel, &job.votes)
        .into_iter()
        .filter(|name| answers.votes.iter().all(|v| v.judge != *name));
    let silent: Vec<Vote> = silent
        .map(|name| {
            let error = Some("timeout: no reply before the job's lease ran out (work.lease_ms)".to_owned());
            Vote { judge: name.to_owned(), error, attempts: 1, ..Vote::default() }
        })
        .collect();
    answers.free &= silent.is_empty();
    answers.votes.extend(silent);
    answers
}
