//! Human labels → how good each judge and the panel are, what their votes are worth, and how many labels more it takes.
//!
//! Called by `cli::calibrate`. Its rule: labels count for the version that they were given on; whether the panel beats its best
//! judge is asked of traces that neither was chosen on; below fifty labels no weights are learnt, and that is said. The way not
//! taken: weights from agreement among the judges, which rewards judges that err together.

use crate::domain::ids::short_hash;
use crate::domain::label::LabelledVerdict;
use crate::domain::panel::PanelModel;
use crate::domain::rubric::{Combine, Rubric};
use crate::pipeline::correct::{panel_accuracy, weights};
use crate::stats::accuracy::{Accuracy, Tested, accuracy};
use crate::stats::alpha::{Metric, krippendorff};
use crate::stats::estimate::Level;
use crate::stats::paired::{self, Comparison, Finding};
use crate::stats::refusal::Refusal;
use crate::stats::stack::{self, LABELS_MIN};
use crate::stats::{kappa, ppi};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Parts into which labels are split, so that a panel is measured on traces that it was not fitted on.
const FOLDS: usize = 5;

/// What is known of one judge.
#[derive(Debug, Clone, Serialize)]
pub struct JudgeFigures {
    /// The judge.
    pub judge: String,
    /// The model that answered last.
    pub model: String,
    /// How often it is right.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// Cohen's kappa with the labels: 1 = always alike, 0 = as by chance.
    pub kappa: Option<f64>,
    /// What its vote adds to the log-odds of passing, when all have voted; learnt.
    pub weight: Option<f64>,
}

/// What labels say about a rubric version.
#[derive(Debug, Clone, Serialize)]
pub struct Calibration {
    /// The rubric.
    pub rubric: String,
    /// The version.
    pub rubric_version: String,
    /// Labelled traces that were judged by it.
    pub labels: usize,
    /// Of them, those that are a probability sample of what was judged.
    pub sampled: usize,
    /// Of them, those about which people of one rank say opposite things; they are left out.
    pub conflicting: usize,
    /// The judges, in the rubric's order.
    pub judges: Vec<JudgeFigures>,
    /// The panel, as its verdicts were.
    pub panel: Option<Accuracy>,
    /// Krippendorff's alpha among the judges: 1 = always alike, 0 = as by chance.
    pub alpha: Option<f64>,
    /// The learnt panel against the judge that is best, on traces that neither was chosen on; the panel is the first.
    pub panel_against_best: Option<Comparison>,
    /// The judge that is right most often.
    pub best_judge: Option<String>,
    /// What was learnt; absent below fifty labels.
    #[serde(skip)]
    pub model: Option<PanelModel>,
    /// What to do now, in words.
    pub advice: Vec<String>,
}

/// Whether labels are enough for the rate to be corrected at all.
#[must_use]
pub fn is_corrected(calibration: &Calibration) -> bool {
    calibration.labels >= ppi::LABELS_MIN
}

/// Measures judges and panel on the labels of the rubric's version, and learns what votes are worth. `cost` is what a vote of
/// a judge costs, in any unit.
///
/// # Errors
/// When a stored probability is out of range.
pub fn calibrate(
    rubric: &Rubric,
    labelled: Vec<LabelledVerdict>,
    cost: impl Fn(&str) -> f64,
    now: DateTime<Utc>,
) -> Result<Calibration, Refusal> {
    let of_version = labelled.into_iter().filter(|l| l.rubric_version == rubric.version);
    let (conflicting, mut usable): (Vec<_>, Vec<_>) = of_version.partition(|l| l.conflicting);
    // Folds are taken in turn, so the order must have nothing to do with the trace.
    usable.sort_by_cached_key(|l| short_hash(&[b"calibrate", l.trace_id.as_bytes()], 16));
    let votes = Votes::of(rubric, &usable);
    let mut calibration = Calibration {
        rubric: rubric.name.clone(),
        rubric_version: rubric.version.clone(),
        labels: usable.len(),
        sampled: usable.iter().filter(|l| l.label_probability.is_some()).count(),
        conflicting: conflicting.len(),
        judges: votes.figures(&usable)?,
        panel: if usable.is_empty() { None } else { Some(panel_accuracy(&usable)?) },
        alpha: votes.alpha(),
        panel_against_best: None,
        best_judge: None,
        model: None,
        advice: Vec::new(),
    };
    votes.learn(rubric, &mut calibration, cost, now);
    calibration.advice = advice(rubric, &calibration);
    Ok(calibration)
}

/// Votes of the traces that a panel has judged.
struct Votes {
    judges: Vec<(String, String)>,
    /// One row a trace, one column a judge.
    rows: Vec<Vec<Option<bool>>>,
    truth: Vec<bool>,
    weights: Vec<f64>,
}

impl Votes {
    fn of(rubric: &Rubric, labelled: &[LabelledVerdict]) -> Self {
        let model = |judge: &str| {
            let votes = labelled.iter().flat_map(|l| &l.votes);
            votes.filter(|v| v.judge == judge).map(|v| v.model.clone()).next_back().unwrap_or_default()
        };
        let judges: Vec<(String, String)> = rubric.panel.iter().map(|name| (name.clone(), model(name))).collect();
        let all = weights(labelled);
        let mut votes = Self { judges, rows: Vec::new(), truth: Vec::new(), weights: Vec::new() };
        for (verdict, weight) in labelled.iter().zip(all).filter(|(l, _)| !l.votes.is_empty()) {
            let vote = |(judge, _): &(String, String)| {
                let score = verdict.votes.iter().find(|v| v.judge == *judge)?.score?;
                Some(score >= rubric.pass)
            };
            votes.rows.push(votes.judges.iter().map(vote).collect());
            votes.truth.push(verdict.label.passed);
            votes.weights.push(weight);
        }
        votes
    }

