//! Content that came apart from its span, in log records, put into it.
//!
//! Called by `lift`, first of all. Its rule: the result depends on the set of spans and parts alone, not on which came first or how
//! often; what the span says itself wins, unless it says that this was cut; a part whose span never came stands for it. What a
//! span was made of is kept beside it, so that a part that comes late finds the same as one in time. Pure.

use crate::domain::span::{Gap, Span, SpanKind};
use std::collections::HashMap;

/// A span, and what it was made of where that is not the span itself.
pub(super) type Joined = (Span, Vec<Span>);

/// One span an id: the fullest of those that came, with its parts; in no particular order.
pub(super) fn joined(spans: Vec<Span>) -> Vec<Joined> {
    let mut by_id: HashMap<String, (Vec<Span>, Vec<Span>)> = HashMap::new();
    for span in spans {
        let (wholes, parts) = by_id.entry(span.span_id.clone()).or_default();
        if span.part.is_some() { parts.push(span) } else { wholes.push(span) }
    }
    by_id.into_values().filter_map(|(wholes, parts)| join(wholes, parts)).collect()
}

fn join(mut wholes: Vec<Span>, parts: Vec<Span>) -> Option<Joined> {
    if wholes.len() == 1 && parts.is_empty() {
        return Some((wholes.pop()?, Vec::new()));
    }
    // The order of arrival must not matter.
    let weight = |s: &Span| (s.ended_at, s.output.len(), s.input.len(), serde_json::to_string(s).unwrap_or_default());
    wholes.sort_by_cached_key(weight);
    wholes.dedup();
    let parts = in_order(parts);
    let pieces = || wholes.iter().chain(&parts).cloned().collect::<Vec<_>>();
    match (wholes.last(), parts.first()) {
        (Some(whole), None) => Some((whole.clone(), if wholes.len() > 1 { pieces() } else { Vec::new() })),
        (Some(whole), Some(_)) => {
            let mut whole = whole.clone();
            fill(&mut whole, &parts);
            Some((whole, pieces()))
        }
        (None, Some(first)) => {
            let mut stand_in = Span {
                trace_id: first.trace_id.clone(),
                span_id: first.span_id.clone(),
                started_at: first.started_at,
                id_source: first.id_source,
                part: first.part,
                ..Span::default()
            };
            fill(&mut stand_in, &parts);
            Some((stand_in, pieces()))
        }
        (None, None) => None,
    }
}

/// Each part once, by time and then by place.
fn in_order(parts: Vec<Span>) -> Vec<Span> {
    let mut keyed: Vec<(String, Span)> = parts
        .into_iter()
        .map(|part| {
            // A record that was sent again may have another place in its body.
            let bare = Span { part: None, ..part.clone() };
            (serde_json::to_string(&bare).unwrap_or_default(), part)
        })
        .collect();
    keyed.sort_by(|(text_a, a), (text_b, b)| (text_a, a.part).cmp(&(text_b, b.part)));
    // Without a time, what looks the same may well be two.
    keyed.dedup_by(|(text_a, a), (text_b, b)| text_a == text_b && (a.started_at.is_some() || a.part == b.part));
    keyed.sort_by(|(text_a, a), (text_b, b)| (a.started_at, a.part, text_a).cmp(&(b.started_at, b.part, text_b)));
    keyed.into_iter().map(|(_, part)| part).collect()
}

fn fill(span: &mut Span, parts: &[Span]) {
    // A part with the whole call counts alone, the last of the fullest; else each part is one message.
    let messages = |part: &&Span| part.input.len() + part.output.len();
    let whole = parts.iter().filter(|p| messages(p) > 1).max_by_key(messages);
    let told = whole.map_or_else(|| parts.iter().collect::<Vec<_>>(), |one| vec![one]);
    let mut replaced = Vec::new();
    for (field, mine, theirs) in [
        ("input", &mut span.input, told.iter().flat_map(|p| p.input.iter().cloned()).collect::<Vec<_>>()),
        ("output", &mut span.output, told.iter().flat_map(|p| p.output.iter().cloned()).collect()),
    ] {
        // What the span says itself wins, unless it says that this is not all.
        let is_whole = !mine.is_empty() && !is_cut(&span.gaps, field);
        let is_better = mine.is_empty() || !told.iter().any(|part| is_cut(&part.gaps, field));
        if !theirs.is_empty() && !is_whole && is_better {
            *mine = theirs;
            replaced.push(field);
        }
    }
    span.gaps.retain(|gap| !(replaced.contains(&gap.field.as_str()) && closes(&gap.reason)));
    for part in parts {
        complete(span, part);
        for label in &part.labels {
            if !span.labels.contains(label) {
                span.labels.push(label.clone());
            }
        }
    }
    let (has_input, has_output) = (!span.input.is_empty(), !span.output.is_empty());
    span.gaps.retain(|gap| {
        !(gap.reason.starts_with("not captured")
            && ((gap.field == "input" && has_input) || (gap.field == "output" && has_output)))
    });
}

/// Whether a sender says that what it sent of a field is not all.
fn is_cut(gaps: &[Gap], field: &str) -> bool {
    gaps.iter().any(|gap| gap.field == field && closes(&gap.reason))
}

/// Whether content from elsewhere closes a gap with this reason.
fn closes(reason: &str) -> bool {
    ["cut by the sender", "dropped by limits", "stored elsewhere", "not captured"].iter().any(|r| reason.starts_with(r))
}

