//! Were the tools used as they should be: known, with valid arguments, in order, without loops, and were errors heeded?
//!
//! Its rule: a tool is unknown only where the tools were sent with the trace, arguments are held against a schema only where it was
//! sent; calls that ran count, else those that the model asked for. The score is the share of calls without a problem. The way
//! not taken: judging whether the tool was the right one, which is a judge's question.

use super::json_validity::schema::{Reading, compiled};
use super::read_options;
use super::subject::Subject;
use crate::domain::message::{ToolCall, ToolDefinition};
use crate::domain::rubric::CheckOptions;
use crate::domain::verdict::CheckResult;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

const NAME: &str = "tool_use";

/// Calls looked at; an agent that made more has a problem that shows in these.
const CALLS_MAX: usize = 1_000;

/// Problems listed as evidence.
const EVIDENCE_MAX: usize = 20;

/// Longest cycle of calls that is looked for.
const CYCLE_MAX: usize = 8;

/// What a rubric may say about this check.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// Tools that must have been called, in this order; others may stand between.
    order: Vec<String>,
    /// Tools that must not be called.
    forbidden: Vec<String>,
    /// The same call this many times is a loop.
    repeats_max: usize,
    /// Whether a failed last call must not be followed by an answer that does not speak of it.
    errors: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { order: Vec::new(), forbidden: Vec::new(), repeats_max: 3, errors: true }
    }
}

/// Whether the options can be used.
pub(super) fn check_options(options: &CheckOptions) -> Result<(), String> {
    match read_options::<Options>(options)?.repeats_max {
        0 | 1 => Err("`repeats_max` must be 2 or more: the number of equal calls that make a loop".to_owned()),
        _ => Ok(()),
    }
}

pub(super) fn check(subject: &Subject, options: &CheckOptions) -> CheckResult {
    let Ok(options) = read_options::<Options>(options) else {
        return CheckResult::not_applicable(NAME, "its options cannot be used");
    };
    let view = &subject.trace.view;
    let asked: Vec<ToolCall> = if view.tool_calls.is_empty() {
        let requests = view.output.iter().flat_map(|m| &m.tool_calls).take(CALLS_MAX);
        requests
            .map(|r| ToolCall { name: r.name.clone(), arguments: r.arguments.clone(), ..ToolCall::default() })
            .collect()
    } else {
        Vec::new()
    };
    let calls =
        if view.tool_calls.is_empty() { &asked[..] } else { &view.tool_calls[..view.tool_calls.len().min(CALLS_MAX)] };
    if calls.is_empty() && options.order.is_empty() {
        return CheckResult::not_applicable(NAME, "no tool was called");
    }
    let mut problems = Problems::default();
    for (n, call) in calls.iter().enumerate() {
        definition(n, call, &view.tools, &mut problems);
        if options.forbidden.contains(&call.name) {
            problems.add("forbidden_tool", Some(n), &json!(call.name));
        }
    }
    repeats(calls, options.repeats_max, &mut problems);
    order(calls, &options.order, &mut problems);
    if options.errors {
        ignored_error(calls, subject.answer().unwrap_or_default(), &mut problems);
    }
    let bad = problems.calls.len() + usize::from(problems.whole);
    let score = if bad == 0 { 1.0 } else { (1.0 - bad as f64 / calls.len().max(1) as f64).clamp(0.0, 0.99) };
    let finding = problems.evidence.first().map_or("in_order", |first| first["what"].as_str().unwrap_or("problem"));
    let detail = json!({"finding": finding, "calls": calls.len(), "evidence": problems.evidence});
    CheckResult::new(NAME, bad == 0, (score * 1e4).round() / 1e4, detail)
}

#[derive(Default)]
struct Problems {
    evidence: Vec<Value>,
    calls: BTreeSet<usize>,
    /// Something that is no single call's.
    whole: bool,
}

impl Problems {
    fn add(&mut self, what: &str, call: Option<usize>, about: &Value) {
        match call {
            Some(n) => drop(self.calls.insert(n)),
            None => self.whole = true,
        }
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(json!({"what": what, "call": call, "about": about}));
        }
    }
}

/// Is the tool known, and do the arguments fit?
fn definition(n: usize, call: &ToolCall, tools: &[ToolDefinition], problems: &mut Problems) {
    // Arguments come as an object or as its text; text that is no JSON never fits.
    let arguments = match &call.arguments {
        Value::String(text) if text.trim().is_empty() => Some(Cow::Owned(json!({}))),
        Value::String(text) => serde_json::from_str(text).ok().map(Cow::Owned),
        Value::Null => Some(Cow::Owned(json!({}))),
        other => Some(Cow::Borrowed(other)),
    };
    let Some(tool) = tools.iter().find(|tool| tool.name == call.name) else {
        if !tools.is_empty() {
            problems.add("unknown_tool", Some(n), &json!(call.name));
        }
        return;
    };
    if tool.parameters.is_null() {
        return;
    }
    let Some(arguments) = arguments else {
        problems.add("arguments_no_json", Some(n), &json!(call.name));
        return;
    };
    let Ok(validator) = compiled(&tool.parameters, Reading::default()) else { return };
    if let Some(error) = validator.iter_errors(&arguments).next() {
        let about = json!({"tool": call.name, "at": error.instance_path().to_string(), "rule": error.schema_path().to_string()});
        problems.add("invalid_arguments", Some(n), &about);
    }
}

