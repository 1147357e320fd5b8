//! One incident a cause, and its life: replays, races, quiet hours, routes, the API and the command line.

use super::{HOOK, finding, raise, service_at, start, with_alerts};
use crate::support::recorder::Recorder;
use crate::support::{Service, database, eventually, program, traces};
use assize::domain::alert::incident::{Place, State};
use assize::domain::alert::{Finding, Severity};
use assize::domain::clock::{Clock, ManualClock};
use assize::pipeline::notify;
use assize::store::alerts::{AlertFilter, By};
use chrono::TimeDelta;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

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
