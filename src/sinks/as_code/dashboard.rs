//! What is watched, as a Datadog dashboard: the JSON of `POST /api/v1/dashboard`.
//!
//! Pure; called by `cli::datadog`. Its rule: a group a row, a graph a watch, with the limit of its monitor drawn in; everything can
//! be narrowed by the template variables. The way not taken: four dashboards, which are four places to look when one number
//! is bad.

use super::query::{Expression, VARIABLES};
use super::table::{Graph, Method, Row, Unit, Watch};
use super::{DASHBOARD_MARK, MANAGED};
use serde_json::{Value, json};

/// The dashboard.
#[must_use]
pub fn dashboard(watches: &[Watch]) -> Value {
    let variables: Vec<Value> = VARIABLES
        .iter()
        .map(|name| json!({"name": name, "prefix": name, "available_values": [], "defaults": ["*"]}))
        .collect();
    let mut widgets = vec![status()];
    widgets.extend(Row::ALL.into_iter().map(|row| group(row, watches)));
    json!({
        "title": "Assize: quality of answers",
        "description": format!("Made by `assize datadog dashboard`; changes made here are lost at the next --apply. {DASHBOARD_MARK}"),
        "layout_type": "ordered",
        "reflow_type": "auto",
        "template_variables": variables,
        "widgets": widgets,
    })
}

/// The state of our monitors.
fn status() -> Value {
    json!({"definition": {
        "type": "manage_status",
        "title": "Monitors",
        "query": format!("tag:({MANAGED})"),
        "summary_type": "monitors",
        "display_format": "countsAndList",
        "color_preference": "text",
        "hide_zero_counts": true,
        "sort": "status,asc",
    }})
}

fn group(row: Row, watches: &[Watch]) -> Value {
    let shown = watches.iter().filter(|watch| watch.row == row && !watch.graph.lines.is_empty());
    let widgets: Vec<Value> = shown.map(graph).collect();
    let definition = json!({"type": "group", "layout_type": "ordered", "title": row.title(), "show_title": true, "widgets": widgets});
    json!({"definition": definition})
}

fn graph(watch: &Watch) -> Value {
    let Graph { title, unit, bars, lines, .. } = &watch.graph;
    let requests: Vec<Value> = lines
        .iter()
        .map(|(legend, expression)| {
            let mut formula = json!({"formula": expression.formula, "alias": legend});
            if let Some(unit) = unit_name(*unit) {
                formula["number_format"] = json!({"unit": {"type": "canonical_unit", "unit_name": unit}});
            }
            json!({
                "response_format": "timeseries",
                "display_type": if *bars { "bars" } else { "line" },
                "queries": queries(expression),
                "formulas": [formula],
            })
        })
        .collect();
    let mut definition = json!({
        "type": "timeseries", "title": title, "show_legend": true, "legend_layout": "auto", "requests": requests,
    });
    // Only a level can be drawn into the graph of the value itself.
    if let Some(alarm) =
        watch.alarm.as_ref().filter(|a| matches!(a.method, Method::Level(_)) && a.critical > 0.0 && !bars)
    {
        let marker =
            json!({"value": format!("y = {}", alarm.critical), "display_type": "error dashed", "label": "alert"});
        definition["markers"] = json!([marker]);
    }
    json!({"definition": definition})
}

fn queries(expression: &Expression) -> Vec<Value> {
    let named = expression.queries.iter().enumerate();
    named
        .map(|(n, query)| {
            json!({"data_source": "metrics", "name": Expression::name(n).to_string(), "query": query.in_dashboard()})
        })
        .collect()
}

/// Datadog's name of a unit; plain counts have none.
fn unit_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Share => Some("fraction"),
        Unit::Count => None,
        Unit::Usd => Some("dollar"),
        Unit::Milliseconds => Some("millisecond"),
        Unit::Seconds => Some("second"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{tests::loaded, watches};
    use super::*;

    #[test]
    fn the_dashboard_is_this() {
        let board = dashboard(&watches(&loaded()));
        let groups: Vec<String> = board["widgets"].as_array().expect("a list")[1..]
            .iter()
            .map(|group| {
                let inner = group["definition"]["widgets"].as_array().expect("a list");
                let titles: Vec<&str> = inner.iter().filter_map(|w| w["definition"]["title"].as_str()).collect();
                format!("{}: {}", group["definition"]["title"].as_str().unwrap_or_default(), titles.join(" | "))
            })
            .collect();
        insta::assert_snapshot!(groups.join("\n"));
        insta::assert_json_snapshot!(board["widgets"][1]["definition"]["widgets"][2]);
    }

    #[test]
    fn every_variable_is_used() {
        let text = dashboard(&watches(&loaded())).to_string();
        for name in VARIABLES {
            assert!(text.contains(&format!("${name}")), "{name}");
        }
    }
}
