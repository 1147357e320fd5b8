//! The tests of `stats::survey`: a reference package's strata, samples drawn at adaptive rates from traffic with bursts,
//! and edges.

use super::*;
use crate::stats::hajek;
use crate::stats::vectors::{Checks, file, number, numbers, whole};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn alone(size: f64, items: &[(f64, f64)]) -> Stratum<'_> {
    Stratum { size, items, clusters: None }
}

#[test]
fn a_stratified_sample_as_samplics() {
    let case = &file("survey.json")["stratified"];
    let (y, sizes) = (numbers(&case["y"]), numbers(&case["N_h"]));
    let stratum: Vec<usize> = case["stratum"].as_array().expect("strata").iter().map(whole).collect();
    let pi = |h: usize| stratum.iter().filter(|s| **s == h).count() as f64 / sizes[h];
    let items: Vec<Vec<(f64, f64)>> = (0..sizes.len())
        .map(|h| y.iter().zip(&stratum).filter(|(_, s)| **s == h).map(|(y, _)| (*y, pi(h))).collect())
        .collect();
    let strata: Vec<Stratum> = items.iter().zip(&sizes).map(|(items, size)| alone(*size, items)).collect();
    let mut checks = Checks::default();
    // The package draws a fixed number a stratum and divides by n - 1; Poisson sampling divides by n.
    for (key, target) in [("formula stderr with fpc", Target::Population), ("samplics stderr", Target::Process)] {
        let own = mean(&strata, target).expect("a sample");
        checks.close("mean", own.estimate.value, &case["out"]["formula mean"], 1e-12);
        let fixed: f64 = strata
            .iter()
            .map(|s| {
                let n = s.items.len() as f64;
                let error = hajek::mean_for(s.items, target).expect("a sample").standard_error;
                (s.size / sizes.iter().sum::<f64>() * error).powi(2) * n / (n - 1.0)
            })
            .sum();
        checks.close(key, fixed.sqrt(), &case["out"][key], 1e-12);
        assert!((own.estimate.standard_error / number(&case["out"][key]) - 1.0).abs() < 0.05, "{own:?}");
    }
    checks.done(4);
}

/// One day of three features in minutes: a large one, one whose traffic bursts and is worse in bursts, a small bad one.
/// Gives each trace's feature, failure and probability at a rate that follows past traffic.
fn day(random: &mut StdRng) -> Vec<(usize, f64, f64)> {
    const BUDGET: f64 = 2.0;
    let rates: [f64; 3] = [30.0, 6.0, 0.5];
    let mut seen = rates;
    let mut traces = Vec::new();
    for minute in 0..1440 {
        let burst = minute % 240 < 30;
        for feature in 0..3 {
            let pi = (BUDGET / seen[feature].max(1e-9)).clamp(0.02, 1.0);
            let mean = if burst && feature == 1 { 6.0 * rates[1] } else { rates[feature] };
            let bad = [0.03, if burst { 0.35 } else { 0.10 }, 0.30][feature];
            // Poisson by counting unit exponentials.
            let (mut count, mut clock) = (0_u32, -random.random::<f64>().ln());
            while clock < mean {
                traces.push((feature, f64::from(u8::from(random.random::<f64>() < bad)), pi));
                count += 1;
                clock -= random.random::<f64>().ln();
            }
            seen[feature] = 0.8 * seen[feature] + 0.2 * f64::from(count);
        }
    }
    traces
}

/// A Poisson sample, by feature: a trace is kept when an arrival of a unit Poisson process falls into its piece, of length
/// -ln(1 - pi).
/// One draw for each that is kept, instead of one for each trace.
fn kept(traces: &[(usize, f64, f64)], random: &mut StdRng) -> [Vec<(f64, f64)>; 3] {
    let mut items = [Vec::new(), Vec::new(), Vec::new()];
    let mut arrival = -random.random::<f64>().ln();
    for (feature, y, pi) in traces {
        let piece = -(-pi).ln_1p();
        if arrival < piece {
            items[*feature].push((*y, *pi));
            // Without memory: after the end of this piece the wait begins anew.
            arrival = -random.random::<f64>().ln();
        } else {
            arrival -= piece;
        }
    }
    items
}

