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
use crate::stats::hajek::Target;
use crate::stats::ppi::{LABELS_MIN, Method};
use crate::stats::refusal::Refusal;
use crate::stats::rogan_gladen::{self, Share};
use crate::stats::survey::{Counted, mean_counted};
use crate::stats::{labels_needed, ppi};
use serde::Serialize;
use std::collections::BTreeMap;

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

/// Corrects the pass rate of `judged` verdicts (1 or 0) of one rubric version, counted by what is alike. `inside` are labels of
/// verdicts that are among them, `all` are those of every verdict of the version.
#[must_use]
pub fn corrected(judged: &[Counted], inside: &[&LabelledVerdict], all: &[LabelledVerdict]) -> Corrected {
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
fn covers(judged: &[Counted], inside: &[&LabelledVerdict]) -> bool {
    let total: f64 = judged.iter().map(|c| c.count as f64 / c.pi).sum();
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

fn by_sample(judged: &[Counted], inside: &[&LabelledVerdict]) -> Result<Corrected, Refusal> {
    // A labelled verdict is one of those judged: it is taken out of them, and stands with its label.
    let mut open: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for Counted { y, pi, count } in judged {
        *open.entry((y.to_bits(), pi.to_bits())).or_default() += count;
    }
    let mut items = Vec::with_capacity(inside.len() + open.len());
    for verdict in inside {
        let (passed, pi) = (number(verdict.passed), verdict.inclusion_probability);
        let Some(label_probability) = verdict.label_probability else { continue };
        let Some(left) = open.get_mut(&(passed.to_bits(), pi.to_bits())).filter(|n| **n > 0) else { continue };
        *left -= 1;
        let label = Some(number(verdict.label.passed));
        items.push((Item { weight: 1.0 / pi, judged: passed, label, label_probability }, 1));
    }
    for ((passed, pi), count) in open {
        let (judged, weight) = (f64::from_bits(passed), 1.0 / f64::from_bits(pi));
        // Its own probability is not needed where there is no label, but that it was below one.
        let item = Item { weight, judged, label: None, label_probability: 0.5 };
        items.push((item, count));
    }
    let corrected = active::mean_counted(&items, Method::default())?;
    let interval = corrected.rate_interval(Level::P95);
    Ok(Corrected {
        rate: Some(Rate::new(corrected.estimate.value.clamp(0.0, 1.0), interval)),
        labels: corrected.labels,
        correction: Correction::Sample { lambda: corrected.lambda },
        detail: Some(corrected),
    })
}

fn by_error_rates(judged: &[Counted], all: &[LabelledVerdict]) -> Result<Corrected, Refusal> {
    let known = panel_accuracy(all)?;
    let (Some(sensitivity), Some(specificity)) = (known.sensitivity, known.specificity) else {
        return Ok(Corrected::not(all.len(), "the labels all pass, or all fail, so the panel's errors are not known"));
    };
    let rate = mean_counted(judged, Target::Process)?;
    let share = |rate: &crate::stats::accuracy::Rate| Share { value: rate.value, n: rate.n_eff };
    let judged = Share { value: rate.estimate.value, n: rate.n_eff };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::{Label, LabelValue, Source};
    use crate::domain::verdict::TraceLabels;
    use chrono::DateTime;
    use uuid::Uuid;

    /// People pass seven of ten; the panel also passes every second one that they fail.
    fn truth_and_verdict(n: usize) -> (bool, bool) {
        let truth = n % 10 < 7;
        (truth, truth || n.is_multiple_of(2))
    }

    fn labelled(n: usize, label_probability: Option<f64>) -> LabelledVerdict {
        let (truth, passed) = truth_and_verdict(n);
        LabelledVerdict {
            trace_id: n.to_string(),
            verdict_id: Uuid::nil(),
            judged_at: DateTime::UNIX_EPOCH,
            rubric_version: "v".to_owned(),
            score: number(passed),
            passed,
            decided_by: None,
            votes: Vec::new(),
            inclusion_probability: 1.0,
            label_probability,
            label: Label {
                id: Uuid::nil(),
                slot: Uuid::nil(),
                trace_id: n.to_string(),
                span_id: None,
                rubric: "r".to_owned(),
                rubric_version: None,
                value: LabelValue::Passed,
                passed: truth,
                source: Source::Expert,
                labeller: None,
                comment: None,
                made_at: DateTime::UNIX_EPOCH,
                timed: true,
                draw_probability: None,
                batch_id: None,
            },
            conflicting: false,
            trace: TraceLabels::default(),
        }
    }

    fn judged(count: usize) -> Vec<Counted> {
        let passed = (0..count).filter(|n| truth_and_verdict(*n).1).count();
        let counted = |y, count: usize| Counted { y, pi: 1.0, count: count as u64 };
        vec![counted(1.0, passed), counted(0.0, count - passed)]
    }

    /// Every seventh of `of` verdicts is labelled, which meets all last digits alike.
    fn labels(of: usize, label_probability: Option<f64>) -> Vec<LabelledVerdict> {
        (0..of).step_by(7).map(|n| labelled(n, label_probability)).collect()
    }

    #[test]
    fn labels_drawn_from_what_was_judged_give_the_rate_of_people() {
        let all = labels(1_400, Some(1.0 / 7.0));
        let found = corrected(&judged(1_400), &all.iter().collect::<Vec<_>>(), &all);
        let rate = found.rate.expect("200 labels");
        assert!(matches!(found.correction, Correction::Sample { lambda } if lambda > 0.5), "{found:?}");
        assert!((rate.value - 0.7).abs() < 0.03 && rate.lower < 0.7 && rate.upper > 0.7, "{rate:?}");
        assert_eq!(found.labels, 200);
    }

    #[test]
    fn a_drawing_that_did_not_reach_all_of_it_only_measures_the_panel() {
        let all = labels(1_400, Some(1.0 / 7.0));
        let found = corrected(&judged(2_800), &all.iter().collect::<Vec<_>>(), &all);
        assert!(
            matches!(found.correction, Correction::ErrorRates { specificity, .. } if (specificity - 2.0 / 3.0).abs() < 0.02),
            "{found:?}"
        );
        assert!(found.rate.is_some_and(|r| (r.value - 0.7).abs() < 0.03), "{found:?}");
        let loose = labels(1_400, None);
        let found = corrected(&judged(1_400), &loose.iter().collect::<Vec<_>>(), &loose);
        assert!(matches!(found.correction, Correction::ErrorRates { .. }), "no probability sample");
    }

    #[test]
    fn few_labels_or_labels_of_one_kind_correct_nothing_and_say_so() {
        let few = labels(200, Some(1.0 / 7.0));
        let found = corrected(&judged(200), &few.iter().collect::<Vec<_>>(), &few);
        let why = |found: &Corrected| match &found.correction {
            Correction::Uncorrected { why } => why.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((found.rate, why(&found).as_str()), (None, "29 labels of this version, and 30 are needed"));
        let good: Vec<_> = labels(1_400, None).into_iter().filter(|l| l.label.passed).collect();
        assert!(why(&corrected(&judged(1_400), &[], &good)).contains("all pass, or all fail"));
    }
}
