//! JSON Schema: drafts 7, 2019-09 and 2020-12, compiled once and kept.
//!
//! Called by `json_validity` for answers and by `tool_use` for arguments. Its rule: nothing is ever fetched, patterns run on the linear
//! regex engine, and a schema that cannot be used is not the answer's fault: it is said, not failed. The way not taken: the
//! backtracking engine, which knows look-around and which a hostile answer can keep busy for minutes.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ReferencingError, Validator};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Schemas kept compiled; when more are seen, all are dropped and compiled again as they come.
const SCHEMAS_MAX: usize = 256;

/// A schema larger than this is not compiled.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Violations listed as evidence.
pub(in crate::checks) const VIOLATIONS_MAX: usize = 5;

/// How a schema is to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::checks) struct Reading {
    /// The draft of a schema that does not name its own; 2020-12 by default.
    pub draft: Dialect,
    /// Whether `format` (e-mail, date-time, …) counts; in these drafts it is a mere note by default.
    pub formats: bool,
}

/// The drafts that are understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
pub(in crate::checks) enum Dialect {
    /// Draft 7.
    #[serde(rename = "7")]
    Seven,
    /// 2019-09.
    #[serde(rename = "2019-09")]
    Nineteen,
    /// 2020-12.
    #[default]
    #[serde(rename = "2020-12")]
    Twenty,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::checks) enum Unusable {
    /// It refers to another document, which nobody fetches.
    RemoteReference,
    /// It is no valid schema, has a pattern beyond the linear engine, or is too large.
    Invalid,
}

impl Unusable {
    pub(in crate::checks) fn as_str(self) -> &'static str {
        match self {
            Self::RemoteReference => "refers to another document, which is never fetched",
            Self::Invalid => "cannot be compiled",
        }
    }
}

type Compiled = Result<Arc<Validator>, Unusable>;

static COMPILED: LazyLock<Mutex<HashMap<(String, Reading), Compiled>>> = LazyLock::new(Mutex::default);

/// The compiled schema, from the cache where it was seen before.
pub(in crate::checks) fn compiled(schema: &Value, reading: Reading) -> Compiled {
    // The text is the key, not a hash of it: two schemas must never be taken for each other.
    let key = (schema.to_string(), reading);
    if key.0.len() > SCHEMA_BYTES_MAX {
        return Err(Unusable::Invalid);
    }
    let mut cache = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(&key) {
        return known.clone();
    }
    // Compiled outside the lock: the others must not wait for a large schema.
    drop(cache);
    let made = compile(schema, reading);
    cache = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= SCHEMAS_MAX {
        cache.clear();
    }
    cache.insert(key, made.clone());
    made
}

fn compile(schema: &Value, reading: Reading) -> Compiled {
    let named = schema.get("$schema").is_some();
    let options = jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .should_validate_formats(reading.formats);
    let options = if named {
        options
    } else {
        options.with_draft(match reading.draft {
            Dialect::Seven => Draft::Draft7,
            Dialect::Nineteen => Draft::Draft201909,
            Dialect::Twenty => Draft::Draft202012,
        })
    };
    options.build(schema).map(Arc::new).map_err(|error| match error.kind() {
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { .. }) => Unusable::RemoteReference,
        _ => Unusable::Invalid,
    })
}
