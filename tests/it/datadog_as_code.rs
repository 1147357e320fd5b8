//! Monitors and dashboard put into Datadog's API: twice is once, a changed threshold is an update, errors name place and remedy.

use crate::support::program::assize;
use crate::support::{ANSWERED, JUDGED, Service, config, eventually, serve, sim, traces, with_judges};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const API_KEY: &str = "0123456789abcdef0123456789abcdef";
const APP_KEY: &str = "fedcba9876543210fedcba9876543210fedcba98";

type Refusal = (StatusCode, axum::Json<Value>);

/// The parts of Datadog's API that are used, with a memory; it adds fields of its own, as the real one does.
#[derive(Clone, Default)]
struct Api {
    monitors: Arc<Mutex<BTreeMap<u64, Value>>>,
    dashboards: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Method and path of every request, in order.
    asked: Arc<Mutex<Vec<String>>>,
    series: Arc<Mutex<Vec<Value>>>,
}

impl Api {
    async fn start() -> (Self, String) {
        let api = Self::default();
        let router = Router::new()
            .route("/api/v1/monitor", get(list_monitors).post(create_monitor))
            .route("/api/v1/monitor/{id}", axum::routing::put(update_monitor))
            .route("/api/v1/dashboard", get(list_dashboards).post(create_dashboard))
            .route("/api/v1/dashboard/{id}", get(read_dashboard).put(update_dashboard))
            .route("/api/v2/series", axum::routing::post(take_series))
            .with_state(api.clone());
        let base = serve(router).await;
        (api, base)
    }

    fn admit(&self, headers: &HeaderMap, what: &str) -> Result<(), Refusal> {
        self.asked.lock().expect("no test panics here").push(what.to_owned());
        let has = |name: &str, key: &str| headers.get(name).is_some_and(|value| value == key);
        if has("dd-api-key", API_KEY) && has("dd-application-key", APP_KEY) {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, axum::Json(json!({"errors": ["Forbidden"]}))))
    }

    /// Requests that wrote, since the last call.
    fn written(&self) -> usize {
        let mut asked = self.asked.lock().expect("no test panics here");
        let count = asked.iter().filter(|what| !what.starts_with("GET")).count();
        asked.clear();
        count
    }
}

fn page<T: Clone>(all: &[T], from: usize, size: usize) -> Vec<T> {
    all.iter().skip(from).take(size).cloned().collect()
}

async fn list_monitors(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "GET monitors")?;
    let number = |name: &str| query[name].parse::<usize>().expect("a number");
    let tag = &query["monitor_tags"];
    let all: Vec<Value> = api.monitors.lock().expect("no test panics here").values().cloned().collect();
    let ours: Vec<Value> =
        all.into_iter().filter(|m| m["tags"].as_array().is_some_and(|tags| tags.contains(&json!(tag)))).collect();
    Ok(axum::Json(json!(page(&ours, number("page") * number("page_size"), number("page_size")))))
}

async fn create_monitor(
    State(api): State<Api>,
    headers: HeaderMap,
    axum::Json(mut monitor): axum::Json<Value>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "POST monitor")?;
    let query = monitor["query"].as_str().expect("a query").to_owned();
    let critical = monitor["options"]["thresholds"]["critical"].as_f64().expect("a threshold");
    if query.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()) != Some(critical) {
        let errors = json!({"errors": [format!("threshold of {API_KEY} does not match the query")]});
        return Err((StatusCode::BAD_REQUEST, axum::Json(errors)));
    }
    let mut monitors = api.monitors.lock().expect("no test panics here");
    let id = 1_000 + monitors.len() as u64;
    monitor["id"] = json!(id);
    monitor["type"] = json!("metric alert");
    monitor["options"]["silenced"] = json!({});
    monitor["overall_state"] = json!("No Data");
    monitors.insert(id, monitor.clone());
    Ok(axum::Json(monitor))
}

async fn update_monitor(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<u64>,
    axum::Json(mut monitor): axum::Json<Value>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "PUT monitor")?;
    monitor["id"] = json!(id);
    api.monitors.lock().expect("no test panics here").insert(id, monitor.clone());
    Ok(axum::Json(monitor))
}

async fn list_dashboards(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "GET dashboards")?;
    let number = |name: &str| query[name].parse::<usize>().expect("a number");
    let all = api.dashboards.lock().expect("no test panics here");
    let short: Vec<Value> =
        all.iter().map(|(id, d)| json!({"id": id, "title": d["title"], "description": d["description"]})).collect();
    Ok(axum::Json(json!({"dashboards": page(&short, number("start"), number("count"))})))
}

