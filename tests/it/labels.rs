//! What people say about answers: files, the API, feedback in traces, the queue and its probabilities, the forms.

use crate::support::program::assize;
use crate::support::{ANSWERED, PATIENCE, Service, config, database, eventually, sim, traces, with_judges};
use assize::config::{Ambient, Config, Scope, Token};
use assize::domain::label::{Label, LabelledVerdict, Source};
use assize::llm::sim::Faults;
use assize::pipeline::label_queue;
use assize::pipeline::labels::Book;
use assize::server::{Guard, router};
use assize::store::Store;
use assize::store::labels::{LabelFilter, LabelledFilter};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

/// A free rubric that takes users' feedback.
const HEARD: &str = "name: answered\nfeedback: true\nchecks: [failure_to_answer]\n";

async fn labels(store: &Store, superseded: bool) -> Vec<Label> {
    store.labels(&LabelFilter { superseded, limit: 1_000, ..LabelFilter::default() }).await.expect("labels")
}

async fn joined(store: &Store, rank_min: i16) -> Vec<LabelledVerdict> {
    let filter = LabelledFilter { rubric: "answered".to_owned(), rank_min, limit: 1_000, ..LabelledFilter::default() };
    store.labelled_verdicts(&filter).await.expect("a join")
}

async fn post(service: &Service, body: Value) -> (u16, Value) {
    let (status, answer) =
        service.post("/api/v1/labels", &[("content-type", "application/json")], body.to_string()).await;
    (status, serde_json::from_slice(&answer).expect("JSON"))
}

