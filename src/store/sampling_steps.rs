//! Tables `sampling_steps`, `sampling_counts` and `sampling_firsts`: the rates in force, and what the next ones are made from.
//!
//! Used by `pipeline::steps`; counts are written by `store::traces` in the transaction that stores the decisions. Its rule: of the
//! workers that need a new step one makes it, under a lock of the database, and the others take it. The way not taken: a leader
//! that makes steps, without whom nothing would be decided.

use super::columns::{json_text, text};
use super::traces::DecidedTrace;
use super::{Store, StoreError};
use crate::domain::step::{BudgetRate, Count, Past, Rates, Step};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Values of boosts of first traces that are read at most, those with the latest traces.
const FIRSTS_MAX: i64 = 20_000;

impl Store {
    /// The step of a policy that may be used now, given what is known of budgets: the stored one, or a new one that `next` makes
    /// from the counts since `since`.
    ///
    /// # Errors
    /// When a statement fails or a stored step cannot be read.
    pub async fn step(
        &self,
        policy: &str,
        (since, now): (DateTime<Utc>, DateTime<Utc>),
        budgets: &[BudgetRate],
        next: &(dyn Fn(&Past) -> Step + Sync),
    ) -> Result<Step, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to look for a step"))?;
        sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", format!("sampling step {policy}"))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("waiting for a step"))?;
        let latest = latest(&mut tx, policy).await?;
        if let Some(step) = latest.as_ref().filter(|step| step.serves(now, budgets)) {
            return Ok(step.clone());
        }
        let past = past(&mut tx, policy, since).await?;
        let mut step = next(&past);
        // After the latest one, whatever the clocks say, and in the microseconds that the database keeps.
        let earliest = latest.map(|step| step.starts_at + TimeDelta::milliseconds(1));
        let length = step.ends_at - step.starts_at;
        step.starts_at = earliest.map_or(step.starts_at, |at| at.max(step.starts_at));
        step.starts_at = DateTime::from_timestamp_micros(step.starts_at.timestamp_micros()).unwrap_or(step.starts_at);
        step.ends_at = step.starts_at + length;
        sqlx::query!(
            "UPDATE sampling_steps SET ends_at = $2 WHERE policy = $1 AND ends_at > $2",
            policy,
            step.starts_at
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("ending a step"))?;
        sqlx::query!(
            "INSERT INTO sampling_steps (policy, starts_at, ends_at, rates) VALUES ($1, $2, $3, $4::text::jsonb)",
            policy,
            step.starts_at,
            step.ends_at,
            json_text(&step.rates)
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing a step"))?;
        tx.commit().await.map_err(StoreError::op("committing a step"))?;
        Ok(step)
    }

    /// Whether any trace is due.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn any_due(&self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM open_traces WHERE due_at <= $1) AS "due!""#, now)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::op("looking whether traces are due"))
    }

    /// The latest step of a policy.
    ///
    /// # Errors
    /// When the statement fails or the step cannot be read.
    pub async fn latest_step(&self, policy: &str) -> Result<Option<Step>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::op("reading a step"))?;
        latest(&mut connection, policy).await
    }

    /// Removes counts and steps that ended before these times, and values without a trace since the second.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn forget_steps(&self, counts: DateTime<Utc>, steps: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM sampling_counts WHERE starts_at < $1", counts)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("forgetting counts of sampling"))?;
        sqlx::query!("DELETE FROM sampling_steps WHERE ends_at < $1", steps)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("forgetting steps"))?;
        sqlx::query!("DELETE FROM sampling_firsts WHERE last_at < $1", steps)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("forgetting values of boosts"))?;
        Ok(())
    }
}

async fn latest(connection: &mut PgConnection, policy: &str) -> Result<Option<Step>, StoreError> {
    let row = sqlx::query!(
        "SELECT starts_at, ends_at, rates FROM sampling_steps WHERE policy = $1 ORDER BY starts_at DESC LIMIT 1",
        policy
    )
    .fetch_optional(connection)
    .await
    .map_err(StoreError::op("reading a step"))?;
    let Some(row) = row else { return Ok(None) };
    let rates: Rates = serde_json::from_value(row.rates)
        .map_err(|source| StoreError::Content { what: format!("step {}", row.starts_at), source })?;
    Ok(Some(Step { starts_at: row.starts_at, ends_at: row.ends_at, rates }))
}

