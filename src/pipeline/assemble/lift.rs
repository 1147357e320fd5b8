//! The trace-level view: what went in, what came out, and everything around it, lifted from the spans.
//!
//! Its rules: input and output are those of the root-most span that has any (workflow, agent, chain), else of the last model
//! call; model, finish reason and response format are those of the model call that answered; documents and tool calls are
//! all there are; usage is summed over leaf model calls only, since parents repeat it; labels are taken from the span
//! nearest to the root that has them. Pure.

use super::{context, parts, tools, tree};
use crate::domain::message::{Message, Usage};
use crate::domain::span::{Span, SpanKind, Status};
use crate::domain::trace::Trace;
use std::collections::{HashMap, HashSet};

/// Puts spans together to a trace.
#[must_use]
pub fn assemble(trace_id: &str, spans: Vec<Span>) -> Trace {
    let (spans, pieces) = ordered(spans);
    let mut view = spans.first().map(|(_, root)| labels_of(root)).unwrap_or_default();
    trace_id.clone_into(&mut view.trace_id);
    let refs: Vec<(usize, &Span)> = spans.iter().map(|(depth, span)| (*depth, span)).collect();
    lift_labels(&mut view, &refs);
    lift_times(&mut view, &refs);
    let answering = answering_call(&refs).map(|call| completed(call, &refs));
    let answering = answering.as_ref();
    if let Some(call) = answering {
        view.provider = view.provider.take().or_else(|| call.provider.clone());
        view.model = call.model.clone().or(view.model.take());
        view.finish_reason = call.finish_reason.clone().or(view.finish_reason.take());
        view.response_format = call.response_format.clone().or(view.response_format.take());
        view.params.clone_from(&call.params);
        if !call.tools.is_empty() {
            view.tools.clone_from(&call.tools);
        }
    }
    lift_dialogue(&mut view, &refs, answering);
    view.documents = context::documents(&refs, &leaf_calls(&refs));
    if view.documents.iter().any(|d| d.content.is_some()) {
        view.gaps.retain(|gap| gap.reason != context::WITHOUT_TEXT);
    }
    let ran: Vec<&Span> = refs.iter().map(|(_, s)| *s).filter(|s| s.kind == SpanKind::Tool).collect();
    let told = answering.map(|call| tools::in_conversation(&call.input)).unwrap_or_default();
    if ran.is_empty() && view.tool_calls.is_empty() {
        view.tool_calls = told;
    } else if ran.is_empty() {
        // The root's own, as a trace of a single span has them.
        view.tool_calls = tools::with_results(std::mem::take(&mut view.tool_calls), &told);
    } else {
        let asked: Vec<&Message> = refs.iter().flat_map(|(_, s)| &s.output).collect();
        let calls = ran.iter().flat_map(|s| s.tool_calls.iter().cloned());
        view.tool_calls = tools::with_results(calls.map(|call| tools::with_arguments(call, &asked)).collect(), &told);
    }
    lift_usage(&mut view, &refs);
    lift_failure(&mut view, answering);
    view.kind = if refs.len() == 1 { view.kind } else { SpanKind::Chain };
    view.complete = false;
    Trace {
        trace_id: trace_id.to_owned(),
        view,
        spans: spans.into_iter().map(|(_, span)| span).collect(),
        pieces,
        conversation: None,
    }
}

/// Each span once, with its depth, parents before children, then by time and id; and the raw form of those that are not as
/// they came.
fn ordered(spans: Vec<Span>) -> (Vec<(usize, Span)>, Vec<Span>) {
    let mut joined = parts::joined(spans);
    joined.sort_by(|(a, _), (b, _)| a.span_id.cmp(&b.span_id));
    let (mut spans, pieces): (Vec<Span>, Vec<Vec<Span>>) = joined.into_iter().unzip();
    let mut pieces = pieces.concat();
    for at in tree::circles(&spans) {
        if !pieces.iter().any(|piece| piece.span_id == spans[at].span_id) {
            pieces.push(spans[at].clone());
        }
        spans[at].parent_id = None;
        spans[at].gap("parent", "its parents form a circle, which is cut here");
    }
    pieces.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    let mut deep: Vec<(usize, Span)> = tree::depths(&spans).into_iter().zip(spans).collect();
    // A true root comes before an orphan that only looks like one because its parent has not come.
    deep.sort_by(|(da, a), (db, b)| {
        let rank = |s: &Span| s.parent_id.is_some() || s.part.is_some();
        (da, rank(a), a.started_at, &a.span_id).cmp(&(db, rank(b), b.started_at, &b.span_id))
    });
    (deep, pieces)
}

