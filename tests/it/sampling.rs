//! Sampling as a service: steps that workers share, decisions that can be replayed, samplers before us, feedback, tallies.

use crate::support::{ANSWERED, Service, config, database, eventually, traces};
use assize::config::Config;
use assize::domain::clock::{Clock, ManualClock};
use assize::domain::limit::{Boost, Ceiling, Feedback, Floor};
use assize::domain::policy::{Matcher, SampleDecision};
use assize::domain::step::{Rates, Step};
use assize::domain::trace::Trace;
use assize::pipeline::sample::{Evidence, LEFT_OUT_UPSTREAM, draw};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::sync::Arc;

/// A clock that stands in the middle of an hour.
fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(DateTime::from_timestamp(1_750_034_000, 0).expect("a time")))
}

async fn service_at(url: &secrecy::SecretString, config: Config, clock: &Arc<ManualClock>) -> Service {
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Service::start_at(url, config, shared).await
}

/// Waits until so many traces are decided on, with the clock moved past the quiet time.
async fn decided(service: &Service, clock: &ManualClock, count: i64) {
    clock.advance(TimeDelta::seconds(1));
    eventually("all are decided on", || async {
        service.app.store.tally_totals().await.ok().filter(|(seen, _)| *seen == count)
    })
    .await;
}

async fn decision(service: &Service, id: &str) -> SampleDecision {
    service.app.store.trace(id).await.expect("it can be read").expect("it was decided on").decision
}

fn boost(name: &str) -> Boost {
    Boost {
        name: name.to_owned(),
        when: Matcher::default(),
        feedback: None,
        failed_checks: Vec::new(),
        first: None,
        by: None,
        rate: 1.0,
    }
}

fn limited() -> Config {
    let mut config = config(&[ANSWERED]);
    let by = assize::domain::dimension::Dimension::Feature;
    config.sampling.default_rate = 0.2;
    config.sampling.floors = vec![Floor { name: "features".to_owned(), when: Matcher::default(), by, per_hour: 30.0 }];
    config.sampling.ceilings =
        vec![Ceiling { name: "all".to_owned(), when: Matcher::default(), by: None, per_hour: 1_000.0 }];
    config
}

/// Every step there was, by its start.
async fn steps(service: &Service) -> Vec<Step> {
    let rows: Vec<(DateTime<Utc>, DateTime<Utc>, Value)> =
        sqlx::query_as("SELECT starts_at, ends_at, rates FROM sampling_steps ORDER BY starts_at")
            .fetch_all(service.app.store.pool())
            .await
            .expect("steps can be read");
    let step = |(starts_at, ends_at, rates)| {
        let rates: Rates = serde_json::from_value(rates).expect("rates can be read");
        Step { starts_at, ends_at, rates }
    };
    rows.into_iter().map(step).collect()
}

#[tokio::test]
async fn two_workers_share_steps_and_every_decision_can_be_replayed_from_them() {
    let (url, clock, config) = (database().await, clock(), limited());
    let policy = config.sampling.clone();
    let one = service_at(&url, config.clone(), &clock).await;
    let two = service_at(&url, config, &clock).await;
    for round in 0..6_i64 {
        let half = |side: &str| traces::many(&format!("{side}{round}"), 25);
        one.send(&half("a")).await;
        two.send(&half("b")).await;
        decided(&one, &clock, 50 * (round + 1)).await;
        clock.advance(TimeDelta::seconds(40));
    }
    let steps = steps(&one).await;
    assert!((6..=12).contains(&steps.len()), "{} steps for two workers and six rounds", steps.len());
    assert!(steps.windows(2).all(|w| w[0].ends_at <= w[1].starts_at), "one at a time");
    let rows: Vec<(String,)> = sqlx::query_as("SELECT trace_id FROM traces WHERE kept")
        .fetch_all(one.app.store.pool())
        .await
        .expect("traces can be read");
    let mut whole = 0;
    for (id,) in &rows {
        let stored = one.app.store.trace(id).await.expect("it can be read").expect("it is there");
        let trace: Trace = serde_json::from_slice(stored.body.as_deref().expect("it was kept")).expect("a trace");
        let step = steps.iter().find(|s| Some(s.starts_at) == stored.decision.step).expect("its step is stored");
        let again = draw(&policy, step, &Evidence::default(), &trace).decision;
        assert_eq!(again, stored.decision, "the same step and trace give the same decision");
        whole += u32::from(again.probability >= 1.0);
    }
    let squeezed: i64 = sqlx::query_scalar("SELECT count(*) FROM traces WHERE sampling->'ceiling' IS NOT NULL")
        .fetch_one(one.app.store.pool())
        .await
        .expect("traces can be counted");
    assert!(squeezed >= 50 && whole > 0, "{squeezed} under the ceiling, {whole} before anything was known");
    assert!(rows.len() < 200, "{} of 300 were kept at 1,000 an hour, within four minutes", rows.len());
    let story = one.get(&format!("/api/v1/traces/{}", rows[0].0)).await;
    let weight = story["weight"].as_f64().expect("it has a weight");
    assert!((weight * story["sampling"]["probability"].as_f64().expect("a number") - 1.0).abs() < 1e-9, "{story}");
    assert!(story["sampling"]["step"].is_string() && story["sampling"]["parts"]["floor"].is_array(), "{story}");
    let metrics = one.http.get(format!("{}/metrics", one.base)).send().await.expect("an answer").text().await;
    let shown = metrics.expect("text");
    assert!(shown.contains("assize_sampling_rate{end=\"lowest\",kind=\"floor\",limit=\"features\"}"), "{shown}");
}

