//! What must hold of redaction, on text, on JSON within text, and on whole spans.

use super::*;
use crate::domain::message::ToolRequest;
use proptest::prelude::*;
use serde_json::json;

const CARD: &str = "4111 1111 1111 1111";
const KEY: &str = "AKIAIOSFODNN7REDACTE";

fn redactor() -> Redactor {
    let action = |category| match category {
        Category::Phone => Action::Keep,
        Category::Ip => Action::Drop,
        _ => Action::Mask,
    };
    Redactor::new(RedactionPolicy::new(action), b"key of the test")
}

fn redacted(text: &str) -> String {
    redactor().text("trace", text).unwrap_or_else(|| text.to_owned())
}

#[test]
fn each_category_does_what_the_policy_says() {
    let text = redacted("Card 4111-1111-1111-1111, call +1 202 555 0147 from 93.184.216.34.");
    assert!(
        text.starts_with("Card [CARD_") && text.contains("+1 202 555 0147") && text.ends_with("from [IP]."),
        "{text}"
    );
}

#[test]
fn a_value_has_one_placeholder_in_a_trace_and_another_elsewhere() {
    let (spaced, plain) = (redacted(CARD), redacted("4111111111111111"));
    assert_eq!(spaced, plain);
    assert_ne!(redactor().text("another trace", CARD), Some(plain.clone()));
    let other_key = Redactor::new(RedactionPolicy::new(|_| Action::Mask), b"another key");
    assert_ne!(other_key.text("trace", CARD), Some(plain));
}

#[test]
fn json_within_text_stays_json() {
    let text = r#"{ "note":"tab\there: jo@example.com\nbye", "card": 4111111111111111, "n":1.50, "n":2 }"#;
    let new = redacted(text);
    let value: Value = serde_json::from_str(&new).expect("it is still JSON");
    assert!(value["card"].as_str().is_some_and(|c| c.starts_with("[CARD_")), "{new}");
    assert!(value["note"].as_str().is_some_and(|n| n.contains("\there: [EMAIL_") && n.ends_with("\nbye")), "{new}");
    assert!(new.contains("\"n\":1.50, \"n\":2 }"), "what is not touched keeps its bytes: {new}");
}

#[test]
fn json_within_json_is_read_too() {
    let inner = json!({"key": KEY, "path": "C:\\new"}).to_string();
    let new = redacted(&json!({"arguments": inner}).to_string());
    let outer: Value = serde_json::from_str(&new).expect("it is still JSON");
    let inner: Value = serde_json::from_str(outer["arguments"].as_str().expect("text")).expect("so is the inner one");
    assert!(inner["key"].as_str().is_some_and(|k| k.starts_with("[SECRET_")), "{new}");
    assert_eq!(inner["path"], "C:\\new");
}

#[test]
fn a_key_says_what_its_value_is() {
    let new = redacted(r#"{"password": "hunter2hunter2", "ssn": 123456789, "count": 123456789}"#);
    let value: Value = serde_json::from_str(&new).expect("it is still JSON");
    assert!(value["password"].as_str().is_some_and(|p| p.starts_with("[SECRET_")), "{new}");
    assert!(value["ssn"].as_str().is_some_and(|p| p.starts_with("[NATIONAL_ID_")), "{new}");
    assert_eq!(value["count"], 123_456_789);
}

#[test]
fn no_text_of_a_span_is_forgotten() {
    let text = || format!("my card is {CARD} and the key is {KEY}");
    let call = ToolRequest { id: Some(text()), name: text(), arguments: json!({"a": [text()]}) };
    let message = Message {
        role: text(),
        content: text(),
        refusal: Some(text()),
        tool_calls: vec![call],
        tool_call_id: Some(text()),
        other: vec![json!({"reasoning": text()})],
    };
    let mut span = Span {
        trace_id: "t".to_owned(),
        span_id: "s".to_owned(),
        name: text(),
        error: Some(text()),
        system: Some(text()),
        user: Some(text()),
        session: Some(text()),
        input: vec![message.clone()],
        output: vec![message],
        documents: vec![Document {
            id: Some(text()),
            content: Some(text()),
            score: None,
            metadata: json!({"source": text()}),
        }],
        tool_calls: vec![ToolCall {
            name: text(),
            arguments: json!(text()),
            result: json!({text(): text()}),
            error: Some(text()),
        }],
        tags: BTreeMap::from([("plain".to_owned(), text()), (text(), "x".to_owned())]),
        ..Span::default()
    };
    let counts = redactor().span(&mut span);
    let stored = serde_json::to_string(&span).expect("plain data");
    assert!(!stored.contains("4111") && !stored.contains(KEY), "{stored}");
    assert_eq!(counts[&Category::Card], counts[&Category::Secret]);
    assert!(counts[&Category::Card] > 20);
}

#[test]
fn media_is_left_alone_and_a_policy_that_keeps_all_does_nothing() {
    let picture = format!("data:image/png;base64,{}", "QUtJQQ4111111111111111".repeat(10));
    assert_eq!(redactor().text("trace", &picture), None);
    let idle = Redactor::new(RedactionPolicy::new(|_| Action::Keep), b"");
    assert_eq!(idle.text("trace", CARD), None);
}

proptest! {
    #[test]
    fn any_text_can_be_redacted(text in "\\PC{0,80}|[0-9@:./ A-Za-z_=\"{}\\[\\]\\\\-]{0,200}") {
        let once = redacted(&text);
        prop_assert_eq!(redacted(&once), once.clone(), "what was redacted is not redacted again");
        if json::is_json(&text) {
            prop_assert!(json::is_json(&once));
        }
    }

    #[test]
    fn any_json_stays_json(key in "[a-z_ ]{1,12}", text in "\\PC{0,60}", number in any::<u64>()) {
        let body = json!({key.clone(): [text.clone(), {"n": number, "nested": json!({key: text}).to_string()}]}).to_string();
        prop_assert!(json::is_json(&redacted(&body)));
    }
}
