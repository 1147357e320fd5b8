//! Table `deployments`: what changed in the applications, reported to us or first seen in traces.
//!
//! Written by `server` and `pipeline::deployments`, read when a finding is raised. Its rule: the same report twice is one
//! deployment; a version that was reported is not noted again when it is seen. The way not taken: guessing a deployment from
//! a change of the score.

use super::columns::optional;
use super::{Store, StoreError};
use crate::domain::deployment::{Deployed, Deployment};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

impl Store {
    /// Stores a reported deployment and gives it back; one without a time of its own (`now`) that is the newest of its service
    /// and environment is that one.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn put_deployment(
        &self,
        deployment: Deployment,
        timed: bool,
        now: DateTime<Utc>,
    ) -> Result<Deployment, StoreError> {
        if !timed {
            let newest = self.newest_deployment(&deployment).await?;
            if let Some(same) = newest.filter(|d| d.version == deployment.version && !d.seen) {
                return Ok(same);
            }
        }
        self.insert_deployments(std::slice::from_ref(&deployment), now).await?;
        Ok(deployment)
    }

    /// Stores versions that were first seen in traces, unless they are known.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn versions_seen(&self, seen: &[Deployment], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut new = Vec::new();
        for deployment in seen {
            let reported = sqlx::query_scalar!(
                "SELECT EXISTS (SELECT 1 FROM deployments WHERE what = $1 AND name = $2 AND version = $3
                 AND environment IS NOT DISTINCT FROM $4 AND source = 'reported') AS \"reported!\"",
                deployment.what.as_str(),
                deployment.name,
                deployment.version,
                deployment.environment
            )
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::op("looking for a deployment"))?;
            if !reported {
                new.push(deployment.clone());
            }
        }
        self.insert_deployments(&new, now).await
    }

    async fn insert_deployments(&self, all: &[Deployment], now: DateTime<Utc>) -> Result<(), StoreError> {
        for d in all {
            sqlx::query!(
                "INSERT INTO deployments (id, what, name, environment, version, at, link, source, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (id) DO UPDATE SET link = coalesce(excluded.link, deployments.link),
                     at = least(excluded.at, deployments.at)",
                d.id,
                d.what.as_str(),
                d.name,
                d.environment,
                d.version,
                d.at,
                optional(d.link.as_ref()),
                if d.seen { "seen" } else { "reported" },
                now
            )
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("storing a deployment"))?;
        }
        Ok(())
    }

    async fn newest_deployment(&self, like: &Deployment) -> Result<Option<Deployment>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT id, what, name, environment, version, at, link, source FROM deployments
             WHERE what = $1 AND name = $2 AND environment IS NOT DISTINCT FROM $3 ORDER BY at DESC LIMIT 1",
            like.what.as_str(),
            like.name,
            like.environment
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("reading a deployment"))?;
        Ok(row.map(Row::read))
    }

    /// The deployments within a day of a time, nearest first: those of an environment and those of none, or all.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn deployments_near(
        &self,
        at: DateTime<Utc>,
        environment: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Deployment>, StoreError> {
        let day = TimeDelta::days(1);
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, what, name, environment, version, at, link, source FROM deployments
             WHERE at BETWEEN $2 AND $3 AND ($4::text IS NULL OR environment IS NULL OR environment = $4)
             ORDER BY abs(extract(epoch FROM at - $1)), id LIMIT $5",
            at,
            at - day,
            at + day,
            environment,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading deployments"))?;
        Ok(rows.into_iter().map(Row::read).collect())
    }
}

struct Row {
    id: Uuid,
    what: String,
    name: String,
    environment: Option<String>,
    version: String,
    at: DateTime<Utc>,
    link: Option<String>,
    source: String,
}

impl Row {
    fn read(self) -> Deployment {
        Deployment {
            id: self.id,
            what: Deployed::parse(&self.what),
            name: self.name,
            environment: self.environment,
            version: self.version,
            at: self.at,
            link: self.link,
            seen: self.source == "seen",
        }
    }
}
