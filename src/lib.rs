//! Assize: an online evaluation worker for LLM applications.
//!
//! ```text
//!  OTLP, native JSON        inbox            traces, jobs             verdicts, votes, outbox        Datadog, …
//!  ───────────────▶ ingest ──────▶ assemble ──────────────▶ claim ──▶ evaluate ──▶ record ──────▶ export ─────▶
//!                                  sample, enqueue                    checks, judges, aggregate
//! ```
//!
//! Everything between two arrows is in Postgres; a process may be killed at any of them. Layers, each using only those
//! above it: `domain`; `checks`, `judge`, `stats`, `config`; `runtime`, `dialect`, `llm`, `store`, `rubrics`, `sinks`,
//! `sources`; `app`; `pipeline`; `server`, `cli`. `tests/tidy.rs` holds this to be true. See `ARCHITECTURE.md` for the map.

/// Judging makes many short-lived pieces of text; glibc's allocator took a third of the time of a call.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So that a simulation which benches and unit tests share can name the crate in one way.
#[cfg(test)]
extern crate self as assize;

// L0: plain types
pub mod domain;

// L1: pure
pub mod checks;
pub mod config;
pub mod judge;
pub mod stats;

// L2: the outside
pub mod dialect;
pub mod llm;
pub mod rubrics;
pub mod runtime;
pub mod sinks;
pub mod sources;
pub mod store;

// the one struct of dependencies
pub mod app;

// L3: the steps
pub mod pipeline;

// L4: the ways in
pub mod cli;
pub mod server;
