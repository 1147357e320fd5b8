//! Budgets: never exceeded, shared by workers, and less is sampled near their end.

use crate::support::{JUDGED, Service, config, database, eventually, sim, traces, wait_for_verdicts, with_judges};
use assize::config::{Budget, Per};
use assize::domain::clock::{Clock, ManualClock, SystemClock};
use assize::domain::verdict::Outcome;
use assize::llm::sim::Faults;
use chrono::TimeDelta;
use std::sync::Arc;

fn budget(per: Per, tokens_per_hour: u64) -> Budget {
    Budget {
        name: "hourly".to_owned(),
        per,
        only: assize::domain::policy::Patterns::default(),
        usd_per_hour: None,
        usd_per_day: None,
        tokens_per_hour: Some(tokens_per_hour),
        tokens_per_day: None,
        lower_at: 0.9,
    }
}

fn for_tenant(tenant: &str, prefix: &str, count: usize) -> Vec<serde_json::Value> {
    let mut all = traces::many(prefix, count);
    for trace in &mut all {
        trace["tenant"] = serde_json::json!(tenant);
    }
    all
}

#[tokio::test]
async fn two_workers_never_spend_more_than_the_budget_and_say_over_budget() {
    let (_, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").output_tokens_max = Some(100);
    config.work.concurrency = 4;
    config.budgets = vec![budget(Per::All, 10_000)];
    let url = database().await;
    let one = Service::start_on(&url, config.clone()).await;
    let _two = Service::start_on(&url, config).await;
    one.send(&traces::many("t", 80)).await;
    let verdicts = wait_for_verdicts(&one.app.store, 80).await;
    let spent: u64 = verdicts.iter().flat_map(|v| &v.votes).map(|v| v.tokens.input + v.tokens.output).sum();
    let scored = verdicts.iter().filter(|v| v.outcome == Outcome::Scored).count();
    assert!(spent <= 10_000, "{spent} tokens of 10,000");
    assert!(spent > 7_000, "{spent} of 10,000: nearly all of it is used, {scored} scored");
    for verdict in verdicts.iter().filter(|v| v.outcome == Outcome::OverBudget) {
        assert!(verdict.score.is_none() && verdict.explanation.contains("budget `hourly`"), "{}", verdict.explanation);
    }
    let over = verdicts.iter().filter(|v| matches!(v.outcome, Outcome::OverBudget | Outcome::SampledOut)).count();
    assert_eq!(scored + over, 80);
}

#[tokio::test]
async fn a_tenants_budget_is_its_own_and_the_next_hour_begins_anew() {
    let (_, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").output_tokens_max = Some(100);
    config.budgets = vec![Budget { lower_at: 0.99, ..budget(Per::Tenant, 1_500) }];
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let service = Service::start_at(&database().await, config, shared).await;
    let judged = async |tenant: &str, all: usize| {
        clock.advance(TimeDelta::seconds(1));
        let verdicts = service.verdicts(all).await;
        verdicts.iter().filter(|v| v.trace_id.starts_with(tenant) && v.outcome == Outcome::Scored).count()
    };
    service.send(&for_tenant("big", "big", 20)).await;
    let first = judged("big", 20).await;
    assert!((1..20).contains(&first), "{first} of 20");
    service.send(&for_tenant("small", "small", 1)).await;
    assert_eq!(judged("small", 21).await, 1, "another tenant's budget is untouched");
    clock.advance(TimeDelta::hours(1));
    eventually("the old hour is forgotten by the sampler", || async {
        let labels = assize::domain::verdict::TraceLabels { tenant: Some("big".to_owned()), ..Default::default() };
        service.app.bench.ledger.rate("judged", &labels, clock.now()).is_none().then_some(())
    })
    .await;
    service.send(&for_tenant("big", "again", 1)).await;
    assert_eq!(judged("again", 22).await, 1, "a new hour");
}

#[tokio::test]
async fn near_the_end_less_is_sampled_and_the_inclusion_probability_says_so() {
    let (_, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").output_tokens_max = Some(100);
    config.budgets = vec![Budget { lower_at: 0.1, ..budget(Per::Rubric, 20_000) }];
    let service = Service::start(config).await;
    service.send(&traces::many("first", 20)).await;
    service.verdicts(20).await;
    let labels = assize::domain::verdict::TraceLabels::default();
    let (rate, name) = eventually("the rate is lowered", || async {
        service.app.bench.ledger.rate("judged", &labels, chrono::Utc::now())
    })
    .await;
    assert!(rate < 1.0 && name == "hourly", "{rate}");
    service.send(&traces::many("second", 40)).await;
    let verdicts = service.verdicts(60).await;
    let second: Vec<_> = verdicts.iter().filter(|v| v.trace_id.starts_with("second")).collect();
    let left_out = second.iter().filter(|v| v.outcome == Outcome::SampledOut).count();
    assert!(left_out > 0 && left_out < 40, "{left_out} of 40 at a rate of {rate}");
    assert!(second.iter().all(|v| v.inclusion_probability < 1.0 && v.inclusion_probability > 0.0));
    let why = &second.iter().find(|v| v.outcome == Outcome::SampledOut).expect("there are some").explanation;
    assert!(why.contains("budget `hourly` is nearly spent"), "{why}");
}
