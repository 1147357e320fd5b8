//! Watching: a worse version and a drop at an unknown time open one alert, equal versions none; nothing is counted twice.

use crate::support::{ANSWERED, JUDGED, Service, config, database, eventually, sim, traces, with_judges};
use assize::app::App;
use assize::domain::alert::incident::{Alert, State};
use assize::domain::alert::{Kind, Measure};
use assize::domain::clock::{Clock, ManualClock, SystemClock};
use assize::llm::sim::Faults;
use assize::pipeline::report::{Asked, of_store};
use assize::pipeline::watch::Watcher;
use assize::store::Store;
use assize::store::alerts::{AlertFilter, By};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const GOOD: &str = "Sofas can be returned within 30 days of delivery.";
const NONE: &str = "";

/// Traces of a prompt version, of which every `bad`-th has no answer.
fn version(version: &str, count: usize, bad: usize) -> Vec<serde_json::Value> {
    let one = |n: usize| {
        let mut trace = traces::trace(&format!("{version}-{n}"), if n.is_multiple_of(bad) { NONE } else { GOOD });
        trace["prompt"]["version"] = serde_json::json!(version);
        trace
    };
    (0..count).map(one).collect()
}

async fn alerts(store: &Store) -> Vec<Alert> {
    store.alerts(&AlertFilter { limit: 100, ..AlertFilter::default() }).await.expect("alerts can be read")
}

async fn alert(store: &Store) -> Alert {
    eventually("an alert opens", || async { alerts(store).await.pop() }).await
}

/// Looks at the evidence, as whichever of these services watches does at each tick.
async fn looked_at(services: &[&Service], times: u32) {
    let mut looked = 0;
    for service in services {
        let mut watcher = Watcher::default();
        for _ in 0..times {
            looked += u32::from(watcher.tick(&service.app).await.expect("it watches"));
        }
    }
    assert!(looked > 0, "one of these services is the one that watches");
}

/// The one of two services that watches, and the other: who came first is not said.
async fn by_watching(one: Service, two: Service) -> (Service, Service) {
    let first = Watcher::default().tick(&one.app).await.expect("it watches");
    if first { (one, two) } else { (two, one) }
}

#[tokio::test]
async fn a_worse_version_opens_one_alert_that_says_what_and_two_processes_count_once() {
    let url = database().await;
    let config = config(&[&format!("{ANSWERED}alert: {{runbook: https://wiki.example/answers}}\n")]);
    let one = Service::start_on(&url, config.clone()).await;
    let two = Service::start_on(&url, config.clone()).await;
    one.send(&version("v1", 150, 30)).await;
    one.verdicts(150).await;
    one.send(&version("v2", 60, 2)).await;
    one.verdicts(210).await;
    let store = &one.app.store;
    // Evidence is brought up to date once an hour, so a part may be told first.
    let lead = alert(store).await.lead().expect("it has a finding").clone();
    assert_eq!((lead.kind, lead.rubric.as_deref()), (Kind::VersionTest, Some("answered")));
    assert!(lead.n <= 60, "each verdict once: {}", lead.n);
    let (from, to) = (lead.from.expect("before"), lead.to.expect("after"));
    assert!(from.value > 0.9 && to.value < 0.8 && from.lower > Some(to.value), "{from:?} {to:?}");
    let step = &lead.versions[0];
    assert_eq!(
        (step.what.as_str(), step.before.as_slice(), step.after.as_str()),
        ("prompt_version", &["v1".to_owned()][..], "v2")
    );
    assert_eq!(lead.stream["feature"], "returns");
    assert_eq!(lead.runbook.as_deref(), Some("https://wiki.example/answers"));
    assert!(lead.examples.iter().all(|e| e.trace_id.starts_with("v2-") && e.score < Some(0.5)), "{:?}", lead.examples);
    assert!(!lead.examples.is_empty() && lead.evidence.e_value >= Some(20.0));
    // Again and again, and by whoever watches next, it stays one alert.
    let (watches, other) = by_watching(one, two).await;
    looked_at(&[&watches], 3).await;
    watches.stop(Duration::from_secs(5)).await;
    let three = Service::start_on(&url, config).await;
    eventually("another process watches", || async {
        let mut ticked = [false; 2];
        for (service, ticked) in [&three, &other].into_iter().zip(&mut ticked) {
            *ticked = Watcher::default().tick(&service.app).await.ok()?;
        }
        ticked.contains(&true).then_some(())
    })
    .await;
    looked_at(&[&three, &other], 3).await;
    assert_eq!(alerts(&three.app.store).await.len(), 1);
    // And when all verdicts are counted anew, as after a restored database.
    let store = &three.app.store;
    let from_the_start = "WITH gone AS (DELETE FROM watch_streams) UPDATE watch_cursor SET tx = 0, id = $1";
    sqlx::query(from_the_start).bind(Uuid::nil()).execute(store.pool()).await.expect("it can be set back");
    eventually("all is counted again", || async { store.watch_is_behind().await.ok().filter(|behind| !behind) }).await;
    looked_at(&[&three, &other], 3).await;
    assert_eq!(alerts(store).await.len(), 1);
}

