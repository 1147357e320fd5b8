//! The part of `doctor` about brokers: whether each answers and has what is configured, and what of it was parked.
//!
//! Called by `cli::doctor`. Its rule: it looks only; no consumer is made and no message taken.

use super::Findings;
use crate::cli::database::Database;
use crate::config::Config;
use crate::sources;

/// Looks at every configured source.
pub(super) async fn reachable(config: &Config, findings: &mut Findings) {
    for source in &config.sources {
        let look = sources::look(source).await;
        findings.say(format!("source {}", source.name), look.ok, look.detail);
    }
}

/// Messages that were parked: nothing is broken, but somebody should look at them.
pub(super) async fn parked(database: &Database, findings: &mut Findings) {
    // Tables that are not there yet hold nothing; `tables` says so.
    for parked in database.store.parked_counts().await.unwrap_or_default() {
        let latest = parked.latest_at.format("%F %T UTC");
        let detail = format!("{}, the latest {latest}; see: assize queue parked", parked.count);
        findings.say(format!("parked messages of {}", parked.source), true, detail);
    }
}
