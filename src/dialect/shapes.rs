//! The shapes that requests, replies and messages have inside attributes: OpenAI's, the `OTel` conventions', `LangChain`'s, Vercel's,
//! the Responses API's, Datadog's.
//!
//! Used by the dialects, which only say where such a value is. Its rule: a message is recognised by what it has, not by who sent
//! it, since frameworks nest each other's shapes; parts of unknown type are kept. The way not taken: a reader for each SDK.

use super::lenient::{argument, plain, structure};
use crate::domain::message::{Message, ToolRequest, normal_role};
use serde_json::{Map, Value};

/// Values nested deeper than this are not looked into.
const DEPTH_MAX: usize = 8;

/// Keys under which applications put the question.
pub(super) const ASKED: &[&str] = &[
    "input",
    "question",
    "query",
    "query_str",
    "prompt",
    "user_msg",
    "user_input",
    "text",
    "inputs",
    "query_bundle",
    "q",
];
/// Keys under which applications put the answer.
pub(super) const TOLD: &[&str] =
    &["output", "answer", "response", "result", "text", "content", "outputs", "final_result"];

const ROLES: &[&str] =
    &["system", "user", "assistant", "tool", "human", "ai", "developer", "function", "model", "AIMessageChunk"];

/// The messages that a value holds, whatever is around them; `None` when it holds none.
pub(super) fn dialogue(value: &Value, role: &str) -> Option<Vec<Message>> {
    find(value, role, 0)
}

fn find(value: &Value, role: &str, depth: usize) -> Option<Vec<Message>> {
    if depth > DEPTH_MAX {
        return None;
    }
    match value {
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) if items.iter().all(is_message) => {
            Some(items.iter().flat_map(|item| message(item, role)).collect())
        }
        Value::Array(items) if items.iter().all(|i| i.is_array() || i.is_object()) => {
            let found: Vec<Message> = items.iter().filter_map(|i| find(i, role, depth + 1)).flatten().collect();
            (!found.is_empty()).then_some(found)
        }
        Value::Object(map) if is_message(value) && !is_response(map) => Some(message(value, role)),
        Value::Object(map) => {
            const INSIDE: [&str; 8] =
                ["messages", "choices", "generations", "message", "output", "update", "kwargs", "raw"];
            let inside = INSIDE.iter().filter_map(|key| map.get(*key)).filter(|v| !v.is_string());
            inside.into_iter().find_map(|inner| find(inner, role, depth + 1))
        }
        Value::String(text) => find(&structure(text)?, role, depth + 1),
        _ => None,
    }
}

/// A whole reply of the Responses API has a role of none and its items in `output`.
fn is_response(map: &Map<String, Value>) -> bool {
    map.get("object").and_then(Value::as_str) == Some("response")
}

/// What an application was asked or told: messages, else the text that the value stands for, without its wrapping.
pub(super) fn spoken(value: &Value, role: &str, keys: &[&str]) -> Vec<Message> {
    let text = words(value, role, keys, 0);
    text.filter(|all| !all.iter().all(Message::is_empty)).unwrap_or_default()
}

fn words(value: &Value, role: &str, keys: &[&str], depth: usize) -> Option<Vec<Message>> {
    if value.is_null() || depth > DEPTH_MAX {
        return None;
    }
    if let Some(found) = dialogue(value, role) {
        return Some(if role == "assistant" { answer(found) } else { found });
    }
    let as_text = || Some(vec![Message::text(role, super::lenient::unquoted(&plain(value)))]);
    match value {
        // What a function gave that failed, or gave nothing.
        Value::String(text) if matches!(text.trim(), "null" | "None") => None,
        Value::String(text) => match structure(text) {
            Some(inner @ Value::Object(_)) => {
                // Without anything to take off, the text stays as it was written.
                let printed = inner.to_string();
                let found = words(&inner, role, keys, depth + 1);
                found.filter(|all| all.iter().all(|m| m.content != printed)).or_else(as_text)
            }
            _ => as_text(),
        },
        Value::Object(map) => {
            let member = keys.iter().find_map(|key| map.get(*key)).or_else(|| only_argument(map, keys));
            member.and_then(|inner| words(inner, role, keys, depth + 1)).or_else(as_text)
        }
        _ => as_text(),
    }
}

/// The one argument that a decorated function was called with: `{"args": [x], "kwargs": {}}`.
fn only_argument<'a>(map: &'a Map<String, Value>, keys: &[&str]) -> Option<&'a Value> {
    let texts = map.get("args").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = map.get("kwargs").or_else(|| map.get("kw")).and_then(Value::as_object);
    let known = named.and_then(|named| keys.iter().find_map(|key| named.get(*key)));
    known.or_else(|| texts.iter().find(|v| v.is_string()))
}