    fn column(&self, judge: usize) -> Vec<Option<bool>> {
        self.rows.iter().map(|row| row[judge]).collect()
    }

    fn figures(&self, labelled: &[LabelledVerdict]) -> Result<Vec<JudgeFigures>, Refusal> {
        if labelled.is_empty() {
            return Ok(Vec::new());
        }
        let of = |(at, (judge, model)): (usize, &(String, String))| {
            let column = self.column(at);
            let tested = column.iter().zip(&self.truth).zip(&self.weights);
            let tested = tested.map(|((said, truth), weight)| Tested { said: *said, truth: *truth, weight: *weight });
            let category = |v: bool| usize::from(v);
            let said: Vec<Option<usize>> = column.iter().map(|v| v.map(category)).collect();
            let truth: Vec<Option<usize>> = self.truth.iter().map(|t| Some(category(*t))).collect();
            Ok(JudgeFigures {
                judge: judge.clone(),
                model: model.clone(),
                accuracy: accuracy(&tested.collect::<Vec<_>>(), Level::P95)?,
                kappa: kappa::cohen(&said, &truth, 2, kappa::Weights::Plain).ok(),
                weight: None,
            })
        };
        self.judges.iter().enumerate().map(of).collect()
    }

    fn alpha(&self) -> Option<f64> {
        let rater = |judge| self.column(judge).into_iter().map(|v| v.map(|v| f64::from(u8::from(v)))).collect();
        let raters: Vec<Vec<Option<f64>>> = (0..self.judges.len()).map(rater).collect();
        krippendorff(&raters, Metric::Nominal).ok()
    }

    /// Learns weights, order and prefixes, and whether the panel is worth more than its best judge.
    fn learn(&self, rubric: &Rubric, calibration: &mut Calibration, cost: impl Fn(&str) -> f64, now: DateTime<Utc>) {
        if self.judges.is_empty() || self.rows.is_empty() {
            return;
        }
        let best = paired::best_judge(&self.rows, &self.truth);
        calibration.best_judge = self.judges.get(best).map(|(name, _)| name.clone());
        if self.rows.len() < LABELS_MIN {
            return;
        }
        let costs: Vec<f64> = self.judges.iter().map(|(name, _)| cost(name).max(1e-9)).collect();
        let order = stack::order(&self.rows, &self.truth, &costs);
        let ordered: Vec<Vec<Option<bool>>> =
            self.rows.iter().map(|row| order.iter().map(|judge| row[*judge]).collect()).collect();
        let prefixes = stack::prefixes(&ordered, &self.truth);
        let Some(whole) = prefixes.last().filter(|_| prefixes.len() == order.len()) else { return };
        for (place, judge) in order.iter().enumerate() {
            calibration.judges[*judge].weight = whole.weights.get(place).copied();
        }
        if self.judges.len() > 1 {
            let compared = paired::panel_against_best(&self.rows, &self.truth, &self.weights, FOLDS, Level::P95);
            calibration.panel_against_best = compared.ok();
        }
        calibration.model = Some(PanelModel {
            rubric: rubric.name.clone(),
            rubric_version: rubric.version.clone(),
            judges: order.iter().map(|judge| self.judges[*judge].0.clone()).collect(),
            prefixes,
            labels: u32::try_from(self.rows.len()).unwrap_or(u32::MAX),
            fitted_at: now,
        });
    }
}

/// What to do now.
fn advice(rubric: &Rubric, found: &Calibration) -> Vec<String> {
    let mut advice = Vec::new();
    let labels = found.labels;
    if labels < ppi::LABELS_MIN {
        let more = ppi::LABELS_MIN - labels;
        advice
            .push(format!("uncorrected: {labels} labels of this version; {more} more and its pass rate is corrected"));
    }
    if found.conflicting > 0 {
        let n = found.conflicting;
        advice.push(format!(
            "{n} traces have labels of one rank that say opposite things; they are left out until one is taken back"
        ));
    }
    if found.sampled < labels && labels > 0 {
        advice.push(format!(
            "{} labels are no probability sample, so they only measure the judges' errors; `assize labels queue {}` draws one",
            labels - found.sampled,
            rubric.name
        ));
    }
    let one_kind = found.panel.as_ref().is_some_and(|p| p.sensitivity.is_none() || p.specificity.is_none());
    if labels >= LABELS_MIN && found.model.is_none() && !rubric.panel.is_empty() {
        let why = if one_kind {
            "the labels all pass, or all fail"
        } else {
            "too few of these traces were judged by the panel"
        };
        advice.push(format!("no weights were learnt: {why}"));
    } else if labels < LABELS_MIN && rubric.panel.len() > 1 {
        advice.push(format!("no weights are learnt below {LABELS_MIN} labels; until then `combine: strongest` with the best judge first is the safest"));
    }
    let best = found.best_judge.as_deref().unwrap_or_default();
    match found.panel_against_best.map(|c| c.finding) {
        Some(Finding::First) if rubric.combine != Combine::Weighted => {
            advice.push("the panel with learnt weights beats its best judge: set `combine: weighted`".to_owned());
        }
        Some(Finding::First) => advice.push("the panel beats its best judge".to_owned()),
        Some(Finding::Second) => {
            advice.push(format!("the panel does not beat `{best}`, its best judge: set `combine: strongest` and list it first"));
        }
        Some(Finding::Open) => advice.push(format!(
            "these labels do not show that the panel beats `{best}`, its best judge; if cost matters, `combine: strongest` with it first"
        )),
        None => {}
    }
    advice
}

#[cfg(test)]
#[path = "calibrate/tests.rs"]
mod tests;
