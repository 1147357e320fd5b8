//! A stream's life: learning, quiet, alarm, acknowledged, the next epoch; restarts, late scores, moved sampling. Seeded.

use super::*;
use crate::stats::kernel::version::Verdict;
use chrono::Duration;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 / HOUR_SECONDS * HOUR_SECONDS, 0).expect("a date")
}

fn day(days: i64) -> DateTime<Utc> {
    start() + Duration::days(days)
}

fn rules() -> Rules {
    Rules { alpha_scan: 0.005, ..Rules::default() }
}

/// `per_hour` scores in each hour of the days `from` to `to`, which fail with probability `rate`.
fn feed(stream: &mut Stream, rng: &mut StdRng, days: std::ops::Range<i64>, per_hour: i64, rate: f64) {
    for hour in days.start * 24..days.end * 24 {
        for i in 0..per_hour {
            let at = start() + Duration::seconds(hour * HOUR_SECONDS + i * 50);
            stream.add(&Score::new(at, f64::from(u8::from(rng.random_bool(rate))))).expect("in range");
        }
    }
}

#[test]
fn it_learns_for_a_week_and_a_hundred_scores() {
    let mut stream = Stream::default();
    let learning = |scores_missing, days_missing| Finding::Learning { scores_missing, days_missing };
    assert_eq!(stream.close(start(), &rules()), Ok(learning(100, 7.0)));
    feed(&mut stream, &mut StdRng::seed_from_u64(1), 0..2, 1, 0.1);
    assert_eq!(stream.close(day(2), &rules()), Ok(learning(52, 5.0)));
    feed(&mut stream, &mut StdRng::seed_from_u64(2), 2..8, 1, 0.1);
    let Ok(Finding::Quiet { detectable_drop: Some(drop), phi, .. }) = stream.close(day(8), &rules()) else {
        panic!("a week and 168 scores are enough: {stream:?}")
    };
    assert!(drop > 0.1 && drop < 0.9 && (1.0..2.0).contains(&phi), "{drop} {phi}");
}

#[test]
fn a_drop_is_told_until_it_is_acknowledged_and_then_learnt() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut stream = Stream::default();
    feed(&mut stream, &mut rng, 0..10, 40, 0.1);
    assert!(matches!(stream.close(day(10), &rules()), Ok(Finding::Quiet { .. })));
    feed(&mut stream, &mut rng, 10..12, 40, 0.2);
    let Ok(Finding::Alarm(first)) = stream.close(day(12), &rules()) else { panic!("a drop of 10 points") };
    assert!((first.since - day(10)).abs() <= Duration::hours(12), "{}", first.since);
    assert!(first.raised_at > first.since && first.raised_at <= day(12));
    assert!(first.log_e >= (1.0_f64 / 0.005).ln() && (first.before.rate - 0.1).abs() < 0.01, "{first:?}");
    assert!(first.before.high < first.after.rate && first.before.rate < first.after.low, "{first:?}");
    feed(&mut stream, &mut rng, 12..13, 40, 0.2);
    let Ok(Finding::Alarm(later)) = stream.close(day(13), &rules()) else { panic!("nobody has acknowledged it") };
    assert_eq!((later.since, later.raised_at, later.before), (first.since, first.raised_at, first.before));
    assert!(later.after.n > first.after.n);
    stream.acknowledge();
    assert!(matches!(stream.close(day(13), &rules()), Ok(Finding::Learning { scores_missing: 0, .. })));
    feed(&mut stream, &mut rng, 13..25, 40, 0.2);
    assert!(matches!(stream.close(day(25), &rules()), Ok(Finding::Quiet { .. })), "the new normal");
}

#[test]
fn a_second_epoch_follows_and_finds_what_the_first_would_have() {
    let mut rng = StdRng::seed_from_u64(4);
    let mut stream = Stream::default();
    feed(&mut stream, &mut rng, 0..45, 10, 0.1);
    assert!(matches!(stream.close(day(45), &rules()), Ok(Finding::Quiet { .. })));
    assert!(stream.retiring.is_some() && stream.epoch.as_ref().is_some_and(|epoch| epoch.start > 0));
    feed(&mut stream, &mut rng, 45..50, 10, 0.3);
    assert!(matches!(stream.close(day(50), &rules()), Ok(Finding::Alarm(_))));
    let hours = serde_json::to_value(&stream.hours).expect("plain").as_object().expect("by hour").len();
    assert!(hours <= 2 * 30 * 24, "{hours}");
}

#[test]
fn a_long_silence_means_learning_anew_and_two_closings_are_one() {
    let mut stream = Stream::default();
    feed(&mut stream, &mut StdRng::seed_from_u64(5), 0..9, 5, 0.1);
    stream.close(day(9), &rules()).expect("in range");
    let once = stream.clone();
    stream.close(day(9), &rules()).expect("in range");
    assert_eq!(stream, once);
    assert!(matches!(stream.close(day(100), &rules()), Ok(Finding::Learning { scores_missing: 100, .. })));
}

