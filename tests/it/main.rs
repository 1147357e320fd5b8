//! The integration tests: one binary, a file a behaviour. Real Postgres, real HTTP, the real program where it is killed.
//!
//! `support` has builders and fault tools. The only stand-ins are the simulated judge and recorders of what sinks get.

#![expect(clippy::disallowed_methods, reason = "the doors are for the program; tests stand outside of it")]
#![expect(clippy::format_collect, reason = "test data is small and reads better so")]

mod alerts;
mod batches;
mod bounds;
mod budgets;
mod cache;
mod commands;
mod datadog;
mod datadog_as_code;
mod doors;
mod faults;
mod held_up;
mod invariants;
mod labels;
mod ladder;
mod limits;
mod panels;
mod reading;
mod redaction;
mod replay;
mod rubrics;
mod support;
mod units;
mod watch;
