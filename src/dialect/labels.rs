//! What people said, in JSON and in span attributes, as `domain::label::Draft`s.
//!
//! Called by `dialect::native` (the `label` of a trace), by `server` and `cli` (labels by themselves) and for every OTLP span
//! (feedback). Its rule: the fields have one name each and a few known synonyms; an unknown field is an error that names
//! the nearest, because a misspelt `pased` would be a label without a value. The way not taken: a reader for each
//! vendor's payload; what they call the same thing is a synonym here. `docs/labels.md` lists them all.

use super::lenient::plain;
use super::units;
use super::wire::{Attrs, WireSpan};
use crate::domain::label::{Draft, Said, Source};
use crate::domain::span::Span;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Every field of a label, with its synonyms.
const FIELDS: &[(&str, &[&str])] = &[
    ("trace_id", &["traceId"]),
    ("span_id", &["spanId", "observationId"]),
    ("rubric", &["name"]),
    ("rubric_version", &[]),
    ("kind", &["event_kind"]),
    ("passed", &["pass"]),
    ("score", &[]),
    ("label", &["category"]),
    ("raw", &[]),
    ("value", &[]),
    ("thumb", &["thumbs"]),
    ("rating", &["stars"]),
    ("best", &[]),
    ("worst", &[]),
    ("correction", &["corrected_output"]),
    ("source", &[]),
    ("labeller", &["labeler", "annotator", "user", "user_id", "userId"]),
    ("comment", &["reason", "explanation"]),
    ("made_at", &["timestamp", "created_at"]),
    ("inclusion_probability", &["label_probability"]),
    ("batch_id", &["batch"]),
];

/// Fields of which one says what was said.
const VALUES: [&str; 8] = ["passed", "score", "label", "raw", "value", "thumb", "rating", "correction"];

/// Best of a rating that does not say: five stars.
const BEST: f64 = 5.0;

/// Reads one label, as in a file or at the API.
///
/// # Errors
/// The field that is wrong, and what it should be.
pub fn label(value: &Value) -> Result<Draft, String> {
    let map = value.as_object().ok_or("a label must be a JSON object")?;
    let fields = fields(map)?;
    let get = |name: &str| fields.get(name).copied();
    let kind = text(get("kind"), "kind")?;
    let feedback = match kind.as_deref() {
        None | Some("label") => false,
        Some("feedback") => true,
        Some(other) => return Err(format!("`kind` is label or feedback, not `{other}`")),
    };
    let (said, correction) = said(&fields)?;
    let source = match text(get("source"), "source")? {
        Some(name) => Source::parse(&name)
            .ok_or_else(|| format!("`source` is {}, not `{name}`", Source::ALL.map(Source::as_str).join(", ")))?,
        None if feedback || correction.is_some() || get("thumb").is_some() || get("rating").is_some() => {
            Source::UserFeedback
        }
        None => Source::default(),
    };
    if feedback && source != Source::UserFeedback {
        return Err("feedback is of the source user_feedback; leave `source` or `kind` out".to_owned());
    }
    let comment = text(get("comment"), "comment")?;
    let rubric = text(get("rubric"), "rubric")?;
    if rubric.is_none() && source != Source::UserFeedback {
        return Err("`rubric` is missing; say which rubric the label is for".to_owned());
    }
    Ok(Draft {
        trace_id: text(get("trace_id"), "trace_id")?,
        span_id: text(get("span_id"), "span_id")?,
        rubric,
        rubric_version: text(get("rubric_version"), "rubric_version")?,
        said,
        source,
        labeller: text(get("labeller"), "labeller")?,
        comment: match (comment, correction) {
            (Some(comment), Some(correction)) => Some(format!("{comment}\n\n{correction}")),
            (comment, correction) => comment.or(correction),
        },
        made_at: text(get("made_at"), "made_at")?.as_deref().map(time).transpose()?,
        draw_probability: get("inclusion_probability").map(|v| number(v, "inclusion_probability")).transpose()?,
        batch_id: text(get("batch_id"), "batch_id")?
            .map(|id| id.parse().map_err(|_| "`batch_id` is not an id that `labels queue` gave".to_owned()))
            .transpose()?,
    })
}

