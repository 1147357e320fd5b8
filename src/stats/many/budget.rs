//! The false-alarm budget: how many false alarms a month all scans together may raise on average.
//!
//! Called by the step that watches, for `stats::stream::Rules`. Each stream k gets alpha_k = F v_k, sum v_k = 1; the sum of
//! chances bounds the expected number under any dependence. A reserve is kept for streams that appear within the month. Its
//! rule: what is given out never exceeds F. The way not taken: a false discovery rate for scans, which cannot be held for
//! detectors that run for ever (Dandapanthula & Ramdas, 2025).

use crate::stats::invalid::{Invalid, amount, within};
use crate::stats::stream::ALPHA_SCAN_MAX;
use serde::{Deserialize, Serialize};

/// The part of the budget that is for saying that a judge has moved: half of what the scans leave.
pub const JUDGES: f64 = 0.05;

/// False alarms a month, and what is kept back for new streams.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Expected false alarms in 30 days over all streams, positive.
    pub per_month: f64,
    /// The part of it that is kept for new streams, in [0, 1).
    pub reserve: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { per_month: 1.0, reserve: 0.1 }
    }
}

impl Budget {
    fn check(&self) -> Result<(), Invalid> {
        within("false alarms a month", self.per_month, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
        within("the reserve for new streams", self.reserve, 0.0..=1.0, "from 0 to 1").map(drop)
    }

    /// The error level of each stream's scan, by priority; none above `ALPHA_SCAN_MAX`. A stream of priority 0 gets none.
    ///
    /// # Errors
    /// When the budget or a priority is out of range.
    pub fn shares(&self, priorities: &[f64]) -> Result<Vec<f64>, Invalid> {
        self.check()?;
        let mut total = 0.0;
        for priority in priorities {
            total += amount("a stream's priority", *priority)?;
        }
        let available = self.per_month * (1.0 - self.reserve);
        let share = |priority: &f64| if total > 0.0 { (available * priority / total).min(ALPHA_SCAN_MAX) } else { 0.0 };
        Ok(priorities.iter().map(share).collect())
    }

    /// The error level of 30 days of canaries of each of so many judges: the panels' seats, all rubrics together.
    ///
    /// # Errors
    /// When the budget is out of range.
    pub fn judges(&self, seats: usize) -> Result<f64, Invalid> {
        self.check()?;
        Ok((self.per_month * self.reserve.min(JUDGES) / seats.max(1) as f64).min(ALPHA_SCAN_MAX))
    }

    /// The error level of a stream that appears when `spent` of the reserve is given out: as much as the others have, but at
    /// most half of what is left, so that there is always some.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn newcomer(&self, others: f64, spent: f64) -> Result<f64, Invalid> {
        self.check()?;
        amount("what others have", others)?;
        amount("the reserve that is spent", spent)?;
        let left = (self.per_month * (self.reserve - JUDGES) - spent).max(0.0);
        Ok(others.min(left / 2.0).min(ALPHA_SCAN_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_never_exceeds_the_budget() {
        let budget = Budget::default();
        let shares = budget.shares(&[1.0; 200]).expect("priorities");
        assert!((shares.iter().sum::<f64>() - 0.9).abs() < 1e-9 && (shares[0] - 0.0045).abs() < 1e-12);
        let uneven = budget.shares(&[3.0, 1.0, 0.0]).expect("priorities");
        assert_eq!(uneven, [ALPHA_SCAN_MAX, ALPHA_SCAN_MAX, 0.0]);
        let mut spent = 0.0;
        for _ in 0..100 {
            spent += budget.newcomer(0.0045, spent).expect("in range");
        }
        let judges = budget.judges(8).expect("in range") * 8.0;
        assert!(spent + judges <= 0.1 + 1e-12, "{spent} {judges}");
        assert_eq!(budget.shares(&[]), Ok(vec![]));
        assert_eq!(budget.shares(&[0.0]), Ok(vec![0.0]));
        assert!(budget.shares(&[f64::NAN]).is_err() && Budget { per_month: 0.0, ..budget }.shares(&[1.0]).is_err());
    }
}
