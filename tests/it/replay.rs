//! Stored traces judged again by another version: what it would cost, that it is done once, and that nothing live sees it.

use crate::support::program::assize;
use crate::support::{JUDGED, PATIENCE, Service, config, database, eventually, sim, traces, with_judges};
use assize::app::Bench;
use assize::config::Config;
use assize::domain::clock::SystemClock;
use assize::domain::rubric::Rubric;
use assize::llm::sim::Faults;
use assize::pipeline::replay::{outcome, replay};
use assize::rubrics::parse::rubric;
use assize::store::replay::ReplayFilter;
use chrono::{TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The rubric with another pass mark: another version, the same question.
fn stricter(config: &Config) -> Arc<Rubric> {
    let text = format!("{JUDGED}pass: 0.99\n");
    Arc::new(rubric(Path::new("judged.yaml"), &text, &config.panels).expect("valid"))
}

fn filter() -> ReplayFilter {
    let now = Utc::now();
    ReplayFilter {
        rubric: "judged".to_owned(),
        since: now - TimeDelta::hours(1),
        until: now + TimeDelta::hours(1),
        limit: 100,
        ..ReplayFilter::default()
    }
}

#[tokio::test]
async fn stored_traces_are_judged_again_once_and_beside_the_live_verdicts() {
    let (judge, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a", "b"]);
    config.work.cache_seconds = 3_600;
    let service = Service::start(config.clone()).await;
    let store = &service.app.store;
    service.send(&traces::many("t", 6)).await;
    service.verdicts(6).await;
    let asked = judge.stats().requests;
    let rubric = stricter(&config);
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), Some(store.clone())).expect("valid");
    let desk = (&bench, store);

    let plan = replay(desk, &rubric, &filter(), false).await.expect("a plan");
    assert_eq!((plan.fitting, plan.taken, plan.to_judge, plan.known), (6, 6, 6, 0));
    assert_eq!((plan.cost.reckoned, plan.cost.votes), (6, 12));
    assert!(plan.cost.usd.is_some_and(|usd| usd > 0.0), "{plan:?}");
    assert_eq!(store.replay_waiting("judged", &rubric.version).await.expect("a count"), 0, "a dry run does nothing");

    assert_eq!(replay(desk, &rubric, &filter(), true).await.expect("it goes").to_judge, 6);
    let done = eventually("all are judged again", || async {
        let found = outcome(store, &rubric).await.ok()?;
        (found.waiting == 0 && found.pairs.len() == 6).then_some(found)
    })
    .await;
    assert!(done.pairs.iter().all(|p| p.old_passed == Some(true) && p.passed == Some(false)), "{:?}", done.pairs);
    let compared = done.passing.expect("pairs");
    assert_eq!((compared.n, compared.first_only, compared.second_only), (6, 0, 6));
    assert!(judge.stats().requests >= asked, "the simulated judge answered, or the cache did");

    // Nothing live has changed.
    assert_eq!(service.verdicts(6).await.len(), 6);
    let again = replay(desk, &rubric, &filter(), true).await.expect("it goes");
    assert_eq!((again.to_judge, again.known), (0, 6), "what was judged is not judged again");
    let few = ReplayFilter { limit: 2, ..filter() };
    let plan = replay(desk, &rubric, &few, false).await.expect("a plan");
    assert_eq!((plan.fitting, plan.taken), (6, 2));
    let none = ReplayFilter {
        labels: assize::domain::verdict::TraceLabels { feature: Some("other".to_owned()), ..Default::default() },
        ..filter()
    };
    assert_eq!(replay(desk, &rubric, &none, false).await.expect("a plan").fitting, 0);
}

#[tokio::test]
async fn what_is_fresh_is_judged_first() {
    let (_judge, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&traces::many("old", 3)).await;
    service.verdicts(3).await;
    service.stop(Duration::from_secs(5)).await;
    let store = &service.app.store;
    let rubric = stricter(&config);
    let bench = Bench::without_rubrics(config, Arc::new(SystemClock), Some(store.clone())).expect("valid");
    replay((&bench, store), &rubric, &filter(), true).await.expect("it goes");
    let now = Utc::now() + TimeDelta::seconds(1);
    let stats = store.queue_stats(now).await.expect("counts");
    assert_eq!((stats.ready, stats.replays), (0, 3), "nobody is alarmed by what may wait");
    assert_eq!(store.backlog(100).await.expect("a count"), 0, "and the door stays open");
    let claimed = store.claim(uuid::Uuid::nil(), 10, TimeDelta::minutes(1), now).await.expect("leases");
    assert!(claimed.len() == 3 && claimed.iter().all(|lease| lease.item.replay), "nothing fresh waits");
}

#[tokio::test]
async fn the_command_says_what_it_would_cost_before_it_does_anything() {
    let (_judge, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&traces::many("t", 4)).await;
    service.verdicts(4).await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("assize.toml");
    std::fs::write(&file, config.redacted()).expect("it can be written");
    let edited = dir.path().join("judged.yaml");
    std::fs::write(&edited, format!("{JUDGED}pass: 0.99\n")).expect("it can be written");
    let (file, edited) = (file.display().to_string(), edited.display().to_string());
    let run = async |more: &[&str]| -> (Option<i32>, String) {
        let args = [&["replay", "--config", &file, "--rubric", &edited][..], more].concat();
        let mut command = assize(&args);
        command.env("DATABASE_URL", url.expose_secret());
        let ran = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("it runs");
        (ran.status.code(), format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)))
    };
    let (code, said) = run(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 to judge") && said.contains("nothing is enqueued; --yes does it"), "{said}");
    let (_, said) = run(&["--yes"]).await;
    assert!(said.contains("4 job(s) are enqueued"), "{said}");
    let report: Value = eventually("all are judged again", || async {
        let (_, said) = run(&["--result", "--json"]).await;
        let report: Value = serde_json::from_str(&said).ok()?;
        (report["waiting"] == 0 && report["pairs"].as_array()?.len() == 4).then_some(report)
    })
    .await;
    assert_eq!(report["passing"]["n"], 4, "{report}");
    let (_, said) = run(&["--result"]).await;
    assert!(said.contains("4 judged again (4 scored), 0 wait") && said.contains("4 now fail that passed"), "{said}");
    let (code, said) = run(&["--since", "yesterday"]).await;
    assert!(code == Some(2) && said.contains("no age as in"), "{said}");
}
