//! The environment variables that are honoured as everywhere else: `DATABASE_URL`, `OPENAI_*`, `DD_*`.
//!
//! Read once by `cli` through [`Ambient::read`], applied over file and `ASSIZE__` variables. Its rule: an empty variable is an
//! unset one. The way not taken: reading them where they are used, which tests cannot set safely.

use secrecy::SecretString;
use std::collections::BTreeMap;

/// A snapshot of the environment.
#[derive(Debug, Clone, Default)]
pub struct Ambient(BTreeMap<String, SecretString>);

impl Ambient {
    /// Takes the snapshot.
    #[must_use]
    pub fn read() -> Self {
        let pairs = std::env::vars_os().filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            (!value.trim().is_empty()).then(|| (key, SecretString::from(value)))
        });
        Self(pairs.collect())
    }

    /// A snapshot made by hand, for tests.
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), SecretString::from(*v))).collect())
    }

    /// The variable's value, unless it is unset or empty.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        use secrecy::ExposeSecret;
        self.0.get(key).map(ExposeSecret::expose_secret)
    }

    /// The variable's value as a secret.
    #[must_use]
    pub fn secret(&self, key: &str) -> Option<SecretString> {
        self.0.get(key).cloned()
    }
}
