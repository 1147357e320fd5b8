//! Whether the template of a webhook's body will do, found out at start and not when the first alert is lost.
//!
//! Called by `alerts`. Its rule: it is rendered with a sample incident that has every field; a name that there is not, and a body
//! that is no JSON, are errors. The way not taken: names that are missing render as nothing, which nobody sees until it matters.

use super::nearest::nearest;
use crate::domain::alert::sample;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, filters};

/// What is wrong with the template and what to do, without its key.
pub(super) fn check(template: &str) -> Result<(), String> {
    let sample = sample::notice().json();
    let mut strict = Environment::new();
    strict.set_undefined_behavior(UndefinedBehavior::Strict);
    strict.add_filter("tojson", of_what_there_is);
    let parsed = strict.template_from_str(template);
    let parsed = parsed.map_err(|e| format!("is no minijinja template{}: {e}", line(&e)))?;
    let known: Vec<&str> = sample.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut unknown: Vec<String> = parsed.undeclared_variables(false).into_iter().collect();
    unknown.retain(|name| !known.contains(&name.as_str()) && strict.globals().all(|(global, _)| global != name));
    unknown.sort_unstable();
    if let Some(name) = unknown.first() {
        let meant = nearest(name, known.iter().copied()).map_or_else(String::new, |n| format!(", did you mean `{n}`?"));
        return Err(format!("`{name}` is not known{meant}; there are {}", known.join(", ")));
    }
    let body = parsed.render(Serde(&sample)).map_err(|e| {
        let part = e.range().and_then(|range| {
            // From the opening of its expression, since the range may be that of a filter alone.
            let start = template.get(..range.start)?.rfind("{{").unwrap_or(range.start);
            template.get(start..range.end)
        });
        let place = part.map_or_else(String::new, |part| format!(" at `{part}`"));
        if e.kind() == ErrorKind::UndefinedError {
            let remedy = "docs/alerts.md lists the fields; `|default(\"\")` takes what may be absent";
            return format!("asks for a field that there is not{place}{}; {remedy}", line(&e));
        }
        format!("cannot be rendered{place}{}: {e}", line(&e))
    })?;
    serde_json::from_str::<serde::de::IgnoredAny>(&body).map(drop).map_err(|e| {
        format!("renders to something that is no JSON ({e}); write texts as {{{{ title|tojson }}}}, without quotes around them")
    })
}

/// `tojson`, which by itself writes `null` for a field that there is not.
fn of_what_there_is(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    filters::tojson(value, indent, args)
}

fn line(error: &Error) -> String {
    error.line().map_or_else(String::new, |line| format!(" in line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_known_fields_that_gives_json_will_do() {
        for template in [
            r#"{"text": {{ title|tojson }}, "verdicts": {{ alert.findings[0].n }}}"#,
            r#"{"by": {{ by|tojson }}, "all": [{% for f in alert.findings %}{{ f.rubric|tojson }}{% if not loop.last %},{% endif %}{% endfor %}]}"#,
            r#"{{ {"title": title, "feature": alert.findings[0].stream.feature}|tojson }}"#,
            r#"{% set name = title %}{"t": {{ name|tojson }}, "x": {{ alert.findings[0].stream.flavour|default("")|tojson }}}"#,
        ] {
            assert_eq!(check(template), Ok(()), "{template}");
        }
    }

    #[test]
    fn what_will_not_do_is_said_with_its_place_and_a_remedy() {
        for (template, words) in [
            ("{{ a", "is no minijinja template in line 1"),
            (r#"{"t": {{ titel|tojson }}}"#, "`titel` is not known, did you mean `title`?; there are alert,"),
            (r#"{"t": 1 {% if not test %}, "u": {{ nonsense }}{% endif %}}"#, "`nonsense` is not known"),
            ("{\n\"t\": {{ alert.findigns|tojson }}}", "in line 2"),
            (
                r#"{"t": {{ alert.findings[0].rubrik|tojson }}}"#,
                "is not at `{{ alert.findings[0].rubrik|tojson` in line 1",
            ),
            (r#"{"t": "{{ title }}"}"#, "|tojson"),
            ("{{ title }}", "no JSON"),
            (r#"{"t": {{ title|shout }}}"#, "shout"),
        ] {
            let said = check(template).expect_err(template);
            assert!(said.contains(words), "{template}: {said}");
        }
    }
}
