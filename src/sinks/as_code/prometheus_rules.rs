//! What is watched, as a file of Prometheus alerting rules.
//!
//! Pure; called by `cli::prometheus`. Its rule: a group a row; what Prometheus does not have has no rule.

use super::monitors::Options;
use super::table::{Row, Watch};
use serde_json::{Value, json};

/// The file's content, as a value that YAML is made of.
#[must_use]
pub fn rules(watches: &[Watch], options: &Options) -> Value {
    let groups: Vec<Value> = Row::ALL
        .into_iter()
        .map(|row| {
            let rules: Vec<Value> =
                watches.iter().filter(|w| w.row == row).filter_map(|watch| rule(watch, options)).collect();
            json!({"name": format!("assize_{}", row.title().to_lowercase()), "rules": rules})
        })
        .collect();
    json!({"groups": groups})
}

fn rule(watch: &Watch, options: &Options) -> Option<Value> {
    let rule = watch.rule.as_ref()?;
    let severity = if watch.priority <= 1 { "critical" } else { "warning" };
    let mut annotations = json!({
        "summary": watch.title,
        "description": format!("{} Now {{{{ $value }}}}. What to do: {}", watch.means, watch.remedy),
    });
    if let Some(page) = options.runbook_of(watch) {
        annotations["runbook_url"] = json!(page);
    }
    Some(json!({
        "alert": name(&watch.key),
        "expr": rule.expression,
        "for": rule.hold,
        "labels": {"severity": severity},
        "annotations": annotations,
    }))
}

/// `judge_error` → `AssizeJudgeError`.
fn name(key: &str) -> String {
    let words = key.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    });
    format!("Assize{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::table::{tests::loaded, watches};
    use super::*;

    #[test]
    fn the_rules_are_these() {
        let rules = rules(&watches(&loaded()), &Options::default());
        let lines: Vec<String> = rules["groups"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("a list"))
            .map(|r| {
                format!(
                    "{} [{}]: {}",
                    r["alert"].as_str().unwrap_or(""),
                    r["for"].as_str().unwrap_or(""),
                    r["expr"].as_str().unwrap_or("")
                )
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
        insta::assert_json_snapshot!(rules["groups"][0]["rules"][2]);
    }

    /// Each metric that a rule or panel names is one of ours.
    #[test]
    fn expressions_name_metrics_that_exist() {
        let documented = include_str!("../../../docs/metrics.md");
        let watches = watches(&loaded());
        let graphs = watches.iter().flat_map(|w| w.graph.prometheus.iter().map(|(_, e)| e.as_str()));
        let rules = watches.iter().filter_map(|w| w.rule.as_ref().map(|r| r.expression.as_str()));
        for expression in graphs.chain(rules) {
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            for metric in words.filter(|word| word.starts_with("assize_")) {
                let metric = metric.trim_end_matches("_bucket");
                assert!(documented.contains(&format!("| `{metric}` |")), "{metric} in {expression}");
            }
        }
    }

    #[test]
    fn queries_name_metrics_that_exist() {
        let documented = include_str!("../../../docs/metrics.md");
        for watch in watches(&loaded()) {
            let graph = watch.graph.lines.iter().map(|(_, expression)| expression);
            for query in graph.chain(watch.alarm.iter().map(|a| &a.expression)).flat_map(|e| &e.queries) {
                let known = documented.contains(&format!("`{}`", query.metric));
                assert!(known || query.metric.starts_with("ml_obs."), "{}", query.metric);
            }
        }
    }
}
