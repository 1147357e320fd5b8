//! Boundaries that a random walk crosses with a small probability ever, by mixing over its drift; confidence sequences from them.
//!
//! v is the walk's intrinsic time (its variance so far), s its height. Each mixture is tuned to be tightest at `v_opt`. Howard,
//! Ramdas, McAuliffe, Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021 (propositions 4 to 6,
//! theorem 1). Its rule: exact for its class of walks. The way not taken: a union bound over dates, which is wider and
//! has to be told how often one looks.

use crate::stats::invalid::{Invalid, amount, probability, unit, within};
use statrs::function::erf::erfc;
use statrs::function::gamma::{checked_gamma_lr, ln_gamma};

/// A mixture over drifts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixture {
    /// Normal, both signs; for sub-Gaussian walks.
    NormalTwoSided {
        /// Where it is tightest, and below: see `Mixture`.
        rho: f64,
    },
    /// Normal, positive drifts only.
    NormalOneSided {
        /// As above.
        rho: f64,
    },
    /// Gamma; for sub-exponential walks of scale c.
    GammaExponential {
        /// As above.
        rho: f64,
        /// Scale.
        c: f64,
    },
}

impl Mixture {
    /// Normal over both signs, tightest at `v_opt` for level `alpha_opt`.
    ///
    /// # Errors
    /// When v_opt is not positive or alpha_opt not in (0, 1).
    pub fn normal_two_sided(v_opt: f64, alpha_opt: f64) -> Result<Self, Invalid> {
        Ok(Self::NormalTwoSided { rho: best_rho(v_opt, alpha_opt)? })
    }

    /// Normal over positive drifts.
    ///
    /// # Errors
    /// As above; when alpha_opt is above a half.
    pub fn normal_one_sided(v_opt: f64, alpha_opt: f64) -> Result<Self, Invalid> {
        Ok(Self::NormalOneSided { rho: best_rho(v_opt, 2.0 * alpha_opt)? })
    }

