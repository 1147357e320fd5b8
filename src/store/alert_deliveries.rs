//! Table `alert_deliveries`: changes of alerts that channels are still to be told.
//!
//! Written by `alerts` (in the transaction of the change), worked on by `pipeline::notify`. Its rules: a channel hears the changes of one
//! alert in their order; what is given up stays as dead, with the reason. The way not taken: the outbox of verdicts, whose
//! events know neither an order nor quiet hours.

use super::columns::text;
use super::{Store, StoreError};
use crate::config::Alerts;
use crate::domain::alert::Severity;
use crate::domain::alert::incident::Alert;
use crate::domain::job::Lease;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A change to be told to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its id.
    pub id: Uuid,
    /// The alert.
    pub alert_id: Uuid,
    /// The change.
    pub change_number: i32,
    /// Attempts so far, this one included.
    pub attempts: i32,
}

/// What became of a leased delivery.
#[derive(Debug)]
pub enum Told {
    /// The channel has it; to be refreshed at a time, if it forgets.
    Delivered {
        /// The delivery.
        lease: Lease<Due>,
        /// When it is told again, silently.
        again_at: Option<DateTime<Utc>>,
    },
    /// To be tried again.
    Retry {
        /// The delivery.
        lease: Lease<Due>,
        /// When.
        at: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// Given up.
    Dead {
        /// The delivery.
        lease: Lease<Due>,
        /// Why.
        reason: String,
    },
}

/// How a channel is doing.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ChannelStats {
    /// The channel.
    pub channel: String,
    /// Changes that it has not been told.
    pub waiting: i64,
    /// Of these, those whose last attempt failed.
    pub failing: i64,
    /// Given up.
    pub dead: i64,
    /// When the oldest that waits was made.
    pub oldest_at: Option<DateTime<Utc>>,
    /// The most recent reason of those that fail or are dead.
    pub last_error: Option<String>,
}

/// Who is told, by which rules, now.
pub(super) struct Telling<'a> {
    pub channels: &'a [String],
    pub config: &'a Alerts,
    pub now: DateTime<Utc>,
}

/// Makes the deliveries of an alert's last change. One that is critical also hurries what quiet hours hold back.
pub(super) async fn put(db: &mut PgConnection, alert: &Alert, telling: &Telling<'_>) -> Result<(), StoreError> {
    let number = alert.changes.last().map_or(0, |change| change.number);
    let now = telling.now;
    for channel in telling.channels {
        sqlx::query!(
            "INSERT INTO alert_deliveries (id, alert_id, change_number, channel, created_at, visible_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            alert.delivery_id(number, channel),
            alert.id,
            number,
            channel,
            now,
            telling.config.told_from(channel, alert.severity, now)
        )
        .execute(&mut *db)
        .await
        .map_err(StoreError::op("making deliveries"))?;
    }
    if alert.severity == Severity::Critical {
        sqlx::query!(
            "UPDATE alert_deliveries SET visible_at = $2
             WHERE alert_id = $1 AND attempts = 0 AND delivered_at IS NULL AND visible_at > $2",
            alert.id,
            now
        )
        .execute(&mut *db)
        .await
        .map_err(StoreError::op("hurrying deliveries"))?;
    }
    Ok(())
}

/// The channels that are told of an alert.
pub(super) async fn channels_told(db: &mut PgConnection, alert: Uuid) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!("SELECT DISTINCT channel FROM alert_deliveries WHERE alert_id = $1 ORDER BY channel", alert)
        .fetch_all(db)
        .await
        .map_err(StoreError::op("reading deliveries"))
}

/// What was delivered is not told again; what is just being told again ends when that is settled.
pub(super) async fn stop_refreshing(db: &mut PgConnection, alert: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE alert_deliveries SET visible_at = NULL
         WHERE alert_id = $1 AND delivered_at IS NOT NULL AND lease_token IS NULL",
        alert
    )
    .execute(db)
    .await
    .map_err(StoreError::op("ending deliveries"))?;
    Ok(())
}

