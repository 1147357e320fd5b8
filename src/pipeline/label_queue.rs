//! Which traces people should label next: a draw with known probabilities, more of what is uncertain.
//!
//! Called by `cli` (`labels queue`, `labels review`) and `server` (the page). Its rule: a trace is drawn when its salted hash is below its probability (Poisson sampling),
//! and the probability depends on stratum, score and disagreement alone, never on the hash; it is stored with the trace,
//! so that labels can correct the judges by inverse weights (active inference). The salt differs from that of the
//! sampling, so that not always the same lucky traces are labelled. The way not taken: the most uncertain ones first,
//! which leaves nothing to say about all the others.

use crate::domain::ids::hashed_randomness;
use crate::domain::label::{Draft, Said, Source, Untimed, resolve};
use crate::domain::rubric::Rubric;
use crate::domain::trace::Trace;
use crate::domain::verdict::{Outcome, Verdict};
use crate::store::label_queue::{Batch, Drawn, Judged, Progress, Waiting};
use crate::store::verdicts::VerdictFilter;
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Traces drawn from at most, so that a draw fits into memory.
pub const POPULATION_MAX: i64 = 200_000;

/// Part of what is wanted that is divided equally among strata, however certain they are.
const FLOOR: f64 = 0.3;

/// How far from the pass mark a score still counts as near it.
const NEAR: f64 = 0.15;

/// Ranges of the score that are strata of their own.
const SCORE_BINS: u8 = 5;

/// Why nothing was drawn.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// There is nothing to draw from.
    #[error(
        "no trace was scored by `{rubric}` {version} within that time; give a longer --since, or wait until it has judged"
    )]
    Nothing {
        /// The rubric.
        rubric: String,
        /// Its version.
        version: String,
    },
    /// There is too much to draw from.
    #[error("more than {POPULATION_MAX} traces were scored within that time; give a shorter --since")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A draw that was made.
#[derive(Debug)]
pub struct Draw {
    /// The batch.
    pub batch: Batch,
    /// What it drew.
    pub drawn: Vec<Drawn>,
    /// Of each stratum: traces, expected and drawn.
    pub strata: BTreeMap<String, (usize, f64, usize)>,
}

/// How much there is to learn from a label, 0 to 1: near the pass mark, or where the judges disagree.
#[must_use]
pub fn uncertainty(score: f64, pass: f64, disagreement: Option<f64>) -> f64 {
    // Two of three judges against one disagree by 2/3 at most, so that much is counted as all.
    let apart = (disagreement.unwrap_or(0.0) * 1.5).min(1.0);
    (-(score - pass).abs() / NEAR).exp().max(apart)
}

/// Probabilities for a Poisson draw of about `wanted` items: proportional to the weights, but at least so high that each
/// stratum gets an equal share of [`FLOOR`] of them. `strata` and `weights` (above 0) are per item.
#[must_use]
pub fn rates(strata: &[usize], weights: &[f64], wanted: f64) -> Vec<f64> {
    if wanted >= strata.len() as f64 {
        return vec![1.0; strata.len()];
    }
    let mut sizes: BTreeMap<usize, f64> = BTreeMap::new();
    for stratum in strata {
        *sizes.entry(*stratum).or_default() += 1.0;
    }
    let share = FLOOR * wanted / sizes.len().max(1) as f64;
    let floors: Vec<f64> = strata.iter().map(|s| (share / sizes[s]).min(1.0)).collect();
    let at =
        |factor: f64| floors.iter().zip(weights).map(move |(floor, weight)| (factor * weight).max(*floor).min(1.0));
    // The sum grows with the factor; bisection finds where it is what is wanted.
    let least = weights.iter().copied().fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (0.0, 1.0 / least.max(f64::MIN_POSITIVE));
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at(middle).sum::<f64>() < wanted { low = middle } else { high = middle }
    }
    at(high).collect()
}

/// The draw of a trace: a number in [0, 1) that is independent of the sampling's.
#[must_use]
pub fn draw_of(key: &str, trace_id: &str) -> f64 {
    hashed_randomness(&format!("labels of {key}"), trace_id) as f64 / (1_u64 << 56) as f64
}

/// Feature and range of the score.
fn stratum(judged: &Judged) -> String {
    let bins = f64::from(SCORE_BINS);
    let bin = (judged.score * bins).floor().min(bins - 1.0);
    let feature = judged.feature.as_deref().unwrap_or("(no feature)");
    format!("{feature} {:.1}-{:.1}", bin / bins, (bin + 1.0) / bins)
}

