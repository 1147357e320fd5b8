//! When a run is due, and which units it takes.

use super::*;

fn drawn(n: u128, labelled: bool) -> Drawn {
    Drawn {
        verdict: Uuid::from_u128(n),
        trace_id: format!("t-{n}"),
        span_id: None,
        inclusion_probability: 1.0,
        labelled,
    }
}

fn marks(config: &str, models: &[&str]) -> Marks {
    let models = models.iter().map(|m| (*m).to_owned()).collect();
    [("a".to_owned(), Mark { config: config.to_owned(), models, ..Mark::default() })].into()
}

fn run(judges: Marks) -> Run {
    Run {
        id: Uuid::from_u128(1),
        rubric: "r".to_owned(),
        rubric_version: "v".to_owned(),
        number: 1,
        why: Why::First,
        judges,
        usd_max: 1.0,
        started_at: DateTime::UNIX_EPOCH,
        due_at: DateTime::UNIX_EPOCH + RUN_MAX,
        ended: None,
    }
}

#[test]
fn a_run_is_due_at_its_time_at_another_judge_and_at_an_alert_and_never_twice_in_an_hour() {
    let last = run(marks("c", &["m"]));
    let now = |hours: i64| DateTime::UNIX_EPOCH + TimeDelta::hours(hours);
    let same = marks("c", &["m"]);
    let due_at = |marks: &Marks, hours: i64| due(Some(&last), marks, 168.0, (None, now(hours)));
    assert_eq!(due(None, &same, 168.0, (None, now(0))), Some(Why::First));
    assert_eq!((due_at(&same, 167), due_at(&same, 168)), (None, Some(Why::Scheduled)));
    for other in [marks("d", &["m"]), marks("c", &["m", "m-2"]), Marks::from([("b".to_owned(), Mark::default())])] {
        assert_eq!((due_at(&other, 0), due_at(&other, 1)), (None, Some(Why::JudgeChanged)), "{other:?}");
    }
    let alert = |since: i64, hours: i64| due(Some(&last), &same, 168.0, (Some(&now(since)), now(hours)));
    assert_eq!((alert(2, 3), alert(-1, 3)), (Some(Why::Alert), None), "what began before the run is answered by it");
}

#[test]
fn labelled_traces_come_first_then_those_of_the_run_before() {
    let fresh = vec![drawn(1, true), drawn(2, false), drawn(3, false), drawn(4, false)];
    let kept = vec![drawn(3, false), drawn(9, false)];
    let chosen: Vec<u128> = selected(fresh, kept, 4).iter().map(|d| d.verdict.as_u128()).collect();
    assert_eq!(chosen, [1, 3, 9, 2]);
}
