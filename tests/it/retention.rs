//! Retention: days go whole, what must outlive them does, nothing is lost or made twice for it.

use crate::commands::run;
use crate::support::{ANSWERED, JUDGED, Service, config, database, eventually, sim, traces, with_judges};
use assize::app::{App, Bench};
use assize::domain::clock::{Clock, ManualClock, SystemClock};
use assize::domain::job::{Job, Lease};
use assize::domain::verdict::{Outcome, TraceLabels, Verdict};
use assize::llm::sim::Faults;
use assize::pipeline::replay::replay;
use assize::pipeline::report::{Asked, of_store};
use assize::pipeline::retention::{self, DAYS_AHEAD, days_ahead};
use assize::pipeline::upkeep;
use assize::rubrics::parse::rubric;
use assize::store::partitions::{Change, Parted, Partition};
use assize::store::replay::ReplayFilter;
use assize::store::{MIGRATOR, Store};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::Executor;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

/// A service whose days pass when the test says so.
async fn service(config: assize::config::Config) -> (Service, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(noon()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (Service::start_at(&database().await, config, shared).await, clock)
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.expect("it can be counted")
}

/// Upkeep until it is the one that has the lock, since the service does its own beside.
async fn upkeep_now(app: &App) {
    eventually("upkeep has done all", || async {
        let now = app.bench.clock.now();
        retention::once(app, now).await.expect("upkeep goes");
        let found = app.store.partitions().await.expect("they can be read");
        let overdue = app.bench.metrics.retention.overdue.clone();
        let late = Parted::ALL.iter().any(|of| overdue.with_label_values(&[of.table()]).get() > 0.0);
        (days_ahead(&found, now) == i64::from(DAYS_AHEAD) && !late).then_some(())
    })
    .await;
}

#[tokio::test]
async fn days_go_whole_bodies_first_and_what_must_outlive_them_does() {
    let (_judge, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let (service, clock) = service(config.clone()).await;
    let store = &service.app.store;
    upkeep_now(&service.app).await;
    service.send(&traces::many("old", 5)).await;
    service.verdicts(5).await;

    // Bodies go first.
    clock.advance(TimeDelta::days(40));
    upkeep_now(&service.app).await;
    service.send(&traces::many("new", 3)).await;
    service.verdicts(8).await;
    assert_eq!(count(store, "SELECT count(*) FROM trace_bodies").await, 3, "bodies of today stay");
    assert_eq!(count(store, "SELECT count(*) FROM votes").await, 8);
    let told = service.get("/api/v1/traces/old-0").await;
    assert_eq!((&told["state"], &told["removed"]), (&"kept".into(), &true.into()), "{told}");
    assert_eq!(told["verdicts"][0]["outcome"], "scored", "{told}");
    assert!(service.get("/api/v1/traces/new-0").await["removed"].is_null(), "only what is so is said");

    // A report over that time and a replay of it work without them.
    let asked =
        Asked { since: noon() - TimeDelta::days(1), until: noon() + TimeDelta::days(1), rubric: None, by: Vec::new() };
    let report = of_store(store, &asked).await.expect("a report");
    assert_eq!(report.lines.iter().map(|line| line.n).sum::<usize>(), 5, "{report:?}");
    let stricter = rubric(Path::new("judged.yaml"), &format!("{JUDGED}pass: 0.99\n"), &config.panels).expect("valid");
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), Some(store.clone())).expect("valid");
    let filter = ReplayFilter {
        rubric: "judged".to_owned(),
        since: noon() - TimeDelta::days(1),
        until: noon() + TimeDelta::days(60),
        limit: 100,
        ..ReplayFilter::default()
    };
    let plan = replay((&bench, store), &Arc::new(stricter), &filter, false).await.expect("a plan");
    assert_eq!((plan.taken, plan.removed, plan.to_judge), (8, 5, 3), "what is gone is said");

    // A span that comes now makes neither a trace nor a verdict again.
    service.send(&traces::many("old", 1)).await;
    let late = &service.app.bench.metrics.spans_late;
    eventually("it is counted as late", || async { (late.with_label_values(&["left_out"]).get() > 0).then_some(()) })
        .await;
    service.verdicts(8).await;

    // Verdicts and votes go by their own time, and after them the rest of the trace; tallies stay.
    clock.advance(TimeDelta::days(60));
    upkeep_now(&service.app).await;
    assert_eq!(service.verdicts(3).await.len(), 3);
    assert_eq!(count(store, "SELECT count(*) FROM votes").await, 3);
    assert_eq!(count(store, "SELECT count(*) FROM traces").await, 3);
    assert_eq!(count(store, "SELECT count(*) FROM outbox").await, 0);
    assert_eq!(store.tally_totals().await.expect("a sum"), (8, 8));
    assert_eq!(count(store, "SELECT sum(verdicts)::bigint FROM outcome_tallies").await, 8);
    assert_eq!(service.get("/api/v1/traces/old-0").await["status"], 404, "nothing is known of it any more");
    let dropped = &service.app.bench.metrics.retention.dropped;
    assert!(dropped.with_label_values(&["verdicts"]).get() >= 1);
}

