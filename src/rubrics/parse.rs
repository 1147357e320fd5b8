//! One rubric file to a rubric.
//!
//! Called by `catalog` and `cli`. Its rule: what is unknown or has no sense is refused with its place and a remedy, all of it at
//! once; the version is a hash of the parsed rubric, so comments, order and layout do not change it. The way not taken:
//! lenient reading, in which a misspelt `pass` silently means the default.

use super::error::{Problem, RubricError};
use super::form;
use super::keys::{FILE, Kind, is_limit};
use super::meaning;
use super::sound;
use super::template;
use super::yaml::{self, Node};
use crate::domain::ids::short_hash;
use crate::domain::policy::{Matcher, Patterns};
use crate::domain::rubric::{
    AlertRule, AppliesWhen, Ask, CheckKind, CheckSpec, Combine, Example, Output, Rubric, Variable,
};
use crate::domain::span::Status;
use crate::domain::unit::{Evaluates, SpanMatcher};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a file is read beside.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The configured panels, to which a panel's name is resolved. None at all: every name is taken, and stands for nobody.
    pub panels: &'a BTreeMap<String, Vec<String>>,
    /// Texts that prompts may include, by name.
    pub shared: &'a BTreeMap<String, Arc<str>>,
}

/// A file that can be used.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The rubric.
    pub rubric: Rubric,
    /// Its tests.
    pub tests: Arc<[Test]>,
    /// Whether it is to judge nothing for now.
    pub paused: bool,
    /// The panel by its name in the configuration, where it is not a list.
    pub panel_name: Option<String>,
    /// Where everything stands, for `lint`.
    pub(super) document: Node,
}

impl Parsed {
    /// Something odd about a test.
    #[must_use]
    pub fn about_test(&self, number: usize, message: String) -> Problem {
        let place = self.document.at(&["tests", &number.to_string(), "trace"]).span.clone();
        Problem::warning(place, message).help("the form is native JSON, see docs/ingest.md")
    }

    /// Something odd about a judge of the panel.
    #[must_use]
    pub fn about_judge(&self, number: usize, message: String, help: String) -> Problem {
        let place = self.document.at(&["panel", &number.to_string()]).span.clone();
        Problem::warning(place, message).help(help)
    }
}

/// A trace, and the verdict that the rubric must give it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Test {
    /// What it shows.
    #[serde(default)]
    pub name: String,
    /// Native JSON, `trace_id` included; null where there is a session.
    #[serde(default)]
    pub trace: Value,
    /// The traces of a session, in the same form.
    #[serde(default)]
    pub session: Vec<Value>,
    /// The verdict.
    pub expect: Expect,
    /// Whether the simulated judge can be expected to know.
    #[serde(default = "yes")]
    pub simulated: bool,
    /// The line in the file, from 1.
    #[serde(skip)]
    pub line: usize,
}

fn yes() -> bool {
    true
}

/// What a verdict must be; what is `None` may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Expect {
    /// Whether it passes.
    pub passed: Option<bool>,
    /// The label.
    pub label: Option<String>,
    /// Lowest and highest score.
    pub score: Option<(f64, f64)>,
    /// How it ends; `scored` unless it is said.
    pub outcome: Option<String>,
    /// Which span's verdict is meant.
    pub span: Option<String>,
}

/// The keys of a file whose form is right.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
#[derive(Deserialize)]
pub(super) struct File {
    pub name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    pub evaluates: Evaluates,
    pub spans_max: Option<f64>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    pub applies_when: Applies,
    sample: Option<f64>,
    #[serde(default)]
    checks: Vec<Value>,
    panel: Option<Panel>,
    #[serde(default)]
    combine: Combine,
    pub ask: Option<Ask>,
    pub stop_at: Option<f64>,
    #[serde(default)]
    pub swap_positions: bool,
    pub batch_hours: Option<f64>,
    #[serde(default)]
    pub feedback: bool,
    #[serde(default)]
    pub output: Output,
    #[serde(default)]
    pub abstain: bool,
    pass: Option<f64>,
    #[serde(default)]
    pub examples: Vec<Example>,
    #[serde(default)]
    pub tests: Vec<Test>,
    #[serde(default)]
    pub alert: AlertRule,
}

