//! Tests that come one after the other for ever: a false discovery rate over all of them.
//!
//! e-LOND for deployments, whose evidence is e-values under any dependence (Xu & Ramdas, 2024); LORD++ (Ramdas, Yang, Wainwright,
//! Jordan, 2017), SAFFRON (2018) and LOND (Javanmard & Montanari, 2015) for independent p-values of one look, offline. State is
//! small and serialisable. Its rule: a level is fixed before its value is seen. The way not taken: a fixed level for
//! each test, under which false discoveries grow with time.

use crate::stats::invalid::{Invalid, amount, probability, unit, within};
use serde::{Deserialize, Serialize};

/// The level a test was held to, and whether it was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The level.
    pub level: f64,
    /// Whether the test was rejected at it.
    pub rejected: bool,
}

/// gamma_t = .07720838 ln(max(t, 2)) / (t exp(sqrt(ln t))), for e-LOND, LOND and LORD++.
#[must_use]
pub fn gamma(t: usize) -> f64 {
    let t = t.max(1) as f64;
    0.077_208_38 * t.max(2.0).ln() / (t * t.ln().sqrt().exp())
}

/// .4374901658 / t^1.6, for SAFFRON.
fn gamma_saffron(t: usize) -> f64 {
    0.437_490_165_8 / (t.max(1) as f64).powf(1.6)
}

/// e-LOND and LOND: levels by the number of discoveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lond {
    q: f64,
    tests: usize,
    discoveries: usize,
}

impl Lond {
    /// At false discovery rate `q`.
    ///
    /// # Errors
    /// When `q` is not in (0, 1].
    pub fn new(q: f64) -> Result<Self, Invalid> {
        Ok(Self { q: probability("the false discovery rate", q)?, tests: 0, discoveries: 0 })
    }

    /// Decides on the next e-value: rejected if e >= 1 / (q gamma_t (discoveries + 1)).
    ///
    /// # Errors
    /// When it is negative or NaN.
    pub fn test_e(&mut self, e: f64) -> Result<Decision, Invalid> {
        within("an e-value", e, 0.0..=f64::INFINITY, "not negative")?;
        let level = self.next_level();
        Ok(self.decide(level, e >= 1.0 / level))
    }

    /// Decides on the next p-value.
    ///
    /// # Errors
    /// When it is not in [0, 1].
    pub fn test_p(&mut self, p: f64) -> Result<Decision, Invalid> {
        unit("a p-value", p)?;
        let level = self.next_level();
        Ok(self.decide(level, p <= level))
    }

    fn next_level(&mut self) -> f64 {
        self.tests += 1;
        self.q * gamma(self.tests) * (self.discoveries as f64 + 1.0)
    }

    fn decide(&mut self, level: f64, rejected: bool) -> Decision {
        self.discoveries += usize::from(rejected);
        Decision { level, rejected }
    }
}

/// LORD++: wealth is spent on tests and earned by discoveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LordPlusPlus {
    alpha: f64,
    start: f64,
    wealth: f64,
    tests: usize,
    discoveries: Vec<usize>,
}

impl LordPlusPlus {
    /// At false discovery rate `alpha`, of which `wealth` may be spent before the first discovery.
    ///
    /// # Errors
    /// When alpha is not in (0, 1] or the wealth not in [0, alpha].
    pub fn new(alpha: f64, wealth: f64) -> Result<Self, Invalid> {
        let start = checked_wealth(alpha, wealth)?;
        Ok(Self { alpha, start, wealth: start, tests: 0, discoveries: Vec::new() })
    }

    /// Decides on the next p-value.
    ///
    /// # Errors
    /// When it is not in [0, 1].
    pub fn test_p(&mut self, p: f64) -> Result<Decision, Invalid> {
        unit("a p-value", p)?;
        self.tests += 1;
        let earned = self.discoveries.iter().zip(earnings(self.alpha, self.start));
        let earned: f64 = earned.map(|(at, share)| share * gamma(self.tests - at)).sum();
        let level = (self.start * gamma(self.tests) + earned).min(self.wealth);
        let rejected = p <= level;
        self.wealth -= level;
        if rejected {
            self.wealth += self.alpha;
            self.discoveries.push(self.tests);
        }
        Ok(Decision { level, rejected })
    }
}

/// SAFFRON: as LORD++, but tests whose p-value is above `lambda` cost nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saffron {
    alpha: f64,
    start: f64,
    lambda: f64,
    tests: usize,
    /// Candidates since the beginning, and those there were at each discovery, which has its test's number.
    candidates: usize,
    discoveries: Vec<(usize, usize)>,
}

impl Saffron {
    /// At false discovery rate `alpha`, with a first wealth, and candidates being p-values up to `lambda`.
    ///
    /// # Errors
    /// When alpha or lambda are not in (0, 1], or the wealth not in [0, alpha].
    pub fn new(alpha: f64, wealth: f64, lambda: f64) -> Result<Self, Invalid> {
        probability("the bound of candidates", lambda)?;
        let start = checked_wealth(alpha, wealth)?;
        Ok(Self { alpha, start, lambda, tests: 0, candidates: 0, discoveries: Vec::new() })
    }

    /// Decides on the next p-value.
    ///
    /// # Errors
    /// When it is not in [0, 1].
    pub fn test_p(&mut self, p: f64) -> Result<Decision, Invalid> {
        unit("a p-value", p)?;
        self.tests += 1;
        let since = |(at, before): &(usize, usize)| gamma_saffron(self.tests - at - (self.candidates - before));
        let earned = self.discoveries.iter().zip(earnings(self.alpha, self.start));
        let earned: f64 = earned.map(|(discovery, share)| share * since(discovery)).sum();
        let spent = self.start * gamma_saffron(self.tests - self.candidates);
        let level = ((1.0 - self.lambda) * (spent + earned)).min(self.lambda);
        let rejected = p <= level;
        self.candidates += usize::from(p <= self.lambda);
        if rejected {
            self.discoveries.push((self.tests, self.candidates));
        }
        Ok(Decision { level, rejected })
    }
}

/// What a discovery earns: the first brings back what was staked at the start.
fn earnings(alpha: f64, start: f64) -> impl Iterator<Item = f64> {
    std::iter::once(alpha - start).chain(std::iter::repeat(alpha))
}

fn checked_wealth(alpha: f64, wealth: f64) -> Result<f64, Invalid> {
    probability("the false discovery rate", alpha)?;
    amount("the first wealth", wealth)?;
    within("the first wealth", wealth, 0.0..=alpha, "at most the false discovery rate")
}
