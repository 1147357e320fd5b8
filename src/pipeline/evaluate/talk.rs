//! The requests of one judge about one question: the form that its endpoint takes, one correction, a bounded number of them.
//!
//! Used by `ask` and `claims`. Its rule: what an endpoint refuses is left out at once and remembered, and costs no attempt; a
//! reply that cannot be read is asked for once more with what was wrong; a place under the limit and money are had before a
//! request and trued up after; tokens of every request are counted, of failed ones too. The way not taken: a table of
//! models and what they can do, which is stale the day after.

use super::ask::Failure;
use super::question::Question;
use crate::app::Bench;
use crate::domain::chat::{ChatError, ChatReply, ChatRequest};
use crate::domain::job::Job;
use crate::domain::message::Usage;
use crate::domain::rung::{Rung, Traits};
use crate::domain::verdict::{FINAL, OVER_BUDGET, Vote, VoteTokens};
use crate::judge::{prompt, reply};
use crate::llm::judges::JudgeHandle;
use crate::llm::pacer::Ended;
use crate::runtime::retry::Backoff;
use crate::store::budget_spend::Amount;
use crate::store::ledger::{Refused, Reservation};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How long a worker waits for its place under a judge's limit; for longer the job is given back.
const ADMIT_WAIT: Duration = Duration::from_secs(10);

/// How long a job that was held up by a limit stays away at most.
const HELD_UP_WAIT: Duration = Duration::from_secs(2);

/// Requests answered with 429 that are sent again at once when their time has come; after them the job is given back.
const THROTTLES_MAX: u32 = 4;

/// One judge being asked.
pub(super) struct Talk<'a> {
    pub bench: &'a Bench,
    pub judge: &'a JudgeHandle,
    pub question: &'a Question,
    pub job: &'a Job,
    pub traits: Traits,
    pub vote: Vote,
    pub failure: Failure,
}

/// What to do after a request that gave nothing to read.
pub(super) enum Next {
    /// The vote cannot be had in this attempt.
    Stop,
    /// Ask again, after a wait.
    Again,
    /// Ask at once in another form.
    Adapted,
    /// Ask again as soon as there is a place.
    Throttled,
}

/// Makes a request in the form that an endpoint takes.
type Build<'b> = &'b (dyn Fn(&Traits) -> ChatRequest + Sync);

impl<'a> Talk<'a> {
    pub fn new(bench: &'a Bench, judge: &'a JudgeHandle, question: &'a Question, job: &'a Job, vote: Vote) -> Self {
        let traits = judge.traits(bench.clock.now());
        Self { bench, judge, question, job, traits, vote, failure: Failure::default() }
    }

    /// The request as this judge is asked.
    pub fn prepare(&self, build: Build<'_>) -> ChatRequest {
        let mut request = build(&self.traits);
        request.output_tokens_max = self.answer_max();
        request.logprobs = self.judge.config.logprobs;
        request
    }

    /// Tokens of an answer at most: as configured, or more where that was learnt to be too few.
    pub fn answer_max(&self) -> u32 {
        self.judge.config.output_tokens_max().max(self.traits.output_tokens_min.unwrap_or(0))
    }

