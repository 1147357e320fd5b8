//! Confidence sequences, boundaries and detectors against confseq and stcpR6. Its rule: every case, by its name in the file.

use super::capital::{Side, capital, diversified_sequence, hedged, hedged_sequence};
use super::detectors::{Detector, Increment, Over};
use super::mixtures::{Mixture, bernstein_lower_sequence, hoeffding_sequence, stitched_bound};
use super::predictable::{bernstein_lower, bets, hoeffding_lower, two_sided};
use serde_json::Value;

fn numbers(of: &Value) -> Vec<f64> {
    let number = |x: &Value| match x.as_str() {
        Some("inf") => f64::INFINITY,
        Some(_) => f64::NEG_INFINITY,
        None => x.as_f64().expect("a number"),
    };
    let list: Vec<f64> = of.as_array().expect("numbers").iter().map(number).collect();
    assert!(!list.is_empty());
    list
}

/// The number after `key=` in the name of a case.
fn argument(name: &str, key: &str) -> f64 {
    let rest = name.split(&format!("{key}=")).nth(1).expect("an argument");
    rest.split([',', ')']).next().expect("a number").parse().expect("a number")
}

fn close(own: f64, reference: f64, tolerance: f64, what: &str) {
    let same = own.total_cmp(&reference).is_eq() || (own - reference).abs() <= tolerance * reference.abs().max(1e-3);
    assert!(same, "{what}: {own} is not {reference}");
}

fn check_ends(name: &str, own: &[(f64, f64)], expected: &Value, at: &[usize], absolute: Option<f64>) {
    let (low, high) = (numbers(&expected["l"]), numbers(&expected["u"]));
    assert_eq!((low.len(), high.len()), (at.len(), at.len()));
    for (i, at) in at.iter().enumerate() {
        for (own, reference) in [(own[*at].0, low[i]), (own[*at].1, high[i])] {
            match absolute {
                Some(tolerance) => assert!((own - reference).abs() <= tolerance, "{name} at {at}: {own} {reference}"),
                None => close(own, reference, 1e-9, name),
            }
        }
    }
}

fn check_numbers(name: &str, own: &[f64], expected: &Value, at: &[usize]) {
    let expected = numbers(expected);
    assert_eq!(expected.len(), at.len());
    expected.into_iter().zip(at).for_each(|(reference, at)| close(own[*at], reference, 1e-9, name));
}

fn check_case(name: &str, x: &[f64], expected: &Value, at: &[usize]) {
    let alpha = argument(name, "alpha");
    match name.split('(').next().expect("a name") {
        "predmix_empbern_twosided_cs" => {
            check_ends(name, &two_sided(x, alpha, bernstein_lower).expect("in range"), expected, at, None);
        }
        "predmix_hoeffding_cs" => {
            check_ends(name, &two_sided(x, alpha, hoeffding_lower).expect("in range"), expected, at, None);
        }
        "predmix_empbern_lower_cs" => {
            check_numbers(name, &bernstein_lower(x, alpha).expect("in range"), &expected["l"], at);
        }
        "conjmix_hoeffding_twosided_cs" => {
            let own = hoeffding_sequence(x, argument(name, "t_opt"), alpha).expect("in range");
            check_ends(name, &own, expected, at, None);
        }
        "conjmix_empbern_lower_cs" => {
            let own = bernstein_lower_sequence(x, argument(name, "v_opt"), alpha / 2.0).expect("in range");
            check_numbers(name, &own, &expected["l"], at);
        }
        "hedged_cs" => check_ends(name, &hedged_sequence(x, alpha, 1000).expect("in range"), expected, at, Some(1e-3)),
        "dKelly_cs" => {
            check_ends(name, &diversified_sequence(x, 10, alpha, 1000).expect("in range"), expected, at, Some(1e-3));
        }
        "lambda_predmix_eb" => check_numbers(name, &bets(x, alpha).expect("in range"), &expected["lambda"], at),
        "betting_mart" => {
            let m = argument(name, "m");
            let own = if name.contains("lambda=") {
                let constant = vec![argument(name, "lambda"); x.len()];
                capital(x, m, &constant, 0.5, Side::Above)
            } else {
                // The package gives each of the two sides half of alpha.
                let bets = bets(x, alpha / 2.0).expect("in range");
                hedged(x, m, &bets, &bets, argument(name, "trunc_scale"))
            };
            check_numbers(name, &own.expect("in range"), &expected["mart"], at);
        }
        other => panic!("nobody checks {other}"),
    }
}

fn confseq() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/stats/confseq.json")).expect("the fixture is JSON")
}

