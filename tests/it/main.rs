//! The integration tests: one binary, a file a behaviour. Real Postgres, real HTTP, the real program where it is killed.
//!
//! `support` has builders and fault tools. The only stand-ins are the simulated judge and recorders of what sinks get.

#![expect(clippy::disallowed_methods, reason = "the doors are for the program; tests stand outside of it")]
#![expect(clippy::format_collect, reason = "test data is small and reads better so")]

mod alerts;
mod assembly;
mod batches;
mod bounds;
mod brokers;
mod budgets;
mod cache;
mod commands;
mod datadog;
mod datadog_as_code;
mod deploy;
mod doors;
mod drift;
mod eval;
mod faults;
mod grpc;
mod held_up;
mod invariants;
#[cfg(feature = "kafka")]
mod kafka;
mod kills;
mod labels;
mod ladder;
mod limits;
mod panels;
mod reading;
mod redaction;
mod replay;
mod retention;
mod rubrics;
mod sampling;
mod support;
mod tls;
mod units;
mod watch;