/// `applies_when`: what must be there, and the labels of [`Matcher`], in one mapping.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Applies {
    pub requires: Vec<Variable>,
    service: Patterns,
    environment: Patterns,
    feature: Patterns,
    model: Patterns,
    prompt: Patterns,
    prompt_version: Patterns,
    tenant: Patterns,
    status: Option<Status>,
    latency_ms_over: Option<f64>,
    tags: BTreeMap<String, Patterns>,
    span_kind: Patterns,
    span_name: Patterns,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Panel {
    Named(String),
    Inline(Vec<String>),
}

/// Reads one rubric that includes nothing; see [`parse`].
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn rubric(path: &Path, source: &str, panels: &BTreeMap<String, Vec<String>>) -> Result<Rubric, RubricError> {
    parse(path, source, Surroundings { panels, shared: &BTreeMap::new() }).map(|parsed| parsed.rubric)
}

/// Reads one file.
///
/// # Errors
/// Everything that is wrong, where, and what to do.
pub fn parse(path: &Path, source: &str, around: Surroundings<'_>) -> Result<Parsed, RubricError> {
    let refuse = |problems| RubricError::new(path.to_owned(), source, problems);
    let document = yaml::read(source).map_err(|problem| refuse(vec![problem]))?;
    let mut found = Vec::new();
    form::check(&document, &Kind::Section(FILE), "", &mut found);
    if !matches!(document.kind, yaml::Kind::Map(_)) {
        let problem = Problem::at(document.span.clone(), "a rubric is a mapping of keys").help("begin with `name:`");
        return Err(refuse(vec![problem]));
    }
    if let Some(prompt) = document.get("prompt") {
        found.extend(template::check(path, source, prompt, around.shared));
    }
    sound::on_own_scale(&document, &mut found);
    // What is right by itself is looked at even where something else is not: people see all mistakes at once.
    let sound = sound::part(&document, &found);
    let file: File = match serde_json::from_value(without_nulls(sound.value())) {
        Ok(file) => file,
        Err(_) if !found.is_empty() => return Err(refuse(found)),
        Err(error) => {
            let help = "this is a mistake of ours: its form was found to be right";
            return Err(refuse(vec![Problem::at(0..0, format!("the file cannot be used: {error}")).help(help)]));
        }
    };
    let panel = panel(file.panel.as_ref(), &document, around.panels, &mut found);
    let checks = checks(&file.checks);
    let written = document.get("prompt").and_then(Node::text);
    let prompt = written.map(|text| template::expand(text, around.shared));
    meaning::check(&file, (&document, &sound), (&checks, prompt.as_deref()), &mut found);
    if !found.is_empty() {
        return Err(refuse(found));
    }
    Ok(assemble(file, document, source, (panel, checks, prompt)))
}

fn assemble(
    file: File,
    document: Node,
    source: &str,
    (panel, checks, prompt): (Vec<String>, Vec<CheckSpec>, Option<String>),
) -> Parsed {
    let mut rubric = Rubric {
        name: file.name,
        title: file.title,
        version: String::new(),
        evaluates: file.evaluates,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the form was checked")]
        spans_max: file.spans_max.map(|most| most as u32),
        applies_when: applies(file.applies_when),
        sample: file.sample.unwrap_or(1.0),
        checks,
        panel,
        combine: file.combine,
        ask: file.ask.unwrap_or(if file.stop_at.is_some() { Ask::InTurn } else { Ask::Together }),
        stop_at: file.stop_at,
        swap_positions: file.swap_positions,
        batch_hours: file.batch_hours,
        feedback: file.feedback,
        alert: file.alert,
        output: file.output,
        abstain: file.abstain,
        pass: file.pass.unwrap_or(0.5),
        prompt,
        examples: file.examples,
        source: String::new(),
    };
    rubric.version = version(&rubric);
    source.clone_into(&mut rubric.source);
    let mut tests = file.tests;
    for (n, test) in tests.iter_mut().enumerate() {
        complete(test, n, &rubric.name);
        let number = n.to_string();
        test.line = super::error::place(source, document.at(&["tests", &number]).span.start).line;
    }
    let panel_name = if let Some(Panel::Named(name)) = file.panel { Some(name) } else { None };
    Parsed { rubric, tests: tests.into(), paused: file.paused, panel_name, document }
}

