//! Asking one judge: the form that its endpoint takes, one correction, a bounded number of requests.
//!
//! Called by `evaluate` for each judge of a panel. Its rule: what an endpoint refuses is left out at once and remembered, and
//! costs no attempt; a reply that cannot be read is asked for once more with what was wrong; tokens and money of every
//! request are counted, of failed ones too. The way not taken: a table of models and what they can do, which is stale the
//! day after.

use crate::app::Bench;
use crate::domain::chat::{ChatError, ChatReply, ChatRequest};
use crate::domain::ids::short_hash;
use crate::domain::job::Job;
use crate::domain::message::Usage;
use crate::domain::rubric::Rubric;
use crate::domain::rung::Traits;
use crate::domain::verdict::{Vote, VoteTokens};
use crate::judge::panel::FINAL;
use crate::judge::{prompt, reply};
use crate::llm::judges::JudgeHandle;
use crate::runtime::retry::Backoff;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// How long a worker waits for its place under a judge's limit; for longer the job is given back.
const ADMIT_WAIT: Duration = Duration::from_secs(2);

/// How the last request to a judge failed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failure {
    /// The wait that the endpoint asked for.
    pub wait: Option<Duration>,
    /// Whether it counts for nothing.
    pub free: bool,
}

/// What to do after a request.
enum Next {
    /// The vote is complete, or cannot be had in this attempt.
    Stop,
    /// Ask again, after a wait, with this request.
    Again(ChatRequest),
    /// Ask at once in another form.
    Adapted(ChatRequest),
}

/// One judge being asked about one job.
struct Asking<'a> {
    bench: &'a Bench,
    judge: &'a JudgeHandle,
    rubric: &'a Rubric,
    /// The request in its first form.
    plain: &'a ChatRequest,
    nonce: &'a str,
    traits: Traits,
    vote: Vote,
    failure: Failure,
    corrected: bool,
}

/// Asks one judge.
pub(super) async fn ask_judge(
    bench: &Bench,
    judge: &JudgeHandle,
    rubric: &Rubric,
    job: &Job,
    (request, nonce): &(ChatRequest, String),
) -> (Vote, Failure) {
    let cache_key = bench.cache.as_ref().map(|_| cache_key(judge, request)).unwrap_or_default();
    if let Some(vote) = cached(bench, judge, &cache_key).await {
        return (vote, Failure::default());
    }
    let start = Instant::now();
    let mut asking = Asking {
        bench,
        judge,
        rubric,
        plain: request,
        nonce,
        traits: judge.traits(bench.clock.now()),
        vote: Vote { judge: judge.name.clone(), model: judge.config.model.clone(), cache_key, ..Vote::default() },
        failure: Failure::default(),
        corrected: false,
    };
    let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(2) };
    let mut next = asking.adapted();
    let mut counted = 0;
    loop {
        match asking.once(&next).await {
            Next::Stop => break,
            Next::Adapted(request) => next = request,
            Next::Again(request) => {
                counted += 1;
                if counted >= bench.config.work.requests_per_attempt_max {
                    break;
                }
                if asking.failure.wait.is_some_and(|asked| asked > backoff.longest) {
                    break; // the job waits that long, not this worker
                }
                next = request;
                tokio::time::sleep(backoff.wait(counted, asking.failure.wait, job.id.as_bytes())).await;
            }
        }
    }
    asking.vote.latency_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    (asking.vote, asking.failure)
}

/// Hash of the exact question: endpoint, model, parameters, messages and schema in their first form.
fn cache_key(judge: &JudgeHandle, request: &ChatRequest) -> String {
    let parameters = json!({
        "endpoint": judge.endpoint(),
        "model": judge.config.model,
        "temperature": judge.config.temperature,
        "output_tokens_max": request.output_tokens_max,
        "schema": request.schema,
        "messages": request.messages,
    });
    short_hash(&[parameters.to_string().as_bytes()], 40)
}

