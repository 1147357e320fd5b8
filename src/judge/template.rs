//! What is wrong with a prompt's template, found when its file is read.
//!
//! Called by `rubrics`. Its rule: known variables only, each bare, so that the marks around its text stay whole; every mistake
//! has its place. The way not taken: errors when the first trace is judged.

use super::prompt::{environment, fenced};
use crate::domain::rubric::Variable;
use minijinja::{Environment, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

/// For templates that are only looked at: making one for each would cost more than parsing.
static LOOKING: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// A mistake in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Bytes of the template; empty where the place is not known.
    pub span: Range<usize>,
}

/// Checks a template at load: it must parse, use known variables only, and leave what marks their text whole. All mistakes
/// that can be found at once; an included file is checked by itself.
#[must_use]
pub fn check_template(template: &str) -> Vec<TemplateProblem> {
    let parsed = match LOOKING.template_from_str(template) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = error.detail().unwrap_or("it is not a template").to_owned();
            let help = "the prompt is a Jinja template: `{{ answer }}`, `{% if history %}…{% endif %}`".to_owned();
            return vec![TemplateProblem { message, help, span: error.range().unwrap_or(0..0) }];
        }
    };
    let known: Vec<&str> = Variable::IN_PROMPTS.iter().map(|v| v.as_str()).collect();
    let all = parsed.undeclared_variables(false);
    let mut unknown: Vec<&String> = all.iter().filter(|name| !known.contains(&name.as_str())).collect();
    unknown.sort();
    let of = |name: &String| TemplateProblem {
        message: format!("`{{{{ {name} }}}}` is not a variable"),
        help: format!("known are {}", known.join(", ")),
        span: in_tags(template, name).unwrap_or(0..0),
    };
    let mut found: Vec<TemplateProblem> = unknown.into_iter().map(of).collect();
    // Names before a bracket are not in the list above.
    found.extend(parts_wanted(template).into_iter().map(bare));
    if found.is_empty() {
        let given: BTreeMap<String, String> = all.iter().map(|name| (name.clone(), name.clone())).collect();
        let error = parsed.render(&given).err().filter(|e| e.kind() == minijinja::ErrorKind::UndefinedError);
        found.extend(error.map(|error| bare(error.range().unwrap_or(0..0))));
    }
    found
}

/// A variable of which a part is wanted.
fn bare(span: Range<usize>) -> TemplateProblem {
    TemplateProblem {
        message: "a part of a variable is wanted here, and there is none: each is one text".to_owned(),
        help: "use variables bare, as in `{{ answer }}`".to_owned(),
        span,
    }
}

/// Places in tags where something stands before a bracket.
fn parts_wanted(template: &str) -> Vec<Range<usize>> {
    static SUBSCRIPT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\{[{%][^}%]*?(\w+\s*\[)").expect("a fixed pattern compiles"));
    SUBSCRIPT.captures_iter(template).filter_map(|found| Some(found.get(1)?.range())).collect()
}

/// Variables that reach the judge without the marks around them, because a filter or a slice has changed the text.
#[must_use]
pub fn without_marks(template: &str) -> Vec<(Variable, Range<usize>)> {
    let Ok(parsed) = LOOKING.template_from_str(template) else { return Vec::new() };
    let names = parsed.undeclared_variables(false);
    let used = Variable::IN_PROMPTS.into_iter().filter(|v| names.contains(v.as_str()));
    let text = |v: Variable| fenced(v, "0123456789abcdef", &format!("the {v}, of some length"));
    let values: BTreeMap<&str, Value> = used.clone().map(|v| (v.as_str(), Value::from(text(v)))).collect();
    let Ok(shown) = parsed.render(&values) else { return Vec::new() };
    let damaged = |v: &Variable| {
        let opened =
            shown.matches(v.as_str().to_uppercase().as_str()).count() + shown.matches(&format!("the {v}, of")).count();
        let whole = shown.matches(&text(*v)).count();
        // A whole one has the name in both of its marks, and the text once.
        opened > 3 * whole || (whole == 0 && printed(template, v.as_str()))
    };
    used.filter(damaged).map(|v| (v, in_tags(template, v.as_str()).unwrap_or(0..0))).collect()
}

/// Whether a template prints a variable, and does not only ask whether it is there.
fn printed(template: &str, name: &str) -> bool {
    template.match_indices("{{").any(|(at, _)| {
        let tag = template[at..].split("}}").next().unwrap_or_default();
        word_in(tag, name).is_some()
    })
}

/// Where a name stands within a tag of a template, for the first time.
fn in_tags(template: &str, name: &str) -> Option<Range<usize>> {
    template.match_indices(['{']).find_map(|(at, _)| {
        let rest = &template[at..];
        let close = if rest.starts_with("{{") {
            "}}"
        } else if rest.starts_with("{%") {
            "%}"
        } else {
            return None;
        };
        let tag = rest.split(close).next().unwrap_or_default();
        word_in(tag, name).map(|n| at + n..at + n + name.len())
    })
}

/// Where a whole word stands in a text.
fn word_in(text: &str, word: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

/// Whether a template uses a variable.
#[must_use]
pub fn uses_variable(template: &str, name: &str) -> bool {
    LOOKING.template_from_str(template).is_ok_and(|t| t.undeclared_variables(false).contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_found_at_load() {
        let found = check_template("Is {{ answr }} so, {% if histry %}x{% endif %}?");
        let places: Vec<_> = found.iter().map(|p| p.span.clone()).collect();
        assert_eq!(places, [6..11, 25..31], "{found:?}");
        assert!(found[0].message.contains("answr") && found[0].help.contains("question"), "{found:?}");
        assert_eq!(check_template("{% for %}").len(), 1);
        assert_eq!(check_template("{{ metadata }} {% if history %}{{ history }}{% endif %}"), []);
    }

    #[test]
    fn a_filter_that_takes_the_marks_off_is_found() {
        let damaged = |t: &str| without_marks(t).into_iter().map(|(v, _)| v).collect::<Vec<_>>();
        assert_eq!(damaged("{{ question }} {% if history %}{{ history }}{% endif %} {{ answer }} {{ answer }}"), []);
        assert_eq!(damaged("{{ question }} {{ answer | upper }}"), [Variable::Answer]);
        for part in ["{{ answer[:30] }}", "{{ answer.text }}", "{{ anser[:30] }}"] {
            assert_eq!(check_template(part).len(), 1, "{part}");
        }
        assert_eq!(damaged("{{ answer }} {{ answer | length }}"), []);
        assert_eq!(damaged("{% if context %}x{% endif %}{{ answer }}"), []);
    }
}
