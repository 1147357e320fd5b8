//! One judge's vote: from the cache, out of a batch, or asked for; by the judge itself or by its fallback.
//!
//! Called by `turns` for each seat of a panel. Its rule: a judge that is paused or whose endpoint fails is not asked, and the
//! vote says so; whoever answers, the vote stands in the seat's name. The way not taken: a fallback that silently changes
//! which model judged.

use super::question::Question;
use super::talk::Talk;
use super::{batched, claims};
use crate::app::Bench;
use crate::domain::chat::{ChatReply, ChatRequest};
use crate::domain::job::Job;
use crate::domain::rubric::{Output, Rubric};
use crate::domain::rung::{Rung, Traits};
use crate::domain::verdict::{FINAL, Vote, VoteTokens};
use crate::judge::{logprobs, reply};
use crate::llm::judges::JudgeHandle;
use crate::llm::tokens;
use crate::runtime::cpu;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How the last request to a judge failed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failure {
    /// The wait that is asked for.
    pub wait: Option<Duration>,
    /// Whether it counts for nothing.
    pub free: bool,
}

/// Asks the judge in a seat.
pub(super) async fn ask_judge(bench: &Bench, question: &Question, job: &Job, seat: &str) -> (Vote, Failure) {
    let vote = Vote { judge: seat.to_owned(), ..Vote::default() };
    let Some(judge) = bench.judges.get(seat) else {
        let error = Some(format!("{FINAL}there is no judge `{seat}` in the configuration"));
        return (Vote { error, ..vote }, Failure::default());
    };
    // What a canary is asked for is what the judge says today.
    let cache = bench.cache().filter(|_| !job.canary);
    let cache_key = cache.map(|_| question.cache_key(seat, judge)).unwrap_or_default();
    if let Some(vote) = cached(bench, judge, &cache_key).await {
        return (Vote { judge: seat.to_owned(), ..vote }, Failure::default());
    }
    let start = Instant::now();
    let vote = Vote { model: judge.config.model.clone(), cache_key, ..vote };
    let (mut vote, failure) = in_seat(bench, question, job, (judge, vote)).await;
    vote.latency_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    (vote, failure)
}

/// The vote of a judge out of its batch, or its own, or its fallback's.
async fn in_seat(
    bench: &Bench,
    question: &Question,
    job: &Job,
    (judge, vote): (&Arc<JudgeHandle>, Vote),
) -> (Vote, Failure) {
    let claims = matches!(question.rubric.output, Output::Claims { .. });
    let mut talk = Talk::new(bench, judge, question, job, vote);
    // Before anybody asks whether the judge can be asked now: a reply that is there needs no request.
    if !claims && batched::settles(&mut talk).await {
        return (talk.vote, talk.failure);
    }
    let seat = judge.name.as_str();
    let mut vote = talk.vote;
    let judge = match sits(bench, &question.rubric, judge) {
        Ok(judge) => judge,
        Err((error, failure)) => return (Vote { error: Some(error), ..vote }, failure),
    };
    if judge.name != seat {
        // A fallback's vote is not the answer of the judge that was asked for.
        vote.cache_key.clear();
        vote.model.clone_from(&judge.config.model);
        vote.stood_in = Some(judge.name.clone());
    }
    let mut talk = Talk::new(bench, judge, question, job, vote);
    if claims {
        claims::ask(&mut talk).await;
    } else {
        ask_plainly(&mut talk, seat).await;
    }
    (talk.vote, talk.failure)
}

/// Who answers for this judge: itself, or its fallback while it is paused or its endpoint fails.
fn sits<'a>(
    bench: &'a Bench,
    rubric: &Rubric,
    judge: &'a Arc<JudgeHandle>,
) -> Result<&'a Arc<JudgeHandle>, (String, Failure)> {
    let now = bench.clock.now();
    let unfit = |judge: &JudgeHandle| {
        if let Some(pause) = judge.paused(now) {
            let wait = pause.probe_at.and_then(|at| (at - now).to_std().ok()).unwrap_or(Duration::from_secs(60));
            return Some((format!("paused: {}", pause.reason), Failure { wait: Some(wait), free: true }));
        }
        let (wait, why) = judge.circuit.check().err()?;
        let error = format!("circuit_open: the endpoint failed many times in a row, last: {why}");
        Some((error, Failure { wait: Some(wait), free: false }))
    };
    let Some(why) = unfit(judge) else { return Ok(judge) };
    let fallback = judge.config.fallback.as_ref().filter(|name| !rubric.panel.contains(name));
    match fallback.and_then(|name| bench.judges.get(name)) {
        Some(other) if unfit(other).is_none() => Ok(other),
        _ => Err(why),
    }
}