#[tokio::test]
async fn bodies_stay_while_a_job_waits_for_them() {
    let (_judge, base) = sim(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.retry_ms = 600_000;
    config.work.retry_ms_max = 600_000;
    let (service, clock) = service(config).await;
    let (app, store) = (&service.app, &service.app.store);
    upkeep_now(app).await;
    service.send(&traces::many("waits", 1)).await;
    eventually("the job waits for its next attempt", || async {
        let stats = store.queue_stats(app.bench.clock.now()).await.ok()?;
        (stats.delayed == 1).then_some(())
    })
    .await;
    service.stop(Duration::from_secs(5)).await;
    clock.advance(TimeDelta::days(40));
    retention::once(app, app.bench.clock.now()).await.expect("upkeep goes");
    assert_eq!(count(store, "SELECT count(*) FROM trace_bodies").await, 1);
    assert!(app.bench.metrics.retention.overdue.with_label_values(&["trace_bodies"]).get() >= 1.0);
    store.pool().execute("DELETE FROM jobs").await.expect("it can be ended");
    upkeep_now(app).await;
    assert_eq!(count(store, "SELECT count(*) FROM trace_bodies").await, 0);
}

#[tokio::test]
async fn what_is_of_no_day_that_is_there_is_stored_and_moved_to_its_day() {
    let url = database().await;
    let clock = Arc::new(ManualClock::at(noon()));
    let ahead: Arc<dyn Clock> = Arc::new(ManualClock::at(noon() + TimeDelta::days(365 * 20)));
    // A process whose clock is twenty years ahead: its verdicts come before its upkeep or after.
    let service = Service::start_at(&url, config(&[ANSWERED]), ahead).await;
    service.send(&traces::many("ahead", 2)).await;
    service.verdicts(2).await;
    upkeep_now(&service.app).await;
    service.stop(Duration::from_secs(5)).await;
    let store = service.app.store.clone();
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let app = App::build(config(&[ANSWERED]), store.clone(), shared).await.expect("valid");
    let far = noon() + TimeDelta::days(365 * 30);
    insert_verdict(&store, far).await;
    insert_verdict(&store, DateTime::UNIX_EPOCH).await;
    assert_eq!(store.strays(Parted::Verdicts).await.expect("a count"), 2);
    assert_eq!(count(&store, "SELECT count(*) FROM verdicts").await, 4, "nothing is lost");
    // Years before its day it stays where it is; what is past retention goes.
    upkeep_now(&app).await;
    assert_eq!(count(&store, "SELECT count(*) FROM verdicts").await, 3);
    assert_eq!(store.strays(Parted::Verdicts).await.expect("a count"), 1);
    // On its day it is moved; what is older than retention by then is dropped.
    clock.advance(far - noon() + TimeDelta::hours(1));
    upkeep_now(&app).await;
    assert_eq!(store.strays(Parted::Verdicts).await.expect("a count"), 0);
    let left: Vec<DateTime<Utc>> =
        sqlx::query_scalar("SELECT created_at FROM verdicts").fetch_all(store.pool()).await.expect("they can be read");
    assert_eq!(left, [far]);
}

#[tokio::test]
async fn sessions_and_replays_go_row_by_row() {
    let (service, clock) = service(config(&[ANSWERED])).await;
    let (app, store) = (&service.app, &service.app.store);
    service.stop(Duration::from_secs(5)).await;
    // Of each kind one that is over, one that is over and still needed, and one of now.
    let rows = "INSERT INTO sessions (id, session, labels, first_seen_at, last_seen_at, due_at)
         SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 's-' || n, '{}', at, at, CASE WHEN n = 2 THEN at END
         FROM unnest(ARRAY[1, 2, 3], ARRAY[$1, $1, $2]) AS u(n, at)";
    let turns =
        "INSERT INTO session_traces (session_id, trace_id, started_at, decided_at, kept, rule, probability, randomness,
                                     threshold, randomness_source)
         SELECT id, 't', last_seen_at, last_seen_at, true, 'r', 1, 1, 1, 'hash' FROM sessions WHERE $1 < $2";
    let replays =
        "INSERT INTO replay_verdicts (id, trace_id, rubric, rubric_version, outcome, inclusion_probability, cost_usd,
                                      created_at, body, canary)
         SELECT gen_random_uuid(), 't-' || n, 'r', 'v', 'scored', 1, 0, at, '{}', n = 2
         FROM unnest(ARRAY[1, 2, 3], ARRAY[$1, $1, $2]) AS u(n, at)";
    for sql in [rows, turns, replays] {
        let (old, new) = (noon() - TimeDelta::days(120), noon());
        sqlx::query(sql).bind(old).bind(new).execute(store.pool()).await.expect("rows");
    }
    retention::once(app, clock.now()).await.expect("upkeep goes");
    let left = async |sql: &'static str| -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(store.pool()).await.expect("they can be read")
    };
    assert_eq!(left("SELECT session FROM sessions ORDER BY 1").await, ["s-2", "s-3"]);
    assert_eq!(count(store, "SELECT count(*) FROM session_traces").await, 2, "turns go with their session");
    assert_eq!(left("SELECT trace_id FROM replay_verdicts ORDER BY 1").await, ["t-2", "t-3"], "canaries stay");
    let removed = &app.bench.metrics.retention.rows;
    assert_eq!(removed.with_label_values(&["sessions"]).get(), 1);
    assert_eq!(removed.with_label_values(&["replay_verdicts"]).get(), 1);
}

