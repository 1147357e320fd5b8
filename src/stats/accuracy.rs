//! How often a judge or panel is right, on labelled traces: sensitivity, specificity and accuracy, each with its interval.
//!
//! For `calibrate`. Shares are weighted by how many traces a label stands for (one over the product of its probabilities),
//! with Wilson's interval on Kish's effective size. Its rule: a judge that said nothing is counted as missing, never as
//! wrong. The way not taken: accuracy alone, which is .95 for a judge that passes everything where 95 of 100 pass.

use crate::stats::estimate::{Interval, Level};
use crate::stats::hajek::kish;
use crate::stats::proportions::wilson;
use crate::stats::refusal::{Refusal, positive};
use serde::Serialize;

/// A labelled trace and what a judge or panel said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tested {
    /// What the judge said; `None` when it did not answer.
    pub said: Option<bool>,
    /// What a person says.
    pub truth: bool,
    /// How many traces it stands for, on any scale; 1 when labels are a plain sample.
    pub weight: f64,
}

/// A share with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The share.
    pub value: f64,
    /// Labels it is of.
    pub n: usize,
    /// Their effective number.
    pub n_eff: f64,
    /// Wilson's interval.
    pub interval: Interval,
}

/// What is known of a judge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// How many of those that people pass it passes; `None` without any.
    pub sensitivity: Option<Rate>,
    /// How many of those that people fail it fails; `None` without any.
    pub specificity: Option<Rate>,
    /// How many it judges as people do; `None` when it answered none.
    pub accuracy: Option<Rate>,
    /// Mean of sensitivity and specificity, when both are known: what it is worth whatever the pass rate.
    pub balanced: Option<f64>,
    /// Labelled traces that it did not answer.
    pub unanswered: usize,
}

/// Measures a judge on labelled traces.
///
/// # Errors
/// When a weight is not positive.
pub fn accuracy(tested: &[Tested], level: Level) -> Result<Accuracy, Refusal> {
    for (at, item) in tested.iter().enumerate() {
        positive("weight of label", at, item.weight)?;
    }
    let answered = || tested.iter().filter_map(|item| Some((item.said?, item)));
    let of = |truth: bool| {
        let right = answered().filter(|(_, item)| item.truth == truth).map(|(said, item)| (said == truth, item.weight));
        rate(&right.collect::<Vec<_>>(), level)
    };
    let right: Vec<(bool, f64)> = answered().map(|(said, item)| (said == item.truth, item.weight)).collect();
    let (sensitivity, specificity) = (of(true)?, of(false)?);
    Ok(Accuracy {
        sensitivity,
        specificity,
        accuracy: rate(&right, level)?,
        balanced: sensitivity.zip(specificity).map(|(se, sp)| f64::midpoint(se.value, sp.value)),
        unanswered: tested.iter().filter(|item| item.said.is_none()).count(),
    })
}

fn rate(items: &[(bool, f64)], level: Level) -> Result<Option<Rate>, Refusal> {
    if items.is_empty() {
        return Ok(None);
    }
    let weights: Vec<f64> = items.iter().map(|(_, w)| *w).collect();
    let hits: f64 = items.iter().filter(|(hit, _)| *hit).map(|(_, w)| w).sum();
    let (value, n_eff) = ((hits / weights.iter().sum::<f64>()).clamp(0.0, 1.0), kish(&weights));
    Ok(Some(Rate { value, n: items.len(), n_eff, interval: wilson(value, n_eff, level)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(said: Option<bool>, truth: bool, n: usize) -> Vec<Tested> {
        vec![Tested { said, truth, weight: 1.0 }; n]
    }

    #[test]
    fn each_error_has_its_own_rate() {
        let tested = [
            many(Some(true), true, 54),
            many(Some(false), true, 6),
            many(Some(false), false, 32),
            many(Some(true), false, 8),
            many(None, false, 5),
        ]
        .concat();
        let own = accuracy(&tested, Level::P95).expect("weights");
        let (se, sp) = (own.sensitivity.expect("passes"), own.specificity.expect("fails"));
        assert!((se.value - 0.9).abs() < 1e-12 && se.n == 60, "{se:?}");
        assert!((sp.value - 0.8).abs() < 1e-12 && sp.n == 40 && own.unanswered == 5, "{own:?}");
        assert!((own.accuracy.expect("answers").value - 0.86).abs() < 1e-12);
        assert!((own.balanced.expect("both") - 0.85).abs() < 1e-12);
        assert_eq!(se.interval, wilson(0.9, 60.0, Level::P95).expect("a share"));
    }

    #[test]
    fn a_label_counts_for_the_traces_it_stands_for() {
        let item = |said, weight| Tested { said: Some(said), truth: true, weight };
        let own = accuracy(&[item(true, 1.0), item(false, 4.0)], Level::P95).expect("weights");
        let se = own.sensitivity.expect("passes");
        assert!((se.value - 0.2).abs() < 1e-12 && (se.n_eff - 25.0 / 17.0).abs() < 1e-12, "{se:?}");
        let scaled = accuracy(&[item(true, 10.0), item(false, 40.0)], Level::P95).expect("weights");
        assert!((scaled.sensitivity.expect("passes").interval.high - se.interval.high).abs() < 1e-12);
    }

    #[test]
    fn nothing_known_is_none_and_wrong_weights_are_refused() {
        let own = accuracy(&[], Level::P95).expect("nothing is wrong");
        assert_eq!((own.accuracy, own.sensitivity, own.balanced), (None, None, None));
        let silent = accuracy(&many(None, true, 3), Level::P95).expect("nothing is wrong");
        assert_eq!((silent.accuracy, silent.unanswered), (None, 3));
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(accuracy(&[Tested { said: None, truth: true, weight }], Level::P95).is_err(), "{weight}");
        }
    }
}