/// Of a whole conversation the last thing that the assistant said; what is no conversation is kept.
fn answer(messages: Vec<Message>) -> Vec<Message> {
    let Some(last) = messages.iter().rposition(|m| matches!(m.role.as_str(), "user" | "system" | "tool")) else {
        return messages;
    };
    let after: Vec<Message> = messages[last + 1..].to_vec();
    if after.is_empty() { messages } else { after }
}

/// Whether a value is a message of one of the known shapes.
pub(super) fn is_message(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            let text = |key: &str| map.get(key).and_then(Value::as_str);
            if is_constructor(map) {
                return constructed(map)
                    .is_some_and(|class| class.ends_with("Message") || class.ends_with("MessageChunk"));
            }
            let content = ["content", "parts", "tool_calls", "data", "tool_results", "function_call"];
            let says = content.iter().any(|key| map.contains_key(*key));
            // The API leaves the role of a reply's items out.
            let speaks =
                text("role").is_some_and(|r| !r.is_empty()) || text("type").is_some_and(|t| ROLES.contains(&t));
            speaks && says
                || text("type").is_some_and(|t| matches!(t, "function_call" | "function_call_output"))
                    && (map.contains_key("call_id") || map.contains_key("arguments"))
                || text("type") == Some("reasoning") && map.contains_key("summary")
        }
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(role), Value::String(_)] => ROLES.contains(&role.as_str()),
            _ => false,
        },
        _ => false,
    }
}

/// `LangChain`'s serialised objects.
fn is_constructor(map: &Map<String, Value>) -> bool {
    map.contains_key("lc") && map.get("kwargs").is_some_and(Value::is_object)
}

fn constructed(map: &Map<String, Value>) -> Option<&str> {
    map.get("id")?.as_array()?.last()?.as_str()
}

/// One message; tool responses become messages of their own, since each answers a call of its own.
pub(super) fn message(value: &Value, role: &str) -> Vec<Message> {
    let map = match value {
        Value::Object(map) => map,
        Value::Array(pair) if is_message(value) => {
            let [role, text] = [&pair[0], &pair[1]].map(plain);
            return vec![Message::text(normal_role(&role), text)];
        }
        other => return vec![Message::text(role, plain(other))],
    };
    if is_constructor(map) {
        let role = constructed(map).map_or(role, normal_role).to_owned();
        return map.get("kwargs").and_then(Value::as_object).map(|inner| of_map(inner, &role)).unwrap_or_default();
    }
    if let (Some(data), Some(kind)) = (map.get("data").and_then(Value::as_object), map.get("type")) {
        return of_map(data, normal_role(kind.as_str().unwrap_or(role)));
    }
    of_map(map, role)
}

fn of_map(map: &Map<String, Value>, default_role: &str) -> Vec<Message> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let kind = text("type").filter(|t| ROLES.contains(t));
    let role = normal_role(text("role").or(kind).unwrap_or(default_role)).to_owned();
    let mut made = Made { main: Message { role, ..Message::default() }, texts: Vec::new(), responses: Vec::new() };
    match map.get("parts").filter(|p| p.is_array()).or_else(|| map.get("content")) {
        Some(Value::Array(parts)) => parts.iter().for_each(|part| made.part(part)),
        Some(Value::Object(part)) => made.part(&Value::Object(part.clone())),
        Some(Value::Null) | None if text("type").is_some() && kind.is_none() => made.part(&Value::Object(map.clone())),
        Some(Value::Null) | None => {}
        Some(other) => made.texts.push(plain(other)),
    }
    let extra = map.get("additional_kwargs").and_then(Value::as_object);
    let calls = map.get("tool_calls").or_else(|| extra?.get("tool_calls")).map(argument);
    for call in calls.as_ref().and_then(Value::as_array).into_iter().flatten() {
        made.main.tool_calls.extend(tool_request(call));
    }
    if let Some(call) = map.get("function_call").filter(|c| c.is_object()) {
        made.main.tool_calls.extend(tool_request(call));
    }
    for result in map.get("tool_results").and_then(Value::as_array).into_iter().flatten() {
        made.response(result, &["tool_id", "id"], &["result", "content"]);
    }
    let refusal = text("refusal").or_else(|| extra?.get("refusal")?.as_str()).filter(|r| !r.is_empty());
    if let Some(refusal) = refusal {
        made.main.refusal = Some(refusal.to_owned());
    }
    if made.main.role == "tool" {
        made.main.tool_call_id = text("tool_call_id").or_else(|| text("id")).map(str::to_owned);
    }
    if let Some(thought) = text("reasoning_content") {
        made.main.other.push(serde_json::json!({"type": "reasoning", "content": thought}));
    }
    made.messages()
}

