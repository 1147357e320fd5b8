//! The true pass rate from a judged one and the judge's known error rates.
//!
//! For labels of a golden set; labels that are a sample of the traces go to `stats::ppi` and `stats::active`, which are
//! narrower and need no constancy of error rates. theta = (p + sp - 1)/(se + sp - 1) (Rogan & Gladen, Estimating prevalence
//! from the results of a screening test, 1978); interval of Lang & Reiczigel, Confidence limits for prevalence of disease
//! adjusted for estimated sensitivity and specificity, 2014. Its rule: a judge that hardly tells pass from fail is refused.
//! The way not taken: se and sp as if known exactly, which makes the interval much too short.

use crate::stats::estimate::{Interval, Level};
use crate::stats::refusal::{Refusal, positive, share};
use serde::Serialize;

/// se + sp below which the correction would mostly multiply noise.
const TELLING_MIN: f64 = 1.2;

/// A share of a number of items; the number may be an effective one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The share, 0 to 1.
    pub value: f64,
    /// Of how many.
    pub n: f64,
}

/// The corrected rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prevalence {
    /// The estimate, cut to [0,1].
    pub value: f64,
    /// Its interval, cut to [0,1].
    pub interval: Interval,
}

/// Corrects a judged pass rate by the judge's sensitivity (passes among what people pass) and specificity (fails among what
/// they fail).
///
/// # Errors
/// When a share is not in [0,1], a number not positive, or sensitivity and specificity (after adding one item of each kind)
/// sum to less than 1.2.
pub fn correct(judged: Share, sensitivity: Share, specificity: Share, level: Level) -> Result<Prevalence, Refusal> {
    let names = ["judged rate", "sensitivity", "specificity"];
    for (what, given) in names.into_iter().zip([judged, sensitivity, specificity]) {
        share(what, 0, given.value)?;
        positive(what, 0, given.n)?;
    }
    let (z, n) = (level.z(), judged.n);
    let z2 = z * z;
    let (n1, n0) = (sensitivity.n + 2.0, specificity.n + 2.0);
    let p = (n * judged.value + z2 / 2.0) / (n + z2);
    let se = (sensitivity.n * sensitivity.value + 1.0) / n1;
    let sp = (specificity.n * specificity.value + 1.0) / n0;
    let telling = se + sp - 1.0;
    if se + sp < TELLING_MIN {
        let why = "sensitivity and specificity sum to less than 1.2: this judge hardly tells pass from fail";
        return Err(Refusal::Undefined { what: "the corrected rate", why });
    }
    // The variance of each error rate.
    let (spread_pass, spread_fail) = (se * (1.0 - se) / n1, sp * (1.0 - sp) / n0);
    let t = (p + sp - 1.0) / telling;
    let shift = 2.0 * z2 * (t * spread_pass - (1.0 - t) * spread_fail);
    let variance = p * (1.0 - p) / (n + z2) + t * t * spread_pass + (1.0 - t).powi(2) * spread_fail;
    let half = z * variance.sqrt() / telling;
    let plain = (judged.value + specificity.value - 1.0) / (sensitivity.value + specificity.value - 1.0);
    Ok(Prevalence { value: plain.clamp(0.0, 1.0), interval: Interval::around(t + shift, half).within(0.0, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::vectors::{Checks, cases, file, number};
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn of(value: f64, n: f64) -> Share {
        Share { value, n }
    }

    #[test]
    fn the_vectors() {
        let mut checks = Checks::default();
        for (n, case) in cases(&file("misc_formulas.json")["rogan_gladen_lang_reiczigel"]).iter().enumerate() {
            let share = |value: &str, n: &str| of(number(&case[value]), number(&case[n]));
            let (judged, se, sp) = (share("p", "N"), share("se", "n_pos"), share("sp", "n_neg"));
            let own = correct(judged, se, sp, Level::P95).expect("a judge that tells");
            checks.close(&format!("case {n}, z"), Level::P95.z(), &case["z"], 1e-12);
            checks.close(&format!("case {n}, point"), own.value, &case["point"], 1e-12);
            checks.close(&format!("case {n}, low"), own.interval.low, &case["ci"][0], 1e-12);
            checks.close(&format!("case {n}, high"), own.interval.high, &case["ci"][1], 1e-12);
        }
        checks.done(8);
    }

    #[test]
    fn a_judge_that_cannot_tell_and_shares_that_are_none_are_refused() {
        let good = of(0.9, 50.0);
        assert!(correct(of(0.8, 100.0), of(0.6, 50.0), of(0.5, 50.0), Level::P95).is_err(), "no better than a coin");
        assert!(correct(of(0.8, 100.0), good, of(1.0, 1.0), Level::P95).is_ok());
        assert!(correct(of(0.8, 100.0), of(1.0, 1.0), of(0.0, 1.0), Level::P95).is_err());
        for wrong in [of(f64::NAN, 50.0), of(1.1, 50.0), of(0.5, 0.0), of(0.5, f64::INFINITY)] {
            assert!(correct(wrong, good, good, Level::P95).is_err(), "{wrong:?}");
            assert!(correct(good, wrong, good, Level::P95).is_err(), "{wrong:?}");
            assert!(correct(good, good, wrong, Level::P95).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_interval_covers() {
        let mut random = StdRng::seed_from_u64(3);
        let mut share = |p: f64, n: u32| {
            let passed: u32 = (0..n).map(|_| u32::from(random.random::<f64>() < p)).sum();
            of(f64::from(passed) / f64::from(n), f64::from(n))
        };
        let (truth, se, sp) = (0.7, 0.92, 0.85);
        let mut covered = 0_u32;
        for _ in 0..2000 {
            let judged = share(truth * se + (1.0 - truth) * (1.0 - sp), 2000);
            let (se, sp) = (share(se, 70), share(sp, 30));
            let own = correct(judged, se, sp, Level::P95).expect("a judge that tells");
            covered += u32::from(own.interval.contains(truth));
        }
        assert!((1860..=1980).contains(&covered), "{covered} of 2000");
    }

    proptest! {
        #[test]
        fn rate_and_interval_stay_in_0_to_1(
            p in 0.0..=1.0_f64, se in 0.8..=1.0_f64, sp in 0.8..=1.0_f64, n in 1.0..1e5_f64, m in 20.0..500.0_f64,
        ) {
            let own = correct(of(p, n), of(se, m), of(sp, m), Level::P95).expect("a judge that tells");
            prop_assert!(0.0 <= own.interval.low && own.interval.low <= own.interval.high && own.interval.high <= 1.0);
            prop_assert!((0.0..=1.0).contains(&own.value));
        }
    }
}