/// The same call again and again, and cycles of calls.
fn repeats(calls: &[ToolCall], repeats_max: usize, problems: &mut Problems) {
    let keys: Vec<String> = calls.iter().map(|call| format!("{}\u{0}{}", call.name, call.arguments)).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (n, key) in keys.iter().enumerate() {
        let times = seen.entry(key).or_default();
        *times += 1;
        if *times == repeats_max {
            problems.add("repeated_call", Some(n), &json!({"tool": calls[n].name, "times": repeats_max}));
        } else if *times > repeats_max {
            problems.calls.insert(n);
        }
    }
    // A cycle: a stretch of two different calls or more that comes three times in a row.
    for length in 2..=CYCLE_MAX.min(keys.len() / 3) {
        let cycle = (0..=keys.len() - 3 * length).find(|start| {
            let part = |k: usize| &keys[start + k * length..start + (k + 1) * length];
            let different: HashSet<&String> = part(0).iter().collect();
            different.len() > 1 && part(0) == part(1) && part(1) == part(2)
        });
        if let Some(start) = cycle {
            problems.add("cycle", Some(start + 2 * length), &json!({"length": length}));
            return;
        }
    }
}

fn order(calls: &[ToolCall], wanted: &[String], problems: &mut Problems) {
    let mut rest = calls.iter();
    for name in wanted {
        if !rest.any(|call| call.name == *name) {
            let what = if calls.iter().any(|call| call.name == *name) { "wrong_order" } else { "missing_tool" };
            problems.add(what, None, &json!(name));
            return;
        }
    }
}

/// The last call of a tool failed, it was not tried again, and the answer says nothing of it.
fn ignored_error(calls: &[ToolCall], answer: &str, problems: &mut Problems) {
    if answer.trim().is_empty() {
        return;
    }
    let told = || {
        const WORDS: &[&str] = &[
            "error",
            "fail",
            "unable",
            "couldn't",
            "could not",
            "cannot",
            "can't",
            "unavailable",
            "problem",
            "sorry",
            "unfortunately",
            "fehl",
            "leider",
            "nicht",
            "erreur",
            "impossible",
            "malheureusement",
            "error",
            "no pude",
            "no se pudo",
            "lamentablemente",
            "erro",
            "não foi",
            "infelizmente",
            "errore",
            "purtroppo",
            "fout",
            "helaas",
            "エラー",
            "できません",
            "오류",
            "없습니다",
            "错误",
            "無法",
            "无法",
            "失败",
        ];
        let lower = answer.to_lowercase().replace('\u{2019}', "'");
        WORDS.iter().any(|word| lower.contains(word))
    };
    let mut last: HashMap<&str, (usize, bool)> = HashMap::new();
    for (n, call) in calls.iter().enumerate() {
        last.insert(&call.name, (n, call.error.as_deref().is_some_and(|e| !e.trim().is_empty())));
    }
    let mut failed: Vec<usize> = last.values().filter(|(_, failed)| *failed).map(|(n, _)| *n).collect();
    failed.sort_unstable();
    if let Some(n) = failed.first()
        && !told()
    {
        problems.add("ignored_error", Some(*n), &json!(calls[*n].name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;
    use crate::domain::trace::Trace;
    use crate::domain::verdict::Finding;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall { name: name.to_owned(), arguments, ..ToolCall::default() }
    }

    fn run(calls: Vec<ToolCall>, answer: &str, options: &Value) -> CheckResult {
        let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
        let mut trace = Trace::default();
        trace.view.output = vec![Message::text("assistant", answer)];
        trace.view.tools = ["search", "open"]
            .map(|name| ToolDefinition { name: name.to_owned(), description: None, parameters: schema.clone() })
            .to_vec();
        trace.view.tool_calls = calls;
        check(&Subject::new(&trace), options.as_object().expect("an object"))
    }

    fn q(n: i32) -> Value {
        json!({"q": n.to_string()})
    }

    #[test]
    fn good_calls_pass_and_each_problem_has_its_name() {
        let fine = run(vec![call("search", q(1)), call("open", json!("{\"q\": \"x\"}"))], "Done.", &json!({}));
        assert_eq!((fine.finding, fine.score), (Finding::Pass, Some(1.0)));
        let error = Some("HTTP 500".to_owned());
        let cycle: Vec<ToolCall> =
            (0..6).map(|n| call(["search", "open"][n % 2], q(i32::try_from(n % 2).expect("small")))).collect();
        for (calls, options, finding) in [
            (vec![call("serch", q(1))], json!({}), "unknown_tool"),
            (vec![call("search", json!({}))], json!({}), "invalid_arguments"),
            (vec![call("search", json!("{broken"))], json!({}), "arguments_no_json"),
            (vec![call("search", q(1)); 3], json!({}), "repeated_call"),
            (cycle, json!({"repeats_max": 9}), "cycle"),
            (vec![call("open", q(1)), call("search", q(1))], json!({"order": ["search", "open"]}), "wrong_order"),
            (vec![call("search", q(1))], json!({"order": ["search", "open"]}), "missing_tool"),
            (vec![call("search", q(1))], json!({"forbidden": ["search"]}), "forbidden_tool"),
            (vec![ToolCall { error, ..call("search", q(1)) }], json!({}), "ignored_error"),
        ] {
            let result = run(calls, "It is all done.", &options);
            assert_eq!((result.finding, &result.detail["finding"]), (Finding::Fail, &json!(finding)), "{options}");
        }
    }

    #[test]
    fn an_error_that_was_retried_or_told_is_heeded() {
        let failed = || ToolCall { error: Some("timeout".to_owned()), ..call("search", q(1)) };
        assert_eq!(run(vec![failed(), call("search", q(1))], "Found it.", &json!({})).finding, Finding::Pass);
        assert_eq!(run(vec![failed()], "Sorry, the search failed.", &json!({})).finding, Finding::Pass);
    }

    #[test]
    fn without_calls_it_does_not_apply() {
        assert_eq!(run(Vec::new(), "Hello.", &json!({})).finding, Finding::NotApplicable);
    }
}