    /// Gamma over positive drifts, for walks of scale `c`.
    ///
    /// # Errors
    /// As above; when c is not positive.
    pub fn gamma_exponential(v_opt: f64, alpha_opt: f64, c: f64) -> Result<Self, Invalid> {
        within("the scale", c, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
        Ok(Self::GammaExponential { rho: best_rho(v_opt, 2.0 * alpha_opt)?, c })
    }

    /// ln of the evidence of a walk that is at height `s` at time `v`.
    ///
    /// # Errors
    /// When v is negative or s NaN.
    pub fn log_e(&self, s: f64, v: f64) -> Result<f64, Invalid> {
        amount("the intrinsic time", v)?;
        within("the height of the walk", s, f64::MIN..=f64::MAX, "finite")?;
        Ok(self.at(s, v))
    }

    fn at(&self, s: f64, v: f64) -> f64 {
        match *self {
            Self::NormalTwoSided { rho } => 0.5 * (rho / (v + rho)).ln() + s * s / (2.0 * (v + rho)),
            Self::NormalOneSided { rho } => {
                let below = 0.5 * erfc(-s / (2.0 * (v + rho)).sqrt());
                0.5 * (4.0 * rho / (v + rho)).ln() + s * s / (2.0 * (v + rho)) + below.ln()
            }
            Self::GammaExponential { rho, c } => {
                let (start, now) = (rho / (c * c), (v + rho) / (c * c));
                let walk = (c * s + v) / (c * c);
                let lower = |shape: f64, x: f64| checked_gamma_lr(shape, x).unwrap_or(0.0).ln();
                start * start.ln() - ln_gamma(start) - lower(start, start) + ln_gamma(now) + lower(now, walk + start)
                    - now * (walk + start).ln()
                    + walk
            }
        }
    }

    /// The height that a walk without drift ever exceeds with probability at most alpha, at time v.
    ///
    /// # Errors
    /// When v is negative or alpha not in (0, 1].
    pub fn bound(&self, v: f64, alpha: f64) -> Result<f64, Invalid> {
        amount("the intrinsic time", v)?;
        let enough = -probability("the error level", alpha)?.ln();
        if let Self::NormalTwoSided { rho } = *self {
            return Ok(((v + rho) * ((v / rho).ln_1p() + 2.0 * enough)).sqrt());
        }
        let (mut low, mut high) = (0.0, v.max(1.0));
        while self.at(high, v) < enough && high < 1e300 {
            high *= 2.0;
        }
        for _ in 0..100 {
            let middle = f64::midpoint(low, high);
            if self.at(middle, v) < enough {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(f64::midpoint(low, high))
    }
}

fn best_rho(v_opt: f64, alpha_opt: f64) -> Result<f64, Invalid> {
    within("the time to be tightest at", v_opt, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
    let doubt = -2.0 * probability("the level to be tightest for", alpha_opt)?.ln();
    Ok(v_opt / (doubt + doubt.ln_1p()))
}

/// The polynomially stitched boundary: as tight as the law of the iterated logarithm allows. Defaults of the paper: c = 0 for
/// sub-Gaussian walks, s = 1.4, eta = 2.
///
/// # Errors
/// When alpha is not in (0, 1], or v_min not positive, c negative, s or eta not above 1.
pub fn stitched_bound(v: f64, alpha: f64, v_min: f64, c: f64, (s, eta): (f64, f64)) -> Result<f64, Invalid> {
    amount("the intrinsic time", v)?;
    probability("the error level", alpha)?;
    within("the least intrinsic time", v_min, f64::MIN_POSITIVE..=f64::MAX, "positive")?;
    amount("the scale", c)?;
    within("the exponent", s, 1.000_001..=100.0, "above 1")?;
    within("the ratio of epochs", eta, 1.000_001..=f64::MAX, "above 1")?;
    let v = v.max(v_min);
    let k1 = (eta.powf(0.25) + eta.powf(-0.25)) / std::f64::consts::SQRT_2;
    let k2 = f64::midpoint(eta.sqrt(), 1.0);
    let log_log = s * (eta * v / v_min).ln().ln() + (zeta(s) / (alpha * eta.ln().powf(s))).ln();
    Ok((k1 * k1 * v * log_log + (k2 * c * log_log).powi(2)).sqrt() + k2 * c * log_log)
}

/// Riemann's zeta for s > 1, by Euler and Maclaurin.
fn zeta(s: f64) -> f64 {
    let n = 30.0_f64;
    let head: f64 = (1..30).map(|k| f64::from(k).powf(-s)).sum();
    let tail = n.powf(1.0 - s) / (s - 1.0) + n.powf(-s) / 2.0 + s * n.powf(-s - 1.0) / 12.0;
    head + tail - s * (s + 1.0) * (s + 2.0) * n.powf(-s - 3.0) / 720.0
}

/// Confidence sequence of the mean of numbers in [0, 1] from the normal mixture (Hoeffding), tightest at `t_opt`: one interval a
/// number.
///
/// # Errors
/// When a number is not in [0, 1] or a parameter is out of range.
pub fn hoeffding_sequence(x: &[f64], t_opt: f64, alpha: f64) -> Result<Vec<(f64, f64)>, Invalid> {
    let mixture = Mixture::normal_two_sided(t_opt / 4.0, alpha)?;
    let mut sum = 0.0;
    let one = |(i, x): (usize, &f64)| {
        let t = i as f64 + 1.0;
        sum += unit("a number of the sequence", *x)?;
        let half = mixture.bound(t / 4.0, alpha)? / t;
        Ok(((sum / t - half).max(0.0), (sum / t + half).min(1.0)))
    };
    x.iter().enumerate().map(one).collect()
}

/// Lower confidence sequence of the mean of numbers in [0, 1] from the gamma-exponential mixture (empirical Bernstein), tightest at
/// intrinsic time `v_opt`. One-sided at `alpha`; the package of the authors halves alpha once more.
///
/// # Errors
/// As `hoeffding_sequence`.
pub fn bernstein_lower_sequence(x: &[f64], v_opt: f64, alpha: f64) -> Result<Vec<f64>, Invalid> {
    let mixture = Mixture::gamma_exponential(v_opt, alpha, 1.0)?;
    let (mut sum, mut mean, mut variance) = (0.0, 0.5, 0.0);
    let one = |(i, x): (usize, &f64)| {
        let t = i as f64 + 1.0;
        variance += (unit("a number of the sequence", *x)? - mean).powi(2);
        sum += x;
        mean = sum / t;
        Ok((mean - mixture.bound(variance, alpha)? / t).max(0.0))
    };
    x.iter().enumerate().map(one).collect()
}
