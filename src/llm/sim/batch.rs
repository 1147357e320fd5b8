//! The simulated judge's Batch API: a file of requests goes in, and some time later a file of answers is there.
//!
//! Its routes are joined to the judge's router in `mod.rs`; clients call them as they call OpenAI's. Its rule: a line is
//! answered by the same code as a request that comes alone, with the same faults but without rate limits. A batch is due
//! once `batch_ms` have passed, and the next look at any batch answers all that are due. The way not taken: a task for
//! each batch, which would outlive its test and need stopping.

mod lines;
mod shelf;

pub(super) use shelf::Batches;

use super::{Sim, problem};
use crate::runtime::cpu;
use axum::body::Bytes;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use lines::{answer, check, lines};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use shelf::Status;
use std::time::Duration;

/// The one endpoint that can be batched.
const ENDPOINT: &str = "/v1/chat/completions";
/// The one window there is.
const WINDOW: &str = "24h";
/// Most entries of a batch's metadata, as at OpenAI.
const METADATA_MAX: usize = 16;
/// Most characters of a value in it, as at OpenAI.
const METADATA_CHARS_MAX: usize = 512;
/// Batches on a page of the list unless asked otherwise, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// The routes, to be joined to the judge's own.
pub(super) fn routes() -> Router<Sim> {
    Router::new()
        .route("/v1/files", post(upload))
        .route("/v1/files/{id}", delete(remove))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", post(create).get(list))
        .route("/v1/batches/{id}", get(show))
        .route("/v1/batches/{id}/cancel", post(cancel))
}

/// Why a call is refused.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn unknown(what: &str, id: &str) -> Self {
        Self(StatusCode::NOT_FOUND, format!("No such {what}: {id}"))
    }
}

impl From<MultipartError> for Refusal {
    fn from(e: MultipartError) -> Self {
        Self(e.status(), e.body_text())
    }
}

impl From<cpu::Panicked> for Refusal {
    fn from(e: cpu::Panicked) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, e.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = if self.0.is_server_error() { "server_error" } else { "invalid_request_error" };
        problem(self.0, kind, &self.1)
    }
}

// ---- files ----

async fn upload(State(sim): State<Sim>, form: Result<Multipart, MultipartRejection>) -> Result<Json<Value>, Refusal> {
    let form = form.map_err(|e| Refusal(e.status(), e.body_text()))?;
    let (name, content) = read_form(form).await?;
    let checked = content.clone();
    let bad = cpu::run(move || {
        lines(&checked).find(|(line, _)| serde_json::from_slice::<IgnoredAny>(line).is_err()).map(|(_, number)| number)
    });
    if let Some(number) = bad.await? {
        return Err(Refusal::bad(format!("Invalid file format for Batch API: line {number} is not valid JSON.")));
    }
    Ok(Json(sim.batches.shelf().keep_file(name, "batch", content).as_json()))
}

async fn read_form(mut form: Multipart) -> Result<(String, Bytes), Refusal> {
    let (mut purpose, mut file) = (None, None);
    while let Some(field) = form.next_field().await? {
        match field.name() {
            Some("purpose") => purpose = Some(field.text().await?),
            Some("file") => {
                let name = field.file_name().unwrap_or("batch.jsonl").to_owned();
                file = Some((name, field.bytes().await?));
            }
            _ => {}
        }
    }
    if purpose.as_deref() != Some("batch") {
        return Err(Refusal::bad("`purpose` must be 'batch'; the simulated judge knows no other."));
    }
    file.ok_or_else(|| Refusal::bad("Missing required parameter: 'file'."))
}

async fn content(State(sim): State<Sim>, Path(id): Path<String>) -> Result<Response, Refusal> {
    let content = sim.batches.shelf().file(&id)?.content.clone();
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], content).into_response())
}

async fn remove(State(sim): State<Sim>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let mut shelf = sim.batches.shelf();
    shelf.file(&id)?;
    shelf.files.retain(|file| file.id != id);
    Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
}

// ---- batches ----

/// The body of `POST /v1/batches`.
#[derive(Deserialize)]
struct Order {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    #[serde(default)]
    metadata: Value,
}