/// Hash of what can change a verdict: everything but the title, the file's text, the sampling rate, how many spans it takes,
/// whether it takes feedback, and when it alerts.
#[must_use]
pub fn version(rubric: &Rubric) -> String {
    let judged = Rubric {
        title: String::new(),
        version: String::new(),
        source: String::new(),
        sample: 1.0,
        spans_max: None,
        feedback: false,
        alert: AlertRule::default(),
        ..rubric.clone()
    };
    // Struct fields and BTreeMaps have a fixed order, so equal rubrics give equal text.
    let text = serde_json::to_string(&judged).expect("a rubric is plain data");
    format!("sha256:{}", short_hash(&[text.as_bytes()], 12))
}

/// A test without a name has its number, and a trace without an id one of its own.
fn complete(test: &mut Test, n: usize, rubric: &str) {
    if test.name.is_empty() {
        test.name = format!("test {}", n + 1);
    }
    let turns = test.session.iter_mut().enumerate().map(|(turn, trace)| (format!("-{}", turn + 1), trace));
    for (turn, trace) in std::iter::once((String::new(), &mut test.trace)).chain(turns) {
        if let Some(trace) = trace.as_object_mut() {
            trace.entry("trace_id").or_insert_with(|| Value::String(format!("{rubric}-test-{}{turn}", n + 1)));
        }
    }
}

/// A key whose value is left empty is a key that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).collect::<serde_json::Map<_, _>>().into(),
        other => other,
    }
}

fn applies(from: Applies) -> AppliesWhen {
    AppliesWhen {
        requires: from.requires,
        labels: Matcher {
            service: from.service,
            environment: from.environment,
            feature: from.feature,
            model: from.model,
            prompt: from.prompt,
            prompt_version: from.prompt_version,
            tenant: from.tenant,
            status: from.status,
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds; the form was checked")]
            latency_ms_over: from.latency_ms_over.map(|ms| ms as i64),
            tags: from.tags,
        },
        spans: SpanMatcher { kind: from.span_kind, name: from.span_name },
    }
}

/// The checks of a file whose form is right. This is the one place where a check's limits and options are read.
fn checks(list: &[Value]) -> Vec<CheckSpec> {
    let limit = |limits: &Value, key: &str| limits.get(key).and_then(Value::as_f64);
    let spec = |name: &str, given: &Value| {
        let own = given.as_object().into_iter().flatten().filter(|(key, _)| !is_limit(key));
        Some(CheckSpec {
            kind: CheckKind::parse(name)?,
            fail_below: limit(given, "fail_below"),
            pass_above: limit(given, "pass_above"),
            options: own.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    };
    let mut specs = Vec::new();
    for one in list {
        match one {
            Value::String(name) => specs.extend(spec(name, &Value::Null)),
            Value::Object(map) => specs.extend(map.iter().filter_map(|(name, limits)| spec(name, limits))),
            _ => {}
        }
    }
    specs
}

/// Judges' names of a panel. A named panel that is not configured is empty here; the catalog says so.
fn panel(
    panel: Option<&Panel>,
    document: &Node,
    panels: &BTreeMap<String, Vec<String>>,
    found: &mut Vec<Problem>,
) -> Vec<String> {
    let at = document.at(&["panel"]).span.clone();
    match panel {
        None => Vec::new(),
        Some(Panel::Inline(judges)) => {
            if judges.is_empty() {
                found.push(Problem::at(at, "the panel has no judges").help("name one, or write `panel: default`"));
            }
            judges.clone()
        }
        Some(Panel::Named(name)) => match panels.get(name) {
            Some(judges) => judges.clone(),
            None if panels.is_empty() => Vec::new(),
            None => {
                let known: Vec<&str> = panels.keys().map(String::as_str).collect();
                let problem = form::unknown(at, "panel", name, &known);
                let help = problem.help.clone().unwrap_or_default();
                found.push(problem.help(format!("{help}; add it under [panels] in the configuration")));
                Vec::new()
            }
        },
    }
}

#[cfg(test)]
mod tests;
