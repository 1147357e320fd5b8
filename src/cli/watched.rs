//! The loaded rubrics, as far as monitors, dashboards and rules need them.
//!
//! Used by `datadog`, `grafana` and `prometheus`. Its rule: what is left out for want of a rubric is said.

use crate::config::Config;
use crate::domain::rubric::Rubric;
use crate::rubrics::catalog::Catalog;
use crate::sinks::as_code::table::{self, Watch, Watched};
use serde_json::Value;

/// What is watched with the configured rubrics. Rubrics without a judge count: the monitors may be made on another machine.
pub(super) fn watches(config: &Config) -> anyhow::Result<Vec<Watch>> {
    let judges: Vec<&str> = config.judges.keys().map(String::as_str).collect();
    let catalog = Catalog::load(&config.rubrics.dir, &config.panels, &judges)?;
    let rubrics: Vec<Watched> = catalog.known().iter().map(|rubric| watched(rubric)).collect();
    for what in table::left_out(&rubrics) {
        eprintln!("note: {what} (from {})", config.rubrics.dir.display());
    }
    Ok(table::watches(&rubrics))
}

fn watched(rubric: &Rubric) -> Watched {
    Watched {
        name: rubric.name.clone(),
        title: rubric.title.clone(),
        checks: rubric.checks.iter().map(|check| check.kind.as_str()).collect(),
        runbook: runbook(rubric),
    }
}

/// `alert.runbook` of the rubric's file, which was parsed before.
fn runbook(rubric: &Rubric) -> Option<String> {
    let file: Value = yaml_serde::from_str(&rubric.source).ok()?;
    Some(file.get("alert")?.get("runbook")?.as_str()?.to_owned())
}