async fn past(tx: &mut PgConnection, policy: &str, since: DateTime<Utc>) -> Result<Past, StoreError> {
    let rows = sqlx::query!(
        "SELECT starts_at, limit_name, value, seen, floored, wanted, expected FROM sampling_counts WHERE starts_at >= $1",
        since
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("reading counts of sampling"))?;
    let counts = rows.into_iter().map(|row| {
        let count = Count {
            limit: row.limit_name,
            value: row.value,
            first: false,
            seen: row.seen,
            floored: row.floored,
            wanted: row.wanted,
            expected: row.expected,
        };
        (row.starts_at, count)
    });
    let counts = counts.collect();
    let first = sqlx::query_scalar!(
        "SELECT min(starts_at) FROM sampling_steps WHERE policy = $1 AND starts_at >= $2",
        policy,
        since
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(StoreError::op("reading the first step"))?;
    let firsts = sqlx::query!(
        "SELECT limit_name, value, seen FROM sampling_firsts ORDER BY last_at DESC, limit_name, value LIMIT $1",
        FIRSTS_MAX
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("reading values of boosts"))?;
    let firsts = firsts.into_iter().map(|row| (row.limit_name, row.value, row.seen.unsigned_abs())).collect();
    Ok(Past { since: first, counts, firsts })
}

/// Adds what traces came to under limits.
pub(super) async fn insert_counts(
    tx: &mut PgConnection,
    traces: &[DecidedTrace],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // Added up first, in the order of the key, so that two assemblers cannot lock each other out.
    let mut sums: BTreeMap<(DateTime<Utc>, String, String), Count> = BTreeMap::new();
    let mut firsts: BTreeMap<(String, String), f64> = BTreeMap::new();
    let counts = traces.iter().flat_map(|t| t.counts.iter().map(|count| (t.decision.step, count)));
    for (step, count) in counts {
        let (limit, value) = (text(&count.limit), text(&count.value));
        if count.first {
            *firsts.entry((limit, value)).or_default() += count.seen;
        } else if let Some(step) = step {
            let sum = sums.entry((step, limit, value)).or_default();
            sum.seen += count.seen;
            sum.floored += count.floored;
            sum.wanted += count.wanted;
            sum.expected += count.expected;
        }
    }
    if !sums.is_empty() {
        let column = |of: fn(&Count) -> f64| sums.values().map(of).collect::<Vec<_>>();
        sqlx::query!(
            "INSERT INTO sampling_counts AS c (starts_at, limit_name, value, seen, floored, wanted, expected)
             SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::float8[],
                                  $7::float8[])
             ON CONFLICT (starts_at, limit_name, value) DO UPDATE SET seen = c.seen + excluded.seen,
                 floored = c.floored + excluded.floored, wanted = c.wanted + excluded.wanted,
                 expected = c.expected + excluded.expected",
            &sums.keys().map(|(at, ..)| *at).collect::<Vec<_>>(),
            &sums.keys().map(|(_, limit, _)| limit.clone()).collect::<Vec<_>>(),
            &sums.keys().map(|(.., value)| value.clone()).collect::<Vec<_>>(),
            &column(|c| c.seen),
            &column(|c| c.floored),
            &column(|c| c.wanted),
            &column(|c| c.expected),
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("counting for the next step"))?;
    }
    if !firsts.is_empty() {
        sqlx::query!(
            "INSERT INTO sampling_firsts AS f (limit_name, value, seen, last_at)
             SELECT l, v, s::bigint, $4 FROM unnest($1::text[], $2::text[], $3::float8[]) AS u(l, v, s)
             ON CONFLICT (limit_name, value) DO UPDATE SET seen = f.seen + excluded.seen, last_at = excluded.last_at",
            &firsts.keys().map(|(limit, _)| limit.clone()).collect::<Vec<_>>(),
            &firsts.keys().map(|(_, value)| value.clone()).collect::<Vec<_>>(),
            &firsts.values().copied().collect::<Vec<_>>(),
            now,
        )
        .execute(tx)
        .await
        .map_err(StoreError::op("counting first traces"))?;
    }
    Ok(())
}