/// Runs a command on a database, with something typed into it; gives exit code, output and errors.
async fn run(url: &SecretString, args: &[&str], typed: &str) -> (Option<i32>, String, String) {
    let mut command = assize(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("DATABASE_URL", url.expose_secret());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(typed.as_bytes()).await.expect("it listens");
    drop(input);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

async fn migrated() -> (SecretString, Store) {
    let url = database().await;
    let store = Store::connect(&url, 2, PATIENCE).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    (url, store)
}

#[tokio::test]
async fn a_file_imported_twice_is_imported_once() {
    let (url, store) = migrated().await;
    let line = |trace: &str, passed: bool, at: &str| {
        json!({"trace_id": trace, "rubric": "faithfulness", "passed": passed, "labeller": "ann", "made_at": at})
            .to_string()
    };
    let file = [line("a", true, "2026-11-01T00:00:00Z"), line("b", false, "2026-11-01T00:00:00Z")].join("\n");
    let import = ["labels", "import", "-", "--json"];
    let report = |out: &str| serde_json::from_str::<Value>(out).expect("JSON");
    let (code, out, err) = run(&url, &["labels", "import", "-", "--json", "--dry-run"], &file).await;
    assert_eq!((code, report(&out)["imported"].as_i64()), (Some(0), Some(2)), "{err}");
    assert!(labels(&store, true).await.is_empty(), "a dry run stores nothing");
    let (code, out, err) = run(&url, &import, &file).await;
    assert_eq!((code, report(&out)["imported"].as_i64()), (Some(0), Some(2)), "{err}");
    let (_, out, _) = run(&url, &import, &file).await;
    assert_eq!((report(&out)["imported"].as_i64(), report(&out)["unchanged"].as_i64()), (Some(0), Some(2)));
    // A change of mind takes the first label's place, and the old file does not bring it back.
    let (_, out, _) = run(&url, &import, &line("a", false, "2026-11-02T00:00:00Z")).await;
    assert_eq!(report(&out)["replaced"], 1);
    let (_, out, _) = run(&url, &import, &file).await;
    assert_eq!(report(&out)["unchanged"], 2);
    let (_, out, _) = run(&url, &import, &line("a", true, "2026-10-01T00:00:00Z")).await;
    assert_eq!(report(&out)["superseded"], 1, "an older word of the same person does not count");
    let current = labels(&store, false).await;
    assert_eq!(current.iter().filter(|l| l.passed).count(), 0, "{current:?}");
    assert_eq!((current.len(), labels(&store, true).await.len()), (2, 4), "all are kept");
}

#[tokio::test]
async fn bad_lines_are_named_with_their_remedy_and_the_others_stored() {
    let (url, store) = migrated().await;
    let dir = tempfile::tempdir().expect("a folder");
    let table = dir.path().join("labels.csv");
    let rows = "trace_id,rubric,label,score,comment\na,tone_and_brand,polite,,\nb,tone_and_brand,purple,,\nc,faithfulnes,,0.5,\nd,faithfulness,,4,\n\
                e,faithfulness,,0.5,\"two, in quotes\"\nf,faithfulness\n";
    std::fs::write(&table, rows).expect("a file can be written");
    let lines = dir.path().join("labels.jsonl");
    std::fs::write(
        &lines,
        "{\"trace_id\": \"g\", \"rubric\": \"faithfulness\", \"pased\": true}\nnonsense\n\
        {\"trace_id\": \"h\", \"output\": \"x\", \"label\": {\"faithfulness\": true}}\n",
    )
    .expect("a file can be written");
    let (table, lines) = (table.to_str().expect("a path"), lines.to_str().expect("a path"));
    let (code, out, err) = run(&url, &["labels", "import", table, lines], "").await;
    assert_eq!(code, Some(2), "{out} {err}");
    for words in [
        "labels.csv:3: `tone_and_brand` has no such label; there are `",
        "labels.csv:4: there is no such rubric (did you mean `faithfulness`?)",
        "labels.csv:5: the score 4 is not from 0 to 1",
        "labels.csv:7: 2 cells where the header has 5",
        "labels.jsonl:1: `pased` is no field of a label; did you mean `passed`?",
        "labels.jsonl:2: not JSON",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    let mut stored: Vec<String> = labels(&store, true).await.into_iter().map(|l| l.trace_id).collect();
    stored.sort();
    assert_eq!(stored, ["a", "e", "h"]);
    let (code, _, err) = run(&url, &["labels", "import", "nowhere.csv"], "").await;
    assert!(code == Some(2) && err.contains("cannot read nowhere.csv"), "{err}");
}

#[tokio::test]
async fn the_api_takes_labels_by_themselves_and_refuses_by_line() {
    let service = Service::start(config(&[ANSWERED])).await;
    let good =
        json!({"trace_id": "t", "rubric": "answered", "passed": true, "labeller": "ann", "comment": "because-secret"});
    let (status, answer) = post(&service, good.clone()).await;
    assert_eq!((status, answer["imported"].as_i64()), (200, Some(1)), "{answer}");
    let (_, answer) = post(&service, good.clone()).await;
    assert_eq!(answer["unchanged"], 1, "a sender that tries again changes nothing");
    let mixed =
        json!([good, {"trace_id": "u", "rubric": "answerd", "passed": true}, {"rubric": "answered", "passed": true}]);
    let (status, answer) = post(&service, mixed).await;
    assert_eq!((status, answer["accepted"].as_i64(), answer["rejected"].as_i64()), (200, Some(1), Some(2)), "{answer}");
    assert_eq!(answer["errors"][0]["line"], 2);
    assert!(answer["errors"][0]["error"].as_str().is_some_and(|e| e.contains("`answered`")), "{answer}");
    let (status, answer) = post(&service, json!({"trace_id": "t", "rubric": "answered"})).await;
    assert!(status == 400 && answer["detail"].as_str().is_some_and(|d| d.contains("nothing is said")), "{answer}");
    // No rubric here takes feedback, and the sender is told.
    let (status, answer) = post(&service, json!({"trace_id": "t", "kind": "feedback", "thumb": "up"})).await;
    assert!(status == 400 && answer["detail"].as_str().is_some_and(|d| d.contains("feedback: true")), "{answer}");
    // A change of mind and back again, without times.
    for (passed, want) in [(false, "replaced"), (true, "replaced")] {
        let mut said = good.clone();
        said["passed"] = json!(passed);
        assert_eq!(post(&service, said).await.1[want], 1);
    }
    let listed = service.get("/api/v1/labels?rubric=answered").await;
    assert_eq!(listed["labels"].as_array().map(Vec::len), Some(1), "{listed}");
    assert!(listed["labels"][0]["passed"] == true && !listed.to_string().contains("because-secret"), "{listed}");
    let all = service.get("/api/v1/labels?superseded=true&limit=2").await;
    assert!(all["labels"].as_array().map(Vec::len) == Some(2) && all["next"].is_string(), "{all}");
}

#[tokio::test]
async fn labels_need_their_own_scope() {
    let service = Service::start(config(&[ANSWERED])).await;
    let mut guarded = Config::default();
    let token = |name: &str, scope| Token { name: name.to_owned(), token_env: name.to_owned(), scopes: vec![scope] };
    guarded.server.tokens = vec![token("LABEL", Scope::Label), token("READ", Scope::Read)];
    let guard =
        Guard::new(&guarded, &Ambient::of(&[("LABEL", "label-it"), ("READ", "read-it")])).expect("both are set");
    let base = crate::support::serve(router(&service.app, None, true, guard)).await;
    let body = json!({"trace_id": "t", "rubric": "answered", "passed": true}).to_string();
    let ask = |token: Option<&'static str>, get: bool| {
        let url = format!("{base}/api/v1/labels");
        let mut request = if get { service.http.get(url) } else { service.http.post(url).body(body.clone()) };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        async move { request.send().await.expect("it answers").status().as_u16() }
    };
    assert_eq!((ask(None, false).await, ask(Some("read-it"), false).await), (401, 403));
    assert_eq!((ask(Some("label-it"), false).await, ask(Some("label-it"), true).await), (200, 403));
    assert_eq!(ask(Some("read-it"), true).await, 200);
    // The pages: a form for the token, and then a cookie that only they take, from their own site only.
    let page = |cookie: Option<String>, post: Option<&'static str>| {
        let url = format!("{base}/labels");
        let mut request = match post {
            Some(origin) => service
                .http
                .post(format!("{url}/answered"))
                .header("origin", origin)
                .header("content-type", "application/x-www-form-urlencoded")
                .body("x=1"),
            None => service.http.get(url),
        };
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        async move { request.send().await.expect("it answers").status().as_u16() }
    };
    assert_eq!(page(None, None).await, 401);
    let sign_in = |token: &'static str| {
        let request = service.http.post(format!("{base}/labels/sign-in")).body(format!("token={token}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        async move { request.send().await.expect("it answers") }
    };
    assert!(sign_in("read-it").await.headers().get("set-cookie").is_none(), "another scope opens no page");
    let plain = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let signed = plain.post(format!("{base}/labels/sign-in")).body("token=label-it");
    let signed = signed.header("content-type", "application/x-www-form-urlencoded").send().await.expect("it answers");
    let cookie = signed.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("label-it"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    assert_eq!(page(Some(cookie.clone()), None).await, 200);
    assert_eq!(page(Some(cookie.clone()), Some("https://evil.example")).await, 403);
    let own: &'static str = base.clone().leak();
    assert_eq!(page(Some(cookie), Some(own)).await, 422, "let in; only the form is not whole");
}

#[tokio::test]
async fn a_label_that_comes_with_a_trace_is_a_persons() {
    let service = Service::start(config(&[ANSWERED])).await;
    let mut trace = traces::trace("labelled", "Sofas can be returned within 30 days of delivery.");
    trace["label"] = json!({"rubric": "answered", "passed": false, "labeller": "ann", "source": "expert"});
    service.send(&[trace.clone()]).await;
    service.verdicts(1).await;
    // Again, when it has been decided: the label is the same one.
    service.send(&[trace.clone()]).await;
    service.verdicts(1).await;
    let stored = labels(&service.app.store, true).await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(!stored[0].passed && stored[0].source == Source::Expert);
    let body = service.app.store.trace("labelled").await.expect("a read").expect("it is there").body.expect("kept");
    assert!(!String::from_utf8_lossy(&body).contains("expert"), "no judge and no reader of the trace sees its label");
    let found = joined(&service.app.store, 1).await;
    assert!(found.len() == 1 && found[0].passed && !found[0].label.passed, "{found:?}");
    assert_eq!(found[0].label_probability, None, "nobody drew it");
    // A label that fits nothing costs no trace, and its sender hears of it.
    trace["trace_id"] = json!("odd");
    trace["label"] = json!({"rubric": "nonsense", "passed": true});
    let (status, answer) =
        service.post("/api/v1/traces", &[("content-type", "application/json")], trace.to_string()).await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!(
        (status, answer["accepted"].as_i64(), answer["labels"]["rejected"].as_i64()),
        (200, Some(1), Some(1)),
        "{answer}"
    );
    service.verdicts(2).await;
    assert_eq!(service.app.bench.metrics.labels.with_label_values(&["trace", "refused"]).get(), 1);
}

#[tokio::test]
async fn the_higher_source_counts_and_all_are_kept() {
    let (_sim, base) = sim(Faults::default()).await;
    let rubric = "name: answered\nfeedback: true\npanel: default\nprompt: \"{{ question }} {{ answer }}\"\n";
    let mut config = config(&[rubric]);
    with_judges(&mut config, &base, &["one", "two"]);
    let service = Service::start(config).await;
    service.send(&traces::many("t", 2)).await;
    service.verdicts(2).await;
    // Labels for a trace that never came are kept, and join nothing.
    let thumb = |trace: &str, way: &str| json!({"trace_id": trace, "kind": "feedback", "thumb": way, "user_id": "u1"});
    for body in [thumb("t-0", "up"), thumb("t-1", "down"), thumb("nobody", "up")] {
        let (status, answer) = post(&service, body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let store = &service.app.store;
    let sources = |found: &[LabelledVerdict]| found.iter().map(|v| v.label.source).collect::<Vec<_>>();
    let found = joined(store, 1).await;
    assert_eq!(sources(&found), [Source::UserFeedback; 2]);
    assert!(joined(store, 2).await.is_empty(), "feedback is no annotation");
    for (who, source, passed) in [("ann", "annotator", true), ("eve", "expert", false), ("bob", "annotator", false)] {
        let label =
            json!({"trace_id": "t-0", "rubric": "answered", "passed": passed, "source": source, "labeller": who});
        assert_eq!(post(&service, label).await.0, 200);
    }
    let found = joined(store, 1).await;
    assert_eq!(sources(&found), [Source::Expert, Source::UserFeedback]);
    assert!(!found[0].label.passed && !found[0].conflicting, "annotators differ, but there is one expert: {found:?}");
    assert_eq!(found[0].votes.iter().map(|v| v.judge.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(found[0].votes.iter().all(|v| v.score.is_some()));
    assert_eq!(found[0].trace.feature.as_deref(), Some("returns"));
    assert_eq!(labels(store, false).await.len(), 6, "three of t-0 beside its feedback, and two more");
}

#[tokio::test]
async fn feedback_in_spans_is_a_label_of_the_lowest_rank() {
    let service = Service::start(config(&[HEARD])).await;
    let id = "5b8efff798038103d269b633813fc60c";
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
    "traceId": id, "spanId": "eee19b7ec3c1b174", "name": "chat", "startTimeUnixNano": "1", "endTimeUnixNano": "2",
    "attributes": [
        text("openinference.span.kind", "LLM"), text("input.value", "How long?"), text("output.value", "30 days."),
        text("annotations.0.annotation.name", "user feedback"), text("annotations.0.annotation.label", "thumbs-down"),
        text("annotations.0.annotation.annotator_kind", "HUMAN"), text("annotations.0.annotation.identifier", "u-1"),
        text("assize.feedback.thumb", "down"), text("assize.feedback.labeller", "u-2"),
    ]}]}]}]});
    let (status, _) = service.post("/v1/traces", &[("content-type", "application/json")], body.to_string()).await;
    assert_eq!(status, 200);
    service.verdicts(1).await;
    let stored = labels(&service.app.store, false).await;
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(stored.iter().all(|l| !l.passed && l.source == Source::UserFeedback && l.trace_id == id), "{stored:?}");
}

