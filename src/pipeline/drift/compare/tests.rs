//! What runs say of judges that stay, move, come back or are taken as they are.

use super::*;
use crate::domain::drift::{Ended, Mark};
use crate::domain::job::Job;
use crate::domain::unit::Unit;
use crate::domain::verdict::{Outcome, TraceLabels};

fn rubric() -> Rubric {
    let text = "name: r\npanel: p\nprompt: \"{{ answer }}\"\n";
    let panels = [("p".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into();
    crate::rubrics::parse::rubric(std::path::Path::new("r.yaml"), text, &panels).expect("valid")
}

/// A verdict in which judges a and b gave these scores.
fn verdict(id: Uuid, scores: [f64; 2]) -> Verdict {
    let job = Job {
        id,
        trace_id: format!("t-{id}"),
        unit: Unit::Trace,
        replay: true,
        canary: true,
        rubric: "r".into(),
        rubric_version: "v".into(),
        inclusion_probability: 1.0,
        attempts: 1,
        votes: Vec::new(),
        enqueued_at: DateTime::UNIX_EPOCH,
        deadline_at: DateTime::UNIX_EPOCH,
    };
    let vote = |judge: &str, score| Vote {
        judge: judge.to_owned(),
        model: "m".to_owned(),
        score: Some(score),
        reason: Some("because".to_owned()),
        ..Vote::default()
    };
    let passed = Some(scores[0] + scores[1] >= 1.0);
    Verdict {
        votes: vec![vote("a", scores[0]), vote("b", scores[1])],
        passed,
        ..job.unscored(Outcome::Scored, String::new(), TraceLabels::default(), DateTime::UNIX_EPOCH)
    }
}

fn run(number: i32, hours: i64) -> Run {
    let mark = |judge: &str| (judge.to_owned(), Mark::default());
    Run {
        id: Uuid::from_u128(7_000 + u128::from(number.unsigned_abs())),
        rubric: "r".to_owned(),
        rubric_version: "v".to_owned(),
        number,
        why: Why::Scheduled,
        judges: [mark("a"), mark("b")].into(),
        usd_max: 1.0,
        started_at: DateTime::UNIX_EPOCH + TimeDelta::hours(hours),
        due_at: DateTime::UNIX_EPOCH + TimeDelta::hours(hours + 24),
        ended: None,
    }
}

/// Fifty canaries that both judges passed, judged again in a run: judge a fails the first so many.
fn judged(run: &Run, fails: u128) -> (Vec<Canary>, Known) {
    let canaries: Vec<Canary> = (1..=50)
        .map(|n| {
            let verdict = Uuid::from_u128(n);
            Canary { verdict, job: canary_id(run.id, verdict), reference: Some(verdict) }
        })
        .collect();
    let known = canaries.iter().zip(1..).flat_map(|(c, n)| {
        let now = if n <= fails { [0.1, 0.8] } else { [0.9, 0.8] };
        [(c.verdict, verdict(c.verdict, [0.9, 0.8])), (c.job, verdict(c.job, now))]
    });
    (canaries.clone(), known.collect())
}

/// Lets a run end.
fn ended(mut run: Run, history: &[Run], fails: u128) -> Run {
    let (canaries, known) = judged(&run, fails);
    let mut result = compare(&rubric(), &canaries, &known, &run.judges);
    weigh(&mut result, &run, history, 0.01);
    run.ended = Some(Ended { at: run.started_at, usd: 0.0, result });
    run
}

fn of_a(run: &Run) -> &JudgeCompared {
    &run.ended.as_ref().expect("it ended").result.judges[0]
}

#[test]
fn each_judge_is_compared_with_itself_and_the_panel_beside_them() {
    let first = ended(run(1, 100), &[], 20);
    let a = of_a(&first);
    assert_eq!((a.judge.as_str(), a.of, a.worse, a.better, a.passed_before, a.passed_now), ("a", 50, 20, 0, 50, 30));
    assert!(a.moved_since == Some(first.started_at) && a.log_total > 100_f64.ln(), "{a:?}");
    assert!((a.mean_before - 0.9).abs() < 1e-12 && a.examples.len() == 3 && a.examples[0].score == Some(0.1));
    let result = &first.ended.as_ref().expect("it ended").result;
    assert_eq!((result.judges[1].worse, result.judges[1].moved_since), (0, None), "b says what it said");
    assert_eq!(
        (result.canaries.of, result.canaries.worse, result.canaries.moved.as_slice()),
        (50, 20, &["a".to_owned()][..])
    );
}

#[test]
fn votes_of_the_cache_and_of_stand_ins_are_not_the_judges_own() {
    let one = run(1, 100);
    let (canaries, mut known) = judged(&one, 50);
    for verdict in known.values_mut() {
        verdict.votes[0].cached = verdict.votes[0].score == Some(0.9);
        verdict.votes[1].stood_in = Some("c".to_owned());
    }
    let result = compare(&rubric(), &canaries, &known, &one.judges);
    assert!(result.judges.iter().all(|j| j.of == 0 && j.examples.is_empty()), "{result:?}");
    let unjudged: Vec<Canary> = canaries.iter().map(|c| Canary { reference: None, ..*c }).collect();
    assert_eq!(
        compare(&rubric(), &unjudged, &known, &one.judges).canaries.of,
        0,
        "a first judging is compared with none"
    );
}

#[test]
fn a_judge_that_came_back_has_not_moved_any_more_and_one_that_stays_away_has_moved_since_the_first_time() {
    let first = ended(run(1, 100), &[], 0);
    let away = ended(run(2, 268), std::slice::from_ref(&first), 15);
    assert_eq!(of_a(&away).moved_since, Some(first.started_at), "between the last good run and this one");
    let history = [first.clone(), away.clone()];
    // Hardly any evidence by itself, in another month: but it was away, and still is.
    let later = ended(run(3, 900), &history, 5);
    assert_eq!(of_a(&later).moved_since, Some(first.started_at));
    let back = ended(run(3, 436), &history, 0);
    assert_eq!(of_a(&back).moved_since, None);
}

#[test]
fn what_a_person_took_as_the_new_normal_is_what_a_judge_is_compared_with() {
    let first = ended(run(1, 100), &[], 15);
    let mut next = run(2, 268);
    next.judges.get_mut("a").expect("it is there").base = Some(first.id);
    let (canaries, mut known) = judged(&next, 15);
    known.extend(judged(&first, 15).1);
    let mut result = compare(&rubric(), &canaries, &known, &next.judges);
    weigh(&mut result, &next, std::slice::from_ref(&first), 0.01);
    let a = &result.judges[0];
    assert_eq!((a.of, a.worse, a.better, a.moved_since), (50, 0, 0, None), "{a:?}");
    // Its first run has used the first share of the month: half. What is left begins at a sixth.
    assert!((a.log_total - (1.0_f64 / 6.0).ln()).abs() < 1e-9, "{}", a.log_total);
}
