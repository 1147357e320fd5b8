//! The same question gets the same answer, once paid: identical traffic, other judges, time and number.

use crate::support::{JUDGED, Service, config, sim, traces, with_judges};
use assize::llm::sim::Faults;
use chrono::{TimeDelta, Utc};

#[tokio::test]
async fn identical_traffic_is_judged_once_and_hits_are_marked() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a", "b"]);
    config.work.cache_seconds = 3_600;
    let service = Service::start(config).await;
    service.send(&traces::many("first", 1)).await;
    let first = service.verdicts(1).await.remove(0);
    service.send(&traces::many("again", 20)).await;
    service.send(&[traces::trace("other", "Another answer.")]).await;
    let verdicts = service.verdicts(22).await;
    assert_eq!(sim.stats().requests, 4, "two judges, two different answers");
    for verdict in verdicts.iter().filter(|v| v.trace_id.starts_with("again")) {
        assert_eq!((verdict.score, verdict.votes.len()), (first.score, 2));
        assert!(verdict.votes.iter().all(|v| v.cached && v.attempts == 0), "hits are marked");
        assert!(verdict.cost_usd.abs() < f64::EPSILON, "and cost nothing");
    }
    assert!(first.votes.iter().all(|v| !v.cached) && first.cost_usd > 0.0);
}

#[tokio::test]
async fn the_cache_is_bounded_by_time_and_number() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.cache_seconds = 3_600;
    let service = Service::start(config).await;
    let different: Vec<_> = (0..10).map(|n| traces::trace(&format!("t{n}"), &format!("Answer {n}."))).collect();
    service.send(&different).await;
    let verdicts = service.verdicts(10).await;
    let key = verdicts[0].votes[0].cache_key.clone();
    let store = &service.app.store;
    let later = Utc::now() + TimeDelta::hours(2);
    assert_eq!(store.cached_votes(std::slice::from_ref(&key), Utc::now()).await.expect("it can").len(), 1);
    assert!(store.cached_votes(&[key], later).await.expect("it can").is_empty(), "too old to be used");
    assert_eq!(store.trim_vote_cache(4, 100, Utc::now()).await.expect("it can"), 6, "beyond the newest four");
    assert_eq!(store.trim_vote_cache(4, 100, later).await.expect("it can"), 4, "too old to be kept");
    assert_eq!(sim.stats().requests, 10);
}

#[tokio::test]
async fn a_failed_vote_is_never_cached() {
    let (sim, base) = sim(Faults { garbage_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.cache_seconds = 3_600;
    config.work.attempts_max = 1;
    let service = Service::start(config).await;
    service.send(&traces::many("bad", 1)).await;
    service.verdicts(1).await;
    sim.set_faults(Faults::default());
    service.send(&traces::many("good", 1)).await;
    let verdicts = service.verdicts(2).await;
    assert_eq!(verdicts.iter().filter(|v| v.score.is_some()).count(), 1);
}
