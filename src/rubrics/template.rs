//! The prompt of a file: its mistakes with their places in the file, and shared text put into it.
//!
//! Called by `parse`. Its rule: `{% include "name" %}` is replaced when the file is read, so that a stored version is whole and
//! its hash covers what was included. The way not taken: templates that look for files when they are rendered.

use super::error::Problem;
use super::yaml::Node;
use crate::judge::template::check_template;
use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// The folder of shared texts beside the rubrics.
pub(super) const SHARED: &str = "shared";

static INCLUDE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"\{%-?\s*include\s+["']([^"']*)["']\s*-?%\}"#).expect("a fixed pattern compiles"));

/// Everything that is wrong with a prompt.
pub(super) fn check(path: &Path, source: &str, prompt: &Node, shared: &BTreeMap<String, Arc<str>>) -> Vec<Problem> {
    let Some(text) = prompt.text() else { return Vec::new() };
    let mut found: Vec<Problem> = check_template(text)
        .into_iter()
        .map(|p| Problem::at(place(source, prompt, text, &p.span), p.message).help(p.help))
        .collect();
    let folder = path.parent().unwrap_or(Path::new("")).join(SHARED);
    for include in INCLUDE.captures_iter(text) {
        let (Some(whole), name) = (include.get(0), &include[1]) else { continue };
        let Some(other) = shared.get(name) else {
            let known: Vec<&str> = shared.keys().map(String::as_str).collect();
            let at = include.get(1).map_or(whole.range(), |m| m.range());
            let at = place(source, prompt, text, &at);
            let all = if known.is_empty() {
                "there is none so far".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            found.push(Problem::at(at, format!("`{name}` is not in {}", folder.display())).help(all));
            continue;
        };
        let file = folder.join(name);
        let told = |p: Problem| Problem { other: Some((file.clone(), Arc::clone(other))), ..p };
        found.extend(check_template(other).into_iter().map(|p| told(Problem::at(p.span, p.message).help(p.help))));
        if let Some(nested) = INCLUDE.find(other) {
            found.push(told(
                Problem::at(nested.range(), "an included text cannot include another").help("write it out"),
            ));
        }
    }
    found
}

/// The prompt with what it includes.
pub(super) fn expand(text: &str, shared: &BTreeMap<String, Arc<str>>) -> String {
    let put = |found: &regex::Captures<'_>| {
        shared.get(&found[1]).map_or_else(String::new, |text| text.trim_end_matches('\n').to_owned())
    };
    INCLUDE.replace_all(text, put).into_owned()
}

/// Where a part of a text value stands in its file.
pub(super) fn place(source: &str, node: &Node, text: &str, part: &Range<usize>) -> Range<usize> {
    let wanted = text.get(part.clone()).unwrap_or_default();
    if node.block
        && let Some(found) = in_block(source, node, text, part)
        && source.get(found.clone()).is_some_and(|there| there.lines().next() == wanted.lines().next())
    {
        return found;
    }
    let raw = source.get(node.span.clone()).unwrap_or_default();
    match raw.find(wanted).filter(|_| !wanted.is_empty()) {
        Some(at) => node.span.start + at..node.span.start + at + wanted.len(),
        None => node.span.clone(),
    }
}

/// A block's lines stand in the file as they are, each behind the same indentation.
fn in_block(source: &str, node: &Node, text: &str, part: &Range<usize>) -> Option<Range<usize>> {
    let opens = source.get(node.span.start..)?.starts_with(['|', '>']);
    let first = if opens {
        node.span.start + source.get(node.span.start..)?.find('\n')? + 1
    } else {
        source.get(..node.span.start)?.rfind('\n').map_or(0, |at| at + 1)
    };
    let body = source.get(first..)?;
    let indent = body.lines().find(|line| !line.trim().is_empty()).map_or(0, |l| l.len() - l.trim_start().len());
    let line = text.get(..part.start)?.matches('\n').count();
    let column = part.start - text.get(..part.start)?.rfind('\n').map_or(0, |at| at + 1);
    let before: usize = body.split_inclusive('\n').take(line).map(str::len).sum();
    let start = first + before + indent + column;
    Some(start..start + part.len())
}
