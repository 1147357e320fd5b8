//! Tables `batch_items` and `batches`: questions that wait for a provider's batch, and the batches under way.
//!
//! Written by `pipeline::evaluate` (questions) and `pipeline::batch` (hand over, collect). Its rule: a question is in one batch
//! at most and has a deadline, after which the job asks directly, whatever became of the batch; so a worker may die at any
//! step. A reply that was used, or given up, is marked done, so that it is counted once. The way not taken: keeping a batch's state in the process that made it, for up to a day.

use super::{Store, StoreError};
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// A question's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Nobody has asked yet.
    New,
    /// It waits for a batch or for its reply, until this time at most.
    Waiting(DateTime<Utc>),
    /// Status and body of the reply, and when it was asked.
    Replied(u16, Value, DateTime<Utc>),
    /// The batch did not answer it in time, or not at all; asked then.
    Missed(DateTime<Utc>),
    /// The batch has nothing more to say: it is asked directly.
    Done,
}

/// A question to be handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The job.
    pub job_id: Uuid,
    /// The chat completion request.
    pub body: Value,
    /// After this it is asked directly.
    pub deadline_at: DateTime<Utc>,
}

/// How much one batch holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// Questions that are worth a batch before the oldest has waited long.
    pub at_least: i64,
    /// Questions at most.
    pub at_most: i64,
    /// Bytes of their bodies at most.
    pub bytes_max: i64,
}

/// A batch under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The provider's id.
    pub id: String,
    /// The judge.
    pub judge: String,
    /// The endpoint.
    pub endpoint: String,
    /// After this nobody waits for it.
    pub deadline_at: DateTime<Utc>,
}