async fn create_dashboard(
    State(api): State<Api>,
    headers: HeaderMap,
    axum::Json(mut board): axum::Json<Value>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "POST dashboard")?;
    let mut all = api.dashboards.lock().expect("no test panics here");
    let id = format!("abc-def-{:03}", all.len());
    board["id"] = json!(id);
    for (n, widget) in board["widgets"].as_array_mut().expect("widgets").iter_mut().enumerate() {
        widget["id"] = json!(n);
    }
    all.insert(id, board.clone());
    Ok(axum::Json(board))
}

async fn read_dashboard(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "GET dashboard")?;
    Ok(axum::Json(api.dashboards.lock().expect("no test panics here")[&id].clone()))
}

async fn update_dashboard(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(id): Path<String>,
    axum::Json(board): axum::Json<Value>,
) -> Result<axum::Json<Value>, Refusal> {
    api.admit(&headers, "PUT dashboard")?;
    api.dashboards.lock().expect("no test panics here").insert(id, board.clone());
    Ok(axum::Json(board))
}

async fn take_series(State(api): State<Api>, axum::Json(body): axum::Json<Value>) -> StatusCode {
    let series = body["series"].as_array().cloned().unwrap_or_default();
    api.series.lock().expect("no test panics here").extend(series);
    StatusCode::ACCEPTED
}

/// Runs the program against an API, in a folder with the rubrics that come along; gives exit code and both outputs.
async fn run(args: &[&str], base: &str, keys: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = assize(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("ASSIZE__DATADOG__API_URL", base).envs(keys.iter().copied());
    let out = command.output().await.expect("the program runs");
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!text.contains(API_KEY) && !text.contains(APP_KEY), "a key is shown: {text}");
    (out.status.code(), text)
}

const KEYS: [(&str, &str); 2] = [("DD_API_KEY", API_KEY), ("DD_APP_KEY", APP_KEY)];

#[tokio::test]
async fn applying_monitors_twice_makes_none_twice_and_a_changed_threshold_is_updated() {
    let (api, base) = Api::start().await;
    let apply = ["datadog", "monitors", "--apply", "--notify", "@slack-llm"];
    let (code, first) = run(&apply, &base, &KEYS).await;
    assert_eq!(code, Some(0), "{first}");
    let count = api.monitors.lock().expect("no test panics here").len();
    assert!(count >= 10 && first.matches("created").count() == count, "{first}");
    assert_eq!(api.written(), count);

    let (_, second) = run(&apply, &base, &KEYS).await;
    assert_eq!(second.matches("unchanged").count(), count, "{second}");
    assert_eq!((api.written(), api.monitors.lock().expect("no test panics here").len()), (0, count));

    // Somebody has changed a threshold and added a tag, and there is one of ours that nobody makes any more.
    {
        let mut monitors = api.monitors.lock().expect("no test panics here");
        let has = |m: &Value, tag: &str| m["tags"].as_array().is_some_and(|tags| tags.contains(&json!(tag)));
        let changed = monitors.values_mut().find(|m| has(m, "assize:monitor:faithfulness")).expect("it is there");
        changed["options"]["thresholds"]["critical"] = json!(0.5);
        changed["tags"].as_array_mut().expect("tags").push(json!("team:search"));
        monitors.insert(7, json!({"id": 7, "tags": ["managed_by:assize", "assize:monitor:gone"]}));
    }
    let (_, third) = run(&apply, &base, &KEYS).await;
    assert_eq!((third.matches("updated").count(), third.matches("created").count()), (1, 0), "{third}");
    assert!(third.contains("`gone` (7)"), "{third}");
    assert_eq!(api.written(), 1);
    let monitors = api.monitors.lock().expect("no test panics here");
    let repaired =
        monitors.values().find(|m| m["tags"].to_string().contains("monitor:faithfulness")).expect("it is there");
    assert_eq!(repaired["options"]["thresholds"]["critical"], 0.75);
    assert!(repaired["tags"].as_array().expect("tags").contains(&json!("team:search")), "people's tags stay");
}

#[tokio::test]
async fn the_dashboard_is_found_by_its_mark() {
    let (api, base) = Api::start().await;
    // More than a page of other people's dashboards.
    for n in 0..150 {
        let other = json!({"id": format!("other-{n}"), "title": "x", "description": null});
        api.dashboards.lock().expect("no test panics here").insert(format!("other-{n}"), other);
    }
    let apply = ["datadog", "dashboard", "--apply", "--json"];
    for expected in ["created", "unchanged"] {
        let (code, text) = run(&apply, &base, &KEYS).await;
        let line = text.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
        let told: Value = serde_json::from_str(line).expect("it is JSON");
        assert_eq!((code, told["applied"][0]["done"].as_str()), (Some(0), Some(expected)), "{text}");
    }
    assert_eq!(api.dashboards.lock().expect("no test panics here").len(), 151);
}

