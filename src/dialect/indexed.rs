//! Attributes with a number in their key: `PREFIX N . rest`.
//!
//! Used by `OpenInference`, Traceloop and `LiteLLM`. Its rule: numbers may have holes (SDK limits drop the oldest attributes), so they
//! are sorted and closed, and their count is bounded.

use super::wire::Attrs;
use serde_json::Value;
use std::collections::BTreeMap;

/// More numbers than this in one span are an attack or a mistake.
const INDEX_MAX: usize = 10_000;

/// What stands under one number, by the rest of the key.
pub(super) type Fields<'a> = BTreeMap<&'a str, &'a Value>;

/// The attributes under a prefix, by number.
pub(super) fn indexed<'a>(attrs: &'a Attrs, prefix: &str) -> BTreeMap<usize, Fields<'a>> {
    collect(attrs.0.iter().map(|(k, v)| (k.as_str(), v)), prefix)
}

/// The same within the fields of one number.
pub(super) fn nested<'a>(fields: &Fields<'a>, prefix: &str) -> BTreeMap<usize, Fields<'a>> {
    collect(fields.iter().map(|(k, v)| (*k, *v)), prefix)
}

fn collect<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>, prefix: &str) -> BTreeMap<usize, Fields<'a>> {
    let mut map: BTreeMap<usize, Fields<'a>> = BTreeMap::new();
    for (key, value) in pairs {
        let Some((number, rest)) = key.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        if map.len() < INDEX_MAX || map.contains_key(&number) {
            map.entry(number).or_default().insert(rest, value);
        }
    }
    map
}
