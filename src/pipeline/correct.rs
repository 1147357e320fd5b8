//! Judged verdicts and human labels → the pass rate that people would give.
//!
//! Called by `pipeline::report` and `pipeline::calibrate`. Its rule: labels correct only verdicts of the rubric version that they
//! were given on; labels that are a probability sample of the very verdicts are used as such, others only to measure the panel's
//! error rates; below thirty labels nothing is corrected, and that is said. The way not taken: the share of passes among
//! the labels, which throws away what the judges know of all other traces.

use crate::domain::label::LabelledVerdict;
use crate::pipeline::report::Rate;
use crate::stats::accuracy::{Accuracy, Tested, accuracy};
use crate::stats::active::{self, Item};
use crate::stats::estimate::Level;
use crate::stats::hajek::{self, Target};
use crate::stats::ppi::{LABELS_MIN, Method};
use crate::stats::refusal::Refusal;
use crate::stats::rogan_gladen::{self, Share};
use crate::stats::{labels_needed, ppi};
use serde::Serialize;
use std::collections::HashMap;

/// How a rate was corrected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Correction {
    /// By labels drawn from the very verdicts with known probabilities (active inference, a form of PPI++).
    Sample {
        /// How much of the judges' word is used, 0 to 1.
        lambda: f64,
    },
    /// By the panel's sensitivity and specificity on labels of other verdicts of the same version (Rogan-Gladen).
    ErrorRates {
        /// Of what people pass, the share that the panel passes.
        sensitivity: f64,
        /// Of what people fail, the share that the panel fails.
        specificity: f64,
    },
    /// Not at all.
    Uncorrected {
        /// Why.
        why: String,
    },
}

/// A corrected rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Corrected {
    /// The rate; absent when it is uncorrected.
    pub rate: Option<Rate>,
    /// Labels that were used.
    pub labels: usize,
    /// How.
    #[serde(flatten)]
    pub correction: Correction,
    /// What the estimate knows of its own variance, for planning.
    #[serde(skip)]
    pub detail: Option<ppi::Corrected>,
}

impl Corrected {
    /// Not corrected, and why.
    #[must_use]
    pub fn not(labels: usize, why: impl Into<String>) -> Self {
        Self { rate: None, labels, correction: Correction::Uncorrected { why: why.into() }, detail: None }
    }

    /// Labels still to make for an interval of this half-width; `None` when nobody knows yet.
    #[must_use]
    pub fn needed(&self, half_width: f64) -> Option<labels_needed::Needed> {
        labels_needed::more(self.detail.as_ref()?, half_width, Level::P95).ok()
    }
}

/// Corrects the pass rate of `judged` verdicts `(1 or 0, inclusion probability)` of one rubric version. `inside` are labels of
/// verdicts that are among them, `all` are those of every verdict of the version.
#[must_use]
pub fn corrected(judged: &[(f64, f64)], inside: &[&LabelledVerdict], all: &[LabelledVerdict]) -> Corrected {
    let sampled = inside.iter().filter(|l| l.label_probability.is_some()).count();
    if sampled >= LABELS_MIN && covers(judged, inside) {
        return by_sample(judged, inside).unwrap_or_else(|why| Corrected::not(sampled, why.to_string()));
    }
    if all.len() >= LABELS_MIN {
        return by_error_rates(judged, all).unwrap_or_else(|why| Corrected::not(all.len(), why.to_string()));
    }
    Corrected::not(all.len(), format!("{} labels of this version, and {LABELS_MIN} are needed", all.len()))
}

/// Whether the labels were drawn from all that was judged: each stands for one over its probability, and together they should
/// stand for everything. A drawing of last week says nothing of verdicts that were made since.
fn covers(judged: &[(f64, f64)], inside: &[&LabelledVerdict]) -> bool {
    let total: f64 = judged.iter().map(|(_, pi)| 1.0 / pi).sum();
    let (mut stand_for, mut variance) = (0.0, 0.0);
    for verdict in inside {
        let Some(probability) = verdict.label_probability else { continue };
        let each = 1.0 / (verdict.inclusion_probability * probability);
        stand_for += each;
        variance += each * each * (1.0 - probability);
    }
    (stand_for - total).abs() <= 2.0 * variance.sqrt() + 0.02 * total
}

