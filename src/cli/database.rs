//! The database of a command: the configured one, or a private cluster.
//!
//! Its rule: what is started here is stopped here, and it is said what is used. The way not taken: each command with its own
//! idea of where the data is.

use crate::config::Config;
use crate::store::Store;
use crate::store::cluster::{self, Cluster, ClusterError};
use secrecy::SecretString;
use std::time::Duration;

/// A store, and the cluster behind it if it is ours.
pub(super) struct Database {
    pub store: Store,
    cluster: Option<Cluster>,
    /// Whether it is the private cluster of another process of ours.
    pub is_shared: bool,
}

impl Database {
    /// Opens the configured database; without one, the private cluster, which is started if nobody runs it. `fresh` names a
    /// database that is made anew beside the usual one.
    pub async fn open(config: &Config, fresh: Option<&str>) -> anyhow::Result<Self> {
        let (url, cluster) = address(config).await?;
        let is_shared = config.database.url.is_none() && cluster.is_none();
        let url = match (fresh, &config.database.name) {
            (Some(name), _) => cluster::fresh_database(&url, name).await?,
            (None, Some(name)) => cluster::with_database(&url, name),
            (None, None) => url,
        };
        let acquire = Duration::from_millis(config.database.acquire_ms_max);
        match Store::connect(&url, config.database.connections_max, acquire).await {
            Ok(store) => Ok(Self { store, cluster, is_shared }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error.into())
            }
        }
    }

    /// The configured database, or a private one that was made before; `None` when there is neither.
    pub async fn existing(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.database.url.is_none() && !cluster::exists(&config.database.private_dir).await {
            return Ok(None);
        }
        Self::open(config, None).await.map(Some)
    }

    /// Where the private cluster is, if it is ours.
    pub fn private_dir(&self) -> Option<&std::path::Path> {
        self.cluster.as_ref().map(|c| c.dir.as_path())
    }

    /// Closes the pool and stops the cluster if it is ours.
    pub async fn close(self) {
        self.store.pool().close().await;
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

async fn address(config: &Config) -> anyhow::Result<(SecretString, Option<Cluster>)> {
    if let Some(url) = &config.database.url {
        return Ok((url.clone(), None));
    }
    let dir = &config.database.private_dir;
    match Cluster::start(dir, true).await {
        Ok(cluster) => Ok((cluster.url().clone(), Some(cluster))),
        // Another process of ours, most likely `serve`, runs it: use it together.
        Err(ClusterError::InUse { dir: busy }) => match cluster::running(dir).await {
            Some(url) => Ok((url, None)),
            None => Err(ClusterError::InUse { dir: busy }.into()),
        },
        Err(error) => Err(error.into()),
    }
}
