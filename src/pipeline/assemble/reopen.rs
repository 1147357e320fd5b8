//! Spans and logs that come after their trace was decided on: what they change, and what is judged again because of it.
//!
//! Called by `assemble`, for every trace that has a row already. Its rules: a trace is judged again once, within
//! `assembly.reopen_ms` of its decision, and only by rubrics that read what has changed; the decision to keep it stands, for its
//! probability is the one by which it was kept; votes are kept where the judges would be asked the same. What comes after that
//! is counted and not put into the trace, so that what is stored is what was judged. Rubrics about spans are left alone; a session
//! goes on with what came late. The way not taken: judging again for each
//! late span, whose number has no bound. Pure but for the clock and budgets that it is given.

use super::lift::assemble;
use crate::app::App;
use crate::checks;
use crate::domain::ids::again_id;
use crate::domain::job::Job;
use crate::domain::rubric::{Output, Rubric, Variable};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::{Outcome, TraceLabels, Verdict};
use crate::judge::prompt;
use crate::pipeline::enqueue::{self, Enqueued, enqueue, join_ids, labels, reason_not_to_judge};
use crate::pipeline::sample::session_of;
use crate::store::reopen::{Again, Earlier, LateSpans, Renewed, Reopened, Retally, Unit};
use crate::store::sessions::SessionTrace;
use crate::store::traces::{DecidedTrace, Settlement};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What deciding about late spans needs.
pub(super) struct Late<'a> {
    pub app: &'a App,
    /// Versions of rubrics that judged and are no longer active.
    pub older: &'a [Arc<Rubric>],
    pub now: DateTime<Utc>,
}

/// A trace without and with what came late.
struct Pair {
    before: Trace,
    after: Trace,
    inputs: [BTreeMap<Variable, String>; 2],
}

impl Late<'_> {
    /// Takes spans that came late for a trace.
    pub fn take(&self, trace_id: String, new: Vec<Span>, earlier: &Earlier, settlement: &mut Settlement) {
        let stored = earlier.body.as_deref().and_then(|body| serde_json::from_slice::<Trace>(body).ok());
        let Some(stored) = stored else {
            // Sampling left it out, and that stands; or retention has removed it. Its spans are gone.
            settlement.late.push(LateSpans { trace_id, count: count(new.len()) });
            return;
        };
        let pieces = stored.into_pieces();
        let fresh = fresh(&pieces, new);
        if fresh.is_empty() {
            return;
        }
        let late = count(fresh.len());
        let window = i64::try_from(self.app.bench.config.assembly.reopen_ms).unwrap_or(i64::MAX);
        let waited = (earlier.late_since - earlier.decided_at).num_milliseconds();
        if earlier.reopened || waited > window {
            settlement.late.push(LateSpans { trace_id, count: late });
            return;
        }
        // Both are put together now, so that another version of this program makes no difference.
        let before = assemble(&trace_id, pieces.clone());
        let after = assemble(&trace_id, pieces.into_iter().chain(fresh).collect());
        let inputs = [prompt::inputs(&before), prompt::inputs(&after)];
        let pair = Pair { before, after, inputs };
        let again = earlier.units.iter().filter_map(|unit| self.again(unit, earlier, &pair)).collect();
        settlement.sessions.extend(session(&pair, earlier));
        let was = decided(&pair.before, earlier);
        let is = decided(&pair.after, earlier);
        let moved = was.labels != is.labels || was.status != is.status;
        let tally = moved.then(|| Box::new(Retally { decided_at: earlier.decided_at, was, is }));
        let body = serde_json::to_vec(&pair.after).expect("a trace can be written as JSON");
        settlement.reopened.push(Reopened { trace_id, count: late, body, tally, again });
    }

    /// What takes the place of a job or verdict; `None` when it can stay.
    fn again(&self, unit: &Unit, earlier: &Earlier, pair: &Pair) -> Option<Again> {
        let catalog = self.app.bench.rubrics.load();
        let active = catalog.get(&unit.rubric, &unit.rubric_version);
        let is_it = |r: &&Arc<Rubric>| r.name == unit.rubric && r.version == unit.rubric_version;
        // A version that is not stored any more has nothing new to say.
        let rubric = active.or_else(|| self.older.iter().find(is_it))?;
        if rubric.evaluates != Evaluates::Trace {
            return None;
        }
        // Left out by the rubric's own sample once, left out for good.
        let outside = (unit.outcome == Some(Outcome::SampledOut)).then(|| unit.explanation.clone());
        let was = reason_not_to_judge(&pair.before, outside.clone(), rubric, &pair.inputs[0]);
        let is = reason_not_to_judge(&pair.after, outside, rubric, &pair.inputs[1]);
        let about = |trace: &Trace| (labels(&trace.view), join_ids(&trace.view));
        let relabelled = about(&pair.before) != about(&pair.after);
        let new = match (was, is) {
            (was, Some(is)) if was.as_ref() != Some(&is) || relabelled => self.unjudged(unit, rubric, pair, is),
            (_, Some(_)) => return None,
            (Some(_), None) => self.drawn(unit, rubric, earlier, pair),
            (None, None) => {
                let differs = self.reads_what_changed(rubric, pair);
                if !differs && !relabelled {
                    return None;
                }
                Renewed::Job(self.job(unit, pair), !differs)
            }
        };
        Some(Again { old: unit.id, new })
    }

    fn job(&self, unit: &Unit, pair: &Pair) -> Job {
        let (whole, times) = (crate::domain::unit::Unit::Trace, (self.now, self.now + self.job_for()));
        Job {
            id: again_id(unit.id, 1),
            inclusion_probability: unit.inclusion_probability,
            ..Job::new(&pair.after.trace_id, whole, (&unit.rubric, &unit.rubric_version), times)
        }
    }

    fn job_for(&self) -> TimeDelta {
        crate::pipeline::seconds(self.app.bench.config.work.job_seconds_max)
    }

    fn unjudged(&self, unit: &Unit, rubric: &Rubric, pair: &Pair, (outcome, why): (Outcome, String)) -> Renewed {
        let (labels, join) = (labels(&pair.after.view), join_ids(&pair.after.view));
        let verdict = self.job(unit, pair).unscored(outcome, why, labels, self.now);
        Renewed::Verdict(Box::new(Verdict { join, kind: rubric.output.kind(), ..verdict }))
    }

    /// The rubric said nothing about the trace before, so it has not drawn either.
    fn drawn(&self, unit: &Unit, rubric: &Arc<Rubric>, earlier: &Earlier, pair: &Pair) -> Renewed {
        let ledger = &self.app.bench.ledger;
        let lowered = |rubric: &Rubric, labels: &TraceLabels| {
            if rubric.panel.is_empty() { None } else { ledger.rate(&rubric.name, labels, self.now) }
        };
        let (rubrics, times) = ([Arc::clone(rubric)], (self.now, self.job_for()));
        match enqueue(&pair.after, &earlier.decision, &rubrics, &lowered, times).pop() {
            Some(Enqueued::Verdict(verdict)) => {
                Renewed::Verdict(Box::new(Verdict { id: again_id(unit.id, 1), ..*verdict }))
            }
            Some(Enqueued::Job(job)) => Renewed::Job(Job { id: again_id(unit.id, 1), ..job }, false),
            // One rubric gives one of the two.
            None => Renewed::Job(self.job(unit, pair), false),
        }
    }

    /// Whether checks find another thing, or judges would be asked another.
    fn reads_what_changed(&self, rubric: &Arc<Rubric>, pair: &Pair) -> bool {
        let found = || checks::run_all(&rubric.checks, &pair.before) != checks::run_all(&rubric.checks, &pair.after);
        // A check that panics is a bug; the worker lives with it, and so must this.
        if catch_unwind(AssertUnwindSafe(found)).unwrap_or(true) {
            return true;
        }
        if rubric.panel.is_empty() {
            return false;
        }
        let Ok(template) = self.app.bench.templates.of(rubric) else { return true };
        let claims = matches!(rubric.output, Output::Claims { .. });
        let read = Variable::IN_PROMPTS
            .iter()
            .filter(|v| template.used().contains(v) || (claims && **v != Variable::Metadata));
        let [before, after] = &pair.inputs;
        read.into_iter().any(|variable| before.get(variable) != after.get(variable))
    }
}

