//! Partitions: weeks of `verdicts` and `votes`, days of `trace_bodies`; made ahead and dropped whole.
//!
//! Called by `pipeline::retention` and `doctor`. Its rule: each change is a short transaction of its own, under an advisory lock so
//! that one process makes it, with a bound on how long it waits for a lock, since whoever comes after it waits too; what cannot be had
//! at once is tried again later. The way not taken: `DETACH … CONCURRENTLY`, which Postgres refuses where there is a default partition,
//! and without one an insert fails when upkeep is behind or a clock is wrong.

use super::{Store, StoreError};
use chrono::{DateTime, Datelike, DurationRound, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

/// A table that is partitioned by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parted {
    /// `verdicts`.
    Verdicts,
    /// `votes`.
    Votes,
    /// `trace_bodies`.
    Bodies,
}

impl Parted {
    /// All of them; verdicts go before their votes, so that no verdict is shown without those that made it.
    pub const ALL: [Self; 3] = [Self::Verdicts, Self::Votes, Self::Bodies];

    /// Name of the table.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::Verdicts => "verdicts",
            Self::Votes => "votes",
            Self::Bodies => "trace_bodies",
        }
    }

    /// The column that says when.
    fn column(self) -> &'static str {
        match self {
            Self::Verdicts | Self::Votes => "created_at",
            Self::Bodies => "decided_at",
        }
    }

    /// The week, from Monday, or the day that a moment is in, in UTC: its first moment and the first after it.
    ///
    /// Bodies are nearly all of the disk and always looked up by their time, so a day of them goes at once. Verdicts are looked
    /// up by trace or session too, in every partition: the fewer the better.
    #[must_use]
    pub fn period(self, at: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        let day = day_of(at);
        let (since_start, days) = match self {
            Self::Verdicts | Self::Votes => (day.weekday().num_days_from_monday(), 7),
            Self::Bodies => (0, 1),
        };
        let from = day - TimeDelta::days(since_start.into());
        (from, from + TimeDelta::days(days))
    }
}

/// A partition, not a default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its table.
    pub of: Parted,
    /// Its name, quoted where it must be.
    pub name: String,
    /// Its first moment; `None` for one from the beginning of time.
    pub starts_at: Option<DateTime<Utc>>,
    /// The first moment after it.
    pub ends_at: Option<DateTime<Utc>>,
}

impl Partition {
    /// Whether any of `[from, until)` is in it.
    #[must_use]
    pub fn touches(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.starts_at.is_none_or(|at| at < until) && self.ends_at.is_none_or(|at| at > from)
    }
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made; of a drop, the bytes that are free now.
    Done(i64),
    /// There was nothing to do: another process has done it.
    Needless,
    /// Somebody holds the table or changes partitions too: to be tried again.
    Busy,
    /// Something still needs the rows: to be tried again.
    Needed,
}

/// Key of the advisory lock; any number that no other program on this database uses.
const LOCK: i64 = 0x0041_5353_495a_450e; // "ASSIZE", migration 14

/// How long a change waits for a lock at most. All that come after it wait as long, so it is short.
const LOCK_WAIT: &str = "300ms";

/// Days with rows in a default partition that are looked for at once at most.
const STRAY_DAYS_MAX: i64 = 8;

/// The day of a moment, which begins at midnight UTC.
#[must_use]
pub fn day_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::days(1)).unwrap_or(at)
}

