//! What a judge sees of a unit that is no whole trace: a span by itself, or the traces of a session as one conversation.
//!
//! Called by `enqueue`, `claim` and `offline`. Its rule: the same traces give the same view, and what does not fit is left out whole,
//! in the open: the transcript says so where it is missing, and the verdict says how much. The way not taken: cutting at a number of
//! characters, after which a judge misses the answer and nobody knows.

use super::assemble::assemble;
use crate::domain::message::{Document, Message, ToolCall};
use crate::domain::span::{Span, SpanKind, Status};
use crate::domain::trace::Trace;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write;

/// The longest arguments or result of a tool that a transcript shows, in bytes; of longer ones it says how long they are.
const TOOL_BYTES_MAX: usize = 4_000;

/// A span as a trace of its own: what it and the spans under it did. A model call, agent or chain is lifted as a whole trace is. What
/// only the trace knows is taken from there: labels, the question where the span has no input, the documents that were retrieved
/// before a model call ended. `None` when the trace has no such span.
#[must_use]
pub fn span_view(trace: &Trace, span_id: &str) -> Option<Trace> {
    let span = trace.spans.iter().find(|s| s.span_id == span_id && s.part.is_none())?;
    let mut view = match span.kind {
        SpanKind::Llm | SpanKind::Agent | SpanKind::Chain => {
            let mut made = assemble(&trace.trace_id, under(trace, span)).view;
            made.kind = span.kind;
            made
        }
        _ => span.clone(),
    };
    labels(&mut view, &trace.view);
    view.ended_at = span.ended_at;
    if view.input.is_empty() {
        view.input.clone_from(&trace.view.input);
    }
    if view.documents.is_empty() && matches!(span.kind, SpanKind::Llm | SpanKind::Agent | SpanKind::Chain) {
        view.documents = retrieved_before(trace, span);
    }
    Some(Trace { trace_id: trace.trace_id.clone(), view, ..Trace::default() })
}

/// The span and all spans under it.
fn under(trace: &Trace, span: &Span) -> Vec<Span> {
    let mut ids = HashSet::from([span.span_id.as_str()]);
    // Parents come before children, so one pass is enough.
    let mut found = vec![span.clone()];
    for other in trace.spans.iter().filter(|s| s.span_id != span.span_id) {
        if other.parent_id.as_deref().is_some_and(|parent| ids.contains(parent)) {
            ids.insert(&other.span_id);
            found.push(other.clone());
        }
    }
    found
}

/// Labels that the span does not have itself.
fn labels(view: &mut Span, of_trace: &Span) {
    let pairs = [
        (&mut view.service, &of_trace.service),
        (&mut view.service_version, &of_trace.service_version),
        (&mut view.environment, &of_trace.environment),
        (&mut view.feature, &of_trace.feature),
        (&mut view.tenant, &of_trace.tenant),
        (&mut view.session, &of_trace.session),
        (&mut view.user, &of_trace.user),
        (&mut view.model, &of_trace.model),
        (&mut view.prompt.name, &of_trace.prompt.name),
        (&mut view.prompt.version, &of_trace.prompt.version),
    ];
    for (own, traces) in pairs {
        if own.is_none() {
            own.clone_from(traces);
        }
    }
}

fn retrieved_before(trace: &Trace, span: &Span) -> Vec<Document> {
    let before = |s: &&Span| match (s.started_at, span.ended_at) {
        (Some(started), Some(ended)) => started <= ended,
        _ => true,
    };
    let mut found: Vec<Document> = Vec::new();
    for document in trace.spans.iter().filter(before).flat_map(|s| &s.documents) {
        if !found.contains(document) {
            found.push(document.clone());
        }
    }
    // Some senders tell of documents only in the call's messages, from where assembly has lifted them.
    if found.is_empty() && trace.spans.iter().all(|s| s.documents.is_empty()) {
        found.clone_from(&trace.view.documents);
    }
    found
}

/// How much of a session stands in its transcript.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Traces of the session that were received, as far as anything of them was to be judged.
    pub traces: usize,
    /// Of these, those that sampling rules exclude altogether: nothing of them is stored.
    pub excluded: usize,
    /// Turns that do not fit beside the others: left out of the transcript, and said there.
    pub dropped: usize,
    /// Texts of tools that were too long to be shown whole.
    pub shortened: usize,
}

/// A session as one trace: its messages as one dialogue, its tool calls and documents in order, the labels of its latest trace, and the
/// transcript. `fits` says how many bytes of transcript there may be beside the rest; `counts`: traces in all, and those excluded.
#[must_use]
pub fn session_view(
    traces: &[Trace],
    (known, excluded): (usize, usize),
    fits: &dyn Fn(&Trace) -> usize,
) -> (Trace, Shown) {
    let Some(last) = traces.last() else { return (Trace::default(), Shown::default()) };
    let mut shown = Shown { traces: known.max(traces.len()), excluded, ..Shown::default() };
    let mut view = Span { input: Vec::new(), documents: Vec::new(), tool_calls: Vec::new(), ..last.view.clone() };
    let (mut said, mut turns): (Vec<Message>, Vec<String>) = (Vec::new(), Vec::new());
    for trace in traces {
        let asked = not_yet_said(&said, &trace.view.input);
        let calls = not_yet_run(&view.tool_calls, &trace.view.tool_calls);
        turns.push(turn(trace, (&asked, calls), &mut shown));
        said.extend(asked);
        said.extend(trace.view.output.iter().filter(|m| !m.is_empty()).cloned());
        view.tool_calls.extend(calls.iter().cloned());
        for document in &trace.view.documents {
            if !view.documents.contains(document) {
                view.documents.push(document.clone());
            }
        }
    }
    said.truncate(said.len() - last.view.output.iter().filter(|m| !m.is_empty()).count().min(said.len()));
    view.input = said;
    view.started_at = traces.iter().filter_map(|t| t.view.started_at).min();
    let mut whole = Trace { trace_id: last.trace_id.clone(), view, ..Trace::default() };
    let missing = shown.traces.saturating_sub(excluded + traces.len());
    let (text, dropped) = transcript(&turns, (missing, excluded), fits(&whole));
    shown.dropped = dropped + missing;
    whole.conversation = Some(text);
    (whole, shown)
}

