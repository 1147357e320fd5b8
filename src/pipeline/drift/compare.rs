//! What a run of drift canaries says: each judge on the same units before and now, and whether that is more than chance.
//!
//! Called by `pipeline::drift` when a run has ended; pure. Its rules: only a judge's own votes count, not those of a stand-in or
//! of the cache, which would count one judging many times; and evidence is looked at once a run, when all its verdicts are in,
//! since failures may be judged faster than passes. The way not taken: the panel's verdict alone, which says that somebody
//! moved but not who.

use crate::domain::alert::Example;
use crate::domain::drift::{Canaries, Canary, Compared, JudgeCompared, Marks, Run, Why};
use crate::domain::rubric::Rubric;
use crate::domain::unit::canary_id;
use crate::domain::verdict::{Verdict, Vote};
use crate::stats::drift::{Moves, log_total};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use uuid::Uuid;

/// Traces shown at most.
const EXAMPLES: usize = 3;

/// A period: what the budget of false alarms is for.
const PERIOD: TimeDelta = TimeDelta::days(30);

/// Verdicts by their ids: live ones, and those of canaries.
pub(super) type Known = HashMap<Uuid, Verdict>;

/// When the period of a time began.
pub(super) fn period(at: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = PERIOD.num_seconds();
    DateTime::from_timestamp(at.timestamp().div_euclid(seconds) * seconds, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// A judge's own word on a unit.
fn own<'a>(verdict: &'a Verdict, judge: &str) -> Option<(&'a Vote, f64)> {
    let vote = verdict.votes.iter().find(|v| v.judge == judge && !v.cached && v.stood_in.is_none())?;
    Some((vote, vote.score?))
}

/// What changed of each judge and of the panel; without the evidence.
pub(super) fn compare(rubric: &Rubric, canaries: &[Canary], known: &Known, marks: &Marks) -> Compared {
    let mut panel = Canaries::default();
    for canary in canaries {
        let before = canary.reference.and_then(|id| known.get(&id)?.passed);
        let now = known.get(&canary.job).and_then(|v| v.passed);
        if let (Some(before), Some(now)) = (before, now) {
            panel.of += 1;
            panel.worse += u64::from(before && !now);
            panel.better += u64::from(now && !before);
        }
    }
    let judges = marks.iter().map(|(judge, mark)| {
        let reference = |c: &Canary| mark.base.map_or(c.reference, |run| Some(canary_id(run, c.verdict)));
        let pairs = canaries.iter().filter_map(|c| {
            let (before, now) = (known.get(&reference(c)?)?, known.get(&c.job)?);
            Some((now.trace_id.as_str(), own(before, judge)?, own(now, judge)?))
        });
        of_judge(judge, rubric.pass, &pairs.collect::<Vec<_>>())
    });
    Compared { canaries: panel, judges: judges.collect() }
}

/// A unit's trace, and what a judge said of it before and says now.
type Pair<'a> = (&'a str, (&'a Vote, f64), (&'a Vote, f64));

fn of_judge(judge: &str, pass: f64, pairs: &[Pair]) -> JudgeCompared {
    let mut moves = Moves::default();
    let mut found = JudgeCompared { judge: judge.to_owned(), of: pairs.len() as u64, ..JudgeCompared::default() };
    let each = 1.0 / (pairs.len() as f64).max(1.0);
    for (_, (first, before), (again, now)) in pairs {
        moves.count(*before, *now);
        found.passed_before += u64::from(*before >= pass);
        found.passed_now += u64::from(*now >= pass);
        found.mean_before += before * each;
        found.mean_now += now * each;
        found.models_before.insert(first.model.clone());
        found.models_now.insert(again.model.clone());
    }
    (found.worse, found.better, found.log_e) = (moves.down.into(), moves.up.into(), moves.log_e());
    let sign = if moves.down >= moves.up { 1.0 } else { -1.0 };
    let mut most: Vec<(f64, &Pair)> = pairs.iter().map(|pair| (sign * (pair.1.1 - pair.2.1), pair)).collect();
    most.retain(|(by, _)| *by > crate::stats::drift::MOVE_MIN);
    most.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.0.cmp(b.1.0)));
    let example = |(trace, _, (vote, now)): &Pair| Example {
        trace_id: (*trace).to_owned(),
        score: Some(*now),
        reason: vote.reason.clone().unwrap_or_default(),
    };
    found.examples = most.into_iter().take(EXAMPLES).map(|(_, pair)| example(pair)).collect();
    found
}

/// Adds the evidence of the period, and who has moved. `history` are the runs before this one, in their order.
pub(super) fn weigh(compared: &mut Compared, run: &Run, history: &[Run], alpha: f64) {
    let since = period(run.started_at);
    let before: Vec<&Run> = history.iter().filter(|r| r.number < run.number && r.ended.is_some()).collect();
    let of = |r: &Run, judge: &str| {
        r.ended.as_ref().and_then(|e| e.result.judges.iter().find(|j| j.judge == judge).cloned())
    };
    for judge in &mut compared.judges {
        let base = run.judges.get(&judge.judge).and_then(|m| m.base);
        // What was compared with something else has used its share, and says nothing about this.
        let from = base.and_then(|id| before.iter().find(|r| r.id == id)).map_or(0, |r| r.number);
        let in_period = before.iter().filter(|r| r.started_at >= since);
        let mut runs: Vec<Option<f64>> =
            in_period.map(|r| of(r, &judge.judge).filter(|_| r.number > from).map(|j| j.log_e)).collect();
        runs.push(Some(judge.log_e));
        judge.log_total = log_total(&runs).max(f64::MIN);
        judge.alpha = alpha;
        let last = before.last().filter(|r| r.number > from);
        let moved_before = last.and_then(|r| of(r, &judge.judge)?.moved_since);
        let is_shown = judge.log_total >= (1.0 / alpha).ln() || moved_before.is_some();
        // A run without any evidence of its own: the judge is back.
        if is_shown && judge.log_e > 0.0 {
            let start = last.map_or(run.started_at, |r| r.started_at);
            let start = if run.why == Why::JudgeChanged { run.started_at } else { start };
            judge.moved_since = Some(moved_before.unwrap_or(start));
        }
    }
    let moved = compared.judges.iter().filter(|j| j.moved_since.is_some());
    compared.canaries.moved = moved.map(|j| j.judge.clone()).collect();
    compared.canaries.at = run.started_at;
}

#[cfg(test)]
mod tests;