impl Store {
    /// Partitions of the three tables, the earliest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::op("looking for partitions"))?;
        read(&mut connection).await
    }

    /// Days of rows that are in the default partition, a few of those within `[from, until)`, the latest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn stray_days(
        &self,
        of: Parted,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, StoreError> {
        let (table, column) = (of.table(), of.column());
        let sql = format!(
            "SELECT DISTINCT date_trunc('day', {column}, 'UTC') AS day FROM {table}_default
             WHERE {column} >= $1 AND {column} < $2 ORDER BY day DESC LIMIT {STRAY_DAYS_MAX}"
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(from)
            .bind(until)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("looking into a default partition"))
    }

    /// Rows in the default partition.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn strays(&self, of: Parted) -> Result<i64, StoreError> {
        let sql = format!("SELECT count(*) FROM {}_default", of.table());
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::op("counting a default partition"))
    }

    /// Removes up to `max` rows from before `before` that are in the default partition.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_strays(&self, of: Parted, before: DateTime<Utc>, max: i64) -> Result<u64, StoreError> {
        let (table, column) = (of.table(), of.column());
        let sql = format!(
            "DELETE FROM {table}_default WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM {table}_default WHERE {column} < $1 LIMIT $2))"
        );
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(before)
            .bind(max)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("emptying a default partition"))?;
        Ok(done.rows_affected())
    }

    /// Makes the partition that a day is in, as far as no other has of that time, and moves into it what the default
    /// partition has of it.
    ///
    /// Nobody reads or writes the table meanwhile. Without that lock who has planned before it is attached, and waits for the default
    /// partition, does not see the rows that were moved; and an insert on its way to the default partition fails.
    ///
    /// # Errors
    /// When a statement fails for another reason than a lock; then nothing has changed.
    pub async fn make_partition(&self, of: Parted, day: DateTime<Utc>) -> Result<Change, StoreError> {
        let Some(mut tx) = self.alone().await? else { return Ok(Change::Busy) };
        let Some((from, until)) = free(of, day_of(day), &read(&mut tx).await?) else { return Ok(Change::Needless) };
        let (table, column, name) = (of.table(), of.column(), format!("{}_p{}", of.table(), from.format("%Y%m%d")));
        let bounds = (from.to_rfc3339(), until.to_rfc3339());
        let statements = [
            format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"),
            format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)"),
            format!("COMMENT ON TABLE {name} IS 'Rows of {table} of {} (UTC).'", from.format("%F")),
            format!(
                "WITH moved AS (DELETE FROM {table}_default WHERE {column} >= '{0}' AND {column} < '{1}' RETURNING *)
                 INSERT INTO {name} SELECT * FROM moved",
                bounds.0, bounds.1
            ),
            format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{}') TO ('{}')", bounds.0, bounds.1),
        ];
        change(tx, statements, Change::Done(0)).await
    }

    /// Drops a partition with all that is in it. Bodies stay while a job needs one of them.
    ///
    /// # Errors
    /// When a statement fails for another reason than a lock; then nothing has changed.
    pub async fn drop_partition(&self, partition: &Partition) -> Result<Change, StoreError> {
        let Some(mut tx) = self.alone().await? else { return Ok(Change::Busy) };
        if !read(&mut tx).await?.contains(partition) {
            return Ok(Change::Needless);
        }
        if partition.of == Parted::Bodies && needed(&mut tx, partition).await? {
            return Ok(Change::Needed);
        }
        let bytes =
            sqlx::query_scalar!(r#"SELECT pg_total_relation_size($1::text::regclass) AS "bytes!""#, partition.name)
                .fetch_one(&mut *tx)
                .await
                .map_err(StoreError::op("measuring a partition"))?;
        change(tx, [format!("DROP TABLE {}", partition.name)], Change::Done(bytes)).await
    }

    /// A transaction in which nobody else of us changes partitions, and which waits for no lock for long.
    async fn alone(&self) -> Result<Option<Transaction<'static, Postgres>>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to change partitions"))?;
        let alone = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_xact_lock($1) AND set_config('lock_timeout', $2, true) <> '' AS "alone!""#,
            LOCK,
            LOCK_WAIT
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::op("becoming the one that changes partitions"))?;
        Ok(alone.then_some(tx))
    }
}

async fn read(connection: &mut PgConnection) -> Result<Vec<Partition>, StoreError> {
    // The bounds stand in the catalog as an expression only; they are printed with their offset from UTC.
    let rows = sqlx::query!(
        r#"SELECT p.relname::text AS "table!", c.oid::regclass::text AS "name!",
                  substring(b.bound FROM 'FROM \(''([^'']+)''\)')::timestamptz AS starts_at,
                  substring(b.bound FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends_at
           FROM pg_inherits i
           JOIN pg_class c ON c.oid = i.inhrelid
           JOIN pg_class p ON p.oid = i.inhparent
           CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
           WHERE p.oid = ANY (ARRAY[to_regclass('verdicts'), to_regclass('votes'), to_regclass('trace_bodies')])
             AND b.bound <> 'DEFAULT'
           ORDER BY starts_at NULLS FIRST, 1"#
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::op("looking for partitions"))?;
    let of = |table: &str| Parted::ALL.into_iter().find(|of| of.table() == table);
    let found = rows.into_iter().filter_map(|row| {
        Some(Partition { of: of(&row.table)?, name: row.name, starts_at: row.starts_at, ends_at: row.ends_at })
    });
    Ok(found.collect())
}

/// The period of a day less what other partitions have of it; `None` when one has that day. Bounds are at midnight, all of them.
fn free(of: Parted, day: DateTime<Utc>, found: &[Partition]) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let period = of.period(day);
    let (mut from, mut until) = period;
    for other in found.iter().filter(|p| p.of == of && p.touches(period.0, period.1)) {
        match (other.starts_at, other.ends_at) {
            (_, Some(end)) if end <= day => from = from.max(end),
            (Some(start), _) if start > day => until = until.min(start),
            _ => return None,
        }
    }
    Some((from, until))
}