/// What the labels so far say about all traces, by inverse probabilities.
fn estimate(found: &[LabelledVerdict]) -> f64 {
    found.iter().filter_map(|v| v.label_probability).map(|p| 1.0 / p).sum()
}

#[tokio::test]
async fn the_queue_knows_with_which_probability_each_trace_was_drawn() {
    const TRACES: u32 = 400;
    let service = Service::start(config(&[ANSWERED])).await;
    let all: Vec<Value> = (0..TRACES)
        .map(|n| {
            let answer = if n % 4 == 0 { "I'm sorry, I cannot help with that." } else { "Within 30 days of delivery." };
            traces::trace(&format!("q-{n}"), answer)
        })
        .collect();
    service.send(&all).await;
    service.verdicts(TRACES as usize).await;
    let (store, now) = (&service.app.store, chrono::Utc::now());
    let book = Book::of(&service.app.bench.rubrics.load());
    let rubric = book.get("answered").expect("it is there");
    let since = now - chrono::TimeDelta::hours(1);
    let draw = label_queue::draw(store, rubric, 100, "salt", (since, now)).await.expect("a draw");
    assert!((70..=130).contains(&draw.drawn.len()), "{}", draw.drawn.len());
    assert!(draw.drawn.iter().all(|d| d.draw < d.probability && d.probability <= 1.0));
    assert!(draw.strata.len() >= 2, "{:?}", draw.strata);
    let waiting = store.waiting_for_labels("answered", 1_000).await.expect("a read");
    assert_eq!(waiting.len(), draw.drawn.len());
    let label = |trace: &str| json!({"trace_id": trace, "rubric": "answered", "passed": true, "labeller": "ann"});
    // Half of it in the queue's order is a probability sample too: smaller, with smaller probabilities.
    let half = waiting.len() / 2;
    let bodies = waiting.iter().take(half).map(|w| label(&w.trace_id)).collect();
    assert_eq!(post(&service, Value::Array(bodies)).await.0, 200);
    let found = joined(store, 2).await;
    assert!(found.len() == half && found.iter().all(|v| v.label_probability.is_some()));
    let estimated = estimate(&found);
    assert!((estimated / f64::from(TRACES) - 1.0).abs() < 0.35, "half: {estimated}");
    // The rest, and some that nobody drew: those are labels, but no part of the sample.
    let drawn: Vec<&str> = waiting.iter().map(|w| w.trace_id.as_str()).collect();
    let others = (0..TRACES).map(|n| format!("q-{n}")).filter(|id| !drawn.contains(&id.as_str())).take(30);
    let bodies = waiting.iter().skip(half).map(|w| label(&w.trace_id)).chain(others.map(|id| label(&id))).collect();
    assert_eq!(post(&service, Value::Array(bodies)).await.0, 200);
    let found = joined(store, 2).await;
    assert_eq!(found.iter().filter(|v| v.label_probability.is_none()).count(), 30);
    let estimated = estimate(&found);
    assert!((estimated / f64::from(TRACES) - 1.0).abs() < 0.25, "whole: {estimated}");
    // Each has exactly the probability that was recorded when it was drawn.
    for one in found.iter().filter(|v| v.label_probability.is_some()) {
        let drawn = draw.drawn.iter().find(|d| d.trace_id == one.trace_id).expect("it was drawn");
        assert_eq!(one.label_probability, Some(drawn.probability));
    }
    // The same draw again asks for nothing new; a greater one for more.
    label_queue::draw(store, rubric, 100, "salt", (since, now)).await.expect("a draw");
    assert!(store.waiting_for_labels("answered", 1_000).await.expect("a read").is_empty());
    label_queue::draw(store, rubric, 200, "salt", (since, now)).await.expect("a draw");
    assert!(store.waiting_for_labels("answered", 1_000).await.expect("a read").len() > 30);
}