    /// Asks until a reply is understood; `None` = there is none in this attempt, and the vote says why.
    pub async fn hold<T>(
        &mut self,
        build: Build<'_>,
        read: &(dyn Fn(&ChatReply, Rung) -> Result<T, String> + Sync),
    ) -> Option<T> {
        let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(2) };
        let (mut counted, mut throttled, mut wrong) = (0, 0, None::<String>);
        loop {
            let request = match &wrong {
                Some(why) => prompt::corrected(self.prepare(build), why),
                None => self.prepare(build),
            };
            let next = match self.send(&request).await {
                Ok(reply) => {
                    self.accept(&reply, false)?;
                    match self.understand(&reply, read) {
                        Ok(understood) => return Some(understood),
                        Err(None) => Next::Adapted,
                        Err(Some(why)) if wrong.is_none() => {
                            // What was wrong with the canary is not said: a judge that follows the text it judges would
                            // add it and keep that text's verdict.
                            let canary = why.starts_with(reply::CANARY);
                            wrong =
                                Some(if canary { "it is not what the first message asks for".to_owned() } else { why });
                            Next::Again
                        }
                        Err(Some(why)) => {
                            self.unreadable(&why);
                            Next::Stop
                        }
                    }
                }
                Err(next) => next,
            };
            match next {
                Next::Stop => return None,
                Next::Adapted => {}
                Next::Throttled => {
                    throttled += 1;
                    if throttled > THROTTLES_MAX || self.failure.wait.is_some_and(|asked| asked > ADMIT_WAIT) {
                        return None; // the job waits that long, not this worker
                    }
                }
                Next::Again => {
                    counted += 1;
                    if counted >= self.bench.config.work.requests_per_attempt_max
                        || self.failure.wait.is_some_and(|asked| asked > backoff.longest)
                    {
                        return None;
                    }
                    let wait = backoff.wait(counted, self.failure.wait, self.job.id.as_bytes());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Sends one request, within limit and budget.
    async fn send(&mut self, request: &ChatRequest) -> Result<ChatReply, Next> {
        self.vote.prompt_hash = prompt::hash(request);
        self.vote.params = self.params(request);
        self.traits.rung.as_str().clone_into(&mut self.vote.rung);
        let held = self.reserve(request).await?;
        let tokens = self.judge.estimate(request.bytes());
        let permit = match self.judge.pacer.admit(tokens, ADMIT_WAIT).await {
            Ok(permit) => permit,
            Err(wait) => {
                self.bench.ledger.settle(held, Amount::default());
                // Not as long as it would wait here: another worker may have a place sooner.
                self.failure = Failure { wait: Some(wait.min(HELD_UP_WAIT)), free: true };
                self.vote.error = Some("held_up: the limit of requests or tokens a minute".to_owned());
                return Err(Next::Stop);
            }
        };
        let sent = Instant::now();
        let answer = self.judge.model.ask(request).await;
        self.vote.attempts += 1;
        count(self.bench, self.judge, sent, &answer);
        match answer {
            Ok(reply) => {
                let used = reply.usage.input_tokens + reply.usage.output_tokens;
                permit.end(Ended::Answered { tokens: if used > 0 { used } else { tokens } });
                self.judge.circuit.good();
                self.judge.resume();
                self.judge.used(&reply.usage);
                let cost = self.judge.cost(&reply.usage);
                self.bench.ledger.settle(held, Amount { usd: cost, tokens: used as f64 });
                Ok(reply)
            }
            Err(error) => {
                permit.end(match &error {
                    ChatError::RateLimited { retry_after } => Ended::Throttled { retry_after: *retry_after },
                    _ => Ended::Failed,
                });
                // What timed out has very likely been worked on, and is paid for; nobody says how much.
                let likely =
                    if matches!(error, ChatError::Timeout(_)) { self.likely(request) } else { Amount::default() };
                self.bench.ledger.settle(held, likely);
                Err(self.fail(&error))
            }
        }
    }

    /// The parameters that a request is sent with, as they stand in the vote.
    pub fn params(&self, request: &ChatRequest) -> serde_json::Value {
        let config = &self.judge.config;
        let mut params = json!({"output_tokens_max": request.output_tokens_max, "temperature": config.temperature});
        if let Some(top_p) = config.top_p {
            params["top_p"] = json!(top_p);
        }
        if let Some(seed) = config.seed {
            params["seed"] = json!(seed);
        }
        if let Some(effort) = &config.reasoning_effort {
            params["reasoning_effort"] = json!(effort);
        }
        if !request.traits.refused.is_empty() {
            params["left_out"] = json!(request.traits.refused);
        }
        params
    }

    /// Reserves what the request may cost at most.
    async fn reserve(&mut self, request: &ChatRequest) -> Result<Reservation, Next> {
        self.hold_money(self.at_most(request)).await.ok_or(Next::Stop)
    }

    /// What a request is likely to cost.
    fn likely(&self, request: &ChatRequest) -> Amount {
        let (input_tokens, output_tokens) = self.judge.estimated(request.bytes());
        self.amount(&Usage { input_tokens, output_tokens, ..Usage::default() })
    }

    /// What a request may cost at most; few texts have tokens of two bytes or less.
    pub fn at_most(&self, request: &ChatRequest) -> Amount {
        let most = Usage {
            input_tokens: request.bytes() as u64 / 2,
            output_tokens: u64::from(request.output_tokens_max),
            ..Usage::default()
        };
        self.amount(&most)
    }

    /// What so many tokens cost and count.
    pub fn amount(&self, usage: &Usage) -> Amount {
        Amount { usd: self.judge.cost(usage), tokens: (usage.input_tokens + usage.output_tokens) as f64 }
    }

    /// Reserves money and tokens; if that cannot be, the vote says why.
    pub async fn hold_money(&mut self, amount: Amount) -> Option<Reservation> {
        let (rubric, labels) = (&self.question.rubric.name, &self.question.labels);
        match self.bench.ledger.reserve(rubric, labels, amount, self.bench.clock.now()).await {
            Ok(held) => Some(held),
            Err(why @ Refused::Spent(_)) => {
                self.vote.error = Some(format!("{FINAL}{OVER_BUDGET}: {why}"));
                None
            }
            Err(why @ Refused::Unasked(_)) => {
                // Nobody knows whether there is money: the job waits, it is not over budget.
                self.vote.error = Some(format!("held_up: {why}"));
                self.failure = Failure { wait: Some(Duration::from_secs(5)), free: true };
                None
            }
        }
    }

    /// Corrects what was counted for a batched request at time `at`.
    pub fn correct(&self, by: Amount, at: DateTime<Utc>) {
        let (rubric, labels) = (&self.question.rubric.name, &self.question.labels);
        self.bench.ledger.correct(rubric, labels, by, at);
    }

    fn fail(&mut self, error: &ChatError) -> Next {
        let now = self.bench.clock.now();
        if error.is_endpoints() {
            if self.judge.circuit.bad(&error.to_string()) {
                tracing::warn!(judge = self.judge.name, %error, "the endpoint fails again and again and is left alone for a while");
            }
        } else {
            self.judge.circuit.good();
        }
        let adapted = match error {
            ChatError::RefusedParameter { parameter, .. } => self.traits.refuse(*parameter, now),
            // Servers that say nothing more refuse a form that they do not know, as a rule; unless it has worked before.
            ChatError::Rejected { vague: true, .. } if !self.judge.is_proven() => {
                self.traits.rung < Rung::JsonText && self.traits.step_down(now)
            }
            _ => false,
        };
        if adapted {
            self.judge.learn(&self.traits);
            return Next::Adapted;
        }
        if matches!(error, ChatError::Unusable { .. }) {
            self.judge.pause(&error.to_string(), now);
        }
        self.failure = Failure { wait: error.retry_after(), free: error.is_no_attempt() };
        self.judge.note(error, now);
        self.vote.error = Some(if error.can_pass() { error.to_string() } else { format!("{FINAL}{error}") });
        match error {
            ChatError::RateLimited { .. } => Next::Throttled,
            _ if error.can_pass() && !error.is_no_attempt() => Next::Again,
            _ => Next::Stop,
        }
    }

    /// Counts what a reply used, and says whether there is anything to read; if not, the vote says why.
    pub fn accept(&mut self, reply: &ChatReply, batched: bool) -> Option<()> {
        let usage = &reply.usage;
        self.vote.tokens += VoteTokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
            cached_input: usage.cached_input_tokens,
            reasoning: usage.reasoning_tokens,
        };
        // Batches are half price wherever there are any.
        self.vote.cost_usd += self.judge.cost(usage) * if batched { 0.5 } else { 1.0 };
        self.vote.batched = batched;
        if !reply.model.is_empty() {
            self.vote.model.clone_from(&reply.model);
        }
        self.question.note(&self.vote);
        if reply.refusal.is_some() || reply.finish_reason.as_deref() == Some("content_filter") {
            // It would decline again.
            self.vote.error = Some(format!("{FINAL}the judge declined"));
            return None;
        }
        Some(())
    }

    /// Reads a reply. `Err(None)` = ask again with more room; otherwise what is wrong with it.
    fn understand<T>(
        &mut self,
        reply: &ChatReply,
        read: &(dyn Fn(&ChatReply, Rung) -> Result<T, String> + Sync),
    ) -> Result<T, Option<String>> {
        let now = self.bench.clock.now();
        if reply.finish_reason.as_deref() == Some("length") {
            let limit = self.answer_max();
            let thinks = reply.usage.reasoning_tokens > 0 || reply.content.trim().is_empty();
            if thinks && self.traits.need_more(limit, self.judge.config.window_tokens, now) {
                self.judge.learn(&self.traits);
                return Err(None);
            }
            self.vote.error = Some("unreadable reply: it was cut off (output_tokens_max)".to_owned());
            return Err(Some("it was cut off; be shorter".to_owned()));
        }
        match read(reply, self.traits.rung) {
            Ok(understood) => {
                self.judge.read_well();
                self.vote.error = None;
                Ok(understood)
            }
            Err(why) => {
                self.vote.error = Some(format!("unreadable reply: {why}"));
                Err(Some(why))
            }
        }
    }

    /// A reply that could not be read twice.
    fn unreadable(&mut self, why: &str) {
        if why.starts_with(reply::CANARY) {
            // It would follow the same text again.
            self.bench.metrics.canary_failures.with_label_values(&[self.judge.name.as_str()]).inc();
            self.vote.error =
                Some(format!("{FINAL}{why}; the judge did not follow its instructions, perhaps the text it judged"));
            return;
        }
        let cut = why.starts_with("it was cut off");
        // One trace may confuse a judge; several in a row mean that the endpoint does not do this form.
        if !cut && self.judge.read_badly() && self.traits.step_down(self.bench.clock.now()) {
            self.judge.learn(&self.traits);
        }
    }
}

fn count(bench: &Bench, judge: &JudgeHandle, sent: Instant, answer: &Result<ChatReply, ChatError>) {
    let result = match answer {
        Ok(_) => "ok",
        Err(ChatError::Timeout(_)) => "timeout",
        Err(ChatError::RateLimited { .. }) => "rate_limited",
        Err(ChatError::Unreachable(_)) => "unreachable",
        Err(ChatError::Server { .. }) => "server_error",
        Err(ChatError::Unusable { .. }) => "unusable",
        Err(ChatError::RefusedParameter { .. }) => "refused_parameter",
        Err(ChatError::Rejected { .. }) => "rejected",
        Err(ChatError::TooLong) => "too_long",
        Err(ChatError::Unreadable(_)) => "unreadable",
    };
    let metrics = &bench.metrics;
    metrics.judge_requests.with_label_values(&[judge.name.as_str(), result]).inc();
    metrics.judge_seconds.with_label_values(&[judge.name.as_str()]).observe(sent.elapsed().as_secs_f64());
}
