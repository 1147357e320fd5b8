//! What can be detected: the smallest drop, the scores or the days that a drop needs.
//!
//! Called by `stats::stream` and by whoever plans a budget. n_eff = 2 v (ln(1/alpha) + c) / D^2, D = drop - delta, v the mean of
//! p (1 - p) before and after, 1/n_eff = 1/n_before + 1/n_after, c = 2.6 for a version test and 6.6 for a scan. The constants
//! were fitted to simulated delays and hold within 40 %. Its rule: a plan, not evidence; no alarm depends on it. The
//! way not taken: the power of a z-test, which is for one look.

use super::invalid::{Invalid, amount, probability, unit, within};

/// What is to detect the drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A version test: it is known when the change would have begun.
    Version,
    /// The change scan: it is not.
    Scan,
}

impl Kind {
    fn price(self) -> f64 {
        match self {
            Self::Version => 2.6,
            Self::Scan => 6.6,
        }
    }
}

/// The traffic that is planned for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Mean loss before, in [0, 1].
    pub rate: f64,
    /// Error level, in (0, 1].
    pub alpha: f64,
    /// The tolerated drop, in [0, 1].
    pub delta: f64,
}

/// 1 / (1/before + 1/after); 0 if either is.
#[must_use]
pub fn pooled(before: f64, after: f64) -> f64 {
    if before > 0.0 && after > 0.0 { before * after / (before + after) } else { 0.0 }
}

impl Plan {
    fn check(&self) -> Result<(), Invalid> {
        unit("the mean loss", self.rate)?;
        unit("the tolerated drop", self.delta)?;
        probability("the error level", self.alpha).map(drop)
    }

    /// The pooled effective size that a rise of the mean loss by `drop` needs; infinite if it is within the tolerance.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn size_needed(&self, kind: Kind, drop: f64) -> Result<f64, Invalid> {
        self.check()?;
        unit("the drop", drop)?;
        Ok(self.needed(kind, drop))
    }

    fn needed(&self, kind: Kind, drop: f64) -> f64 {
        let excess = drop - self.delta;
        if excess <= 0.0 {
            return f64::INFINITY;
        }
        let after = (self.rate + drop).min(1.0);
        let variance = f64::midpoint(self.rate * (1.0 - self.rate), after * (1.0 - after)).max(1e-4);
        2.0 * variance * ((1.0 / self.alpha).ln() + kind.price()) / (excess * excess)
    }

    /// The smallest drop that the pooled effective size shows; None if not even the largest that is possible.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn detectable_drop(&self, kind: Kind, size: f64) -> Result<Option<f64>, Invalid> {
        self.check()?;
        amount("the pooled effective size", size)?;
        let largest = 1.0 - self.rate;
        // Past its first point the need only falls: bisection finds the smallest drop that is met.
        if largest <= self.delta || self.needed(kind, largest) > size {
            return Ok(None);
        }
        let (mut missed, mut met) = (self.delta, largest);
        for _ in 0..60 {
            let middle = f64::midpoint(missed, met);
            if self.needed(kind, middle) <= size {
                met = middle;
            } else {
                missed = middle;
            }
        }
        Ok(Some(met))
    }

    /// Days until a drop is seen, with `before` scores known and `per_day` coming (both effective); None if the baseline is too
    /// small for it to be seen ever.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn days(&self, kind: Kind, drop: f64, before: f64, per_day: f64) -> Result<Option<f64>, Invalid> {
        amount("the baseline's effective size", before)?;
        within("scores a day", per_day, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
        let needed = self.size_needed(kind, drop)?;
        Ok((needed < before).then(|| needed * before / (before - needed) / per_day))
    }

    /// Scores a day so that a drop is seen within `days`; None if the baseline is too small.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn per_day(&self, kind: Kind, drop: f64, before: f64, days: f64) -> Result<Option<f64>, Invalid> {
        // What is needed after the change is days times scores a day: the two stand for each other.
        self.days(kind, drop, before, days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_by_hand_and_back() {
        let plan = Plan { rate: 0.1, alpha: 0.05, delta: 0.0 };
        let by_hand = 2.0 * f64::midpoint(0.09, 0.1275) * (20.0_f64.ln() + 2.6) / 0.0025;
        let needed = plan.size_needed(Kind::Version, 0.05).expect("in range");
        assert!((needed - by_hand).abs() < 1e-9);
        let drop = plan.detectable_drop(Kind::Version, needed).expect("in range").expect("it is possible");
        assert!((drop - 0.05).abs() < 1e-9);
        let days = plan.days(Kind::Version, 0.05, 14_000.0, 1_000.0).expect("in range").expect("enough");
        assert!((pooled(14_000.0, days * 1_000.0) - needed).abs() < 1e-6);
        let daily = plan.per_day(Kind::Version, 0.05, 14_000.0, days).expect("in range").expect("enough");
        assert!((daily - 1_000.0).abs() < 1e-6);
        assert!(plan.size_needed(Kind::Scan, 0.05).expect("in range") > needed);
    }

    #[test]
    fn what_cannot_be_seen_is_none_and_nonsense_is_refused() {
        let plan = Plan { rate: 0.1, alpha: 0.05, delta: 0.02 };
        assert_eq!(plan.size_needed(Kind::Scan, 0.02), Ok(f64::INFINITY));
        assert_eq!(plan.detectable_drop(Kind::Scan, 0.0), Ok(None));
        assert_eq!(plan.days(Kind::Scan, 0.05, 10.0, 100.0), Ok(None));
        assert_eq!(Plan { rate: 1.0, ..plan }.detectable_drop(Kind::Scan, 1e9), Ok(None));
        assert!(Plan { rate: f64::NAN, ..plan }.detectable_drop(Kind::Scan, 1.0).is_err());
        assert!(plan.days(Kind::Scan, 0.05, 10.0, 0.0).is_err());
        assert_eq!(pooled(0.0, 5.0).to_bits(), 0.0_f64.to_bits());
    }
}