#[tokio::test]
async fn errors_name_place_and_remedy_and_no_key() {
    let (_, base) = Api::start().await;
    let apply = ["datadog", "monitors", "--apply"];
    let (code, text) = run(&apply, &base, &KEYS[..1]).await;
    assert!(code == Some(2) && text.contains("DD_APP_KEY is not set"), "{text}");
    let (_, text) = run(&apply, &base, &[("DD_API_KEY", "wrong"), ("DD_APP_KEY", APP_KEY)]).await;
    assert!(text.contains("refuses the keys (403)") && text.contains("monitors_write"), "{text}");
    let (_, text) = run(&apply, "http://127.0.0.1:9", &KEYS).await;
    assert!(text.contains("listing monitors: no answer") && text.contains("DD_SITE"), "{text}");
    // What Datadog says is shown, but for keys in it.
    let echo = Router::new().fallback(|| async {
        let errors = json!({"errors": [format!("bad monitor for {API_KEY}")]});
        (StatusCode::BAD_REQUEST, axum::Json(errors))
    });
    let (_, text) = run(&apply, &serve(echo).await, &KEYS).await;
    assert!(text.contains("Datadog answers 400: bad monitor for ***"), "{text}");
    let (code, text) = run(&["datadog", "monitors", "--notify", "slack"], &base, &[]).await;
    assert!(code == Some(2) && text.contains("begins with @"), "{text}");
}

#[tokio::test]
async fn outputs_can_be_read_by_those_they_are_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().display().to_string();
    let (code, text) = run(&["datadog", "monitors", "--out", &out], "http://127.0.0.1:9", &[]).await;
    assert_eq!(code, Some(0), "{text}");
    let monitor = std::fs::read_to_string(dir.path().join("monitor_faithfulness.json")).expect("a file a monitor");
    let monitor: Value = serde_json::from_str(&monitor).expect("it is JSON");
    assert_eq!(monitor["type"], "query alert");
    run(&["datadog", "monitors", "--format", "terraform", "--out", &out], "http://127.0.0.1:9", &[]).await;
    let terraform = std::fs::read_to_string(dir.path().join("assize_monitors.tf")).expect("a file");
    assert!(terraform.contains("resource \"datadog_monitor_json\" \"assize_faithfulness\""));
    let (_, rules) = run(&["prometheus", "rules"], "http://127.0.0.1:9", &[]).await;
    assert!(rules.contains("- alert: AssizeFaithfulness"), "{rules}");
    let (_, board) = run(&["grafana", "dashboard"], "http://127.0.0.1:9", &[]).await;
    assert!(board.contains("\"uid\": \"assize-quality\""), "{board}");
}

#[tokio::test]
async fn corrected_rates_reach_datadog_and_prometheus() {
    let (api, base) = Api::start().await;
    let (_, judge) = sim(assize::llm::sim::Faults::default()).await;
    let mut config = config(&[ANSWERED, JUDGED]);
    with_judges(&mut config, &judge, &["a"]);
    config.datadog.api_key = Some(API_KEY.to_owned().into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    service.send(&traces::many("t", 5)).await;
    service.verdicts(10).await;
    let sent = assize::pipeline::gauges::once(&service.app).await.expect("it can be counted");
    assert_eq!(sent, 12, "two rubrics, a pass rate and a mean with both bounds each");
    let series = eventually("the gauges arrive", || async {
        let series = api.series.lock().expect("no test panics here").clone();
        (series.len() >= 12).then_some(series)
    })
    .await;
    let found = series
        .iter()
        .find(|s| {
            s["metric"] == "llm.eval.pass_rate"
                && s["tags"].as_array().is_some_and(|t| t.contains(&json!("eval:answered")))
        })
        .expect("the pass rate of `answered`");
    assert_eq!((found["type"].as_u64(), found["points"][0]["value"].as_f64()), (Some(3), Some(1.0)));
    let response = service.http.get(format!("{}/metrics", service.base)).send().await.expect("it answers");
    let metrics = response.text().await.expect("text");
    assert!(metrics.contains("assize_pass_rate{bound=\"estimate\",rubric=\"answered\"} 1"), "{metrics}");
    assert!(metrics.contains("assize_mean_score{bound=\"upper\",rubric=\"answered\"} 0.99"), "{metrics}");
}
