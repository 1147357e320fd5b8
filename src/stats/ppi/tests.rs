//! The tests of `stats::ppi`: two reference packages, coverage, and edges.

use super::*;
use crate::stats::vectors::{Checks, cases, file, number, numbers, whole};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

fn labelled(y: &[f64], f: &[f64], w: &[f64]) -> Vec<Labelled> {
    y.iter().zip(f).zip(w).map(|((y, f), w)| Labelled { label: *y, judged: *f, weight: *w }).collect()
}

fn judged(f: &[f64], w: &[f64]) -> Vec<Judged> {
    f.iter().zip(w).map(|(f, w)| Judged { judged: *f, weight: *w }).collect()
}

#[test]
fn means_as_ppi_python() {
    let mut checks = Checks::default();
    for (n, case) in cases(&file("ppi.json")["cases"]).iter().enumerate() {
        let list = |key: &str| numbers(&case[key]);
        let (y, f, pool) = (list("Y"), list("Yhat"), list("Yhat_unlabeled"));
        let level = Level::new(1.0 - number(&case["alpha"])).expect("a level");
        let plain = (vec![1.0; y.len()], vec![1.0; pool.len()]);
        let weighted = (list("w"), list("w_unlabeled"));
        for (key, lambda, (w, pool_w)) in [
            ("ppi(lam=1)", Lambda::Fixed(1.0), &plain),
            ("ppi++(lam=None)", Lambda::Tuned, &plain),
            ("ppi(lam=0.5)", Lambda::Fixed(0.5), &plain),
            ("ppi++(w,w_unlabeled)", Lambda::Tuned, &weighted),
            ("ppi(lam=1,w,w_unlabeled)", Lambda::Fixed(1.0), &weighted),
        ] {
            let method = Method { lambda, spread: Spread::Population };
            let own = mean(&labelled(&y, &f, w), &judged(&pool, pool_w), method).expect("labels and scores");
            let (ci, expected) = (own.estimate.interval(level), &case["out"][key]);
            checks.close(&format!("case {n} {key}"), own.estimate.value, &expected["point"], 1e-9);
            checks.close(&format!("case {n} {key} low"), ci.low, &expected["ci"][0], 1e-9);
            checks.close(&format!("case {n} {key} high"), ci.high, &expected["ci"][1], 1e-9);
        }
        let alone = Method { lambda: Lambda::Fixed(0.0), spread: Spread::Population };
        let own = mean(&labelled(&y, &f, &plain.0), &judged(&pool, &plain.1), alone).expect("labels and scores");
        let ci = own.estimate.interval(level);
        checks.close(&format!("case {n} classical low"), ci.low, &case["out"]["classical_mean_ci"][0], 1e-9);
        checks.close(&format!("case {n} classical high"), ci.high, &case["out"]["classical_mean_ci"][1], 1e-9);
    }
    checks.done(17);
}

fn check(checks: &mut Checks, case: &str, own: &Corrected, expected: &Value) {
    checks.close(&format!("{case} mean"), own.estimate.value, &expected["mean"], 1e-9);
    checks.close(&format!("{case} std"), own.estimate.standard_error, &expected["std"], 1e-9);
    let ci = own.estimate.interval(Level::P95);
    checks.close(&format!("{case} low"), ci.low, &expected["ci"][0], 1e-9);
    checks.close(&format!("{case} high"), ci.high, &expected["ci"][1], 1e-9);
}

