//! The integration tests: one binary, a file a behaviour. Real Postgres, real HTTP, the real program where it is killed.
//!
//! `support` has builders and fault tools. The only stand-ins are the simulated judge and recorders of what sinks get.

mod bounds;
mod commands;
mod datadog;
mod doors;
mod faults;
mod invariants;
mod reading;
mod support;