/// The vote of an earlier time for the same question. A cache that does not answer is no reason not to ask.
async fn cached(bench: &Bench, judge: &JudgeHandle, key: &str) -> Option<Vote> {
    let store = bench.cache.as_ref()?;
    let found = store.cached_votes(&[key.to_owned()], bench.clock.now()).await.ok()?.remove(key)?;
    bench.metrics.judge_requests.with_label_values(&[judge.name.as_str(), "cached"]).inc();
    let free = Vote { tokens: VoteTokens::default(), cost_usd: 0.0, latency_ms: 0, attempts: 0, ..found };
    Some(Vote { judge: judge.name.clone(), cached: true, ..free })
}

impl Asking<'_> {
    /// The request in the form that the endpoint takes.
    fn adapted(&self) -> ChatRequest {
        prompt::on_rung(self.plain, self.rubric, self.nonce, &self.traits)
    }

    async fn once(&mut self, request: &ChatRequest) -> Next {
        self.vote.prompt_hash = prompt::hash(request);
        self.vote.params = json!({
            "temperature": self.judge.config.temperature,
            "output_tokens_max": request.output_tokens_max,
            "left_out": request.traits.refused,
        });
        self.traits.rung.as_str().clone_into(&mut self.vote.rung);
        if let Err(wait) = self.judge.admit(ADMIT_WAIT).await {
            self.failure = Failure { wait: Some(wait), free: true };
            self.vote.error = Some("held_up: our own limit of requests a minute (requests_per_minute)".to_owned());
            return Next::Stop;
        }
        let sent = Instant::now();
        let answer = self.judge.model.ask(request).await;
        self.vote.attempts += 1;
        count(self.bench, self.judge, sent, &answer);
        match answer {
            Ok(reply) => self.take(&reply),
            Err(error) => self.fail(&error, request),
        }
    }

    fn fail(&mut self, error: &ChatError, request: &ChatRequest) -> Next {
        let now = self.bench.clock.now();
        if let ChatError::RefusedParameter { parameter, .. } = error
            && self.traits.refuse(*parameter, now)
        {
            self.judge.learn(&self.traits);
            return Next::Adapted(self.adapted());
        }
        self.failure = Failure { wait: error.retry_after(), free: error.is_no_attempt() };
        self.judge.note(error, now);
        self.vote.error = Some(if error.can_pass() { error.to_string() } else { format!("{FINAL}{error}") });
        if error.can_pass() && !error.is_no_attempt() { Next::Again(request.clone()) } else { Next::Stop }
    }

    /// Takes a reply into the vote.
    fn take(&mut self, reply: &ChatReply) -> Next {
        self.spend(&reply.usage);
        if !reply.model.is_empty() {
            self.vote.model.clone_from(&reply.model);
        }
        if reply.refusal.is_some() || reply.finish_reason.as_deref() == Some("content_filter") {
            // It would decline again.
            self.vote.error = Some(format!("{FINAL}the judge declined"));
            return Next::Stop;
        }
        let cut = reply.finish_reason.as_deref() == Some("length");
        if cut {
            return self.unreadable("it was cut off; be shorter (output_tokens_max)", cut);
        }
        match reply::read(&reply.content, &self.rubric.output, self.traits.rung) {
            Ok(understood) => {
                self.vote.score = Some(understood.score);
                self.vote.raw = understood.raw;
                self.vote.label = understood.label;
                self.vote.reason = understood.reason;
                self.vote.error = None;
                self.judge.read_well();
                Next::Stop
            }
            Err(why) => self.unreadable(&why, cut),
        }
    }

    /// Asks once more with what was wrong; the second time the endpoint's form is given up, unless the reply was only too long.
    fn unreadable(&mut self, why: &str, cut: bool) -> Next {
        self.vote.error = Some(format!("unreadable reply: {why}"));
        if !self.corrected {
            self.corrected = true;
            return Next::Again(prompt::corrected(&self.adapted(), why));
        }
        // One trace may confuse a judge; several in a row mean that the endpoint does not do this form.
        if !cut && self.judge.read_badly() && self.traits.step_down(self.bench.clock.now()) {
            self.judge.learn(&self.traits);
        }
        Next::Stop
    }

    fn spend(&mut self, usage: &Usage) {
        let before = self.vote.tokens;
        self.vote.tokens =
            VoteTokens { input: before.input + usage.input_tokens, output: before.output + usage.output_tokens };
        self.vote.cost_usd += self.judge.cost(usage);
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
