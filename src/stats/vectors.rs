//! Reading the test vectors that other implementations made (`tests/fixtures/stats`, where a README says by what).
//!
//! Used by the tests of this folder. Its rule: an empty or missing file fails, and each mismatch is reported with the name
//! of its case. Another set of the same make is checked with `ASSIZE_STATS_VECTORS=folder cargo test --lib stats`, read
//! when the tests are built.

use serde_json::Value;
use std::path::PathBuf;

/// The folder of the vectors.
fn folder() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stats");
    PathBuf::from(option_env!("ASSIZE_STATS_VECTORS").unwrap_or(own))
}

/// A file of vectors.
pub(crate) fn file(name: &str) -> Value {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file of data that is not in this repository (`ASSIZE_DATA` when the tests are built, else beside the repository), if
/// there.
pub(crate) fn present(name: &str) -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let path = PathBuf::from(option_env!("ASSIZE_DATA").unwrap_or(beside)).join("stats").join(name);
    let text = std::fs::read_to_string(&path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// The cases of a list; fails when there are none.
pub(crate) fn cases(list: &Value) -> &[Value] {
    let cases = list.as_array().expect("a list of cases");
    assert!(!cases.is_empty(), "no cases: the file of vectors is empty");
    cases
}

/// A number.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A list of numbers.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    cases(value).iter().map(number).collect()
}

/// A list of numbers, null where one is missing.
pub(crate) fn optional(value: &Value) -> Vec<Option<f64>> {
    cases(value).iter().map(Value::as_f64).collect()
}

/// A whole number.
pub(crate) fn whole(value: &Value) -> usize {
    let n = value.as_u64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(exact));
    usize::try_from(n.unwrap_or_else(|| panic!("{value} is no whole number"))).expect("it is small")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and not negative")]
fn exact(x: f64) -> u64 {
    x as u64
}

/// Collects what differs, so that one run names all failing cases.
#[derive(Default)]
pub(crate) struct Checks {
    compared: usize,
    failures: Vec<String>,
}

impl Checks {
    /// Compares within a tolerance relative to the larger of 1 and the expected number.
    pub(crate) fn close(&mut self, case: &str, own: f64, expected: &Value, tolerance: f64) {
        let expected = number(expected);
        self.compared += 1;
        let distance = (own - expected).abs();
        if distance.is_nan() || distance > tolerance * expected.abs().max(1.0) {
            self.failures.push(format!("{case}: {own} where the vector says {expected}"));
        }
    }

    /// Compares exactly.
    pub(crate) fn same<T: PartialEq + std::fmt::Debug>(&mut self, case: &str, own: &T, expected: &T) {
        self.compared += 1;
        if own != expected {
            self.failures.push(format!("{case}: {own:?} where the vector says {expected:?}"));
        }
    }

    /// Fails with all that differed, or when fewer numbers than expected were compared.
    pub(crate) fn done(self, compared_min: usize) {
        assert!(
            self.failures.is_empty(),
            "{} of {} differ:\n{}",
            self.failures.len(),
            self.compared,
            self.failures.join("\n")
        );
        assert!(self.compared >= compared_min, "only {} numbers were compared", self.compared);
    }
}
