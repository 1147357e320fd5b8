//! What is watched, as a Grafana dashboard over Prometheus: the JSON that Grafana imports.
//!
//! Pure; called by `cli::grafana`. Its rule: what Prometheus does not have has no panel. The data source is a variable, so that the
//! file fits every Grafana.

use super::table::{Row, Unit, Watch};
use serde_json::{Value, json};

const WIDTH: usize = 12;
const HEIGHT: usize = 8;
const COLUMNS: usize = 24;

/// The dashboard.
#[must_use]
pub fn dashboard(watches: &[Watch]) -> Value {
    let mut panels = Vec::new();
    let mut y = 0;
    for row in Row::ALL {
        let shown: Vec<&Watch> = watches.iter().filter(|w| w.row == row && !w.graph.prometheus.is_empty()).collect();
        let at = json!({"h": 1, "w": COLUMNS, "x": 0, "y": y});
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": row.title(), "collapsed": false, "gridPos": at, "panels": [],
        }));
        y += 1;
        for (n, watch) in shown.iter().enumerate() {
            let (column, line) = (n % (COLUMNS / WIDTH), n / (COLUMNS / WIDTH));
            let at = json!({"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": y + line * HEIGHT});
            panels.push(panel(watch, panels.len() + 1, &at));
        }
        y += shown.len().div_ceil(COLUMNS / WIDTH) * HEIGHT;
    }
    json!({
        "uid": "assize-quality",
        "title": "Assize: quality of answers",
        "description": "Made by `assize grafana dashboard`.",
        "tags": ["assize"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [{
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
        }]},
        "panels": panels,
    })
}

fn panel(watch: &Watch, id: usize, at: &Value) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let targets: Vec<Value> = watch
        .graph
        .prometheus
        .iter()
        .zip('A'..='Z')
        .map(|((legend, expression), name)| {
            json!({"refId": name.to_string(), "expr": expression, "legendFormat": legend, "datasource": source})
        })
        .collect();
    let style = if watch.graph.bars { "bars" } else { "line" };
    let fill = if watch.graph.bars { 60 } else { 0 };
    json!({
        "id": id,
        "type": "timeseries",
        "title": watch.graph.title,
        "description": watch.means,
        "datasource": source,
        "gridPos": at,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": unit(watch.graph.unit), "custom": {"drawStyle": style, "fillOpacity": fill}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    })
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "percentunit",
        Unit::Count => "short",
        Unit::Usd => "currencyUSD",
        Unit::Milliseconds => "ms",
        Unit::Seconds => "s",
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{tests::loaded, watches};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn panels_do_not_lie_on_each_other_and_have_targets() {
        let board = dashboard(&watches(&loaded()));
        let panels = board["panels"].as_array().expect("a list");
        let places: BTreeSet<String> =
            panels.iter().map(|p| format!("{} {}", p["gridPos"]["x"], p["gridPos"]["y"])).collect();
        let ids: BTreeSet<u64> = panels.iter().filter_map(|p| p["id"].as_u64()).collect();
        assert_eq!((places.len(), ids.len()), (panels.len(), panels.len()));
        assert!(panels.iter().all(|p| p["type"] == "row" || !p["targets"].as_array().expect("a list").is_empty()));
        insta::assert_json_snapshot!(panels[1]);
    }
}
