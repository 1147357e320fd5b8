//! What tokens cost where the configuration does not say.
//!
//! Used by `judges`. Its rule: an unknown model costs nothing here and `doctor` says so; a guess would be worse. List prices
//! in US dollars a million tokens, by the longest prefix of the model's name; update with a source in the commit.

use crate::config::Price;

const PRICES: &[(&str, f64, f64)] = &[
    ("gpt-4o-mini", 0.15, 0.60),
    ("gpt-4o", 2.50, 10.00),
    ("gpt-4.1-nano", 0.10, 0.40),
    ("gpt-4.1-mini", 0.40, 1.60),
    ("gpt-4.1", 2.00, 8.00),
    // The simulated judge's, so that the demo's cost column means something; they are as made up as its verdicts.
    ("sim-large", 0.40, 1.60),
    ("sim-small", 0.10, 0.40),
];

/// The list price of a model.
#[must_use]
pub fn of(model: &str) -> Option<Price> {
    let best = PRICES.iter().filter(|(prefix, ..)| model.starts_with(prefix)).max_by_key(|(prefix, ..)| prefix.len());
    best.map(|(_, input, output)| Price {
        input_usd_per_million: *input,
        output_usd_per_million: *output,
        ..Price::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        assert_eq!(of("gpt-4o-mini-2024-07-18").map(|p| p.input_usd_per_million), Some(0.15));
        assert_eq!(of("gpt-4o").map(|p| p.input_usd_per_million), Some(2.50));
        assert_eq!(of("llama"), None);
    }
}