#[test]
fn confseqs_sequences_are_the_same() {
    let file = confseq();
    let at = numbers(&file["at_index_0based"]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "indexes of the file")]
    let at: Vec<usize> = at.into_iter().map(|i| i as usize).collect();
    let streams = file["streams"].as_array().expect("streams");
    assert!(!streams.is_empty());
    for stream in streams {
        let x = numbers(&stream["x"]);
        let cases = stream["out"].as_object().expect("by call");
        assert!(!cases.is_empty());
        for (name, expected) in cases {
            check_case(name, &x, expected, &at);
        }
    }
}

#[test]
fn confseqs_boundaries_are_the_same() {
    let file = confseq();
    let cases = file["boundaries"].as_object().expect("by call");
    let times = numbers(&cases["v"]);
    assert!(cases.len() > 1);
    for (name, expected) in cases.iter().filter(|(name, _)| *name != "v") {
        let arg = |key| argument(name, key);
        let mixture = || match name.split('(').next().expect("a name") {
            "gamma_exponential_mixture_bound" => Mixture::gamma_exponential(arg("v_opt"), arg("alpha_opt"), arg("c")),
            _ if name.contains("is_one_sided=True") => Mixture::normal_one_sided(arg("v_opt"), arg("alpha_opt")),
            _ => Mixture::normal_two_sided(arg("v_opt"), arg("alpha_opt")),
        };
        for (v, reference) in times.iter().zip(numbers(expected)) {
            let own = if name.starts_with("poly_stitching") {
                stitched_bound(*v, arg("alpha"), arg("v_min"), arg("c"), (argument(name, ",s"), arg("eta")))
            } else if name.starts_with("normal_log_mixture") {
                mixture().expect("in range").log_e(2.0 * v.sqrt(), *v)
            } else {
                mixture().expect("in range").bound(*v, arg("alpha"))
            };
            close(own.expect("in range"), reference, 1e-9, name);
        }
    }
}

#[test]
fn stcps_detectors_are_the_same() {
    let file: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/stats/e_detector.json")).expect("JSON");
    let (x, shares, p) = (numbers(&file["x"]), numbers(&file["weights"]), file["p0"].as_f64().expect("a rate"));
    let values: Vec<&String> =
        file.as_object().expect("by name").keys().filter(|key| key.starts_with("log_")).collect();
    assert!(values.len() >= 4, "{values:?}");
    for name in values {
        let parts: Vec<&str> = name.split('_').collect();
        let over = match parts[1] {
            "SR" => Over::Sum,
            "CU" => Over::Best,
            "ST" => Over::First,
            other => panic!("nobody checks {other}"),
        };
        let (increment, bets) = match parts[2] {
            "Ber" => (Increment::Bernoulli(p), numbers(&file["lambda"])),
            "Bounded" => (Increment::Bounded(p), numbers(&file["lambda_bounded"])),
            other => panic!("nobody checks {other}"),
        };
        let mut own = Detector::new(over, increment, &bets, &shares).expect("in range");
        let expected = numbers(&file[name]);
        assert_eq!(expected.len(), x.len());
        for (x, reference) in x.iter().zip(expected) {
            close(own.update(*x).expect("in range"), reference, 1e-9, name);
        }
    }
}

#[test]
fn edges_are_answered_and_nonsense_is_refused() {
    assert_eq!(bernstein_lower(&[], 0.05), Ok(vec![]));
    assert_eq!(hedged_sequence(&[], 0.05, 10), Ok(vec![]));
    assert_eq!(diversified_sequence(&[0.0; 200], 10, 0.05, 100).expect("in range")[199].0.to_bits(), 0.0_f64.to_bits());
    assert!(hedged_sequence(&[1.0; 200], 0.05, 100).expect("in range")[199].0 > 0.9);
    for bad in [f64::NAN, -0.1, 1.1] {
        assert!(bernstein_lower(&[bad], 0.05).is_err() && hoeffding_lower(&[bad], 0.05).is_err());
        assert!(hoeffding_sequence(&[bad], 10.0, 0.05).is_err() && hedged_sequence(&[bad], 0.05, 10).is_err());
        assert!(capital(&[0.5], bad, &[0.1], 0.5, Side::Above).is_err());
    }
    assert!(hoeffding_sequence(&[0.5], 0.0, 0.05).is_err() && bernstein_lower_sequence(&[0.5], 1.0, 0.0).is_err());
    assert!(stitched_bound(1.0, 0.05, 0.0, 0.0, (1.4, 2.0)).is_err());
    assert!(Mixture::normal_one_sided(1.0, 0.05).expect("in range").bound(f64::NAN, 0.05).is_err());
    assert!(Detector::new(Over::Sum, Increment::Bounded(0.0), &[0.1], &[1.0]).is_err());
    assert!(Detector::new(Over::Sum, Increment::Bernoulli(0.1), &[0.1], &[]).is_err());
}