/// Spans that are not among those that the trace has.
fn fresh(pieces: &[Span], new: Vec<Span>) -> Vec<Span> {
    let mut known: HashMap<&str, Vec<&Span>> = HashMap::with_capacity(pieces.len());
    for piece in pieces {
        known.entry(&piece.span_id).or_default().push(piece);
    }
    let is_new = |span: &Span| !known.get(span.span_id.as_str()).is_some_and(|all| all.iter().any(|p| same(p, span)));
    new.into_iter().filter(is_new).collect()
}

/// Whether two are the same span, or the same record of a log, which may have had another place in its body.
fn same(a: &Span, b: &Span) -> bool {
    if a.part.is_none() || b.part.is_none() || a.started_at.is_none() {
        return a == b;
    }
    let bare = |span: &Span| Span { part: None, ..span.clone() };
    bare(a) == bare(b)
}

/// Whether a record holds labels and nothing else: feedback comes minutes later, and is no part of any trace.
pub(super) fn is_feedback(span: &Span) -> bool {
    span.part.is_some() && !span.labels.is_empty() && span.input.is_empty() && span.output.is_empty()
}

/// The trace as a turn of its session, where that has changed: the session is judged again when it is quiet.
fn session(pair: &Pair, earlier: &Earlier) -> Option<SessionTrace> {
    let key = session_of(&pair.after.view)?;
    let changed = session_of(&pair.before.view) != Some(key) || pair.inputs[0] != pair.inputs[1];
    changed.then(|| SessionTrace {
        key,
        session: pair.after.view.session.clone().unwrap_or_default(),
        trace_id: pair.after.trace_id.clone(),
        started_at: pair.after.view.started_at,
        decision: earlier.decision.clone(),
        labels: labels(&pair.after.view),
    })
}

fn decided(trace: &Trace, earlier: &Earlier) -> DecidedTrace {
    DecidedTrace {
        trace_id: trace.trace_id.clone(),
        decision: earlier.decision.clone(),
        span_count: count(trace.spans.len()),
        body: None,
        labels: enqueue::labels(&trace.view),
        status: if trace.failed() { "error" } else { "ok" },
        // Counted for the limits when it was decided on.
        counts: Vec::new(),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
