//! What Datadog gets: evaluation metrics agentless and through an agent, statuses, dead letters, statsd lines.

use crate::support::intake::Intake;
use crate::support::{ANSWERED, JUDGED, Service, config, eventually, fixture_bytes, sim, traces, with_judges};
use assize::llm::sim::Faults;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::net::UdpSocket;

fn ids(count: usize) -> Vec<Value> {
    (1..=count).map(traces::joinable).collect()
}

#[tokio::test]
async fn an_agentless_request_has_the_form_of_the_reference_capture() {
    let (_, judge) = sim(Faults::default()).await;
    let (intake, base) = Intake::start().await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judge, &["a", "b"]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    let headers = [("content-type", "application/x-protobuf")];
    service.post("/v1/traces", &headers, fixture_bytes("openinference-openai.pb")).await;
    eventually("metrics arrive", || async { (!intake.accepted().is_empty()).then_some(()) }).await;
    let ours = &intake.requests()[0];
    let reference: Value = serde_json::from_slice(&fixture_bytes("datadog-eval-metric.json")).expect("JSON");
    assert_eq!(ours.path, reference["path"].as_str().expect("text"));
    assert_eq!(ours.headers["content-type"], "application/json");
    assert_eq!(ours.headers["dd-api-key"], "0".repeat(32).as_str());
    assert!(!ours.headers.contains_key("content-encoding"), "older agents drop that header");
    assert_eq!(ours.body["data"]["type"], reference["body"]["data"]["type"]);
    let keys = |metric: &Value| metric.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let metric = &ours.metrics()[0];
    assert_eq!(keys(metric), keys(&reference["body"]["data"]["attributes"]["metrics"][0]));
    assert_eq!((metric["label"].as_str(), metric["metric_type"].as_str()), (Some("judged"), Some("score")));
    assert_eq!(metric["ml_app"], "halden-support-bot");
    // OpenTelemetry ids go in decimal, with the tag that makes Datadog wait for the span's conversion.
    let (trace, span) = (&metric["join_on"]["span"]["trace_id"], &metric["join_on"]["span"]["span_id"]);
    for (id, most) in [(trace, 39), (span, 20)] {
        let id = id.as_str().expect("text");
        assert!(id.len() <= most && id.bytes().all(|b| b.is_ascii_digit()), "{id}");
    }
    assert!(metric["tags"].as_array().expect("a list").contains(&json!("source:otel")));
    let millis = metric["timestamp_ms"].as_i64().expect("a number");
    assert!((chrono::Utc::now().timestamp_millis() - millis).abs() < 600_000, "milliseconds, now: {millis}");
}

#[tokio::test]
async fn through_an_agent_the_path_and_header_are_the_proxys_and_there_is_no_key() {
    let (intake, base) = Intake::start().await;
    let mut config = config(&[ANSWERED]);
    config.datadog.agent_url = Some(format!("{base}/"));
    config.datadog.api_key = Some("1".repeat(32).into());
    let service = Service::start(config).await;
    service.send(&ids(1)).await;
    eventually("a metric arrives", || async { (!intake.accepted().is_empty()).then_some(()) }).await;
    let request = &intake.requests()[0];
    assert_eq!(request.path, "/evp_proxy/v2/api/intake/llm-obs/v2/eval-metric");
    assert_eq!(request.headers["x-datadog-evp-subdomain"], "api");
    assert!(!request.headers.contains_key("dd-api-key"));
}