#[test]
fn intervals_cover_under_adaptive_rates_and_bursts() {
    let mut random = StdRng::seed_from_u64(7);
    let (mut covered, mut naive_covered, mut runs, mut bias) = (0, 0, 0, 0.0);
    for _ in 0..40 {
        let traces = day(&mut random);
        let truth = traces.iter().map(|t| t.1).sum::<f64>() / traces.len() as f64;
        let sizes = [0, 1, 2].map(|f| traces.iter().filter(|t| t.0 == f).count() as f64);
        for _ in 0..20 {
            let items = kept(&traces, &mut random);
            let strata = [0, 1, 2].map(|f| alone(sizes[f], &items[f]));
            let own = mean(&strata, Target::Population).expect("a sample");
            let interval = own.rate_interval(Level::P95).expect("a rate");
            covered += u32::from(interval.contains(truth));
            bias += own.estimate.value - truth;
            let plain: Vec<(f64, f64)> = items.concat().iter().map(|(y, _)| (*y, 1.0)).collect();
            let naive = hajek::mean_for(&plain, Target::Process).expect("a sample").interval(Level::P95);
            naive_covered += u32::from(naive.contains(truth));
            runs += 1;
        }
    }
    let coverage = f64::from(covered) / f64::from(runs);
    assert!((0.93..=0.97).contains(&coverage), "coverage {coverage}");
    assert!((bias / f64::from(runs)).abs() < 0.001, "bias {}", bias / f64::from(runs));
    assert_eq!(naive_covered, 0, "the plain mean is never right here, so the test has power");
}

#[test]
fn sessions_count_once() {
    // Ten items of one session are as good as one: 40 sessions, all items of a session alike.
    let mut random = StdRng::seed_from_u64(11);
    let (mut covered, mut single) = (0_u32, 0_u32);
    for _ in 0..400 {
        let (mut items, mut sessions) = (Vec::new(), Vec::new());
        for session in 0..40_u64 {
            let y = f64::from(u8::from(random.random::<f64>() < 0.5));
            for _ in 0..10 {
                items.push((y, 0.1));
                sessions.push(session);
            }
        }
        let strata = |clusters| [Stratum { size: 4000.0, items: &items, clusters }];
        let clustered = mean(&strata(Some(&sessions)), Target::Process).expect("a sample");
        assert_eq!(clustered.clusters, Some(40));
        covered += u32::from(clustered.rate_interval(Level::P95).expect("a rate").contains(0.5));
        let alone = mean(&strata(None), Target::Process).expect("a sample");
        single += u32::from(alone.rate_interval(Level::P95).expect("a rate").contains(0.5));
    }
    assert!((370..=392).contains(&covered), "{covered} of 400");
    assert!(single < 250, "items taken for independent: {single} of 400");
}

#[test]
fn a_drop_has_an_interval() {
    let version =
        |failed: usize| -> Vec<(f64, f64)> { (0..500).map(|n| (f64::from(u8::from(n >= failed)), 0.5)).collect() };
    let (old, new) = (version(45), version(60));
    let own = change(&[alone(1000.0, &old)], &[alone(1000.0, &new)], Target::Process, Level::P95).expect("two samples");
    assert!((own.drop.value - 0.03).abs() < 1e-12, "{own:?}");
    // By hand: sqrt(.91 .09/500 + .88 .12/500), as no variance is spared for the half that was kept.
    let error = (0.91_f64 * 0.09 / 500.0 + 0.88 * 0.12 / 500.0).sqrt();
    assert!((own.drop.standard_error - error).abs() < 1e-12);
    assert!((own.interval.low - (0.03 - Level::P95.z() * error)).abs() < 1e-12);
    assert!(own.interval.contains(0.0) && own.interval.contains(0.06));
}