/// The labels of a JSON body with their lines; what cannot be read stands at its line with the reason.
#[must_use]
pub fn drafts(body: &[u8], by_line: bool) -> Vec<(usize, Result<Draft, String>)> {
    let mut found = Vec::new();
    let error = units::each(body, by_line, &mut |line, unit| match unit.and_then(|value| labels(&value)) {
        Ok(drafts) => {
            found.extend(drafts.into_iter().map(|draft| (line, Ok(draft))));
            true
        }
        Err(why) => {
            found.push((line, Err(why)));
            false
        }
    });
    match error {
        Some((line, why)) => vec![(line, Err(why))],
        None => found,
    }
}

/// Reads what stands in a file or body of labels: a label, or a native trace with its labels; of a trace without any, none.
///
/// # Errors
/// The field that is wrong, and what it should be.
pub fn labels(value: &Value) -> Result<Vec<Draft>, String> {
    let Some(map) = value.as_object() else { return label(value).map(|draft| vec![draft]) };
    let is_trace = map.get("label").is_some_and(|l| l.is_object() || l.is_array())
        || ["output", "input", "spans"].iter().any(|key| map.contains_key(*key));
    if !is_trace {
        return label(value).map(|draft| vec![draft]);
    }
    let spans = super::native::spans(value)?;
    if let Some(gap) = spans.iter().flat_map(|span| &span.gaps).find(|gap| gap.field == "label") {
        return Err(gap.reason.clone());
    }
    let of_span = |span: Span| {
        let trace_id = span.trace_id;
        span.labels.into_iter().map(move |draft| Draft { trace_id: Some(trace_id.clone()), ..draft })
    };
    Ok(spans.into_iter().flat_map(of_span).collect())
}

/// Reads the `label` of a native trace: one label, a list of them, or rubric names with a value or label each.
///
/// # Errors
/// The field that is wrong, and what it should be.
pub(super) fn of_trace(value: &Value) -> Result<Vec<Draft>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(label).collect(),
        Value::Object(map) if map.keys().any(|key| canonical(key).is_some()) => Ok(vec![label(value)?]),
        Value::Object(map) => map.iter().map(|(rubric, said)| of_rubric(rubric, said)).collect(),
        _ => Err("`label` must be an object as in {\"rubric\": …, \"passed\": true}, or a list of them".to_owned()),
    }
}

fn of_rubric(rubric: &str, said: &Value) -> Result<Draft, String> {
    let mut map = match said {
        Value::Object(map) => map.clone(),
        other => Map::from_iter([("value".to_owned(), other.clone())]),
    };
    map.insert("rubric".to_owned(), rubric.into());
    label(&Value::Object(map)).map_err(|why| format!("`label.{rubric}`: {why}"))
}

/// The name of a field, of itself or of a synonym.
fn canonical(key: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(name, synonyms)| *name == key || synonyms.contains(&key)).map(|(name, _)| *name)
}

fn fields(map: &Map<String, Value>) -> Result<BTreeMap<&'static str, &Value>, String> {
    let mut found = BTreeMap::new();
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let name = canonical(key).ok_or_else(|| {
            let names = FIELDS.iter().map(|(name, _)| *name);
            let nearest = crate::config::nearest::nearest(key, names.clone());
            let hint = nearest.map_or_else(
                || format!("; there are {}", names.collect::<Vec<_>>().join(", ")),
                |best| format!("; did you mean `{best}`?"),
            );
            format!("`{key}` is no field of a label{hint}")
        })?;
        if found.insert(name, value).is_some() {
            return Err(format!("`{name}` is given twice, as `{key}` too"));
        }
    }
    Ok(found)
}

