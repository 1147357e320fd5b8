//! Steps 3 and 4 for sessions: a session that has been quiet for a while × rubrics about sessions → jobs.
//!
//! A loop over `store::sessions`, and [`view`] for whoever judges one. Its rule: a session is judged when all its traces are stored that
//! sampling does not exclude altogether, with the probability of just that; half a conversation is never judged as a whole one. When
//! it goes on it is judged again, and the new verdict stands in the old one's place. The way not taken: judging whatever turns
//! happen to be stored, which favours sessions with errors and boosted turns and has no probability that anyone could name.

use super::enqueue::{Enqueued, Lowered, outside};
use super::units::{self, Shown};
use super::{note, sample};
use crate::app::{App, Bench};
use crate::domain::ids::hashed_randomness;
use crate::domain::job::Job;
use crate::domain::rubric::{Rubric, Variable};
use crate::domain::trace::Trace;
use crate::domain::unit::{Evaluates, SessionRef, Unit};
use crate::domain::verdict::{Outcome, TraceLabels, Verdict};
use crate::judge::prompt;
use crate::llm::judges::JudgeHandle;
use crate::llm::tokens;
use crate::store::StoreError;
use crate::store::sessions::{DueSession, SessionBodies, SessionTimes};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Sessions taken in one transaction at most.
const BATCH_MAX: i64 = 200;

/// Kept back from a judge's window for the instructions and for text that has more tokens than counted, in tokens.
const SPARE_TOKENS: usize = 1_000;