#[test]
fn the_same_users_before_and_after_vary_less() {
    let users: Vec<u64> = (0..100).collect();
    let scores = |worse: usize| -> Vec<(f64, f64)> {
        (0..100).map(|n| (f64::from(u8::from(n % 2 == 0 && n >= worse)), 1.0)).collect()
    };
    let (old, new) = (scores(0), scores(10));
    let strata = |items, clusters| [Stratum { size: 100.0, items, clusters }];
    let paired = change(&strata(&old, Some(&users)), &strata(&new, Some(&users)), Target::Process, Level::P95)
        .expect("two samples");
    let apart = change(&strata(&old, None), &strata(&new, None), Target::Process, Level::P95).expect("two samples");
    assert!((paired.drop.value - 0.05).abs() < 1e-12);
    assert!(paired.drop.standard_error < apart.drop.standard_error / 2.0, "{paired:?} {apart:?}");
    let half = change(&strata(&old, Some(&users)), &strata(&new, None), Target::Process, Level::P95);
    assert_eq!(half, Err(CLUSTERS_IN_PART));
}

#[test]
fn thin_strata_are_taken_together() {
    let (large, one, two) = ([(1.0, 0.1), (0.0, 0.1), (1.0, 0.1)], [(0.0, 0.2)], [(1.0, 0.5)]);
    let with = |strata: &[Stratum]| mean(strata, Target::Population).expect("a sample");
    let both = with(&[alone(30.0, &large), alone(5.0, &one), alone(5.0, &two)]);
    // Two thin ones: 5/7 of their weight failed.
    assert_eq!(both.collapsed, 2);
    assert!((both.estimate.value - (30.0 / 40.0 * 2.0 / 3.0 + 10.0 / 40.0 * 2.0 / 7.0)).abs() < 1e-12, "{both:?}");
    let empty = with(&[alone(30.0, &large), alone(10.0, &[])]);
    assert_eq!(empty.collapsed, 2, "an empty one takes on the mean of the smallest other one");
    assert!((empty.estimate.value - 2.0 / 3.0).abs() < 1e-12);
    let whole = with(&[alone(30.0, &large), alone(1.0, &[(0.0, 1.0)])]);
    assert_eq!(whole.collapsed, 0, "a stratum that was kept whole is known");
    assert_eq!(with(&[alone(9.0, &one)]).n, 1);
    assert_eq!(with(&[alone(30.0, &large), alone(0.0, &[])]).collapsed, 0, "nothing was missed");
}

#[test]
fn an_interval_is_honest_at_the_edges() {
    let rate = |items: &[(f64, f64)], size| {
        mean(&[alone(size, items)], Target::Population).expect("a sample").rate_interval(Level::P95).expect("a rate")
    };
    let single = rate(&[(1.0, 0.1)], 10.0);
    assert!(single.low < 0.3 && (single.high - 1.0).abs() < f64::EPSILON, "one pass proves little: {single:?}");
    let passes = rate(&[(1.0, 0.5); 20], 40.0);
    assert!(passes.low < 0.95, "twenty passes of forty: {passes:?}");
    assert_eq!(rate(&[(1.0, 1.0); 20], 20.0), Interval { low: 1.0, high: 1.0 }, "all of them were judged");
    let ones = [(1.0, 0.3); 3];
    let parts = [alone(10.1, &ones), alone(20.2, &ones), alone(70.7, &ones), alone(33.3, &ones)];
    assert!(
        mean(&parts, Target::Population).expect("a sample").rate_interval(Level::P95).is_ok(),
        "a mean of ones is 1"
    );
    let users = [1, 2, 3];
    let passing = [Stratum { size: 10.0, items: &ones, clusters: Some(&users) }];
    let none = change(&passing, &passing, Target::Process, Level::P95).expect("two samples");
    assert!(none.interval.low < -0.2 && none.interval.high > 0.2, "three users prove little: {none:?}");
    assert!(mean(&[alone(2.0, &[(5.0, 1.0); 2])], Target::Process).expect("a mean").rate_interval(Level::P95).is_err());
}