/// A copy of the root without what is lifted in ways of its own.
fn labels_of(root: &Span) -> Span {
    Span {
        parent_id: None,
        input: Vec::new(),
        output: Vec::new(),
        documents: Vec::new(),
        labels: Vec::new(),
        ..root.clone()
    }
}

fn lift_labels(view: &mut Span, spans: &[(usize, &Span)]) {
    for (_, span) in spans {
        let pairs = [
            (&mut view.service, &span.service),
            (&mut view.service_version, &span.service_version),
            (&mut view.environment, &span.environment),
            (&mut view.feature, &span.feature),
            (&mut view.tenant, &span.tenant),
            (&mut view.session, &span.session),
            (&mut view.user, &span.user),
            (&mut view.prompt.name, &span.prompt.name),
            (&mut view.prompt.version, &span.prompt.version),
            (&mut view.trace_state, &span.trace_state),
        ];
        for (mine, theirs) in pairs {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
        if view.upstream.is_none() {
            view.upstream.clone_from(&span.upstream);
        }
        for (key, value) in &span.tags {
            view.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for gap in &span.gaps {
            view.gap(&gap.field, gap.reason.clone());
        }
    }
    // The random flag says something about the id, whichever span carries it.
    view.flags = spans.iter().filter_map(|(_, s)| s.flags).reduce(|a, b| a | b);
    view.gaps.sort();
}

/// By the clocks of the roots alone where they tell: a child may run elsewhere, under a clock that is wrong, or outlive them.
fn lift_times(view: &mut Span, spans: &[(usize, &Span)]) {
    let roots = || spans.iter().map(|(_, s)| *s).filter(|s| s.parent_id.is_none() && s.part.is_none());
    let begun = roots().filter_map(|s| s.started_at).min();
    let ended = roots().filter_map(|s| s.ended_at).max();
    view.started_at = begun.or_else(|| spans.iter().filter_map(|(_, s)| s.started_at).min());
    view.ended_at = ended.or_else(|| spans.iter().filter_map(|(_, s)| s.ended_at).max());
    if view.ended_at < view.started_at && view.ended_at.is_some() {
        // One of them is by another clock: as far as we know it took no time.
        view.ended_at = view.started_at;
    }
}

/// Model calls of the application that are not merely around another one: not those of guardrails and evaluators.
fn leaf_calls<'a>(spans: &[(usize, &'a Span)]) -> Vec<&'a Span> {
    let beside = beside_the_point(spans);
    let calls: Vec<&Span> = spans
        .iter()
        .map(|(_, s)| *s)
        .filter(|s| s.kind == SpanKind::Llm && !beside.contains(s.span_id.as_str()))
        .collect();
    let around: HashSet<&str> = calls.iter().filter_map(|s| s.parent_id.as_deref()).collect();
    calls.into_iter().filter(|s| !around.contains(s.span_id.as_str())).collect()
}

/// Guardrails, evaluators and all that runs under them.
fn beside_the_point<'a>(spans: &[(usize, &'a Span)]) -> HashSet<&'a str> {
    let mut found: HashSet<&str> = HashSet::new();
    // Parents come before children, so one pass is enough.
    for (_, span) in spans {
        let under = span.parent_id.as_deref().is_some_and(|parent| found.contains(parent));
        if under || matches!(span.kind, SpanKind::Guardrail | SpanKind::Evaluator) {
            found.insert(&span.span_id);
        }
    }
    found
}

/// The model call that ended last with an answer in words, else the one that ended last.
fn answering_call<'a>(spans: &[(usize, &'a Span)]) -> Option<&'a Span> {
    let words = |s: &Span| s.output.iter().any(|m| !m.content.trim().is_empty() || m.refusal.is_some());
    leaf_calls(spans).into_iter().max_by(|a, b| {
        (words(a), a.ended_at, a.started_at, &a.span_id).cmp(&(words(b), b.ended_at, b.started_at, &b.span_id))
    })
}