async fn insert_verdict(store: &Store, at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO verdicts (id, trace_id, rubric, rubric_version, kind, outcome, score, raw, passed, explanation, checks,
                               cost_usd, latency_ms, inclusion_probability, join_source, join_span_id, created_at)
         VALUES (gen_random_uuid(), 'by-hand', 'answered', 'v', 'boolean', 'scored', 1, 'null', true, '', '{}', 0, 0, 1,
                 'native', '', $1)",
    )
    .bind(at)
    .execute(store.pool())
    .await
    .expect("an insert never fails for want of a partition");
}

#[tokio::test]
async fn many_processes_may_do_upkeep_at_once() {
    let (service, clock) = service(config(&[ANSWERED])).await;
    let app = &service.app;
    for _ in 0..3 {
        let all = join_all((0..8).map(|_| upkeep::once(app, true))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        clock.advance(TimeDelta::days(100));
    }
    upkeep_now(app).await;
    let found = app.store.partitions().await.expect("they can be read");
    for of in Parted::ALL {
        let days: Vec<_> = found.iter().filter(|p| p.of == of).map(|p| p.starts_at.expect("a day")).collect();
        let ahead = (0..=DAYS_AHEAD).map(|n| app.bench.clock.now() + TimeDelta::days(n.into()));
        let mut wanted: Vec<_> = ahead.map(|at| of.period(at).0).collect();
        wanted.dedup();
        assert_eq!(days, wanted, "{}: what today and the days ahead are in, each once", of.table());
    }
}

#[tokio::test]
async fn who_reads_a_day_for_long_keeps_it_and_nobody_else_waits_for_long() {
    let (service, clock) = service(config(&[ANSWERED])).await;
    let (app, store) = (&service.app, &service.app.store);
    upkeep_now(app).await;
    // A partition of which somebody reads for long.
    let found = store.partitions().await.expect("they can be read");
    let today =
        |p: &&Partition| p.of == Parted::Verdicts && p.touches(clock.now(), clock.now() + TimeDelta::seconds(1));
    let old = found.iter().find(today).expect("upkeep has made it").clone();
    let mut reader = store.pool().begin().await.expect("a transaction");
    reader.execute("SELECT count(*) FROM verdicts").await.expect("a count");
    let start = Instant::now();
    let (change, slowest) = tokio::join!(store.drop_partition(&old), async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let start = Instant::now();
            insert_verdict(store, clock.now()).await;
            slowest = slowest.max(start.elapsed());
        }
        slowest
    });
    assert_eq!(change.expect("being busy is no error"), Change::Busy);
    assert!(start.elapsed() < Duration::from_secs(5) && slowest < Duration::from_secs(2), "{slowest:?}");
    reader.rollback().await.expect("it ends");
    assert!(matches!(store.drop_partition(&old).await.expect("it goes now"), Change::Done(bytes) if bytes > 0));
    assert_eq!(store.drop_partition(&old).await.expect("it is gone"), Change::Needless);
}

