//! Stored units judged again by another version of a rubric: what that would cost, the jobs for it, and what came of them.
//!
//! Called by `cli::replay`. Its rule: each unit is named by a hash of unit and version, so the same replay asked for twice, or begun and
//! broken off, is one; what the version has judged live is not judged again; its jobs wait until nothing fresh waits. The way not
//! taken: judging in the command itself, which ends with its terminal and knows nothing of the workers' limits and budgets.

use super::enqueue::{self, Enqueued};
use super::evaluate::{self, Foreseen};
use super::{sessions, units};
use crate::app::Bench;
use crate::domain::job::Job;
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::unit::{Evaluates, Unit, replay_id};
use crate::domain::verdict::Verdict;
use crate::stats::estimate::Level;
use crate::stats::paired::{self, Comparison, Pair};
use crate::store::replay::{Again, Candidate, ReplayFilter, ReplayPair, SessionCandidate};
use crate::store::{Store, StoreError};
use chrono::{DateTime, TimeDelta};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Traces that are read at once.
const PAGE: usize = 200;

/// Units of which the cost is reckoned; that of the others is taken to be alike.
const RECKONED_MAX: usize = 200;

/// Days that a job of a replay may wait.
const DAYS_MAX: i64 = 30;

/// What a replay comes to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Stored traces (of a rubric about sessions: sessions) that fit.
    pub fitting: u64,
    /// Of these, those that are within the limit.
    pub taken: usize,
    /// Of the traces that are taken, those whose text retention has removed; they cannot be judged again.
    pub removed: usize,
    /// Units that are judged again.
    pub to_judge: usize,
    /// Units that this version has judged already, live or in a replay, or that wait for it.
    pub known: usize,
    /// Units of which nothing is to be judged, for the rubric is not about them or they lack an input.
    pub not_judged: usize,
    /// What judging costs, reckoned from some of them.
    pub cost: Cost,
}

/// What judging costs, reckoned from some units.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Units that it is reckoned from.
    pub reckoned: usize,
    /// Of these, those that a check decides.
    pub by_check: usize,
    /// Votes that they need.
    pub votes: usize,
    /// Of these, those in the cache.
    pub cached: usize,
    /// For all units to judge, in US dollars; absent when nothing is known of prices.
    pub usd: Option<f64>,
}

/// What came of a replay, beside what was said before.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Units that wait to be judged again.
    pub waiting: u64,
    /// Units that were judged again.
    pub pairs: Vec<ReplayPair>,
    /// Share that passes now less the share that passed before, over units that were scored both times.
    pub passing: Option<Comparison>,
}

/// What is to be done of a page.
struct Part {
    again: Again,
    known: usize,
}

/// Looks what there is to do; with `go`, stores the jobs for it.
///
/// # Errors
/// When the database fails; what was stored until then stays, and is not stored twice.
pub async fn replay(
    (bench, store): (&Bench, &Store),
    rubric: &Arc<Rubric>,
    filter: &ReplayFilter,
    go: bool,
) -> Result<Plan, StoreError> {
    // The rubric's own sample is for the stream of new traces; here the limit says how many.
    let rubric = &Arc::new(Rubric { sample: 1.0, ..rubric.as_ref().clone() });
    let mut plan = Plan::default();
    let mut foreseen: Vec<Foreseen> = Vec::new();
    if go {
        store.put_rubrics(&[rubric.as_ref()], DateTime::UNIX_EPOCH).await?;
    }
    let desk = Desk { bench, store, rubric };
    if rubric.evaluates == Evaluates::Session {
        let (found, fitting) = store.replay_sessions(filter).await?;
        (plan.fitting, plan.taken) = (fitting, found.len());
        for page in found.chunks(PAGE) {
            let part = desk.unknown(desk.of_sessions(page, share(found.len(), fitting))).await?;
            let wanted = RECKONED_MAX.saturating_sub(foreseen.len());
            foreseen.extend(desk.reckon_sessions(&part.again.jobs, wanted).await?);
            desk.add(&mut plan, part, go).await?;
        }
    } else {
        let (found, fitting) = store.replay_candidates(filter).await?;
        (plan.fitting, plan.taken) = (fitting, found.len());
        for page in found.chunks(PAGE) {
            let (again, seen) = desk.of_traces(page, share(found.len(), fitting)).await?;
            plan.removed += page.len() - seen.len();
            let part = desk.unknown(again).await?;
            let open = part.again.jobs.iter().take(RECKONED_MAX.saturating_sub(foreseen.len()));
            foreseen.extend(open.filter_map(|job| desk.reckon(job, seen.get(&job.trace_id)?)));
            desk.add(&mut plan, part, go).await?;
        }
    }
    plan.cost = desk.cost(&foreseen, plan.to_judge).await?;
    Ok(plan)
}

