//! The loaded rubrics, as far as monitors, dashboards and rules need them.
//!
//! Used by `datadog`, `grafana` and `prometheus`. Its rule: what is left out for want of a rubric is said.

use crate::config::Config;
use crate::domain::rubric::Rubric;
use crate::rubrics::catalog::Catalog;
use crate::sinks::as_code::table::{self, Watch, Watched};

/// What is watched with the configured rubrics. Rubrics without a judge count: the monitors may be made on another machine.
pub(super) fn watches(config: &Config) -> anyhow::Result<Vec<Watch>> {
    let judges: Vec<&str> = config.judges.keys().map(String::as_str).collect();
    let catalog = Catalog::load(&config.rubrics.dir, &config.panels, &judges)?;
    let rubrics: Vec<Watched> = catalog.known().map(|rubric| watched(rubric)).collect();
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
        runbook: rubric.alert.runbook.clone(),
    }
}
