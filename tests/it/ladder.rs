//! The structured-output ladder against endpoints that can do less and less, and what is remembered of them.

use crate::support::{JUDGED, Service, config, database, eventually, sim, traces, with_judges};
use assize::domain::rung::{Parameter, Rung};
use assize::domain::verdict::Outcome;
use assize::llm::sim::Faults;

const BOOLEAN: &str = "name: boolean\npanel: default\noutput: {type: boolean}\nprompt: \"{{ answer }}\"\n";
const LABELS: &str = "name: labels\npanel: default\noutput: {type: category, values: {polite: 1, rude: 0}}\n\
                      prompt: \"{{ answer }}\"\n";

fn refusing(names: &[&str]) -> Faults {
    Faults { refuse: names.iter().map(|n| (*n).to_owned()).collect(), ..Faults::default() }
}

#[tokio::test]
async fn every_endpoint_gives_verdicts_on_the_best_rung_that_it_takes() {
    for (refused, rung) in [
        (vec![], "json_schema"),
        (vec!["json_schema"], "tool"),
        (vec!["json_schema", "tools"], "json_object"),
        (vec!["json_schema", "tools", "json_object"], "json_text"),
    ] {
        let (sim, base) = sim(refusing(&refused)).await;
        let mut config = config(&[JUDGED, BOOLEAN, LABELS]);
        with_judges(&mut config, &base, &["a"]);
        config.work.concurrency = 1;
        let service = Service::start(config).await;
        service.send(&traces::many("t", 4)).await;
        let verdicts = service.verdicts(12).await;
        for verdict in &verdicts {
            assert_eq!(verdict.outcome, Outcome::Scored, "{refused:?}: {}", verdict.explanation);
            assert_eq!(verdict.votes[0].rung, rung, "{refused:?}");
        }
        // Learnt once: each refused form costs one request, not one a job.
        let stats = sim.stats();
        assert_eq!(stats.requests, 12 + refused.len() as u64, "{refused:?}: {stats:?}");
    }
}

#[tokio::test]
async fn refused_parameters_are_left_out_and_remembered_for_the_next_process() {
    let (sim, base) = sim(refusing(&["temperature", "max_tokens", "json_schema"])).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.concurrency = 1;
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&traces::many("t", 3)).await;
    let verdicts = service.verdicts(3).await;
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored && v.votes[0].rung == "tool"));
    assert_eq!(verdicts[0].votes[0].params["left_out"], serde_json::json!(["temperature", "max_tokens"]));
    let known = eventually("it is remembered", || async {
        // What was learnt first may be stored before the rest.
        let known = service.app.store.endpoint_traits().await.ok()?;
        known.iter().any(|(.., traits)| traits.rung == Rung::Tool).then_some(known)
    })
    .await;
    let (_, model, traits) = &known[0];
    assert_eq!((model.as_str(), traits.rung), ("sim-a", Rung::Tool));
    assert!(traits.refused.contains(&Parameter::Temperature) && traits.refused.contains(&Parameter::MaxTokens));
    drop(service);
    let before = sim.stats().requests;
    let next = Service::start_on(&url, config).await;
    eventually("the next process knows it", || async {
        let judge = next.app.bench.judges.get("a")?;
        (judge.traits(chrono::Utc::now()).rung == Rung::Tool).then_some(())
    })
    .await;
    next.send(&traces::many("u", 3)).await;
    next.verdicts(6).await;
    assert_eq!(sim.stats().requests, before + 3, "nothing was learnt a second time");
}

#[tokio::test]
async fn an_endpoint_that_refuses_something_else_is_a_judge_error_at_once() {
    let (sim, base) = sim(refusing(&["messages"])).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let service = Service::start(config).await;
    service.send(&traces::many("t", 1)).await;
    let verdict = service.verdicts(1).await.remove(0);
    assert_eq!((verdict.outcome, verdict.score), (Outcome::JudgeError, None));
    assert!(verdict.explanation.contains("rejected"), "{}", verdict.explanation);
    assert_eq!(sim.stats().requests, 1);
}