/// The share of what fits that is taken.
fn share(taken: usize, fitting: u64) -> f64 {
    if fitting == 0 { 1.0 } else { (taken as f64 / fitting as f64).min(1.0) }
}

/// Where a rubric is held against what is stored.
struct Desk<'a> {
    bench: &'a Bench,
    store: &'a Store,
    rubric: &'a Arc<Rubric>,
}

impl Desk<'_> {
    fn of_sessions(&self, page: &[SessionCandidate], share: f64) -> Again {
        let now = self.bench.clock.now();
        let one = |candidate: &SessionCandidate| {
            let (unit, rubric) = (Unit::Session(candidate.session.clone()), self.rubric);
            let times = (now, now + TimeDelta::days(DAYS_MAX));
            Job {
                replay: true,
                inclusion_probability: candidate.inclusion_probability * share,
                ..Job::new(&candidate.trace_id, unit, (&rubric.name, &rubric.version), times)
            }
        };
        Again { jobs: page.iter().map(one).collect(), verdicts: Vec::new() }
    }

    /// What the rubric makes of some stored traces, and these.
    async fn of_traces(&self, page: &[Candidate], share: f64) -> Result<(Again, HashMap<String, Trace>), StoreError> {
        let ids: Vec<String> = page.iter().map(|c| c.trace_id.clone()).collect();
        let (mut again, mut seen) = (Again::default(), HashMap::new());
        let times = (self.bench.clock.now(), TimeDelta::days(DAYS_MAX));
        for (id, body) in self.store.trace_bodies(&ids).await? {
            let found = page.iter().find(|c| c.trace_id == id);
            let (Some(found), Ok(trace)) = (found, serde_json::from_slice::<Trace>(&body)) else { continue };
            let mut decision = found.decision.clone();
            decision.probability *= share;
            let rubrics = std::slice::from_ref(self.rubric);
            for made in enqueue::enqueue(&trace, &decision, rubrics, &enqueue::not_lowered, times) {
                match made {
                    Enqueued::Job(job) => again.jobs.push(Job { replay: true, ..job }),
                    Enqueued::Verdict(verdict) => again.verdicts.push(*verdict),
                }
            }
            seen.insert(id, trace);
        }
        Ok((again, seen))
    }

    /// Without what this version has judged, live or again, or is about to; the rest under the ids of a replay.
    async fn unknown(&self, again: Again) -> Result<Part, StoreError> {
        let ids: Vec<Uuid> = again.jobs.iter().map(|j| j.id).chain(again.verdicts.iter().map(|v| v.id)).collect();
        let both: Vec<Uuid> = ids.iter().copied().chain(ids.iter().map(|id| replay_id(*id))).collect();
        let there = self.store.known_units(&both).await?;
        let is_new = |id: Uuid| !there.contains(&id) && !there.contains(&replay_id(id));
        let jobs = again.jobs.into_iter().filter(|j| is_new(j.id)).map(|j| Job { id: replay_id(j.id), ..j });
        let verdicts =
            again.verdicts.into_iter().filter(|v| is_new(v.id)).map(|v| Verdict { id: replay_id(v.id), ..v });
        let again = Again { jobs: jobs.collect(), verdicts: verdicts.collect() };
        let known = ids.len() - again.jobs.len() - again.verdicts.len();
        Ok(Part { again, known })
    }

    fn reckon(&self, job: &Job, trace: &Trace) -> Option<Foreseen> {
        match job.unit.span_id() {
            Some(span) => evaluate::foresee(self.bench, self.rubric, &units::span_view(trace, span)?),
            None => evaluate::foresee(self.bench, self.rubric, trace),
        }
    }

    async fn reckon_sessions(&self, jobs: &[Job], wanted: usize) -> Result<Vec<Foreseen>, StoreError> {
        let most = i64::from(self.bench.config.sessions.traces_max);
        let mut found = Vec::new();
        for (job, session) in jobs.iter().take(wanted).filter_map(|job| Some((job, job.unit.session()?))) {
            let bodies = self.store.session_bodies(session.key, job.enqueued_at, most).await?;
            if let Some((seen, _)) = sessions::stored_view(self.bench, self.rubric, &bodies) {
                found.extend(evaluate::foresee(self.bench, self.rubric, &seen));
            }
        }
        Ok(found)
    }

    async fn add(&self, plan: &mut Plan, part: Part, go: bool) -> Result<(), StoreError> {
        plan.to_judge += part.again.jobs.len();
        plan.not_judged += part.again.verdicts.len();
        plan.known += part.known;
        if go {
            self.store.put_replay(part.again).await?;
        }
        Ok(())
    }

    async fn cost(&self, foreseen: &[Foreseen], all: usize) -> Result<Cost, StoreError> {
        let now = self.bench.clock.now();
        let keys: Vec<String> = foreseen.iter().flat_map(|f| f.votes.iter().map(|(key, _)| key.clone())).collect();
        let cached = self.store.cached_votes(&keys, now).await?;
        let asked: Vec<&(String, Option<f64>)> = foreseen.iter().flat_map(|f| &f.votes).collect();
        let dear: Vec<Option<f64>> =
            asked.iter().filter(|(key, _)| !cached.contains_key(key)).map(|(_, usd)| *usd).collect();
        let each = match dear.iter().copied().sum::<Option<f64>>() {
            _ if foreseen.is_empty() => None,
            Some(usd) => Some(usd / foreseen.len() as f64),
            // The number of requests depends on the answers: what it has cost so far says it best.
            None => self.store.mean_cost(&self.rubric.name, now - TimeDelta::days(DAYS_MAX)).await?,
        };
        Ok(Cost {
            reckoned: foreseen.len(),
            by_check: foreseen.iter().filter(|f| f.by_check).count(),
            votes: asked.len(),
            cached: asked.len() - dear.len(),
            usd: if all == 0 { Some(0.0) } else { each.map(|usd| usd * all as f64) },
        })
    }
}

/// Units of a result that are read at most.
const PAIRS_MAX: i64 = 100_000;

/// What came of a version's replay.
///
/// # Errors
/// When the database fails.
pub async fn outcome(store: &Store, rubric: &Rubric) -> Result<Outcome, StoreError> {
    let waiting = store.replay_waiting(&rubric.name, &rubric.version).await?;
    let pairs = store.replay_pairs(&rubric.name, &rubric.version, PAIRS_MAX).await?;
    let both = pairs.iter().filter_map(|p| {
        let weight = 1.0 / p.inclusion_probability;
        Some(Pair { first: p.passed?, second: p.old_passed?, weight }).filter(|_| weight.is_finite())
    });
    let both: Vec<Pair> = both.collect();
    Ok(Outcome { waiting, passing: paired::compare(&both, Level::P95).ok(), pairs })
}