/// Whether a job that waits is to judge a trace whose body is in this partition.
async fn needed(tx: &mut PgConnection, partition: &Partition) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM jobs j JOIN traces t ON t.trace_id = j.trace_id
                          WHERE t.kept AND t.decided_at >= coalesce($1::timestamptz, '-infinity')
                            AND t.decided_at < coalesce($2::timestamptz, 'infinity'))
           AS "needed!""#,
        partition.starts_at,
        partition.ends_at
    )
    .fetch_one(tx)
    .await
    .map_err(StoreError::op("looking whether bodies are still needed"))
}

/// Runs statements and commits; a lock that is not to be had is no error.
async fn change<const N: usize>(
    mut tx: Transaction<'static, Postgres>,
    statements: [String; N],
    done: Change,
) -> Result<Change, StoreError> {
    for sql in statements {
        if let Err(error) = sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await {
            let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
            // 55P03 the lock was not to be had in time, 40P01 a deadlock.
            return match code.as_deref() {
                Some("55P03" | "40P01") => Ok(Change::Busy),
                _ => Err(StoreError::op("changing partitions")(error)),
            };
        }
    }
    tx.commit().await.map_err(StoreError::op("committing partitions"))?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn a_partition_without_a_start_reaches_back_to_the_beginning() {
        let ends_at = Some(at("2026-11-22T00:00:00Z"));
        let first = Partition { of: Parted::Votes, name: String::new(), starts_at: None, ends_at };
        assert!(first.touches(at("1970-01-01T00:00:00Z"), at("1970-01-02T00:00:00Z")));
        assert!(first.touches(at("2026-11-21T00:00:00Z"), at("2026-11-22T00:00:00Z")));
        assert!(!first.touches(at("2026-11-22T00:00:00Z"), at("2026-11-23T00:00:00Z")), "the end is not in it");
    }

    #[test]
    fn a_week_begins_where_what_was_there_before_ends() {
        let (saturday, monday) = (at("2026-11-21T00:00:00Z"), at("2026-11-23T00:00:00Z"));
        assert_eq!(Parted::Votes.period(at("2026-11-22T23:59:59Z")), (at("2026-11-16T00:00:00Z"), monday));
        assert_eq!(Parted::Votes.period(monday).0, monday);
        assert_eq!(Parted::Bodies.period(at("2026-11-21T05:00:00Z")), (saturday, at("2026-11-22T00:00:00Z")));
        let part = |of, starts_at, ends_at| Partition { of, name: String::new(), starts_at, ends_at };
        let before = part(Parted::Votes, None, Some(saturday));
        let other = part(Parted::Verdicts, None, Some(monday));
        let found = [before, other];
        assert_eq!(free(Parted::Votes, saturday, &found), Some((saturday, monday)), "what is left of its week");
        assert_eq!(free(Parted::Votes, at("2026-11-20T00:00:00Z"), &found), None, "it is there");
        assert_eq!(free(Parted::Votes, monday, &found), Some((monday, at("2026-11-30T00:00:00Z"))));
        let sunday = part(Parted::Votes, Some(at("2026-11-22T00:00:00Z")), Some(monday));
        assert_eq!(free(Parted::Votes, saturday, &[sunday]).map(|(_, until)| until), Some(at("2026-11-22T00:00:00Z")));
    }

    #[test]
    fn days_begin_at_midnight_in_utc() {
        assert_eq!(day_of(at("2026-11-21T23:59:59.999Z")), at("2026-11-21T00:00:00Z"));
        assert_eq!(day_of(at("2026-11-22T00:00:00+01:00")), at("2026-11-21T00:00:00Z"));
        assert_eq!(day_of(at("1969-12-31T12:00:00Z")), at("1969-12-31T00:00:00Z"), "before 1970 too");
    }
}
