//! Table `parked_messages`: messages of brokers that could not be taken, without their bodies.
//!
//! Written by `pipeline::pull`, trimmed by `pipeline::upkeep`, read by `cli::queue` and `cli::doctor`. Its rule: a message has one row however often it
//! is delivered, and nothing of its content is in it. The way not taken: keeping the body; what cannot be read cannot be redacted.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A message that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// The source, by its name.
    pub source: String,
    /// Where it is in the broker.
    pub position: String,
    /// Its subject or topic.
    pub subject: String,
    /// Why, without values of the message.
    pub reason: String,
    /// Spans of it that were stored all the same.
    pub spans_taken: i64,
    /// Bytes of its body.
    pub size_bytes: i64,
    /// SHA-256 of its body, in hex.
    pub body_sha256: String,
    /// How often it was delivered.
    pub deliveries: i64,
    /// When it was parked first.
    pub parked_at: DateTime<Utc>,
}

/// How many messages of a source are parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedCount {
    /// The source.
    pub source: String,
    /// How many.
    pub count: i64,
    /// When the latest was.
    pub latest_at: DateTime<Utc>,
}

impl Store {
    /// Stores what was parked; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn park(&self, parked: &[Parked]) -> Result<(), StoreError> {
        let texts = |of: fn(&Parked) -> &str| parked.iter().map(|p| super::columns::text(of(p))).collect::<Vec<_>>();
        let numbers = |of: fn(&Parked) -> i64| parked.iter().map(of).collect::<Vec<_>>();
        let hashes: Vec<Vec<u8>> = parked.iter().map(|p| hex::decode(&p.body_sha256).unwrap_or_default()).collect();
        let times: Vec<DateTime<Utc>> = parked.iter().map(|p| p.parked_at).collect();
        sqlx::query!(
            "INSERT INTO parked_messages
                 (source, position, subject, reason, spans_taken, size_bytes, body_sha256, deliveries, parked_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                 $7::bytea[], $8::bigint[], $9::timestamptz[])
             ORDER BY 1, 2
             ON CONFLICT (source, position) DO NOTHING",
            &texts(|p| &p.source),
            &texts(|p| &p.position),
            &texts(|p| &p.subject),
            &texts(|p| &p.reason),
            &numbers(|p| p.spans_taken),
            &numbers(|p| p.size_bytes),
            &hashes,
            &numbers(|p| p.deliveries),
            &times,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("parking messages"))?;
        Ok(())
    }

    /// The latest parked messages.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn parked_messages(&self, limit: i64) -> Result<Vec<Parked>, StoreError> {
        sqlx::query_as!(
            Parked,
            r#"SELECT source, position, subject, reason, spans_taken, size_bytes,
                      encode(body_sha256, 'hex') AS "body_sha256!", deliveries, parked_at
               FROM parked_messages ORDER BY parked_at DESC, source, position LIMIT $1"#,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading parked messages"))
    }

    /// How many messages are parked, by source.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn parked_counts(&self) -> Result<Vec<ParkedCount>, StoreError> {
        sqlx::query_as!(
            ParkedCount,
            r#"SELECT source, count(*) AS "count!", max(parked_at) AS "latest_at!"
               FROM parked_messages GROUP BY source ORDER BY source"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("counting parked messages"))
    }

    /// Removes rows from before a time, and all but the latest `keep` of the others; at most `limit` at once.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_parked(&self, before: DateTime<Utc>, keep: i64, limit: i64) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM parked_messages WHERE ctid = ANY(ARRAY(
                 SELECT ctid FROM parked_messages
                 WHERE parked_at < greatest($1, (SELECT parked_at FROM parked_messages
                                                 ORDER BY parked_at DESC OFFSET $2 LIMIT 1))
                 LIMIT $3))",
            before,
            keep,
            limit
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("removing parked messages"))?;
        Ok(())
    }
}
