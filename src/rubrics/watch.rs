//! Wakes whoever waits when something in a folder changes.
//!
//! Used by `pipeline::reload`. Its rule: it says that something happened, never what; a folder that cannot be watched (a network
//! file system) is looked at from time to time instead. The way not taken: a debouncer's own threads; the reload waits for
//! two equal readings anyway.

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// Watches until dropped.
#[derive(Debug)]
pub struct Watch {
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches a folder and what is in it.
    ///
    /// # Errors
    /// When the system has no more watches, or the folder is not there.
    pub fn new(dir: &Path, woken: Arc<Notify>) -> Result<Self, notify::Error> {
        let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, notify::Error>| {
            // Reading a file is an event too, and we read them.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                woken.notify_one();
            }
        })?;
        watcher.watch(dir, RecursiveMode::Recursive)?;
        Ok(Self { _watcher: watcher })
    }
}
