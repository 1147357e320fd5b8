//! Section `redaction`: what is done with personal data and secrets before a trace is stored or sent on.
//!
//! Its rule: what is stored cannot be taken back, so what does most harm is masked without anybody asking for it; a category
//! that is not known is an error. The way not taken: one switch for everything, which is then left off.

use super::ConfigError;
use crate::domain::personal::{Action, Category, RedactionPolicy};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// Section `redaction`: for each category `keep`, `mask` or `drop`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redaction {
    /// Keys, tokens, passwords and private keys.
    pub secret: Action,
    /// Payment cards.
    pub card: Action,
    /// Numbers that a state gave to a person.
    pub national_id: Action,
    /// International bank account numbers.
    pub iban: Action,
    /// E-mail addresses.
    pub email: Action,
    /// Telephone numbers.
    pub phone: Action,
    /// IP addresses.
    pub ip: Action,
    /// Postal addresses, as far as rules see them.
    pub address: Action,
    /// Makes placeholders hard to look up; the same for all workers.
    #[serde(skip_serializing)]
    pub key: Option<SecretString>,
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            secret: Action::Mask,
            card: Action::Mask,
            national_id: Action::Mask,
            iban: Action::Keep,
            email: Action::Keep,
            phone: Action::Keep,
            ip: Action::Keep,
            address: Action::Keep,
            key: None,
        }
    }
}

impl Redaction {
    /// What is done with each category.
    #[must_use]
    pub fn policy(&self) -> RedactionPolicy {
        RedactionPolicy::new(|category| match category {
            Category::Secret => self.secret,
            Category::Card => self.card,
            Category::NationalId => self.national_id,
            Category::Iban => self.iban,
            Category::Email => self.email,
            Category::Phone => self.phone,
            Category::Ip => self.ip,
            Category::Address => self.address,
        })
    }

    /// The key of the placeholders; without one they can be looked up by who has the trace's id and a guess.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        self.key.as_ref().map_or(b"assize", |key| key.expose_secret().as_bytes())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.key {
            Some(key) if key.expose_secret().len() < 16 => {
                Err(ConfigError::invalid("redaction.key", "is too short to hide anything; give 16 characters or more"))
            }
            _ => Ok(()),
        }
    }
}