#[tokio::test]
async fn the_form_in_the_terminal_saves_each_answer_and_can_be_taken_up_again() {
    let url = database().await;
    let mut config = config(&[ANSWERED]);
    config.rubrics.dir = "rubrics".into();
    let service = Service::start_on(&url, config).await;
    let hidden = "\u{1b}[2JWithin 30 days of delivery.";
    service.send(&(0..6).map(|n| traces::trace(&format!("r-{n}"), hidden)).collect::<Vec<_>>()).await;
    let store = &service.app.store;
    eventually("all are judged", || async {
        let filter = assize::store::verdicts::VerdictFilter {
            rubric: Some("failure_to_answer".into()),
            limit: 10,
            ..Default::default()
        };
        (store.verdicts(&filter).await.ok()?.len() == 6).then_some(())
    })
    .await;
    let (code, out, err) = run(&url, &["labels", "queue", "failure_to_answer", "--n", "6", "--since", "1h"], "").await;
    assert!(code == Some(0) && out.contains("6 of 6 traces drawn") && out.contains("6 wait"), "{out} {err}");
    let review = ["labels", "review", "failure_to_answer", "--as", "ann"];
    let (code, out, err) = run(&url, &review, "p\nx\nc not polite\nf\ns\nq\n").await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("2 labelled and 1 skipped now; 3 wait") && !out.contains('\u{1b}'), "{out}");
    assert!(!out.contains("judges\n"), "votes are hidden");
    let stored = labels(store, false).await;
    assert_eq!((stored.len(), stored.iter().filter(|l| l.passed).count()), (2, 1));
    assert!(
        stored.iter().any(|l| l.comment.as_deref() == Some("not polite"))
            && stored.iter().all(|l| l.batch_id.is_some())
    );
    let (_, out, _) = run(&url, &review, "p\np\np\n").await;
    assert!(out.contains("3 labelled and 0 skipped now; 0 wait"), "{out}");
    let (_, out, _) = run(&url, &["labels", "queue", "failure_to_answer", "--n", "0", "--json"], "").await;
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((shown["done"]["labelled"].as_i64(), shown["done"]["skipped"].as_i64()), (Some(5), Some(1)), "{shown}");
    let (code, _, err) = run(&url, &["labels", "queue", "failure_to_anser"], "").await;
    assert!(code == Some(2) && err.contains("did you mean `failure_to_answer`"), "{err}");
}