impl Store {
    /// How far the question of a job to a judge is.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn batch_state(&self, job_id: Uuid, judge: &str, now: DateTime<Utc>) -> Result<Asked, StoreError> {
        let row = sqlx::query!(
            "SELECT reply, created_at, deadline_at FROM batch_items WHERE job_id = $1 AND judge = $2",
            job_id,
            judge
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("looking for a batched question"))?;
        let Some(row) = row else { return Ok(Asked::New) };
        let Some(reply) = row.reply else {
            let over = row.deadline_at <= now;
            return Ok(if over { Asked::Missed(row.created_at) } else { Asked::Waiting(row.deadline_at) });
        };
        if reply.get("done").is_some() {
            return Ok(Asked::Done);
        }
        let status = reply.get("status").and_then(Value::as_u64).and_then(|s| u16::try_from(s).ok());
        Ok(match status.filter(|s| *s > 0) {
            Some(status) => Asked::Replied(status, reply.get("body").cloned().unwrap_or_default(), row.created_at),
            None => Asked::Missed(row.created_at),
        })
    }

    /// Adds a question to the next batch of its judge.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn ask_in_batch(
        &self,
        (judge, endpoint): (&str, &str),
        item: &Item,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT INTO batch_items (job_id, judge, endpoint, body, created_at, deadline_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (job_id, judge) DO NOTHING",
            item.job_id,
            judge,
            endpoint,
            super::columns::json(item.body.clone()),
            now,
            item.deadline_at,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("adding to a batch"))?;
        Ok(())
    }

    /// Notes that the cost of a batched question was put right; false when that was done before, by an attempt that was lost.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn count_batched(&self, job_id: Uuid, judge: &str) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "UPDATE batch_items SET reply = reply || '{\"counted\": true}'
             WHERE job_id = $1 AND judge = $2 AND reply IS NOT NULL AND NOT reply ? 'counted'",
            job_id,
            judge
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("counting a batched reply"))?;
        Ok(done.rows_affected() > 0)
    }

    /// A question is asked directly from now on, whatever its batch says.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn skip_batch(&self, job_id: Uuid, judge: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE batch_items SET reply = '{\"done\": true}' WHERE job_id = $1 AND judge = $2",
            job_id,
            judge
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("skipping a batched reply"))?;
        Ok(())
    }

    /// Questions to a judge at an endpoint that wait for a batch, marked as taken by `mark`: the oldest ones, as many and as
    /// large as `room` allows. None while fewer than `room.at_least` wait and the oldest is younger than `oldest`. What is past
    /// its deadline, or whose job is gone, is left.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn take_batch(
        &self,
        (judge, endpoint, mark): (&str, &str, &str),
        room: &Room,
        (now, oldest): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<Item>, StoreError> {
        let rows = sqlx::query!(
            "WITH waiting AS (SELECT b.job_id, b.created_at,
                                     sum(octet_length(b.body::text)) OVER (ORDER BY b.created_at, b.job_id) AS bytes
                              FROM batch_items b
                              WHERE b.judge = $1 AND b.endpoint = $2 AND b.batch_id IS NULL AND b.reply IS NULL
                                AND b.deadline_at > $6 AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = b.job_id)
                              ORDER BY b.created_at, b.job_id LIMIT $5),
                  fitting AS (SELECT job_id FROM waiting
                              WHERE bytes <= $8 AND (SELECT count(*) >= $4 OR min(created_at) <= $7 FROM waiting)),
                  taken AS (SELECT job_id FROM batch_items
                            WHERE judge = $1 AND batch_id IS NULL AND job_id IN (SELECT job_id FROM fitting)
                            FOR UPDATE SKIP LOCKED)
             UPDATE batch_items b SET batch_id = $3 FROM taken WHERE b.job_id = taken.job_id AND b.judge = $1
             RETURNING b.job_id, b.body, b.deadline_at",
            judge,
            endpoint,
            mark,
            room.at_least,
            room.at_most,
            now,
            oldest,
            room.bytes_max,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("taking questions for a batch"))?;
        let read = rows.into_iter().map(|r| Item { job_id: r.job_id, body: r.body, deadline_at: r.deadline_at });
        Ok(read.collect())
    }

    /// The questions that `mark` took wait again; the hand-over failed.
    ///
    /// # Errors
    /// When the statement fails; then they are asked directly after their deadline.
    pub async fn untake_batch(&self, mark: &str) -> Result<(), StoreError> {
        sqlx::query!("UPDATE batch_items SET batch_id = NULL WHERE batch_id = $1", mark)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("giving a batch's questions back"))?;
        Ok(())
    }

    /// The questions that `mark` took are in this batch now.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn batch_begun(
        &self,
        mark: &str,
        batch: &Batch,
        (now, poll_at): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "WITH moved AS (UPDATE batch_items SET batch_id = $2 WHERE batch_id = $1)
             INSERT INTO batches (id, endpoint, judge, created_at, poll_at, deadline_at) VALUES ($2, $3, $4, $5, $6, $7)",
            mark,
            batch.id,
            batch.endpoint,
            batch.judge,
            now,
            poll_at,
            batch.deadline_at,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("storing a batch"))?;
        Ok(())
    }

    /// A batch that it was time to look at by `now`, put off until `busy_until` for all others.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn due_batch(&self, now: DateTime<Utc>, busy_until: DateTime<Utc>) -> Result<Option<Batch>, StoreError> {
        sqlx::query_as!(
            Batch,
            "UPDATE batches SET poll_at = $2 WHERE (endpoint, id) IN
                 (SELECT endpoint, id FROM batches WHERE poll_at <= $1 ORDER BY poll_at LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id, judge, endpoint, deadline_at",
            now,
            busy_until,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::op("looking for a batch"))
    }

    /// A batch that is still running is looked at again at `at`.
    ///
    /// # Errors
    /// When the statement fails; then it is looked at when its lease is over.
    pub async fn look_again(&self, batch: &Batch, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!("UPDATE batches SET poll_at = $3 WHERE endpoint = $1 AND id = $2", batch.endpoint, batch.id, at)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("putting a batch off"))?;
        Ok(())
    }

    /// Stores a batch's replies, ends it, and wakes its jobs; questions without a reply are asked directly.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed and it is looked at again.
    pub async fn end_batch(
        &self,
        batch: &Batch,
        replies: &[(Uuid, Value)],
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to end a batch"))?;
        sqlx::query!(
            "UPDATE batch_items b SET reply = u.reply FROM unnest($1::uuid[], $2::jsonb[]) AS u(job_id, reply)
             WHERE b.job_id = u.job_id AND b.endpoint = $3 AND b.batch_id = $4 AND b.reply IS NULL",
            &replies.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            &replies.iter().map(|(_, reply)| super::columns::json(reply.clone())).collect::<Vec<_>>(),
            batch.endpoint,
            batch.id,
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("storing a batch's replies"))?;
        sqlx::query!(
            "UPDATE batch_items SET reply = '{}' WHERE endpoint = $1 AND batch_id = $2 AND reply IS NULL",
            batch.endpoint,
            batch.id
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("marking what a batch did not answer"))?;
        let woken = sqlx::query!(
            "UPDATE jobs SET visible_at = $3 WHERE lease_token IS NULL AND visible_at > $3 AND id IN
                 (SELECT job_id FROM batch_items WHERE endpoint = $1 AND batch_id = $2)",
            batch.endpoint,
            batch.id,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("waking a batch's jobs"))?;
        sqlx::query!("DELETE FROM batches WHERE endpoint = $1 AND id = $2", batch.endpoint, batch.id)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("ending a batch"))?;
        tx.commit().await.map_err(StoreError::op("committing a batch's end"))?;
        Ok(woken.rows_affected())
    }

    /// Removes questions whose jobs are gone, and that nobody waits for any more.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_batch_items(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM batch_items b WHERE (b.reply IS NOT NULL OR b.deadline_at < $1)
               AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = b.job_id)",
            now
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("forgetting batched questions"))?;
        Ok(())
    }
}