#[tokio::test]
async fn a_version_that_only_changes_wording_opens_none() {
    let service = Service::start(config(&[ANSWERED])).await;
    for name in ["v1", "v2", "v3"] {
        service.send(&version(name, 100, 10)).await;
    }
    service.verdicts(300).await;
    eventually("all are counted", || async {
        let row: (i64,) =
            sqlx::query_as("SELECT count(*) FROM verdicts v, watch_cursor c WHERE (v.tx, v.id) > (c.tx, c.id)")
                .fetch_one(service.app.store.pool())
                .await
                .ok()?;
        (row.0 == 0).then_some(())
    })
    .await;
    looked_at(&[&service], 1).await;
    assert_eq!(alerts(&service.app.store).await, Vec::new());
}

#[tokio::test]
async fn judges_that_fail_are_told_by_a_threshold_and_the_alert_ends_with_the_trouble() {
    let (sim, base) = sim(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.attempts_max = 1;
    config.work.requests_per_attempt_max = 1;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let url = database().await;
    let service = Service::start_at(&url, config.clone(), shared).await;
    service.send(&traces::many("t", 25)).await;
    let alert = eventually("an alert opens", || async {
        clock.advance(TimeDelta::seconds(1));
        alerts(&service.app.store).await.pop()
    })
    .await;
    let lead = alert.lead().expect("it has a finding");
    assert_eq!((lead.kind, lead.measure, lead.limit), (Kind::Threshold, Measure::JudgeErrorRate, Some(0.2)));
    sim.set_faults(Faults::default());
    // Whoever watches next has not raised it, and ends it all the same.
    service.stop(Duration::from_secs(5)).await;
    clock.advance(TimeDelta::minutes(31));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let service = Service::start_at(&url, config, shared).await;
    eventually("it ends when the window has passed", || async {
        clock.advance(TimeDelta::seconds(1));
        (alerts(&service.app.store).await.pop()?.state == State::Resolved).then_some(())
    })
    .await;
}

/// Verdicts made by hand: forty an hour from `start` on, one in `before` fails until `change`, one in `after` from then on.
/// A transaction a day, as they would have come.
async fn history(
    store: &Store,
    (start, change, end): (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>),
    (before, after): (i32, i32),
) {
    let mut day = start;
    while day < end {
        sqlx::query(
            "INSERT INTO verdicts (id, trace_id, rubric, rubric_version, kind, outcome, score, raw, passed, explanation,
                                   checks, cost_usd, latency_ms, inclusion_probability, feature, join_source,
                                   join_span_id, created_at)
             SELECT gen_random_uuid(), 't-' || n, 'answered', $1, 'boolean', 'scored', s, 'null', s = 1, '', '{}', 0, 0,
                    0.5, 'returns', 'native', '', at
             FROM (SELECT n, at, CASE WHEN n % (CASE WHEN at < $3 THEN $4 ELSE $5 END) = 0 THEN 0.0 ELSE 1.0 END AS s
                   FROM (SELECT n, $2 + n * interval '90 seconds' AS at FROM generate_series(0, 959) n) x) y",
        )
        .bind(VERSION.get().expect("it is set"))
        .bind(day)
        .bind(change)
        .bind(before)
        .bind(after)
        .execute(store.pool())
        .await
        .expect("verdicts can be stored");
        day += TimeDelta::days(1);
    }
}

