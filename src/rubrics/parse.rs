//! One rubric file to a rubric.
//!
//! Called by `catalog` and `cli`. Its rule: unknown keys, unknown variables and values without sense are refused with file,
//! line and remedy; the version is a hash of the parsed rubric, so comments and formatting do not change it. The way not
//! taken: lenient reading, in which a misspelt `pass` silently means the default.

use crate::checks::check_options;
use crate::config::nearest;
use crate::domain::ids::short_hash;
use crate::domain::policy::{Matcher, Patterns};
use crate::domain::rubric::{
    AppliesWhen, Ask, CheckKind, CheckOptions, CheckSpec, Combine, Example, Output, Rubric, Variable,
};
use crate::domain::span::Status;
use crate::judge::prompt::{check_template, uses_variable};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is wrong with a rubric file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", path.display(), line.map_or_else(String::new, |l| format!(":{l}")))]
pub struct RubricError {
    /// The file.
    pub path: PathBuf,
    /// The line, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    evaluates: Evaluates,
    #[serde(default)]
    applies_when: Applies,
    sample: Option<f64>,
    #[serde(default)]
    checks: Vec<Check>,
    panel: Option<Panel>,
    #[serde(default)]
    combine: Combine,
    ask: Option<Ask>,
    stop_at: Option<f64>,
    #[serde(default)]
    swap_positions: bool,
    batch_hours: Option<f64>,
    #[serde(default)]
    output: Output,
    pass: Option<f64>,
    prompt: Option<String>,
    #[serde(default)]
    examples: Vec<Example>,
    // Only their form is checked here: `rubric test` and the detectors will use the values.
    #[serde(default, rename = "tests")]
    _tests: Vec<Test>,
    #[serde(rename = "alert")]
    _alert: Option<Alert>,
}

#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Evaluates {
    #[default]
    Trace,
    Span,
    Session,
}

/// `applies_when`: what must be there, and the labels of [`Matcher`], in one mapping.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Applies {
    requires: Vec<Variable>,
    service: Patterns,
    environment: Patterns,
    feature: Patterns,
    model: Patterns,
    prompt: Patterns,
    prompt_version: Patterns,
    tenant: Patterns,
    status: Option<Status>,
    latency_ms_over: Option<i64>,
    tags: BTreeMap<String, Patterns>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Check {
    Name(String),
    WithLimits(BTreeMap<String, Option<Limits>>),
}

