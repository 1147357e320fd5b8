//! Who is under whom: depths, and circles of parents that have to be cut somewhere.
//!
//! Called by `lift`. Its rule: the answer depends on the set of spans alone; a parent that never came is no parent, and a circle
//! is cut at its earliest span (then by id). The way not taken: following parents for a number of steps, which takes a deep
//! trace for a circle. Pure.

use crate::domain::span::Span;
use std::collections::HashMap;

/// Where each span's parent is, if it came.
fn parents(spans: &[Span]) -> Vec<Option<usize>> {
    let places: HashMap<&str, usize> = spans.iter().enumerate().map(|(at, s)| (s.span_id.as_str(), at)).collect();
    spans.iter().map(|s| places.get(s.parent_id.as_deref()?).copied()).collect()
}

/// Of each circle of parents the span at which it is cut.
pub(super) fn circles(spans: &[Span]) -> Vec<usize> {
    let parents = parents(spans);
    // The walk on which a span was first met; none is walked over twice.
    let mut met = vec![usize::MAX; spans.len()];
    let mut cuts = Vec::new();
    for start in 0..spans.len() {
        let mut at = start;
        while met[at] == usize::MAX {
            met[at] = start;
            match parents[at] {
                Some(parent) => at = parent,
                None => break,
            }
        }
        // Back on the same walk, at a span that has a parent: a circle, which begins here.
        if met[at] == start && parents[at].is_some() {
            let mut circle = vec![at];
            while let Some(next) = parents[circle[circle.len() - 1]].filter(|next| *next != at) {
                circle.push(next);
            }
            cuts.extend(circle.into_iter().min_by_key(|at| (spans[*at].started_at, &spans[*at].span_id)));
        }
    }
    cuts
}

/// Steps from each span up to one without a parent that came; there must be no circles.
pub(super) fn depths(spans: &[Span]) -> Vec<usize> {
    let parents = parents(spans);
    let mut depths: Vec<Option<usize>> = vec![None; spans.len()];
    for start in 0..spans.len() {
        let (mut way, mut at) = (Vec::new(), start);
        let known = loop {
            if let Some(depth) = depths[at] {
                break depth + 1;
            }
            way.push(at);
            match parents[at] {
                Some(parent) if way.len() <= spans.len() => at = parent,
                _ => break 0,
            }
        };
        for (step, at) in way.into_iter().rev().enumerate() {
            depths[at] = Some(known + step);
        }
    }
    depths.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(parents: &[(&str, Option<&str>)]) -> Vec<Span> {
        let span = |(id, parent): &(&str, Option<&str>)| Span {
            span_id: (*id).to_owned(),
            parent_id: parent.map(str::to_owned),
            ..Span::default()
        };
        parents.iter().map(span).collect()
    }

    #[test]
    fn depths_count_known_parents_only() {
        let all = spans(&[("c", Some("b")), ("a", None), ("b", Some("a")), ("o", Some("gone")), ("p", Some("o"))]);
        assert_eq!(depths(&all), [2, 0, 1, 0, 1]);
        assert!(circles(&all).is_empty());
    }

    #[test]
    fn each_circle_is_cut_once_at_the_same_span() {
        let all = spans(&[
            ("tail", Some("c")),
            ("c", Some("b")),
            ("b", Some("a")),
            ("a", Some("c")),
            ("me", Some("me")),
            ("under", Some("me")),
            ("root", None),
        ]);
        assert_eq!(circles(&all), [3, 4]);
        let mut cut = all.clone();
        for at in circles(&all) {
            cut[at].parent_id = None;
        }
        assert_eq!(depths(&cut), [3, 2, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn a_deep_trace_is_no_circle_and_takes_no_square_of_time() {
        let names: Vec<String> = (0..200_000).map(|n| format!("{n:06}")).collect();
        let chain: Vec<(&str, Option<&str>)> = names
            .iter()
            .enumerate()
            .map(|(n, id)| (id.as_str(), n.checked_sub(1).map(|p| names[p].as_str())))
            .collect();
        let all = spans(&chain);
        assert!(circles(&all).is_empty());
        assert_eq!(depths(&all).last(), Some(&199_999));
    }
}
