//! What is watched, as Datadog monitors: the JSON of `POST /api/v1/monitor`.
//!
//! Pure; called by `cli::datadog`. Its rules: the number in the query equals the critical threshold, which Datadog demands; a
//! missing series is no alert unless the table says so; handles are the caller's. The way not taken: a monitor a rubric and
//! feature, where one with groups does.

use super::table::{Alarm, Method, Watch};
use super::{MANAGED, MONITOR_TAG};
use serde_json::{Value, json};
use std::fmt::Write;

/// What the caller may choose.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who is notified, as `@slack-llm` or `@pagerduty`.
    pub notify: Vec<String>,
    /// Where monitors are explained, for those whose rubric has no runbook; the key is added as `#key`.
    pub runbook: Option<String>,
}

impl Options {
    /// The page on what to do about a watch.
    #[must_use]
    pub fn runbook_of(&self, watch: &Watch) -> Option<String> {
        watch.runbook.clone().or_else(|| self.runbook.as_ref().map(|base| format!("{base}#{}", watch.key)))
    }
}

/// The monitors, each with its key.
#[must_use]
pub fn monitors(watches: &[Watch], options: &Options) -> Vec<(String, Value)> {
    let with_alarm = watches.iter().filter_map(|watch| Some((watch, watch.alarm.as_ref()?)));
    with_alarm.map(|(watch, alarm)| (watch.key.clone(), monitor(watch, alarm, options))).collect()
}

fn monitor(watch: &Watch, alarm: &Alarm, options: &Options) -> Value {
    let mut thresholds = json!({"critical": alarm.critical});
    let others = [("warning", alarm.warning), ("critical_recovery", alarm.recovery)];
    for (name, value) in others.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        thresholds[name] = json!(value);
    }
    let mut settings = json!({
        "thresholds": thresholds,
        "include_tags": true,
        "require_full_window": false,
        "notify_no_data": alarm.no_data_minutes.is_some(),
        "notify_audit": false,
        "renotify_interval": 0,
        "new_group_delay": 60,
    });
    if let Some(minutes) = alarm.no_data_minutes {
        settings["no_data_timeframe"] = json!(minutes);
    }
    if alarm.method == Method::Anomaly {
        settings["threshold_windows"] = json!({"trigger_window": "last_30m", "recovery_window": "last_30m"});
    }
    json!({
        "name": format!("[assize] {}", watch.title),
        "type": "query alert",
        "query": query(alarm),
        "message": message(watch, alarm, options),
        "priority": watch.priority,
        "tags": [MANAGED, format!("{MONITOR_TAG}{}", watch.key), format!("row:{}", watch.row.title().to_lowercase())],
        "options": settings,
    })
}

fn query(alarm: &Alarm) -> String {
    let Alarm { window, comparison, critical, .. } = alarm;
    let series = alarm.expression.in_monitor();
    let value = match alarm.method {
        Method::Level(how) => format!("{how}({window}):{series}"),
        Method::Change(how) => format!("change({how}({window}),last_1d):{series}"),
        Method::PercentChange(how) => format!("pct_change({how}({window}),last_1d):{series}"),
        // The window that must be unusual is a part of the one that is shown; `basic` needs no weeks of history.
        Method::Anomaly => format!(
            "avg({window}):anomalies({series}, 'basic', 3, direction='above', alert_window='last_30m', interval=60, \
             count_default_zero='true')"
        ),
    };
    format!("{value} {comparison} {critical}")
}

fn message(watch: &Watch, alarm: &Alarm, options: &Options) -> String {
    let groups = alarm.expression.queries.first().map_or(&[][..], |query| query.by);
    let of: Vec<String> = groups.iter().map(|tag| format!("{tag} {{{{{tag}.name}}}}")).collect();
    let of = if of.is_empty() { String::new() } else { format!(" ({})", of.join(", ")) };
    let mut remedy = format!("What to do: {}", watch.remedy);
    if let Some(page) = options.runbook_of(watch) {
        write!(remedy, "\nRunbook: {page}").expect("a String can be written");
    }
    let mut text = format!(
        "{{{{#is_alert}}}}\n{}\nNow {{{{value}}}}, limit {{{{threshold}}}}{of}.\n{remedy}\n{{{{/is_alert}}}}\n",
        watch.means
    );
    if alarm.warning.is_some() {
        write!(
            text,
            "{{{{#is_warning}}}}\nOn its way: now {{{{value}}}}, warning at {{{{warn_threshold}}}}{of}.\n{remedy}\n\
             {{{{/is_warning}}}}\n"
        )
        .expect("a String can be written");
    }
    if alarm.no_data_minutes.is_some() {
        write!(text, "{{{{#is_no_data}}}}\n{}\n{remedy}\n{{{{/is_no_data}}}}\n", watch.means)
            .expect("a String can be written");
    }
    text.push_str("{{#is_recovery}}\nIt is over: now {{value}}.\n{{/is_recovery}}\n");
    text + &options.notify.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::table::{tests::loaded, watches};
    use super::*;

    fn all() -> Vec<(String, Value)> {
        let notify = vec!["@slack-llm".to_owned(), "@pagerduty".to_owned()];
        let runbook = Some("https://runbooks.example/assize".to_owned());
        monitors(&watches(&loaded()), &Options { notify, runbook })
    }

    #[test]
    fn the_monitors_are_these() {
        let queries: Vec<String> =
            all().iter().map(|(key, m)| format!("{key}: {}", m["query"].as_str().expect("text"))).collect();
        insta::assert_snapshot!(queries.join("\n"));
        let (_, faithfulness) = all().into_iter().find(|(key, _)| key == "faithfulness").expect("it is there");
        insta::assert_json_snapshot!(faithfulness);
    }

    #[test]
    fn the_query_ends_with_the_critical_threshold() {
        for (key, monitor) in all() {
            let critical = monitor["options"]["thresholds"]["critical"].as_f64().expect("a number");
            let query = monitor["query"].as_str().expect("text");
            let last: f64 = query.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
            assert!((last - critical).abs() < f64::EPSILON, "{key}: {query}");
        }
    }

    #[test]
    fn blocks_of_a_message_are_closed_and_handles_stand_at_the_end() {
        for (key, monitor) in all() {
            let text = monitor["message"].as_str().expect("text");
            for block in ["is_alert", "is_warning", "is_no_data", "is_recovery"] {
                let count = |mark: &str| text.matches(&format!("{{{{{mark}{block}}}}}")).count();
                assert_eq!(count("#"), count("/"), "{key} {block}");
            }
            assert!(text.contains("{{#is_alert}}") && text.ends_with("@slack-llm @pagerduty"), "{key}");
            assert!(text.contains("Runbook: https://runbooks.example/"), "{key}");
        }
    }
}