/// The scores at which a check decides; all other keys are its own options.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    fail_below: Option<f64>,
    pass_above: Option<f64>,
    #[serde(flatten)]
    options: CheckOptions,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Panel {
    Named(String),
    Inline(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the form is checked now, `rubric test` will use the values")]
struct Test {
    #[serde(default)]
    name: Option<String>,
    trace: Value,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the form is checked now, `rubric test` will use the values")]
struct Expect {
    passed: Option<bool>,
    label: Option<String>,
    score: Option<(f64, f64)>,
    outcome: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the form is checked now, `watch` will use the values")]
struct Alert {
    #[serde(default)]
    by: Vec<String>,
    drop: Option<f64>,
    false_alarms: Option<String>,
    runbook: Option<String>,
}

/// Reads one rubric. `panels` are the configured panels, to which a panel's name is resolved; inline panels name judges.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn rubric(path: &Path, source: &str, panels: &BTreeMap<String, Vec<String>>) -> Result<Rubric, RubricError> {
    let file: File = yaml_serde::from_str(source).map_err(|e| {
        // Inside a tagged mapping serde knows the mapping's line at best; the unknown key itself is easily found.
        let text = e.to_string();
        let key = text.split("unknown field `").nth(1).and_then(|rest| rest.split('`').next());
        let line = key.and_then(|key| line_with(source, key)).or_else(|| e.location().map(|l| l.line()));
        RubricError { path: path.to_owned(), line, problem: nearest::explain(&text) }
    })?;
    let at = |key: &str, problem: String| RubricError { path: path.to_owned(), line: line_of(source, key), problem };
    check_name(&file.name).map_err(|problem| at("name", problem))?;
    if file.evaluates != Evaluates::Trace {
        return Err(at(
            "evaluates",
            "only `evaluates: trace` is supported so far; spans and sessions are not".to_owned(),
        ));
    }
    let unit = |key: &str, value: Option<f64>| match value {
        Some(v) if !(0.0..=1.0).contains(&v) => Err(at(key, format!("`{key}` is {v}; give a number from 0 to 1"))),
        other => Ok(other),
    };
    let sample = unit("sample", file.sample)?.unwrap_or(1.0);
    let pass = unit("pass", file.pass)?.unwrap_or(0.5);
    unit("stop_at", file.stop_at)?;
    check_asking(&file).map_err(|(key, problem)| at(key, problem.to_owned()))?;
    check_output(&file.output).map_err(|problem| at("output", problem))?;
    let checks = checks(file.checks).map_err(|problem| at("checks", problem))?;
    let panel = panel(file.panel.as_ref(), panels).map_err(|problem| at("panel", problem))?;
    match (&file.prompt, file.panel.is_some()) {
        (None, true) => return Err(at("panel", "a panel needs a `prompt`".to_owned())),
        (Some(_), false) => {
            return Err(at("prompt", "a prompt needs a `panel`; `panel: default` is the usual one".to_owned()));
        }
        (None, false) if checks.is_empty() => {
            return Err(at(
                "name",
                "the rubric has neither `checks` nor a `panel`, so nothing could decide it".to_owned(),
            ));
        }
        (Some(prompt), true) => check_template(prompt)
            .and_then(|()| check_claims(prompt, &file.output))
            .map_err(|problem| at("prompt", problem))?,
        (None, false) => {}
    }
    let mut made = Rubric {
        name: file.name,
        title: file.title,
        version: String::new(),
        applies_when: applies(file.applies_when),
        sample,
        checks,
        panel,
        combine: file.combine,
        ask: file.ask.unwrap_or(if file.stop_at.is_some() { Ask::InTurn } else { Ask::Together }),
        stop_at: file.stop_at,
        swap_positions: file.swap_positions,
        batch_hours: file.batch_hours,
        output: file.output,
        pass,
        prompt: file.prompt,
        examples: file.examples,
        source: String::new(),
    };
    made.version = version(&made);
    source.clone_into(&mut made.source);
    Ok(made)
}

/// Hash of what can change a verdict: everything but the title, the file's text and the sampling rate.
fn version(rubric: &Rubric) -> String {
    let judged = Rubric { title: String::new(), sample: 1.0, ..rubric.clone() };
    // Struct fields and BTreeMaps have a fixed order, so equal rubrics give equal text.
    let text = serde_json::to_string(&judged).expect("a rubric is plain data");
    format!("sha256:{}", short_hash(&[text.as_bytes()], 12))
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
            latency_ms_over: from.latency_ms_over,
            tags: from.tags,
        },
    }
}

/// A rubric's name is also its label in Datadog, which allows no more than this.
fn check_name(name: &str) -> Result<(), String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 100 {
        Ok(())
    } else {
        Err(format!("`{name}` is not a name; use up to 100 letters, digits and _, beginning with a small letter"))
    }
}

