//! L2: rubric files to `domain::Rubric`.
//!
//! `parse` reads one file, `catalog` a folder of them. Called by `app` and `cli`. Its rule: a file that cannot be used is an error
//! with its place and remedy, and never takes the other rubrics with it.

pub mod catalog;
pub mod parse;