fn lift_dialogue(view: &mut Span, spans: &[(usize, &Span)], answering: Option<&Span>) {
    let beside = beside_the_point(spans);
    let around = |s: &Span| matches!(s.kind, SpanKind::Agent | SpanKind::Chain) && !beside.contains(s.span_id.as_str());
    let outermost = |has: fn(&Span) -> bool| -> Vec<&Span> {
        let with: Vec<&(usize, &Span)> = spans.iter().filter(|(_, s)| around(s) && has(s)).collect();
        let depth = with.first().map(|(depth, _)| *depth);
        with.into_iter().filter(|(d, _)| Some(*d) == depth).map(|(_, s)| *s).collect()
    };
    // Of siblings the last one tells the result, the first one knows the question.
    let told = outermost(|s| !s.output.is_empty()).into_iter().max_by_key(|s| (s.ended_at, s.started_at, &s.span_id));
    let asked = outermost(|s| !s.input.is_empty()).first().copied();
    view.output = match (told, answering) {
        (Some(outer), Some(call)) if tells_more_plainly(&call.output, &outer.output) => call.output.clone(),
        (Some(outer), _) => outer.output.clone(),
        (None, call) => call.map(|s| s.output.clone()).unwrap_or_default(),
    };
    let first_call =
        spans.iter().map(|(_, s)| *s).find(|s| s.kind == SpanKind::Llm && !beside.contains(s.span_id.as_str()));
    let call = answering.or(first_call);
    view.input = match (asked, call) {
        (Some(outer), Some(call)) if asks_more_plainly(&call.input, &outer.input) => call.input.clone(),
        (Some(outer), _) => outer.input.clone(),
        (None, call) => call.map(|s| s.input.clone()).unwrap_or_default(),
    };
    let Some(call) = answering else { return };
    let refusal = call.output.iter().find_map(|m| m.refusal.clone());
    if let (Some(refusal), Some(last)) = (refusal, view.output.last_mut()) {
        last.refusal.get_or_insert(refusal);
    }
    if view.system.is_none() {
        let message = call.input.iter().find(|m| m.role == "system").map(|m| m.content.clone());
        let anywhere =
            || spans.iter().filter(|(_, s)| !beside.contains(s.span_id.as_str())).find_map(|(_, s)| s.system.clone());
        view.system = call.system.clone().or(message).or_else(anywhere);
    }
    // A format was demanded of that call; what is made of its answer afterwards need not have it.
    let text = |messages: &[Message]| messages.iter().map(|m| m.content.trim().to_owned()).collect::<String>();
    if view.response_format.is_some() && text(&view.output) != text(&call.output) {
        view.response_format = None;
    }
    // A workflow often logs only the question; the earlier turns are in the call.
    if view.input.len() == 1 && call.input.len() > 1 {
        view.input = earlier_turns(&call.input).chain(view.input.drain(..)).collect::<Vec<_>>();
    }
}

/// The words of a list of messages, and whether they are a structure or a framework's own notation around the words.
fn words(messages: &[Message]) -> String {
    messages.iter().map(|m| m.content.trim()).filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n")
}

