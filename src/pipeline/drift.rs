//! Has a judge moved? Stored units are judged again from time to time, and each judge is compared with itself.
//!
//! Called by `pipeline::watch`, by whoever watches. Jobs, claims and verdicts are those of a replay, so nothing live sees them; a
//! canary's votes pass by the cache. Its rules: a run starts when it is time, when a judge is another than it was, or when an alert
//! asks; it never costs more than is left of the month's bound; of a run that is under way everything is in the database. The way
//! not taken: a second queue, and judging in the watch itself, which would wait for judges.

mod compare;
mod tell;

use crate::app::App;
use crate::domain::drift::{Canaries, Canary, Ended, Mark, Marks, Run, Why};
use crate::domain::job::Job;
use crate::domain::rubric::Rubric;
use crate::domain::unit::{Evaluates, Unit, canary_id, drift_run_id};
use crate::pipeline::watch::WatchError;
use crate::stats::many::budget::Budget;
use crate::store::StoreError;
use crate::store::drift::Drawn;
use chrono::{DateTime, TimeDelta, Utc};
use compare::{Known, compare, period, weigh};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// How often runs are looked after.
const EVERY: TimeDelta = TimeDelta::seconds(60);

/// How long after a run another one may start at the soonest, whatever asks for it.
const GAP: TimeDelta = TimeDelta::hours(1);

/// How long a run may take; then it ends with what there is.
const RUN_MAX: TimeDelta = TimeDelta::hours(24);

/// Canaries that a run takes at least: with fewer only a landslide would show.
const LEAST: usize = 20;

/// How much dearer than verdicts so far canaries may turn out, as a factor: a run that is dearer is stopped.
const DEARER: f64 = 1.2;

/// The window of what is spent.
const MONTH: TimeDelta = TimeDelta::days(30);

/// Rubrics in trouble, and since when.
pub(super) type Suspects = BTreeMap<String, DateTime<Utc>>;

/// What the one that watches remembers of drift; all of it can be read again.
#[derive(Debug, Default)]
pub(super) struct Drift {
    looked_at: Option<DateTime<Utc>>,
    /// Runs of the period, and the last of each rubric version.
    runs: Vec<Run>,
    /// Rubrics that could not have a run for its cost, which is said once.
    short: BTreeSet<String>,
}

/// Where canaries are drawn, judged and compared.
struct Desk<'a> {
    app: &'a App,
    now: DateTime<Utc>,
    /// Each judge's part of the false-alarm budget.
    alpha: f64,
}

