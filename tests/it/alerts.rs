//! Alerts: what each channel is sent, and what happens when it fails; `life` has the incident itself.

mod life;

use crate::support::recorder::{Answer, Recorder, Request};
use crate::support::{Service, config, database, eventually};
use assize::config::{Ambient, Config};
use assize::domain::alert::{Estimate, Evidence, Example, Finding, Kind, Measure, Severity, VersionStep};
use assize::domain::clock::{Clock, ManualClock};
use assize::pipeline::notify;
use assize::store::alerts::By;
use base64::Engine;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;
use tokio::net::UdpSocket;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// 2026-11-20T16:10:00Z.
fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_191_000, 0).expect("a valid time")
}

fn finding(rubric: &str) -> Finding {
    Finding {
        kind: Kind::VersionTest,
        measure: Measure::PassRate,
        rubric: Some(rubric.to_owned()),
        rubric_version: Some("sha256:0123456789ab".to_owned()),
        stream: [("feature", "support_agent"), ("environment", "production")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        from: Some(Estimate { value: 0.912, lower: Some(0.89), upper: Some(0.931) }),
        to: Some(Estimate { value: 0.784, lower: Some(0.74), upper: Some(0.823) }),
        limit: None,
        since: start() - TimeDelta::minutes(128),
        found_at: start(),
        n: 412,
        n_eff: 388.2,
        weights: Some("weighted by 1/inclusion probability".to_owned()),
        evidence: Evidence { e_value: Some(5_230.0), alpha: Some(0.05), budget_share: None, p: Some(0.000_191) },
        versions: vec![VersionStep {
            what: "prompt_version".to_owned(),
            before: vec!["v2".to_owned()],
            after: "v3".to_owned(),
        }],
        severity: Severity::Warning,
        examples: vec![Example {
            trace_id: "5b8efff798038103d269b633813fc60c".to_owned(),
            score: Some(0.1),
            reason: "SECRET-REASON the answer invents a refund".to_owned(),
        }],
        deploys: Vec::new(),
        runbook: Some("https://runbooks.example/faithfulness".to_owned()),
        canaries: None,
    }
}

/// A configuration with `[alerts]` as in a file; `BASE` stands for the recorder's address.
fn with_alerts(text: &str, base: &str) -> Config {
    let text = text.replace("BASE", base);
    let mut all = config(&[]);
    std::fs::write(all.rubrics.dir.join("0.yaml"), crate::support::ANSWERED).expect("a rubric can be written");
    let file = all.rubrics.dir.join("assize.toml");
    let links =
        "trace_url = \"https://assize.example/traces/{id}\"\nalert_url = \"https://assize.example/alerts/{id}\"\n";
    let head = "timeout_ms = 500\npoll_ms = 20\nlease_ms = 5000\nretry_ms = 20\nretry_ms_max = 100\n";
    std::fs::write(&file, format!("[alerts]\n{links}{head}{text}")).expect("a file can be written");
    let slack = format!("{base}/services/T0/B0/swordfish");
    let ambient = Ambient::of(&[
        ("SLACK", slack.as_str()),
        ("KEY", "swordfish-key"),
        ("SECRET", SECRET),
        ("AUTH", "Basic swordfish"),
        ("DD_API_KEY", "swordfish-dd"),
    ]);
    all.alerts = Config::load(Some(&file), &ambient).expect("a valid configuration").alerts;
    all
}

async fn service_at(text: &str, base: &str) -> (Service, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(start()));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (Service::start_at(&database().await, with_alerts(text, base), shared).await, clock)
}

async fn raise(service: &Service, finding: Finding) -> uuid::Uuid {
    notify::raise(&service.app, vec![finding]).await.expect("it is taken")[0].alert
}