/// Draws about `wanted` of the traces that a rubric version scored since `since`, and puts them into the queue.
///
/// Drawing again from the same time gives the same traces; with a greater `wanted` about as many more.
///
/// # Errors
/// See [`DrawError`].
pub async fn draw(
    store: &Store,
    rubric: &Rubric,
    wanted: u16,
    key: &str,
    (since, now): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Draw, DrawError> {
    let name = (rubric.name.as_str(), rubric.version.as_str());
    let judged = store.judged_for_labels(name, (since, now), POPULATION_MAX + 1).await?;
    if judged.is_empty() {
        return Err(DrawError::Nothing { rubric: rubric.name.clone(), version: rubric.version.clone() });
    }
    let population = i64::try_from(judged.len()).unwrap_or(i64::MAX);
    if population > POPULATION_MAX {
        return Err(DrawError::TooMany);
    }
    let (drawn, strata) = choose(&judged, rubric.pass, f64::from(wanted), key);
    let batch = Batch {
        id: Uuid::now_v7(),
        rubric: rubric.name.clone(),
        rubric_version: rubric.version.clone(),
        since,
        until: now,
        population,
        wanted: i32::from(wanted),
        made_at: now,
    };
    store.put_batch(&batch, &drawn).await?;
    Ok(Draw { batch, drawn, strata })
}

type Strata = BTreeMap<String, (usize, f64, usize)>;

/// What is drawn, and what of each stratum. Pure.
fn choose(judged: &[Judged], pass: f64, wanted: f64, key: &str) -> (Vec<Drawn>, Strata) {
    let names: Vec<String> = judged.iter().map(stratum).collect();
    let mut strata: Strata = names.iter().map(|name| (name.clone(), (0, 0.0, 0))).collect();
    let numbers: BTreeMap<&str, usize> = strata.keys().enumerate().map(|(n, name)| (name.as_str(), n)).collect();
    let of: Vec<usize> = names.iter().map(|name| numbers[name.as_str()]).collect();
    // The error of an estimate is the inclusion weight times the judge's error, so both count.
    let weight =
        |j: &Judged| (0.25 + 0.5 * uncertainty(j.score, pass, j.disagreement)) / j.inclusion_probability.max(1e-6);
    let weights: Vec<f64> = judged.iter().map(weight).collect();
    let mut drawn = Vec::new();
    for ((one, name), probability) in judged.iter().zip(names).zip(rates(&of, &weights, wanted)) {
        let draw = draw_of(key, &one.trace_id);
        let counted = strata.get_mut(&name).expect("every stratum was named above");
        counted.0 += 1;
        counted.1 += probability;
        if draw < probability {
            counted.2 += 1;
            drawn.push(Drawn { trace_id: one.trace_id.clone(), stratum: name, draw, probability });
        }
    }
    (drawn, strata)
}

/// A trace for a person to label, with what they need to see.
#[derive(Debug)]
pub struct Item {
    /// Its place in the queue.
    pub waiting: Waiting,
    /// The trace.
    pub trace: Trace,
    /// What the judges said; not to be shown unless asked for, since it sways people.
    pub verdict: Option<Verdict>,
    /// How far the queue has been worked off.
    pub progress: Progress,
}

/// What a person says about an item.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What they say; `None`: they cannot tell.
    pub said: Option<Said>,
    /// Who they are.
    pub labeller: String,
    /// Annotator or expert.
    pub source: Source,
    /// Why.
    pub comment: Option<String>,
}

/// The next trace of a rubric's queue; `None` when all is done. Traces that are no longer stored are skipped for good.
///
/// # Errors
/// When the database fails or holds what cannot be read.
pub async fn next(store: &Store, rubric: &Rubric, now: DateTime<Utc>) -> Result<Option<Item>, StoreError> {
    loop {
        let Some(waiting) = store.waiting_for_labels(&rubric.name, 1).await?.pop() else { return Ok(None) };
        let bodies = store.trace_bodies(std::slice::from_ref(&waiting.trace_id)).await?;
        let Some((_, body)) = bodies.into_iter().next() else {
            store.skip_label(&rubric.name, &waiting.trace_id, now).await?;
            continue;
        };
        let content = |source| StoreError::Content { what: format!("trace {}", waiting.trace_id), source };
        let trace = Trace::to_judge(&body).map_err(content)?;
        let filter = VerdictFilter {
            trace_id: Some(waiting.trace_id.clone()),
            rubric: Some(rubric.name.clone()),
            outcome: Some(Outcome::Scored),
            limit: 1,
            ..VerdictFilter::default()
        };
        let verdict = store.verdicts(&filter).await?.pop();
        let progress = store.label_progress(&rubric.name).await?;
        return Ok(Some(Item { waiting, trace, verdict, progress }));
    }
}