async fn create(State(sim): State<Sim>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let order: Order = serde_json::from_slice(&body).map_err(|e| Refusal::bad(e.to_string()))?;
    if order.endpoint != ENDPOINT {
        return Err(Refusal::bad(format!("Invalid value for `endpoint`: only '{ENDPOINT}' is supported.")));
    }
    if order.completion_window != WINDOW {
        return Err(Refusal::bad(format!("Invalid value for `completion_window`: only '{WINDOW}' is supported.")));
    }
    if !is_metadata(&order.metadata) {
        let message = format!("`metadata` takes {METADATA_MAX} texts of {METADATA_CHARS_MAX} characters at most.");
        return Err(Refusal::bad(message));
    }
    let input = match sim.batches.shelf().file(&order.input_file_id)? {
        file if file.purpose == "batch" => file.content.clone(),
        file => return Err(Refusal::bad(format!("{} was not uploaded with the purpose 'batch'.", file.id))),
    };
    let unchecked = input.clone();
    let checked = cpu::run(move || check(&unchecked)).await?;
    // OpenAI looks at the lines later, so that even a bad file is first answered with `validating`.
    Ok(Json(sim.batches.shelf().keep_batch(order, input, checked).as_json(Status::Validating)))
}

fn is_metadata(metadata: &Value) -> bool {
    let short = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() <= METADATA_CHARS_MAX);
    match metadata {
        Value::Null => true,
        Value::Object(entries) => entries.len() <= METADATA_MAX && entries.values().all(short),
        _ => false,
    }
}

async fn show(State(sim): State<Sim>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    settle(&sim).await?;
    let mut shelf = sim.batches.shelf();
    let batch = shelf.batch(&id)?;
    Ok(Json(batch.as_json(batch.status)))
}

/// Answers `cancelling`; the next look finds the batch `cancelled`, so that a client meets both.
async fn cancel(State(sim): State<Sim>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    settle(&sim).await?;
    let mut shelf = sim.batches.shelf();
    let batch = shelf.batch(&id)?;
    let too_late = match batch.status {
        Status::InProgress if batch.input.is_none() => Some("finalizing"),
        Status::InProgress | Status::Cancelling => None,
        ended => Some(ended.name()),
    };
    if let Some(status) = too_late {
        return Err(Refusal(StatusCode::CONFLICT, format!("Cannot cancel a batch with status '{status}'.")));
    }
    batch.status = Status::Cancelling;
    Ok(Json(batch.as_json(batch.status)))
}

/// Which part of the list is wanted.
#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

