//! The commands as a user runs them: output, exit codes, errors that name the place and the remedy.

use crate::support::program::assize;
use crate::support::{database, fixture, traces};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(super) struct Ran {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

pub(super) async fn run(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = assize(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(env.iter().copied());
    let output = tokio::time::timeout(crate::support::PATIENCE, command.output()).await;
    let output = output.expect("it ends in time").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(super) fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    std::fs::write(&path, content).expect("a file can be written");
    (dir, path)
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[tokio::test]
async fn the_demo_tells_its_story() {
    let url = database().await;
    let ran = run(&["demo", "--once", "--json", "--port", "0"], &[("DATABASE_URL", url.expose_secret())]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("SIMULATED") && ran.out.contains("SIMULATED"), "simulated verdicts are called so");
    let line: Value = serde_json::from_str(ran.out.lines().last().expect("a line")).expect("the last line is JSON");
    assert!(line["traces"].as_i64() >= Some(400) && line["kept"].as_i64() < line["traces"].as_i64(), "{line}");
    let names = ["answer_relevance", "failure_to_answer", "faithfulness", "json_validity", "tone_and_brand"];
    assert!(names.iter().all(|name| line["rubrics"][name]["n"].as_i64() > Some(20)), "{line}");
    let pass =
        |version: &str, rubric: &str| line["by_prompt_version"][version]["rubrics"][rubric]["pass_rate"].as_f64();
    for rubric in ["faithfulness", "json_validity"] {
        let (old, wording, new) =
            (pass("2026-10-06.1", rubric), pass("2026-11-02.1", rubric), pass("2026-11-20.1", rubric));
        let (old, wording, new) = (old.expect("a rate"), wording.expect("a rate"), new.expect("a rate"));
        assert!(old - new > 0.15, "{rubric}: the newest version is worse: {old} {new}");
        assert!((old - wording).abs() < 0.1, "{rubric}: the wording change is not: {old} {wording}");
    }
    assert!(ran.out.contains("] Opened: faithfulness: mean score fell"), "{}", ran.out);
    // What it says to do next works: a report, the alert and a trace.
    let environment = [("DATABASE_URL", url.expose_secret()), ("ASSIZE__DATABASE__NAME", "assize_demo")];
    assert!(ran.out.contains("export ASSIZE__DATABASE__NAME=assize_demo"), "{}", ran.out);
    let (mut tried, mut failed) = (0, Vec::new());
    for command in ran.out.lines().filter_map(|line| line.strip_prefix("  assize ")) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let next = run(&words, &environment).await;
        tried += 1;
        if next.code != Some(0) || next.out.is_empty() {
            failed.push((command, next.err));
        }
    }
    assert_eq!((tried, failed), (3, Vec::new()));
}

#[tokio::test]
async fn eval_judges_a_file_and_gates_by_min() {
    let traces: String = traces::many("t", 4).iter().map(|t| format!("{t}\n")).collect();
    let (dir, path) = file("traces.jsonl", &traces);
    let out = dir.path().join("verdicts.jsonl");
    let common =
        ["eval", text(&path), "--judge", "sim", "--only", "faithfulness,failure_to_answer", "--out", text(&out)];
    let ran = run(&[&common[..], &["--min", "faithfulness=0.9"]].concat(), &[]).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let lines = std::fs::read_to_string(&out).expect("verdicts were written");
    let verdicts: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(verdicts.len(), 8);
    assert!(verdicts.iter().all(|v| v["outcome"] == "scored" && v["score"].is_number()));
    let (_dir, bad) = file("bad.jsonl", &traces::trace("t", "You have 365 days and get 50 euros.").to_string());
    let ran =
        run(&["eval", text(&bad), "--judge", "sim", "--only", "faithfulness", "--min", "faithfulness=0.9"], &[]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.err.contains("below 0.9"), "{}", ran.err);
}

#[tokio::test]
async fn eval_runs_a_check_by_itself_on_any_form_of_input() {
    let capture = fixture("openinference-openai.json");
    let ran = run(&["eval", text(&capture), "--only", "check:json_validity", "--json"], &[]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let result: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(result["rubrics"]["check:json_validity"]["n"], 1, "{result}");
    let capture = fixture("otel-genai-openai-span.pb");
    let ran = run(&["eval", text(&capture), "--only", "check:failure_to_answer", "--json"], &[]).await;
    let result: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(result["rubrics"]["check:failure_to_answer"]["n"], 9, "{result}");
}

#[tokio::test]
async fn bad_input_is_exit_code_2_with_place_and_remedy() {
    let (_a, config) = file("assize.toml", "[server]\nlissten = \"127.0.0.1:1\"\n");
    let (_b, traces) = file("traces.jsonl", "{\"output\": \"no id\"}\nnonsense\n");
    let (c, rubric) = file("tone.yaml", "name: tone\nchecks: [groundin]\n");
    let empty = tempfile::tempdir().expect("a folder");
    for (args, env, words) in [
        (vec!["doctor", "--config", text(&config)], vec![], vec!["line 2", "did you mean `listen`"]),
        (vec!["doctor", "--config", "/nowhere/assize.toml"], vec![], vec!["/nowhere/assize.toml", "--config"]),
        (vec!["migrate"], vec![("DATABASE_URL", "mysql://x")], vec!["database.url", "postgres://"]),
        (vec!["migrate"], vec![("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")], vec!["127.0.0.1:1", "running"]),
        (vec!["eval", text(&traces)], vec![], vec!["traces.jsonl: line 1", "trace_id", "line 2"]),
        (
            vec!["eval", text(&fixture("openinference-openai.pb")), "--rubrics", text(c.path())],
            vec![],
            vec!["tone.yaml:2", "did you mean `grounding`"],
        ),
        (
            vec!["eval", text(&fixture("openinference-openai.pb")), "--rubrics", text(empty.path())],
            vec![],
            vec!["*.yaml"],
        ),
        (
            vec!["eval", text(&fixture("openinference-openai.pb")), "--only", "check:nothing"],
            vec![],
            vec!["json_validity"],
        ),
        (vec!["serve"], vec![("ASSIZE__SERVER__LISTEN", "0.0.0.0:0")], vec!["server.listen", "token"]),
        (vec!["serve"], vec![("ASSIZE__NONSENSE__X", "1")], vec!["nonsense"]),
    ] {
        let ran = run(&args, &env).await;
        assert_eq!(ran.code, Some(2), "{args:?}: {}{}", ran.out, ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{args:?} should say {word}: {}", ran.err);
        }
        assert!(!ran.err.contains("hunter2"), "a password is never shown: {}", ran.err);
    }
    drop(rubric);
}

#[tokio::test]
async fn doctor_explain_and_queue_answer_about_a_database() {
    let url = database().await;
    let env = [("DATABASE_URL", url.expose_secret())];
    assert_eq!(run(&["migrate"], &env).await.code, Some(0));
    let doctor = run(&["doctor", "--json"], &env).await;
    let report: Value = serde_json::from_str(&doctor.out).expect("JSON");
    // The shipped rubrics have panels and no judge is configured: that is said, and it is a finding.
    assert_eq!((doctor.code, report["healthy"].as_bool()), (Some(1), Some(false)), "{report}");
    assert!(doctor.out.contains("set OPENAI_API_KEY"), "{report}");
    let unknown = run(&["explain", "5b8efff798038103d269b633813fc60c"], &env).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.out.contains("would be kept"), "{}", unknown.out);
    let queue = run(&["queue", "stats", "--json"], &env).await;
    let stats: Value = serde_json::from_str(&queue.out).expect("JSON");
    assert_eq!((stats["ready"].as_i64(), stats["open_traces"].as_i64()), (Some(0), Some(0)));
}

/// What docker-compose.yml would start, started by hand with the same settings: the simulated judge and the service, each as
/// its own process, with the mounted configuration and the tokens of the file.
#[tokio::test]
async fn the_compose_files_services_start_with_their_settings() {
    let compose: yaml_serde::Value =
        yaml_serde::from_str(include_str!("../../docker-compose.yml")).expect("the file is YAML");
    let services = &compose["services"];
    let words = |name: &str| -> Vec<String> {
        let list = services[name]["command"].as_sequence().expect("a command");
        list.iter().map(|word| word.as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(words("assize")[..2], ["assize", "serve"]);
    assert_eq!(words("sim")[..2], ["assize", "sim"]);
    for name in ["postgres", "assize", "sim", "prometheus", "datadog-agent"] {
        assert!(!services[name]["healthcheck"]["test"].is_null(), "{name} has no health check");
    }
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let (judge_port, port) = (free(), free());
    let mut judge = assize(&["sim", "--listen", &format!("127.0.0.1:{judge_port}")]).spawn().expect("sim starts");
    let settings =
        include_str!("../../deploy/assize.compose.toml").replace("sim:8090", &format!("127.0.0.1:{judge_port}"));
    let (_dir, config) = file("assize.toml", &settings);
    let url = database().await;
    let mut serve = assize(&["serve", "--config", text(&config)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("DATABASE_URL", url.expose_secret())
        .env("ASSIZE__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("ASSIZE_INGEST_TOKEN", "dev-in")
        .env("ASSIZE_READ_TOKEN", "dev-read")
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("serve starts");
    for url in [format!("http://127.0.0.1:{judge_port}/health"), format!("http://127.0.0.1:{port}/readyz")] {
        crate::support::eventually("the health check passes", || async {
            (run(&["health", "--url", &url], &[]).await.code == Some(0)).then_some(())
        })
        .await;
    }
    let http = assize::runtime::http::client(crate::support::PATIENCE).expect("an HTTP client");
    let base = format!("http://127.0.0.1:{port}");
    let send = http.post(format!("{base}/api/v1/traces")).json(&traces::trace("t", "Yes, within 30 days."));
    assert_eq!(send.bearer_auth("dev-in").send().await.expect("it answers").status(), 200);
    crate::support::eventually("it is judged by the simulated panel", || async {
        let asked = http.get(format!("{base}/api/v1/verdicts?rubric=faithfulness")).bearer_auth("dev-read");
        let page: Value = asked.send().await.ok()?.json().await.ok()?;
        (page["verdicts"][0]["votes"].as_array()?.len() == 2).then_some(())
    })
    .await;
    serve.kill().await.expect("it can be killed");
    judge.kill().await.expect("it can be killed");
}

#[tokio::test]
async fn a_person_pauses_and_resumes_and_doctor_says_so() {
    let url = database().await;
    let env = [
        ("DATABASE_URL", url.expose_secret()),
        ("OPENAI_API_KEY", "sk-none"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1"),
    ];
    let migrated = run(&["migrate"], &env).await;
    assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    let paused = run(&["queue", "pause", "--judge", "gpt-4o-mini", "--reason", "too dear today"], &env).await;
    assert_eq!(paused.code, Some(0), "{}", paused.err);
    assert!(paused.out.contains("judge gpt-4o-mini: paused"), "{}", paused.out);
    let all = run(&["queue", "pause", "--json"], &env).await;
    assert_eq!(all.out.trim(), r#"{"queue":"all","result":"paused; workers hear of it within two seconds"}"#);
    let doctor = run(&["doctor", "--json"], &env).await;
    assert_eq!(doctor.code, Some(1));
    for words in ["too dear today", "assize queue resume --judge gpt-4o-mini", "the queue is paused"] {
        assert!(doctor.out.contains(words), "{words}: {}", doctor.out);
    }
    let stats = run(&["queue", "stats"], &env).await;
    assert!(stats.out.contains("paused: judge gpt-4o-mini"), "{}", stats.out);
    let resumed = run(&["queue", "resume", "--judge", "gpt-4o-mini"], &env).await;
    assert!(resumed.out.contains("judge gpt-4o-mini: resumed"), "{}", resumed.out);
    let again = run(&["queue", "resume", "--judge", "gpt-4o-mini"], &env).await;
    assert!(again.out.contains("was not paused"), "{}", again.out);
    let wrong = run(&["queue", "pause", "--judge", "gtp"], &env).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains("there is no judge `gtp`"), "{}", wrong.err);
}