fn check_output(output: &Output) -> Result<(), String> {
    match output {
        Output::Score { range: (low, high), .. } if !(low < high && low.is_finite() && high.is_finite()) => {
            Err(format!("the range [{low}, {high}] is empty; write it as [lowest, highest]"))
        }
        Output::Category { values } if values.len() < 2 => Err("a category needs two labels or more".to_owned()),
        Output::Category { values } => match values.iter().find(|(_, s)| !(0.0..=1.0).contains(*s)) {
            Some((label, score)) => Err(format!("label `{label}` has the score {score}; give a number from 0 to 1")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether the keys about when judges are asked agree; the key and what is wrong with it otherwise.
fn check_asking(file: &File) -> Result<(), (&'static str, &'static str)> {
    if file.stop_at.is_some_and(|s| s <= 0.5) {
        return Err(("stop_at", "`stop_at` must be above 0.5: a verdict is never less sure than a coin"));
    }
    if file.stop_at.is_some() && file.ask == Some(Ask::Together) {
        return Err(("ask", "`stop_at` needs judges that are asked one after another: `ask: in_turn`"));
    }
    match file.batch_hours {
        Some(hours) if !(hours > 0.0 && hours <= 24.0) => {
            Err(("batch_hours", "`batch_hours` must be above 0 and at most 24"))
        }
        _ if file.swap_positions && matches!(file.output, Output::Claims { .. }) => {
            Err(("swap_positions", "claims are held against each document by itself, so there is no order to swap"))
        }
        _ if file.applies_when.requires.contains(&Variable::Claims) => {
            Err(("applies_when", "no trace has `claims`; they are made of its answer: require `answer`"))
        }
        Some(_) if matches!(file.output, Output::Claims { .. }) => {
            Err(("batch_hours", "claims need several requests one after another, which a batch cannot hold"))
        }
        _ => Ok(()),
    }
}

/// The claims are split by us and shown in the prompt; both sides must know of it.
fn check_claims(prompt: &str, output: &Output) -> Result<(), String> {
    let uses = |name: &str| uses_variable(prompt, name);
    match output {
        Output::Claims { .. } if !(uses("claims") && uses("context")) => Err(
            "with `output: {type: claims}` the prompt shows `{{ claims }}` and the `{{ context }}` that they are held against"
                .to_owned(),
        ),
        Output::Claims { .. } => Ok(()),
        _ if uses("claims") => Err("`{{ claims }}` is there with `output: {type: claims}` only".to_owned()),
        _ => Ok(()),
    }
}

fn checks(list: Vec<Check>) -> Result<Vec<CheckSpec>, String> {
    let mut specs = Vec::new();
    for check in list {
        let pairs = match check {
            Check::Name(name) => vec![(name, Limits::default())],
            Check::WithLimits(map) => map.into_iter().map(|(n, l)| (n, l.unwrap_or_default())).collect(),
        };
        for (name, limits) in pairs {
            let kind = CheckKind::parse(&name).ok_or_else(|| {
                let known: Vec<&str> = CheckKind::ALL.iter().map(|k| k.as_str()).collect();
                let hint = nearest::nearest(&name, known.iter().copied());
                let hint = hint.map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
                format!("there is no check `{name}`{hint}; there are {}", known.join(", "))
            })?;
            let Limits { fail_below, pass_above, options } = limits;
            check_options(kind, &options).map_err(|problem| format!("`{name}`: {}", explain_option(&problem)))?;
            let spec = CheckSpec { kind, fail_below, pass_above, options };
            for (key, limit) in [("fail_below", spec.fail_below), ("pass_above", spec.pass_above)] {
                if limit.is_some_and(|l| !(0.0..=1.0).contains(&l)) {
                    return Err(format!("`{name}.{key}` must be a number from 0 to 1"));
                }
            }
            if let (Some(fail), Some(pass)) = (spec.fail_below, spec.pass_above)
                && fail > pass
            {
                return Err(format!("`{name}`: fail_below {fail} is above pass_above {pass}, so both could hold"));
            }
            specs.push(spec);
        }
    }
    Ok(specs)
}

/// Serde knows the options of the check alone; the two keys that every check has belong to the known ones.
fn explain_option(problem: &str) -> String {
    let deciding = "`fail_below`, `pass_above`";
    let text = match problem.split_once(", there are no fields") {
        Some((before, _)) => format!("{before}, expected one of {deciding}"),
        None if problem.contains("unknown field `") => format!("{problem}, {deciding}"),
        None => problem.to_owned(),
    };
    nearest::explain(&text)
}

/// Judges' names of a panel. A named panel that is not configured is empty here; the catalog says so.
fn panel(panel: Option<&Panel>, panels: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, String> {
    match panel {
        None => Ok(Vec::new()),
        Some(Panel::Inline(judges)) if judges.is_empty() => Err("the panel has no judges".to_owned()),
        Some(Panel::Inline(judges)) => Ok(judges.clone()),
        Some(Panel::Named(name)) => match panels.get(name) {
            Some(judges) => Ok(judges.clone()),
            None if panels.is_empty() => Ok(Vec::new()),
            None => {
                let hint = nearest::nearest(name, panels.keys().map(String::as_str));
                let hint = hint.map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
                Err(format!("there is no panel `{name}`{hint}; add it under [panels] in the configuration"))
            }
        },
    }
}

/// The first line that has `key:`.
fn line_with(source: &str, key: &str) -> Option<usize> {
    let needle = format!("{key}:");
    source.lines().position(|line| line.contains(&needle)).map(|n| n + 1)
}

/// The line on which a top-level key stands.
fn line_of(source: &str, key: &str) -> Option<usize> {
    source.lines().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))).map(|n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name: tone\ntitle: Tone\npanel: default\npass: 0.7\nprompt: |\n  Answer: {{ answer }}\n";

    fn panels() -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([("default".to_owned(), vec!["a".to_owned(), "b".to_owned()])])
    }

    fn parse(source: &str) -> Result<Rubric, RubricError> {
        rubric(Path::new("rubrics/x.yaml"), source, &panels())
    }

    #[test]
    fn a_good_file_parses() {
        let rubric = parse(GOOD).expect("valid");
        assert_eq!((rubric.panel.len(), rubric.pass), (2, 0.7));
        assert!(rubric.version.starts_with("sha256:") && rubric.version.len() == 19);
    }

    #[test]
    fn the_version_follows_the_meaning_not_the_form() {
        let version = |source: &str| parse(source).expect("valid").version;
        let commented = format!("# a comment\n{}", GOOD.replace("title: Tone", "title:   \"Another\""));
        assert_eq!(version(GOOD), version(&commented));
        assert_ne!(version(GOOD), version(&GOOD.replace("0.7", "0.8")));
        assert_ne!(version(GOOD), version(&GOOD.replace("Answer:", "The answer:")));
    }

    #[test]
    fn mistakes_name_file_line_and_remedy() {
        for (source, line, words) in [
            (GOOD.replace("pass:", "pas:"), 4, "did you mean `pass`"),
            (GOOD.replace("0.7", "7"), 4, "from 0 to 1"),
            (GOOD.replace("{{ answer }}", "{{ anser }}"), 5, "known are question"),
            (GOOD.replace("default", "defautl"), 3, "did you mean `default`"),
            (GOOD.replace("name: tone", "name: Tone!"), 1, "beginning with a small letter"),
            (format!("{GOOD}checks: [groundin]\n"), 7, "did you mean `grounding`"),
            (format!("{GOOD}checks:\n  - grounding: {{fail_below: 0.9, pass_above: 0.1}}\n"), 7, "both could hold"),
            (format!("{GOOD}checks:\n  - grounding: {{fail_belo: 0.9}}\n"), 7, "did you mean `fail_below`"),
            (format!("{GOOD}evaluates: session\n"), 7, "not"),
            ("name: x\n".to_owned(), 1, "neither"),
            (format!("{GOOD}output: {{type: score, beter: lower}}\n"), 7, "did you mean `better`"),
            ("name: [\n".to_owned(), 1, "expected a string"),
        ] {
            let error = parse(&source).expect_err("invalid");
            let text = error.to_string();
            assert!(text.starts_with("rubrics/x.yaml:") && text.contains(words), "{text}");
            assert_eq!(error.line, Some(line), "{text}");
        }
    }
}
