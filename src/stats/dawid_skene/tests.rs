//! The tests of `stats::dawid_skene`: crowd-kit's results, the house rules, and edges.

use super::*;
use crate::stats::vectors::{Checks, cases, file, present, whole};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

/// Tolerance of the vectors.
const CLOSE: f64 = 5e-5;

struct Case {
    judges: Vec<String>,
    items: Vec<Vec<Option<usize>>>,
    categories: usize,
}

fn read(case: &Value) -> Case {
    let votes: Vec<(&str, &str, usize)> = cases(&case["votes"])
        .iter()
        .map(|v| (v[0].as_str().expect("a task"), v[1].as_str().expect("a judge"), whole(&v[2])))
        .collect();
    // In the order of their names, as in the file.
    let index = |names: Vec<&str>| -> BTreeMap<String, usize> {
        let sorted: std::collections::BTreeSet<&str> = names.into_iter().collect();
        sorted.into_iter().enumerate().map(|(n, name)| (name.to_owned(), n)).collect()
    };
    let tasks = index(votes.iter().map(|v| v.0).collect());
    let judges = index(votes.iter().map(|v| v.1).collect());
    let mut items = vec![vec![None; judges.len()]; tasks.len()];
    for (task, judge, label) in votes {
        items[tasks[task]][judges[judge]] = Some(label);
    }
    Case { judges: judges.into_keys().collect(), items, categories: whole(&case["K"]) }
}

fn check(file: &Value, checks: &mut Checks) {
    for (n, vector) in cases(&file["cases"]).iter().enumerate() {
        let Case { judges, items, categories } = read(vector);
        let with = |errors| fit(&items, categories, Method { errors, ..Method::default() }).expect("there are votes");
        let mut table = |what: &str, own: &[Vec<f64>], expected: &Value| {
            assert_eq!(own.len(), cases(expected).len(), "case {n} {what}");
            for (i, (own, row)) in own.iter().zip(cases(expected)).enumerate() {
                for (c, own) in own.iter().enumerate() {
                    checks.close(&format!("case {n} {what} {i}/{c}"), *own, &row[c], CLOSE);
                }
            }
        };
        let out = &vector["out"];
        let shares: Vec<Vec<f64>> = items.iter().map(|row| vote_shares(row, categories)).collect();
        table("majority", &shares, &out["MajorityVote.probas"]);
        let (full, expected) = (with(Errors::Confusion), &out["DawidSkene(n_iter=500,tol=-1)"]);
        table("probability", &full.probabilities, &expected["probas"]);
        table("prior", std::slice::from_ref(&full.prior), &Value::from(vec![expected["priors"].clone()]));
        for (judge, own) in judges.iter().zip(&full.judges) {
            table(judge, own, &expected["errors"][judge]);
        }
        let (coin, expected) = (with(Errors::OneCoin), &out["OneCoinDawidSkene(n_iter=500,tol=-1)"]);
        table("one coin", &coin.probabilities, &expected["probas"]);
        for (judge, own) in judges.iter().zip(&coin.skills) {
            checks.close(&format!("case {n} skill of {judge}"), *own, &expected["skills"][judge], CLOSE);
        }
    }
}

#[test]
fn crowd_kits_posterior_prior_and_errors() {
    let mut checks = Checks::default();
    check(&file("dawid_skene.json"), &mut checks);
    checks.done(400);
}

/// Votes that may not be copied into this repository; checked where they are at hand.
#[test]
fn real_votes_where_they_are_at_hand() {
    let Some(real) = present("dawid_skene_llmbar.json") else {
        println!("skipped: no dawid_skene_llmbar.json in ASSIZE_DATA/stats");
        return;
    };
    let mut checks = Checks::default();
    check(&real, &mut checks);
    checks.done(400);
}

/// A panel of judges that are right as often as said, each wrong on items of its own.
fn panel(items: usize, right: &[usize]) -> Vec<Vec<Option<usize>>> {
    let vote = |i: usize, j: usize| {
        let truth = i % 2;
        Some(if (i / 2 * 7 + j * 31) % 100 < right[j] { truth } else { 1 - truth })
    };
    (0..items).map(|i| (0..right.len()).map(|j| vote(i, j)).collect()).collect()
}

