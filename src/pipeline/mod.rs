//! L3: the steps that a trace goes through, one file a step, in this order.
//!
//! `ingest` → `assemble` → `sample` → `enqueue` → `claim` → `evaluate` → `aggregate` → `record` → `export`; `estimate` reads what
//! was stored, `upkeep` counts and cleans, `retention` makes and drops partitions, `steps` keeps the rates of sampling, `shares` divides the judges' limits, `alive` takes over a dead worker's jobs, `batch` hands questions over that may wait,
//! `sessions` does of a quiet session what steps 3 and 4 do of a trace, `units` is what judges see of a span or session, `replay` judges
//! stored traces again, `drift` so that one knows whether a judge has moved, `offline` judges without a queue, `trial` by a rubric's tests, `reload` takes changed rubrics, `labels` and `label_queue` are
//! about what people say, `correct`, `calibrate` and `report` about what it all amounts to, `runs` about judged files, `foresee`
//! about what would become of a trace, `notify` tells people of alerts, `deployments` notes versions that traces show, `gauges`
//! shows rates to Datadog and Prometheus. Started by `cli`. Its rule: a step takes its work from the database and leaves its result
//! there, so that any of them may die at any moment. The way not taken: channels between the steps, whose content dies
//! with the process.

pub mod aggregate;
pub mod alive;
pub mod assemble;
pub mod batch;
pub mod calibrate;
pub mod claim;
pub mod correct;
pub mod deployments;
mod drift;
pub mod enqueue;
pub mod estimate;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod foresee;
pub mod gauges;
pub mod ingest;
pub mod label_queue;
pub mod labels;
pub mod notify;
pub mod offline;
pub mod pull;
pub mod record;
pub mod reload;
pub mod replay;
pub mod report;
pub mod retention;
pub mod runs;
pub mod sample;
pub mod sessions;
pub mod shares;
pub mod steps;
pub mod trial;
pub mod units;
pub mod upkeep;
pub mod watch;

use crate::app::App;
use crate::runtime::lifecycle::Lifecycle;
use crate::store::StoreError;
use std::sync::Arc;

/// Which parts of the service a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, named where it is set")]
pub struct Roles {
    /// Take traces in, assemble and enqueue them.
    pub ingest: bool,
    /// Judge.
    pub work: bool,
    /// Send verdicts out.
    pub export: bool,
    /// Tell people of alerts.
    pub watch: bool,
    /// Answer the read API.
    pub web: bool,
}

/// Starts the loops of these roles.
pub fn start(app: &Arc<App>, roles: Roles, life: &Lifecycle) {
    if roles.ingest {
        life.spawn("assemble", assemble::run(Arc::clone(app), life.soft.clone()));
        life.spawn("sessions", sessions::run(Arc::clone(app), life.soft.clone()));
    }
    if roles.ingest || roles.work {
        life.spawn("reload", reload::run(Arc::clone(app), life.clone()));
    }
    life.spawn("upkeep", upkeep::run(Arc::clone(app), life.soft.clone()));
    if roles.work {
        life.spawn("alive", alive::run(Arc::clone(app), life.soft.clone()));
        life.spawn("shares", shares::run(Arc::clone(app), life.soft.clone()));
        life.spawn("batch", batch::run(Arc::clone(app), life.soft.clone()));
        claim::start(app, life);
    }
    if roles.watch {
        notify::start(app, life);
        life.spawn("watch", watch::run(Arc::clone(app), life.soft.clone()));
        life.spawn("gauges", gauges::run(Arc::clone(app), life.soft.clone()));
    }
    if roles.export {
        for sink in &app.sinks {
            life.spawn("export", export::run(Arc::clone(app), Arc::clone(sink), life.clone()));
        }
    }
}

/// Counts and logs a database error, with its causes.
fn note(app: &App, error: &StoreError, what: &'static str) {
    app.bench.metrics.store_errors.with_label_values(&[error.operation()]).inc();
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "{what}");
}

/// Configured seconds as a span of time; absurdly many are a hundred years.
fn seconds(count: u64) -> chrono::TimeDelta {
    const CENTURY: i64 = 100 * 365 * 86_400;
    chrono::TimeDelta::seconds(i64::try_from(count).unwrap_or(CENTURY).min(CENTURY))
}
