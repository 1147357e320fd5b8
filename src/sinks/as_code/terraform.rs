//! Monitors and dashboard as Terraform: resources `datadog_monitor_json` and `datadog_dashboard_json`.
//!
//! Pure; called by `cli::datadog`. Its rule: the JSON is the same as that of the API, in a heredoc in which `${` and `%{` are
//! escaped, so that Terraform reads no template into it. The way not taken: `datadog_monitor` with its own words for each field.

use serde_json::Value;

/// Monitors as resources.
#[must_use]
pub fn monitors(monitors: &[(String, Value)]) -> String {
    let resources: Vec<String> = monitors
        .iter()
        .map(|(key, monitor)| resource("datadog_monitor_json", &format!("assize_{key}"), "monitor", monitor))
        .collect();
    resources.join("\n")
}

/// The dashboard as a resource.
#[must_use]
pub fn dashboard(dashboard: &Value) -> String {
    resource("datadog_dashboard_json", "assize_quality", "dashboard", dashboard)
}

fn resource(kind: &str, name: &str, argument: &str, value: &Value) -> String {
    let json = format!("{value:#}").replace("${", "$${").replace("%{", "%%{");
    format!("resource \"{kind}\" \"{name}\" {{\n  {argument} = <<-JSON\n{json}\nJSON\n}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_terraform_would_read_as_a_template_is_escaped() {
        let text = monitors(&[("x".to_owned(), json!({"message": "{{value}} ${env} %{if}\n", "query": "a{$env}"}))]);
        assert_eq!(
            text,
            "resource \"datadog_monitor_json\" \"assize_x\" {\n  monitor = <<-JSON\n{\n  \"message\": \"{{value}} $${env} \
             %%{if}\\n\",\n  \"query\": \"a{$env}\"\n}\nJSON\n}\n"
        );
    }
}
