//! Every queue, body, wait and prompt has a bound, and reaching it is said.

use crate::support::{ANSWERED, JUDGED, Service, config, eventually, sim, traces, with_judges};
use assize::domain::verdict::Outcome;
use assize::llm::sim::Faults;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_body_over_the_limit_is_413_before_and_after_unpacking() {
    let mut config = config(&[ANSWERED]);
    config.server.body_bytes_max = 1_000;
    let service = Service::start(config).await;
    let json = [("content-type", "application/json")];
    let (status, answer) = service.post("/v1/traces", &json, vec![b' '; 2_000]).await;
    assert_eq!(status, 413);
    assert!(String::from_utf8_lossy(&answer).contains("body_bytes_max"));
    let bomb = zstd::encode_all(&vec![b' '; 1 << 20][..], 1).expect("memory can be written");
    assert!(bomb.len() < 1_000);
    let packed = [("content-type", "application/json"), ("content-encoding", "zstd")];
    assert_eq!(service.post("/v1/traces", &packed, bomb).await.0, 413);
    assert_eq!(service.post("/api/v1/traces", &json, vec![b' '; 2_000]).await.0, 413);
}

#[tokio::test]
async fn over_the_backlog_senders_are_told_to_come_back() {
    let (sim, judge) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judge, &["a"]);
    config.work.attempts_max = 100;
    config.ingest.backlog_max = 10;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 15)).await;
    // The judge hangs, so the jobs stay; the count that the door goes by is taken every other second.
    let body = crate::support::fixture_bytes("openinference-openai.pb");
    let url = format!("{}/v1/traces", service.base);
    let refused = crate::support::eventually("the door is closed", || async {
        let request = service.http.post(&url).header("content-type", "application/x-protobuf").body(body.clone());
        request.send().await.ok().filter(|response| response.status() == 429)
    })
    .await;
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(service.post("/api/v1/traces", &[], traces::trace("u", "x").to_string()).await.0, 429);
    sim.set_faults(Faults::default());
    crate::support::eventually("it is open again", || async {
        (service.post("/api/v1/traces", &[], traces::trace("u", "x").to_string()).await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn over_the_pending_limit_senders_get_503() {
    let mut config = config(&[ANSWERED]);
    config.ingest.pending_bytes_max = 5 * 1024;
    config.ingest.batch_wait_ms = 300;
    let service = Service::start(config).await;
    let send = |n: usize| {
        let body = traces::trace(&format!("t{n}"), "Yes, within 30 days.").to_string();
        let service = &service;
        async move { service.post("/api/v1/traces", &[], body).await.0 }
    };
    let answers = futures_util::future::join_all((0..20).map(send)).await;
    let (taken, refused) =
        (answers.iter().filter(|s| **s == 200).count(), answers.iter().filter(|s| **s == 503).count());
    assert_eq!(taken + refused, 20, "{answers:?}");
    assert!((1..20).contains(&refused), "{answers:?}");
    // What was answered with 200 is there, and only that.
    service.verdicts(taken).await;
}

#[tokio::test]
async fn too_much_text_and_too_small_a_window_are_outcomes_not_cuts() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED, "name: narrow\npanel: [b]\nprompt: \"{{ answer }}\"\n"]);
    with_judges(&mut config, &base, &["b"]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("b").expect("it is there").window_tokens = 2_000;
    config.work.input_bytes_max = 20_000;
    let service = Service::start(config).await;
    service
        .send(&[traces::trace("huge", &"word ".repeat(10_000)), traces::trace("wide", &"word ".repeat(2_000))])
        .await;
    let verdicts = service.verdicts(4).await;
    let of = |id: &str, rubric: &str| {
        let found = verdicts.iter().find(|v| v.trace_id == id && v.rubric == rubric).expect("a verdict each");
        (found.outcome, found.explanation.clone())
    };
    let (outcome, why) = of("huge", "judged");
    assert_eq!(outcome, Outcome::TooLarge);
    assert!(why.contains("input_bytes_max"), "{why}");
    let (outcome, why) = of("wide", "narrow");
    assert_eq!(outcome, Outcome::TooLarge);
    assert!(why.contains("window_tokens"), "{why}");
    assert_eq!(of("wide", "judged").0, Outcome::Scored);
    assert_eq!(sim.stats().requests, 1, "nothing is sent that does not fit");
}

#[tokio::test]
async fn a_job_that_waited_too_long_is_expired() {
    let mut config = config(&[ANSWERED]);
    config.work.job_seconds_max = 0;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 1)).await;
    let verdict = service.verdicts(1).await.remove(0);
    assert_eq!((verdict.outcome, verdict.score), (Outcome::Expired, None));
}

#[tokio::test]
async fn no_more_is_claimed_than_can_be_evaluated() {
    let (sim, base) = sim(Faults { latency_ms: 100, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.concurrency = 3;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 20)).await;
    let most = std::sync::atomic::AtomicI64::new(0);
    crate::support::eventually("some are judged", || async {
        most.fetch_max(service.app.bench.metrics.in_hand.get(), Ordering::Relaxed);
        (sim.stats().answered >= 12).then_some(())
    })
    .await;
    let most = most.load(Ordering::Relaxed);
    assert!((1..=3).contains(&most), "{most} jobs were in hand at once");
    service.verdicts(20).await;
}

#[tokio::test]
async fn an_oversized_trace_is_not_read_and_can_be_looked_up() {
    let mut config = config(&[ANSWERED]);
    config.assembly.trace_bytes_max = 20_000;
    config.assembly.batch_bytes_max = 3_000;
    let service = Service::start(config).await;
    service.send(&[traces::trace("huge", &"word ".repeat(10_000))]).await;
    service.send(&traces::many("t", 12)).await;
    service.verdicts(12).await;
    assert_eq!(service.get("/api/v1/traces/huge").await["state"], "too_large");
}

/// Half as many again are claimed as are evaluated, no more; and a stop gives all of them back at once, with their attempts.
#[tokio::test]
async fn what_is_claimed_ahead_is_bounded_and_given_back_at_a_stop() {
    let (sim, base) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.concurrency = 2;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 10)).await;
    let store = &service.app.store;
    let now = || service.app.bench.clock.now();
    eventually("three are claimed, seven are ready", || async {
        let stats = store.queue_stats(now()).await.ok()?;
        (stats.leased == 3 && stats.ready == 7).then_some(())
    })
    .await;
    eventually("two are asked about", || async { (sim.stats().requests == 2).then_some(()) }).await;
    assert_eq!(service.app.bench.metrics.in_hand.get(), 2);
    service.stop(std::time::Duration::ZERO).await;
    let stats = store.queue_stats(now()).await.expect("it can be read");
    assert_eq!((stats.ready, stats.leased, stats.delayed), (10, 0, 0));
    let leases =
        store.claim(service.app.worker, 10, chrono::TimeDelta::seconds(60), now()).await.expect("they can be claimed");
    assert!(leases.iter().all(|lease| lease.item.attempts == 1), "no attempt was lost: this claim is the first");
}
