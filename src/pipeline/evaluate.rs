//! Step 6: job → `Evaluation`: checks on rayon, votes on tokio, within deadline and bounds.
//!
//! Called by `claim` and `cli::eval`. Its rule: checks come first, and when they decide no judge is asked; judges of a panel are
//! asked at the same time and never see each other's votes; a vote that was paid for is never lost, whatever ends the
//! attempt. The way not taken: one error that throws the panel's good votes away with the bad one.

use crate::app::Bench;
use crate::checks;
use crate::domain::chat::{ChatError, ChatReply, ChatRequest};
use crate::domain::ids::nonce;
use crate::domain::job::Job;
use crate::domain::message::Usage;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Evaluation, Outcome, Vote, VoteTokens};
use crate::judge::panel::{self, FINAL};
use crate::judge::{prompt, reply};
use crate::llm::judges::JudgeHandle;
use crate::pipeline::aggregate;
use crate::runtime::cpu;
use crate::runtime::retry::Backoff;
use chrono::{DateTime, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
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
                let wait = backoff.wait(job.attempts.cast_unsigned(), *asked, job.id.as_bytes());
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
        return done(ended(Outcome::Expired, "it waited longer than work.job_seconds_max", job.votes.clone()));
    }
    let mut evaluation = Evaluation { checks: run_checks(rubric, trace).await, ..Evaluation::default() };
    if rubric.panel.is_empty() || aggregate::decided_by_check(rubric, &evaluation.checks).is_some() {
        return done(evaluation);
    }
    let request = match ask_for(bench, rubric, trace, job) {
        Ok(request) => Arc::new(request),
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
fn ask_for(bench: &Bench, rubric: &Rubric, trace: &Trace, job: &Job) -> Result<ChatRequest, (Outcome, String)> {
    let judges: Vec<_> = rubric.panel.iter().filter_map(|name| bench.judges.get(name)).collect();
    let output = judges.iter().map(|j| j.config.output_tokens_max).min().unwrap_or(1_024);
    let inputs = prompt::inputs(trace);
    let nonce = nonce(job.id, &bench.config.sampling.hash_key);
    let made = prompt::request(rubric, &inputs, &nonce, bench.config.work.input_bytes_max, output);
    let request = made.map_err(|error| {
        let outcome = match error {
            prompt::PromptError::Missing(_) => Outcome::NotApplicable,
            prompt::PromptError::TooLarge { .. } => Outcome::TooLarge,
            prompt::PromptError::Template { .. } => Outcome::JudgeError,
        };
        (outcome, error.to_string())
    })?;
    // Three bytes a token is on the safe side for every tokenizer we know.
    let bytes: usize = request.messages.iter().map(|(_, text)| text.len()).sum();
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
async fn ask_panel(bench: &Bench, rubric: &Rubric, job: &Job, request: &Arc<ChatRequest>, bounds: &Bounds) -> Answers {
    let mut calls: FuturesUnordered<_> = panel::still_to_ask(&rubric.panel, &job.votes)
        .into_iter()
        .map(|name| async move {
            match bench.judges.get(name) {
                Some(judge) => ask_judge(bench, judge, rubric, job, request).await,
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

/// How the last request to a judge failed.
#[derive(Debug, Clone, Copy, Default)]
struct Failure {
    wait: Option<Duration>,
    free: bool,
}

/// Asks one judge, a bounded number of times within this attempt.
async fn ask_judge(
    bench: &Bench,
    judge: &JudgeHandle,
    rubric: &Rubric,
    job: &Job,
    request: &ChatRequest,
) -> (Vote, Failure) {
    let config = &bench.config.work;
    let start = Instant::now();
    let mut vote = Vote {
        judge: judge.name.clone(),
        model: judge.config.model.clone(),
        prompt_hash: prompt::hash(request),
        params: json!({"temperature": judge.config.temperature, "output_tokens_max": request.output_tokens_max}),
        ..Vote::default()
    };
    let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(2) };
    let mut failure = Failure::default();
    loop {
        judge.admit().await;
        let sent = Instant::now();
        let answer = judge.model.ask(request).await;
        vote.attempts += 1;
        count(bench, judge, sent, &answer);
        let (error, again) = match answer {
            Ok(reply) => match take(&mut vote, judge, rubric, &reply) {
                Ok(()) => break,
                // A judge that declines or runs out of room would do so again.
                Err((error, again)) => (error, again),
            },
            Err(error) => {
                failure = Failure { wait: error.retry_after(), free: error.is_no_attempt() };
                let again = error.can_pass() && !error.is_no_attempt();
                judge.note(&error, bench.clock.now());
                let text = if error.can_pass() { error.to_string() } else { format!("{FINAL}{error}") };
                (text, again)
            }
        };
        vote.error = Some(error);
        if !again || vote.attempts >= config.requests_per_attempt_max {
            break;
        }
        tokio::time::sleep(backoff.wait(vote.attempts, failure.wait, job.id.as_bytes())).await;
    }
    vote.latency_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    (vote, failure)
}

fn count(bench: &Bench, judge: &JudgeHandle, sent: Instant, answer: &Result<ChatReply, ChatError>) {
    let result = match answer {
        Ok(_) => "ok",
        Err(ChatError::Timeout(_)) => "timeout",
        Err(ChatError::RateLimited { .. }) => "rate_limited",
        Err(ChatError::Unreachable(_)) => "unreachable",
        Err(ChatError::Server { .. }) => "server_error",
        Err(ChatError::Unusable { .. }) => "unusable",
        Err(ChatError::Rejected { .. }) => "rejected",
        Err(ChatError::Unreadable(_)) => "unreadable",
    };
    let metrics = &bench.metrics;
    metrics.judge_requests.with_label_values(&[judge.name.as_str(), result]).inc();
    metrics.judge_seconds.with_label_values(&[judge.name.as_str()]).observe(sent.elapsed().as_secs_f64());
}

/// Takes a reply into the vote; the error says whether asking again may help.
fn take(vote: &mut Vote, judge: &JudgeHandle, rubric: &Rubric, reply: &ChatReply) -> Result<(), (String, bool)> {
    spend(vote, judge, &reply.usage);
    if !reply.model.is_empty() {
        vote.model.clone_from(&reply.model);
    }
    if reply.refusal.is_some() || reply.finish_reason.as_deref() == Some("content_filter") {
        return Err((format!("{FINAL}the judge declined"), false));
    }
    match reply::read(&reply.content, &rubric.output) {
        Ok(understood) => {
            vote.score = Some(understood.score);
            vote.raw = understood.raw;
            vote.label = understood.label;
            vote.reason = understood.reason;
            understood.rung.clone_into(&mut vote.rung);
            vote.error = None;
            Ok(())
        }
        Err(_) if reply.finish_reason.as_deref() == Some("length") => {
            Err(("unreadable reply: it was cut off (output_tokens_max)".to_owned(), true))
        }
        Err(why) => Err((format!("unreadable reply: {why}"), true)),
    }
}

fn spend(vote: &mut Vote, judge: &JudgeHandle, usage: &Usage) {
    let before = vote.tokens;
    vote.tokens = VoteTokens { input: before.input + usage.input_tokens, output: before.output + usage.output_tokens };
    vote.cost_usd += judge.cost(usage);
}
