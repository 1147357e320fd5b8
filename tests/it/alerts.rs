//! Alerts: what each channel is sent, what happens when it fails, one incident a cause, and its life.

use crate::support::recorder::{Answer, Recorder, Request};
use crate::support::{Service, config, database, eventually, program, traces};
use assize::config::{Ambient, Config};
use assize::domain::alert::incident::{Place, State};
use assize::domain::alert::{Estimate, Evidence, Example, Finding, Kind, Measure, Severity, VersionStep};
use assize::domain::clock::{Clock, ManualClock};
use assize::pipeline::notify;
use assize::store::alerts::{AlertFilter, By};
use base64::Engine;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
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
async fn replaying_the_same_findings_opens_and_tells_nothing() {
    let (recorder, base) = Recorder::start(&[]).await;
    let (service, clock) = service_at(HOOK, &base).await;
    let id = raise(&service, finding("faithfulness")).await;
    recorder.wait(1).await;
    for _ in 0..3 {
        clock.advance(TimeDelta::hours(1));
        let raised = notify::raise(&service.app, vec![finding("faithfulness")]).await.expect("it is taken");
        assert_eq!((raised[0].place, raised[0].told), (Place::Known(id), 0));
    }
    let later = Finding { n: 900, found_at: clock.now(), ..finding("faithfulness") };
    raise(&service, later.clone()).await;
    let alert = service.app.store.alert(id).await.expect("read").expect("it is there");
    assert_eq!((alert.findings[0].finding.n, alert.changes.len()), (900, 1), "only the evidence is new");
    raise(&service, finding("faithfulness")).await;
    let alert = service.app.store.alert(id).await.expect("read").expect("it is there");
    assert_eq!(alert.findings[0].finding.n, 900, "older evidence replaces nothing");
    let by = By { whom: Some("ann"), why: Some("known") };
    service.app.store.resolve(id, by, &service.app.bench.config.alerts, clock.now()).await.expect("it can");
    recorder.wait(2).await;
    clock.advance(TimeDelta::hours(1));
    let raised = notify::raise(&service.app, vec![later, finding("faithfulness")]).await.expect("it is taken");
    assert!(raised.iter().all(|r| r.place == Place::Over(id)), "{raised:?}");
    let all = service.app.store.alerts(&AlertFilter { limit: 10, ..AlertFilter::default() }).await.expect("read");
    assert_eq!((all.len(), recorder.requests().len()), (1, 2));
}

#[tokio::test]
async fn two_processes_that_race_open_one_alert_and_tell_it_once() {
    let (recorder, base) = Recorder::start(&[]).await;
    let url = database().await;
    let one = Service::start_on(&url, with_alerts(HOOK, &base)).await;
    let two = Service::start_on(&url, with_alerts(HOOK, &base)).await;
    let findings: Vec<Finding> = (0..8).map(|n| finding(&format!("rubric_{n}"))).collect();
    let all = (0..20).map(|n| {
        let (app, mut mine) = (if n % 2 == 0 { &one.app } else { &two.app }, findings.clone());
        mine.rotate_left(n % 8);
        async move { notify::raise(app, mine).await.expect("it is taken") }
    });
    let raised = futures_util::future::join_all(all).await;
    let opened = raised.iter().flatten().filter(|r| r.place == Place::Opens).count();
    assert_eq!(opened, 1, "all blame one version");
    let alerts = one.app.store.alerts(&AlertFilter { limit: 10, ..AlertFilter::default() }).await.expect("read");
    assert_eq!((alerts.len(), alerts[0].findings.len()), (1, 8));
    eventually("all is told", || async { one.app.store.channel_stats().await.ok()?.pop().filter(|s| s.waiting == 0) })
        .await;
    assert_eq!(recorder.requests().len(), 1, "one notification for one incident");
}

