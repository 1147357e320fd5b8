//! Whether a tree has the form that the table of keys describes: every key known, every value of its kind.
//!
//! Called by `parse`. Its rule: it finds all mistakes, not the first. The way not taken: serde's messages, one a run.

use super::error::Problem;
use super::keys::{self, Key, Kind};
use super::yaml::{self, Node};
use crate::checks::check_options;
use crate::config::nearest::{self, nearest};
use crate::domain::alert_rule::rate_per_month;
use crate::domain::rubric::{CheckKind, CheckOptions};
use std::ops::Range;

/// Notes everything in `node` that is not of this kind.
pub(super) fn check(node: &Node, kind: &Kind, name: &str, found: &mut Vec<Problem>) {
    let wrong = |wanted: &str| {
        let said = node.text().map_or_else(|| node.what().to_owned(), |text| format!("`{}`", short(text)));
        Problem::at(node.span.clone(), format!("`{name}` must be {wanted}, not {said}"))
    };
    match (kind, &node.kind) {
        (Kind::Any, _) | (Kind::Text, yaml::Kind::Text(_)) | (Kind::Flag, yaml::Kind::Flag(_)) => {}
        (Kind::Text, yaml::Kind::Number(_) | yaml::Kind::Flag(_)) => {
            found.push(wrong("a text").help("put it in quotes"));
        }
        (Kind::Text, _) => found.push(wrong("a text")),
        (Kind::Flag, _) => found.push(wrong("true or false")),
        (Kind::Number(low, high), yaml::Kind::Number(_)) => {
            if node.number().is_none_or(|n| n < *low || n > *high) {
                let said = node.value();
                let text = format!("`{name}` is {said}, which is not from {low} to {high}");
                found.push(Problem::at(node.span.clone(), text).help(format!("give a number from {low} to {high}")));
            }
        }
        (Kind::Number(..), _) => found.push(wrong("a number")),
        (Kind::Word(words), _) => word(node, name, words, found),
        (Kind::Variable, _) => word(node, name, &keys::variable_names(), found),
        (Kind::Name, yaml::Kind::Text(text)) => {
            if let Err(help) = keys::check_name(text) {
                let problem = Problem::at(node.span.clone(), format!("`{}` is not a name", short(text)));
                found.push(problem.help(help));
            }
        }
        (Kind::Name, _) => found.push(wrong("a name")),
        (Kind::List(each), yaml::Kind::List(list)) => list.iter().for_each(|one| check(one, each, name, found)),
        (Kind::List(_), _) => found.push(wrong("a list").help(format!("write it as `{name}: [one, another]`"))),
        (Kind::Map(each), yaml::Kind::Map(pairs)) => {
            for (key, one) in pairs {
                check(one, each, &format!("{name}.{}", key.name), found);
            }
        }
        (Kind::Names(names, each), yaml::Kind::Map(pairs)) => {
            slips(pairs, &names(), name, found);
            for (key, one) in pairs {
                check(one, each, &format!("{name}.{}", key.name), found);
            }
        }
        (Kind::Rate, yaml::Kind::Text(text)) => {
            if let Err(why) = rate_per_month(text) {
                found.push(Problem::at(node.span.clone(), why));
            }
        }
        (Kind::Rate, _) => found.push(wrong("a rate").help(format!("write it as `{name}: 1 per month`"))),
        (Kind::Section(keys), yaml::Kind::Map(_)) => section(node, keys, name, found),
        (Kind::Tagged(variants), yaml::Kind::Map(_)) => tagged(node, variants, name, found),
        (Kind::Map(_) | Kind::Names(..) | Kind::Section(_), _) => {
            found.push(wrong("a mapping").help(format!("write it as `{name}: {{key: value}}`")));
        }
        (Kind::Tagged(variants), _) => {
            let word = variants.first().map_or("", |v| v.0);
            found.push(wrong("a mapping").help(format!("write it as `{name}: {{type: {word}}}`")));
        }
        (Kind::Pair, yaml::Kind::List(list)) if list.len() == 2 && list.iter().all(|n| n.number().is_some()) => {}
        (Kind::Pair, _) => found.push(wrong("two numbers").help(format!("write it as `{name}: [lowest, highest]`"))),
        (Kind::OneOf(kinds), _) => match kinds.iter().find(|kind| has_form(kind, node)) {
            Some(kind) => check(node, kind, name, found),
            None => found.push(wrong(&kinds.iter().map(words).collect::<Vec<_>>().join(" or "))),
        },
        (Kind::Check, _) => one_check(node, found),
    }
}

/// Keys that are free, but nearly one of the known ones: a third of their letters differ at most, and no more than two.
fn slips(pairs: &[(yaml::Key, Node)], known: &[&str], name: &str, found: &mut Vec<Problem>) {
    for (key, _) in pairs.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
        let far = |other: &str| strsim::damerau_levenshtein(&key.name, other);
        let most = (key.name.chars().count() / 3).min(2);
        let Some(best) = known.iter().min_by_key(|other| far(other)).filter(|best| far(best) <= most) else { continue };
        let text = format!("`{name}` has no `{}`", short(&key.name));
        let otherwise = if name == "trace" { " If it is a tag, put it under `tags`" } else { "" };
        found.push(Problem::at(key.span.clone(), text).help(format!("did you mean `{best}`?{otherwise}")));
    }
}

