//! Monitors, dashboards and alert rules as code, for Datadog, Terraform, Grafana and Prometheus.
//!
//! Called by `cli::datadog`, `cli::grafana` and `cli::prometheus`. Its rule: what is watched stands once, in [`table`], and every
//! output is a pure function of it; only [`apply`] talks. The way not taken: files written by hand beside the program, which
//! name metrics that no longer exist.

pub mod apply;
pub mod dashboard;
pub mod grafana;
pub mod monitors;
pub mod prometheus_rules;
pub mod query;
pub mod table;
pub mod terraform;

/// Written on everything that is made here, so that it is found again.
pub const MANAGED: &str = "managed_by:assize";

/// Begins the tag that names a monitor.
pub const MONITOR_TAG: &str = "assize:monitor:";

/// Names the dashboard in its description.
pub const DASHBOARD_MARK: &str = "assize:dashboard:quality";
