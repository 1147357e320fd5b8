//! The kernel against vectors that were computed item by item in 60 digits. Its rule: every case, and none is an error.

use super::scan::Scan;
use super::*;
use serde_json::Value;

fn file() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/stats/kernel.json")).expect("the fixture is JSON")
}

fn cases(of: &Value, key: &str) -> Vec<Value> {
    let cases = of[key].as_array().expect("a list of cases").clone();
    assert!(!cases.is_empty(), "{key} is empty");
    cases
}

fn number(of: &Value) -> f64 {
    of.as_f64().expect("a number")
}

fn numbers(of: &Value) -> Vec<f64> {
    let list: Vec<f64> = of.as_array().expect("numbers").iter().map(number).collect();
    assert!(!list.is_empty());
    list
}

fn bets(case: &Value) -> Bets {
    let [lambda_a, share_a, lambda_b, share_b] = ["lamA", "wA", "lamB", "wB"].map(|key| numbers(&case[key]));
    Bets { lambda_a, share_a, lambda_b, share_b }
}

fn close(own: f64, reference: f64, tolerance: f64, what: &str) {
    assert!((own - reference).abs() <= tolerance * reference.abs().max(1.0), "{what}: {own} is not {reference}");
}

fn same(own: &[f64], reference: &[f64]) {
    assert_eq!(own.len(), reference.len());
    own.iter().zip(reference).for_each(|(a, b)| close(*a, *b, 1e-12, "a parameter"));
}

#[test]
fn version_tests_of_passes_and_failures_match() {
    for case in cases(&file(), "version_binary") {
        let [n_a, f_a, n_b, f_b, delta] = ["nA", "fA", "nB", "fB", "delta"].map(|key| number(&case[key]));
        let bets = bets(&case);
        let own = Bets::binary(n_a, f_a).expect("counts");
        same(&own.lambda_a, &bets.lambda_a);
        same(&own.share_b, &bets.share_b);
        same(&own.lambda_b, &bets.lambda_b);
        let (a, b) = (Mass::binary(n_a, f_a), Mass::binary(n_b, f_b));
        let kernel = Kernel::new(numbers(&case["edges"]), delta, bets).expect("a kernel");
        close(kernel.log_e(&a, &b).expect("counts"), number(&case["log_e"]), 1e-8, "log e");
        let grid = usize::try_from(case["G"].as_u64().expect("a number")).expect("small");
        same(&cells(n_a, f_a, grid, number(&case["z"])).expect("counts"), &numbers(&case["edges"]));
        let full = Kernel::new(cells(n_a, f_a, CELLS, CELLS_WIDTH).expect("counts"), delta, own).expect("a kernel");
        close(full.log_e(&a, &b).expect("counts"), number(&case["log_e_default_G64"]), 1e-8, "log e, 64 cells");
    }
}

#[test]
fn version_tests_of_weighted_grades_match() {
    let masses = |losses: &Value, weights: &Value| -> Vec<Mass> {
        let of = |(loss, weight)| Mass { loss, weight, count: 1.0 };
        numbers(losses).into_iter().zip(numbers(weights)).map(of).collect()
    };
    for case in cases(&file(), "version_graded_weighted") {
        let kernel = Kernel::new(numbers(&case["edges"]), number(&case["delta"]), bets(&case)).expect("a kernel");
        let (a, b) = (masses(&case["lossA"], &case["weightA"]), masses(&case["lossB"], &case["weightB"]));
        close(kernel.log_e(&a, &b).expect("items"), number(&case["log_e"]), 1e-8, "log e");
    }
}

#[test]
fn scans_match_in_every_bin_and_after_a_restart_in_each() {
    for case in cases(&file(), "change_scan_binary") {
        let kernel = Kernel::new(numbers(&case["edges"]), number(&case["delta"]), bets(&case)).expect("a kernel");
        let history = Mass::binary(number(&case["n0"]), number(&case["f0"]));
        let mut scan = Scan::new(kernel, &history).expect("counts");
        let (items, failures) = (numbers(&case["n"]), numbers(&case["f"]));
        let (priors, expected) = (numbers(&case["bin_weights"]), numbers(&case["log_M"]));
        assert_eq!(items.len(), expected.len());
        for t in 0..items.len() {
            let bin = Mass::binary(items[t], failures[t]);
            let text = serde_json::to_string(&scan).expect("plain");
            let mut restarted: Scan = serde_json::from_str(&text).expect("its own text");
            close(scan.close(&bin, priors[t].ln()).expect("counts"), expected[t], 1e-8, "log M");
            restarted.close(&bin, priors[t].ln()).expect("counts");
            assert_eq!(restarted, scan);
        }
    }
}