fn number(passed: bool) -> f64 {
    f64::from(u8::from(passed))
}

fn by_sample(judged: &[(f64, f64)], inside: &[&LabelledVerdict]) -> Result<Corrected, Refusal> {
    // A labelled verdict is one of those judged: it is taken out of them, and stands with its label.
    let mut open: HashMap<(u64, u64), usize> = HashMap::new();
    for (passed, pi) in judged {
        *open.entry((passed.to_bits(), pi.to_bits())).or_default() += 1;
    }
    let mut items = Vec::with_capacity(judged.len());
    for verdict in inside {
        let (passed, pi) = (number(verdict.passed), verdict.inclusion_probability);
        let Some(label_probability) = verdict.label_probability else { continue };
        let Some(left) = open.get_mut(&(passed.to_bits(), pi.to_bits())).filter(|n| **n > 0) else { continue };
        *left -= 1;
        items.push(Item {
            weight: 1.0 / pi,
            judged: passed,
            label: Some(number(verdict.label.passed)),
            label_probability,
        });
    }
    for ((passed, pi), count) in open {
        let (judged, weight) = (f64::from_bits(passed), 1.0 / f64::from_bits(pi));
        // Its own probability is not needed where there is no label, but that it was below one.
        let item = Item { weight, judged, label: None, label_probability: 0.5 };
        items.extend(std::iter::repeat_n(item, count));
    }
    let corrected = active::mean(&items, Method::default())?;
    let interval = corrected.rate_interval(Level::P95);
    Ok(Corrected {
        rate: Some(Rate::new(corrected.estimate.value.clamp(0.0, 1.0), interval)),
        labels: corrected.labels,
        correction: Correction::Sample { lambda: corrected.lambda },
        detail: Some(corrected),
    })
}

fn by_error_rates(judged: &[(f64, f64)], all: &[LabelledVerdict]) -> Result<Corrected, Refusal> {
    let known = panel_accuracy(all)?;
    let (Some(sensitivity), Some(specificity)) = (known.sensitivity, known.specificity) else {
        return Ok(Corrected::not(all.len(), "the labels all pass, or all fail, so the panel's errors are not known"));
    };
    let rate = hajek::mean_for(judged, Target::Process)?;
    let share = |rate: &crate::stats::accuracy::Rate| Share { value: rate.value, n: rate.n_eff };
    let judged = Share { value: rate.value, n: hajek::effective_size(judged)? };
    let found = rogan_gladen::correct(judged, share(&sensitivity), share(&specificity), Level::P95)?;
    Ok(Corrected {
        rate: Some(Rate::new(found.value, found.interval)),
        labels: all.len(),
        correction: Correction::ErrorRates { sensitivity: sensitivity.value, specificity: specificity.value },
        detail: None,
    })
}

/// How many traces a label stands for: one over its probabilities, where all labels have them; else all count alike.
#[must_use]
pub fn weights(labelled: &[LabelledVerdict]) -> Vec<f64> {
    let weight = |l: &LabelledVerdict| Some(1.0 / (l.inclusion_probability * l.label_probability?));
    let all: Option<Vec<f64>> = labelled.iter().map(weight).collect();
    all.unwrap_or_else(|| vec![1.0; labelled.len()])
}

/// How often the panel is right.
///
/// # Errors
/// When a weight is not positive.
pub fn panel_accuracy(labelled: &[LabelledVerdict]) -> Result<Accuracy, Refusal> {
    let weights = weights(labelled);
    let tested =
        |(l, weight): (&LabelledVerdict, &f64)| Tested { said: Some(l.passed), truth: l.label.passed, weight: *weight };
    accuracy(&labelled.iter().zip(&weights).map(tested).collect::<Vec<_>>(), Level::P95)
}
