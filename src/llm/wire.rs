//! The body of a chat completion request, and a completion as it comes back.
//!
//! Used by `client` and `batch`. Its rule: written straight from what is borrowed, without a tree in between; read tolerantly,
//! since compatible servers leave out what they like. The way not taken: the client library's own types, which refuse
//! replies that lack what OpenAI always sends.

use crate::config::Judge;
use crate::domain::chat::{ChatReply, ChatRequest, TokenChoice};
use crate::domain::message::Usage;
use crate::domain::rung::{Parameter, Rung};
use crate::domain::span::normal_finish_reason;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Alternatives to a token that are asked for; more is refused.
const TOP_LOGPROBS: u8 = 20;

/// The body of a request.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tool<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonSchema { json_schema: Named<'a> },
    JsonObject,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    strict: bool,
    schema: &'a Value,
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    r#type: &'a str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

/// The body of a request to this judge, without what its endpoint refuses.
pub(super) fn body<'a>(judge: &'a Judge, request: &'a ChatRequest) -> Body<'a> {
    let sent = |parameter| !request.traits.refused.contains(&parameter);
    // OpenAI's newer models refuse the old name, most compatible servers know only the old one; whichever is refused
    // gives way to the other, and if both are, no limit is sent.
    let official = judge.base_url.as_deref().is_some_and(|url| url.contains("api.openai.com"));
    let (old, new) = (sent(Parameter::MaxTokens), sent(Parameter::MaxCompletionTokens));
    let limit = Some(request.output_tokens_max);
    let logprobs = (request.logprobs && sent(Parameter::Logprobs)).then_some(true);
    let mut body = Body {
        model: &judge.model,
        messages: request.messages.iter().map(|(role, content)| Message { role, content }).collect(),
        temperature: judge.temperature.filter(|_| sent(Parameter::Temperature)),
        top_p: judge.top_p.filter(|_| sent(Parameter::TopP)),
        seed: judge.seed.filter(|_| sent(Parameter::Seed)),
        reasoning_effort: judge.reasoning_effort.as_deref().filter(|_| sent(Parameter::ReasoningEffort)),
        max_tokens: limit.filter(|_| old && !(official && new)),
        max_completion_tokens: limit.filter(|_| new && (official || !old)),
        logprobs,
        top_logprobs: logprobs.map(|_| TOP_LOGPROBS),
        response_format: None,
        tools: None,
        tool_choice: None,
    };
    if let Some((name, schema)) = &request.schema {
        match request.traits.rung {
            Rung::JsonSchema => {
                body.response_format = Some(Format::JsonSchema { json_schema: Named { name, strict: true, schema } });
            }
            Rung::Tool => {
                let function = Function { name, description: "Gives the verdict.", parameters: schema };
                body.tools = Some([Tool { r#type: "function", function }]);
                body.tool_choice = Some(json!({"type": "function", "function": {"name": name}}));
            }
            Rung::JsonObject => body.response_format = Some(Format::JsonObject),
            Rung::JsonText | Rung::LabelText => {}
        }
    }
    body
}

/// A completion.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Spent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    message: Option<Said>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Logprobs {
    content: Option<Vec<TokenChoice>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Value,
    refusal: Option<String>,
    tool_calls: Option<Vec<Called>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Called {
    function: Option<CalledFunction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CalledFunction {
    arguments: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spent {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
}

impl Completion {
    /// The reply; `None` without a message.
    pub(super) fn read(self) -> Option<ChatReply> {
        let choice = self.choices.into_iter().next()?;
        let message = choice.message?;
        let called = message.tool_calls.unwrap_or_default().into_iter().find_map(|call| text(call.function?.arguments));
        let usage = self.usage.unwrap_or_default();
        let details =
            |details: &Option<Details>, of: fn(&Details) -> Option<u64>| details.as_ref().and_then(of).unwrap_or(0);
        Some(ChatReply {
            content: text(message.content).filter(|t| !t.is_empty()).or(called).unwrap_or_default(),
            refusal: message.refusal.filter(|r| !r.is_empty()),
            finish_reason: choice.finish_reason.as_deref().and_then(normal_finish_reason),
            model: self.model.unwrap_or_default(),
            usage: Usage {
                input_tokens: usage.prompt_tokens.unwrap_or(0),
                output_tokens: usage.completion_tokens.unwrap_or(0),
                cached_input_tokens: details(&usage.prompt_tokens_details, |d| d.cached_tokens),
                reasoning_tokens: details(&usage.completion_tokens_details, |d| d.reasoning_tokens),
            },
            logprobs: choice.logprobs.and_then(|l| l.content).unwrap_or_default(),
        })
    }
}

/// Text, the texts of a list of parts, or an object as JSON (arguments that a server has already parsed).
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(parts) => Some(parts.iter().filter_map(|p| p.get("text")?.as_str()).collect()),
        Value::Object(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rung::Traits;

    fn read(reply: Value) -> Option<ChatReply> {
        serde_json::from_value::<Completion>(reply).ok()?.read()
    }

    #[test]
    fn a_sparse_reply_is_read() {
        let reply = read(json!({"choices": [{"message": {"content": "x"}}]})).expect("a choice is enough");
        assert_eq!((reply.content.as_str(), reply.usage.input_tokens), ("x", 0));
        assert_eq!(read(json!({"choices": []})), None);
        for arguments in [json!("{}"), json!({})] {
            let call = json!([{"function": {"arguments": arguments}}]);
            let tool = json!({"choices": [{"message": {"content": null, "tool_calls": call}}]});
            assert_eq!(read(tool).expect("a choice").content, "{}");
        }
        let parts = json!({"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}], "usage": null});
        assert_eq!(read(parts).expect("a choice").content, "x");
    }

    #[test]
    fn cached_and_reasoning_tokens_are_counted() {
        let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens_details": {"reasoning_tokens": 4}});
        let reply = read(json!({"choices": [{"message": {"content": "x"}}], "usage": usage})).expect("a choice");
        assert_eq!((reply.usage.cached_input_tokens, reply.usage.reasoning_tokens), (8, 4));
    }

    #[test]
    fn what_is_refused_is_left_out() {
        let judge = Judge { model: "m".to_owned(), top_p: Some(0.9), seed: Some(7), ..Judge::default() };
        let mut request = ChatRequest {
            messages: vec![("user", "x".into())],
            schema: None,
            output_tokens_max: 64,
            logprobs: true,
            traits: Traits::default(),
        };
        let sent = |request: &ChatRequest| serde_json::to_value(body(&judge, request)).expect("JSON");
        let all = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 0.0, "top_p": 0.9,
            "seed": 7, "max_tokens": 64, "logprobs": true, "top_logprobs": 20});
        assert_eq!(sent(&request), all);
        request.traits.refused =
            [Parameter::Temperature, Parameter::TopP, Parameter::Seed, Parameter::Logprobs, Parameter::MaxTokens]
                .into();
        let few = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 64});
        assert_eq!(sent(&request), few);
        request.traits.refused.insert(Parameter::MaxCompletionTokens);
        assert_eq!(sent(&request).get("max_completion_tokens"), None);
    }
}
