//! The part of a file that is right by itself, so that the sense of it can be looked at beside mistakes elsewhere.
//!
//! Called by `parse`. Its rule: a key with a mistake in it is left out as a whole, and so is what depends on it, so that no mistake
//! is told that only follows from another. The way not taken: stopping at the first kind of mistake, which takes people
//! several runs.

use super::error::Problem;
use super::yaml::{Key, Kind, Node};

/// Keys whose sense depends on another.
const DEPENDENT: [(&str, &[&str]); 4] = [
    ("output", &["tests", "examples", "pass"]),
    ("stop_at", &["ask"]),
    ("ask", &["stop_at"]),
    ("evaluates", &["tests", "spans_max", "applies_when"]),
];

/// The document without what is wrong.
pub(super) fn part(document: &Node, found: &[Problem]) -> Node {
    if found.is_empty() {
        return document.clone();
    }
    let wrong = |key: &Key, value: &Node| {
        let span = key.span.start..value.span.end.max(key.span.end);
        found.iter().any(|p| if p.other.is_some() { key.name == "prompt" } else { span.contains(&p.span.start) })
    };
    let pairs = document.map();
    let bad: Vec<&str> = pairs.iter().filter(|(k, v)| wrong(k, v)).map(|(k, _)| k.name.as_str()).collect();
    let depends = |name: &str| DEPENDENT.iter().any(|(on, names)| bad.contains(on) && names.contains(&name));
    let mut good: Vec<(Key, Node)> =
        pairs.iter().filter(|(k, _)| !bad.contains(&k.name.as_str()) && !depends(&k.name)).cloned().collect();
    if good.iter().all(|(key, _)| key.name != "name") {
        // Every rubric has a name; this one's is told to be missing or wrong.
        let name = Node { kind: Kind::Text("unnamed".to_owned()), span: 0..0, block: false };
        good.push((Key { name: "name".to_owned(), span: 0..0 }, name));
    }
    Node { kind: Kind::Map(good), span: document.span.clone(), block: false }
}

/// A pass mark that is given on the rubric's own scale is told as the share that was meant.
pub(super) fn on_own_scale(document: &Node, found: &mut [Problem]) {
    let Some(pass) = document.get("pass") else { return };
    let range = document.at(&["output", "range"]).list();
    let (Some(mark), [low, high]) = (pass.number(), range) else { return };
    let (Some(low), Some(high)) = (low.number(), high.number()) else { return };
    if low < high && (low..=high).contains(&mark) {
        for problem in found.iter_mut().filter(|p| p.span == pass.span) {
            let share = (mark - low) / (high - low);
            problem.help = Some(
                format!("`pass` is on 0 to 1 whatever the range: {mark} of {low} to {high} is {share:.4}")
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_owned(),
            );
        }
    }
}
