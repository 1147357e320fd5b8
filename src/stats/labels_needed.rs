//! How many labels more it takes for an interval as short as one wants.
//!
//! For `calibrate`. Before any label n = (z/h)^2 V with V = p(1-p) without a judge and about d - b^2 with one (d =
//! disagreement, b = bias); with labels at hand, from the part of the measured variance that more of them make smaller. Its
//! rule: where labels cannot get there, since the rest of the variance is from how few traces were judged, it says so. The
//! way not taken: a number that no amount of labelling reaches.

use crate::stats::estimate::Level;
use crate::stats::ppi::Corrected;
use crate::stats::refusal::{Refusal, positive, share};
use serde::Serialize;

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Needed {
    /// The interval is short enough.
    Enough,
    /// This many labels more, asked for in the same way.
    More(u64),
    /// More judged traces: labels alone cannot make it that short.
    JudgedTraces,
}

/// Labels for a half-width from nothing, without a judge, at a pass rate `p`.
///
/// # Errors
/// When `p` is not in [0,1], or the half-width not positive.
pub fn without_judge(p: f64, half_width: f64, level: Level) -> Result<u64, Refusal> {
    share("pass rate", 0, p)?;
    labels(p * (1.0 - p), half_width, level)
}

/// Labels for a half-width from nothing, with a judge that disagrees with people on a share `disagreement` of traces and is
/// off by `bias` on average.
///
/// # Errors
/// When the disagreement is not in [0,1], the bias is larger than it, or the half-width not positive.
pub fn with_judge(disagreement: f64, bias: f64, half_width: f64, level: Level) -> Result<u64, Refusal> {
    share("disagreement", 0, disagreement)?;
    if bias.is_nan() || bias.abs() > disagreement {
        let range = "at most the disagreement";
        return Err(Refusal::OutOfRange { what: "bias", at: 0, value: bias, range });
    }
    labels(disagreement - bias * bias, half_width, level)
}

/// Labels more, given what those at hand have shown.
///
/// # Errors
/// When the half-width is not positive.
pub fn more(corrected: &Corrected, half_width: f64, level: Level) -> Result<Needed, Refusal> {
    positive("half-width", 0, half_width)?;
    let total = corrected.estimate.standard_error.powi(2);
    let wanted = (half_width / level.z()).powi(2);
    let unseen = corrected.unseen_variance(level);
    if total + unseen <= wanted {
        return Ok(Needed::Enough);
    }
    // left = v/n + u/n^2 for n labels, where the rest of the variance stays.
    let (labels, left) = (corrected.labels as f64, wanted - (total - corrected.label_variance));
    let (v, u) = (labels * corrected.label_variance, labels * labels * unseen);
    let n = (v + (v * v + 4.0 * left * u).sqrt()) / (2.0 * left);
    if left <= 0.0 || !n.is_finite() {
        return Ok(Needed::JudgedTraces);
    }
    Ok(Needed::More(rounded_up(n - labels)))
}

fn labels(variance: f64, half_width: f64, level: Level) -> Result<u64, Refusal> {
    positive("half-width", 0, half_width)?;
    Ok(rounded_up((level.z() / half_width).powi(2) * variance))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` stops at the ends, which is meant")]
fn rounded_up(n: f64) -> u64 {
    n.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::estimate::Estimate;
    use crate::stats::ppi::{self, Judged, Labelled, Method};

    #[test]
    fn from_nothing() {
        let without = |h| without_judge(0.7, h, Level::P95).expect("a rate");
        assert_eq!((without(0.03), without(0.05)), (897, 323));
        let with = |h| with_judge(0.07, 0.0, h, Level::P95).expect("a rate");
        assert_eq!((with(0.03), with(0.05)), (299, 108));
        assert!(
            with_judge(0.07, 0.07, 0.03, Level::P95).expect("a rate") < with(0.03),
            "a bias that is known costs nothing"
        );
        for wrong in [0.0, -1.0, f64::NAN] {
            assert!(without_judge(0.7, wrong, Level::P95).is_err() && with_judge(0.1, 0.0, wrong, Level::P95).is_err());
        }
        assert!(without_judge(1.2, 0.03, Level::P95).is_err() && with_judge(0.1, 0.2, 0.03, Level::P95).is_err());
        assert!(with_judge(0.1, f64::NAN, 0.03, Level::P95).is_err());
    }

    #[test]
    fn what_the_labels_at_hand_say_comes_true() {
        // A judge that is wrong on each tenth trace, evenly to both sides.
        let label = |n: usize| {
            let (passes, wrong) = (n.is_multiple_of(2), (n / 2).is_multiple_of(10));
            let number = |b: bool| f64::from(u8::from(b));
            Labelled { label: number(passes), judged: number(passes != wrong), weight: 1.0 }
        };
        let pool: Vec<Judged> = (0..20_000).map(|n| Judged { judged: label(n).judged, weight: 1.0 }).collect();
        let with = |labels: usize| {
            let known: Vec<Labelled> = (0..labels).map(label).collect();
            ppi::mean(&known, &pool, Method::default()).expect("labels")
        };
        let first = with(100);
        let Needed::More(more_labels) = more(&first, 0.03, Level::P95).expect("a half-width") else {
            panic!("100 labels are too few: {first:?}")
        };
        let all = with(100 + usize::try_from(more_labels).expect("a small number"));
        let half = all.rate_interval(Level::P95).half_width();
        assert!((half / 0.03 - 1.0).abs() < 0.05, "{half} after {more_labels} more");
        assert_eq!(more(&all, 0.05, Level::P95), Ok(Needed::Enough));
    }

    #[test]
    fn labels_cannot_make_up_for_traces_that_were_not_judged() {
        let estimate = Estimate { value: 0.8, standard_error: 0.05 };
        let few = Corrected { estimate, lambda: 0.9, labels: 100, label_variance: 0.0005, one_label: 1e-4 };
        assert_eq!(more(&few, 0.03, Level::P95), Ok(Needed::JudgedTraces));
        let none = Corrected { estimate, lambda: 0.0, labels: 0, label_variance: 0.0, one_label: 0.0 };
        assert_eq!(more(&none, 0.03, Level::P95), Ok(Needed::JudgedTraces));
        assert!(more(&few, f64::NAN, Level::P95).is_err());
    }
}