/// The vote of an earlier time for the same question. A cache that does not answer is no reason not to ask.
async fn cached(bench: &Bench, judge: &JudgeHandle, key: &str) -> Option<Vote> {
    let store = bench.cache().filter(|_| !key.is_empty())?;
    let found = store.cached_votes(&[key.to_owned()], bench.clock.now()).await.ok()?.remove(key)?;
    bench.metrics.judge_requests.with_label_values(&[judge.name.as_str(), "cached"]).inc();
    let free = Vote { tokens: VoteTokens::default(), cost_usd: 0.0, latency_ms: 0, attempts: 0, ..found };
    Some(Vote { cached: true, batched: false, ..free })
}

/// One question, one vote.
async fn ask_plainly(talk: &mut Talk<'_>, seat: &str) {
    let question = talk.question;
    let build = move |traits: &Traits| question.request(seat, traits);
    if let Some(why) = too_long(talk.judge, &talk.prepare(&build)).await {
        talk.vote.error = Some(format!("{FINAL}too_long: {why}"));
        return;
    }
    let read = |reply: &ChatReply, rung: Rung| understand(question, reply, rung);
    if let Some(understood) = talk.hold(&build, &read).await {
        settle(&mut talk.vote, understood);
    }
}

/// What a reply says.
pub(super) enum Said {
    /// A verdict, and what its log-probabilities say.
    Verdict(reply::Understood, Option<logprobs::Expected>),
    /// It cannot tell, and why.
    Nothing(String),
}

/// Reads a reply to the question.
///
/// # Errors
/// What is wrong with it.
pub(super) fn understand(question: &Question, reply: &ChatReply, rung: Rung) -> Result<Said, String> {
    let (output, canary) = (&question.rubric.output, &question.marks.canary);
    if question.rubric.abstain
        && let Some(why) = reply::abstains(&reply.content, output, rung, canary)?
    {
        return Ok(Said::Nothing(why));
    }
    let understood = reply::read(&reply.content, output, rung, canary)?;
    Ok(Said::Verdict(understood, logprobs::expected(&reply.logprobs, output)))
}

/// Writes what was understood into the vote.
pub(super) fn settle(vote: &mut Vote, said: Said) {
    vote.error = None;
    let (understood, expected) = match said {
        Said::Verdict(understood, expected) => (understood, expected),
        Said::Nothing(why) => {
            vote.abstained = Some(why);
            return;
        }
    };
    vote.score = Some(understood.score);
    vote.raw = understood.raw;
    vote.label = understood.label;
    vote.reason = understood.reason;
    let Some(expected) = expected else { return };
    vote.detail = json!({"logprobs": {"expected": expected.raw, "mass": expected.mass}});
    vote.score = Some(expected.score);
    if expected.mass < logprobs::MASS_MIN {
        vote.score = None;
        let mass = expected.mass;
        vote.error =
            Some(format!("{FINAL}unsure: the tokens that are scores have a probability of {mass:.2} together"));
    }
}

/// Why a question, with the longest answer to it, does not fit the judge's window.
pub(super) async fn too_long(judge: &JudgeHandle, request: &ChatRequest) -> Option<String> {
    let (window, output) = (judge.config.window_tokens, request.output_tokens_max as usize);
    if !tokens::may_exceed(request.bytes() + output, window) {
        return None;
    }
    let model = judge.config.model.clone();
    let texts: Vec<Arc<str>> = request.messages.iter().map(|(_, text)| Arc::clone(text)).collect();
    let count = cpu::run(move || texts.iter().map(|text| tokens::count(&model, text)).sum::<usize>()).await.ok()?;
    let needed = count + output;
    (needed > window).then(|| format!("{needed} tokens are needed, answer included, and {window} fit (window_tokens)"))
}