/// Runs the whole life of an alert: opened, acknowledged, resolved; gives what the recorder got.
async fn life(text: &str) -> Vec<Request> {
    let (recorder, base) = Recorder::start(&[]).await;
    let (service, clock) = service_at(text, &base).await;
    let report = json!({"service": "furnish-hub", "version": "1.4.2", "environment": "production",
        "at": "2026-11-20T13:50:00Z", "link": "https://ci.example/42"});
    let (status, _) =
        service.post("/api/v1/deployments", &[("content-type", "application/json")], report.to_string()).await;
    assert_eq!(status, 200);
    let id = raise(&service, finding("faithfulness")).await;
    let each = recorder.wait(1).await.len();
    let settled = async || {
        eventually("all is told", || async {
            let all = service.app.store.channel_stats().await.ok()?;
            all.iter().all(|one| one.waiting == 0).then_some(())
        })
        .await;
    };
    settled().await;
    let headers = [("content-type", "application/json")];
    // Less than what it takes until a receiver that forgets is told again.
    for (what, minutes) in [("acknowledge", 4), ("resolve", 4)] {
        clock.advance(TimeDelta::minutes(minutes));
        let body = json!({"by": "ann", "why": "rolled back to v2"}).to_string();
        let (status, _) = service.post(&format!("/api/v1/alerts/{id}/{what}"), &headers, body).await;
        assert_eq!(status, 200);
        settled().await;
    }
    let requests = recorder.requests();
    assert!(each > 0 && requests.iter().all(|r| !r.text.contains("SECRET-REASON")), "reasons stay here");
    requests
}

fn bodies(requests: &[Request]) -> Value {
    Value::Array(requests.iter().map(Request::json).collect())
}

#[tokio::test]
async fn slack_gets_a_message_a_change() {
    let requests = life("[alerts.channels.team]\nkind = \"slack\"\nurl_env = \"SLACK\"\n").await;
    assert!(requests.iter().all(|r| r.path == "/services/T0/B0/swordfish"));
    insta::assert_json_snapshot!("slack", bodies(&requests));
}

#[tokio::test]
async fn pagerduty_triggers_acknowledges_and_resolves_under_one_key() {
    let requests =
        life("[alerts.channels.pager]\nkind = \"pagerduty\"\nkey_env = \"KEY\"\nurl = \"BASE/v2/enqueue\"\n").await;
    let bodies = bodies(&requests);
    let keys: Vec<&Value> = bodies.as_array().expect("a list").iter().map(|b| &b["dedup_key"]).collect();
    assert!(keys.len() == 3 && keys.iter().all(|k| *k == keys[0]), "{keys:?}");
    assert!(bodies[0]["routing_key"] == "swordfish-key");
    insta::assert_json_snapshot!("pagerduty", bodies);
}

#[tokio::test]
async fn alertmanager_gets_the_same_labels_until_the_end() {
    let text = "[alerts.channels.am]\nkind = \"alertmanager\"\nurl = \"BASE/\"\nauthorization_env = \"AUTH\"\n";
    let requests = life(text).await;
    assert!(requests.iter().all(|r| r.path == "/api/v2/alerts" && r.headers["authorization"] == "Basic swordfish"));
    let bodies = bodies(&requests);
    for body in bodies.as_array().expect("a list") {
        assert_eq!(body[0]["labels"], bodies[0][0]["labels"], "labels are what an alert is");
    }
    insta::assert_json_snapshot!("alertmanager", bodies);
}

#[tokio::test]
async fn alertmanager_is_told_again_until_the_end_and_not_after_it() {
    let (recorder, base) = Recorder::start(&[]).await;
    let (service, clock) = service_at("[alerts.channels.am]\nkind = \"alertmanager\"\nurl = \"BASE\"\n", &base).await;
    let id = raise(&service, finding("faithfulness")).await;
    recorder.wait(1).await;
    eventually("it is settled", || async {
        let stats = service.app.store.channel_stats().await.ok()?;
        (stats[0].waiting == 0).then_some(())
    })
    .await;
    clock.advance(TimeDelta::minutes(5));
    let requests = recorder.wait(2).await;
    assert!(requests[1].json()[0]["endsAt"].as_str() > requests[0].json()[0]["endsAt"].as_str());
    let by = By { whom: Some("ann"), why: Some("over") };
    service.app.store.resolve(id, by, &service.app.bench.config.alerts, clock.now()).await.expect("it can");
    recorder.wait(3).await;
    clock.advance(TimeDelta::minutes(30));
    // The loop has looked again once another alert, opened after that, has arrived.
    raise(&service, Finding { versions: vec![], since: clock.now(), ..finding("tone") }).await;
    let requests = recorder.wait(4).await;
    assert!(requests[3].text.contains("\"rubric\":\"tone\""), "{}", requests[3].text);
}