/// A message in the making.
struct Made {
    main: Message,
    texts: Vec<String>,
    responses: Vec<Message>,
}

impl Made {
    fn part(&mut self, part: &Value) {
        let first = |keys: &[&str]| keys.iter().find_map(|key| part.get(*key)).filter(|v| !v.is_null());
        match part.get("type").and_then(Value::as_str) {
            Some("text" | "input_text" | "output_text") => {
                self.texts.push(first(&["content", "text"]).map(plain).unwrap_or_default());
            }
            Some("refusal") => self.main.refusal = first(&["content", "refusal"]).map(plain),
            Some("tool_call" | "tool-call" | "tool_use" | "function_call") => {
                self.main.tool_calls.extend(tool_request(part));
            }
            Some("tool_call_response" | "tool-result" | "tool_result" | "function_call_output") => self.response(
                part,
                &["id", "toolCallId", "tool_use_id", "call_id", "tool_call_id"],
                &["response", "result", "output", "content"],
            ),
            None => match part {
                Value::String(text) => self.texts.push(text.clone()),
                _ => match part.get("text").and_then(Value::as_str) {
                    Some(text) => self.texts.push(text.to_owned()),
                    None => self.main.other.push(part.clone()),
                },
            },
            Some(_) => self.main.other.push(part.clone()),
        }
    }

    fn response(&mut self, value: &Value, ids: &[&str], contents: &[&str]) {
        let id = ids.iter().find_map(|key| value.get(*key)).filter(|v| !v.is_null()).map(plain);
        let content = contents.iter().find_map(|key| value.get(*key)).unwrap_or(&Value::Null);
        let message = Message { tool_call_id: id, ..Message::text("tool", plain(&inner_result(content))) };
        self.responses.push(message);
    }

    fn messages(mut self) -> Vec<Message> {
        self.main.content = self.texts.join("\n");
        if self.responses.is_empty() || !self.main.is_empty() {
            self.responses.insert(0, self.main);
        }
        self.responses
    }
}

/// Vercel says of what type a result is; other senders give a list of text parts.
fn inner_result(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.len() == 2 && map.contains_key("type") => {
            map.get("value").cloned().unwrap_or_else(|| value.clone())
        }
        Value::Array(parts) if !parts.is_empty() => {
            let texts: Option<Vec<&str>> = parts.iter().map(|p| p.get("text").and_then(Value::as_str)).collect();
            texts.map_or_else(|| value.clone(), |texts| texts.join("\n").into())
        }
        other => other.clone(),
    }
}

/// A call that a model asks for, in any of the shapes; `None` without a name.
pub(super) fn tool_request(value: &Value) -> Option<ToolRequest> {
    let function = value.get("function").filter(|f| f.is_object()).unwrap_or(value);
    let name = ["name", "toolName", "tool_name"].iter().find_map(|key| function.get(*key)).map(plain)?;
    let ids = ["id", "tool_id", "toolCallId", "call_id", "tool_call_id"];
    // The Responses API has an id of the item and another one of the call.
    let id = value.get("call_id").or_else(|| ids.iter().find_map(|key| value.get(*key)));
    let arguments = ["arguments", "args", "input"].iter().find_map(|key| function.get(*key));
    Some(ToolRequest {
        id: id.filter(|v| !v.is_null()).map(plain),
        name,
        arguments: arguments.map(argument).unwrap_or_default(),
    })
}

/// What a tool was called with, without what frameworks put around it.
pub(super) fn tool_arguments(value: &Value) -> Value {
    let value = argument(value);
    let Some(map) = value.as_object() else { return value };
    if let Some(text) = map.get("input_str") {
        return argument(text);
    }
    let named = ["kwargs", "kw"].iter().find_map(|key| map.get(*key)).filter(|v| v.is_object());
    let around = map.keys().all(|key| matches!(key.as_str(), "args" | "kwargs" | "kw"));
    match (named, map.get("args").and_then(Value::as_array).map(Vec::as_slice)) {
        (Some(Value::Object(inner)), _) if around && !inner.is_empty() => Value::Object(inner.clone()),
        (_, Some([one])) if around => argument(one),
        _ => value.clone(),
    }
}

