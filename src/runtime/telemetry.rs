//! Logs: to stderr, filtered by `RUST_LOG`, as text or JSON.
//!
//! Called once by `cli`. Its rule: messages in lower case, facts as fields, never any text of a prompt or an answer.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the logger; does nothing when one is installed already (tests).
pub fn install(filter: Option<&str>, json: bool) {
    let filter = filter
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("info,sqlx=warn,hyper=warn,reqwest=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let layer =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let result = if json { registry.with(layer.json()).try_init() } else { registry.with(layer).try_init() };
    drop(result);
}
