//! A judge's vote out of the provider's batch: the question is put into the next one, its reply taken out when it is there.
//!
//! Called by `ask` before the judge itself is asked. Its rule: whatever goes wrong, the judge is asked directly; what a batch
//! costs is counted when it is asked for, at most, and corrected once. The way not taken: to hold a judge that is paused
//! against replies that it has already given.

use super::ask::{Failure, settle, understand};
use super::talk::Talk;
use crate::domain::chat::ChatReply;
use crate::domain::rung::Traits;
use crate::domain::verdict::Vote;
use crate::judge::prompt;
use crate::llm::batch;
use crate::store::Store;
use crate::store::batches::{Asked, Item};
use crate::store::budget_spend::Amount;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// How the error of a vote begins that a batch will bring.
const BATCHED: &str = "batch";

/// Whether a vote waits for a batch, so that nobody else need be asked meanwhile.
pub(super) fn waits_for_batch(vote: &Vote) -> bool {
    vote.error.as_deref().is_some_and(|e| e.starts_with(BATCHED))
}

/// Batches are half price wherever there are any.
fn half(amount: Amount) -> Amount {
    Amount { usd: amount.usd / 2.0, tokens: amount.tokens }
}

/// Whether the batch settles the vote of this attempt; false = the judge is to be asked directly.
pub(super) async fn settles(talk: &mut Talk<'_>) -> bool {
    let (bench, judge, job) = (talk.bench, talk.judge, talk.job);
    let hours = talk.question.rubric.batch_hours.filter(|_| judge.config.batch);
    let (Some(hours), Some(store)) = (hours, &bench.store) else { return false };
    let now = bench.clock.now();
    match store.batch_state(job.id, &judge.name, now).await {
        Ok(Asked::Replied(status, body, asked_at)) => match batch::read(status, &body) {
            Ok(reply) => take(talk, store, &reply, asked_at).await,
            Err(_) => give_up(talk, store, asked_at).await,
        },
        Ok(Asked::Missed(asked_at)) => give_up(talk, store, asked_at).await,
        Ok(Asked::Waiting(until)) => wait(talk, until),
        Ok(Asked::New) => {
            let wanted = TimeDelta::from_std(Duration::from_secs_f64(hours * 3_600.0)).unwrap_or_default();
            let deadline_at = (job.enqueued_at + wanted).min(job.deadline_at - TimeDelta::minutes(1));
            // A judge that cannot be asked now has a fallback, or its jobs wait.
            let fit = judge.pause_now().is_none() && judge.circuit.open().is_none();
            if deadline_at <= now || !fit { false } else { put(talk, store, deadline_at).await }
        }
        Ok(Asked::Done) | Err(_) => false,
    }
}

/// Puts the question into the next batch.
async fn put(talk: &mut Talk<'_>, store: &Store, deadline_at: DateTime<Utc>) -> bool {
    let (bench, judge, question) = (talk.bench, talk.judge, talk.question);
    let request = talk.prepare(&move |traits: &Traits| question.request(&judge.name, traits));
    if super::ask::too_long(judge, &request).await.is_some() {
        return false; // asked directly, it says so
    }
    // Counted now at what it may cost at most, corrected when the reply is there.
    let most = half(talk.at_most(&request));
    let Some(held) = talk.hold_money(most).await else { return true };
    let item = Item { job_id: talk.job.id, body: batch::request_body(judge, &request), deadline_at };
    let put = store.ask_in_batch((&judge.name, &judge.endpoint()), &item, bench.clock.now()).await;
    bench.ledger.settle(held, if put.is_ok() { most } else { Amount::default() });
    put.is_ok() && wait(talk, deadline_at)
}

/// The vote waits for the batch.
fn wait(talk: &mut Talk<'_>, until: DateTime<Utc>) -> bool {
    talk.vote.error = Some(format!("{BATCHED}: waiting for the provider's reply"));
    talk.failure = Failure { wait: (until - talk.bench.clock.now()).to_std().ok(), free: true };
    true
}

/// Takes the vote out of a reply. One that cannot be read is asked for directly, and not looked at again.
async fn take(talk: &mut Talk<'_>, store: &Store, reply: &ChatReply, asked_at: DateTime<Utc>) -> bool {
    let (judge, question) = (talk.judge, talk.question);
    let request = talk.prepare(&move |traits: &Traits| question.request(&judge.name, traits));
    talk.vote.prompt_hash = prompt::hash(&request);
    talk.vote.params = talk.params(&request);
    talk.traits.rung.as_str().clone_into(&mut talk.vote.rung);
    talk.vote.attempts += 1;
    let paid = talk.amount(&reply.usage);
    // Once, whatever becomes of this attempt; a database that does not answer leaves the higher estimate.
    if store.count_batched(talk.job.id, &judge.name).await.unwrap_or(false) {
        talk.correct(half(paid).minus(half(talk.at_most(&request))), asked_at);
    }
    if talk.accept(reply, true).is_none() {
        return true; // it declined
    }
    if let Ok(meaning) = understand(question, reply, talk.traits.rung) {
        settle(&mut talk.vote, meaning);
        return true;
    }
    talk.vote.batched = false;
    drop(store.skip_batch(talk.job.id, &judge.name).await);
    false
}

/// The batch has no answer: what was counted for it is given back, and the judge asked directly.
async fn give_up(talk: &mut Talk<'_>, store: &Store, asked_at: DateTime<Utc>) -> bool {
    let (judge, question) = (talk.judge, talk.question);
    if store.skip_batch(talk.job.id, &judge.name).await.is_ok() {
        let request = talk.prepare(&move |traits: &Traits| question.request(&judge.name, traits));
        talk.correct(Amount::default().minus(half(talk.at_most(&request))), asked_at);
    }
    false
}