/// A key that is not in the table, with the nearest that is.
pub(super) fn unknown(span: Range<usize>, what: &str, wrong: &str, known: &[&str]) -> Problem {
    let help = match nearest(wrong, known.iter().copied()) {
        Some(best) => format!("did you mean `{best}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    Problem::at(span, format!("there is no {what} `{}`", short(wrong))).help(help)
}

fn section(node: &Node, keys: &[Key], name: &str, found: &mut Vec<Problem>) {
    let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
    for (key, value) in node.map() {
        match keys.iter().find(|known| known.name == key.name) {
            Some(known) if matches!(value.kind, yaml::Kind::Null) && !known.default.is_empty() => {}
            Some(known) => check(value, &known.kind, known.name, found),
            None => found.push(unknown(key.span.clone(), "key", &key.name, &names)),
        }
    }
    for key in keys.iter().filter(|key| key.default.is_empty() && node.get(key.name).is_none()) {
        let text = if name.is_empty() {
            format!("`{}` is missing", key.name)
        } else {
            format!("`{name}` has no `{}`", key.name)
        };
        let at = node.span.start..node.span.start + 1;
        found.push(Problem::at(at, text).help(format!("{}: {}", key.name, key.help)));
    }
}

fn tagged(node: &Node, variants: &[(&'static str, &'static [Key])], name: &str, found: &mut Vec<Problem>) {
    let types: Vec<&str> = variants.iter().map(|v| v.0).collect();
    let Some(kind) = node.get("type") else {
        let at = node.span.start..node.span.start + 1;
        found.push(Problem::at(at, format!("`{name}` has no `type`")).help(format!("add one of {}", types.join(", "))));
        return;
    };
    let Some((_, keys)) = variants.iter().find(|v| kind.text() == Some(v.0)) else {
        word(kind, "type", &types, found);
        return;
    };
    let mut rest = node.clone();
    if let yaml::Kind::Map(pairs) = &mut rest.kind {
        pairs.retain(|(key, _)| key.name != "type");
    }
    section(&rest, keys, name, found);
}

fn word(node: &Node, name: &str, words: &[&str], found: &mut Vec<Problem>) {
    if node.text().is_some_and(|text| words.contains(&text)) {
        return;
    }
    let said = node.text().map_or_else(|| node.what().to_owned(), |text| format!("`{}`", short(text)));
    let best = node.text().and_then(|text| nearest(text, words.iter().copied()));
    let hint = best.map_or_else(String::new, |best| format!("did you mean `{best}`? "));
    let problem = Problem::at(node.span.clone(), format!("`{name}` cannot be {said}"));
    found.push(problem.help(format!("{hint}it is one of {}", words.join(", "))));
}

fn one_check(node: &Node, found: &mut Vec<Problem>) {
    let known = keys::check_names();
    let unknown = |span: &Range<usize>, name: &str| unknown(span.clone(), "check", name, &known);
    match &node.kind {
        yaml::Kind::Text(name) if CheckKind::parse(name).is_none() => found.push(unknown(&node.span, name)),
        yaml::Kind::Text(_) => {}
        yaml::Kind::Map(pairs) => {
            for (key, value) in pairs {
                match CheckKind::parse(&key.name) {
                    None => found.push(unknown(&key.span, &key.name)),
                    Some(_) if matches!(value.kind, yaml::Kind::Null) => {}
                    Some(kind) => options(kind, key, value, found),
                }
            }
        }
        _ => {
            let text = format!("a check is a name or a mapping, not {}", node.what());
            found.push(
                Problem::at(node.span.clone(), text).help("write `- grounding` or `- grounding: {fail_below: 0.2}`"),
            );
        }
    }
}

/// The limits that every check has, and what the check itself takes: it alone knows what.
fn options(kind: CheckKind, key: &yaml::Key, value: &Node, found: &mut Vec<Problem>) {
    let mut limits = value.clone();
    if let yaml::Kind::Map(pairs) = &mut limits.kind {
        pairs.retain(|(key, _)| keys::is_limit(&key.name));
    }
    check(&limits, &Kind::Section(keys::LIMITS), &key.name, found);
    let own: CheckOptions = value
        .map()
        .iter()
        .filter(|(key, _)| !keys::is_limit(&key.name))
        .map(|(key, value)| (key.name.clone(), value.value()))
        .collect();
    let Err(problem) = check_options(kind, &own) else { return };
    let named = value.map().iter().find(|(key, _)| problem.contains(&format!("`{}`", key.name)));
    let place = named.map_or_else(|| key.span.clone(), |(key, _)| key.span.clone());
    let text = format!("`{}`: {}", key.name, nearest::explain(&with_limits(&problem)));
    found.push(Problem::at(place, text).help(format!("docs/checks.md has the options of `{}`", key.name)));
}

/// Serde knows the options of the check alone; the two keys that every check has belong to the known ones.
fn with_limits(problem: &str) -> String {
    let limits = "`fail_below`, `pass_above`";
    match problem.split_once(", there are no fields") {
        Some((before, _)) => format!("{before}, expected one of {limits}"),
        None if problem.contains("unknown field `") => format!("{problem}, {limits}"),
        None => problem.to_owned(),
    }
}

fn has_form(kind: &Kind, node: &Node) -> bool {
    matches!(
        (kind, &node.kind),
        (Kind::Text | Kind::Word(_), yaml::Kind::Text(_))
            | (Kind::Flag, yaml::Kind::Flag(_))
            | (Kind::Number(..), yaml::Kind::Number(_))
            | (Kind::List(_), yaml::Kind::List(_))
    )
}

fn words(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text => "a text",
        Kind::Word(_) => "a word",
        Kind::Flag => "true or false",
        Kind::Number(..) => "a number",
        Kind::List(_) => "a list",
        _ => "a value",
    }
}

/// A text that fits into a message.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(40).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
