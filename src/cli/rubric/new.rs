//! `assize rubric new`: a file to start from, with comments and two tests.

use super::super::Context;
use crate::domain::rubric::Variable;
use crate::rubrics::keys::check_name;
use crate::rubrics::schema::schema;
use anyhow::{Context as _, bail};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize rubric new\n  \
    assize rubric new politeness --title \"Polite to the customer\" --output category --labels polite=1,curt=0.5,rude=0\n  \
    assize rubric new covers_warranty --question \"Does the answer name the warranty period?\" --requires question,answer")]
pub(super) struct Args {
    /// Its name: letters, digits and _; asked for on a terminal
    name: Option<String>,
    /// A title for people
    #[arg(long)]
    title: Option<String>,
    /// What the judges are asked about the answer, so that yes is good
    #[arg(long)]
    question: Option<String>,
    /// What they answer
    #[arg(long, value_parser = ["boolean", "score", "category"])]
    output: Option<String>,
    /// Labels with their scores, for `--output category`
    #[arg(long, value_delimiter = ',', value_name = "LABEL=SCORE", value_parser = label)]
    labels: Vec<(String, f64)>,
    /// Inputs that a trace must have
    #[arg(long, value_delimiter = ',')]
    requires: Vec<String>,
    /// The panel of the configuration
    #[arg(long, default_value = "default")]
    panel: String,
    /// The folder; default: the configured one
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, f64), String> {
    let (label, score) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write polite=1"))?;
    let score: f64 = score.parse().map_err(|_| format!("`{score}` is not a number"))?;
    if (0.0..=1.0).contains(&score) {
        Ok((label.to_owned(), score))
    } else {
        Err("give a score from 0 to 1".to_owned())
    }
}

/// What the file is about.
struct Plan {
    name: String,
    title: String,
    question: String,
    output: String,
    labels: Vec<(String, f64)>,
    requires: Vec<String>,
    panel: String,
}

