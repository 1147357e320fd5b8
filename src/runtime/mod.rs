//! L2: what a process needs to live: tasks and their end, the door to rayon, logs, metrics.
//!
//! Used by every layer from here up, and the only L2 folder that others of L2 may use. Its rule: one door for each danger;
//! `tokio::spawn` and rayon are banned elsewhere by `clippy.toml`.

pub mod cpu;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod retry;
pub mod telemetry;