#[tokio::test]
async fn the_webhook_is_signed_and_its_template_is_used() {
    let text = "[alerts.channels.hook]\nkind = \"webhook\"\nurl = \"BASE/hook\"\nsecret_env = \"SECRET\"\n";
    let requests = life(text).await;
    insta::assert_json_snapshot!("webhook", bodies(&requests));
    for request in &requests {
        let header = |name: &str| request.headers[name].to_str().expect("text").to_owned();
        let key = base64::engine::general_purpose::STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
        mac.update(format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), request.text).as_bytes());
        let wanted = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(header("webhook-signature"), format!("v1,{wanted}"));
        assert_eq!(request.json()["id"], header("webhook-id"), "the id in the payload is that of the delivery");
    }
    let text = "[alerts.channels.hook]\nkind = \"webhook\"\nurl = \"BASE/hook\"\n\
                template = '{\"msg\": {{ title|tojson }}, \"n\": {{ alert.findings[0].n }}}'\n";
    let body = life(text).await[0].json();
    assert_eq!(body["n"], 412);
    assert!(body["msg"].as_str().is_some_and(|m| m.starts_with("faithfulness: pass rate fell")), "{body}");
}

#[tokio::test]
async fn content_is_sent_where_it_is_asked_for() {
    let (recorder, base) = Recorder::start(&[]).await;
    let text = "[alerts.channels.hook]\nkind = \"webhook\"\nurl = \"BASE\"\ncontent = true\n";
    let (service, _) = service_at(text, &base).await;
    raise(&service, finding("faithfulness")).await;
    assert!(recorder.wait(1).await[0].text.contains("SECRET-REASON"));
}

#[tokio::test]
async fn datadog_gets_check_count_and_event() {
    let (recorder, base) = Recorder::start(&[]).await;
    let mut config = with_alerts("[alerts.channels.dd]\nkind = \"datadog\"\n", &base);
    config.datadog.api_key = Some("swordfish-dd".into());
    config.datadog.api_url = Some(base);
    let shared: Arc<dyn Clock> = Arc::new(ManualClock::at(start()));
    let service = Service::start_at(&database().await, config, shared).await;
    raise(&service, finding("faithfulness")).await;
    let requests = recorder.wait(3).await;
    assert!(requests.iter().all(|r| r.headers["dd-api-key"] == "swordfish-dd"));
    let all: Vec<Value> = requests.iter().map(|r| json!({"path": r.path, "body": r.json()})).collect();
    insta::assert_json_snapshot!("datadog", all);
}

