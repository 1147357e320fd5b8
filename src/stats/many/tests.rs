//! Many tests against online-fdr and statsmodels. Its rule: every case of the files, and none is an error.

use super::adjust::{self, Method};
use super::evalues::{display_p, e_bh, e_bh_weighted, log_mean};
use super::online::{Decision, Lond, LordPlusPlus, Saffron};
use crate::stats::invalid::Invalid;
use serde_json::Value;

fn numbers(of: &Value) -> Vec<f64> {
    let list: Vec<f64> = of.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect();
    assert!(!list.is_empty());
    list
}

fn flags(of: &Value) -> Vec<bool> {
    of.as_array().expect("flags").iter().map(|x| x.as_bool().expect("a flag")).collect()
}

/// The number after `key=` in the name of a case.
fn argument(name: &str, key: &str) -> f64 {
    let rest = name.split(&format!("{key}=")).nth(1).expect("an argument");
    rest.split([',', ')']).next().expect("a number").parse().expect("a number")
}

fn check(name: &str, expected: &Value, values: &[f64], mut test: impl FnMut(f64) -> Result<Decision, Invalid>) {
    let (rejects, levels) = (flags(&expected["reject"]), numbers(&expected["level"]));
    assert_eq!((rejects.len(), levels.len()), (values.len(), values.len()));
    for (i, value) in values.iter().enumerate() {
        let own = test(*value).expect("in range");
        assert_eq!(own.rejected, rejects[i], "{name}, test {i}");
        assert!((own.level - levels[i]).abs() <= 1e-9 * levels[i], "{name}, test {i}: {} {}", own.level, levels[i]);
    }
}

#[test]
fn online_fdr_decides_the_same_at_the_same_levels() {
    let file: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/stats/online_fdr.json")).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let (p, e) = (numbers(&case["p"]), numbers(&case["e"]));
        let logs: Vec<f64> = e.iter().map(|e| e.ln()).collect();
        let outs = case["out"].as_object().expect("by procedure");
        assert!(!outs.is_empty());
        for (name, expected) in outs {
            let alpha = argument(name, "alpha");
            match name.split('(').next().expect("a name") {
                "e_bh" => assert_eq!(e_bh(&logs, alpha).expect("in range"), flags(expected), "{name}"),
                "ELond" => {
                    let mut own = Lond::new(alpha).expect("in range");
                    check(name, expected, &e, |e| own.test_e(e));
                }
                "Lond" => {
                    let mut own = Lond::new(alpha).expect("in range");
                    check(name, expected, &p, |p| own.test_p(p));
                }
                "LordPlusPlus" => {
                    let mut own = LordPlusPlus::new(alpha, argument(name, "wealth")).expect("in range");
                    check(name, expected, &p, |p| own.test_p(p));
                }
                "Saffron" => {
                    let (wealth, lambda) = (argument(name, "wealth"), argument(name, "lambda"));
                    let mut own = Saffron::new(alpha, wealth, lambda).expect("in range");
                    check(name, expected, &p, |p| own.test_p(p));
                }
                other => panic!("nobody checks {other}"),
            }
        }
    }
}

#[test]
fn statsmodels_adjusts_the_same() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/fixtures/stats/bh.json")).expect("JSON");
    let (p, alpha) = (numbers(&file["p"]), file["alpha"].as_f64().expect("a number"));
    for (key, method) in [
        ("fdr_bh_reject", Method::BenjaminiHochberg),
        ("fdr_by_reject", Method::BenjaminiYekutieli),
        ("holm_reject", Method::Holm),
    ] {
        assert_eq!(adjust::rejected(&p, method, alpha).expect("in range"), flags(&file[key]), "{key}");
    }
    let own = adjust::adjusted(&p, Method::BenjaminiHochberg).expect("in range");
    for (own, expected) in own.iter().zip(numbers(&file["fdr_bh_adjusted"])) {
        assert!((own - expected).abs() <= 1e-9 * expected);
    }
}

#[test]
fn e_values_at_their_edges() {
    assert_eq!(e_bh(&[], 0.1), Ok(vec![]));
    assert_eq!(e_bh(&[f64::INFINITY, f64::NEG_INFINITY], 0.1), Ok(vec![true, false]));
    // Two tests, q = .1: the bounds are 20 and 10.
    assert_eq!(e_bh(&[10.0_f64.ln(), 10.0_f64.ln()], 0.1), Ok(vec![true, true]));
    assert_eq!(e_bh(&[19.9_f64.ln(), 1.0], 0.1), Ok(vec![false, false]));
    assert_eq!(e_bh_weighted(&[12.0_f64.ln(), 5.0], &[1.8, 0.2], 0.1), Ok(vec![true, true]));
    assert!(e_bh_weighted(&[1.0], &[0.0], 0.1).is_err() && e_bh_weighted(&[1.0], &[], 0.1).is_err());
    assert!(e_bh(&[f64::NAN], 0.1).is_err() && e_bh(&[1.0], 0.0).is_err());
    assert!((display_p(20.0_f64.ln()).expect("a number") - 0.05).abs() < 1e-12);
    assert_eq!(display_p(-3.0), Ok(1.0));
    assert!((log_mean(&[0.0, 3.0_f64.ln()], &[0.5, 0.5]).expect("numbers") - 2.0_f64.ln()).abs() < 1e-12);
    assert!(log_mean(&[], &[]).is_err());
    assert!(Lond::new(0.1).expect("in range").test_e(f64::NAN).is_err());
    assert!(LordPlusPlus::new(0.05, 0.06).is_err() && Saffron::new(0.05, 0.01, 0.0).is_err());
    assert!(adjust::adjusted(&[1.1], Method::Holm).is_err());
    assert_eq!(adjust::adjusted(&[], Method::Holm), Ok(vec![]));
}

/// What e-LOND would ask of a version test: why `docs/statistics.md` says that deployments are families of their own.
#[test]
fn the_evidence_that_e_lond_asks_for_grows_with_every_deployment() {
    let mut asked = Vec::new();
    let mut lond = Lond::new(0.1).expect("a rate");
    for t in 1..=100 {
        let level = lond.test_e(0.0).expect("an e-value").level;
        if [1, 10, 100].contains(&t) {
            asked.push((1.0 / level).round());
        }
    }
    assert_eq!(asked, [187.0, 2565.0, 24048.0], "against 20 where a deployment is a family of its own");
}