#[test]
fn the_start_of_a_change_is_the_bin_of_the_largest_term() {
    let history = Mass::binary(500.0, 50.0);
    let kernel = || {
        let edges = cells(500.0, 50.0, CELLS, CELLS_WIDTH).expect("counts");
        Kernel::new(edges, 0.0, Bets::binary(500.0, 50.0).expect("counts")).expect("a kernel")
    };
    let mut scan = Scan::new(kernel(), &history).expect("counts");
    let bins: Vec<Vec<Mass>> = (0..30).map(|t| Mass::binary(20.0, if t < 17 { 2.0 } else { 8.0 }).to_vec()).collect();
    let priors = vec![(1.0_f64 / 30.0).ln(); 30];
    assert_eq!(scan.start(&history, &[], &[]), None);
    for bin in &bins {
        scan.close(bin, priors[0]).expect("counts");
    }
    assert!(scan.log_e() > 10.0, "{}", scan.log_e());
    assert_eq!(scan.start(&history, &bins, &priors), Some(17));
    // No change begins in a bin that has no prior.
    let mut silent = Scan::new(kernel(), &history).expect("counts");
    for bin in &bins {
        silent.close(bin, f64::NEG_INFINITY).expect("counts");
    }
    assert!(silent.log_e() < -1e299);
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    assert!(Bets::binary(f64::NAN, 0.0).is_err());
    assert!(Bets::binary(10.0, 11.0).is_err());
    assert!(cells(-1.0, 0.0, 64, 6.5).is_err());
    assert!(cells(10.0, 1.0, 0, 6.5).is_err());
    let bets = || Bets::binary(0.0, 0.0).expect("nothing is a baseline too");
    assert!(Kernel::new(vec![0.5], 0.0, bets()).is_err());
    assert!(Kernel::new(vec![0.5, 0.4], 0.0, bets()).is_err());
    assert!(Kernel::new(vec![0.0, f64::NAN], 0.0, bets()).is_err());
    assert!(Kernel::new(vec![0.0, 1.0], 2.0, bets()).is_err());
    let kernel = Kernel::new(cells(0.0, 0.0, 64, 6.5).expect("nothing"), 0.0, bets()).expect("a kernel");
    assert!(kernel.log_e(&[], &[]).expect("nothing is no evidence") <= 0.0);
    for (loss, weight, count) in [(f64::NAN, 1.0, 1.0), (0.5, 0.0, 1.0), (0.5, 1.0, -1.0), (0.5, 1.0, f64::INFINITY)] {
        let items = [Mass { loss, weight, count }];
        assert!(kernel.log_e(&items, &[]).is_err() && kernel.log_e(&[], &items).is_err());
        let mut scan = Scan::new(kernel.clone(), &[]).expect("nothing");
        assert!(scan.close(&items, 0.0).is_err());
    }
}

#[test]
fn cells_of_a_scan_cover_everything_and_lose_less_where_it_counts() {
    let edges = scan_cells(1_400.0, 140.0).expect("counts");
    assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
    assert_eq!((edges[0], edges[edges.len() - 1]), (0.0, 1.0));
    let evidence = |edges: Vec<f64>| {
        let bets = Bets::binary(1_400.0, 140.0).expect("counts");
        let kernel = Kernel::new(edges, 0.0, bets).expect("a kernel");
        kernel.log_e(&Mass::binary(1_400.0, 140.0), &Mass::binary(1_200.0, 180.0)).expect("in range")
    };
    let (scan, test) = (evidence(edges), evidence(cells(1_400.0, 140.0, CELLS, CELLS_WIDTH).expect("counts")));
    let finest = evidence(cells(1_400.0, 140.0, 4_096, CELLS_WIDTH).expect("counts"));
    assert!(test < scan && scan <= finest, "{test} {scan} {finest}");
    assert!(scan_cells(0.0, 0.0).is_ok() && scan_cells(10.0, 10.0).is_ok() && scan_cells(1.0, 2.0).is_err());
}
