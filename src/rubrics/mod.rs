//! L2: rubric files to `domain::Rubric`.
//!
//! `yaml` reads a text with its places, `keys` is the table of what may stand in it, `form`, `template` and `meaning` check it,
//! `sound` is what of a broken file makes sense, `parse` makes the rubric, `lint` finds what is odd, `changes` compares two, `print` writes one; `catalog` is a folder of them.
//! Called by `app`, `pipeline` and `cli`. Its rule: a file that cannot be used is an error with its place and remedy, and never
//! takes the other rubrics with it. The way not taken: a database of rubrics; files have review, history and tests.

pub mod catalog;
pub mod changes;
pub mod error;
pub mod folder;
mod form;
pub mod keys;
pub mod lint;
mod meaning;
pub mod parse;
pub mod print;
#[cfg(test)]
mod properties;
pub mod schema;
mod sound;
mod template;
pub mod watch;
mod yaml;