/// Looks for due sessions until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let tick = Duration::from_millis(app.bench.config.sessions.tick_ms);
    while !stop.is_cancelled() {
        match batch(&app).await {
            Ok(true) => continue, // more may be due
            Ok(false) => {}
            Err(error) => note(&app, &error, "sessions were not taken, trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// When sessions are due, by the configuration.
#[must_use]
pub fn times(bench: &Bench) -> SessionTimes {
    let config = &bench.config.sessions;
    SessionTimes { quiet: super::seconds(config.quiet_seconds), cap: super::seconds(config.cap_seconds) }
}

/// Takes a batch of due sessions; true when there was one.
///
/// # Errors
/// When the database fails; then the sessions stay due.
pub async fn batch(app: &App) -> Result<bool, StoreError> {
    let now = app.bench.clock.now();
    let Some(due) = app.store.take_due_sessions(now, BATCH_MAX).await? else { return Ok(false) };
    let config = &app.bench.config;
    let rubrics = app.bench.rubrics.load();
    let ledger = &app.bench.ledger;
    let lowered = |rubric: &Rubric, labels: &TraceLabels| {
        if rubric.panel.is_empty() { None } else { ledger.rate(&rubric.name, labels, now) }
    };
    let (mut jobs, mut verdicts) = (Vec::new(), Vec::new());
    for session in &due.sessions {
        let times = (now, super::seconds(config.work.job_seconds_max));
        for enqueued in enqueue(session, rubrics.active(), &lowered, (&config.sampling.hash_key, times)) {
            match enqueued {
                Enqueued::Job(job) => jobs.push(job),
                Enqueued::Verdict(verdict) => verdicts.push(*verdict),
            }
        }
    }
    let at_once: Vec<(String, &'static str)> =
        verdicts.iter().map(|v| (v.rubric.clone(), v.outcome.as_str())).collect();
    let has_jobs = !jobs.is_empty();
    due.settle((jobs, verdicts), &app.sink_names(), now).await?;
    for (rubric, outcome) in at_once {
        app.bench.metrics.verdicts.with_label_values(&[rubric.as_str(), outcome]).inc();
    }
    if has_jobs {
        app.wake.jobs.notify_one();
    }
    Ok(true)
}

/// The draw of a session as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Drawn {
    /// Whether all its traces are stored that could be.
    whole: bool,
    /// Probability with which all of them were to be kept.
    probability: f64,
    /// The bits that its traces share, with the highest of their thresholds; absent where any of them drew by itself.
    shared: Option<(u64, u64)>,
    left_out: usize,
}

/// All traces that share a draw are kept together with the lowest of their probabilities; those that drew by themselves each with its
/// own, independently of all others.
fn drawn(session: &DueSession) -> Drawn {
    let possible = || session.members.iter().map(|m| &m.decision).filter(|d| d.probability > 0.0);
    let (together, apart): (Vec<_>, Vec<_>) = possible().partition(|d| d.source == sample::SESSION);
    let shared = together.iter().map(|d| d.probability).fold(1.0, f64::min);
    let alone: f64 = apart.iter().map(|d| d.probability).product();
    let highest = together.iter().map(|d| d.threshold).max();
    let left_out = possible().filter(|d| !d.kept).count();
    Drawn {
        whole: left_out == 0,
        probability: shared * alone,
        shared: together.first().filter(|_| apart.is_empty()).map(|d| d.randomness).zip(highest),
        left_out,
    }
}

/// What the rubrics about sessions make of one; nothing of a session of which no trace is stored.
fn enqueue(
    session: &DueSession,
    rubrics: &[Arc<Rubric>],
    lowered: Lowered<'_>,
    (hash_key, (now, job_for)): (&str, (DateTime<Utc>, TimeDelta)),
) -> Vec<Enqueued> {
    let Some(last) = session.members.iter().rfind(|m| m.decision.kept) else { return Vec::new() };
    let drawn = drawn(session);
    let one = |rubric: &Arc<Rubric>| {
        let less = lowered(rubric, &session.labels);
        let sample = rubric.sample * less.as_ref().map_or(1.0, |(rate, _)| *rate);
        let unit =
            Unit::Session(SessionRef { key: session.key, session: session.session.clone(), ordinal: session.ordinal });
        let job = Job {
            inclusion_probability: drawn.probability * sample,
            ..Job::new(&last.trace_id, unit, (&rubric.name, &rubric.version), (now, now + job_for))
        };
        // Nested in the session's own draw where it has one.
        let own = || (hashed_randomness(&format!("{hash_key} rubric"), &session.key.to_string()), 0);
        let (randomness, threshold) = drawn.shared.unwrap_or_else(own);
        let why = if !drawn.whole {
            let (n, of) = (drawn.left_out, session.members.len());
            Some(format!(
                "{n} of the session's {of} traces were left out by sampling, so it cannot be judged as a whole"
            ))
        } else if randomness < sample::nested(threshold, sample::threshold(sample)) {
            Some(outside(rubric, less.as_ref()))
        } else {
            None
        };
        match why {
            None => Enqueued::Job(job),
            Some(why) => {
                let verdict = job.unscored(Outcome::SampledOut, why, session.labels.clone(), now);
                Enqueued::Verdict(Box::new(Verdict { kind: rubric.output.kind(), ..verdict }))
            }
        }
    };
    rubrics.iter().filter(|rubric| rubric.evaluates == Evaluates::Session).map(one).collect()
}

/// A stored session as a rubric's judges see it; `None` when nothing of it is stored any more.
#[must_use]
pub fn stored_view(bench: &Bench, rubric: &Rubric, found: &SessionBodies) -> Option<(Trace, Shown)> {
    let traces: Vec<Trace> = found.bodies.iter().filter_map(|body| Trace::to_judge(body).ok()).collect();
    (!traces.is_empty()).then(|| view(bench, rubric, &traces, (found.known, found.excluded)))
}

/// A session as a rubric's judges see it: the transcript fits the smallest of their windows. `counts`: traces in all, and those that
/// sampling excludes.
#[must_use]
pub fn view(bench: &Bench, rubric: &Rubric, traces: &[Trace], counts: (usize, usize)) -> (Trace, Shown) {
    let (mut made, mut shown) = units::session_view(traces, counts, &|whole| room(bench, rubric, whole, None));
    // Bytes per token differ by language: where the first guess was too long for a window, it is made once more with what was counted.
    if let Some(text) = made.conversation.clone() {
        let fits = room(bench, rubric, &made, Some(&text));
        if text.len() > fits {
            (made, shown) = units::session_view(traces, counts, &|_| fits);
        }
    }
    (made, shown)
}

/// Bytes that a transcript may have beside the other inputs of the prompt. `like` is a transcript whose tokens are counted.
fn room(bench: &Bench, rubric: &Rubric, session: &Trace, like: Option<&str>) -> usize {
    let Ok(template) = bench.templates.of(rubric) else { return usize::MAX };
    let mut inputs = prompt::inputs(session);
    inputs.remove(&Variable::Conversation);
    let others = template.input_bytes(&inputs) + rubric.prompt.as_deref().map_or(0, str::len);
    let of = |judge: &Arc<JudgeHandle>| {
        let config = &judge.config;
        let taken = config.output_tokens_max() as usize + SPARE_TOKENS + others / 2;
        let tokens = config.window_tokens.saturating_sub(taken);
        let Some(text) = like.filter(|text| !text.is_empty()) else { return tokens.saturating_mul(4) };
        if !tokens::may_exceed(text.len(), tokens) {
            return usize::MAX;
        }
        let counted = tokens::count(&config.model, text);
        // A little less than the exact share, since the part that stays may be the denser one.
        if counted <= tokens { usize::MAX } else { text.len().saturating_mul(tokens) / counted * 9 / 10 }
    };
    let judges = bench.judges.all().filter(|judge| rubric.panel.contains(&judge.name));
    let most = bench.config.work.input_bytes_max.saturating_sub(others);
    judges.map(of).min().unwrap_or(usize::MAX).min(most)
}

/// What a verdict says of the session's transcript.
pub fn tell(verdict: &mut Verdict, shown: Shown) {
    verdict.detail["session"] = serde_json::json!(shown);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sampling;
    use crate::domain::policy::SampleDecision;
    use crate::store::sessions::Member;

    fn member(n: usize, rate: f64, (source, randomness): (&str, u64)) -> Member {
        let threshold = sample::threshold(rate);
        let decision = SampleDecision {
            kept: randomness >= threshold,
            rule: "r".to_owned(),
            probability: rate,
            randomness,
            threshold,
            source: source.to_owned(),
            ..SampleDecision::default()
        };
        Member { trace_id: format!("t{n}"), decision }
    }

    fn session(members: Vec<Member>) -> DueSession {
        let key = crate::domain::unit::session_key(None, None, "s");
        DueSession { key, session: "s".to_owned(), labels: TraceLabels::default(), ordinal: 1, members }
    }

    fn judged(session: &DueSession, sample: f64) -> Option<Enqueued> {
        let rubric = Rubric { evaluates: Evaluates::Session, sample, ..Rubric::default() };
        let times = (DateTime::UNIX_EPOCH, TimeDelta::hours(1));
        enqueue(session, &[Arc::new(rubric)], &super::super::enqueue::not_lowered, ("key", times)).pop()
    }

    #[test]
    fn a_session_is_as_likely_as_its_least_likely_trace() {
        let half = sample::NEVER / 2;
        let of = |rates: &[f64]| {
            session(rates.iter().enumerate().map(|(n, r)| member(n, *r, (sample::SESSION, half))).collect())
        };
        let Some(Enqueued::Job(job)) = judged(&of(&[1.0, 0.6, 0.9]), 1.0) else { panic!("it is whole") };
        assert!((job.inclusion_probability - 0.6).abs() < 1e-12);
        let Some(Enqueued::Verdict(verdict)) = judged(&of(&[1.0, 0.4]), 1.0) else { panic!("it is not whole") };
        assert_eq!(verdict.outcome, Outcome::SampledOut);
        assert!(verdict.explanation.starts_with("1 of the session's 2 traces"), "{}", verdict.explanation);
        assert!(judged(&of(&[0.4, 0.3]), 1.0).is_none(), "nothing of it is stored");
        let Some(Enqueued::Job(job)) = judged(&of(&[1.0, 0.0]), 1.0) else { panic!("excluded is not left out") };
        assert!((job.inclusion_probability - 1.0).abs() < 1e-12);
    }

    #[test]
    fn traces_that_draw_apart_multiply() {
        let high = sample::NEVER - 1;
        let both = session(vec![member(0, 0.5, ("trace id", high)), member(1, 0.5, ("keyed hash", high))]);
        let Some(Enqueued::Job(job)) = judged(&both, 1.0) else { panic!("it is whole") };
        assert!((job.inclusion_probability - 0.25).abs() < 1e-12);
    }

    /// The estimate that weights by the stored probability is right: over many sessions of mixed rates, the weighted number of
    /// judged ones is the number that there are.
    #[test]
    fn weighted_by_their_probability_sessions_add_up_to_all() {
        let policy = Sampling { default_rate: 0.4, ..Sampling::default() };
        let (mut total, all) = (0.0, 6_000);
        for s in 0..all {
            let traces = (0..=s % 4).map(|n| {
                let mut trace = Trace { trace_id: format!("{s}-{n}"), ..Trace::default() };
                trace.view.session = Some(format!("s{s}"));
                let rate = [1.0, 0.4, 0.7][(s + n) % 3];
                let policy = Sampling { default_rate: rate, ..policy.clone() };
                Member { trace_id: trace.trace_id.clone(), decision: sample::decide(&policy, &trace) }
            });
            let mut one = session(traces.collect());
            one.key = crate::domain::unit::session_key(None, None, &format!("s{s}"));
            if let Some(Enqueued::Job(job)) = judged(&one, 0.5) {
                total += 1.0 / job.inclusion_probability;
            }
        }
        let off = total / f64::from(u32::try_from(all).expect("small")) - 1.0;
        assert!(off.abs() < 0.06, "off by {off}");
    }
}