/// Stores a person's answer about a trace of the queue; says why it does not fit the rubric, if it does not.
///
/// # Errors
/// When the database fails.
pub async fn answer(
    store: &Store,
    rubric: &Rubric,
    (batch_id, trace_id): (Uuid, &str),
    answer: Answer,
    now: DateTime<Utc>,
) -> Result<Result<(), String>, StoreError> {
    let Some(said) = answer.said else {
        store.skip_label(&rubric.name, trace_id, now).await?;
        return Ok(Ok(()));
    };
    let draft = Draft {
        trace_id: Some(trace_id.to_owned()),
        rubric_version: Some(rubric.version.clone()),
        source: answer.source,
        labeller: Some(answer.labeller),
        comment: answer.comment,
        batch_id: Some(batch_id),
        ..Draft::of(said)
    };
    match resolve(&draft, None, rubric, (Untimed::IsNow, now)) {
        Ok(label) => store.put_labels(&[label], now).await.map(|_| Ok(())),
        Err(why) => Ok(Err(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(n: usize) -> Vec<Judged> {
        (0..n)
            .map(|i| Judged {
                trace_id: format!("t-{i}"),
                score: (i % 101) as f64 / 100.0,
                disagreement: (i % 3 == 0).then_some(0.4),
                feature: Some(if i % 50 == 0 { "rare" } else { "common" }.to_owned()),
                inclusion_probability: if i % 2 == 0 { 0.5 } else { 1.0 },
            })
            .collect()
    }

    #[test]
    fn rates_add_up_and_no_stratum_is_left_out() {
        let all = judged(5_000);
        let (drawn, strata) = choose(&all, 0.8, 200.0, "k");
        let expected: f64 = strata.values().map(|(_, expected, _)| expected).sum();
        assert!((expected - 200.0).abs() < 1e-6, "{expected}");
        assert!((150..250).contains(&drawn.len()), "{}", drawn.len());
        let floor = FLOOR * 200.0 / strata.len() as f64;
        assert!(strata.values().all(|(_, expected, _)| *expected > floor * 0.999), "{strata:?}");
        assert!(rates(&[0, 0, 1], &[1.0, 2.0, 3.0], 5.0).iter().all(|p| *p >= 1.0));
    }

    #[test]
    fn what_is_uncertain_is_drawn_more_often() {
        assert!(uncertainty(0.8, 0.8, None) > 0.99);
        assert!(uncertainty(0.1, 0.8, None) < 0.02);
        assert!(uncertainty(0.1, 0.8, Some(0.6)) > 0.8);
        let rates = rates(&[0, 0, 0, 0], &[0.75, 0.25, 0.25, 0.25], 1.0);
        assert!((rates[0] / rates[1] - 3.0).abs() < 1e-6, "{rates:?}");
    }

    /// The point of it all: inverse probabilities give back the population, whatever was drawn more often.
    #[test]
    fn inverse_probabilities_give_back_the_population() {
        let all = judged(2_000);
        let truth = all.iter().filter(|j| j.score < 0.3).count() as f64;
        let (mut sizes, mut lows) = (Vec::new(), Vec::new());
        for salt in 0..200 {
            let (drawn, _) = choose(&all, 0.8, 150.0, &salt.to_string());
            sizes.push(drawn.iter().map(|d| 1.0 / d.probability).sum::<f64>());
            let low = |d: &&Drawn| all.iter().any(|j| j.trace_id == d.trace_id && j.score < 0.3);
            lows.push(drawn.iter().filter(low).map(|d| 1.0 / d.probability).sum::<f64>());
        }
        let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
        assert!((mean(&sizes) / 2_000.0 - 1.0).abs() < 0.03, "{}", mean(&sizes));
        assert!((mean(&lows) / truth - 1.0).abs() < 0.06, "{} of {truth}", mean(&lows));
    }

    #[test]
    fn a_draw_is_the_same_again_and_grows_with_what_is_wanted() {
        let all = judged(1_000);
        let ids =
            |wanted: f64| -> Vec<String> { choose(&all, 0.8, wanted, "k").0.into_iter().map(|d| d.trace_id).collect() };
        let (few, more) = (ids(50.0), ids(100.0));
        assert_eq!(few, ids(50.0));
        assert!(few.iter().all(|id| more.contains(id)), "probabilities only grow, and the draws stay");
    }
}
