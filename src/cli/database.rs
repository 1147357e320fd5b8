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
}

impl Database {
    /// Opens the configured database; without one, the private cluster, which is started if nobody runs it. `fresh` names a
    /// database that is made anew beside the usual one.
    pub async fn open(config: &Config, fresh: Option<&str>) -> anyhow::Result<Self> {
        let (url, cluster) = address(config).await?;
        let url = match fresh {
            Some(name) => cluster::fresh_database(&url, name).await?,
            None => url,
        };
        let acquire = Duration::from_millis(config.database.acquire_ms_max);
        match Store::connect(&url, config.database.connections_max, acquire).await {
            Ok(store) => Ok(Self { store, cluster }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error.into())
            }
        }
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
            Some(url) => {
                tracing::warn!("using the private Postgres of another assize process; it goes when that process stops");
                Ok((url, None))
            }
            None => Err(ClusterError::InUse { dir: busy }.into()),
        },
        Err(error) => Err(error.into()),
    }
}