#[test]
fn backfills_enter_version_tests_only() {
    let mut stream = Stream::default();
    feed(&mut stream, &mut StdRng::seed_from_u64(6), 0..9, 20, 0.1);
    stream.close(day(9), &rules()).expect("in range");
    let quiet = stream.clone();
    for i in 0..500 {
        let at = day(9) + Duration::seconds(i);
        let score = Score { occurred_at: day(3), version: "old", ..Score::new(at, 1.0) };
        stream.add(&score).expect("in range");
    }
    assert_eq!(stream.hours, quiet.hours);
    assert_ne!(stream.versions, quiet.versions);
    let nan = Score::new(day(9), f64::NAN);
    let before = stream.clone();
    assert!(stream.add(&nan).is_err() && stream == before);
    assert!(stream.close(day(10), &Rules { alpha_scan: 0.0, ..rules() }).is_err() && stream == before);
}

#[test]
fn a_new_version_is_compared_with_those_before_and_a_corrected_score_counts_once() {
    let mut stream = Stream::default();
    let mut rng = StdRng::seed_from_u64(7);
    let mut add = |stream: &mut Stream, version, from: i64, n: i64, rate| {
        let mut last = None;
        for i in 0..n {
            let at = day(from) + Duration::seconds(i * 120);
            let score = Score { version, ..Score::new(at, f64::from(u8::from(rng.random_bool(rate)))) };
            stream.add(&score).expect("in range");
            last = Some(score);
        }
        last.expect("there were some")
    };
    add(&mut stream, "v1", 0, 4_000, 0.1);
    add(&mut stream, "v2", 6, 3_000, 0.1);
    let last = add(&mut stream, "v3", 9, 400, 0.3);
    let found = stream.versions(&Rules { delta: 0.04, ..rules() }).expect("in range");
    let by_name: Vec<_> = found.iter().map(|f| (f.version.as_str(), f.against.len(), f.comparison.verdict)).collect();
    assert_eq!(by_name, [("v2", 1, Verdict::NotWorse), ("v3", 2, Verdict::Worse)]);
    assert_eq!(found[1].comparison.after.n.to_bits(), 400.0_f64.to_bits());
    let new = Score { loss: 1.0 - last.loss, ..last };
    stream.rescore(&last, &new).expect("in range");
    stream.rescore(&new, &last).expect("in range");
    assert_eq!(stream.versions(&Rules { delta: 0.04, ..rules() }).expect("in range"), found);
}

#[test]
fn sampling_that_moves_between_parts_of_the_traffic_is_no_drop() {
    // Half the traffic fails at .02, half at .18; both are judged at .1 for ten days, then at .05 and at .5.
    let mut rng = StdRng::seed_from_u64(8);
    let mut stream = Stream::default();
    for hour in 0..20 * 24_i64 {
        let rates = if hour < 240 { [0.1, 0.1] } else { [0.05, 0.5] };
        for i in 0..800_i64 {
            let bad = rng.random_bool(0.5);
            let inclusion = rates[usize::from(bad)];
            if rng.random_bool(inclusion) {
                let loss = f64::from(u8::from(rng.random_bool(if bad { 0.18 } else { 0.02 })));
                let at = start() + Duration::seconds(hour * HOUR_SECONDS + i * 4);
                stream.add(&Score { inclusion, ..Score::new(at, loss) }).expect("in range");
            }
        }
        let finding = stream.close(start() + Duration::hours(hour + 1), &rules()).expect("in range");
        assert!(!matches!(finding, Finding::Alarm(_)), "hour {hour}: {finding:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn a_restart_after_any_hour_changes_no_bit(seed in any::<u64>(), grades in 1_u8..5) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut whole, mut restarted) = (Stream::default(), Stream::default());
        for hour in 0..9 * 24_i64 {
            for i in 0..rng.random_range(0..6_i64) {
                let at = start() + Duration::seconds(hour * HOUR_SECONDS + i);
                let loss = f64::from(rng.random_range(0..=grades)) / f64::from(grades);
                let score = Score { inclusion: [1.0, 0.3][usize::from(rng.random_bool(0.2))], ..Score::new(at, loss) };
                whole.add(&score).expect("in range");
                restarted.add(&score).expect("in range");
            }
            let now = start() + Duration::hours(hour + 1);
            let one = whole.close(now, &rules()).expect("in range");
            let text = serde_json::to_string(&restarted).expect("plain data");
            restarted = serde_json::from_str(&text).expect("its own text");
            prop_assert_eq!(restarted.close(now, &rules()).expect("in range"), one);
        }
        prop_assert_eq!(restarted, whole);
    }
}
