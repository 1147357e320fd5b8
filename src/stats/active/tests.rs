//! The tests of `stats::active`: glide's results, coverage with unequal probabilities, and edges.

use super::*;
use crate::stats::choice::label_probabilities;
use crate::stats::estimate::Level;
use crate::stats::ppi::Spread;
use crate::stats::vectors::{Checks, cases, file, numbers, whole};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[test]
fn means_as_glide() {
    let mut checks = Checks::default();
    for (n, case) in cases(&file("ppi_designs.json")["cases"]).iter().enumerate() {
        let (y, f, p) = (numbers(&case["y"]), numbers(&case["proxy"]), numbers(&case["pi"]));
        let labelled: Vec<usize> = cases(&case["labelled_active"]).iter().map(whole).collect();
        let items: Vec<Item> = (0..y.len())
            .map(|i| Item {
                weight: 1.0,
                judged: f[i],
                label: (labelled[i] == 1).then_some(y[i]),
                label_probability: p[i],
            })
            .collect();
        for (key, lambda) in [
            ("ASIMeanEstimator(power_tuning=True)", Lambda::Unclipped),
            ("ASIMeanEstimator(power_tuning=False)", Lambda::Fixed(1.0)),
            ("IPWClassicalMeanEstimator", Lambda::Fixed(0.0)),
        ] {
            let own = mean(&items, Method { lambda, spread: Spread::Sample }).expect("labels");
            let (ci, expected) = (own.estimate.interval(Level::P95), &case["out"][key]);
            checks.close(&format!("case {n} {key} mean"), own.estimate.value, &expected["mean"], 1e-9);
            checks.close(&format!("case {n} {key} std"), own.estimate.standard_error, &expected["std"], 1e-9);
            checks.close(&format!("case {n} {key} low"), ci.low, &expected["ci"][0], 1e-9);
            checks.close(&format!("case {n} {key} high"), ci.high, &expected["ci"][1], 1e-9);
        }
    }
    checks.done(12);
}

/// Traces of two features of different quality and rate, a panel that errs more where it is unsure, and 100 labels asked
/// for by its doubt.
fn sampled(random: &mut StdRng, labels: f64) -> (Vec<Item>, f64) {
    let (mut items, mut passed) = (Vec::new(), 0.0);
    let mut truths = Vec::new();
    for n in 0..4000 {
        let (rate, quality) = if n % 4 == 0 { (0.9, 0.5) } else { (0.15, 0.8) };
        let y = f64::from(u8::from(random.random::<f64>() < quality));
        passed += y;
        // A calibrated-looking score that leans towards passing.
        let doubt = random.random::<f64>() * 0.6;
        let judged = if random.random::<f64>() < 1.0 - doubt / 2.0 { y } else { 1.0 - y };
        let judged = (doubt / 2.0 + judged * (1.0 - doubt) + 0.05).min(1.0);
        if random.random::<f64>() < rate {
            items.push(Item { weight: 1.0 / rate, judged, label: None, label_probability: 1.0 });
            truths.push(y);
        }
    }
    let scores: Vec<f64> = items.iter().map(|i| i.judged).collect();
    let chances = label_probabilities(&scores, labels, 0.01).expect("a budget");
    for ((item, y), chance) in items.iter_mut().zip(truths).zip(chances) {
        item.label_probability = chance;
        item.label = (random.random::<f64>() < chance).then_some(y);
    }
    (items, passed / 4000.0)
}

#[test]
fn at_100_labels_asked_for_by_doubt_the_interval_covers() {
    const RUNS: u32 = 600;
    let mut random = StdRng::seed_from_u64(17);
    let (mut covered, mut judge_covered, mut bias) = (0_u32, 0_u32, 0.0);
    for _ in 0..RUNS {
        let (items, truth) = sampled(&mut random, 100.0);
        let own = mean(&items, Method::default()).expect("labels");
        covered += u32::from(own.rate_interval(Level::P95).contains(truth));
        bias += own.estimate.value - truth;
        let judged: Vec<(f64, f64)> = items.iter().map(|i| (i.judged, 1.0 / i.weight)).collect();
        let alone = crate::stats::hajek::mean(&judged).expect("traces").interval(Level::P95);
        judge_covered += u32::from(alone.contains(truth));
    }
    assert!(f64::from(covered) >= 0.93 * f64::from(RUNS), "{covered} of {RUNS}");
    assert!((bias / f64::from(RUNS)).abs() < 0.006, "{}", bias / f64::from(RUNS));
    assert!(judge_covered < RUNS / 2, "the judge alone is wrong here, so the test has power: {judge_covered}");
}