impl Store {
    /// Leases up to `max` deliveries of `channel` that are due; none whose predecessor has not arrived or is just being told
    /// again, and none that was told before of an alert that is resolved.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn due_deliveries(
        &self,
        channel: &str,
        max: i64,
        lease_for: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<Lease<Due>>, StoreError> {
        let (token, until) = (Uuid::now_v7(), now + lease_for);
        let rows = sqlx::query!(
            "WITH ready AS (
                 SELECT d.id FROM alert_deliveries d
                 WHERE d.channel = $1 AND d.visible_at <= $2
                 AND NOT EXISTS (SELECT 1 FROM alert_deliveries e WHERE e.alert_id = d.alert_id AND e.channel = d.channel
                                 AND e.change_number < d.change_number
                                 AND ((e.delivered_at IS NULL AND e.dead_at IS NULL)
                                      OR (e.lease_token IS NOT NULL AND e.visible_at > $2)))
                 AND (d.delivered_at IS NULL
                      OR EXISTS (SELECT 1 FROM alerts a WHERE a.id = d.alert_id AND a.state <> 'resolved'))
                 ORDER BY d.visible_at, d.change_number LIMIT $3 FOR UPDATE SKIP LOCKED)
             UPDATE alert_deliveries d SET visible_at = $4, lease_token = $5, attempts = d.attempts + 1
             FROM ready WHERE d.id = ready.id RETURNING d.id, d.alert_id, d.change_number, d.attempts",
            channel,
            now,
            max,
            until,
            token
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("claiming deliveries"))?;
        let leases = rows.into_iter().map(|r| {
            let item = Due { id: r.id, alert_id: r.alert_id, change_number: r.change_number, attempts: r.attempts };
            Lease { item, token, until }
        });
        Ok(leases.collect())
    }

    /// Settles a delivery, if its lease is still ours. Only the last that a channel was told of an alert is told again.
    ///
    /// # Errors
    /// When the statement fails; then it is sent again when the lease runs out.
    pub async fn settle_delivery(&self, told: Told, now: DateTime<Utc>) -> Result<(), StoreError> {
        match told {
            Told::Delivered { lease, again_at } => sqlx::query!(
                "WITH done AS (
                     UPDATE alert_deliveries d SET delivered_at = coalesce(d.delivered_at, $3), last_error = NULL,
                            lease_token = NULL, attempts = 0,
                            visible_at = CASE WHEN (SELECT a.state FROM alerts a WHERE a.id = d.alert_id) = 'resolved'
                                         THEN NULL ELSE $4::timestamptz END
                     WHERE d.id = $1 AND d.lease_token = $2 RETURNING d.alert_id, d.channel, d.change_number)
                 UPDATE alert_deliveries e SET visible_at = NULL FROM done
                 WHERE e.alert_id = done.alert_id AND e.channel = done.channel AND e.change_number < done.change_number
                 AND e.delivered_at IS NOT NULL",
                lease.item.id,
                lease.token,
                now,
                again_at
            ),
            Told::Retry { lease, at, reason } => sqlx::query!(
                "UPDATE alert_deliveries SET visible_at = $4, lease_token = NULL, last_error = $3
                 WHERE id = $1 AND lease_token = $2",
                lease.item.id,
                lease.token,
                text(&reason),
                at
            ),
            Told::Dead { lease, reason } => sqlx::query!(
                "UPDATE alert_deliveries SET visible_at = NULL, lease_token = NULL, last_error = $3, dead_at = $4
                 WHERE id = $1 AND lease_token = $2",
                lease.item.id,
                lease.token,
                text(&reason),
                now
            ),
        }
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("settling a delivery"))?;
        Ok(())
    }

    /// How each channel is doing that has or had something to be told.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn channel_stats(&self) -> Result<Vec<ChannelStats>, StoreError> {
        sqlx::query_as!(
            ChannelStats,
            "SELECT channel,
                    count(*) FILTER (WHERE delivered_at IS NULL AND dead_at IS NULL) AS \"waiting!\",
                    count(*) FILTER (WHERE dead_at IS NULL AND last_error IS NOT NULL) AS \"failing!\",
                    count(*) FILTER (WHERE dead_at IS NOT NULL) AS \"dead!\",
                    min(created_at) FILTER (WHERE delivered_at IS NULL AND dead_at IS NULL) AS oldest_at,
                    (array_agg(last_error ORDER BY coalesce(dead_at, visible_at) DESC)
                        FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
             FROM alert_deliveries GROUP BY channel ORDER BY channel"
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("counting deliveries"))
    }

    /// Makes dead deliveries deliverable again; how many.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn redrive_deliveries(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "UPDATE alert_deliveries SET dead_at = NULL, visible_at = $1, attempts = 0, last_error = NULL
             WHERE dead_at IS NOT NULL",
            now
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("redriving deliveries"))?;
        Ok(done.rows_affected())
    }
}
