//! `assize rubric check`: mistakes, oddities, cost.

use super::super::{BAD_INPUT, Context};
use super::cost::{self, Cost};
use super::sources::{self, Source};
use crate::config::Config;
use crate::config::nearest::nearest;
use crate::pipeline::trial;
use crate::rubrics::error::{Problem, RubricError, Severity};
use crate::rubrics::lint::lint;
use crate::rubrics::parse::Parsed;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric check\n  assize rubric check rubrics/tone.yaml --json")]
pub(super) struct Args {
    /// Files, folders or names; default: the configured folder
    rubrics: Vec<String>,
}

pub(super) fn run(args: &Args, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let sources = sources::read(&args.rubrics, &config)?;
    let (mut errors, mut warnings, mut files) = (0, 0, Vec::new());
    for source in &sources {
        let (found, cost) = look(source, &config);
        let count = |severity| found.iter().flat_map(|f| &f.problems).filter(|p| p.severity == severity).count();
        errors += count(Severity::Error);
        warnings += count(Severity::Warning);
        let parsed = source.read.as_ref().ok();
        if as_json {
            files.push(entry(source, parsed, found.as_ref(), cost.as_ref()));
        } else {
            if let Some(found) = &found {
                println!("{}\n", found.render(std::io::IsTerminal::is_terminal(&std::io::stdout())));
            }
            if let Some(parsed) = parsed {
                println!("{}", line(parsed, cost.as_ref()));
            }
        }
    }
    if as_json {
        println!("{}", json!({"files": files, "errors": errors, "warnings": warnings}));
    } else {
        println!("{} file(s), {errors} error(s), {warnings} warning(s)", sources.len());
    }
    Ok(match (errors, warnings) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(1),
        _ => ExitCode::from(BAD_INPUT),
    })
}

fn look(source: &Source, config: &Config) -> (Option<RubricError>, Option<Cost>) {
    match &source.read {
        Err(error) => (Some(error.clone()), None),
        Ok(parsed) => {
            let mut found = lint(&source.path, parsed);
            for (n, why) in unreadable_tests(parsed) {
                let problem = parsed.about_test(n, format!("the test's trace cannot be used: {why}"));
                add(&mut found, source, parsed, problem);
            }
            for problem in unknown_judges(parsed, config) {
                add(&mut found, source, parsed, problem);
            }
            (found, cost::of(&parsed.rubric, &parsed.tests, config))
        }
    }
}

fn add(found: &mut Option<RubricError>, source: &Source, parsed: &Parsed, problem: Problem) {
    match found {
        Some(found) => found.problems.push(problem),
        None => {
            let text = parsed.rubric.source.as_str().into();
            *found = Some(RubricError { path: source.path.clone(), text, problems: vec![problem] });
        }
    }
}

/// Judges of the panel that the configuration does not have. A named panel has only configured ones.
fn unknown_judges(parsed: &Parsed, config: &Config) -> Vec<Problem> {
    // Without any judge this is a place where nothing is judged, and the last line says so.
    if config.judges.is_empty() {
        return Vec::new();
    }
    let unknown = parsed.rubric.panel.iter().enumerate().filter(|(_, name)| !config.judges.contains_key(*name));
    let one = |(n, name): (usize, &String)| {
        let known = || config.judges.keys().map(String::as_str);
        let hint = nearest(name, known()).map_or_else(
            || format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            |best| format!("did you mean `{best}`?"),
        );
        parsed.about_judge(
            n,
            format!("the judge `{name}` is not configured"),
            format!("{hint}; or add [judges.{name}]"),
        )
    };
    unknown.map(one).collect()
}

fn unreadable_tests(parsed: &Parsed) -> Vec<(usize, String)> {
    let why = |test| match trial::traces(test) {
        Err(why) => Some(why),
        Ok(_) => trial::unknown_field(test).map(|field| {
            format!("`{field}` is no field of native JSON and would become a tag; put it under `tags` if it is one")
        }),
    };
    parsed.tests.iter().enumerate().filter_map(|(n, test)| Some((n, why(test)?))).collect()
}

fn line(parsed: &Parsed, cost: Option<&Cost>) -> String {
    let rubric = &parsed.rubric;
    let unit = rubric.evaluates.as_str();
    let cost = match cost {
        None if rubric.prompt.is_none() => "no judge, free".to_owned(),
        None if rubric.panel.is_empty() => "no judge configured".to_owned(),
        None => "cost depends on the answers".to_owned(),
        Some(Cost { question_tokens, judges, usd }) => {
            let usd = usd.map_or_else(|| "price unknown".to_owned(), |usd| format!("at most {usd:.2} USD"));
            format!("{question_tokens:.0} tokens to {judges} judge(s): {usd} a thousand {unit}s")
        }
    };
    format!("{} {}: {} test(s), {cost}", rubric.name, rubric.version, parsed.tests.len())
}

fn entry(source: &Source, parsed: Option<&Parsed>, found: Option<&RubricError>, cost: Option<&Cost>) -> Value {
    let one = |f: &RubricError, p: &Problem| {
        let place = f.place(p);
        let file = p.other.as_ref().map_or(&f.path, |(path, _)| path);
        json!({"file": file, "severity": p.severity, "line": place.line, "column": place.column, "message": p.message, "help": p.help})
    };
    let problems: Vec<Value> = found.iter().flat_map(|f| f.problems.iter().map(|p| one(f, p))).collect();
    json!({
        "file": source.path, "name": parsed.map(|p| &p.rubric.name), "version": parsed.map(|p| &p.rubric.version),
        "tests": parsed.map(|p| p.tests.len()), "problems": problems, "cost_per_thousand": cost,
    })
}