/// Takes from another span of the same call what this one lacks.
pub(super) fn complete(span: &mut Span, other: &Span) {
    if span.kind == SpanKind::Other || other.kind == SpanKind::Evaluator {
        span.kind = other.kind;
    }
    if span.dialect.is_empty() {
        span.dialect.clone_from(&other.dialect);
    }
    let texts = [
        (&mut span.error, &other.error),
        (&mut span.service, &other.service),
        (&mut span.service_version, &other.service_version),
        (&mut span.environment, &other.environment),
        (&mut span.feature, &other.feature),
        (&mut span.tenant, &other.tenant),
        (&mut span.session, &other.session),
        (&mut span.user, &other.user),
        (&mut span.prompt.name, &other.prompt.name),
        (&mut span.prompt.version, &other.prompt.version),
        (&mut span.provider, &other.provider),
        (&mut span.model, &other.model),
        (&mut span.system, &other.system),
        (&mut span.finish_reason, &other.finish_reason),
    ];
    for (mine, theirs) in texts {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    }
    for (key, value) in &other.tags {
        span.tags.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (key, value) in &other.params {
        span.params.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if span.tools.is_empty() {
        span.tools.clone_from(&other.tools);
    }
    if span.documents.is_empty() {
        span.documents.clone_from(&other.documents);
    }
    // A format with its schema says more than one without.
    let schema = |s: &Span| s.response_format.as_ref().is_some_and(|f| !f.schema.is_null());
    if span.response_format.is_none() || (schema(other) && !schema(span)) {
        span.response_format = other.response_format.clone().or(span.response_format.take());
    }
    span.usage = span.usage.or(other.usage);
    span.cost_usd = span.cost_usd.or(other.cost_usd);
    for gap in &other.gaps {
        span.gap(&gap.field, gap.reason.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;

    fn at(ms: i64) -> Option<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_millis(ms)
    }

    fn part(ms: i64, place: u32, input: &str, output: &str) -> Span {
        let list = |role: &str, text: &str| if text.is_empty() { Vec::new() } else { vec![Message::text(role, text)] };
        Span {
            span_id: "s".to_owned(),
            started_at: at(ms),
            part: Some(place),
            kind: SpanKind::Llm,
            input: list("user", input),
            output: list("assistant", output),
            ..Span::default()
        }
    }

    fn whole() -> Span {
        let mut span = Span { span_id: "s".to_owned(), name: "chat".to_owned(), ended_at: at(9), ..Span::default() };
        span.gap("input", "not captured: the span carries no content");
        span
    }

    #[test]
    fn parts_fill_their_span_or_stand_for_it() {
        let parts = vec![part(2, 1, "two", ""), part(1, 0, "one", ""), part(3, 2, "", "answer")];
        let mut all = parts.clone();
        all.push(whole());
        let span = one(all);
        assert_eq!(span.input.iter().map(|m| m.content.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!((span.name.as_str(), span.kind, span.gaps.len()), ("chat", SpanKind::Llm, 0));
        let alone = one(parts);
        assert_eq!((alone.output.len(), alone.part), (1, Some(0)));
        let own = Span { output: vec![Message::text("assistant", "own")], ..whole() };
        let span = one(vec![own, part(1, 0, "", "theirs")]);
        assert_eq!(span.output, [Message::text("assistant", "own")]);
    }

    fn one(spans: Vec<Span>) -> Span {
        joined(spans).remove(0).0
    }

    #[test]
    fn content_that_the_span_says_is_cut_is_replaced_by_a_record_that_has_it_whole() {
        let mut cut = Span { output: vec![Message::text("assistant", "Thirty d")], gaps: Vec::new(), ..whole() };
        cut.gap("output", "cut by the sender: it begins as JSON and does not end");
        let span = one(vec![cut.clone(), part(1, 0, "", "Thirty days.")]);
        assert_eq!((span.output[0].content.as_str(), span.gaps.len()), ("Thirty days.", 0));
        let mut also_cut = part(1, 0, "", "Thirty da");
        also_cut.gap("output", "cut by the sender: it begins as JSON and does not end");
        assert_eq!(one(vec![cut, also_cut]).output[0].content, "Thirty d", "one is as good as the other");
    }

    #[test]
    fn of_two_records_of_a_whole_call_the_later_one_counts() {
        let call = |ms, answer| Span { input: vec![Message::text("user", "q")], ..part(ms, 0, "", answer) };
        let span = one(vec![whole(), call(2, "final"), call(1, "draft")]);
        assert_eq!(span.output, [Message::text("assistant", "final")]);
    }

    #[test]
    fn of_different_copies_of_a_span_the_fullest_counts_and_all_are_kept_as_pieces() {
        let begun = Span { ended_at: None, ..whole() };
        let (span, pieces) = joined(vec![begun.clone(), whole(), begun]).remove(0);
        assert_eq!((span.ended_at, pieces.len()), (at(9), 2));
        assert_eq!(joined(vec![whole(), whole()]).remove(0), (whole(), Vec::new()), "the same twice is one");
    }

    proptest! {
        #[test]
        fn order_and_doubling_make_no_difference(seed in any::<u64>(), n in 0usize..6) {
            let mut spans: Vec<Span> =
                (0..n).map(|i| part(i64::try_from(i / 2).unwrap_or(0), u32::try_from(i).unwrap_or(0), &format!("m{i}"), "")).collect();
            spans.push(whole());
            let want = joined(spans.clone());
            let pieces = if n == 0 { 0 } else { n + 1 };
            prop_assert_eq!(want[0].1.len(), pieces);
            let mut again: Vec<Span> = spans.iter().chain(&spans).cloned().collect();
            again.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
            prop_assert_eq!(joined(again), want);
        }
    }
}
