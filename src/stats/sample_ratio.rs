//! The sampling check: do the numbers of sampled items match their probabilities, or are items lost on the way?
//!
//! Called by the step that watches, with counts by stratum and probability. A Dirichlet prior around the expected shares gives
//! evidence against them: each batch x multiplies it by B(a + x) / B(a) / prod theta^x, then a grows by x (Lindon & Malek,
//! Anytime-valid inference for multinomial count data, 2022). Alarm at 1,000. Its rule: shares may differ between
//! batches, since sampling rates do. The way not taken: a chi-square test every hour, which alarms every day.

use super::invalid::{Invalid, amount, same_length, within};
use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

/// Evidence at which items are thought to be lost.
pub const ALARM_AT: f64 = 1_000.0;

/// The evidence so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    /// Concentration of the prior at the start.
    concentration: f64,
    counts: Vec<f64>,
    log_e: f64,
}

impl SampleRatio {
    /// Of so many categories; the larger the concentration, the smaller the deviations that it looks for. 100 is usual.
    ///
    /// # Errors
    /// When there are less than two, or the concentration is not positive.
    pub fn new(categories: usize, concentration: f64) -> Result<Self, Invalid> {
        within("the number of categories", categories as f64, 2.0..=1e6, "at least 2")?;
        within("the concentration", concentration, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
        Ok(Self { concentration, counts: vec![0.0; categories], log_e: 0.0 })
    }

    /// Adds a batch: counts by category, and the shares that they should have (scaled to sum 1). Returns ln of the evidence.
    /// A category that should be empty and is not is proof: infinity.
    ///
    /// # Errors
    /// When lengths differ, a number is negative or NaN, or all shares are zero; nothing is added then.
    pub fn update(&mut self, batch: &[f64], shares: &[f64]) -> Result<f64, Invalid> {
        same_length("the number of counts", batch.len(), self.counts.len())?;
        same_length("the number of shares", shares.len(), self.counts.len())?;
        let mut total = 0.0;
        for (count, share) in batch.iter().zip(shares) {
            amount("a count", *count)?;
            total += amount("a share", *share)?;
        }
        within("the sum of shares", total, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
        let mut change = 0.0;
        let (mut before, mut after) = (0.0, 0.0);
        for ((count, seen), share) in batch.iter().zip(&mut self.counts).zip(shares) {
            let share = share / total;
            let old = self.concentration * share + *seen;
            *seen += count;
            if old <= 0.0 {
                change += if *count > 0.0 { f64::INFINITY } else { 0.0 };
                continue;
            }
            (before, after) = (before + old, after + old + count);
            if *count > 0.0 {
                change += ln_gamma(old + count) - ln_gamma(old) - count * share.ln();
            }
        }
        change -= ln_gamma(after) - ln_gamma(before);
        self.log_e += change;
        Ok(self.log_e)
    }

    /// ln of the evidence.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    /// Whether items are thought to be lost.
    #[must_use]
    pub fn alarms(&self) -> bool {
        self.log_e >= ALARM_AT.ln()
    }

    /// Posterior share of each category, for the explanation; 0 before anything was counted.
    #[must_use]
    pub fn observed(&self) -> Vec<f64> {
        let total: f64 = self.counts.iter().sum();
        self.counts.iter().map(|count| if total > 0.0 { count / total } else { 0.0 }).collect()
    }
}

/// Whether the last bytes of random ids look uniform: the chi-square statistic of 256 counts, less its mean, over its standard
/// deviation. Above 6 they are not random.
///
/// # Errors
/// When there are not 256 counts, or one is out of range.
pub fn byte_uniformity(counts: &[f64]) -> Result<f64, Invalid> {
    same_length("the number of byte counts", counts.len(), 256)?;
    let mut total = 0.0;
    for count in counts {
        total += amount("a count", *count)?;
    }
    if total <= 0.0 {
        return Ok(0.0);
    }
    let expected = total / 256.0;
    let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    Ok((chi - 255.0) / 510.0_f64.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn numbers(of: &Value) -> Vec<f64> {
        of.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect()
    }

    #[test]
    fn savvi_has_the_same_evidence_after_each_batch() {
        let file: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/stats/srm_multinomial.json")).expect("JSON");
        let cases = file["cases"].as_array().expect("cases");
        assert!(!cases.is_empty());
        for case in cases {
            let (shares, expected) = (numbers(&case["theta_0"]), numbers(&case["inverse_odds"]));
            let mut own = SampleRatio::new(shares.len(), case["k"].as_f64().expect("a number")).expect("in range");
            let batches = case["batches"].as_array().expect("batches");
            assert!(!batches.is_empty() && batches.len() == expected.len());
            for (batch, inverse) in batches.iter().zip(expected) {
                let log_e = own.update(&numbers(batch), &shares).expect("counts");
                assert!(((-log_e).exp() - inverse).abs() <= 1e-9 * inverse, "{log_e} {inverse}");
            }
        }
    }

    #[test]
    fn lost_items_are_found_and_nonsense_is_refused() {
        let mut check = SampleRatio::new(2, 100.0).expect("in range");
        assert_eq!(check.update(&[0.0, 0.0], &[0.5, 0.5]), Ok(0.0));
        for _ in 0..40 {
            check.update(&[50.0, 35.0], &[5.0, 5.0]).expect("counts");
        }
        assert!(check.alarms() && check.observed()[0] > 0.55, "{check:?}");
        assert_eq!(SampleRatio::new(2, 1.0).expect("two").update(&[1.0, 1.0], &[1.0, 0.0]), Ok(f64::INFINITY));
        assert!(SampleRatio::new(1, 1.0).is_err() && SampleRatio::new(2, f64::NAN).is_err());
        let before = check.clone();
        assert!(check.update(&[1.0], &[1.0, 1.0]).is_err() && check.update(&[f64::NAN, 1.0], &[1.0, 1.0]).is_err());
        assert!(check.update(&[1.0, 1.0], &[0.0, 0.0]).is_err() && check == before);
    }

    #[test]
    fn bytes_that_are_not_random_are_seen() {
        assert!(byte_uniformity(&[100.0; 256]).expect("counts") < 0.0);
        let even: Vec<f64> = (0..256).map(|i| if i % 2 == 0 { 200.0 } else { 0.0 }).collect();
        assert!(byte_uniformity(&even).expect("counts") > 6.0);
        assert_eq!(byte_uniformity(&[0.0; 256]), Ok(0.0));
        assert!(byte_uniformity(&[0.0; 2]).is_err());
    }
}