impl Drift {
    /// Looks after the runs, once a minute: ends those that are done, begins those that are due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look(&mut self, app: &App, suspects: &Suspects, now: DateTime<Utc>) -> Result<(), WatchError> {
        if self.looked_at.is_some_and(|at| (now - at).abs() < EVERY) {
            return Ok(());
        }
        let answered_since = self.looked_at.map_or(now - GAP, |at| at.max(now - GAP));
        let config = &app.bench.config.watch;
        let catalog = app.bench.rubrics.load();
        let watched: Vec<&Arc<Rubric>> = catalog
            .active()
            .iter()
            .filter(|r| !r.panel.is_empty() && r.evaluates != Evaluates::Session && config.canaries.of(&r.name).0 > 0)
            .collect();
        let seats = watched.iter().map(|r| r.panel.len()).sum();
        let budget = Budget { per_month: config.false_alarms_per_month, ..Budget::default() };
        let desk = Desk { app, now, alpha: budget.judges(seats)? };
        let versions: Vec<(String, String)> = watched.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
        let mut runs = app.store.drift_runs(&versions, period(now)).await?;
        let answered = app.store.answered(answered_since).await?;
        for rubric in watched {
            let own = |r: &&Run| r.rubric == rubric.name && r.rubric_version == rubric.version;
            let history: Vec<Run> = runs.iter().filter(own).cloned().collect();
            let last = history.last();
            if let Some(open) = last.filter(|r| r.ended.is_none()) {
                if let Some(ended) = desk.keep_up(rubric, open, &history).await? {
                    runs.retain(|r| r.id != ended.id);
                    runs.push(ended);
                }
                continue;
            }
            let marks = desk.marks(rubric, last, &answered);
            let every = config.canaries.of(&rubric.name).1;
            let Some(why) = due(last, &marks, every, (suspects.get(&rubric.name), now)) else { continue };
            match desk.begin(rubric, last, (why, marks)).await? {
                Begun::Run(run) => runs.push(*run),
                Begun::TooDear if self.short.insert(rubric.name.clone()) => {
                    let rubric = rubric.name.as_str();
                    tracing::warn!(rubric, "no canaries are judged again: watch.canaries.usd_per_month is spent");
                }
                Begun::TooDear | Begun::TooFew => continue,
            }
            self.short.remove(&rubric.name);
        }
        runs.sort_by(|a, b| (&a.rubric, &a.rubric_version, a.number).cmp(&(&b.rubric, &b.rubric_version, b.number)));
        self.runs = runs;
        self.looked_at = Some(now);
        tell::show(app, &self.runs, app.store.drift_usd(now - MONTH).await?);
        Ok(())
    }

    /// What the canaries of a rubric say, where they were judged again since a time.
    pub fn canaries(&self, rubric: &str, version: &str, since: DateTime<Utc>) -> Option<Canaries> {
        let own = self.runs.iter().rev().filter(|r| r.rubric == rubric && r.rubric_version == version);
        let last = own.into_iter().find_map(|r| r.ended.as_ref())?;
        Some(last.result.canaries.clone()).filter(|c| c.of > 0 && c.at >= since)
    }

    /// The run that a finding about a judge is from.
    pub fn run_of(&self, rubric: &str, version: &str) -> Option<Uuid> {
        let own = self.runs.iter().rev().filter(|r| r.rubric == rubric && r.rubric_version == version);
        own.into_iter().find(|r| r.ended.is_some()).map(|r| r.id)
    }

    /// A person has closed the alert about a judge: what it says now is the new normal.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rebase(&mut self, app: &App, run: Uuid, judge: &str) -> Result<(), StoreError> {
        app.store.rebase_drift(run, judge).await?;
        if let Some(mark) = self.runs.iter_mut().find(|r| r.id == run).and_then(|r| r.judges.get_mut(judge)) {
            mark.rebased = true;
        }
        Ok(())
    }

    /// Judges that have moved, as findings.
    pub fn findings(&self, rubrics: &[Arc<Rubric>], now: DateTime<Utc>) -> Vec<crate::domain::alert::Finding> {
        tell::findings(&self.runs, rubrics, now)
    }
}

/// Why a run is due, if it is.
fn due(
    last: Option<&Run>,
    marks: &Marks,
    every_hours: f64,
    (suspect_since, now): (Option<&DateTime<Utc>>, DateTime<Utc>),
) -> Option<Why> {
    let Some(last) = last else { return Some(Why::First) };
    let age = now - last.started_at;
    if age < GAP {
        return None;
    }
    let is_other = |(judge, mark): (&String, &Mark)| {
        let before = last.judges.get(judge);
        before.is_none_or(|b| b.config != mark.config || !mark.models.is_subset(&b.models))
    };
    if marks.iter().any(is_other) {
        return Some(Why::JudgeChanged);
    }
    if suspect_since.is_some_and(|since| *since > last.started_at) {
        return Some(Why::Alert);
    }
    (age.as_seconds_f64() >= every_hours * 3_600.0).then_some(Why::Scheduled)
}

/// What came of the wish for a run.
enum Begun {
    Run(Box<Run>),
    /// Too few verdicts are a day old.
    TooFew,
    /// Too little is left of the month's bound.
    TooDear,
}

