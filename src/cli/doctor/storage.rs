//! What `doctor` says of the tables that are partitioned.
//!
//! Its rule: a missing partition loses nothing, so what is wrong is that nobody makes them; the remedy says so.

use super::Findings;
use crate::cli::database::Database;
use crate::config::Retention;
use crate::domain::clock::{Clock, SystemClock};
use crate::pipeline::retention::days_ahead;
use crate::store::partitions::Parted;
use chrono::TimeDelta;

/// Whether tomorrow has its partitions, whether rows are in none, and whether what is over goes.
pub(super) async fn partitions(retention: &Retention, database: &Database, findings: &mut Findings) {
    // Tables that are not there yet have no partitions; `tables` says so.
    let Ok(found) = database.store.partitions().await else { return };
    let now = SystemClock.now();
    match days_ahead(&found, now) {
        -1 if found.is_empty() => findings.say("partitions", true, "none yet; `serve` makes them at start"),
        ahead @ ..=0 => {
            let day = if ahead < 0 { "today" } else { "tomorrow" };
            findings.say(
                "partitions",
                false,
                format!(
                    "{day} has none: its rows go into the default partition until a `serve` process makes it, each minute; \
                     does one run, may its user create tables, and is its clock right (assize_store_errors_total, its log)?"
                ),
            );
        }
        ahead => {
            findings.say("partitions", true, format!("{} of three tables, made for {ahead} days ahead", found.len()));
        }
    }
    for of in Parted::ALL {
        let count = database.store.strays(of).await.unwrap_or_default();
        if count > 0 {
            let detail = format!(
                "{count} rows are in no partition of a day or week; a running `serve` moves those of days up to now within a minute, \
                 what stays is of days to come: is a clock wrong?"
            );
            findings.say(format!("{}_default", of.table()), false, detail);
        }
        let seconds = if of == Parted::Bodies { retention.traces_seconds } else { retention.verdicts_seconds };
        // A day more than it takes, so that what is only waiting for its minute is not told.
        let keep = TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1_000)) + TimeDelta::days(1);
        let overdue: Vec<&str> = found
            .iter()
            .filter(|p| p.of == of && p.ends_at.is_some_and(|at| at <= now - keep))
            .map(|p| p.name.as_str())
            .collect();
        if !overdue.is_empty() {
            let detail = format!(
                "past retention and still there: {}; no `serve` runs, a job still needs a trace (assize queue stats), or a \
                 transaction holds the table for hours (pg_stat_activity)",
                overdue.join(", ")
            );
            findings.say(format!("partitions of {}", of.table()), false, detail);
        }
    }
}