/// What was said, and the correction if it was one.
fn said(fields: &BTreeMap<&'static str, &Value>) -> Result<(Said, Option<String>), String> {
    let given: Vec<(&str, &Value)> = VALUES.iter().filter_map(|name| Some((*name, *fields.get(name)?))).collect();
    let correction = fields.get("correction").map(|v| plain(v));
    // A correction may come with a rating or a thumb, which then says how bad it was.
    let rest: Vec<&(&str, &Value)> = given.iter().filter(|(name, _)| *name != "correction").collect();
    let said = match rest[..] {
        [] if correction.is_some() => Said::Passed(false),
        [] => return Err(format!("nothing is said; give one of {}", VALUES.join(", "))),
        [(name, value)] => one(name, value, fields)?,
        // A score with its side, as exports have it: the score says more.
        [("passed", Value::Bool(_)), ("score", value)] => Said::Score(number(value, "score")?),
        _ => {
            let names: Vec<&str> = rest.iter().map(|(name, _)| *name).collect();
            return Err(format!("{} are given together; give one", names.join(" and ")));
        }
    };
    Ok((said, correction))
}

fn one(name: &str, value: &Value, fields: &BTreeMap<&'static str, &Value>) -> Result<Said, String> {
    let wrong = |want: &str| Err(format!("`{name}` must be {want}"));
    match (name, value) {
        ("passed" | "value", Value::Bool(passed)) => Ok(Said::Passed(*passed)),
        ("score" | "value", Value::Number(_)) => Ok(Said::Score(number(value, name)?)),
        ("passed" | "label" | "value" | "thumb", Value::String(word)) => Ok(Said::Word(word.clone())),
        ("thumb", Value::Bool(up)) => Ok(Said::Passed(*up)),
        ("thumb", Value::Number(n)) if n.as_i64() == Some(1) => Ok(Said::Passed(true)),
        ("thumb", Value::Number(n)) if matches!(n.as_i64(), Some(0 | -1)) => Ok(Said::Passed(false)),
        ("raw", raw) => Ok(Said::Raw(raw.clone())),
        ("rating", _) => {
            let bound = |name: &str, default: f64| fields.get(name).map_or(Ok(default), |v| number(v, name));
            let given = number(value, "rating")?;
            Ok(Said::Rating { given, worst: bound("worst", 1.0)?, best: bound("best", BEST)? })
        }
        ("passed", _) => wrong("true or false"),
        ("score", _) => wrong("a number from 0 to 1"),
        ("thumb", _) => wrong("up or down"),
        ("label", _) => wrong("text"),
        _ => wrong("true or false, a number from 0 to 1, or one of the rubric's labels"),
    }
}

fn text(value: Option<&Value>, name: &str) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|t| !t.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("`{name}` must be text")),
    }
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("`{name}` must be a number"))
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed.map(|t| t.to_utc()).map_err(|_| "`made_at` must be a time as in 2026-11-20T12:00:00Z".to_owned())
}

/// Feedback in an OTLP span: our own `assize.feedback.*`, OpenInference's annotations of humans, and evaluation results of
/// OTel GenAI that say they are a user's. What cannot be read is a gap.
pub(super) fn feedback(wire: &WireSpan, span: &mut Span) {
    let mut found = Vec::new();
    found.extend(own(&wire.attrs));
    for prefix in ["annotations.", "evaluations.", "trace.annotations.", "trace.evaluations."] {
        found.extend(annotations(&wire.attrs, prefix));
    }
    for event in &wire.events {
        match event.name.as_str() {
            "gen_ai.evaluation.result" => found.extend(evaluation_result(&event.attrs)),
            "assize.feedback" => found.extend(own(&event.attrs)),
            _ => {}
        }
    }
    for draft in found {
        match draft {
            Ok(draft) => span.labels.push(Draft { made_at: draft.made_at.or(span.ended_at), ..draft }),
            Err(why) => span.gap("feedback", format!("not understood: {why}")),
        }
    }
}

/// `assize.feedback.FIELD`, with the fields of a label.
fn own(attrs: &Attrs) -> Option<Result<Draft, String>> {
    let pairs = attrs.0.iter().filter_map(|(key, value)| Some((key.strip_prefix("assize.feedback.")?, value)));
    let mut map: Map<String, Value> = pairs.map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if map.is_empty() {
        return None;
    }
    map.insert("kind".to_owned(), "feedback".into());
    // The span's own trace is meant; another trace would need its sender's right to speak about it.
    map.remove("trace_id");
    Some(label(&Value::Object(map)))
}

