//! Tools that ran: from their spans, and where those say less, from the conversation.
//!
//! Called by `lift`. Its rule: a tool's span comes first; the conversation fills in arguments and results, and stands alone where the
//! sender has no spans of tools. Pure.

use crate::domain::message::{Message, ToolCall};
use serde_json::Value;

/// Calls after the last question that were asked for and answered.
pub(super) fn in_conversation(input: &[Message]) -> Vec<ToolCall> {
    let last = input.iter().rposition(|m| m.role == "user").map_or(0, |at| at + 1);
    let turn = &input[last..];
    let requests = turn.iter().flat_map(|m| &m.tool_calls);
    let answered = requests.filter_map(|request| {
        let answer =
            turn.iter().find(|m| m.role == "tool" && m.tool_call_id.is_some() && m.tool_call_id == request.id)?;
        Some(ToolCall {
            name: request.name.clone(),
            arguments: request.arguments.clone(),
            result: structured(&answer.content),
            error: None,
        })
    });
    answered.collect()
}

fn structured(text: &str) -> Value {
    let parsed = serde_json::from_str::<Value>(text).ok().filter(|v| v.is_object() || v.is_array());
    parsed.unwrap_or_else(|| text.into())
}

/// Fills what the spans of tools do not say, from the calls of the same name in the conversation, in order.
pub(super) fn with_results(mut ran: Vec<ToolCall>, told: &[ToolCall]) -> Vec<ToolCall> {
    let mut left: Vec<&ToolCall> = told.iter().collect();
    for call in &mut ran {
        let same = |other: &&ToolCall| {
            other.name == call.name && (call.arguments.is_null() || call.arguments == other.arguments)
        };
        let Some(at) = left.iter().position(same) else { continue };
        let other = left.remove(at);
        if call.arguments.is_null() {
            call.arguments = other.arguments.clone();
        }
        if call.result.is_null() && call.error.is_none() {
            call.result = other.result.clone();
        }
    }
    ran
}

/// A tool's span sometimes has only the value of its one argument; the call that asked for it has the name.
pub(super) fn with_arguments(mut call: ToolCall, asked: &[&Message]) -> ToolCall {
    if let Some(text) = call.arguments.as_str() {
        let requests = asked.iter().flat_map(|m| &m.tool_calls).filter(|r| r.name == call.name);
        let fits = |arguments: &&Value| {
            let printed = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let mut values = arguments.as_object().into_iter().flatten().map(|(_, v)| printed(v));
            values.next().is_some_and(|one| one == text) && values.next().is_none()
        };
        if let Some(arguments) = requests.map(|r| &r.arguments).find(fits) {
            call.arguments = arguments.clone();
        }
    }
    call
}
