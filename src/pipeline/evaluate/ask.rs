//! One judge's vote: from the cache, out of a batch, or asked for; by the judge itself or by its fallback.
//!
//! Called by `turns` for each seat of a panel. Its rule: a judge that is paused or whose endpoint fails is not asked, and the
//! vote says so; whoever answers, the vote stands in the seat's name. The way not taken: a fallback that silently changes
//! which model judged.

use super::claims;
use super::question::Question;
use super::talk::Talk;
use crate::app::Bench;
use crate::domain::chat::{ChatReply, ChatRequest};
use crate::domain::job::Job;
use crate::domain::rubric::{Output, Rubric};
use crate::domain::rung::{Rung, Traits};
use crate::domain::verdict::{FINAL, Vote, VoteTokens};
use crate::judge::{logprobs, reply};
use crate::llm::judges::JudgeHandle;
use crate::llm::{batch, tokens};
use crate::runtime::cpu;
use crate::store::batches::{Asked, Item};
use crate::store::budget_spend::Amount;
use chrono::TimeDelta;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How the error of a vote begins that a batch will bring.
const BATCHED: &str = "batch";

/// Whether a vote waits for a batch, so that nobody else need be asked meanwhile.
pub(super) fn waits_for_batch(vote: &Vote) -> bool {
    vote.error.as_deref().is_some_and(|e| e.starts_with(BATCHED))
}

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
    let cache_key = bench.cache().map(|_| question.cache_key(seat, judge)).unwrap_or_default();
    if let Some(vote) = cached(bench, judge, &cache_key).await {
        return (Vote { judge: seat.to_owned(), ..vote }, Failure::default());
    }
    let (judge, stood_in) = match sits(bench, &question.rubric, judge) {
        Ok(judge) => {
            let stood_in = (judge.name != seat).then(|| judge.name.clone());
            (judge, stood_in)
        }
        Err((error, failure)) => {
            return (Vote { error: Some(error), model: judge.config.model.clone(), ..vote }, failure);
        }
    };
    // A fallback's vote is not the answer of the judge that was asked for.
    let cache_key = if stood_in.is_some() { String::new() } else { cache_key };
    let vote = Vote { model: judge.config.model.clone(), cache_key, stood_in, ..vote };
    let start = Instant::now();
    let mut talk = Talk::new(bench, judge, question, job, vote);
    if matches!(question.rubric.output, Output::Claims { .. }) {
        claims::ask(&mut talk).await;
    } else {
        ask_plainly(&mut talk, seat).await;
    }
    talk.vote.latency_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
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
    let store = bench.cache()?;
    let found = store.cached_votes(&[key.to_owned()], bench.clock.now()).await.ok()?.remove(key)?;
    bench.metrics.judge_requests.with_label_values(&[judge.name.as_str(), "cached"]).inc();
    let free = Vote { tokens: VoteTokens::default(), cost_usd: 0.0, latency_ms: 0, attempts: 0, ..found };
    Some(Vote { cached: true, batched: false, ..free })
}

/// What a judge's reply says.
enum Said {
    Verdict(reply::Understood, Option<logprobs::Expected>),
    /// It cannot tell, and why.
    Nothing(String),
}

/// One question, one vote.
async fn ask_plainly(talk: &mut Talk<'_>, seat: &str) {
    let question = talk.question;
    let build = move |traits: &Traits| question.request(seat, traits);
    if let Some(why) = too_long(talk.judge, &build(&talk.traits)).await {
        talk.vote.error = Some(format!("{FINAL}too_long: {why}"));
        return;
    }
    let output = &question.rubric.output;
    let read = move |reply: &ChatReply, rung: Rung| {
        let canary = &question.marks.canary;
        if question.rubric.abstain
            && let Some(why) = reply::abstains(&reply.content, output, rung, canary)?
        {
            return Ok(Said::Nothing(why));
        }
        let understood = reply::read(&reply.content, output, rung, canary)?;
        Ok(Said::Verdict(understood, logprobs::expected(&reply.logprobs, output)))
    };
    let understood = match batched(talk, &build).await {
        Batched::Ask => talk.hold(&build, &read).await,
        Batched::Wait => return,
        Batched::Reply(reply) => match talk.accept(&reply, true).map(|()| read(&reply, talk.traits.rung)) {
            Some(Ok(understood)) => Some(understood),
            // One that cannot be read is asked for directly, and not looked at again.
            Some(Err(_)) => {
                if let Some(store) = &talk.bench.store {
                    drop(store.skip_batch(talk.job.id, &talk.judge.name).await);
                }
                talk.hold(&build, &read).await
            }
            None => None,
        },
    };
    let Some(said) = understood else { return };
    let vote = &mut talk.vote;
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
    if let Some(expected) = expected {
        vote.detail = json!({"logprobs": {"expected": expected.raw, "mass": expected.mass}});
        vote.score = Some(expected.score);
        if expected.mass < logprobs::MASS_MIN {
            vote.score = None;
            let mass = expected.mass;
            vote.error =
                Some(format!("{FINAL}unsure: the tokens that are scores have a probability of {mass:.2} together"));
        }
    }
}