/// `PREFIX.N.annotation.FIELD` or `PREFIX.N.evaluation.FIELD`, those whose annotator is a human.
fn annotations(attrs: &Attrs, prefix: &str) -> Vec<Result<Draft, String>> {
    let mut by_number: BTreeMap<&str, BTreeMap<&str, &Value>> = BTreeMap::new();
    for (key, value) in &attrs.0 {
        let Some((number, rest)) = key.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) else { continue };
        let Some(field) = rest.strip_prefix("annotation.").or_else(|| rest.strip_prefix("evaluation.")) else {
            continue;
        };
        by_number.entry(number).or_default().insert(field, value);
    }
    let human = |fields: &&BTreeMap<&str, &Value>| {
        fields.get("annotator_kind").and_then(|v| v.as_str()).is_some_and(|kind| kind.eq_ignore_ascii_case("human"))
    };
    by_number.values().filter(human).map(|fields| draft_of(|name| fields.get(name).copied())).collect()
}

/// `gen_ai.evaluation.result`: anybody's, so only those named after users' feedback are people's.
fn evaluation_result(attrs: &Attrs) -> Option<Result<Draft, String>> {
    let name = attrs.text("gen_ai.evaluation.name")?.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    if !is_feedback(&name) {
        return None;
    }
    Some(draft_of(|field| match field {
        "name" => attrs.get("gen_ai.evaluation.name"),
        "score" => attrs.get("gen_ai.evaluation.score.value"),
        "label" => attrs.get("gen_ai.evaluation.score.label"),
        "explanation" => attrs.get("gen_ai.evaluation.explanation"),
        _ => None,
    }))
}

/// Names that say that it is a user's word, and no rubric's.
fn is_feedback(name: &str) -> bool {
    ["user_feedback", "feedback", "thumbs", "thumb", "thumbs_up", "user_rating"].contains(&name)
}

