//! Calibration against judges whose error rates are known because the test made them.

use super::*;
use crate::domain::label::{JudgeVote, Label, LabelValue, Source};
use crate::domain::verdict::TraceLabels;
use uuid::Uuid;

fn rubric(panel: &[&str], combine: Combine) -> Rubric {
    serde_json::from_value(serde_json::json!({
        "name": "r", "title": "", "version": "v", "applies_when": {"requires": [], "labels": {}}, "sample": 1.0,
        "checks": [], "panel": panel, "combine": combine, "output": {"type": "boolean"}, "pass": 0.5, "prompt": null,
        "examples": [], "source": "",
    }))
    .expect("a rubric")
}

/// Trace n: a person passes two of three; a judge is wrong on every `wrong`-th trace, from `from` on.
fn labelled(n: usize, judges: &[(&str, usize, usize)]) -> LabelledVerdict {
    let truth = !n.is_multiple_of(3);
    let vote = |(judge, wrong, from): &(&str, usize, usize)| JudgeVote {
        judge: (*judge).to_owned(),
        model: format!("model-{judge}"),
        score: Some(f64::from(u8::from(if n % wrong == *from { !truth } else { truth }))),
        label: None,
    };
    let votes: Vec<JudgeVote> = judges.iter().map(vote).collect();
    let passes = votes.iter().filter(|v| v.score == Some(1.0)).count() * 2 > votes.len();
    LabelledVerdict {
        trace_id: format!("t-{n}"),
        verdict_id: Uuid::from_u128(n as u128),
        judged_at: DateTime::UNIX_EPOCH,
        rubric_version: "v".to_owned(),
        score: f64::from(u8::from(passes)),
        passed: passes,
        decided_by: Some("panel".to_owned()),
        votes,
        inclusion_probability: 0.5,
        label_probability: Some(0.1),
        label: Label {
            id: Uuid::nil(),
            slot: Uuid::nil(),
            trace_id: format!("t-{n}"),
            span_id: None,
            rubric: "r".to_owned(),
            rubric_version: None,
            value: LabelValue::Passed,
            passed: truth,
            source: Source::Expert,
            labeller: None,
            comment: None,
            made_at: DateTime::UNIX_EPOCH,
            timed: true,
            draw_probability: None,
            batch_id: None,
        },
        conflicting: false,
        trace: TraceLabels::default(),
    }
}

fn calibrated(rubric: &Rubric, count: usize, judges: &[(&str, usize, usize)]) -> Calibration {
    let all = (0..count).map(|n| labelled(n, judges)).collect();
    calibrate(rubric, all, |_| 1.0, DateTime::UNIX_EPOCH).expect("the numbers are valid")
}

#[test]
fn each_judge_has_its_error_rates_and_the_good_one_the_weight() {
    let judges = [("bad", 3, 1), ("good", 20, 7)];
    let found = calibrated(&rubric(&["bad", "good"], Combine::Majority), 300, &judges);
    let good = &found.judges[1];
    assert_eq!(
        (good.judge.as_str(), good.model.as_str(), found.labels, found.sampled),
        ("good", "model-good", 300, 300)
    );
    let accuracy = good.accuracy.accuracy.expect("there are labels");
    assert!((accuracy.value - 0.95).abs() < 0.01, "{accuracy:?}");
    assert!(accuracy.interval.low < 0.95 && accuracy.interval.high > 0.95);
    // Wrong on n = 1 mod 3, all of which pass: half of what passes is failed, and nothing that fails is passed.
    let bad = &found.judges[0].accuracy;
    assert!((bad.sensitivity.expect("some pass").value - 0.5).abs() < 1e-9, "{bad:?}");
    assert!((bad.specificity.expect("some fail").value - 1.0).abs() < 1e-9);
    assert_eq!(found.best_judge.as_deref(), Some("good"));
    let model = found.model.as_ref().expect("300 labels are enough");
    assert_eq!((model.judges[0].as_str(), model.labels, model.prefixes.len()), ("good", 300, 2));
    assert!(good.weight > found.judges[0].weight, "{:?}", found.judges);
}

#[test]
fn below_fifty_labels_nothing_is_learnt_and_below_thirty_it_says_uncorrected() {
    let judges = [("a", 5, 1), ("b", 5, 2)];
    let rubric = rubric(&["a", "b"], Combine::Weighted);
    let few = calibrated(&rubric, 29, &judges);
    assert!(few.model.is_none() && !is_corrected(&few));
    assert!(few.advice[0].starts_with("uncorrected: 29 labels of this version; 1 more"), "{:?}", few.advice);
    let more = calibrated(&rubric, 49, &judges);
    assert!(more.model.is_none() && is_corrected(&more) && more.judges[0].weight.is_none());
    assert!(calibrated(&rubric, 60, &judges).model.is_some());
}

#[test]
fn a_panel_that_is_no_better_than_its_best_judge_is_told_so() {
    // Two that are wrong together on a third, one that is nearly always right.
    let judges = [("weak", 3, 1), ("twin", 3, 1), ("strong", 50, 3)];
    let found = calibrated(&rubric(&["weak", "twin", "strong"], Combine::Majority), 300, &judges);
    assert_eq!(found.best_judge.as_deref(), Some("strong"));
    assert!(found.panel_against_best.is_some_and(|c| c.finding != Finding::First));
    assert!(found.advice.iter().any(|a| a.contains("`combine: strongest`")), "{:?}", found.advice);
    // Three that are wrong on different traces are better together.
    let apart = [("a", 5, 1), ("b", 5, 2), ("c", 5, 3)];
    let found = calibrated(&rubric(&["a", "b", "c"], Combine::Majority), 300, &apart);
    assert!(found.panel_against_best.is_some_and(|c| c.finding == Finding::First), "{:?}", found.panel_against_best);
    assert!(found.advice.iter().any(|a| a.contains("`combine: weighted`")), "{:?}", found.advice);
}

#[test]
fn labels_of_another_version_and_conflicting_ones_are_left_out() {
    let judges = [("a", 5, 1)];
    let mut all: Vec<LabelledVerdict> = (0..40).map(|n| labelled(n, &judges)).collect();
    all[0].rubric_version = "older".to_owned();
    all[1].conflicting = true;
    let found = calibrate(&rubric(&["a"], Combine::Strongest), all, |_| 1.0, DateTime::UNIX_EPOCH).expect("valid");
    assert_eq!((found.labels, found.conflicting), (38, 1));
    assert!(
        found.advice.iter().any(|a| a.contains("1 traces have labels") || a.contains("opposite")),
        "{:?}",
        found.advice
    );
}
