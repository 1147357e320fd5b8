//! The batch tier: half price through the provider's Batch API, direct questions when it does not answer.

use crate::support::{Service, config, eventually, sim, traces, with_judges};
use assize::domain::verdict::Outcome;
use assize::llm::sim::Faults;

const PATIENT: &str = "name: patient\npanel: default\nbatch_hours: 2\nprompt: \"{{ question }} {{ answer }}\"\n";

fn patient(base: &str, rubric: &str) -> assize::config::Config {
    let mut config = config(&[rubric]);
    with_judges(&mut config, base, &["a"]);
    config.judges.get_mut("a").expect("it is there").batch = true;
    config.work.batch_wait_seconds = 0;
    config.work.batch_poll_ms = 50;
    config
}

fn different(count: usize) -> Vec<serde_json::Value> {
    (0..count).map(|n| traces::trace(&format!("t-{n}"), &format!("Within {n} days."))).collect()
}

#[tokio::test]
async fn what_is_not_urgent_is_answered_in_a_batch_at_half_price() {
    let (sim, base) = sim(Faults { batch_ms: 300, ..Faults::default() }).await;
    let service = Service::start(patient(&base, PATIENT)).await;
    service.send(&different(20)).await;
    let verdicts = service.verdicts(20).await;
    let stats = sim.stats();
    assert_eq!((stats.batched, stats.answered), (20, 20), "{stats:?}");
    for verdict in &verdicts {
        let vote = &verdict.votes[0];
        assert!(verdict.outcome == Outcome::Scored && vote.batched && vote.error.is_none(), "{vote:?}");
        let full = (vote.tokens.input as f64 * 1.0 + vote.tokens.output as f64 * 4.0) / 1e6;
        assert!((vote.cost_usd - full / 2.0).abs() < 1e-12, "half price");
    }
}

#[tokio::test]
async fn what_the_batch_does_not_answer_is_asked_directly() {
    let (sim, base) = sim(Faults { batch_ms: 100, error_rate: 0.3, ..Faults::default() }).await;
    let service = Service::start(patient(&base, PATIENT)).await;
    service.send(&different(30)).await;
    let verdicts = service.verdicts(30).await;
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored));
    let direct = verdicts.iter().filter(|v| !v.votes[0].batched).count();
    assert!((1..25).contains(&direct), "{direct} of 30 asked directly");
    assert_eq!(sim.stats().answered, 30, "each was paid for once");
}

#[tokio::test]
async fn a_batch_that_takes_too_long_is_given_up_for_direct_questions() {
    let (sim, base) = sim(Faults { batch_ms: 3_600_000, ..Faults::default() }).await;
    // A little more than a second.
    let service = Service::start(patient(&base, &PATIENT.replace("2\n", "0.0004\n"))).await;
    service.send(&different(5)).await;
    let verdicts = service.verdicts(5).await;
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored && !v.votes[0].batched));
    assert_eq!(sim.stats().batched, 0);
    eventually("the batch is cancelled and forgotten", || async {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM batches").fetch_one(service.app.store.pool()).await.ok()?;
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_batches_cost_is_counted_once_whether_they_answer_or_not() {
    let (sim, base) = sim(Faults { batch_ms: 100, error_rate: 0.3, ..Faults::default() }).await;
    let mut config = patient(&base, PATIENT);
    let every = "name = \"daily\"\nper = \"rubric\"\nusd_per_day = 10.0\n";
    config.budgets = vec![toml::from_str(every).expect("a budget")];
    let service = Service::start(config).await;
    service.send(&different(30)).await;
    let verdicts = service.verdicts(30).await;
    assert!(sim.stats().batched > 0 && verdicts.iter().any(|v| !v.votes[0].batched), "some of both");
    let cost: f64 = verdicts.iter().map(|v| v.cost_usd).sum();
    eventually("the spend is what the verdicts cost", || async {
        let rows = service.app.store.spend(chrono::Utc::now()).await.ok()?;
        let spent: f64 = rows.iter().map(|row| row.amount.usd).sum();
        ((spent - cost).abs() < 1e-9 && cost > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_is_there_is_taken_while_its_judge_is_paused() {
    let (sim, base) = sim(Faults { batch_ms: 2_000, ..Faults::default() }).await;
    let service = Service::start(patient(&base, PATIENT)).await;
    service.send(&different(3)).await;
    eventually("all questions are under way", || async {
        let asked: i64 = sqlx::query_scalar("SELECT count(*) FROM batch_items WHERE batch_id IS NOT NULL")
            .fetch_one(service.app.store.pool())
            .await
            .ok()?;
        (asked == 3).then_some(())
    })
    .await;
    let judge = service.app.bench.judges.get("a").expect("it is there");
    judge.pause("a test", chrono::Utc::now());
    let verdicts = service.verdicts(3).await;
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored && v.votes[0].batched));
    assert!(judge.pause_now().is_some(), "nobody asked, so nobody knows whether it answers again");
    assert_eq!((sim.stats().requests, verdicts[0].votes[0].attempts), (3, 1));
    assert!(!verdicts[0].votes[0].prompt_hash.is_empty() && !verdicts[0].votes[0].rung.is_empty());
}
