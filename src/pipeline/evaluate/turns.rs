//! Asking a panel: all judges at the same time, or one after another until the verdict is sure.
//!
//! Called by `evaluate`. Its rule: a judge that fails holds nobody up: the next one is asked, and it is its turn again in the
//! next attempt; at the end of the lease those that have not answered have failed this attempt.

use super::Bounds;
use super::ask::{Failure, ask_judge};
use super::batched::waits_for_batch;
use super::question::Question;
use crate::app::Bench;
use crate::domain::job::Job;
use crate::domain::rubric::Ask;
use crate::domain::verdict::{Stopped, Vote};
use crate::judge::panel;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;

const OUT_OF_TIME: &str = "timeout: no reply before the job's lease ran out (work.lease_ms)";

const INTERRUPTED: &str = "interrupted: the worker was stopped";

/// What the judges said in this attempt.
pub(super) struct Answers {
    pub votes: Vec<Vote>,
    /// Why the others were not asked.
    pub stopped: Option<Stopped>,
    pub interrupted: bool,
    pub wait: Option<Duration>,
    /// Every failure was one that counts for nothing.
    pub free: bool,
}

impl Answers {
    fn add(&mut self, vote: Vote, failure: &Failure) {
        self.wait = self.wait.max(failure.wait);
        self.free &= vote.is_settled() || failure.free;
        self.votes.push(vote);
    }
}

/// Asks the judges that have not voted yet.
pub(super) async fn ask_panel(bench: &Bench, question: &Question, job: &Job, bounds: &Bounds) -> Answers {
    let mut answers = Answers { votes: Vec::new(), stopped: None, interrupted: false, wait: None, free: true };
    match question.rubric.ask {
        Ask::Together => together(bench, question, job, bounds, &mut answers).await,
        Ask::InTurn => in_turn(bench, question, job, bounds, &mut answers).await,
    }
    answers
}

async fn together(bench: &Bench, question: &Question, job: &Job, bounds: &Bounds, answers: &mut Answers) {
    let open = panel::still_to_ask(&question.rubric.panel, &job.votes);
    let mut calls: FuturesUnordered<_> =
        open.iter().map(|seat| Box::pin(ask_judge(bench, question, job, seat))).collect();
    loop {
        tokio::select! {
            next = calls.next() => match next {
                Some((vote, failure)) => answers.add(vote, &failure),
                None => return,
            },
            () = bounds.cancel.cancelled() => {
                answers.interrupted = true;
                break;
            }
            () = tokio::time::sleep_until(bounds.until) => break,
        }
    }
    drop(calls);
    let why = if answers.interrupted { INTERRUPTED } else { OUT_OF_TIME };
    let silent: Vec<&str> = open.into_iter().filter(|seat| answers.votes.iter().all(|v| v.judge != *seat)).collect();
    for seat in silent {
        answers.add(question.cut_off(seat, why), &Failure::default());
    }
}

async fn in_turn(bench: &Bench, question: &Question, job: &Job, bounds: &Bounds, answers: &mut Answers) {
    let rubric = &question.rubric;
    let models = bench.panel_models.load();
    let known = bench.known(&models, rubric);
    let price = |name: &str| {
        let price = bench.judges.get(name)?.price?;
        Some(price.input_usd_per_million + price.output_usd_per_million)
    };
    for seat in panel::order(&rubric.panel, known.model, price) {
        let so_far = panel::merge(&rubric.panel, job.votes.clone(), answers.votes.clone());
        answers.stopped = panel::stopped(rubric, &so_far, &known);
        if answers.stopped.is_some() {
            return;
        }
        if so_far.iter().any(|v| v.judge == seat && v.is_settled()) {
            continue;
        }
        tokio::select! {
            (vote, failure) = ask_judge(bench, question, job, &seat) => {
                // The next judge is asked when this one has failed, not while its batch is under way.
                let waits = waits_for_batch(&vote);
                answers.add(vote, &failure);
                if waits {
                    return;
                }
            }
            () = bounds.cancel.cancelled() => {
                answers.interrupted = true;
                answers.add(question.cut_off(&seat, INTERRUPTED), &Failure::default());
                return;
            }
            () = tokio::time::sleep_until(bounds.until) => {
                answers.add(question.cut_off(&seat, OUT_OF_TIME), &Failure::default());
                return;
            }
        }
    }
    let all = panel::merge(&rubric.panel, job.votes.clone(), answers.votes.clone());
    answers.stopped = panel::stopped(rubric, &all, &known);
}