#[tokio::test]
async fn every_trace_and_every_outcome_is_in_the_tallies() {
    let filtered = "name: other\nchecks: [failure_to_answer]\napplies_when: {feature: [billing]}\n";
    let service = Service::start(config(&[ANSWERED, filtered])).await;
    service.send(&traces::many("t", 12)).await;
    let verdicts = service.verdicts(24).await;
    let page = service.get("/api/v1/sampling?since=2h").await;
    assert!(page["step"].is_null() && page["truncated"] == false, "nothing adapts: {page}");
    let tallies = page["tallies"].as_array().expect("a list");
    let sum = |key: &str| tallies.iter().filter_map(|t| t[key].as_f64()).sum::<f64>();
    assert!((sum("seen") - 12.0).abs() < 1e-9 && (sum("kept") - 12.0).abs() < 1e-9, "{page}");
    assert!((sum("population") - 12.0).abs() < 1e-9, "{page}");
    let outcomes = tallies.iter().filter_map(|t| t["outcomes"].as_array()).flatten();
    let count = |rubric: &str, outcome: &str| {
        let of = outcomes.clone().filter(|o| o["rubric"] == rubric && o["outcome"] == outcome);
        of.filter_map(|o| o["verdicts"].as_u64()).sum::<u64>()
    };
    assert_eq!((count("answered", "scored"), count("other", "filtered")), (12, 12), "{page}");
    assert_eq!(verdicts.len(), 24);
    let bad = service.http.get(format!("{}/api/v1/sampling?since=soon", service.base)).send().await;
    assert_eq!(bad.expect("an answer").status().as_u16(), 400);
}

