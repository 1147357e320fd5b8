//! Streams without a database: what is found stays found while nothing speaks against it, and ends when it is over.

use super::*;
use crate::domain::alert::Kind;
use crate::domain::verdict::TraceLabels;
use crate::store::watch::Cursor;
use chrono::TimeDelta;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_132_800, 0).expect("a time")
}

fn rubric() -> Vec<Arc<Rubric>> {
    let text = "name: r\nchecks: [failure_to_answer]\n";
    let made = crate::rubrics::parse::rubric(std::path::Path::new("r.yaml"), text, &BTreeMap::new());
    vec![Arc::new(made.expect("valid"))]
}

/// `count` verdicts of a prompt version from `at` on, `apart` from each other, of which the first `bad` in each ten fail.
struct Batch<'a> {
    version: &'a str,
    at: DateTime<Utc>,
    apart: TimeDelta,
    count: i32,
    bad: i32,
}

fn add(streams: &mut Streams, rubrics: &[Arc<Rubric>], batch: &Batch) {
    for n in 0..batch.count {
        let scored = Scored {
            at: Cursor { tx: 0, id: uuid::Uuid::nil() },
            rubric: "r".to_owned(),
            rubric_version: rubrics[0].version.clone(),
            kind: OutputKind::Boolean,
            score: if n % 10 < batch.bad { 0.0 } else { 1.0 },
            inclusion_probability: 1.0,
            labels: TraceLabels { prompt_version: Some(batch.version.to_owned()), ..TraceLabels::default() },
            created_at: batch.at + batch.apart * n,
        };
        streams.count(&scored, Some(&rubrics[0].alert), 100).expect("a valid score");
    }
}

#[test]
fn a_version_that_was_found_worse_stays_so_until_it_is_shown_not_to_be() {
    let (rubrics, config) = (rubric(), Watch::default());
    let mut streams = Streams::default();
    let apart = TimeDelta::seconds(1);
    let (old, new) = (start(), start() + TimeDelta::days(1));
    add(&mut streams, &rubrics, &Batch { version: "v1", at: old, apart, count: 300, bad: 1 });
    add(&mut streams, &rubrics, &Batch { version: "v2", at: new, apart, count: 30, bad: 5 });
    let now = new + TimeDelta::hours(1);
    let found = streams.look(&config, &rubrics, now).expect("valid");
    assert_eq!(found.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::VersionTest]);
    // Better luck, and the evidence is less than it was: too little for a first alarm, and nothing that ends one.
    add(&mut streams, &rubrics, &Batch { version: "v2", at: new, apart, count: 70, bad: 0 });
    let tests = streams.all.values_mut().next().expect("one").version_tests(&Rules::default()).expect("valid");
    assert_eq!(tests[0].1.comparison.verdict, Word::Undecided, "{tests:?}");
    assert_eq!(streams.look(&config, &rubrics, now).expect("valid").len(), 1, "it was found, and stays");
    let stored = streams.changed().expect("it can be written");
    assert!(
        unpack(&stored[0].state).expect("it can be read").worse.contains(&(Dimension::PromptVersion, "v2".to_owned()))
    );
    add(&mut streams, &rubrics, &Batch { version: "v2", at: new, apart, count: 3_000, bad: 0 });
    assert_eq!(streams.look(&config, &rubrics, now).expect("valid"), Vec::new(), "it is shown not to be worse");
}

#[test]
fn a_drop_ends_when_a_day_is_as_good_as_before() {
    let (rubrics, config) = (rubric(), Watch::default());
    let mut streams = Streams::default();
    let apart = TimeDelta::seconds(90);
    let day = |n: i64| start() + TimeDelta::days(n);
    add(&mut streams, &rubrics, &Batch { version: "v", at: day(0), apart, count: 960 * 10, bad: 1 });
    assert_eq!(streams.look(&config, &rubrics, day(10)).expect("valid"), Vec::new());
    add(&mut streams, &rubrics, &Batch { version: "v", at: day(10), apart, count: 960 * 2, bad: 4 });
    let found = streams.look(&config, &rubrics, day(12)).expect("valid");
    assert_eq!(found.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::ChangeScan]);
    add(&mut streams, &rubrics, &Batch { version: "v", at: day(12), apart, count: 960 * 2, bad: 1 });
    assert_eq!(streams.look(&config, &rubrics, day(14)).expect("valid"), Vec::new(), "two good days");
}

#[test]
fn a_verdict_in_anothers_place_is_counted_once_and_the_scan_keeps_what_it_saw() {
    let rubrics = rubric();
    let apart = TimeDelta::seconds(1);
    let scored = |score: f64, feature: &str| Scored {
        at: Cursor { tx: 0, id: uuid::Uuid::nil() },
        rubric: "r".to_owned(),
        rubric_version: rubrics[0].version.clone(),
        kind: OutputKind::Boolean,
        score,
        inclusion_probability: 1.0,
        labels: TraceLabels {
            prompt_version: Some("v2".to_owned()),
            feature: Some(feature.to_owned()).filter(|f| !f.is_empty()),
            ..TraceLabels::default()
        },
        created_at: start() + TimeDelta::days(1),
    };
    let rule = Some(&rubrics[0].alert);
    let begun = |old: f64| {
        let mut streams = Streams::default();
        add(&mut streams, &rubrics, &Batch { version: "v1", at: start(), apart, count: 50, bad: 1 });
        streams.count(&scored(old, ""), rule, 100).expect("a valid score");
        streams
    };
    let state = |streams: &Streams, n: usize| streams.all.values().nth(n).expect("a stream").clone();
    let (mut exchanged, right) = (begun(0.0), begun(1.0));
    exchanged.exchange(&scored(0.0, ""), Some(&scored(1.0, "")), rule, 100).expect("valid");
    assert_eq!(state(&exchanged, 0).versions, state(&right, 0).versions, "as if the first had never been");
    assert_eq!(state(&exchanged, 0).scan, state(&begun(0.0), 0).scan, "evidence does not change afterwards");
    // One that is in another stream now is counted there; one that has no score any more, nowhere.
    let mut moved = begun(0.0);
    moved.exchange(&scored(0.0, ""), Some(&scored(1.0, "billing")), rule, 100).expect("valid");
    assert_eq!((moved.len(), state(&moved, 1).scan.recent(start() + TimeDelta::days(1), 1).n_eff), (2, 1.0));
    let mut gone = begun(0.0);
    gone.exchange(&scored(0.0, ""), None, rule, 100).expect("valid");
    gone.exchange(&scored(0.0, ""), None, rule, 100).expect("taking back twice takes back once");
    let versions = state(&gone, 0).versions[&Dimension::PromptVersion].clone();
    assert_eq!(versions.first_seen().iter().map(|(version, _)| *version).collect::<Vec<_>>(), ["v1"]);
}