#[test]
fn what_cannot_be_is_refused() {
    let items = [(1.0, 0.5), (0.0, 0.5)];
    let refused = |strata: &[Stratum]| mean(strata, Target::Population).is_err();
    assert!(refused(&[]) && refused(&[alone(5.0, &[])]));
    assert!(refused(&[alone(1.0, &items)]), "a stratum smaller than its sample");
    assert!(refused(&[alone(f64::NAN, &items)]) && refused(&[alone(f64::INFINITY, &items)]));
    assert!(refused(&[alone(5.0, &[(f64::NAN, 0.5)])]) && refused(&[alone(5.0, &[(0.5, 0.0)])]));
    let clustered = |clusters| Stratum { size: 5.0, items: &items, clusters: Some(clusters) };
    assert!(refused(&[clustered(&[1])]), "one cluster for two items");
    assert!(refused(&[clustered(&[1, 1])]), "all of one cluster");
    assert!(refused(&[clustered(&[1, 2]), alone(5.0, &items)]), "clusters in part");
}

#[test]
fn weights_that_differ_have_the_interval_of_their_cells() {
    // 20 items at .9 with 6 failures, 8 at .05 with one; the limits by scipy's beta quantiles and the formula in `survey/rate.rs`.
    let failed = |n: usize| f64::from(u8::from(n < 6 || n == 20));
    let items: Vec<(f64, f64)> = (0..28).map(|n| (failed(n), if n < 20 { 0.9 } else { 0.05 })).collect();
    let size = items.iter().map(|(_, pi)| 1.0 / pi).sum();
    for (target, low, high) in [
        (Target::Process, 0.046_520_948_456_595_27, 0.436_251_559_292_271_1),
        (Target::Population, 0.049_123_607_986_468_934, 0.426_754_263_480_626_84),
    ] {
        let own = mean(&[alone(size, &items)], target).expect("a sample").rate_interval(Level::P95).expect("a rate");
        assert!((own.low - low).abs() < 1e-9 && (own.high - high).abs() < 1e-9, "{own:?}");
    }
    // What was kept whole has no doubt, and what was not keeps its own.
    let whole: Vec<(f64, f64)> = items.iter().map(|(y, pi)| (*y, if *pi > 0.5 { 1.0 } else { *pi })).collect();
    let size = whole.iter().map(|(_, pi)| 1.0 / pi).sum();
    let own = mean(&[alone(size, &whole)], Target::Population).expect("a sample").rate_interval(Level::P95);
    let none_failed: Vec<(f64, f64)> = whole.iter().map(|(y, pi)| (if *pi < 0.5 { 0.0 } else { *y }, *pi)).collect();
    let rare = mean(&[alone(size, &none_failed)], Target::Population).expect("a sample");
    let (own, rare) = (own.expect("a rate"), rare.rate_interval(Level::P95).expect("a rate"));
    assert!(own.high > rare.high && rare.high > 0.2, "eight that stand for 160 may have missed failures: {rare:?}");
    assert!(rare.low <= rare_value(&none_failed) && own.low >= 0.0, "{own:?}");
}

fn rare_value(items: &[(f64, f64)]) -> f64 {
    hajek::mean(items).expect("items").value
}

proptest! {
    #[test]
    fn one_stratum_is_hajeks_mean(
        items in prop::collection::vec((0.0..=1.0_f64, 0.01..=1.0_f64), 2..30),
        size in 1.0..9.0_f64,
    ) {
        let own = mean(&[alone(size * items.len() as f64, &items)], Target::Population).expect("items");
        let plain = hajek::mean(&items).expect("items");
        prop_assert!((own.estimate.value - plain.value).abs() < 1e-12);
        prop_assert!((own.estimate.standard_error - plain.standard_error).abs() < 1e-12);
        let interval = own.rate_interval(Level::P95).expect("scores in [0,1]");
        prop_assert!(0.0 <= interval.low && interval.high <= 1.0 && interval.contains(own.estimate.value));
        let each: Vec<u64> = (0..items.len() as u64).collect();
        let clustered = Stratum { size: size * items.len() as f64, items: &items, clusters: Some(&each) };
        let n = items.len() as f64;
        let own = mean(&[clustered], Target::Population).expect("items").estimate.standard_error;
        let drawn = hajek::mean_for(&items, Target::Process).expect("items").standard_error;
        prop_assert!((own - drawn * (n / (n - 1.0)).sqrt()).abs() < 1e-12, "each item its own cluster");
    }
}