#[test]
fn the_house_rules() {
    let three = unlabelled(&panel(200, &[90, 80, 85]), 2);
    assert_eq!(three, Err(Refusal::TooFew { what: "judges who voted", have: 3, need: 4 }));
    let mut silent = panel(200, &[90, 80, 85, 90]);
    for row in &mut silent {
        row[3] = None;
    }
    assert!(unlabelled(&silent, 2).is_err(), "one of the four never voted");
    let good = unlabelled(&panel(200, &[90, 85, 85, 90]), 2).expect("four judges");
    assert_eq!((good.errors, good.is_doubtful), (Errors::Confusion, false), "{:?}", good.kappa);
    let right = good.fitted.probabilities.iter().enumerate().filter(|(i, q)| q[i % 2] > 0.5).count();
    assert!(right > 190, "{right} of 200");
    let few = unlabelled(&panel(40, &[90, 85, 85, 90]), 2).expect("four judges");
    assert_eq!(few.errors, Errors::OneCoin);
    let poor = unlabelled(&panel(200, &[60, 55, 60, 58]), 2).expect("four judges");
    assert!(poor.is_doubtful, "{:?}", poor.kappa);
}

#[test]
fn edges() {
    let fit = |items: &[Vec<Option<usize>>], k| fit(items, k, Method::default());
    assert!(fit(&[], 2).is_err() && fit(&[vec![None, None]], 2).is_err(), "no votes");
    assert!(fit(&[vec![Some(2)]], 2).is_err() && fit(&[vec![Some(0)]], 1).is_err(), "no such category");
    assert!(fit(&[vec![Some(0)], vec![Some(0), Some(1)]], 2).is_err(), "rows differ");
    let one = fit(&[vec![Some(1)]], 2).expect("a vote");
    assert!(one.probabilities[0][1] > 0.999 && one.prior.iter().all(|p| p.is_finite()), "{one:?}");
    // All the same, one item without votes, and a judge that never votes.
    let same = fit(&[vec![Some(0), Some(0), None], vec![Some(0), None, None], vec![None; 3]], 2).expect("votes");
    assert!(same.probabilities.iter().flatten().chain(&same.skills).all(|p| p.is_finite()), "{same:?}");
    assert!((same.probabilities[2][0] - same.prior[0]).abs() < 1e-6, "without votes the prior is all there is");
    let wrong = Method { smoothing: f64::NAN, ..Method::default() };
    assert!(super::fit(&[vec![Some(0)]], 2, wrong).is_err());
}

#[test]
fn smoothing_keeps_judges_from_being_infallible() {
    let items: Vec<Vec<Option<usize>>> = (0..10).map(|i| vec![Some(i % 2); 4]).collect();
    let plain = fit(&items, 2, Method::default()).expect("votes");
    let smooth = fit(&items, 2, Method { smoothing: 1.0, ..Method::default() }).expect("votes");
    assert!(plain.judges[0][1][0] < 1e-9);
    assert!((smooth.judges[0][1][0] - 1.0 / 7.0).abs() < 1e-3, "{:?}", smooth.judges[0]);
}

proptest! {
    #[test]
    fn probabilities_are_probabilities(
        items in prop::collection::vec(prop::collection::vec(prop::option::of(0..3_usize), 4), 1..30),
        smoothing in 0.0..2.0_f64,
    ) {
        prop_assume!(items.iter().flatten().any(Option::is_some));
        for errors in [Errors::Confusion, Errors::OneCoin] {
            let method = Method { errors, smoothing, steps_max: 50, ..Method::default() };
            let fitted = fit(&items, 3, method).expect("there are votes");
            for q in fitted.probabilities.iter().chain([&fitted.prior]) {
                prop_assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-9 && q.iter().all(|p| (0.0..=1.0).contains(p)));
            }
        }
    }
}
