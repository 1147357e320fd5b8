//! Random numbers for the simulations: Poisson, binomial, beta, all from a seeded generator.
//!
//! Used by `benches/simulate.rs`. Its rule: plain and exact methods, so that nobody wonders about an approximation. The way not
//! taken: a crate of distributions for three of them.

use rand::Rng;
use rand::rngs::StdRng;

/// A Poisson number, by products of uniforms (Knuth), in parts so that nothing underflows.
pub fn poisson(rng: &mut StdRng, mean: f64) -> u32 {
    let (mut left, mut number) = (mean, 0);
    while left > 0.0 {
        let part = left.min(200.0);
        let (end, mut product) = ((-part).exp(), rng.random::<f64>());
        while product > end {
            number += 1;
            product *= rng.random::<f64>();
        }
        left -= part;
    }
    number
}

/// A binomial number, trial by trial.
pub fn binomial(rng: &mut StdRng, trials: u32, p: f64) -> u32 {
    let p = p.clamp(0.0, 1.0);
    (0..trials).map(|_| u32::from(rng.random_bool(p))).sum()
}

/// A standard exponential number.
pub fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// A beta number with the given mean, and intra-class correlation 1 / (a + b + 1).
pub fn beta(rng: &mut StdRng, mean: f64, correlation: f64) -> f64 {
    let size = (1.0 - correlation) / correlation;
    let (x, y) = (gamma(rng, mean * size), gamma(rng, (1.0 - mean) * size));
    x / (x + y)
}

/// A gamma number of the given shape, at least 1 (Marsaglia and Tsang, 2000).
fn gamma(rng: &mut StdRng, shape: f64) -> f64 {
    let d = shape.max(1.0) - 1.0 / 3.0;
    loop {
        let normal = (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos();
        let v = (1.0 + normal / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && rng.random::<f64>().ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}