/// The newest first.
async fn list(State(sim): State<Sim>, page: Result<Query<Page>, QueryRejection>) -> Result<Json<Value>, Refusal> {
    let Query(page) = page.map_err(|e| Refusal(e.status(), e.body_text()))?;
    settle(&sim).await?;
    let mut shelf = sim.batches.shelf();
    let before = page.after.as_deref().map(|id| shelf.batch(id).map(|batch| batch.number)).transpose()?;
    let wanted = shelf.batches.iter().rev().filter(|batch| before.is_none_or(|number| batch.number < number));
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut data: Vec<Value> = wanted.take(limit + 1).map(|batch| batch.as_json(batch.status)).collect();
    let has_more = data.len() > limit;
    data.truncate(limit);
    let id = |batch: Option<&Value>| batch.map(|batch| batch["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    Ok(Json(json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})))
}

// ---- answering ----

/// Answers the batches that are due and ends those that were cancelled.
async fn settle(sim: &Sim) -> Result<(), Refusal> {
    let after = Duration::from_millis(sim.faults().batch_ms);
    if sim.batches.shelf().batches.iter().any(|batch| batch.is_due(after)) {
        let sim = sim.clone();
        // Inputs are taken over there, not here: if whoever asked goes away before the work starts, nothing is lost.
        cpu::run(move || answer_due(&sim)).await?;
    }
    Ok(())
}

/// The shelf is free while answers are made; a batch is `in_progress` until it has them.
fn answer_due(sim: &Sim) {
    let faults = sim.faults();
    let due = sim.batches.shelf().take_due(Duration::from_millis(faults.batch_ms));
    for batch in due {
        let answers = answer(sim, &faults, &batch);
        sim.batches.shelf().finish(&batch, answers);
    }
}

#[cfg(test)]
mod tests {
    use super::lines::MISTAKES_MAX;
    use super::shelf::KEPT_MAX;
    use super::*;
    use crate::llm::sim::Faults;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::Service;

    const FORM: &str = "multipart/form-data; boundary=edge";

    /// A judge whose batches are due at once, unless `batch_ms` says otherwise.
    fn sim(faults: Faults) -> Sim {
        Sim::new(Faults { batch_ms: 0, ..faults })
    }

    async fn call(sim: &Sim, method: &str, path: &str, kind: &str, body: String) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, kind);
        let request = request.body(Body::from(body)).expect("a request");
        let response = sim.router().call(request).await.expect("the router never fails");
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("text"))
    }

    async fn json_call(sim: &Sim, method: &str, path: &str, body: String) -> (u16, Value) {
        let (status, text) = call(sim, method, path, "application/json", body).await;
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    async fn get_json(sim: &Sim, path: &str) -> Value {
        json_call(sim, "GET", path, String::new()).await.1
    }

    async fn send(sim: &Sim, purpose: &str, content: &str) -> (u16, Value) {
        let body = format!(
            "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--edge\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--edge--\r\n"
        );
        let (status, text) = call(sim, "POST", "/v1/files", FORM, body).await;
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    fn line(id: &str, body: &Value) -> String {
        json!({"custom_id": id, "method": "POST", "url": ENDPOINT, "body": body}).to_string() + "\n"
    }

    fn question(text: &str) -> Value {
        json!({"model": "sim-large", "messages": [{"role": "user", "content": text}]})
    }

    /// Uploads the lines and makes a batch of them; its path.
    async fn batch_of(sim: &Sim, content: &str) -> String {
        let (status, file) = send(sim, "batch", content).await;
        assert_eq!(status, 200, "{file}");
        let order = json!({"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h",
                           "metadata": {"run": "7"}});
        let (status, batch) = json_call(sim, "POST", "/v1/batches", order.to_string()).await;
        assert_eq!((status, &batch["status"]), (200, &json!("validating")), "{batch}");
        format!("/v1/batches/{}", batch["id"].as_str().expect("an id"))
    }

    /// The lines of the file that `batch` names.
    async fn read(sim: &Sim, batch: &Value, file: &str) -> Vec<Value> {
        let path = format!("/v1/files/{}/content", batch[file].as_str().expect("a file"));
        let (status, text) = call(sim, "GET", &path, "", String::new()).await;
        assert_eq!(status, 200);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn a_batch_waits_its_time_and_answers_as_a_single_request_does() {
        let sim = Sim::new(Faults { batch_ms: 3_600_000, rpm: Some(1), ..Faults::default() });
        let path = batch_of(&sim, &(line("a", &question("one")) + "\n" + &line("b", &question("two")))).await;
        let waiting = get_json(&sim, &path).await;
        assert_eq!(waiting["status"], "in_progress");
        assert_eq!(waiting["request_counts"], json!({"total": 2, "completed": 0, "failed": 0}));

        sim.set_faults(Faults { batch_ms: 0, rpm: Some(1), ..Faults::default() });
        let done = get_json(&sim, &path).await;
        assert_eq!((&done["status"], &done["metadata"]), (&json!("completed"), &json!({"run": "7"})));
        assert_eq!(done["request_counts"], json!({"total": 2, "completed": 2, "failed": 0}));
        assert_eq!((&done["error_file_id"], &done["errors"]), (&Value::Null, &Value::Null));
        let output = read(&sim, &done, "output_file_id").await;
        let ids: Vec<&Value> = output.iter().map(|line| &line["custom_id"]).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!((&output[1]["response"]["status_code"], &output[1]["error"]), (&json!(200), &Value::Null));
        let (_, alone) = json_call(&sim, "POST", ENDPOINT, question("two").to_string()).await;
        assert_eq!(output[1]["response"]["body"]["choices"], alone["choices"]);
        let stats = sim.stats();
        assert_eq!((stats.requests, stats.answered, stats.batched, stats.limited), (3, 3, 2, 0));
        assert_eq!(get_json(&sim, &path).await, done, "it is answered once");
    }

    #[tokio::test]
    async fn refused_and_failed_lines_go_to_the_error_file() {
        let sim = sim(Faults { refuse: vec!["temperature".to_owned()], ..Faults::default() });
        let mut warm = question("one");
        warm["temperature"] = json!(0);
        let path = batch_of(&sim, &(line("warm", &warm) + &line("plain", &question("one")))).await;
        let done = get_json(&sim, &path).await;
        assert_eq!(done["request_counts"], json!({"total": 2, "completed": 1, "failed": 1}));
        assert_eq!(read(&sim, &done, "output_file_id").await[0]["custom_id"], "plain");
        let bad = read(&sim, &done, "error_file_id").await;
        assert_eq!((&bad[0]["custom_id"], &bad[0]["response"]["status_code"]), (&json!("warm"), &json!(400)));
        assert_eq!(bad[0]["response"]["body"]["error"]["code"], "unsupported_parameter");

        sim.set_faults(Faults { batch_ms: 0, error_rate: 1.0, ..Faults::default() });
        let path = batch_of(&sim, &line("a", &question("one"))).await;
        let done = get_json(&sim, &path).await;
        assert_eq!((&done["status"], &done["output_file_id"]), (&json!("completed"), &Value::Null));
        let bad = read(&sim, &done, "error_file_id").await;
        assert_eq!((&bad[0]["response"]["status_code"], &bad[0]["error"]), (&json!(500), &Value::Null));
        assert_eq!((sim.stats().errors, sim.stats().batched), (1, 1));
    }

    #[tokio::test]
    async fn nonsense_is_an_answer_and_silence_expires() {
        let sim = sim(Faults { garbage_rate: 1.0, ..Faults::default() });
        let path = batch_of(&sim, &line("a", &question("one"))).await;
        let output = read(&sim, &get_json(&sim, &path).await, "output_file_id").await;
        assert_eq!(output[0]["response"]["body"]["choices"][0]["finish_reason"], "length");

        sim.set_faults(Faults { batch_ms: 0, hang_rate: 1.0, ..Faults::default() });
        let path = batch_of(&sim, &line("a", &question("one"))).await;
        let done = get_json(&sim, &path).await;
        assert_eq!(done["status"], "expired");
        let bad = read(&sim, &done, "error_file_id").await;
        assert_eq!((&bad[0]["response"], &bad[0]["error"]["code"]), (&Value::Null, &json!("batch_expired")));
        assert_eq!((sim.stats().garbage, sim.stats().hangs, sim.stats().answered), (1, 1, 0));
    }

    #[tokio::test]
    async fn a_cancelled_batch_answers_nothing_and_an_ended_one_cannot_be_cancelled() {
        let sim = Sim::new(Faults { batch_ms: 3_600_000, ..Faults::default() });
        let path = batch_of(&sim, &line("a", &question("one"))).await;
        let cancel = format!("{path}/cancel");
        let (status, batch) = json_call(&sim, "POST", &cancel, String::new()).await;
        assert_eq!((status, &batch["status"]), (200, &json!("cancelling")));
        let done = get_json(&sim, &path).await;
        assert_eq!((&done["status"], &done["output_file_id"]), (&json!("cancelled"), &Value::Null));
        let bad = read(&sim, &done, "error_file_id").await;
        assert_eq!(bad[0]["error"]["code"], "batch_cancelled");
        assert_eq!(sim.stats().requests, 0);
        let (status, refused) = json_call(&sim, "POST", &cancel, String::new()).await;
        assert_eq!(status, 409, "{refused}");
    }

    #[tokio::test]
    async fn bad_uploads_are_refused() {
        let sim = sim(Faults::default());
        let (status, refused) = send(&sim, "batch", "{\"a\": 1}\nnot JSON\n").await;
        let message = refused["error"]["message"].as_str().expect("a message");
        assert!(status == 400 && message.contains("line 2"), "{refused}");
        assert_eq!(send(&sim, "fine-tune", "{}\n").await.0, 400);
        let text = "--edge\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n".to_owned();
        assert_eq!(json_call(&sim, "POST", "/v1/files", String::new()).await.0, 400, "no form");
        assert_eq!(call(&sim, "POST", "/v1/files", FORM, text.clone()).await.0, 400, "a form that stops");
        assert_eq!(call(&sim, "POST", "/v1/files", FORM, text + "--edge--\r\n").await.0, 400, "no file");
    }

    #[tokio::test]
    async fn mistakes_in_the_lines_fail_the_batch() {
        let sim = sim(Faults::default());
        let elsewhere = line("b", &question("one")).replace(ENDPOINT, "/v1/embeddings");
        let content = line("a", &question("one")) + &line("a", &question("two")) + &elsewhere + "{}\n";
        let failed = get_json(&sim, &batch_of(&sim, &content).await).await;
        assert_eq!((&failed["status"], &failed["output_file_id"]), (&json!("failed"), &Value::Null));
        let errors = failed["errors"]["data"].as_array().expect("a list");
        let seen: Vec<(&Value, &Value)> = errors.iter().map(|e| (&e["code"], &e["line"])).collect();
        let codes = [json!("duplicate_custom_id"), json!("mismatched_url"), json!("missing_required_parameter")];
        assert_eq!(seen, codes.iter().zip(&[json!(2), json!(3), json!(4)]).collect::<Vec<_>>());
        let empty = get_json(&sim, &batch_of(&sim, "\n").await).await;
        assert_eq!(empty["errors"]["data"][0]["code"], "empty_file");
        assert_eq!(check("{}\n".repeat(500).as_bytes()).map_err(|mistakes| mistakes.len()), Err(MISTAKES_MAX));
    }

    #[tokio::test]
    async fn orders_are_checked_and_unknown_ids_are_not_found() {
        let sim = sim(Faults::default());
        let file = send(&sim, "batch", &line("a", &question("one"))).await.1;
        let order = |change: Value| {
            let mut order = json!({"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h"});
            let all = order.as_object_mut().expect("an object");
            all.extend(change.as_object().expect("an object").clone());
            order.to_string()
        };
        for change in [json!({"endpoint": "/v1/x"}), json!({"completion_window": "1h"}), json!({"metadata": [1]})] {
            assert_eq!(json_call(&sim, "POST", "/v1/batches", order(change)).await.0, 400);
        }
        let unknown = order(json!({"input_file_id": "file-sim-9"}));
        assert_eq!(json_call(&sim, "POST", "/v1/batches", unknown).await.0, 404);
        let missing =
            [("GET", "batches/x"), ("POST", "batches/x/cancel"), ("GET", "files/x/content"), ("DELETE", "files/x")];
        for (method, path) in missing {
            assert_eq!(json_call(&sim, method, &format!("/v1/{path}"), String::new()).await.0, 404, "{path}");
        }
        let path = format!("/v1/files/{}", file["id"].as_str().expect("an id"));
        assert_eq!(json_call(&sim, "DELETE", &path, String::new()).await.1["deleted"], true);
        assert_eq!(json_call(&sim, "POST", "/v1/batches", order(json!({}))).await.0, 404);
    }

    #[tokio::test]
    async fn the_list_has_pages_and_the_oldest_are_dropped() {
        let sim = sim(Faults::default());
        for _ in 0..=KEPT_MAX {
            batch_of(&sim, &line("a", &question("one"))).await;
        }
        let kept = |shelf: &shelf::Shelf| (shelf.files.len(), shelf.batches.len());
        assert_eq!(kept(&sim.batches.shelf()), (KEPT_MAX, KEPT_MAX));
        assert_eq!(json_call(&sim, "GET", "/v1/batches/batch_sim_1", String::new()).await.0, 404);
        let page = get_json(&sim, "/v1/batches").await;
        assert_eq!((page["data"].as_array().map(Vec::len), &page["has_more"]), (Some(PAGE), &json!(true)));
        assert_eq!((&page["first_id"], &page["last_id"]), (&json!("batch_sim_65"), &json!("batch_sim_46")));
        assert_eq!(page["data"][0]["status"], "completed");
        let last = get_json(&sim, "/v1/batches?limit=50&after=batch_sim_4").await;
        assert_eq!((&last["first_id"], &last["has_more"]), (&json!("batch_sim_3"), &json!(false)));
        assert_eq!(json_call(&sim, "GET", "/v1/batches?limit=many", String::new()).await.0, 400);
    }
}