#[tokio::test]
async fn doctor_tells_of_partitions_that_nobody_makes_or_drops() {
    let url = database().await;
    let store = Store::connect(&url, 2, Duration::from_secs(5)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let findings = async || -> Vec<(String, bool, String)> {
        let ran = run(&["doctor", "--json"], &[("DATABASE_URL", url.expose_secret())]).await;
        let report: Value = serde_json::from_str(&ran.out).expect("JSON");
        let said = report["findings"].as_array().expect("a list").iter().map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            (word("what"), finding["ok"].as_bool().expect("yes or no"), word("detail"))
        });
        said.filter(|(name, ..)| name.contains("partition") || name.contains("_default")).collect()
    };
    let now = Utc::now();
    assert_eq!(findings().await.len(), 1, "tables as they are at first");
    assert!(findings().await[0].1, "which is fine: `serve` makes partitions at start");
    // Nobody has run for long, and somebody's clock was wrong.
    store.make_partition(Parted::Votes, now - TimeDelta::days(200)).await.expect("it goes");
    insert_verdict(&store, now + TimeDelta::days(400)).await;
    let told = findings().await;
    let has = |name: &str, words: &str| told.iter().any(|(n, ok, detail)| n == name && !ok && detail.contains(words));
    assert!(has("partitions", "today has none"), "{told:?}");
    assert!(has("verdicts_default", "1 rows are in no partition"), "{told:?}");
    assert!(has("partitions of votes", "past retention and still there: votes_p"), "{told:?}");
    let app = App::build(config(&[ANSWERED]), store.clone(), Arc::new(SystemClock)).await.expect("valid");
    upkeep_now(&app).await;
    let told = findings().await;
    assert!(told.iter().any(|(n, ok, detail)| n == "partitions" && *ok && detail.contains("4 days ahead")), "{told:?}");
    assert_eq!(told.iter().filter(|(_, ok, _)| !ok).count(), 1, "the row of the future stays until its time: {told:?}");
}

/// A job that is there without a worker.
async fn job(store: &Store, at: DateTime<Utc>) {
    sqlx::query(
        "INSERT INTO jobs (id, trace_id, rubric, rubric_version, inclusion_probability, visible_at, enqueued_at, deadline_at)
         VALUES ($1, 'one', 'judged', 'v', 1, $2, $2, $2 + interval '1 day')",
    )
    .bind(Uuid::from_u128(1))
    .bind(at)
    .execute(store.pool())
    .await
    .expect("it can be stored");
}

