//! The read API, tokens, and the operations endpoints.

use crate::support::{ANSWERED, JUDGED, Service, config, fixture, traces};
use assize::config::{Ambient, Config, Scope, Token};
use assize::server::{Guard, router};
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test]
async fn verdicts_are_paged_without_gaps_or_repeats() {
    let service = Service::start(config(&[ANSWERED])).await;
    service.send(&traces::many("t", 25)).await;
    service.verdicts(25).await;
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = service.get(&format!("/api/v1/verdicts?limit=10{cursor}")).await;
        seen.extend(page["verdicts"].as_array().expect("a list").iter().map(|v| v["trace_id"].to_string()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), pages), (25, 25, 3));
}

#[tokio::test]
async fn a_verdict_has_the_fields_of_the_fixed_interface() {
    let service = Service::start(config(&[ANSWERED])).await;
    service.send(&traces::many("t", 1)).await;
    service.verdicts(1).await;
    let page = service.get("/api/v1/verdicts").await;
    let verdict = page["verdicts"][0].as_object().expect("an object").clone();
    for key in [
        "trace_id",
        "span_id",
        "rubric",
        "rubric_version",
        "outcome",
        "score",
        "label",
        "passed",
        "confidence",
        "explanation",
        "decided_by",
        "checks",
        "votes",
        "cost_usd",
        "latency_ms",
        "inclusion_probability",
        "trace",
    ] {
        assert!(verdict.contains_key(key), "{key}");
    }
    assert!(verdict["checks"]["failure_to_answer"]["score"].as_f64().is_some_and(|s| s > 0.9), "{verdict:?}");
}

#[tokio::test]
async fn bad_questions_get_problems_that_help() {
    let service = Service::start(config(&[ANSWERED])).await;
    for (path, status, words) in [
        ("/api/v1/verdicts?outcome=nonsense", 400, "not_applicable"),
        ("/api/v1/verdicts?cursor=nonsense", 400, "cursor"),
        ("/api/v1/verdicts?nonsense=1", 400, "nonsense"),
        ("/api/v1/verdicts?since=yesterday", 400, "24h"),
        ("/api/v1/traces/nobody", 404, "not known"),
        ("/nowhere", 404, "/v1/traces"),
    ] {
        let response = service.http.get(format!("{}{path}", service.base)).send().await.expect("it answers");
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let problem: Value = response.json().await.expect("JSON");
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(words)), "{path}: {problem}");
    }
}

#[tokio::test]
async fn operations_endpoints_answer() {
    let service = Service::start(config(&[ANSWERED, JUDGED, "name: broken\nnonsense: 1\n"])).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(service.http.get(format!("{}{path}", service.base)).send().await.expect("it answers").status(), 200);
    }
    let metrics = service.http.get(format!("{}/metrics", service.base)).send().await.expect("it answers");
    let text = metrics.text().await.expect("text");
    // A rubric that does not judge is never silent about it.
    assert!(text.contains("assize_rubric_state{rubric=\"judged\",state=\"no_judge\"} 1"), "{text}");
    let rubrics = service.get("/api/v1/rubrics").await;
    let states: Vec<&str> =
        rubrics["rubrics"].as_array().expect("a list").iter().filter_map(|r| r["state"].as_str()).collect();
    assert_eq!(states.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&"active", &"no_judge", &"unparsable"]));
}

#[tokio::test]
async fn with_tokens_each_door_needs_its_scope() {
    let service = Service::start(config(&[ANSWERED])).await;
    let mut guarded = Config::default();
    let token = |name: &str, scope| Token { name: name.to_owned(), token_env: name.to_owned(), scopes: vec![scope] };
    guarded.server.tokens = vec![token("INGEST", Scope::Ingest), token("READ", Scope::Read)];
    let ambient = Ambient::of(&[("INGEST", "in-secret"), ("READ", "read-secret")]);
    let guard = Guard::new(&guarded, &ambient).expect("both are set");
    let base = crate::support::serve(router(&service.app, None, true, guard)).await;
    let ask = |path: &'static str, token: Option<&'static str>| {
        let mut request = service.http.get(format!("{base}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        async move { request.send().await.expect("it answers").status().as_u16() }
    };
    assert_eq!(ask("/livez", None).await, 200);
    assert_eq!(ask("/readyz", None).await, 200);
    assert_eq!(ask("/api/v1/verdicts", None).await, 401);
    assert_eq!(ask("/metrics", Some("wrong")).await, 401);
    assert_eq!(ask("/api/v1/verdicts", Some("in-secret")).await, 403);
    assert_eq!(ask("/api/v1/verdicts", Some("read-secret")).await, 200);
    assert!(Guard::new(&guarded, &Ambient::default()).is_err(), "a token without its variable is an error");
}

#[test]
fn every_metric_is_documented() {
    let documented: BTreeSet<String> = std::fs::read_to_string(fixture("../../docs/metrics.md"))
        .expect("docs/metrics.md is there")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .filter(|name| name.starts_with("assize_"))
        .collect();
    let source = include_str!("../../src/runtime/metrics.rs");
    let registered: BTreeSet<String> = source
        .split('"')
        .filter(|text| text.starts_with("assize_") && !text.contains(' '))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, registered);
}