#[test]
fn designs_as_glide() {
    let mut checks = Checks::default();
    for (n, case) in cases(&file("ppi_designs.json")["cases"]).iter().enumerate() {
        let (y, f) = (numbers(&case["y"]), numbers(&case["proxy"]));
        let whole = |key: &str| cases(&case[key]).iter().map(whole).collect::<Vec<_>>();
        let (group, cluster, known) = (whole("group"), whole("cluster"), whole("labelled_uniform"));
        let split = |keep: &dyn Fn(usize) -> bool| {
            let of = |is: usize| (0..y.len()).filter(|i| known[*i] == is && keep(*i)).collect::<Vec<_>>();
            let with = |i: &usize| Labelled { label: y[*i], judged: f[*i], weight: 1.0 };
            let without = |i: &usize| Judged { judged: f[*i], weight: 1.0 };
            (of(1).iter().map(with).collect::<Vec<_>>(), of(0).iter().map(without).collect::<Vec<_>>())
        };
        let unclipped = Method { lambda: Lambda::Unclipped, spread: Spread::Sample };
        let (all, pool) = split(&|_| true);
        let own = mean(&all, &pool, unclipped).expect("labels");
        let case_of = |key: &str| format!("case {n} {key}");
        let key = "PPIMeanEstimator(power_tuning=True)";
        check(&mut checks, &case_of(key), &own, &case["out"][key]);
        let key = "PPIMeanEstimator(power_tuning=False)";
        let own = mean(&all, &pool, Method { lambda: Lambda::Fixed(1.0), spread: Spread::Sample }).expect("labels");
        check(&mut checks, &case_of(key), &own, &case["out"][key]);

        let groups: Vec<_> = (0..=*group.iter().max().expect("groups")).map(|g| split(&|i| group[i] == g)).collect();
        let strata: Vec<Stratum> = groups
            .iter()
            .map(|(labelled, judged)| Stratum { size: (labelled.len() + judged.len()) as f64, labelled, judged })
            .collect();
        // The package tunes each stratum by itself, however few labels it has.
        let own = stratified(&strata, 0, unclipped).expect("labels");
        let key = "StratifiedPPIMeanEstimator(power_tuning=True)";
        check(&mut checks, &case_of(key), &own, &case["out"][key]);

        let in_clusters = whole("labelled_clusters");
        let of = |is: usize| (0..y.len()).filter(|i| in_clusters[*i] == is).collect::<Vec<_>>();
        let id = |i: &usize| cluster[*i] as u64;
        let labelled: Vec<(u64, f64, f64)> = of(1).iter().map(|i| (id(i), y[*i], f[*i])).collect();
        let judged: Vec<(u64, f64)> = of(0).iter().map(|i| (id(i), f[*i])).collect();
        let own = clustered(&labelled, &judged, unclipped).expect("labels");
        let key = "ClusteredPPIMeanEstimator(power_tuning=True)";
        check(&mut checks, &case_of(key), &own, &case["out"][key]);
    }
    checks.done(16);
}

/// Of intervals at 100 labels and 2,000 judged traces: the share that covers, and the mean half-width, of PPI++ and of
/// labels alone.
fn simulated(truth: f64, sensitivity: f64, specificity: f64, runs: u32) -> [(f64, f64); 2] {
    let mut random = StdRng::seed_from_u64(5);
    let mut sums = [(0.0, 0.0); 2];
    for _ in 0..runs {
        let mut trace = || {
            let y = random.random::<f64>() < truth;
            let f = random.random::<f64>() < if y { sensitivity } else { 1.0 - specificity };
            let number = |b: bool| f64::from(u8::from(b));
            Labelled { label: number(y), judged: number(f), weight: 1.0 }
        };
        let known: Vec<Labelled> = (0..100).map(|_| trace()).collect();
        let pool: Vec<Judged> = (0..2000).map(|_| Judged { judged: trace().judged, weight: 1.0 }).collect();
        for (sum, lambda) in sums.iter_mut().zip([Lambda::Tuned, Lambda::Fixed(0.0)]) {
            let own = mean(&known, &pool, Method { lambda, ..Method::default() }).expect("labels");
            let interval = own.rate_interval(Level::P95);
            sum.0 += f64::from(u8::from(interval.contains(truth))) / f64::from(runs);
            sum.1 += interval.half_width() / f64::from(runs);
        }
    }
    sums
}

