//! L2: Postgres, through sqlx: one file a table family.
//!
//! Called by `pipeline`, `server` and `cli`. Its rule: ids and times are arguments, every method is one statement or one
//! transaction, and no method takes a second connection while it holds one, so that a pool of one works. The way not
//! taken: a trait for each table; Postgres is never faked.

pub mod alert_deliveries;
pub mod alerts;
pub mod batches;
pub mod bodies;
pub mod budget_spend;
pub mod cluster;
mod columns;
pub mod deployments;
pub mod drift;
pub mod endpoint_traits;
mod error;
pub mod inbox;
pub mod jobs;
pub mod label_queue;
pub mod labels;
pub mod ledger;
pub mod limit_shares;
pub mod outbox;
pub mod panel_models;
pub mod parked_messages;
pub mod partitions;
pub mod pauses;
pub mod reopen;
pub mod replay;
pub mod report;
pub mod rubric_versions;
pub mod sampling_steps;
pub mod sessions;
pub mod tallies;
pub mod traces;
pub mod verdicts;
pub mod vote_cache;
pub mod watch;
pub mod workers;

pub use error::StoreError;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use std::str::FromStr;
use std::time::Duration;

/// The tables' history, applied in order.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// Opens a pool; connects once, so that a wrong address is known at start.
    ///
    /// # Errors
    /// When the URL is malformed or the server does not answer; the text never holds the password.
    pub async fn connect(url: &SecretString, connections: u32, acquire: Duration) -> Result<Self, StoreError> {
        let options =
            PgConnectOptions::from_str(url.expose_secret()).map_err(|_| StoreError::Url)?.application_name("assize");
        let place = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or(""));
        // Once by itself: the pool would go on trying until its time is up, and then say only that.
        let first = PgConnection::connect_with(&options).await;
        let first = first.map_err(|source| StoreError::Connect { place: place.clone(), source })?;
        drop(first.close().await);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(acquire)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Connect { place, source })?;
        Ok(Self { pool })
    }

    /// The pool, for commands that read in ways of their own.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Brings the tables up to date.
    ///
    /// # Errors
    /// When a migration fails or the database has one that this program does not know.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        MIGRATOR.run(&self.pool).await.map_err(StoreError::Migrate)
    }

    /// Whether every migration of this program is applied.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn is_migrated(&self) -> Result<bool, StoreError> {
        let known = sqlx::query_scalar::<_, bool>("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::op("looking for the migrations table"))?;
        if !known {
            return Ok(false);
        }
        let newest = sqlx::query_scalar::<_, Option<i64>>("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::op("reading the newest migration"))?;
        let wanted = MIGRATOR.iter().map(|m| m.version).max();
        Ok(newest >= wanted)
    }
}