#[tokio::test]
async fn quiet_hours_hold_back_what_is_not_critical() {
    let (recorder, base) = Recorder::start(&[]).await;
    let text = format!("{HOOK}[[alerts.quiet_hours]]\nfrom = \"16:00\"\nto = \"18:00\"\n");
    let (service, clock) = service_at(&text, &base).await;
    raise(&service, finding("faithfulness")).await;
    let critical = Finding { severity: Severity::Critical, versions: vec![], since: start(), ..finding("tone") };
    raise(&service, critical).await;
    let requests = recorder.wait(1).await;
    assert_eq!(requests[0].json()["alert"]["severity"], "critical");
    eventually("it is settled", || async {
        service.app.store.channel_stats().await.ok()?.pop().filter(|s| s.waiting == 1)
    })
    .await;
    assert_eq!(recorder.requests().len(), 1, "the other waits for the end of the quiet hours");
    clock.advance(TimeDelta::hours(2));
    let requests = recorder.wait(2).await;
    assert_eq!(requests[1].json()["alert"]["rubrics"], json!(["faithfulness"]));
}

#[tokio::test]
async fn an_alert_that_becomes_critical_is_told_at_once() {
    let (recorder, base) = Recorder::start(&[]).await;
    let text = format!("{HOOK}[[alerts.quiet_hours]]\nfrom = \"16:00\"\nto = \"18:00\"\n");
    let (service, clock) = service_at(&text, &base).await;
    raise(&service, finding("faithfulness")).await;
    let worse = Finding {
        severity: Severity::Critical,
        found_at: clock.now() + TimeDelta::minutes(1),
        ..finding("faithfulness")
    };
    raise(&service, worse).await;
    let kinds: Vec<Value> = recorder.wait(2).await.iter().map(|r| r.json()["type"].clone()).collect();
    assert_eq!(kinds, ["alert.opened", "alert.escalated"], "in their order");
}

#[tokio::test]
async fn routes_tell_a_channel_that_only_a_later_stream_is_for() {
    let (recorder, base) = Recorder::start(&[]).await;
    let text = "[alerts.channels.a]\nkind = \"webhook\"\nurl = \"BASE/a\"\n[alerts.channels.b]\nkind = \"webhook\"\nurl = \"BASE/b\"\n\
                [[alerts.routes]]\nrubric = \"faith*\"\nchannels = [\"a\"]\n[[alerts.routes]]\nrubric = \"tone\"\nchannels = [\"b\"]\n";
    let (service, _) = service_at(text, &base).await;
    let id = raise(&service, finding("faithfulness")).await;
    assert_eq!(recorder.wait(1).await[0].path, "/a");
    assert_eq!(raise(&service, finding("tone")).await, id);
    assert_eq!(raise(&service, finding("faithfulness_2")).await, id);
    let requests = recorder.wait(2).await;
    assert_eq!((requests[1].path.as_str(), requests[1].json()["type"].clone()), ("/b", json!("alert.joined")));
    let stats = service.app.store.channel_stats().await.expect("read");
    assert_eq!(stats.len(), 2);
    assert_eq!(recorder.requests().len(), 2, "who knows of the alert is not told of each stream");
}

#[tokio::test]
async fn an_alert_ends_by_evidence_when_every_stream_has_recovered() {
    let (recorder, base) = Recorder::start(&[]).await;
    let (service, clock) = service_at(HOOK, &base).await;
    let id = raise(&service, finding("faithfulness")).await;
    raise(&service, finding("tone")).await;
    let prints = [finding("faithfulness").fingerprint(), finding("tone").fingerprint()];
    clock.advance(TimeDelta::hours(1));
    let over = notify::recovered(&service.app, &prints[..1], "the rate is back").await.expect("it is taken");
    assert!(over.is_empty(), "one stream is still down");
    let over = notify::recovered(&service.app, &prints, "the rate is back").await.expect("it is taken");
    assert_eq!(over, [id]);
    let requests = recorder.wait(2).await;
    let last = requests[1].json();
    assert_eq!(
        (&last["type"], &last["by"], &last["why"]),
        (&json!("alert.resolved"), &Value::Null, &json!("the rate is back"))
    );
    let alert = service.app.store.alert(id).await.expect("read").expect("it is there");
    assert_eq!(alert.state, State::Resolved);
}

