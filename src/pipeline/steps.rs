//! The step in force: taken from the database, or made when the one before is over.
//!
//! Called by `assemble` before each batch, and by `explain`. Its rule: whoever decides on a trace uses a step that was stored
//! before, and all workers of one configuration use the same; a step ends early when a budget comes nearer to its end. Nothing is
//! read or written where nothing adapts. The way not taken: rates in memory, which differ from worker to worker and are gone when
//! somebody asks why.

use super::sample::control;
use crate::app::App;
use crate::config::Config;
use crate::domain::ids::short_hash;
use crate::domain::step::{Past, Rates, Step};
use crate::runtime::metrics::Metrics;
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// The step for what is decided now; `None` when the one before is over and nothing is due, so that none is needed. A step that
/// began before its first trace would make the traffic look slower than it is.
///
/// # Errors
/// When the database fails.
pub async fn current(app: &App, now: DateTime<Utc>) -> Result<Option<Arc<Step>>, StoreError> {
    let config = &app.bench.config;
    if !adapts(config) {
        return Ok(Some(Arc::default()));
    }
    let budgets = app.bench.ledger.rates(now);
    let known = app.step.load_full();
    if known.serves(now, &budgets) {
        return Ok(Some(known));
    }
    if !app.store.any_due(now).await? {
        return Ok(None);
    }
    let next = |past: &Past| {
        let mut step = control::next(&config.sampling, past, now);
        step.rates.budgets.clone_from(&budgets);
        step
    };
    let step = Arc::new(app.store.step(&policy_id(config), (now - control::WINDOW, now), &budgets, &next).await?);
    show(&app.bench.metrics, &step.rates);
    app.step.store(Arc::clone(&step));
    Ok(Some(step))
}

/// The step that was made last, for saying what would happen; the one of no limits when there is none.
///
/// # Errors
/// When the database fails.
pub async fn latest(store: &Store, config: &Config) -> Result<Step, StoreError> {
    if !adapts(config) {
        return Ok(Step::default());
    }
    Ok(store.latest_step(&policy_id(config)).await?.unwrap_or_default())
}

fn adapts(config: &Config) -> bool {
    config.sampling.adapts() || !config.budgets.is_empty()
}

/// Workers with another configuration have steps of their own.
fn policy_id(config: &Config) -> String {
    let sampling = serde_json::to_vec(&config.sampling).unwrap_or_default();
    let budgets: Vec<&str> = config.budgets.iter().map(|budget| budget.name.as_str()).collect();
    short_hash(&[&sampling, budgets.join("\n").as_bytes()], 16)
}

/// The lowest and the highest rate of each limit, whatever the number of its values.
fn show(metrics: &Metrics, rates: &Rates) {
    metrics.sampling_rate.reset();
    let set = |kind: &str, name: &str, values: &mut dyn Iterator<Item = f64>| {
        let ends = values.fold(None, |ends: Option<(f64, f64)>, rate| {
            Some(ends.map_or((rate, rate), |(low, high)| (low.min(rate), high.max(rate))))
        });
        let (low, high) = ends.unwrap_or((1.0, 1.0));
        metrics.sampling_rate.with_label_values(&[kind, name, "lowest"]).set(low);
        metrics.sampling_rate.with_label_values(&[kind, name, "highest"]).set(high);
    };
    for (name, floor) in &rates.floors {
        set("floor", name, &mut floor.known.values().copied());
    }
    for (name, ceiling) in &rates.ceilings {
        set("ceiling", name, &mut ceiling.known.values().map(|squeeze| squeeze.rest));
    }
    let budgets: std::collections::BTreeSet<&str> = rates.budgets.iter().map(|b| b.budget.as_str()).collect();
    for name in budgets {
        set("budget", name, &mut rates.budgets.iter().filter(|b| b.budget == name).map(|b| b.rate));
    }
}
