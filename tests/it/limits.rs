//! Limits of requests and tokens: learnt, kept, shared by workers, and lowered behind our back.

use crate::support::{JUDGED, Service, config, database, eventually, sim, traces, wait_for_verdicts, with_judges};
use assize::llm::sim::Faults;
use std::time::Instant;

fn different(prefix: &str, count: usize) -> Vec<serde_json::Value> {
    (0..count).map(|n| traces::trace(&format!("{prefix}-{n}"), &format!("Within {n} days."))).collect()
}

#[tokio::test]
async fn a_limit_is_learnt_from_headers_and_kept_without_a_429() {
    let (sim, base) = sim(Faults { rpm: Some(1_200), ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let service = Service::start(config).await;
    let start = Instant::now();
    service.send(&different("t", 100)).await;
    service.verdicts(100).await;
    let (stats, seconds) = (sim.stats(), start.elapsed().as_secs_f64());
    assert_eq!((stats.answered, stats.limited), (100, 0), "{stats:?}");
    assert!(seconds > 3.5, "100 requests at 20 a second in {seconds:.1} s");
    let limits = service.app.bench.judges.get("a").expect("it is there").pacer.limits();
    assert_eq!((limits.requests, limits.tokens), (Some(1_200.0), None));
}

#[tokio::test]
async fn tokens_a_minute_are_kept_too() {
    // A request has about 330 tokens by the simulated judge's count: 10 a second.
    let (sim, base) = sim(Faults { tpm: Some(200_000), ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let service = Service::start(config).await;
    service.send(&different("t", 60)).await;
    service.verdicts(60).await;
    let stats = sim.stats();
    assert_eq!(stats.answered, 60);
    assert!(stats.limited <= 2, "{stats:?}");
}

#[tokio::test]
async fn two_workers_share_one_limit_and_the_dead_ones_part_is_taken_over() {
    let (sim, base) = sim(Faults { rpm: Some(1_200), ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").requests_per_minute = Some(1_200);
    config.work.concurrency = 40;
    let url = database().await;
    let one = Service::start_on(&url, config.clone()).await;
    let two = Service::start_on(&url, config).await;
    one.send(&different("t", 200)).await;
    wait_for_verdicts(&one.app.store, 200).await;
    let stats = sim.stats();
    assert_eq!(stats.answered, 200);
    assert!(stats.limited <= 2, "{stats:?}");
    let share = |service: &Service| service.app.bench.judges.get("a").expect("it is there").pacer.share();
    eventually("both have a part, together the whole", || async {
        let (first, second) = (share(&one), share(&two));
        (first > 0.0 && second > 0.0 && (first + second - 1.0).abs() < 1e-9).then_some(())
    })
    .await;
    drop(two);
    eventually("a worker that stops gives its part back", || async { (share(&one) > 0.999).then_some(()) }).await;
    // One that is killed cannot: it is there until its row runs out.
    let key = (one.app.bench.judges.get("a").expect("it is there").endpoint(), "sim-a".to_owned());
    let times = (chrono::Utc::now(), chrono::Utc::now() + chrono::TimeDelta::seconds(4));
    let ghost = one.app.store.exchange_shares(uuid::Uuid::now_v7(), &[(key, 5.0)], times).await;
    assert_eq!(ghost.expect("it is stored").len(), 2);
    eventually("the killed one has its part", || async { (share(&one) < 0.99).then_some(()) }).await;
    eventually("its part is taken over", || async { (share(&one) > 0.999).then_some(()) }).await;
    one.send(&different("u", 40)).await;
    wait_for_verdicts(&one.app.store, 240).await;
    assert_eq!(sim.stats().answered, 240);
}

#[tokio::test]
async fn without_any_hint_429s_cost_no_attempt_and_nothing_is_lost() {
    let (sim, base) = sim(Faults { rpm: Some(1_800), hide_limits: true, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.attempts_max = 1;
    let service = Service::start(config).await;
    service.send(&different("t", 120)).await;
    let verdicts = service.verdicts(120).await;
    assert!(verdicts.iter().all(|v| v.score.is_some()));
    assert_eq!(sim.stats().answered, 120);
}

#[tokio::test]
async fn a_limit_that_is_halved_and_advertised_is_followed_at_once() {
    let (sim, base) = sim(Faults { rpm: Some(2_400), ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let service = Service::start(config).await;
    service.send(&different("t", 160)).await;
    eventually("some are judged", || async { (sim.stats().answered >= 40).then_some(()) }).await;
    sim.set_faults(Faults { rpm: Some(1_200), ..Faults::default() });
    service.verdicts(160).await;
    let stats = sim.stats();
    assert_eq!(stats.answered, 160);
    assert!(stats.limited <= 8, "{stats:?}");
}
