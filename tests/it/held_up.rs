//! Jobs that wait through no fault of their own, and leases that were lost: nothing is judged twice, nothing is given up early.

use crate::support::{ANSWERED, JUDGED, Service, config, database, eventually, serve, sim, traces, with_judges};
use assize::app::App;
use assize::domain::clock::{Clock, ManualClock, SystemClock};
use assize::domain::verdict::{Outcome, TraceLabels, Verdict};
use assize::llm::sim::Faults;
use assize::pipeline::{assemble, ingest::row};
use assize::store::Store;
use assize::store::inbox::DueAfter;
use axum::http::StatusCode;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;

/// An endpoint that refuses every key.
async fn refusing_keys() -> String {
    serve(axum::Router::new().fallback(|| async { StatusCode::UNAUTHORIZED })).await
}

const BOTH: &str = "name: both\npanel: [a, c]\nprompt: \"{{ answer }}\"\n";

#[tokio::test]
async fn a_refused_key_uses_no_attempt_up_and_the_deadline_keeps_what_was_voted() {
    let (_, good) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED, BOTH]);
    with_judges(&mut config, &good, &["a"]);
    with_judges(&mut config, &refusing_keys().await, &["c"]);
    config.work.attempts_max = 1;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let service = Service::start_at(&database().await, config, shared).await;
    service.send(&traces::many("t", 1)).await;
    // Time stands still until the trace is due.
    clock.advance(TimeDelta::seconds(1));
    let jobs = eventually("both jobs wait", || async {
        let jobs = service.app.store.jobs_of_trace("t-0").await.ok()?;
        (jobs.len() == 2 && jobs.iter().all(|(.., error)| error.is_some())).then_some(jobs)
    })
    .await;
    for (rubric, attempts, visible_at, error) in jobs {
        assert!(error.is_some_and(|e| e.contains("unusable")), "{rubric}");
        assert_eq!(attempts, 0, "{rubric}");
        assert!(visible_at - clock.now() >= TimeDelta::seconds(60), "{rubric} is left alone for a minute");
    }
    clock.advance(TimeDelta::hours(25));
    let verdicts = service.verdicts(2).await;
    let of = |rubric: &str| verdicts.iter().find(|v| v.rubric == rubric).expect("a verdict each");
    assert_eq!((of("judged").outcome, of("judged").score), (Outcome::Expired, None));
    assert_eq!(of("both").outcome, Outcome::Scored, "half of the panel had voted: {}", of("both").explanation);
}

#[tokio::test]
async fn a_job_that_is_old_enough_takes_the_quorum_it_has() {
    let (_, good) = sim(Faults::default()).await;
    let mut config = config(&[BOTH]);
    with_judges(&mut config, &good, &["a"]);
    with_judges(&mut config, &refusing_keys().await, &["c"]);
    config.work.full_panel_seconds = 0;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 3)).await;
    assert!(service.verdicts(3).await.iter().all(|v| v.outcome == Outcome::Scored));
}

#[tokio::test]
async fn our_own_limit_is_no_failure_of_the_judge() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    // Forty need 16 seconds, and nobody waits for more than ten.
    config.judges.get_mut("a").expect("it is there").requests_per_minute = Some(150);
    config.work.attempts_max = 1;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 40)).await;
    eventually("some are given back", || async {
        let held_up = "SELECT count(*) FROM jobs WHERE last_error LIKE '%held_up%' AND attempts = 0";
        let count: i64 = sqlx::query_scalar(held_up).fetch_one(service.app.store.pool()).await.ok()?;
        (count > 0).then_some(())
    })
    .await;
    assert!(service.verdicts(40).await.iter().all(|v| v.outcome == Outcome::Scored));
    assert_eq!(sim.stats().requests, 40);
}

#[tokio::test]
async fn a_lost_lease_settles_nothing_even_beside_the_one_that_holds() {
    let url = database().await;
    let store = Store::connect(&url, 2, Duration::from_secs(10)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let app = App::build(config(&[ANSWERED]), store, Arc::new(SystemClock)).await.expect("a valid configuration");
    let spans = assize::dialect::native::spans(&traces::trace("t", "Within 30 days.")).expect("valid");
    let now = SystemClock.now();
    let due = DueAfter { quiet_ms: 0, idle_ms: 0, cap_ms: 0 };
    app.store.put_spans(spans.iter().map(row).collect(), due, now).await.expect("stored");
    assert!(assemble::batch(&app).await.expect("assembled"));
    let later = SystemClock.now() + TimeDelta::seconds(1);
    let mut claim = Vec::new();
    for at in [later, later + TimeDelta::seconds(30)] {
        claim.push(app.store.claim(app.worker, 10, TimeDelta::seconds(10), at).await.expect("claimed").remove(0));
    }
    let scored = |lease: &assize::domain::job::Lease<assize::domain::job::Job>, score: f64| Verdict {
        score: Some(score),
        ..lease.item.unscored(Outcome::Scored, String::new(), TraceLabels::default(), later)
    };
    let (held, lost) = (claim.remove(1), claim.remove(0));
    let (old, new) = (scored(&lost, 0.1), scored(&held, 0.9));
    let settled = [(lost, old)];
    let none = app.store.settle(&settled, &[], TimeDelta::zero(), later).await.expect("it can be asked");
    assert!(none.is_empty(), "the lease had run out and somebody else has the job");
    let [first] = settled;
    let ours = app.store.settle(&[first, (held, new)], &[], TimeDelta::zero(), later).await.expect("it settles");
    assert_eq!(ours.len(), 1);
    let verdicts = crate::support::wait_for_verdicts(&app.store, 1).await;
    assert_eq!(verdicts[0].score, Some(0.9));
}

#[tokio::test]
async fn a_paused_queue_judges_nothing_until_it_is_resumed() {
    let service = Service::start(config(&[ANSWERED])).await;
    let pause = assize::domain::pause::Pause {
        reason: "an upgrade".to_owned(),
        by_person: true,
        since: chrono::Utc::now(),
        probe_at: None,
    };
    service.app.store.put_pause("queue", assize::store::pauses::QUEUE, &pause).await.expect("it is stored");
    eventually("the worker has heard of it", || async {
        service.app.queue_paused.load(std::sync::atomic::Ordering::Relaxed).then_some(())
    })
    .await;
    service.send(&traces::many("t", 3)).await;
    // Ready for half a second, which is many of a worker's looks at the queue, and still nobody's.
    eventually("the jobs wait", || async {
        let stats = service.app.store.queue_stats(chrono::Utc::now()).await.ok()?;
        assert_eq!(stats.leased, 0);
        (stats.ready == 3 && stats.oldest_ready_seconds > 0.5).then_some(())
    })
    .await;
    assert!(service.app.store.end_pause("queue", assize::store::pauses::QUEUE, true).await.expect("it can be ended"));
    service.verdicts(3).await;
}