#[test]
fn strata_and_clusters() {
    let mut random = StdRng::seed_from_u64(23);
    let (items, _) = sampled(&mut random, 200.0);
    let one = mean(&items, Method::default()).expect("labels");
    let single = stratified(&[(5.0, &items)], 20, Method::default()).expect("labels");
    assert!((one.estimate.value - single.estimate.value).abs() < 1e-12);
    let (often, rare): (Vec<Item>, Vec<Item>) = items.iter().partition(|i| i.weight < 2.0);
    let both = stratified(&[(1000.0, &often), (3000.0, &rare)], 20, Method::default()).expect("labels");
    assert!(both.estimate.standard_error < one.estimate.standard_error, "{both:?} {one:?}");
    assert_eq!(both.labels, one.labels);
    let each: Vec<u64> = (0..items.len() as u64).collect();
    let own = clustered(&items, &each, Method::default()).expect("labels");
    assert!((own.estimate.standard_error - one.estimate.standard_error).abs() < 1e-12);
    // Each item twice is no news.
    let twice: Vec<Item> = items.iter().chain(&items).copied().collect();
    let sessions: Vec<u64> = each.iter().chain(&each).copied().collect();
    let own = clustered(&twice, &sessions, Method::default()).expect("labels");
    assert!((own.estimate.standard_error / one.estimate.standard_error - 1.0).abs() < 1e-9);
    assert!(clustered(&items, &each[1..], Method::default()).is_err());
    assert!(clustered(&items, &vec![1; items.len()], Method::default()).is_err(), "all of one session");
}

#[test]
fn edges() {
    let good = Item { weight: 2.0, judged: 0.5, label: Some(1.0), label_probability: 0.5 };
    let with = |item: Item| mean(&[good, item, good], Method::default());
    assert!(with(good).is_ok());
    for wrong in [
        Item { weight: 0.0, ..good },
        Item { weight: f64::NAN, ..good },
        Item { judged: f64::NAN, ..good },
        Item { label: Some(f64::INFINITY), ..good },
        Item { label_probability: 0.0, ..good },
        Item { label_probability: f64::NAN, ..good },
        Item { label: None, label_probability: 1.0, ..good },
    ] {
        assert!(with(wrong).is_err(), "{wrong:?}");
    }
    assert!(mean(&[], Method::default()).is_err());
    assert!(mean(&[good, Item { label: None, ..good }], Method::default()).is_err(), "one label");
    assert!(stratified(&[], 20, Method::default()).is_err());
    assert!(stratified(&[(0.0, &[good, good])], 20, Method::default()).is_err());
    // All labelled for sure: the judge adds nothing, the mean is the plain one.
    let sure = Item { label_probability: 1.0, weight: 1.0, ..good };
    let all = mean(&[sure, Item { label: Some(0.0), ..sure }], Method::default()).expect("labels");
    assert!((all.estimate.value - 0.5).abs() < 1e-12 && all.label_variance.abs() < 1e-12, "{all:?}");
}

proptest! {
    #[test]
    fn weights_of_another_scale_change_nothing(seed in 0..1000_u64, scale in 0.01..100.0_f64) {
        let mut random = StdRng::seed_from_u64(seed);
        let items: Vec<Item> = (0..30)
            .map(|n| Item {
                weight: 1.0 + random.random::<f64>(),
                judged: random.random(),
                label: (n < 2 || random.random::<f64>() < 0.5).then_some(f64::from(n % 2)),
                label_probability: 0.5,
            })
            .collect();
        let scaled: Vec<Item> = items.iter().map(|i| Item { weight: i.weight * scale, ..*i }).collect();
        let with = |items: &[Item]| mean(items, Method::default()).expect("labels");
        let (one, other) = (with(&items), with(&scaled));
        prop_assert!((one.estimate.value - other.estimate.value).abs() < 1e-9);
        prop_assert!((one.estimate.standard_error - other.estimate.standard_error).abs() < 1e-9);
    }
}
