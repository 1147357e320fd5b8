//! The lines of a batch: what is wrong with them when it is created, and their answers when it is due.
//!
//! Called by `batch.rs`, on the threads for computing. Its rule: every line of the input has one line in the answers, in
//! the output file if its status is 200 and in the error file otherwise, as at OpenAI. The way not taken: keeping the
//! requests parsed between creation and answer, which takes several times the memory of their text.

use super::ENDPOINT;
use super::shelf::Due;
use crate::llm::sim::{Faults, ON_PURPOSE, Outcome, Sim, problem_body, refusal};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Most requests in a batch, as at OpenAI.
const REQUESTS_MAX: usize = 50_000;
/// Most mistakes that a failed batch lists, so that a bad file does not become a larger list.
pub(super) const MISTAKES_MAX: usize = 100;

/// The lines that are not blank, each with its number.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    content.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty())
}

/// The number of requests in a batch's input, or what is wrong with it.
pub(super) fn check(input: &[u8]) -> Result<usize, Vec<Value>> {
    let mut mistakes = Vec::new();
    let mut seen = HashSet::new();
    let mut total = 0;
    for (line, number) in lines(input) {
        total += 1;
        // What is not JSON was refused when it was uploaded.
        let request: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some((code, param, message)) = mistake(&request, &mut seen) {
            mistakes.push(json!({"code": code, "message": message, "param": param, "line": number}));
        }
        if total > REQUESTS_MAX {
            let message = format!("The batch has more than {REQUESTS_MAX} requests.");
            mistakes.push(json!({"code": "too_many_tasks", "message": message, "param": null, "line": null}));
        }
        if total > REQUESTS_MAX || mistakes.len() >= MISTAKES_MAX {
            break;
        }
    }
    if total == 0 {
        let message = "The input file is empty.";
        mistakes.push(json!({"code": "empty_file", "message": message, "param": null, "line": null}));
    }
    if mistakes.is_empty() { Ok(total) } else { Err(mistakes) }
}

/// What is wrong with one line, as code, parameter and message.
fn mistake(request: &Value, seen: &mut HashSet<String>) -> Option<(&'static str, &'static str, String)> {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    let missing =
        |param| Some(("missing_required_parameter", param, format!("Missing required parameter: '{param}'.")));
    let Some(id) = text("custom_id") else { return missing("custom_id") };
    if !seen.insert(id.to_owned()) {
        let message = format!("The custom_id '{id}' for this request is a duplicate of another request.");
        return Some(("duplicate_custom_id", "custom_id", message));
    }
    if text("method") != Some("POST") {
        return Some(("invalid_method", "method", "The method of this request must be 'POST'.".to_owned()));
    }
    if text("url") != Some(ENDPOINT) {
        let message = "The URL of this request does not match the batch's endpoint.".to_owned();
        return Some(("mismatched_url", "url", message));
    }
    if request.get("body").is_some_and(Value::is_object) { None } else { missing("body") }
}

/// The two files a batch ends with, and what is in them.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) silent: usize,
}

/// The answers to all lines of a batch.
pub(super) fn answer(sim: &Sim, faults: &Faults, due: &Due) -> Answers {
    let mut answers = Answers::default();
    for (line, number) in lines(&due.input) {
        // Lines that are no requests were refused when the batch was created.
        let request: Value = serde_json::from_slice(line).unwrap_or_default();
        let response = if due.cancelled { None } else { respond(sim, faults, &request["body"]) };
        let error = match (&response, due.cancelled) {
            (Some(_), _) => Value::Null,
            (None, true) => unanswered("batch_cancelled", "The batch was cancelled before this request was executed."),
            (None, false) => {
                answers.silent += 1;
                unanswered("batch_expired", "This request could not be executed before the completion window expired.")
            }
        };
        let good = response.as_ref().is_some_and(|response| response["status_code"] == 200);
        let id = format!("batch_req_sim_{}_{number}", due.number);
        let answered = json!({"id": id, "custom_id": request["custom_id"], "response": response, "error": error});
        let (file, count) = if good {
            (&mut answers.output, &mut answers.completed)
        } else {
            (&mut answers.errors, &mut answers.failed)
        };
        file.extend_from_slice(answered.to_string().as_bytes());
        file.push(b'\n');
        *count += 1;
    }
    answers
}

fn unanswered(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

/// The response of one line; none if it is never answered.
fn respond(sim: &Sim, faults: &Faults, body: &Value) -> Option<Value> {
    let number = sim.counters.requests.fetch_add(1, Ordering::Relaxed);
    let (status, body) = match refusal(faults, body) {
        Some((kind, message)) => (StatusCode::BAD_REQUEST, problem_body(kind, &message)),
        None => match sim.outcome(faults, body, number) {
            Outcome::Verdict(completion) => {
                sim.counters.answered.fetch_add(1, Ordering::Relaxed);
                sim.counters.batched.fetch_add(1, Ordering::Relaxed);
                (StatusCode::OK, completion)
            }
            Outcome::Garbage(completion) => (StatusCode::OK, completion),
            Outcome::Error => (StatusCode::INTERNAL_SERVER_ERROR, problem_body("server_error", ON_PURPOSE)),
            Outcome::Silence => return None,
        },
    };
    Some(json!({"status_code": status.as_u16(), "request_id": format!("req_sim_{number}"), "body": body}))
}