#[tokio::test]
async fn one_bad_metric_is_found_and_kept_as_dead_and_its_neighbours_arrive() {
    fn decide(body: &Value) -> Option<u16> {
        let metrics = body["data"]["attributes"]["metrics"].as_array()?;
        metrics.iter().any(|m| m["join_on"]["span"]["trace_id"] == "7").then_some(400)
    }
    let (intake, base) = Intake::deciding(decide).await;
    let mut config = config(&[ANSWERED]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    service.send(&ids(20)).await;
    eventually("the others arrive", || async { (intake.accepted().len() == 19).then_some(()) }).await;
    let dead = eventually("the bad one is dead", || async {
        service.app.store.dead_events(10).await.ok().filter(|dead| dead.len() == 1)
    })
    .await;
    assert_eq!(dead[0].last_error.as_deref(), Some("status 400"));
    let queue = service.get("/api/v1/queue").await;
    assert_eq!((queue["outbox"][0]["waiting"].as_i64(), queue["outbox"][0]["dead"].as_i64()), (Some(0), Some(1)));
    // Somebody repairs it and has it tried again.
    assert_eq!(service.app.store.redrive_events(chrono::Utc::now()).await.expect("it can"), 1);
}

#[tokio::test]
async fn a_refused_key_stops_the_sending_and_loses_nothing() {
    let (intake, base) = Intake::start().await;
    intake.answer_with(403);
    let mut config = config(&[ANSWERED]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    service.send(&ids(30)).await;
    let queue = eventually("the refusal is seen", || async {
        let queue = service.get("/api/v1/queue").await;
        queue["outbox"][0]["last_error"].is_string().then_some(queue)
    })
    .await;
    assert!(queue["outbox"][0]["last_error"].as_str().is_some_and(|e| e.contains("DD_API_KEY")), "{queue}");
    service.verdicts(30).await;
    let queue = service.get("/api/v1/queue").await;
    assert_eq!(queue["outbox"][0]["waiting"], 30, "nothing is lost");
    assert!(intake.requests().len() <= 30, "one try each, then a minute's rest: {}", intake.requests().len());
}

#[tokio::test]
async fn a_judges_failure_is_sent_as_an_error_without_a_value() {
    let (_, judge) = sim(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let (intake, base) = Intake::start().await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judge, &["a"]);
    config.work.attempts_max = 1;
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    service.send(&ids(1)).await;
    eventually("a metric arrives", || async { (!intake.accepted().is_empty()).then_some(()) }).await;
    let metric = &intake.accepted()[0];
    assert_eq!((metric["status"].as_str(), metric["error"]["type"].as_str()), (Some("ERROR"), Some("judge_error")));
    assert!(metric.get("score_value").is_none());
}

#[tokio::test]
async fn statsd_lines_are_plain_and_tagged_from_the_fixed_list() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("it has one");
    let (_, judge) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judge, &["a"]);
    config.datadog.dogstatsd_url = Some(format!("udp://{address}"));
    let service = Service::start(config).await;
    let mut trace = traces::trace("t", "Yes, within 30 days.");
    trace["feature"] = json!("re|turns,#\nx");
    service.send(&[trace]).await;
    let mut buffer = vec![0; 65_536];
    let mut lines: Vec<String> = Vec::new();
    while lines.len() < 5 {
        let received = tokio::time::timeout(crate::support::PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("a datagram comes").expect("it can be read");
        assert!(length <= 1_432, "{length}");
        lines.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
    let names: BTreeSet<&str> = lines.iter().filter_map(|l| l.split(':').next()).collect();
    let expected =
        ["llm.eval.cost_usd", "llm.eval.count", "llm.eval.judge.latency_ms", "llm.eval.judge.tokens", "llm.eval.score"];
    assert_eq!(names, BTreeSet::from(expected));
    for line in &lines {
        let mut parts = line.split('|');
        let (value, kind, tags) = (parts.next(), parts.next(), parts.next());
        assert!(value.is_some_and(|v| v.matches(':').count() == 1), "unpacked: {line}");
        assert!(matches!(kind, Some("d" | "c")) && parts.next().is_none(), "{line}");
        let keys: Vec<&str> =
            tags.expect("tags").trim_start_matches('#').split(',').filter_map(|t| t.split(':').next()).collect();
        let allowed = [
            "env",
            "service",
            "version",
            "ml_app",
            "eval",
            "feature",
            "prompt_name",
            "prompt_version",
            "model",
            "judge",
            "outcome",
            "passed",
        ];
        let weighted = line.starts_with("llm.eval.score:");
        assert_eq!(keys.contains(&"weight_class"), weighted, "{line}");
        let known = |key: &&str| allowed.contains(key) || (weighted && **key == *"weight_class");
        assert!(keys.iter().all(known), "{line}");
        assert!(line.contains("feature:re_turns___x"), "{line}");
    }
}