#[tokio::test]
async fn an_open_alert_is_repeated_only_where_that_is_configured() {
    let (recorder, base) = Recorder::start(&[]).await;
    let (service, clock) = service_at(&format!("repeat_hours = 12.0\n{HOOK}"), &base).await;
    raise(&service, finding("faithfulness")).await;
    recorder.wait(1).await;
    for hours in [11, 2, 1] {
        clock.advance(TimeDelta::hours(hours));
        notify::tick(&service.app).await.expect("it can");
    }
    let requests = recorder.wait(2).await;
    assert_eq!(requests[1].json()["type"], "alert.repeated");
    assert_eq!(recorder.requests().len(), 2, "once in twelve hours");
}

#[tokio::test]
async fn the_api_lists_filters_and_explains_mistakes() {
    let (service, clock) = service_at("", "http://127.0.0.1:1").await;
    let first = raise(&service, finding("faithfulness")).await;
    clock.advance(TimeDelta::hours(8));
    let critical = Finding { severity: Severity::Critical, versions: vec![], since: clock.now(), ..finding("tone") };
    let second = raise(&service, critical).await;
    let ids = |page: &Value| -> Vec<String> {
        page["alerts"].as_array().expect("a list").iter().map(|a| a["id"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(ids(&service.get("/api/v1/alerts").await), [second.to_string(), first.to_string()]);
    assert_eq!(ids(&service.get("/api/v1/alerts?severity=critical").await), [second.to_string()]);
    assert_eq!(
        ids(&service.get("/api/v1/alerts?rubric=faithfulness&state=open,acknowledged").await),
        [first.to_string()]
    );
    assert!(ids(&service.get("/api/v1/alerts?state=resolved").await).is_empty());
    let page = service.get("/api/v1/alerts?limit=1").await;
    let next = page["next"].as_str().expect("there is more");
    assert_eq!(ids(&service.get(&format!("/api/v1/alerts?limit=1&cursor={next}")).await), [first.to_string()]);
    let one = service.get(&format!("/api/v1/alerts/{first}")).await;
    assert!(one.to_string().contains("SECRET-REASON"), "who may read verdicts may read reasons");
    for (path, words) in [
        ("/api/v1/alerts?state=shut", "there are open, acknowledged and resolved"),
        ("/api/v1/alerts?severity=bad", "there are info, warning and critical"),
        ("/api/v1/alerts?stat=open", "unknown field"),
        ("/api/v1/alerts/7", "there is no alert 7"),
    ] {
        let problem = service.get(path).await;
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(words)), "{problem}");
    }
    let headers = [("content-type", "application/json")];
    let (status, answer) = service.post(&format!("/api/v1/alerts/{first}/resolve"), &headers, "{}").await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn deployments_are_reported_once_seen_once_and_the_nearest_is_named() {
    let (service, clock) = service_at("", "http://127.0.0.1:1").await;
    let headers = [("content-type", "application/json")];
    let report = |version: &str| json!({"service": "shop", "version": version, "environment": "test"}).to_string();
    let mut ids = Vec::new();
    for version in ["1.0", "1.0", "1.1", "1.0"] {
        clock.advance(TimeDelta::minutes(1));
        let (status, answer) = service.post("/api/v1/deployments", &headers, report(version)).await;
        assert_eq!(status, 200);
        ids.push(serde_json::from_slice::<Value>(&answer).expect("JSON")["id"].clone());
    }
    assert_eq!(ids[0], ids[1], "the same again is the same");
    assert!(ids[3] != ids[0] && ids[2] != ids[0], "going back is a deployment too");
    clock.advance(TimeDelta::hours(1));
    let mut sent = traces::many("t", 3);
    for trace in &mut sent {
        trace["service_version"] = json!("1.0");
    }
    service.send(&sent).await;
    service.verdicts(3).await;
    let near = service.app.store.deployments_near(clock.now(), Some("test"), 10).await.expect("read");
    let seen: Vec<(&str, &str)> =
        near.iter().filter(|d| d.seen).map(|d| (d.name.as_str(), d.version.as_str())).collect();
    assert!(seen.contains(&("support", "v1")) && seen.contains(&("returns", "gpt-4o-mini")), "{near:?}");
    assert_eq!(seen.len(), 2, "the service's version was reported: {near:?}");
    let since = clock.now() - TimeDelta::hours(1) + TimeDelta::seconds(5);
    let mut found = Finding { since, ..finding("answered") };
    found.stream.insert("environment".to_owned(), "test".to_owned());
    let id = raise(&service, found).await;
    let alert = service.app.store.alert(id).await.expect("read").expect("it is there");
    assert_eq!((alert.findings[0].finding.deploys[0].version.as_str()), "1.0");
    for (body, words) in [
        ("{\"service\": \"shop\"}".to_owned(), "send a JSON object"),
        (json!({"service": "", "version": "1"}).to_string(), "`service` is empty"),
        (json!({"service": "s", "version": "1", "at": "2099-01-01T00:00:00Z"}).to_string(), "future"),
        (json!({"service": "s", "version": "1", "link": "javascript:x"}).to_string(), "http"),
    ] {
        let (status, answer) = service.post("/api/v1/deployments", &headers, body).await;
        assert_eq!(status, 400);
        assert!(String::from_utf8_lossy(&answer).contains(words));
    }
}

#[tokio::test]
async fn the_command_line_shows_takes_closes_and_tries() {
    let (recorder, base) = Recorder::start(&[]).await;
    let url = database().await;
    let shared: Arc<dyn Clock> = Arc::new(ManualClock::at(start()));
    let service = Service::start_at(&url, with_alerts("", &base), shared).await;
    let id = raise(&service, finding("faithfulness")).await.to_string();
    let file = service.app.bench.config.rubrics.dir.join("cli.toml");
    let pager = format!("[alerts.channels.pager]\nkind = \"pagerduty\"\nkey_env = \"KEY\"\nurl = \"{base}\"\n");
    std::fs::write(&file, pager).expect("a file can be written");
    let run = async |args: &[&str]| {
        let mut command = program::assize(args);
        command.env("ASSIZE_CONFIG", &file).env("DATABASE_URL", url.expose_secret()).env("KEY", "swordfish-key");
        let done =
            tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").expect("it runs");
        (
            done.status.code(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        )
    };
    let (code, text) = run(&["alerts"]).await;
    assert!(code == Some(0) && text.contains(&id) && text.contains("open, warning"), "{text}");
    let (_, text) = run(&["alerts", "ack", &id, "--by", "ann"]).await;
    assert!(text.contains("acknowledged by ann") && text.contains("SECRET-REASON"), "{text}");
    let (code, text) = run(&["alerts", "close", &id]).await;
    assert!(code == Some(2) && text.contains("--why"), "{text}");
    let (code, text) = run(&["alerts", "close", &id, "--by", "ann", "--why", "rolled back", "--json"]).await;
    let closed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, closed["state"].as_str()), (Some(0), Some("resolved")));
    let (_, text) = run(&["alerts", "list"]).await;
    assert!(text.contains("no alerts that are not resolved"), "{text}");
    let (code, text) = run(&["alerts", "show", "0190a0a0-0000-7000-8000-000000000000"]).await;
    assert!(code == Some(2) && text.contains("there is no alert"), "{text}");
    let (code, text) = run(&["alerts", "test", "pager"]).await;
    assert_eq!(code, Some(0), "{text}");
    let actions: Vec<Value> = recorder.requests().iter().map(|r| r.json()["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    let (code, text) = run(&["alerts", "test", "pagr"]).await;
    assert!(code == Some(2) && text.contains("did you mean `pager`"), "{text}");
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
