//! The beta distribution: its regularised incomplete function and its quantile, for any shapes.
//!
//! Used by `proportions` and `estimate`. I_x(a, b) by its continued fraction (Lentz; Numerical Recipes, section 6.4) until it has
//! converged, the quantile by halving. Its rule: it ends. The way not taken: statrs' inverse, whose step never shrinks enough for
//! shapes in the millions and does not return, and whose fraction stops after 140 terms.

use statrs::function::gamma::ln_gamma;

/// Terms of the fraction at most; it takes about the root of the larger shape.
const TERMS_MAX: u32 = 50_000;

/// Halvings at most: of 0 to 1 down to less than any two doubles that matter are apart.
const HALVINGS_MAX: u32 = 200;

/// I_x(a, b) for positive shapes and x in [0,1].
pub(crate) fn regularised(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        (front * fraction(a, b, x) / a).clamp(0.0, 1.0)
    } else {
        (1.0 - front * fraction(b, a, 1.0 - x) / b).clamp(0.0, 1.0)
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut above = 1.0;
    let mut below = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut whole = below;
    for m in 1..=TERMS_MAX {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            below = 1.0 / away(1.0 + term * below);
            above = away(1.0 + term / above);
            change = above * below;
            whole *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    whole
}

/// The x with I_x(a, b) = `at`, for positive shapes and `at` in [0,1].
pub(crate) fn quantile(a: f64, b: f64, at: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS_MAX {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if regularised(a, b, middle) < at {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        for (a, b, x, wanted) in
            [(1.0, 1.0, 0.3, 0.3), (2.0, 2.0, 0.5, 0.5), (2.0, 1.0, 0.5, 0.25), (0.5, 0.5, 0.5, 0.5)]
        {
            assert!((regularised(a, b, x) - wanted).abs() < 1e-14, "{a} {b} {x}");
        }
        // The median of a symmetric one, however large its shapes.
        assert!((quantile(5e6, 5e6, 0.5) - 0.5).abs() < 1e-9, "as exact as ln gamma of ten millions");
        assert!((quantile(1.0, 1.0, 0.025) - 0.025).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn the_quantile_turns_the_function_round(a in 0.1..1e6_f64, b in 0.1..1e6_f64, at in 0.001..0.999_f64) {
            let x = quantile(a, b, at);
            prop_assert!((0.0..=1.0).contains(&x));
            // Where the distribution is steeper than doubles are dense, neighbours differ by more.
            prop_assert!(regularised(a, b, x) >= at - 1e-7, "{a} {b} {at} {x}");
        }
    }
}