#[tokio::test]
async fn a_job_settled_in_two_partitions_leaves_one_verdict() {
    let url = database().await;
    let store = Store::connect(&url, 2, Duration::from_secs(5)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    // A Saturday and the Monday after it.
    let days = [noon(), noon() + TimeDelta::days(2)];
    for day in days {
        assert_eq!(store.make_partition(Parted::Verdicts, day).await.expect("it goes"), Change::Done(0));
    }
    job(&store, days[0]).await;
    let lease_for = TimeDelta::minutes(1);
    let verdict = |lease: &Lease<Job>, at: DateTime<Utc>| -> Verdict {
        lease.item.unscored(Outcome::Expired, String::new(), TraceLabels::default(), at)
    };
    // The first worker is so slow that another has the job the next week: the key of the table would let both in.
    let slow =
        store.claim(uuid::Uuid::nil(), 1, lease_for, days[0]).await.expect("it can be claimed").pop().expect("a job");
    let quick = store
        .claim(uuid::Uuid::nil(), 1, lease_for, days[1])
        .await
        .expect("it can be claimed")
        .pop()
        .expect("the same job");
    let settle = async |lease: Lease<Job>, at| {
        let verdict = verdict(&lease, at);
        store.settle(&[(lease, verdict)], &["test"], TimeDelta::zero(), at).await.expect("it can be settled").len()
    };
    let twice = Lease { item: quick.item.clone(), token: quick.token, until: quick.until };
    assert_eq!(settle(quick, days[1]).await, 1);
    assert_eq!(settle(slow, days[0]).await, 0, "its lease is another's");
    assert_eq!(settle(twice, days[0]).await, 0, "the job is gone");
    assert_eq!(count(&store, "SELECT count(*) FROM verdicts").await, 1);
    assert_eq!(count(&store, "SELECT count(*) FROM outbox").await, 1);
}

#[tokio::test]
async fn rows_from_before_partitions_are_carried_over() {
    let url = database().await;
    let store = Store::connect(&url, 2, Duration::from_secs(5)).await.expect("the database is there");
    MIGRATOR.run_to(12, store.pool()).await.expect("the tables as they were");
    store
        .pool()
        .execute(
            "INSERT INTO traces (trace_id, decided_at, kept, rule, probability, randomness, threshold, randomness_source,
                                 span_count, body, stratum)
             SELECT 't-' || n, '2026-08-01T12:00:00Z'::timestamptz + n * interval '1 day', n % 2 = 0, 'r', 1, 1, 1, 'hash', 1,
                    CASE WHEN n % 2 = 0 THEN convert_to('{\"trace_id\": \"t-' || n || '\"}', 'UTF8') END, 's'
             FROM generate_series(0, 99) n;
             INSERT INTO verdicts (id, trace_id, rubric, rubric_version, kind, outcome, score, raw, passed, explanation,
                                   checks, cost_usd, latency_ms, inclusion_probability, join_source, join_span_id, created_at)
             SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 't-' || n, 'judged', 'v', 'boolean', 'scored', 1,
                    'null', true, 'well', '{}', 0, 0, 1, 'native', '', '2026-08-01T12:00:01Z'::timestamptz + n * interval '1 day'
             FROM generate_series(0, 98, 2) n;
             INSERT INTO votes (verdict_id, position, judge, model, score, body)
             SELECT id, p, 'a', 'm', 1, '{}' FROM verdicts, generate_series(0, 1) p;
             INSERT INTO outbox (id, sink, verdict_id, visible_at, created_at)
             SELECT gen_random_uuid(), 's', id, created_at, created_at + interval '3 days' FROM verdicts",
        )
        .await
        .expect("rows as they were");
    store.migrate().await.expect("they are carried over");
    assert_eq!(count(&store, "SELECT count(*) FROM traces WHERE body_bytes > 0").await, 50);
    assert_eq!(count(&store, "SELECT count(*) FROM traces").await, 100);
    let ids: Vec<String> = (0..100).map(|n| format!("t-{n}")).collect();
    let bodies = store.trace_bodies(&ids).await.expect("they can be read");
    assert_eq!(bodies.len(), 50);
    assert!(bodies.iter().all(|(id, body)| String::from_utf8_lossy(body).contains(&format!("\"{id}\""))));
    assert_eq!(
        count(
            &store,
            "SELECT count(*) FROM votes v JOIN verdicts d ON d.id = v.verdict_id AND d.created_at = v.created_at"
        )
        .await,
        100
    );
    assert_eq!(
        count(
            &store,
            "SELECT count(*) FROM outbox o JOIN verdicts d ON d.id = o.verdict_id AND d.created_at = o.verdict_at"
        )
        .await,
        50
    );
    assert_eq!(count(&store, "SELECT count(DISTINCT tx) FROM verdicts").await, 1, "counted once by who watches");
    for of in Parted::ALL {
        assert_eq!(store.strays(of).await.expect("a count"), 0);
    }
    // What comes now has days of its own; the old rows go when the last of them is past its retention, and not before.
    let newest: DateTime<Utc> = "2026-11-08T12:00:00Z".parse().expect("a time");
    let at = |now: DateTime<Utc>| {
        let store = store.clone();
        async move { App::build(config(&[ANSWERED]), store, Arc::new(ManualClock::at(now))).await.expect("valid") }
    };
    let app = at(newest + TimeDelta::days(89)).await;
    upkeep_now(&app).await;
    assert_eq!(count(&store, "SELECT count(*) FROM verdicts").await, 50);
    let app = at(newest + TimeDelta::days(92)).await;
    upkeep_now(&app).await;
    assert_eq!(count(&store, "SELECT count(*) FROM verdicts").await, 0);
    assert_eq!(count(&store, "SELECT count(*) FROM votes").await, 0);
}
