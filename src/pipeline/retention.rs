//! What is kept for how long: partitions are made ahead and dropped, rows that belong to none are removed in batches.
//!
//! Called by `upkeep` once a minute in every process. Its rule: it may run anywhere, any number of times at once; what cannot be had
//! now is tried again a minute later, and nobody who judges waits for it. A row of `traces` goes after the verdicts and the body of
//! its trace: it is what keeps a late span from being a new trace, and so a verdict from being made twice. The way not taken: deleting
//! verdicts row by row, which costs as much as having stored them and leaves the tables as large as they were.

use crate::app::App;
use crate::store::StoreError;
use crate::store::partitions::{Change, Parted, Partition, day_of};
use chrono::{DateTime, TimeDelta, Utc};

/// Days after today that have their partitions. `upkeep` may be away for so long, or the clock be wrong by so much.
pub const DAYS_AHEAD: i32 = 4;

/// Rows removed at once at most.
const REMOVE_MAX: i64 = 100_000;

/// Makes, drops and removes what is due.
///
/// # Errors
/// When the database fails; what was done until then stays done.
pub async fn once(app: &App, now: DateTime<Utc>) -> Result<(), StoreError> {
    let found = app.store.partitions().await?;
    for of in Parted::ALL {
        make(app, of, &found, now).await?;
    }
    let mut dropped = false;
    for of in Parted::ALL {
        dropped |= drop_expired(app, of, &found, now).await?;
        let strays = app.store.forget_strays(of, ends(app, of, now), REMOVE_MAX).await?;
        app.bench.metrics.retention.rows.with_label_values(&[of.table()]).inc_by(strays);
    }
    if dropped {
        app.store.forget_events(ends(app, Parted::Verdicts, now)).await?;
    }
    let left = app.store.partitions().await?;
    remove_rows(app, &left, now).await?;
    show(app, &left, now).await
}

/// Removes what goes row by row.
async fn remove_rows(app: &App, left: &[Partition], now: DateTime<Utc>) -> Result<(), StoreError> {
    let (store, removed) = (&app.store, &app.bench.metrics.retention.rows);
    let (gone, verdicts) = (outlived(app, left, now), ends(app, Parted::Verdicts, now));
    let sampled_out = now - super::seconds(app.bench.config.retention.sampled_out_seconds);
    let count = |what: &str, rows: u64| removed.with_label_values(&[what]).inc_by(rows);
    count("traces", store.forget_kept(gone, REMOVE_MAX).await?);
    count("traces_left_out", store.forget_sampled_out(sampled_out, REMOVE_MAX).await?);
    count("sessions", store.forget_sessions(gone, REMOVE_MAX).await?);
    count("replay_verdicts", store.forget_replays(verdicts, REMOVE_MAX).await?);
    Ok(())
}

/// What was made before this is no longer kept.
fn ends(app: &App, of: Parted, now: DateTime<Utc>) -> DateTime<Utc> {
    let config = &app.bench.config.retention;
    let seconds = match of {
        Parted::Verdicts | Parted::Votes => config.verdicts_seconds,
        Parted::Bodies => config.traces_seconds,
    };
    now - super::seconds(seconds)
}

/// The partitions of today and of the days ahead, and of days whose rows had none.
async fn make(app: &App, of: Parted, found: &[Partition], now: DateTime<Utc>) -> Result<(), StoreError> {
    let today = day_of(now);
    let until = today + TimeDelta::days(i64::from(DAYS_AHEAD) + 1);
    let mut days: Vec<DateTime<Utc>> =
        (0..=i64::from(DAYS_AHEAD)).map(|ahead| today + TimeDelta::days(ahead)).collect();
    days.extend(app.store.stray_days(of, ends(app, of, now), until).await?);
    days.sort_unstable();
    days.dedup();
    let missing = |day: &DateTime<Utc>| !found.iter().any(|p| p.of == of && p.touches(*day, *day + TimeDelta::days(1)));
    for day in days.into_iter().filter(missing) {
        if app.store.make_partition(of, day).await? == Change::Busy {
            tracing::debug!(table = of.table(), "a partition could not be made now; trying again in a minute");
            break;
        }
    }
    Ok(())
}

