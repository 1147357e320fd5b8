//! The program's pure folders, by path: what `tests/parsers/entry.rs` needs of the crate `assize`.
//!
//! Built by `make fuzz`. Its rule: the same source files, no copies. The way not taken: depending on the whole crate, whose database
//! and TLS would be built with counters as well.

extern crate self as assize;

#[path = "../src/checks/mod.rs"]
pub mod checks;
#[path = "../src/config/mod.rs"]
pub mod config;
#[path = "../src/dialect/mod.rs"]
pub mod dialect;
#[path = "../src/domain/mod.rs"]
pub mod domain;
#[path = "../tests/parsers/entry.rs"]
pub mod entry;
#[path = "../src/judge/mod.rs"]
pub mod judge;
#[path = "../src/rubrics/mod.rs"]
pub mod rubrics;
