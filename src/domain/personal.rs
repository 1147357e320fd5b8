//! Kinds of personal data and secrets, and what is to be done with each where a text is kept or sent on.
//!
//! Named by the configuration, found by `checks::personal_data`, replaced by `checks::redact`. Its rule: the names here are the
//! names in files, metrics and placeholders, and there is one list of them. The way not taken: free names in each place,
//! which makes a misspelt category a category that is kept.

use serde::{Deserialize, Serialize};

/// A kind of data that says who somebody is, or lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Keys, tokens, passwords and private keys.
    Secret,
    /// Payment cards.
    Card,
    /// Numbers that a state gave to a person.
    NationalId,
    /// International bank account numbers.
    Iban,
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// IP addresses.
    Ip,
    /// Postal addresses, as far as rules see them.
    Address,
}

impl Category {
    /// All of them, the most harmful first.
    pub const ALL: [Self; 8] =
        [Self::Secret, Self::Card, Self::NationalId, Self::Iban, Self::Email, Self::Phone, Self::Ip, Self::Address];

    /// Its name in files and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Card => "card",
            Self::NationalId => "national_id",
            Self::Iban => "iban",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Ip => "ip",
            Self::Address => "address",
        }
    }

    /// Its name in placeholders.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Secret => "SECRET",
            Self::Card => "CARD",
            Self::NationalId => "NATIONAL_ID",
            Self::Iban => "IBAN",
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::Ip => "IP",
            Self::Address => "ADDRESS",
        }
    }
}

/// What is done with data of a category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    #[default]
    Keep,
    /// A placeholder takes its place: the same for the same value within a trace.
    Mask,
    /// It is cut out; a bare category name shows where.
    Drop,
}

/// What is done with each category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedactionPolicy {
    actions: [Action; Category::ALL.len()],
}

impl RedactionPolicy {
    /// A policy from one action a category.
    #[must_use]
    pub fn new(action: impl Fn(Category) -> Action) -> Self {
        Self { actions: Category::ALL.map(action) }
    }

    /// What is done with a category.
    #[must_use]
    pub fn action(&self, category: Category) -> Action {
        self.actions[category as usize]
    }

    /// Whether nothing is ever changed.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        self.actions.iter().all(|action| *action == Action::Keep)
    }
}

/// How many hex digits a placeholder has: 20 bits keep the values of a trace apart and say little about any of them.
pub const PLACEHOLDER_DIGITS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_category_has_its_own_place_in_a_policy() {
        for one in Category::ALL {
            let policy = RedactionPolicy::new(|c| if c == one { Action::Drop } else { Action::Keep });
            let dropped: Vec<Category> =
                Category::ALL.into_iter().filter(|c| policy.action(*c) == Action::Drop).collect();
            assert_eq!(dropped, [one]);
            assert_eq!(serde_json::to_value(one).expect("plain data"), one.as_str());
        }
    }
}