static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[tokio::test]
async fn the_watch_is_held_anew_with_each_batch_and_only_who_holds_it_stores_streams() {
    let store = Store::connect(&database().await, 2, Duration::from_secs(10)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let (one, two) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let start = DateTime::from_timestamp(1_795_132_800, 0).expect("a time");
    let at = |seconds| start + TimeDelta::seconds(seconds);
    let hold = |who, now| store.hold_watch(who, (at(now), at(now + 10)));
    let before = hold(one, 0).await.expect("it can be held").expect("nobody holds it");
    let row = |state: u8| assize::store::watch::StreamRow {
        id: "s".to_owned(),
        rubric: "r".to_owned(),
        rubric_version: "v".to_owned(),
        stream: serde_json::json!({}),
        state: vec![state],
    };
    let stored = |who, state, now| {
        let rows = vec![row(state)];
        let store = &store;
        async move {
            store.put_streams(who, (before, before), &rows, (at(now), at(now + 10))).await.expect("it can be tried")
        }
    };
    // A batch that is stored at 8 s holds the watch until 18 s, so nobody takes it at 12 s.
    assert!(stored(one, 1, 8).await);
    assert_eq!(hold(two, 12).await.expect("it can be tried"), None);
    assert!(hold(two, 19).await.expect("it can be held").is_some(), "who says nothing loses it");
    assert!(!stored(one, 2, 19).await, "and what it still has in hand is not stored");
    assert_eq!(store.watched_streams().await.expect("they can be read")[0].state, [1]);
}

#[tokio::test]
async fn how_far_the_watch_is_behind_is_counted_and_told() {
    let mut config = config(&[ANSWERED]);
    // Nobody watches for as long as this test runs, after the first look.
    config.watch.tick_ms = 600_000;
    config.watch.lease_ms = 1_200_000;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let url = database().await;
    let service = Service::start_at(&url, config, shared).await;
    let rounds = || service.app.watch_rounds.load(std::sync::atomic::Ordering::Relaxed);
    eventually("it has looked once", || async { (rounds() > 0).then_some(()) }).await;
    assert_eq!(service.app.store.unwatched_since().await.expect("it can be read"), None);
    service.send(&traces::many("t", 3)).await;
    service.verdicts(3).await;
    clock.advance(TimeDelta::minutes(11));
    let lag = eventually("it is counted", || async {
        let lag = &service.app.bench.metrics.waiting.with_label_values(&["oldest_unwatched_verdict_seconds"]);
        (lag.get() > 0.0).then_some(lag.get())
    })
    .await;
    assert!((660.0..720.0).contains(&lag), "{lag}");
    looked_at(&[&service], 1).await;
    assert_eq!(service.app.store.unwatched_since().await.expect("it can be read"), None);
}

#[tokio::test]
async fn a_drop_at_an_unknown_time_is_found_with_its_start_and_closing_it_makes_it_the_new_normal() {
    let url = database().await;
    let store = Store::connect(&url, 4, Duration::from_secs(10)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let start = DateTime::from_timestamp(1_795_132_800, 0).expect("a time");
    let clock = Arc::new(ManualClock::at(start + TimeDelta::days(13)));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let app = App::build(config(&[ANSWERED]), store, shared).await.expect("a valid configuration");
    let rubric = Arc::clone(&app.bench.rubrics.load().active()[0]);
    VERSION.get_or_init(|| rubric.version.clone());
    let (change, end) = (start + TimeDelta::days(10), start + TimeDelta::days(13));
    history(&app.store, (start, change, end), (10, 4)).await;
    let mut watcher = Watcher::default();
    assert!(watcher.tick(&app).await.expect("it watches"));
    let alert = alerts(&app.store).await.pop().expect("a drop of fifteen points");
    let lead = alert.lead().expect("it has a finding");
    assert_eq!((lead.kind, lead.measure), (Kind::ChangeScan, Measure::PassRate));
    assert!((lead.since - change).abs() <= TimeDelta::hours(12), "{}", lead.since);
    let (from, to) = (lead.from.expect("before").value, lead.to.expect("after").value);
    assert!((from - 0.9).abs() < 0.02 && (to - 0.75).abs() < 0.05, "{from} {to}");
    assert_eq!(lead.evidence.budget_share, Some(0.05), "one stream has what one may have at most");
    // Another process goes on from what is stored, and says the same.
    let mut other = Watcher::default();
    assert!(other.tick(&app).await.is_ok());
    assert_eq!(alerts(&app.store).await.len(), 1);
    // A person closes it: what it is now is the new normal.
    let by = By { whom: Some("me"), why: Some("it is meant so") };
    app.store.resolve(alert.id, by, &app.bench.config.alerts, clock.now()).await.expect("it can be closed");
    history(&app.store, (end, end, end + TimeDelta::days(10)), (4, 4)).await;
    clock.advance(TimeDelta::days(10));
    let mut after = Watcher::default();
    for _ in 0..3 {
        assert!(after.tick(&app).await.expect("it watches"));
        clock.advance(TimeDelta::hours(2));
    }
    let all = alerts(&app.store).await;
    assert_eq!((all.len(), all[0].state), (1, State::Resolved), "{all:?}");
    // And the report shows the fall.
    let asked = Asked { since: start, until: end, rubric: None, by: Vec::new() };
    let line = of_store(&app.store, &asked).await.expect("it can be counted").lines.remove(0);
    let first = line.course.first().copied().flatten().expect("verdicts came");
    let last = line.course.last().copied().flatten().expect("verdicts came");
    assert!(first > 0.85 && last < 0.8, "{:?}", line.course);
}
