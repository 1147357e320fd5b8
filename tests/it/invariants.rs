//! What must hold, each with a test that fails without it (architecture, section 2). The first, durability, is in `faults`.

use crate::support::program::Program;
use crate::support::{
    ANSWERED, JUDGED, Service, config, database, eventually, sim, traces, wait_for_verdicts, with_judges,
};
use assize::config::Sampling;
use assize::domain::ids::job_id;
use assize::domain::policy::{Matcher, Patterns, SamplingRule};
use assize::domain::trace::Trace;
use assize::domain::verdict::Outcome;
use assize::judge::{combine, prompt};
use assize::llm::sim::Faults;
use assize::pipeline::{estimate, sample};
use serde_json::json;

fn rule(name: &str, feature: &str, rate: f64) -> SamplingRule {
    let when = Matcher { feature: Patterns(vec![feature.to_owned()]), ..Matcher::default() };
    SamplingRule { name: name.to_owned(), when, rate }
}

/// 2: every trace has an outcome that can be looked up; a missing input is never judged.
#[tokio::test]
async fn every_trace_has_an_outcome_that_can_be_looked_up() {
    let (sim, base) = sim(Faults::default()).await;
    let needs_context = "name: needs_context\npanel: default\nprompt: \"{{ context }} {{ answer }}\"\n";
    let filtered = "name: filtered\napplies_when: {feature: [billing]}\nchecks: [grounding]\n";
    let mut config = config(&[ANSWERED, needs_context, filtered]);
    with_judges(&mut config, &base, &["a"]);
    config.sampling.rules = vec![rule("none of these", "small_talk", 0.0)];
    let service = Service::start(config).await;
    let mut without = traces::trace("without", "Yes, within 30 days.");
    without["context"] = json!([]);
    let mut left_out = traces::trace("left-out", "Hello!");
    left_out["feature"] = json!("small_talk");
    service.send(&[traces::trace("full", "Yes, within 30 days."), without, left_out]).await;
    let verdicts = service.verdicts(6).await;
    let of = |id: &str, rubric: &str| {
        verdicts.iter().find(|v| v.trace_id == id && v.rubric == rubric).map(|v| (v.outcome, v.score.is_some()))
    };
    assert_eq!(of("full", "needs_context"), Some((Outcome::Scored, true)));
    assert_eq!(of("full", "filtered"), Some((Outcome::Filtered, false)));
    assert_eq!(of("without", "needs_context"), Some((Outcome::NotApplicable, false)));
    assert_eq!(sim.stats().requests, 1, "the trace without context was not judged");
    let story = service.get("/api/v1/traces/left-out").await;
    assert_eq!(
        (story["state"].as_str(), story["sampling"]["rule"].as_str()),
        (Some("sampled_out"), Some("none of these"))
    );
    // What is left out is forgotten after its time; the tally stays.
    let later = chrono::Utc::now() + chrono::TimeDelta::days(2);
    assert_eq!(service.app.store.forget_sampled_out(later, 10).await.expect("it can"), 1);
    assert_eq!(service.app.store.tally_totals().await.expect("it can"), (3, 2));
}