#[test]
fn at_100_labels_the_interval_covers_and_is_shorter_than_that_of_labels_alone() {
    // Judges that err in 7 of 100, one evenly, one more often in favour.
    for (sensitivity, specificity) in [(0.93, 0.93), (0.96, 0.86)] {
        let [own, alone] = simulated(0.7, sensitivity, specificity, 800);
        assert!(own.0 >= 0.93 && alone.0 >= 0.93, "{own:?} {alone:?}");
        assert!(own.1 <= 0.65 * alone.1, "{own:?} {alone:?}");
    }
}

#[test]
fn it_covers_at_high_pass_rates_where_100_labels_show_few_errors() {
    for (truth, sensitivity, specificity) in [(0.9, 0.95, 0.8), (0.95, 0.97, 0.8), (0.98, 0.98, 0.7)] {
        let [own, _] = simulated(truth, sensitivity, specificity, 800);
        assert!(own.0 >= 0.93, "{truth}: {own:?}");
    }
}

#[test]
fn edges() {
    let known = labelled(&[1.0, 0.0, 1.0], &[1.0, 0.0, 0.0], &[1.0; 3]);
    let pool = judged(&[1.0, 0.0, 1.0, 1.0], &[1.0; 4]);
    let with = |known: &[Labelled], pool: &[Judged]| mean(known, pool, Method::default());
    assert!(with(&[], &pool).is_err() && with(&known[..1], &pool).is_err() && with(&known, &pool[..1]).is_err());
    for wrong in [f64::NAN, f64::INFINITY] {
        assert!(with(&[known[0], Labelled { label: wrong, ..known[1] }], &pool).is_err());
        assert!(with(&[known[0], Labelled { judged: wrong, ..known[1] }], &pool).is_err());
        assert!(with(&known, &[pool[0], Judged { judged: wrong, weight: 1.0 }]).is_err());
        assert!(with(&known, &[pool[0], Judged { judged: 1.0, weight: wrong }]).is_err());
    }
    assert!(with(&[known[0], Labelled { weight: 0.0, ..known[1] }], &pool).is_err());
    // A judge that says the same of everything is no help, and no harm.
    let silent =
        with(&labelled(&[1.0, 0.0, 1.0], &[1.0; 3], &[1.0; 3]), &judged(&[1.0; 4], &[1.0; 4])).expect("labels");
    assert!((silent.estimate.value - 2.0 / 3.0).abs() < 1e-12 && silent.lambda.abs() < f64::EPSILON, "{silent:?}");
    assert!(!silent.is_ready());
    let both = clustered(&[(1, 1.0, 1.0), (2, 0.0, 0.0)], &[(1, 1.0), (3, 0.0)], Method::default());
    assert!(both.is_err(), "session 1 is labelled in part");
    assert!(stratified(&[], 20, Method::default()).is_err());
    let sized = |size| stratified(&[Stratum { size, labelled: &known, judged: &pool }], 20, Method::default());
    assert!(sized(0.0).is_err() && sized(f64::NAN).is_err());
    assert_eq!(sized(3.0).map(|c| c.estimate), with(&known, &pool).map(|c| c.estimate), "one stratum is all");
}

proptest! {
    #[test]
    fn weights_of_another_scale_change_nothing(
        items in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64, 0.1..9.0_f64), 4..40), scale in 0.01..100.0_f64,
    ) {
        let (known, pool) = items.split_at(items.len() / 2);
        let with = |scale: f64| {
            let known: Vec<Labelled> =
                known.iter().map(|(y, f, w)| Labelled { label: *y, judged: *f, weight: w * scale }).collect();
            let pool: Vec<Judged> = pool.iter().map(|(_, f, w)| Judged { judged: *f, weight: w * scale }).collect();
            mean(&known, &pool, Method::default()).expect("labels")
        };
        let (one, other) = (with(1.0), with(scale));
        prop_assert!((one.estimate.value - other.estimate.value).abs() < 1e-9);
        prop_assert!((one.estimate.standard_error - other.estimate.standard_error).abs() < 1e-9);
        prop_assert!((0.0..=1.0).contains(&one.lambda));
        prop_assert!(one.label_variance <= one.estimate.standard_error.powi(2) + 1e-12);
    }
}
