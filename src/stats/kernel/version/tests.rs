//! The version test: order, merging, re-scoring, both verdicts, false alarms. Its rule: seeded.

use super::*;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn passes(items: u32, failures: u32) -> Tally {
    Tally::from(vec![(0, 100, i64::from(failures)), (0, 0, i64::from(items - failures))])
}

#[test]
fn a_worse_version_is_called_worse_and_an_equal_one_not_worse() {
    let question = Question { delta: 0.03, ..Question::default() };
    let worse = compare(&passes(14_000, 1_400), &passes(500, 100), &question).expect("in range");
    assert_eq!(worse.verdict, Verdict::Worse);
    assert!((worse.after.rate - 0.2).abs() < 1e-12 && worse.after.low > 0.1 && worse.after.high < 0.3);
    let equal = compare(&passes(14_000, 1_400), &passes(3_000, 300), &question).expect("in range");
    assert_eq!(equal.verdict, Verdict::NotWorse);
    let early = compare(&passes(14_000, 1_400), &passes(10, 1), &question).expect("in range");
    assert_eq!(early.verdict, Verdict::Undecided);
    let (low, high) = drop_interval(&passes(14_000, 1_400), &passes(500, 100), &question).expect("in range");
    assert!(low > 0.03 && low < 0.1 && high > 0.1 && high < 0.2, "{low} {high}");
}

#[test]
fn nothing_all_failures_and_all_passes_are_answered() {
    for (a, b) in [((0, 0), (0, 0)), ((0, 0), (50, 50)), ((50, 50), (50, 50)), ((50, 0), (50, 0)), ((100, 0), (0, 0))] {
        let found = compare(&passes(a.0, a.1), &passes(b.0, b.1), &Question::default()).expect("in range");
        assert!(found.log_e_worse.is_finite() && found.log_e_not_worse.is_finite(), "{a:?} {b:?} {found:?}");
        assert_ne!(found.verdict, Verdict::Worse, "{a:?} {b:?}");
    }
    assert_eq!(
        compare(&passes(100, 0), &passes(50, 50), &Question::default()).expect("in range").verdict,
        Verdict::Worse
    );
    for question in [
        Question { alpha: 0.0, ..Question::default() },
        Question { delta: f64::NAN, ..Question::default() },
        Question { phi: 0.5, ..Question::default() },
    ] {
        assert!(compare(&passes(1, 0), &passes(1, 0), &question).is_err(), "{question:?}");
    }
}

#[test]
fn on_average_equal_versions_give_evidence_of_at_most_one() {
    let mut rng = StdRng::seed_from_u64(41);
    let mut draw =
        |n: u32, p: f64| passes(n, u32::try_from((0..n).filter(|_| rng.random_bool(p)).count()).expect("small"));
    let runs = 600;
    let mut sum = 0.0;
    for _ in 0..runs {
        sum += log_e(&draw(300, 0.1), &draw(60, 0.1), 0.0, 1.0).expect("in range").exp();
    }
    let mean = sum / f64::from(runs);
    // Expectation at most 1 (it is far below: the minimum over the unknown mean costs); four standard errors are allowed.
    assert!(mean < 1.2 && mean > 0.0, "{mean}");
}

#[test]
fn rare_items_weigh_more_so_a_shift_of_sampling_is_no_drop() {
    // Half the traffic fails at .02, half at .18. Judged equally before; then the bad half five times as often.
    let before = Tally::from(vec![(64, 100, 400), (64, 0, 3_600)]);
    let half = |class: u16, items: i64, failures: i64| vec![(class, 100, failures), (class, 0, items - failures)];
    let mut after = Tally::from(half(213, 1_000, 20));
    after.merge(&Tally::from(half(64, 5_000, 900)));
    let weighted = compare(&before, &after, &Question::default()).expect("in range");
    assert!((weighted.after.rate - 0.1).abs() < 0.002, "{weighted:?}");
    assert_eq!(weighted.verdict, Verdict::Undecided);
    let mut unweighted = Tally::from(half(64, 1_000, 20));
    unweighted.merge(&Tally::from(half(64, 5_000, 900)));
    assert_eq!(compare(&before, &unweighted, &Question::default()).expect("in range").verdict, Verdict::Worse);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_order_of_scores_changes_no_bit_of_the_verdict(
        mut scores in prop::collection::vec((0_u8..=4, prop::sample::select(vec![1.0, 0.5, 0.1])), 1..150),
        seed in any::<u64>(),
    ) {
        let tally = |scores: &[(u8, f64)]| {
            let mut tally = Tally::default();
            for (grade, pi) in scores {
                tally.add(f64::from(*grade) / 4.0, *pi).expect("in range");
            }
            tally
        };
        let (cut, before) = (scores.len() / 3, passes(400, 60));
        let one = compare(&before, &tally(&scores), &Question::default()).expect("in range");
        let mut rng = StdRng::seed_from_u64(seed);
        for i in (1..scores.len()).rev() {
            scores.swap(i, rng.random_range(0..=i));
        }
        let mut merged = tally(&scores[cut..]);
        merged.merge(&tally(&scores[..cut]));
        let other = compare(&before, &merged, &Question::default()).expect("in range");
        prop_assert_eq!(one.log_e_worse.to_bits(), other.log_e_worse.to_bits());
        prop_assert_eq!(one.log_e_not_worse.to_bits(), other.log_e_not_worse.to_bits());
    }
}