fn otlp(trace_id: &str, state: &str, flags: u32) -> String {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = json!({
        "traceId": trace_id, "spanId": "eee19b7ec3c1b174", "name": "chat", "traceState": state, "flags": flags,
        "startTimeUnixNano": "1750032000000000000", "endTimeUnixNano": "1750032001000000000",
        "attributes": [text("gen_ai.operation.name", "chat"),
            text("gen_ai.input.messages", r#"[{"role":"user","parts":[{"type":"text","content":"Are you open?"}]}]"#),
            text("gen_ai.output.messages", r#"[{"role":"assistant","parts":[{"type":"text","content":"From nine to five."}]}]"#)]
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
}

#[tokio::test]
async fn what_samplers_before_us_let_through_counts_for_more() {
    let service = Service::start(config(&[ANSWERED])).await;
    let ids = ["5b8efff798038103d2ffffffffffffff", "5b8efff798038103d2fffffffffffffe"];
    for (id, state) in [(ids[0], "ot=th:c"), (ids[1], "")] {
        let (status, _) = service.post("/v1/traces", &[("content-type", "application/json")], otlp(id, state, 3)).await;
        assert_eq!(status, 200);
    }
    let event = |id: &str, decision: &str| {
        json!({"span_id": "1", "trace_id": id, "parent_id": "undefined", "name": "n",
            "start_ns": 1_750_032_000_000_000_000_u64, "duration": 5,
            "meta": {"span": {"kind": "llm"}, "input": {"value": "Are you open?"}, "output": {"value": "From nine."}},
            "_dd": {"sample_rate": "0.5", "sampling_decision": decision}})
    };
    let body = json!([{"event_type": "span", "spans": [event("dd1", "1")]},
        {"event_type": "span", "spans": [event("dd2", "0")]}]);
    let (status, _) = service.post("/api/v2/llmobs", &[("content-type", "application/json")], body.to_string()).await;
    assert!(status < 300, "{status}");
    let verdicts = service.verdicts(3).await;
    let pi = |id: &str| verdicts.iter().find(|v| v.trace_id == id).map(|v| v.inclusion_probability);
    assert_eq!((pi(ids[0]), pi(ids[1]), pi("dd1")), (Some(0.25), Some(1.0), Some(0.5)));
    assert_eq!(decision(&service, ids[0]).await.source, "trace id", "th says how the bits were used");
    assert_eq!(decision(&service, ids[1]).await.source, "keyed hash", "nobody says whether they were");
    let left = decision(&service, "dd2").await;
    assert_eq!((left.kept, left.rule.as_str()), (false, LEFT_OUT_UPSTREAM));
    let story = service.get(&format!("/api/v1/traces/{}", ids[0])).await;
    assert_eq!(story["weight"], 4.0, "{story}");
    assert_eq!(story["sampling"]["upstream"], json!({"probability": 0.25, "source": "tracestate th", "kept": true}));
    assert_eq!(story["sampling"]["probability"], 1.0);
    let page = service.get("/api/v1/sampling").await;
    let population: f64 =
        page["tallies"].as_array().expect("a list").iter().filter_map(|t| t["population"].as_f64()).sum();
    assert!((population - 7.0).abs() < 1e-9, "4, 1 and 2 traces, and none for the one that was left out: {page}");
}

#[tokio::test]
async fn feedback_counts_when_it_comes_before_the_decision_and_changes_nothing_after_it() {
    let mut config = config(&[ANSWERED]);
    config.sampling.default_rate = 1e-9;
    config.sampling.boosts = vec![
        Boost { feedback: Some(Feedback::Negative), ..boost("disliked") },
        Boost { failed_checks: vec![assize::domain::rubric::CheckKind::FailureToAnswer], ..boost("no answer") },
    ];
    let service = Service::start(config).await;
    let label = async |id: &str, passed: bool| {
        let body = json!({"trace_id": id, "rubric": "answered", "passed": passed, "source": "user_feedback"});
        let (status, answer) =
            service.post("/api/v1/labels", &[("content-type", "application/json")], body.to_string()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    };
    label("disliked", false).await;
    label("liked", true).await;
    let answer = "Sofas can be returned within 30 days of delivery.";
    let refusal = "I'm sorry, but I can't help with that.";
    service
        .send(&[
            traces::trace("disliked", answer),
            traces::trace("liked", answer),
            traces::trace("late", answer),
            traces::trace("refusal", refusal),
        ])
        .await;
    let verdicts = service.verdicts(2).await;
    let mut kept: Vec<&str> = verdicts.iter().map(|v| v.trace_id.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["disliked", "refusal"]);
    assert!(verdicts.iter().all(|v| (v.inclusion_probability - 1.0).abs() < 1e-12));
    assert_eq!(decision(&service, "disliked").await.parts.boosts, [("disliked".to_owned(), 1.0)]);
    let before = decision(&service, "late").await;
    label("late", false).await;
    assert_eq!(decision(&service, "late").await, before);
    assert!(!before.kept && before.probability > 0.0);
}

#[tokio::test]
async fn the_first_traces_of_a_new_version_are_kept_and_then_it_is_one_of_many() {
    let (url, clock) = (database().await, clock());
    let mut config = config(&[ANSWERED]);
    config.sampling.default_rate = 1e-9;
    let by = Some(assize::domain::dimension::Dimension::PromptVersion);
    config.sampling.boosts = vec![Boost { first: Some(20), by, ..boost("new versions") }];
    let service = service_at(&url, config, &clock).await;
    service.send(&traces::many("first", 30)).await;
    decided(&service, &clock, 30).await;
    clock.advance(TimeDelta::seconds(60));
    service.send(&traces::many("later", 10)).await;
    decided(&service, &clock, 40).await;
    assert_eq!(decision(&service, "first-29").await.parts.boosts, [("new versions".to_owned(), 1.0)]);
    let later = decision(&service, "later-0").await;
    assert!(later.parts.boosts.is_empty() && !later.kept && later.step.is_some(), "{later:?}");
    let (seen, kept) = service.app.store.tally_totals().await.expect("tallies");
    assert_eq!((seen, kept), (40, 30));
}
