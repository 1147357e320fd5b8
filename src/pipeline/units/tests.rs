//! Views of spans and sessions: what a judge sees of them, and what is said where something is left out.

use super::*;
use serde_json::json;

fn spans(value: &serde_json::Value) -> Trace {
    let spans = crate::dialect::native::spans(value).expect("valid");
    assemble(&spans[0].trace_id.clone(), spans)
}

fn agent() -> Trace {
    spans(&json!({
        "trace_id": "t", "service": "shop", "feature": "returns", "input": "How long for a sofa?", "output": "30 days.",
        "spans": [
            {"span_id": "r", "kind": "retrieval", "name": "search", "input": "sofa returns",
             "started_at": "2026-11-20T12:00:00Z", "ended_at": "2026-11-20T12:00:01Z",
             "context": [{"id": "d", "content": "Sofas: 30 days."}]},
            {"span_id": "a", "kind": "agent", "name": "planner", "started_at": "2026-11-20T12:00:01Z", "ended_at": "2026-11-20T12:00:05Z"},
            {"span_id": "l", "parent_id": "a", "kind": "llm", "model": "m-small", "input": "Plan it.", "output": "I look it up.",
             "started_at": "2026-11-20T12:00:01Z", "ended_at": "2026-11-20T12:00:02Z"},
            {"span_id": "w", "parent_id": "a", "kind": "tool", "name": "stock", "started_at": "2026-11-20T12:00:02Z",
             "tool_calls": [{"name": "stock", "arguments": {"id": 1}, "result": "3 left"}]},
            {"span_id": "late", "kind": "retrieval", "started_at": "2026-11-20T12:00:09Z",
             "context": [{"id": "x", "content": "Lamps: 14 days."}]},
        ]
    }))
}

#[test]
fn a_span_is_seen_with_what_it_and_those_under_it_did() {
    let trace = agent();
    let seen = |id: &str| span_view(&trace, id).expect("it is there");
    let search = seen("r");
    assert_eq!((search.question(), search.context().count()), (Some("sofa returns"), 1));
    assert_eq!(search.answer(), None, "a search says nothing");
    assert_eq!((search.view.service.as_deref(), search.view.feature.as_deref()), (Some("shop"), Some("returns")));
    let call = seen("l");
    assert_eq!((call.question(), call.answer().as_deref()), (Some("Plan it."), Some("I look it up.")));
    assert_eq!(call.view.model.as_deref(), Some("m-small"));
    let known: Vec<_> = call.context().filter_map(|d| d.id.clone()).collect();
    assert_eq!(known, ["d"], "what was retrieved later cannot have been known");
    let agent = seen("a");
    assert_eq!(agent.view.tool_calls.len(), 1, "the tools under it are its own");
    assert_eq!(agent.answer().as_deref(), Some("I look it up."));
    let tool = seen("w");
    assert_eq!(tool.question(), Some("How long for a sofa?"), "a tool has no question of its own");
    assert_eq!(tool.view.span_id, "w");
    assert!(span_view(&trace, "nobody").is_none());
}

fn said(id: usize, input: &serde_json::Value, output: &str) -> Trace {
    spans(&json!({"trace_id": format!("t{id}"), "session": "s", "input": input, "output": output}))
}

fn told(traces: &[Trace], bytes: usize) -> (Trace, Shown) {
    session_view(traces, (traces.len(), 0), &|_| bytes)
}

#[test]
fn a_session_is_one_dialogue_whether_or_not_its_sender_repeats_it() {
    let history = json!([
        {"role": "user", "content": "Where is my lamp?"},
        {"role": "assistant", "content": "Which order?"},
        {"role": "user", "content": "4711"}
    ]);
    let first = said(1, &json!("Where is my lamp?"), "Which order?");
    for second in [said(2, &history, "On its way."), said(2, &json!("4711"), "On its way.")] {
        let (session, shown) = told(&[first.clone(), second], usize::MAX);
        let text = session.conversation.clone().expect("a transcript");
        assert_eq!(text, "user: Where is my lamp?\nassistant: Which order?\n\nuser: 4711\nassistant: On its way.\n");
        assert_eq!((session.question(), session.answer().as_deref()), (Some("4711"), Some("On its way.")));
        assert_eq!(session.history().len(), 2);
        assert_eq!(shown, Shown { traces: 2, ..Shown::default() });
    }
}

#[test]
fn what_was_asked_again_in_the_same_words_was_asked_again() {
    let (session, _) = told(&[said(1, &json!("Hello?"), "Yes?"), said(2, &json!("Hello?"), "I am here.")], usize::MAX);
    assert_eq!(session.conversation.expect("a transcript").matches("user: Hello?").count(), 2);
}

#[test]
fn repeated_tool_calls_are_told_once_and_long_results_say_how_long_they_are() {
    let call = |n: usize| crate::domain::message::ToolCall {
        name: "find".to_owned(),
        arguments: json!({"n": n}),
        result: json!("x".repeat(5_000)),
        error: None,
    };
    let (mut first, mut second) = (said(1, &json!("a"), "b"), said(2, &json!("c"), "d"));
    first.view.tool_calls = vec![call(1)];
    second.view.tool_calls = vec![call(1), call(2)];
    let (session, shown) = told(&[first, second], usize::MAX);
    let text = session.conversation.expect("a transcript");
    assert_eq!((text.matches("tool: find").count(), session.view.tool_calls.len(), shown.shortened), (2, 2, 2));
    assert!(text.contains("[1000 more bytes are left out here]"), "{text}");
}

#[test]
fn what_does_not_fit_is_dropped_in_the_open() {
    let traces: Vec<Trace> = (1..=20).map(|n| said(n, &json!(format!("question {n}")), &"x".repeat(100))).collect();
    let (session, shown) = told(&traces, 1_000);
    let text = session.conversation.expect("a transcript");
    assert!(text.len() <= 1_000, "{}", text.len());
    assert!(text.starts_with("user: question 1\n") && text.contains("question 20"), "the first and the latest stay");
    assert!(shown.dropped > 10 && text.contains(&format!("[{} turn(s) are left out here", shown.dropped)), "{text}");
    assert_eq!(text.matches("user: question").count() + shown.dropped, 20);
    // Traces that were not even read, and those that sampling never keeps.
    let (session, shown) = session_view(&traces[..2], (5, 2), &|_| usize::MAX);
    let text = session.conversation.expect("a transcript");
    assert_eq!((shown.traces, shown.dropped, shown.excluded), (5, 1, 2));
    assert!(text.contains("[1 turn(s) are left out here") && text.starts_with("[2 turn(s) of this"), "{text}");
}

#[test]
fn a_turn_without_an_answer_says_so() {
    let mut failed = said(1, &json!("Hello?"), "");
    failed.view.output.clear();
    failed.view.status = Status::Error;
    let (session, _) = told(&[failed], usize::MAX);
    assert_eq!(session.conversation.as_deref(), Some("user: Hello?\nassistant: [no answer: the trace failed]\n"));
    assert_eq!(session.answer(), None);
}