/// Why a question does not fit the judge's window.
pub(super) async fn too_long(judge: &JudgeHandle, request: &ChatRequest) -> Option<String> {
    let (window, output) = (judge.config.window_tokens, judge.config.output_tokens_max() as usize);
    if !tokens::may_exceed(request.bytes() + output, window) {
        return None;
    }
    let model = judge.config.model.clone();
    let texts: Vec<Arc<str>> = request.messages.iter().map(|(_, text)| Arc::clone(text)).collect();
    let count = cpu::run(move || texts.iter().map(|text| tokens::count(&model, text)).sum::<usize>()).await.ok()?;
    let needed = count + output;
    (needed > window).then(|| format!("{needed} tokens are needed, answer included, and {window} fit (window_tokens)"))
}

/// What becomes of a question that may wait.
enum Batched {
    /// It is asked directly.
    Ask,
    /// It waits; the vote says so.
    Wait,
    /// The batch has answered it.
    Reply(ChatReply),
}

/// Batches are half price wherever there are any.
fn half(amount: Amount) -> Amount {
    Amount { usd: amount.usd / 2.0, tokens: amount.tokens }
}

/// Puts the question into a batch, or takes the reply out of one. Whatever goes wrong, it is asked directly.
async fn batched(talk: &mut Talk<'_>, build: &(dyn Fn(&Traits) -> ChatRequest + Sync)) -> Batched {
    let (bench, judge, job) = (talk.bench, talk.judge, talk.job);
    let hours = talk.question.rubric.batch_hours.filter(|_| judge.config.batch);
    let (Some(hours), Some(store)) = (hours, &bench.store) else { return Batched::Ask };
    let now = bench.clock.now();
    let deadline_at = match store.batch_state(job.id, &judge.name, now).await {
        Ok(Asked::Replied(status, body)) => {
            return match batch::read(status, &body) {
                Ok(reply) => {
                    talk.pay(half(talk.at_most(&talk.prepare(build))), &reply.usage);
                    Batched::Reply(reply)
                }
                Err(_) => Batched::Ask,
            };
        }
        Ok(Asked::Waiting(until)) => until,
        Ok(Asked::New) => {
            let wanted = TimeDelta::from_std(Duration::from_secs_f64(hours * 3_600.0)).unwrap_or_default();
            let deadline_at = (job.enqueued_at + wanted).min(job.deadline_at - TimeDelta::minutes(1));
            let request = talk.prepare(build);
            // Counted now at what it may cost at most, corrected when the reply is there.
            let most = half(talk.at_most(&request));
            let Some(held) = talk.hold_money(most).await else { return Batched::Wait };
            bench.ledger.settle(held, most);
            let item = Item { job_id: job.id, body: batch::request_body(judge, &request), deadline_at };
            if deadline_at <= now || store.ask_in_batch((&judge.name, &judge.endpoint()), &item, now).await.is_err() {
                return Batched::Ask;
            }
            deadline_at
        }
        Ok(Asked::Missed) | Err(_) => return Batched::Ask,
    };
    talk.vote.error = Some(format!("{BATCHED}: waiting for the provider's reply"));
    talk.failure = Failure { wait: (deadline_at - now).to_std().ok(), free: true };
    Batched::Wait
}