impl Desk<'_> {
    /// What the judges of a panel are now.
    fn marks(&self, rubric: &Rubric, last: Option<&Run>, answered: &[(String, String)]) -> Marks {
        let of = |judge: &String| {
            let parameters = self.app.bench.judges.get(judge).map(|j| j.parameters()).unwrap_or_default();
            let before = last.and_then(|r| r.judges.get(judge));
            let mut models = before.map(|m| m.models.clone()).unwrap_or_default();
            models.extend(answered.iter().filter(|(name, _)| name == judge).map(|(_, model)| model.clone()));
            let base = before.and_then(|m| if m.rebased { last.map(|r| r.id) } else { m.base });
            let config = crate::domain::ids::short_hash(&[parameters.to_string().as_bytes()], 16);
            (judge.clone(), Mark { config, models, base, rebased: false })
        };
        rubric.panel.iter().map(of).collect()
    }

    /// How many canaries the month's bound allows, and what they may cost; `None` while nothing is known of the cost.
    async fn affordable(&self, rubric: &Rubric, wanted: usize) -> Result<Option<(usize, f64)>, StoreError> {
        let store = &self.app.store;
        let most = self.app.bench.config.watch.canaries.usd_per_month;
        let left = (most - store.drift_usd(self.now - MONTH).await?).max(0.0);
        let priced = rubric.panel.iter().filter_map(|name| self.app.bench.judges.get(name)?.price);
        match store.mean_cost(&rubric.name, self.now - MONTH).await? {
            Some(each) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "not negative; it saturates"
                )]
                let fitting = (left / (each * DEARER)).floor() as usize;
                let fitting = fitting.min(wanted);
                Ok(Some((fitting, (fitting as f64 * each * DEARER).min(left))))
            }
            // Judges without a price cost nothing that is counted.
            None if priced.into_iter().all(|p| p.input_usd_per_million == 0.0 && p.output_usd_per_million == 0.0) => {
                Ok(Some((wanted, 0.0)))
            }
            None => Ok(None),
        }
    }

    async fn begin(
        &self,
        rubric: &Arc<Rubric>,
        last: Option<&Run>,
        (why, judges): (Why, Marks),
    ) -> Result<Begun, StoreError> {
        let store = &self.app.store;
        let wanted = self.app.bench.config.watch.canaries.of(&rubric.name).0 as usize;
        let Some((most, usd_max)) = self.affordable(rubric, wanted).await? else { return Ok(Begun::TooFew) };
        if most < LEAST {
            return Ok(Begun::TooDear);
        }
        let before = match last {
            Some(run) => store.drift_canaries(run.id).await?,
            None => Vec::new(),
        };
        let ids: Vec<Uuid> = before.iter().map(|c| c.verdict).collect();
        let kept = store.drawn_before(&ids).await?;
        let fresh = store
            .draw_canaries((&rubric.name, &rubric.version), i64::try_from(wanted).unwrap_or(i64::MAX), self.now)
            .await?;
        let number = last.map_or(1, |r| r.number + 1);
        let id = drift_run_id(&rubric.name, &rubric.version, number);
        let references = self.references(&before).await?;
        let drawn = selected(fresh, kept, most);
        if drawn.len() < LEAST {
            return Ok(Begun::TooFew);
        }
        let canary = |d: &Drawn| {
            // What people label is often what was judged badly: against that very judging any judge seems to have moved.
            let first = (!d.labelled).then_some(d.verdict);
            let reference = references.get(&d.verdict).copied().unwrap_or(first);
            Canary { verdict: d.verdict, job: canary_id(id, d.verdict), reference }
        };
        let canaries: Vec<Canary> = drawn.iter().map(canary).collect();
        let run = Run {
            id,
            rubric: rubric.name.clone(),
            rubric_version: rubric.version.clone(),
            number,
            why,
            judges,
            usd_max,
            started_at: self.now,
            due_at: self.now + RUN_MAX,
            ended: None,
        };
        let jobs = drawn.into_iter().zip(&canaries).map(|(d, c)| job(d, c, &run)).collect();
        if !store.begin_drift_run(&run, &canaries, jobs).await? {
            return Ok(Begun::TooFew);
        }
        self.app.wake.jobs.notify_waiters();
        self.app.bench.metrics.drift.runs.with_label_values(&[run.rubric.as_str(), why.as_str()]).inc();
        tracing::info!(rubric = run.rubric, why = why.as_str(), canaries = canaries.len(), "canaries are judged again");
        Ok(Begun::Run(Box::new(run)))
    }

    /// With what the canaries of the run before are compared; a labelled one with its first judging as a canary.
    async fn references(&self, before: &[Canary]) -> Result<BTreeMap<Uuid, Option<Uuid>>, StoreError> {
        let open: Vec<Uuid> = before.iter().filter(|c| c.reference.is_none()).map(|c| c.job).collect();
        let judged = self.app.store.replayed(&open).await?;
        let judged: HashSet<Uuid> = judged.into_iter().filter(|v| v.score.is_some()).map(|v| v.id).collect();
        let of = |c: &Canary| (c.verdict, c.reference.or_else(|| Some(c.job).filter(|job| judged.contains(job))));
        Ok(before.iter().map(of).collect())
    }

    /// Ends a run when its jobs are done, its time is over, or it is dearer than it may be.
    async fn keep_up(&self, rubric: &Rubric, run: &Run, history: &[Run]) -> Result<Option<Run>, StoreError> {
        let store = &self.app.store;
        let (mut open, usd) = store.drift_progress(run.id).await?;
        let is_over = self.now >= run.due_at;
        if open > 0 && (is_over || usd > run.usd_max) {
            let stopped = store.stop_drift_run(run.id, self.now).await?;
            tracing::warn!(
                rubric = run.rubric,
                stopped,
                usd,
                "a run of canaries was stopped: its time or money is over"
            );
            open -= stopped.min(open);
        }
        if open > 0 && !is_over {
            return Ok(None);
        }
        let canaries = store.drift_canaries(run.id).await?;
        let known = self.known(run, &canaries).await?;
        let mut result = compare(rubric, &canaries, &known, &run.judges);
        weigh(&mut result, run, history, self.alpha);
        let mut judges = run.judges.clone();
        for judge in &result.judges {
            judges.entry(judge.judge.clone()).or_default().models.extend(judge.models_now.iter().cloned());
        }
        let ended = Ended { at: self.now, usd, result };
        store.end_drift_run(run.id, &judges, &ended).await?;
        Ok(Some(Run { judges, ended: Some(ended), ..run.clone() }))
    }

    /// The verdicts of canaries, and those that they are compared with.
    async fn known(&self, run: &Run, canaries: &[Canary]) -> Result<Known, StoreError> {
        let references: Vec<Uuid> = canaries.iter().filter_map(|c| c.reference).collect();
        let bases: BTreeSet<Uuid> = run.judges.values().filter_map(|m| m.base).collect();
        let again = bases.iter().flat_map(|base| canaries.iter().map(|c| canary_id(*base, c.verdict)));
        let again: Vec<Uuid> = canaries.iter().map(|c| c.job).chain(references.iter().copied()).chain(again).collect();
        // Canaries may be as old as what retention leaves.
        let kept = super::seconds(self.app.bench.config.retention.verdicts_seconds);
        let live = self.app.store.verdicts_by_id(&references, self.now - kept..=self.now).await?;
        let replayed = self.app.store.replayed(&again).await?;
        Ok(live.into_iter().chain(replayed).map(|v| (v.id, v)).collect())
    }
}

/// The canaries of a run: those that people have labelled, then those of the run before, then others.
fn selected(fresh: Vec<Drawn>, kept: Vec<Drawn>, most: usize) -> Vec<Drawn> {
    let (labelled, others): (Vec<Drawn>, Vec<Drawn>) = fresh.into_iter().partition(|d| d.labelled);
    let mut seen = HashSet::new();
    let all = labelled.into_iter().chain(kept).chain(others);
    all.filter(|d| seen.insert(d.verdict)).take(most).collect()
}

fn job(drawn: Drawn, canary: &Canary, run: &Run) -> Job {
    let unit = drawn.span_id.map_or(Unit::Trace, Unit::Span);
    let plain = Job::new(&drawn.trace_id, unit, (&run.rubric, &run.rubric_version), (run.started_at, run.due_at));
    Job { id: canary.job, replay: true, canary: true, inclusion_probability: drawn.inclusion_probability, ..plain }
}

#[cfg(test)]
mod tests;
