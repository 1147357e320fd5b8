//! An estimate with its standard error, an interval, and the level of confidence that leads from one to the other.
//!
//! Returned by the estimators of this folder. Its rule: a level is checked once, when it is made, so that no interval can
//! be asked for at a level of 95. The way not taken: z = 1.96 written into each formula.

use crate::stats::beta;
use crate::stats::refusal::Refusal;
use serde::Serialize;
use statrs::function::erf::erfc_inv;

/// An estimate and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Its standard error with respect to the sampling; zero when everything was kept.
    pub standard_error: f64,
}

impl Estimate {
    /// The interval of the normal approximation.
    #[must_use]
    pub fn interval(self, level: Level) -> Interval {
        Interval::around(self.value, level.z() * self.standard_error)
    }
}

/// A range of values, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// From `middle - half` to `middle + half`.
    #[must_use]
    pub fn around(middle: f64, half: f64) -> Self {
        Self { low: middle - half, high: middle + half }
    }

    /// Cut to what the value can be.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }

    /// Half of the width.
    #[must_use]
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether a value is inside.
    #[must_use]
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The share of intervals that shall cover the truth: above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level(f64);

impl Level {
    /// 95 of 100.
    pub const P95: Self = Self(0.95);

    /// A level such as 0.95.
    ///
    /// # Errors
    /// When it is not above 0 and below 1.
    pub fn new(level: f64) -> Result<Self, Refusal> {
        if level > 0.0 && level < 1.0 {
            return Ok(Self(level));
        }
        let range = "above 0 and below 1, such as 0.95";
        Err(Refusal::OutOfRange { what: "confidence level", at: 0, value: level, range })
    }

    /// What is left out at both ends together.
    #[must_use]
    pub fn alpha(self) -> f64 {
        1.0 - self.0
    }

    /// The two-sided quantile of the normal distribution: 1.96 for 0.95.
    #[must_use]
    pub fn z(self) -> f64 {
        std::f64::consts::SQRT_2 * erfc_inv(self.alpha())
    }

    /// The two-sided quantile of Student's t with these degrees of freedom; that of the normal one when there are many.
    #[must_use]
    pub fn t(self, freedom: f64) -> f64 {
        // From here on both agree in six digits, and the quantile is found by search.
        const MANY: f64 = 1e6;
        if freedom >= MANY {
            return self.z();
        }
        if freedom.is_nan() || freedom <= 0.0 {
            return f64::INFINITY;
        }
        // P(|T| > t) = I_y(freedom/2, 1/2) with y = freedom/(freedom + t^2).
        let y = beta::quantile(freedom / 2.0, 0.5, self.alpha());
        (freedom * (1.0 - y) / y).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        assert!((Level::P95.z() - 1.959_963_984_540_054).abs() < 1e-14);
        assert!((Level::new(0.99).expect("a level").z() - 2.575_829_303_548_900_4).abs() < 1e-13);
        assert!((Level::P95.t(10.0) - 2.228_138_852).abs() < 1e-8);
        assert!((Level::P95.t(1e9) - Level::P95.z()).abs() < 1e-12);
        assert!(Level::P95.t(0.0).is_infinite(), "without degrees of freedom nothing is known");
    }

    #[test]
    fn a_level_is_a_share() {
        for wrong in [0.0, 1.0, 95.0, -0.1, f64::NAN] {
            assert!(Level::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_are_cut_to_what_can_be() {
        let wide = Estimate { value: 0.9, standard_error: 0.1 }.interval(Level::P95);
        assert!(wide.high > 1.0 && wide.contains(0.9));
        assert!((wide.half_width() - 0.195_996_398).abs() < 1e-8);
        assert!((wide.within(0.0, 1.0).high - 1.0).abs() < f64::EPSILON);
    }
}