/// Messages of users and assistants that the transcript does not have yet: most senders repeat the conversation with each call.
fn not_yet_said(said: &[Message], input: &[Message]) -> Vec<Message> {
    let dialogue = |m: &&Message| matches!(m.role.as_str(), "user" | "assistant" | "") && !m.content.trim().is_empty();
    let same = |a: &Message, b: &Message| a.role == b.role && a.content.trim() == b.content.trim();
    let given: Vec<&Message> = input.iter().filter(dialogue).collect();
    // What was asked last is new even when it was asked before in the same words.
    let asked = given.iter().rposition(|m| m.role == "assistant").map_or(0, |at| at + 1);
    let asked = if asked == given.len() { asked.saturating_sub(1) } else { asked };
    let earlier = given[..asked].iter().filter(|m| !said.iter().any(|s| same(s, m)));
    earlier.chain(&given[asked..]).map(|m| (*m).clone()).collect()
}

/// Calls that are not those of the turns before, which senders repeat with the conversation.
fn not_yet_run<'a>(ran: &[ToolCall], calls: &'a [ToolCall]) -> &'a [ToolCall] {
    let repeated = (0..=calls.len().min(ran.len())).rev().find(|n| ran.ends_with(&calls[..*n])).unwrap_or(0);
    &calls[repeated..]
}

/// What was said and done in one trace, a paragraph each.
fn turn(trace: &Trace, (asked, calls): (&[Message], &[ToolCall]), shown: &mut Shown) -> String {
    let mut text = String::new();
    let mut line = |who: &str, what: &str| writeln!(text, "{who}: {what}").expect("a String can be written");
    for message in asked {
        line(if message.role.is_empty() { "user" } else { &message.role }, message.content.trim());
    }
    for call in calls {
        line("tool", &told_call(call, shown));
    }
    match trace.answer().filter(|answer| !answer.trim().is_empty()) {
        Some(answer) => line("assistant", answer.trim()),
        None => {
            let why = if trace.view.status == Status::Error { ": the trace failed" } else { "" };
            line("assistant", trace.refusal().unwrap_or(&format!("[no answer{why}]")));
        }
    }
    text
}

fn told_call(call: &ToolCall, shown: &mut Shown) -> String {
    let mut part = |value: &serde_json::Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.len() <= TOOL_BYTES_MAX {
            return text;
        }
        shown.shortened += 1;
        let end = text.floor_char_boundary(TOOL_BYTES_MAX);
        format!("{} [{} more bytes are left out here]", &text[..end], text.len() - end)
    };
    let arguments = part(&call.arguments);
    let result = match &call.error {
        Some(error) => format!("failed: {error}"),
        None if call.result.is_null() => "no result".to_owned(),
        None => part(&call.result),
    };
    format!("{}({arguments}) -> {result}", call.name)
}

/// The turns that fit: the first, which says what the user came for, and as many of the latest as there is room for. Gives how many
/// turns were dropped.
fn transcript(turns: &[String], (missing, excluded): (usize, usize), bytes: usize) -> (String, usize) {
    let mut head = String::new();
    if excluded > 0 {
        writeln!(head, "[{excluded} turn(s) of this conversation are not known: sampling excludes them]")
            .expect("a String can be written");
    }
    let all: usize = turns.iter().map(|turn| turn.len() + 1).sum();
    let note =
        |n: usize| format!("[{n} turn(s) are left out here: the conversation is longer than what can be shown]\n");
    if all + head.len() <= bytes && missing == 0 {
        return (head + &turns.join("\n"), 0);
    }
    let first = turns.first().map_or(0, String::len);
    let mut left = bytes.saturating_sub(head.len() + first + note(turns.len() + missing).len() + 2);
    let mut from = turns.len();
    // The latest turn is always there; a judge that cannot read it says so with an outcome.
    while from > 1 && (from == turns.len() || turns[from - 1].len() < left) {
        from -= 1;
        left = left.saturating_sub(turns[from].len() + 1);
    }
    let dropped = from.saturating_sub(1);
    head.push_str(turns.first().map_or("", String::as_str));
    if dropped + missing > 0 {
        write!(head, "\n{}", note(dropped + missing)).expect("a String can be written");
    }
    for turn in turns.iter().skip(from.max(1)) {
        write!(head, "\n{turn}").expect("a String can be written");
    }
    (head, dropped)
}

#[cfg(test)]
mod tests;