#[tokio::test]
async fn without_a_key_datadog_gets_datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = with_alerts("[alerts.channels.dd]\nkind = \"datadog\"\n", "http://127.0.0.1:1");
    config.datadog.dogstatsd_url = Some(format!("udp://{}", socket.local_addr().expect("it has one")));
    let shared: Arc<dyn Clock> = Arc::new(ManualClock::at(start()));
    let service = Service::start_at(&database().await, config, shared).await;
    raise(&service, finding("faithfulness")).await;
    let mut lines = Vec::new();
    let mut buffer = vec![0; 65_536];
    for _ in 0..3 {
        let received = tokio::time::timeout(crate::support::PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.expect("a datagram comes").expect("it can be read");
        lines.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    insta::assert_snapshot!("dogstatsd", lines.join("\n"));
}

const HOOK: &str = "[alerts.channels.hook]\nkind = \"webhook\"\nurl = \"BASE\"\n";

#[tokio::test]
async fn failures_are_tried_again_under_the_same_id_until_it_arrives() {
    let answers = [Answer::Status(500), Answer::Wait(429, 1), Answer::Hang, Answer::Status(302), Answer::Status(200)];
    let (recorder, base) = Recorder::start(&answers).await;
    let (service, clock) = service_at(HOOK, &base).await;
    raise(&service, finding("faithfulness")).await;
    let stats = eventually("it has arrived", || async {
        clock.advance(TimeDelta::milliseconds(200));
        let stats = service.app.store.channel_stats().await.ok()?.pop()?;
        (stats.waiting == 0).then_some(stats)
    })
    .await;
    let requests = recorder.requests();
    assert_eq!(requests.len(), 5, "500, 429, no answer, a redirect that is not followed, 200");
    assert!(requests.iter().all(|r| r.json()["id"] == requests[0].json()["id"]), "one id");
    assert_eq!((stats.dead, stats.failing, stats.last_error), (0, 0, None));
    let metrics = service.http.get(format!("{}/metrics", service.base)).send().await.expect("it answers");
    let text = metrics.text().await.expect("text");
    assert!(text.contains("assize_alert_deliveries_total{channel=\"hook\",result=\"retried\"} 4"), "{text}");
    assert!(text.contains("assize_alert_deliveries_total{channel=\"hook\",result=\"delivered\"} 1"), "{text}");
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let (recorder, base) = Recorder::start(&[Answer::Wait(429, 600)]).await;
    let (service, clock) = service_at(HOOK, &base).await;
    raise(&service, finding("faithfulness")).await;
    recorder.wait(1).await;
    let failing = async || service.app.store.channel_stats().await.ok()?.pop().filter(|s| s.failing == 1);
    eventually("the failure is seen", failing).await;
    clock.advance(TimeDelta::seconds(590));
    let config = &service.app.bench.config.alerts;
    assert!(
        service.app.store.due_deliveries("hook", 1, TimeDelta::zero(), clock.now()).await.expect("read").is_empty()
    );
    assert!(config.attempts_max > 1);
    clock.advance(TimeDelta::seconds(30));
    recorder.wait(2).await;
}

#[tokio::test]
async fn what_is_refused_or_fails_too_often_is_dead_and_can_be_redriven() {
    let answers = [Answer::Status(400), Answer::Status(503), Answer::Status(503), Answer::Status(503)];
    let (recorder, base) = Recorder::start(&answers).await;
    let (service, clock) = service_at(&format!("attempts_max = 3\n{HOOK}"), &base).await;
    let dead = async |count: i64| {
        eventually("it is dead", || async {
            clock.advance(TimeDelta::milliseconds(200));
            service.app.store.channel_stats().await.ok()?.pop().filter(|s| s.dead == count)
        })
        .await
    };
    raise(&service, finding("faithfulness")).await;
    let stats = dead(1).await;
    assert_eq!(stats.last_error.as_deref(), Some("status 400: the webhook does not take the message"));
    raise(&service, Finding { versions: vec![], ..finding("tone") }).await;
    let stats = dead(2).await;
    assert_eq!(recorder.requests().len(), 4, "one refused, three attempts");
    let error = stats.last_error.expect("there is one");
    assert!(error == "given up after 3 attempts; the last reason: status 503" || error.contains("400"), "{error}");
    assert_eq!(service.app.store.redrive_deliveries(clock.now()).await.expect("it can"), 2);
    eventually("they arrive", || async {
        service.app.store.channel_stats().await.ok()?.pop().filter(|s| s.dead == 0 && s.waiting == 0)
    })
    .await;
}

#[tokio::test]
async fn a_channel_without_its_secret_stops_the_start_with_the_remedy() {
    let mut config =
        with_alerts("[alerts.channels.team]\nkind = \"slack\"\nurl_env = \"SLACK\"\n", "http://127.0.0.1:1");
    config.alerts.channels.get_mut("team").expect("it is there").secrets = assize::config::Secrets::default();
    let error = assize::sinks::alerts::build(&config).expect_err("unset").to_string();
    assert_eq!(error, "alerts.channels.team: environment variable SLACK is not set; set it or remove the channel");
}

#[tokio::test]
async fn addresses_and_keys_never_reach_errors() {
    let text = "[alerts.channels.team]\nkind = \"slack\"\nurl_env = \"SLACK\"\n[alerts.channels.pager]\nkind = \"pagerduty\"\n\
                key_env = \"KEY\"\nurl = \"http://127.0.0.1:1/v2\"\n";
    let (service, _) = service_at(text, "http://127.0.0.1:1").await;
    raise(&service, finding("faithfulness")).await;
    let stats = eventually("both fail", || async {
        let stats = service.app.store.channel_stats().await.ok()?;
        (stats.len() == 2 && stats.iter().all(|s| s.last_error.is_some())).then_some(stats)
    })
    .await;
    assert!(stats.iter().all(|s| s.last_error.as_deref() == Some("cannot connect")), "{stats:?}");
    let shown =
        format!("{:?} {:?} {}", service.app.channels, service.app.bench.config, service.app.bench.config.redacted());
    assert!(!shown.contains("swordfish"), "{shown}");
}