fn expired(found: &[Partition], of: Parted, before: DateTime<Utc>) -> impl Iterator<Item = &Partition> {
    found.iter().filter(move |p| p.of == of && p.ends_at.is_some_and(|at| at <= before))
}

/// Drops what is over; true when something was dropped.
async fn drop_expired(app: &App, of: Parted, found: &[Partition], now: DateTime<Utc>) -> Result<bool, StoreError> {
    let metrics = &app.bench.metrics.retention;
    let mut dropped = false;
    for partition in expired(found, of, ends(app, of, now)) {
        match app.store.drop_partition(partition).await? {
            Change::Done(bytes) => {
                tracing::info!(partition = partition.name, bytes, "dropped: all of it was past its retention");
                metrics.dropped.with_label_values(&[of.table()]).inc();
                metrics.dropped_bytes.with_label_values(&[of.table()]).inc_by(bytes.unsigned_abs());
                dropped = true;
            }
            Change::Needless => {}
            Change::Needed => tracing::debug!(partition = partition.name, "kept on: a job needs a trace of it"),
            Change::Busy => break,
        }
    }
    Ok(dropped)
}

/// Traces that were decided on before this have neither verdicts nor a body any more, and none can come.
fn outlived(app: &App, left: &[Partition], now: DateTime<Utc>) -> DateTime<Utc> {
    let over = Parted::ALL.map(|of| ends(app, of, now)).into_iter();
    // What could not be dropped yet counts as kept; one without a start may hold anything.
    let held = left.iter().map(|p| p.starts_at.unwrap_or(DateTime::UNIX_EPOCH));
    let first = over.chain(held).min().unwrap_or(now);
    first - super::seconds(app.bench.config.judged_seconds_max()) - TimeDelta::days(1)
}

async fn show(app: &App, left: &[Partition], now: DateTime<Utc>) -> Result<(), StoreError> {
    let metrics = &app.bench.metrics.retention;
    metrics.days_ahead.set(days_ahead(left, now));
    for of in Parted::ALL {
        let overdue = expired(left, of, ends(app, of, now)).count();
        metrics.overdue.with_label_values(&[of.table()]).set(overdue as f64);
        let strays = app.store.strays(of).await?;
        metrics.strays.with_label_values(&[of.table()]).set(strays as f64);
    }
    Ok(())
}

/// Days after today, one after another, for which every table has its partition; -1 when today has not.
#[must_use]
pub fn days_ahead(found: &[Partition], now: DateTime<Utc>) -> i64 {
    let today = day_of(now);
    let there = |ahead: &i64| {
        let day = today + TimeDelta::days(*ahead);
        Parted::ALL.into_iter().all(|of| found.iter().any(|p| p.of == of && p.touches(day, day + TimeDelta::days(1))))
    };
    (0..=i64::from(DAYS_AHEAD)).take_while(there).last().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_one_table_lacks_ends_the_days_ahead() {
        let now: DateTime<Utc> = "2026-11-21T15:00:00Z".parse().expect("a time");
        let day = |of: Parted, ahead: i64| {
            let starts_at = day_of(now) + TimeDelta::days(ahead);
            let ends_at = Some(starts_at + TimeDelta::days(1));
            Partition { of, name: String::new(), starts_at: Some(starts_at), ends_at }
        };
        let mut found = Vec::new();
        assert_eq!(days_ahead(&found, now), -1);
        found.extend(Parted::ALL.map(|of| day(of, 0)));
        assert_eq!(days_ahead(&found, now), 0);
        found.extend(Parted::ALL.map(|of| day(of, 1)));
        found.extend([day(Parted::Verdicts, 2), day(Parted::Bodies, 2)]);
        assert_eq!(days_ahead(&found, now), 1);
    }
}