/// Score and label of an annotation: a label that is a word for pass or fail wins, a score is from 0 to 1.
fn draft_of<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Result<Draft, String> {
    let word = get("label").map(plain).filter(|w| !w.trim().is_empty());
    let said = match (word, get("score")) {
        (Some(word), _) => Said::Word(word),
        (None, Some(score)) => Said::Score(number(score, "score")?),
        (None, None) => return Err("neither score nor label".to_owned()),
    };
    let text = |name: &str| get(name).map(plain).filter(|t| !t.trim().is_empty());
    let rubric = text("name").filter(|n| !is_feedback(&n.to_ascii_lowercase().replace(['-', ' ', '.'], "_")));
    Ok(Draft {
        rubric,
        source: Source::UserFeedback,
        labeller: text("identifier"),
        comment: text("explanation"),
        ..Draft::of(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_has_one_value_and_known_fields() {
        let read =
            label(&json!({"trace_id": "t", "rubric": "r", "passed": false, "labeller": "ann"})).expect("a label");
        assert_eq!((read.said, read.source), (Said::Passed(false), Source::Annotator));
        for (bad, words) in [
            (json!({"trace_id": "t", "rubric": "r"}), "nothing is said"),
            (json!({"trace_id": "t", "rubric": "r", "pased": true}), "did you mean `passed`"),
            (json!({"trace_id": "t", "rubric": "r", "score": 1, "label": "x"}), "give one"),
            (json!({"trace_id": "t", "passed": true}), "`rubric` is missing"),
            (json!({"trace_id": "t", "rubric": "r", "passed": true, "source": "boss"}), "expert, annotator"),
            (json!({"trace_id": "t", "rubric": "r", "passed": true, "made_at": "yesterday"}), "2026-11-20T12:00:00Z"),
            (json!([1]), "must be a JSON object"),
        ] {
            let error = label(&bad).expect_err("bad");
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn thumbs_ratings_and_corrections_are_feedback() {
        let read = |value: Value| label(&value).expect("feedback");
        let thumb = read(json!({"trace_id": "t", "kind": "feedback", "thumb": "down", "user_id": "u"}));
        assert_eq!((thumb.said, thumb.source), (Said::Word("down".into()), Source::UserFeedback));
        assert_eq!(thumb.labeller.as_deref(), Some("u"));
        let stars = read(json!({"trace_id": "t", "rating": 4}));
        assert_eq!(stars.said, Said::Rating { given: 4.0, worst: 1.0, best: 5.0 });
        let corrected = read(json!({"trace_id": "t", "correction": "It is 30 days."}));
        assert_eq!((corrected.said, corrected.comment.as_deref()), (Said::Passed(false), Some("It is 30 days.")));
        // A score as Langfuse has it.
        let score = read(json!({"traceId": "t", "name": "helpfulness", "value": 0.9, "comment": "fine"}));
        assert_eq!((score.rubric.as_deref(), score.said), (Some("helpfulness"), Said::Score(0.9)));
    }

    #[test]
    fn a_traces_label_is_one_a_list_or_by_rubric() {
        let rubrics = |value: Value| -> Vec<String> {
            of_trace(&value).expect("labels").into_iter().filter_map(|d| d.rubric).collect()
        };
        assert_eq!(rubrics(json!({"rubric": "a", "passed": true})), ["a"]);
        assert_eq!(rubrics(json!([{"rubric": "a", "passed": true}, {"rubric": "b", "score": 0.5}])), ["a", "b"]);
        assert_eq!(rubrics(json!({"a": true, "b": {"label": "x", "labeller": "ann"}})), ["a", "b"]);
        assert!(of_trace(&json!("good")).is_err());
    }

    fn wire(attrs: Value) -> WireSpan {
        WireSpan { attrs: Attrs(serde_json::from_value(attrs).expect("a map")), ..WireSpan::default() }
    }

    #[test]
    fn only_humans_annotations_are_feedback() {
        let mut span = Span::default();
        feedback(
            &wire(json!({
                "annotations.0.annotation.name": "user feedback", "annotations.0.annotation.label": "thumbs_down",
                "annotations.0.annotation.annotator_kind": "HUMAN", "annotations.0.annotation.identifier": "u-1",
                "annotations.1.annotation.name": "relevance", "annotations.1.annotation.score": 0.3,
                "annotations.1.annotation.annotator_kind": "LLM",
                "evaluations.0.evaluation.name": "faithfulness", "evaluations.0.evaluation.score": 1,
                "evaluations.0.evaluation.annotator_kind": "HUMAN",
                "assize.feedback.thumb": "up", "assize.feedback.rubric": "tone",
            })),
            &mut span,
        );
        let mut found: Vec<_> = span.labels.iter().map(|d| (d.rubric.as_deref(), d.said.clone())).collect();
        found.sort_by_key(|(rubric, _)| rubric.map(str::to_owned));
        let want = [
            (None, Said::Word("thumbs_down".into())),
            (Some("faithfulness"), Said::Score(1.0)),
            (Some("tone"), Said::Word("up".into())),
        ];
        assert_eq!(found, want);
        assert!(span.labels.iter().all(|d| d.source == Source::UserFeedback));
    }

    #[test]
    fn an_evaluation_result_is_feedback_only_by_its_name() {
        use super::super::wire::WireEvent;
        let event = |name: &str| WireEvent {
            name: "gen_ai.evaluation.result".into(),
            attrs: Attrs(
                serde_json::from_value(json!({"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": 0.0}))
                    .expect("a map"),
            ),
        };
        let mut span = Span::default();
        let events = vec![event("Relevance"), event("user_feedback")];
        feedback(&WireSpan { events, ..WireSpan::default() }, &mut span);
        assert_eq!(span.labels.len(), 1);
        assert_eq!((span.labels[0].said.clone(), span.labels[0].rubric.clone()), (Said::Score(0.0), None));
    }
}