/// What a tool gave, without what frameworks put around it.
pub(super) fn tool_result(value: &Value) -> Value {
    let value = argument(value);
    if let Some(Value::Array(blocks)) = value.get("blocks") {
        return argument(&inner_result(&Value::Array(blocks.clone())));
    }
    let inner = value.get("output").filter(|v| v.is_object()).unwrap_or(&value);
    match dialogue(inner, "tool").as_deref() {
        Some([one]) if one.role == "tool" => argument(&Value::String(one.content.clone())),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn only(value: &Value) -> Message {
        let mut all = dialogue(value, "assistant").expect("messages");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn every_shape_of_a_tool_call_is_one() {
        let arguments = json!({"a": 1});
        for value in [
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\":1}"}}]}),
            json!([{"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}]}]),
            json!({"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "c", "toolName": "f", "input": {"a": 1}}]}),
            json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]}),
            json!({"type": "ai", "data": {"content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c"}]}}),
            json!([[{"lc": 1, "type": "constructor", "id": ["x", "AIMessage"],
                "kwargs": {"content": "", "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c"}]}}]]),
            json!({"object": "response", "output": [{"type": "function_call", "id": "fc", "call_id": "c", "name": "f",
                "arguments": "{\"a\":1}"}]}),
            json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [{"id": "c",
                "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}]}),
            json!(
                "{'role': 'assistant', 'content': None, 'tool_calls': [{'name': 'f', 'arguments': {'a': 1}, 'tool_id': 'c'}]}"
            ),
        ] {
            let message = only(&value);
            assert_eq!(message.role, "assistant", "{value}");
            let want = ToolRequest { id: Some("c".to_owned()), name: "f".to_owned(), arguments: arguments.clone() };
            assert_eq!(message.tool_calls, [want], "{value}");
        }
    }

    #[test]
    fn every_shape_of_a_tool_result_is_a_message_of_its_own() {
        for value in [
            json!({"role": "tool", "content": "42", "tool_call_id": "c"}),
            json!({"role": "user", "parts": [{"type": "tool_call_response", "id": "c", "result": "42"}]}),
            json!({"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c", "toolName": "f",
                "output": {"type": "text", "value": "42"}}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "42"}]}]}),
            json!({"content": "", "role": "tool", "tool_results": [{"name": "", "result": "42", "tool_id": "c"}]}),
            json!({"type": "function_call_output", "call_id": "c", "output": "42"}),
        ] {
            let message = only(&value);
            assert_eq!((message.role.as_str(), message.content.as_str()), ("tool", "42"), "{value}");
            assert_eq!(message.tool_call_id.as_deref(), Some("c"), "{value}");
        }
    }

    #[test]
    fn wrappings_are_taken_off() {
        let say = |value: Value| spoken(&value, "user", ASKED).into_iter().map(|m| m.content).collect::<Vec<_>>();
        assert_eq!(say(json!({"args": ["why?"], "kwargs": {}})), ["why?"]);
        assert_eq!(say(json!("{\"inputs\": {\"question\": \"why?\"}, \"tags\": []}")), ["why?"]);
        assert_eq!(say(json!({"q": {"query_str": "why?", "embedding": null}})), ["why?"]);
        assert_eq!(say(json!("\"why?\"")), ["why?"]);
        assert_eq!(say(json!("{\"x\": 1}")), ["{\"x\": 1}"]);
        let state = json!({"messages": [["human", "why?"], {"type": "ai", "content": "because"}]});
        assert_eq!(spoken(&state, "assistant", TOLD), [Message::text("assistant", "because")]);
        assert_eq!(spoken(&json!(null), "user", ASKED), []);
    }

    #[test]
    fn tools_are_unwrapped() {
        let want = json!({"a": 1});
        for value in [
            json!({"a": 1}),
            json!("{\"input_str\": \"{'a': 1}\", \"tags\": []}"),
            json!({"args": [], "kwargs": {"a": 1}}),
            json!({"kw": {"a": 1}}),
            json!({"args": [{"a": 1}], "kwargs": {}}),
        ] {
            assert_eq!(tool_arguments(&value), want, "{value}");
        }
        for value in [
            json!("{\"a\":1}"),
            json!({"type": "tool", "data": {"content": "{\"a\":1}", "tool_call_id": "c"}}),
            json!({"output": {"lc": 1, "id": ["ToolMessage"], "kwargs": {"content": "{\"a\":1}"}}}),
            json!({"content": "{\"a\":1}", "type": "tool", "tool_call_id": "c"}),
            json!({"blocks": [{"text": "{\"a\":1}"}]}),
        ] {
            assert_eq!(tool_result(&value), want, "{value}");
        }
        assert_eq!(tool_result(&json!("text")), json!("text"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let keys = "role|type|content|parts|messages|tool_calls|lc|id|kwargs|function|name|text|output|data|args";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\\[\\]{}\"':,]{0,8}|user|ai|tool|text|function_call".prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(keys, inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_panics(value in any_json()) {
            drop(dialogue(&value, "user"));
            drop(spoken(&value, "assistant", TOLD));
            drop(message(&value, "user"));
        }
    }
}