pub(super) fn run(args: &Args, as_json: bool, context: &Context) -> anyhow::Result<ExitCode> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => context.config()?.rubrics.dir,
    };
    let plan = plan(args)?;
    let path = dir.join(format!("{}.yaml", plan.name));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Never over somebody's work.
    let mut file = std::fs::File::create_new(&path)
        .with_context(|| format!("cannot write {}; choose another name, or remove it first", path.display()))?;
    file.write_all(text(&plan).as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    let beside = dir.join("schema.json");
    if !beside.exists() {
        let text = serde_json::to_string_pretty(&schema())? + "\n";
        std::fs::write(&beside, text).with_context(|| format!("cannot write {}", beside.display()))?;
    }
    if as_json {
        println!("{}", json!({"file": path, "name": plan.name}));
    } else {
        let shown = path.display();
        println!("{shown} is written. Fill in what is good and what is not, and the two tests; then:");
        println!("  assize rubric check {shown}\n  assize rubric test {shown}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Flags, and on a terminal what they leave open.
fn plan(args: &Args) -> anyhow::Result<Plan> {
    let asks = args.name.is_none() && std::io::stdin().is_terminal();
    let ask = |given: &Option<String>, what: &str, usual: &str| match given {
        Some(given) => Ok(given.clone()),
        None if asks => prompt(what, usual),
        None => Ok(usual.to_owned()),
    };
    let name = ask(&args.name, "name (letters, digits and _)", "")?;
    if name.is_empty() {
        bail!("the rubric needs a name, as in: assize rubric new politeness");
    }
    if let Err(why) = check_name(&name) {
        bail!("{why}");
    }
    let title = ask(&args.title, "title for people", &name.replace('_', " "))?;
    let question = ask(
        &args.question,
        "what is asked about the answer, so that yes is good",
        &format!("Is the answer good: {title}?"),
    )?;
    let kind = if args.labels.is_empty() { "boolean" } else { "category" };
    let output = ask(&args.output, "output: boolean, score or category", kind)?;
    if !["boolean", "score", "category"].contains(&output.as_str()) {
        bail!("`{output}` is not an output; there are boolean, score and category");
    }
    let labels = match (output.as_str(), args.labels.len()) {
        ("category", 0) => vec![("good".to_owned(), 1.0), ("partly".to_owned(), 0.5), ("bad".to_owned(), 0.0)],
        ("category", 1) => bail!("a category needs two labels or more, as in --labels polite=1,rude=0"),
        _ => args.labels.clone(),
    };
    let requires =
        if args.requires.is_empty() { vec!["question".to_owned(), "answer".to_owned()] } else { args.requires.clone() };
    if let Some(wrong) = requires.iter().find(|r| !Variable::IN_PROMPTS.iter().any(|v| v.as_str() == *r)) {
        let known: Vec<&str> = Variable::IN_PROMPTS.iter().map(|v| v.as_str()).collect();
        bail!("`{wrong}` is not an input; there are {}", known.join(", "));
    }
    Ok(Plan { name, title, question, output, labels, requires, panel: args.panel.clone() })
}

fn prompt(what: &str, usual: &str) -> anyhow::Result<String> {
    let hint = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
    eprint!("{what}{hint}: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let said = line.trim();
    Ok(if said.is_empty() { usual.to_owned() } else { said.to_owned() })
}

/// A text as a YAML value on one line; JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

fn text(plan: &Plan) -> String {
    let (output, meaning) = match plan.output.as_str() {
        "boolean" => (
            "{type: boolean}".to_owned(),
            "  true: (say when it is true; name the case at the border that still is)\n  \
             false: (say when it is not; name the one that only looks good)"
                .to_owned(),
        ),
        "score" => (
            "{type: score, range: [1, 5]}".to_owned(),
            "  5: (say what a perfect answer has)\n  3: (what is missing in a middling one)\n  1: (what is wrong in the worst)".to_owned(),
        ),
        _ => {
            let values: Vec<String> = plan.labels.iter().map(|(l, s)| format!("{}: {s}", quoted(l))).collect();
            let meaning: Vec<String> = plan.labels.iter().map(|(l, _)| format!("  {l}: (say when)")).collect();
            (format!("{{type: category, values: {{{}}}}}", values.join(", ")), meaning.join("\n"))
        }
    };
    let shown = plan.requires.iter().map(|variable| {
        let title = match variable.as_str() {
            "question" => "The user asked:".to_owned(),
            "answer" => "The assistant answered:".to_owned(),
            other => format!("The {}:", other.replace('_', " ")),
        };
        format!("  {title}\n  {{{{ {variable} }}}}\n")
    });
    let shown: Vec<String> = shown.collect();
    let context = if plan.requires.iter().any(|r| r == "context") {
        "\n      context: [{id: doc-1, content: \"(what it was given)\"}]"
    } else {
        ""
    };
    format!(
        "# yaml-language-server: $schema=./schema.json\n\
         # {title}\n\
         # Who may edit this file: anybody. `assize rubric check` finds mistakes, `assize rubric test` runs the tests below,\n\
         # and a running `assize serve` takes a saved file by itself once its tests pass.\n\
         name: {name}\n\
         title: {quoted_title}\n\
         applies_when:\n  requires: [{requires}]   # a trace without these is not_applicable\n  \
         # feature: [support_*]          # only these; a glob or a list of globs\n\
         # sample: 0.5                     # judge half of the traces that were kept\n\
         panel: {panel}                    # from the configuration\n\
         combine: majority\n\
         output: {output}\n\
         pass: 0.5                         # the score, between 0 and 1, from which on it passes\n\
         # What the judges read. {{{{ variables }}}} are put between marks by Assize; the form of the reply is added too.\n\
         prompt: |\n{shown}\n  {question}\n\n{meaning}\n\n  \
         Judge only this. (Say what must not matter: length, style, whether you like it.)\n\
         # Traces with the verdict that this rubric must give. The second kind matters most: what only looks good.\n\
         tests:\n  \
         - name: a good answer\n    trace:\n      input: (a question)\n      output: (an answer that must pass){context}\n    \
         expect: {{passed: true}}\n    simulated: false              # it takes a judge that understands\n  \
         - name: one that only looks good\n    trace:\n      input: (a question)\n      output: (an answer that must fail){context}\n    \
         expect: {{passed: false}}\n    simulated: false\n",
        title = plan.title.replace('\n', " "),
        quoted_title = quoted(&plan.title),
        name = plan.name,
        requires = plan.requires.join(", "),
        panel = quoted(&plan.panel),
        shown = shown.join("\n"),
        question = plan.question.replace('\n', "\n  "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rubrics::lint::lint;
    use crate::rubrics::parse::{Surroundings, parse};
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn what_is_written_can_be_used_and_has_nothing_odd() {
        for (output, labels) in [
            ("boolean", vec![]),
            ("score", vec![]),
            ("category", vec![("kind".to_owned(), 1.0), ("curt, cold".to_owned(), 0.25)]),
        ] {
            let plan = Plan {
                name: "x".to_owned(),
                title: "It's \"good\": yes # no".to_owned(),
                question: "Is it\ngood?".to_owned(),
                output: output.to_owned(),
                labels,
                requires: ["question", "context", "answer"].map(str::to_owned).to_vec(),
                panel: "default".to_owned(),
            };
            let text = text(&plan);
            let around = Surroundings { panels: &BTreeMap::new(), shared: &BTreeMap::new() };
            let parsed = parse(Path::new("x.yaml"), &text, around).unwrap_or_else(|e| panic!("{}", e.render(false)));
            let odd = lint(Path::new("x.yaml"), &parsed);
            assert!(odd.is_none(), "{}", odd.expect("it is there").render(false));
            assert_eq!((parsed.tests.len(), parsed.rubric.title.as_str()), (2, plan.title.as_str()));
        }
    }
}
