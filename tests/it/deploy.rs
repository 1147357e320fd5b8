//! The files that deploy the service say what the program understands.

use super::commands::{file, run, text};
use serde::Deserialize;
use yaml_serde::Value;

fn manifests() -> Vec<Value> {
    let text = include_str!("../../deploy/kubernetes/assize.yaml");
    yaml_serde::Deserializer::from_str(text).map(|one| Value::deserialize(one).expect("it is YAML")).collect()
}

#[tokio::test]
async fn the_manifests_configuration_is_taken() {
    let map = manifests().into_iter().find(|m| m["kind"] == "ConfigMap").expect("there is one");
    let settings = map["data"]["assize.toml"].as_str().expect("a file");
    let (_dir, config) = file("assize.toml", settings);
    let tokens = [
        ("ASSIZE_INGEST_TOKEN", "0123456789abcdef0123"),
        ("ASSIZE_READ_TOKEN", "fedcba98765432100123"),
        ("OPENAI_API_KEY", "k"),
    ];
    let ran = run(&["rubric", "check", "rubrics/faithfulness.yaml", "--config", text(&config)], &tokens).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

#[test]
fn every_role_is_deployed_and_has_time_to_stop() {
    let all = manifests();
    let mut roles = Vec::new();
    for deployment in all.iter().filter(|m| m["kind"] == "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let args: Vec<&str> =
            container["args"].as_sequence().expect("a list").iter().filter_map(Value::as_str).collect();
        let at = args.iter().position(|arg| *arg == "--roles").expect("it names its roles");
        roles.extend(args[at + 1].split(',').map(str::to_owned));
        assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(30), "longer than server.drain_ms");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert!(
                !container[probe]["httpGet"]["path"].is_null(),
                "{probe} of {}",
                deployment["metadata"]["name"].as_str().unwrap_or_default()
            );
        }
    }
    roles.sort();
    assert_eq!(roles, ["export", "ingest", "watch", "web", "work"]);
    assert!(include_str!("../../deploy/assize.service").contains("/usr/local/bin/assize serve --config"));
}