/// 3: decisions can be replayed from what is stored.
#[tokio::test]
async fn sampling_prompts_and_scores_can_be_replayed_from_the_database() {
    let (_, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a", "b"]);
    config.sampling.default_rate = 0.7;
    let policy = config.sampling.clone();
    let service = Service::start(config).await;
    service.send(&traces::many("t", 40)).await;
    let (_, kept) = eventually("all are decided on", || async {
        service.app.store.tally_totals().await.ok().filter(|(seen, _)| *seen == 40)
    })
    .await;
    assert!((1..40).contains(&kept), "{kept} of 40 were kept at 70 %");
    for verdict in service.verdicts(usize::try_from(kept).expect("a count")).await {
        let stored = service.app.store.trace(&verdict.trace_id).await.expect("it can be read").expect("it is there");
        let trace: Trace = serde_json::from_slice(stored.body.as_deref().expect("it was kept")).expect("it is a trace");
        assert_eq!(sample::decide(&policy, &trace), stored.decision, "the draw");
        let rubric = service.app.store.rubric_version(&verdict.rubric, &verdict.rubric_version).await;
        let rubric = rubric.expect("it can be read").expect("every version that judged is stored");
        let id = job_id(&verdict.trace_id, &rubric.name, &rubric.version);
        assert_eq!(verdict.id, id, "the id");
        let template = prompt::Template::new(&rubric).expect("it parses");
        let inputs = template.inputs(&trace, false);
        let marks = prompt::marks(&rubric, &inputs, &policy.hash_key);
        let request = prompt::request(&template, &rubric, &inputs, &marks, usize::MAX);
        let hash = prompt::hash(&request.expect("it can be asked again"));
        assert!(verdict.votes.iter().all(|vote| vote.prompt_hash == hash), "the prompt");
        let votes: Vec<(f64, f64)> = verdict.votes.iter().filter_map(|v| Some((v.score?, 1.0))).collect();
        let combined = combine::combine(rubric.combine, &votes, rubric.pass).expect("there are votes");
        assert_eq!(verdict.score, Some(combined.score), "the score");
        assert!(
            verdict
                .votes
                .iter()
                .all(|v| (v.cached || v.tokens.input > 0 && v.cost_usd > 0.0) && v.model.starts_with("sim-"))
        );
    }
}

/// 4: every verdict carries its inclusion probability, and the corrected mean is right where the plain one is not.
#[tokio::test]
async fn estimates_are_corrected_for_sampling() {
    let mut config = config(&[ANSWERED]);
    config.sampling.rules = vec![rule("rare", "good", 0.1)];
    let service = Service::start(config).await;
    // 600 good answers kept at 10 %, 200 empty ones kept always: the truth is 75 %.
    let mut all = Vec::new();
    for n in 0..800 {
        let good = n % 4 != 0;
        let mut trace =
            traces::trace(&format!("t{n}"), if good { "Within 30 days." } else { "I can't help with that." });
        trace["feature"] = json!(if good { "good" } else { "bad" });
        all.push(trace);
    }
    service.send(&all).await;
    let (_, kept) = eventually("all are decided on", || async {
        service.app.store.tally_totals().await.ok().filter(|(seen, _)| *seen == 800)
    })
    .await;
    let verdicts = service.verdicts(usize::try_from(kept).expect("a count")).await;
    assert!(verdicts.iter().all(|v| {
        let expected = if v.trace.feature.as_deref() == Some("good") { 0.1 } else { 1.0 };
        (v.inclusion_probability - expected).abs() < 1e-12
    }));
    let plain = verdicts.iter().filter(|v| v.passed == Some(true)).count() as f64 / verdicts.len() as f64;
    let corrected = estimate::summarise(verdicts.iter()).pass_rate.expect("there are verdicts");
    assert!(plain < 0.4, "the plain rate is misleading: {plain}");
    assert!((corrected.value - 0.75).abs() < 4.0 * corrected.standard_error, "{corrected:?}");
    assert!(corrected.standard_error > 0.0 && corrected.standard_error < 0.05, "{corrected:?}");
}

/// 5 is in `bounds`. 6: text of prompts and answers, and secrets, reach neither logs nor metrics.
#[tokio::test]
async fn text_and_secrets_reach_neither_logs_nor_metrics() {
    let url = database().await;
    let (judge, base) = sim(Faults { error_rate: 0.3, garbage_rate: 0.2, ..Faults::default() }).await;
    let mut config = config(&[JUDGED, ANSWERED]);
    with_judges(&mut config, &base, &["a"]);
    config
        .judges
        .get_mut("a")
        .expect("it is there")
        .headers
        .insert("x-secret".to_owned(), "swordfish-header".to_owned());
    let program = Program::serve(&url, &config, "debug,hyper=info,h2=info").await;
    let http = assize::runtime::http::client(crate::support::PATIENCE).expect("an HTTP client");
    for n in 0..20 {
        let mut trace = traces::trace(&format!("t{n}"), "the zebra-answer is secret");
        trace["input"] = json!("the zebra-question is secret");
        trace["user"] = json!("zebra-user");
        let sent = http.post(format!("{}/api/v1/traces", program.base)).json(&trace).send().await.expect("it answers");
        assert!(sent.status().is_success());
    }
    let bad = http.post(format!("{}/v1/traces", program.base)).header("content-type", "application/json");
    bad.body("{\"zebra-broken\": ").send().await.expect("it answers");
    let store = assize::store::Store::connect(&url, 2, std::time::Duration::from_secs(5)).await.expect("it is there");
    wait_for_verdicts(&store, 40).await;
    let metrics = http.get(format!("{}/metrics", program.base)).send().await.expect("it answers");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("assize_verdicts_total"));
    let (_, log) = program.terminate().await;
    assert!(log.contains("serving"), "the log is not empty");
    for secret in ["zebra", "swordfish"] {
        assert!(
            !log.contains(secret),
            "{secret} in the log: {}",
            log.lines().find(|l| l.contains(secret)).unwrap_or("")
        );
        assert!(!metrics.contains(secret), "{secret} in the metrics");
    }
    assert!(judge.stats().errors > 0, "the failing paths were walked");
}

/// 7: all state is in Postgres, so two workers on one database share the work and double nothing.
#[tokio::test]
async fn two_workers_share_the_work() {
    let url = database().await;
    // So slow that jobs come faster than one worker does them, on a busy machine too: then the second has its turn.
    let (sim, base) = sim(Faults { latency_ms: 300, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.concurrency = 4;
    let one = Service::start_on(&url, config.clone()).await;
    let two = Service::start_on(&url, config).await;
    one.send(&traces::many("one", 60)).await;
    two.send(&traces::many("two", 60)).await;
    one.verdicts(120).await;
    assert_eq!(sim.stats().requests, 120, "no job was judged twice");
    let judged = |s: &Service| s.app.bench.metrics.verdicts.with_label_values(&["judged", "scored"]).get();
    assert_eq!(judged(&one) + judged(&two), 120);
    assert!(judged(&one) > 0 && judged(&two) > 0, "{} and {}", judged(&one), judged(&two));
}

/// 8: one database connection is enough: nothing waits for a second while it holds one.
#[tokio::test]
async fn the_whole_way_works_with_one_connection() {
    let (_, base) = sim(Faults { latency_ms: 10, ..Faults::default() }).await;
    let (intake, datadog) = crate::support::intake::Intake::start().await;
    let mut config = config(&[JUDGED, ANSWERED]);
    with_judges(&mut config, &base, &["a", "b"]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(datadog);
    config.database.connections_max = 1;
    let service = Service::start(config).await;
    let ids: Vec<_> = (1..=50).map(traces::joinable).collect();
    service.send(&ids).await;
    service.verdicts(100).await;
    eventually("all is exported", || async { (intake.accepted().len() == 100).then_some(()) }).await;
}

/// The same sampling policy gives the same sample to everybody, whatever the database holds.
#[test]
fn sampling_is_a_function_of_trace_and_policy() {
    let policy = Sampling { default_rate: 0.5, ..Sampling::default() };
    let trace = Trace { trace_id: "5b8efff798038103d269b633813fc60c".to_owned(), ..Trace::default() };
    let first = sample::decide(&policy, &trace);
    assert!((0..100).all(|_| sample::decide(&policy, &trace) == first));
}