fn is_structure(text: &str) -> bool {
    text.starts_with(['{', '[']) && serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// Whether the call's answer is what the outer span wraps: in a state object, or in a framework's printout of one.
fn tells_more_plainly(call: &[Message], outer: &[Message]) -> bool {
    let (plain, wrapped) = (words(call), words(outer));
    !plain.is_empty()
        && plain != wrapped
        && (is_structure(&wrapped) || is_printout(&wrapped) || (wrapped.contains(&plain) && wrapped.contains('=')))
}

/// `AgentOutput(response=…`: an object as Python prints it, often cut.
fn is_printout(text: &str) -> bool {
    let Some((class, rest)) = text.split_once('(') else { return false };
    let name = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    let argument = rest.split_once('=').map_or("", |(argument, _)| argument);
    class.starts_with(char::is_uppercase) && name(class) && name(argument)
}

/// Whether only the call has the question in words.
fn asks_more_plainly(call: &[Message], outer: &[Message]) -> bool {
    let wrapped = words(outer);
    let asked = call.iter().any(|m| m.role == "user" && !m.content.trim().is_empty());
    asked
        && (wrapped.is_empty()
            || is_structure(&wrapped)
            || is_printout(&wrapped)
            || !outer.iter().any(|m| m.role == "user" || m.role.is_empty()))
}

/// User and assistant messages before the last user message.
fn earlier_turns(input: &[Message]) -> impl Iterator<Item = Message> {
    let last = input.iter().rposition(|m| m.role == "user").unwrap_or(0);
    input[..last].iter().filter(|m| matches!(m.role.as_str(), "user" | "assistant") && !m.content.is_empty()).cloned()
}

/// The call with what only another span tells of it: a call around it that repeats it, and for the form that was demanded
/// whatever is around it.
fn completed(call: &Span, spans: &[(usize, &Span)]) -> Span {
    let mut whole = call.clone();
    let by_id: HashMap<&str, &Span> = spans.iter().map(|(_, s)| (s.span_id.as_str(), *s)).collect();
    let mut seen = HashSet::from([call.span_id.as_str()]);
    let (mut at, mut repeats) = (call, true);
    while let Some(outer) = at.parent_id.as_deref().and_then(|parent| by_id.get(parent)) {
        if !seen.insert(&outer.span_id) {
            break;
        }
        let calls_inside = spans
            .iter()
            .filter(|(_, s)| s.kind == SpanKind::Llm && s.parent_id.as_deref() == Some(outer.span_id.as_str()))
            .count();
        // One that has several calls inside (retries) is about none of them alone.
        repeats = repeats && outer.kind == SpanKind::Llm && calls_inside == 1;
        if repeats {
            parts::complete(&mut whole, outer);
            if whole.input.is_empty() {
                whole.input.clone_from(&outer.input);
            }
            if whole.output.is_empty() {
                whole.output.clone_from(&outer.output);
            }
        } else if whole.response_format.as_ref().is_none_or(|f| f.schema.is_null()) && outer.response_format.is_some() {
            whole.response_format.clone_from(&outer.response_format);
        }
        at = outer;
    }
    whole
}

/// A failed call that was neither repeated nor answered otherwise fails its trace, also where only the call says so.
fn lift_failure(view: &mut Span, answering: Option<&Span>) {
    let Some(call) = answering.filter(|call| call.status == Status::Error) else { return };
    if view.status == Status::Ok && view.output.iter().all(Message::is_empty) {
        view.status = Status::Error;
        view.error = view.error.take().or_else(|| call.error.clone());
    }
}

fn lift_usage(view: &mut Span, spans: &[(usize, &Span)]) {
    let calls: Vec<Span> = leaf_calls(spans).into_iter().map(|call| completed(call, spans)).collect();
    let used: Vec<Usage> = calls.iter().filter_map(|s| s.usage).collect();
    if !used.is_empty() {
        let mut total = Usage::default();
        for one in &used {
            total.add(one);
        }
        view.usage = Some(total);
    }
    let costs: Vec<f64> = calls.iter().filter_map(|s| s.cost_usd).collect();
    if !costs.is_empty() {
        view.cost_usd = Some(costs.iter().sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Encoding, decode};
    use proptest::prelude::*;

    #[test]
    fn a_trace_of_one_span_keeps_its_tool_calls_with_their_results() {
        let native = serde_json::json!({
            "trace_id": "t", "input": "Where is order 4711?", "output": "It is in transit.",
            "tool_calls": [{"name": "order_status", "arguments": {"id": "4711"}, "result": {"status": "in transit"}}],
        });
        let spans = crate::dialect::native::spans(&native).expect("valid");
        let calls = assemble("t", spans).view.tool_calls;
        assert_eq!((calls.len(), calls[0].result["status"].as_str()), (1, Some("in transit")));
    }

    fn traces(body: &[u8]) -> Vec<Trace> {
        let mut groups: HashMap<String, Vec<Span>> = HashMap::new();
        for span in decode(body, Encoding::Protobuf).expect("a capture decodes").spans {
            groups.entry(span.trace_id.clone()).or_default().push(span);
        }
        groups.into_iter().map(|(id, spans)| assemble(&id, spans)).collect()
    }

    const GENAI: &[u8] = include_bytes!("../../../tests/fixtures/otel-genai-openai-span.pb");
    const OPENINFERENCE: &[u8] = include_bytes!("../../../tests/fixtures/openinference-openai.pb");

    #[test]
    fn both_dialects_give_the_same_facts() {
        for body in [GENAI, OPENINFERENCE] {
            let all = traces(body);
            let rag =
                all.iter().find(|t| t.question().is_some_and(|q| q.contains("after 45 days"))).expect("the rag trace");
            assert_eq!(rag.question(), Some("Can I return a tent after 45 days if I have the receipt?"));
            assert!(rag.answer().is_some_and(|a| a.starts_with("Yes. Unused items can be returned within 60 days")));
            assert_eq!(rag.context().count(), 3);
            assert!(rag.system().is_some_and(|s| s.starts_with("You are the Halden Outfitters")));
            assert_eq!(rag.view.model.as_deref(), Some("gpt-4o-mini"));
            assert_eq!(rag.view.usage.map(|u| (u.input_tokens, u.output_tokens)), Some((248, 61)));
            assert_eq!(rag.view.user.as_deref(), Some("cust-88121"));
            let tool = all.iter().find(|t| !t.view.tool_calls.is_empty()).expect("the tool trace");
            assert_eq!(tool.view.tool_calls[0].name, "get_order_status");
            assert!(tool.answer().is_some_and(|a| a.contains("in transit with UPS")));
            assert_eq!(tool.view.finish_reason.as_deref(), Some("stop"));
            let failed = all.iter().filter(|t| t.failed()).count();
            assert_eq!(failed, 1);
        }
    }

    #[test]
    fn a_follow_up_keeps_its_earlier_turns() {
        let all = traces(GENAI);
        let turn = all.iter().find(|t| t.question().is_some_and(|q| q.starts_with("It's HX-31877"))).expect("turn two");
        assert_eq!(turn.history().len(), 2, "{:?}", turn.view.input);
        assert!(turn.history()[0].content.starts_with("I bought a stove"));
    }

    #[test]
    fn guardrails_and_wrappings_do_not_take_the_answers_place() {
        let at = |ms: i64| chrono::DateTime::from_timestamp_millis(ms);
        let span = |id: &str, parent: Option<&str>, kind: SpanKind, ms: i64, output: &str| Span {
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            kind,
            ended_at: at(ms),
            output: if output.is_empty() { Vec::new() } else { vec![Message::text("assistant", output)] },
            ..Span::default()
        };
        let trace = assemble(
            "t",
            vec![
                span("http", None, SpanKind::Other, 9, ""),
                span("rewrite", Some("http"), SpanKind::Chain, 2, "a rewritten question"),
                span("chain", Some("http"), SpanKind::Chain, 7, "{\"messages\": [\"state\"]}"),
                span("call", Some("chain"), SpanKind::Llm, 6, "Thirty days."),
                span("guard", Some("http"), SpanKind::Guardrail, 8, ""),
                span("check", Some("guard"), SpanKind::Llm, 8, "SAFE"),
            ],
        );
        assert_eq!(trace.answer().as_deref(), Some("Thirty days."));
    }

    #[test]
    fn cycles_and_missing_parents_are_survived() {
        let span = |id: &str, parent: Option<&str>| Span {
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            kind: SpanKind::Llm,
            ..Span::default()
        };
        let trace = assemble("t", vec![span("a", Some("b")), span("b", Some("a")), span("c", Some("gone"))]);
        assert_eq!(trace.spans.len(), 3);
        assert_eq!(assemble("t", Vec::new()).spans.len(), 0);
        let mut all = vec![span("a", Some("b")), span("b", Some("a")), span("self", Some("self"))];
        all[1].output = vec![Message::text("assistant", "Thirty days.")];
        let trace = assemble("t", all.clone());
        assert_eq!(trace.answer().as_deref(), Some("Thirty days."), "a call in a circle is still a call");
        assert!(trace.view.gaps.iter().any(|gap| gap.field == "parent"));
        all.reverse();
        assert_eq!(assemble("t", all), trace);
        assert_eq!(assemble("t", trace.clone().into_pieces()), trace, "it is cut in the same place again");
    }

    #[test]
    fn a_childs_clock_does_not_change_how_long_the_trace_took() {
        let at = |ms: i64| chrono::DateTime::from_timestamp_millis(ms);
        let span = |id: &str, parent: Option<&str>, from: i64, to: i64| Span {
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            started_at: at(from),
            ended_at: at(to),
            ..Span::default()
        };
        let skewed = || span("early", Some("root"), -300_000, -299_000);
        let after = || span("after", Some("root"), 900, 5_000);
        let trace = assemble("t", vec![skewed(), span("root", None, 0, 1_000), after()]);
        assert_eq!((trace.latency_ms(), trace.view.span_id.as_str()), (Some(1_000), "root"));
        let two = assemble("t", vec![span("root", None, 0, 1_000), span("second", None, 1_500, 2_500)]);
        assert_eq!((two.latency_ms(), two.view.span_id.as_str()), (Some(2_500), "root"), "a second root goes on");
        let without = assemble("t", vec![span("a", Some("gone"), 10, 20), after()]);
        assert_eq!(without.latency_ms(), Some(4_990), "without a root all that came counts");
    }

    proptest! {
        #[test]
        fn order_and_doubling_make_no_difference(seed in any::<u64>()) {
            use rand::SeedableRng;
            use rand::seq::SliceRandom;
            let spans = decode(OPENINFERENCE, Encoding::Protobuf).expect("a capture decodes").spans;
            let id = spans[0].trace_id.clone();
            let mine: Vec<Span> = spans.into_iter().filter(|s| s.trace_id == id).collect();
            let mut shuffled: Vec<Span> = mine.iter().chain(&mine).cloned().collect();
            shuffled.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
            prop_assert_eq!(assemble(&id, mine), assemble(&id, shuffled));
        }
    }
}