#[tokio::test]
async fn the_page_shows_what_was_drawn_and_saves_what_is_said() {
    let service = Service::start(config(&[ANSWERED])).await;
    service.send(&[traces::trace("page", "<script>alert(1)</script> Within 30 days.")]).await;
    service.verdicts(1).await;
    let (store, now) = (&service.app.store, chrono::Utc::now());
    let book = Book::of(&service.app.bench.rubrics.load());
    let since = now - chrono::TimeDelta::hours(1);
    let rubric = book.get("answered").expect("it is there");
    label_queue::draw(store, rubric, 5, "salt", (since, now)).await.expect("a draw");
    let page = service.http.get(format!("{}/labels/answered", service.base)).send().await.expect("it answers");
    assert!(page.headers()["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
    let text = page.text().await.expect("text");
    assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"), "{text}");
    assert!(!text.contains("The judges"), "votes are hidden");
    let batch = store.waiting_for_labels("answered", 1).await.expect("a read")[0].batch_id;
    let form = |extra: &str| format!("trace_id=page&batch_id={batch}&labeller=ann&comment=&votes=false&{extra}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let (status, body) = service.post("/labels/answered", &headers, form("say=score&score=7")).await;
    assert!(
        status == 422 && String::from_utf8_lossy(&body).contains("from 0 to 1"),
        "{}",
        String::from_utf8_lossy(&body)
    );
    let evil = [headers[0], ("origin", "https://evil.example")];
    assert_eq!(service.post("/labels/answered", &evil, form("say=pass")).await.0, 403);
    let rebound = [headers[0], ("host", "evil.example")];
    assert_eq!(service.post("/labels/answered", &rebound, form("say=pass")).await.0, 403);
    assert!(labels(store, true).await.is_empty());
    let (status, body) = service.post("/labels/answered", &headers, form("say=pass&expert=true")).await;
    assert!(status == 200 && String::from_utf8_lossy(&body).contains("All that was drawn is done"));
    let stored = labels(store, false).await;
    assert!(stored.len() == 1 && stored[0].source == Source::Expert && stored[0].batch_id == Some(batch), "{stored:?}");
    let index = service.http.get(format!("{}/labels", service.base)).send().await.expect("it answers").text().await;
    assert!(index.expect("text").contains("answered"));
}
