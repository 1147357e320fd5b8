//! Rubric files as people work on them: checked, tested, compared, and edited under a running service.

use crate::support::program::{Program, assize};
use crate::support::{PATIENCE, Service, config, database, eventually, for_a_while, sim, traces, with_judges};
use assize::llm::sim::Faults;
use assize::rubrics::parse::{Surroundings, parse};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn run(args: &[&str]) -> Ran {
    let mut command = assize(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends in time").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[tokio::test]
async fn the_shelf_is_clean_and_agrees_with_the_simulated_judge_where_that_can_know() {
    let checked = run(&["rubric", "check", "rubrics", "--json"]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
    let report: Value = serde_json::from_str(&checked.out).expect("JSON");
    let files = report["files"].as_array().expect("a list");
    assert!(files.len() >= 16, "{}", files.len());
    for file in files {
        assert!(file["tests"].as_u64() >= Some(6), "{file}");
        assert_eq!(file["problems"], serde_json::json!([]), "{file}");
    }
    let junit = tempfile::NamedTempFile::new().expect("a file");
    let tested = run(&["rubric", "test", "rubrics", "--judge", "sim", "--json", "--junit", text(junit.path())]).await;
    let report: Value = serde_json::from_str(&tested.out).expect("JSON");
    assert_eq!((tested.code, report["failed"].as_u64()), (Some(0), Some(0)), "{report}");
    assert!(report["passed"].as_u64() > Some(60), "{report}");
    let xml = std::fs::read_to_string(junit.path()).expect("a report");
    assert_eq!(xml.matches("<testsuite ").count(), files.len());
    assert!(xml.contains("<skipped message=\"the simulated judge cannot know this\"/>"), "{xml}");
}

#[tokio::test]
async fn mistakes_are_shown_all_at_once_with_their_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("tone.yaml");
    let broken = "name: tone\npanel: default\nsampel: 0.5\noutput: {type: category, values: {polite: 1, rude: 2}}\nprompt: |\n  {{ answr }}\n  polite or rude?\n";
    std::fs::write(&file, broken).expect("it can be written");
    let ran = run(&["rubric", "check", text(&file)]).await;
    assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
    insta::assert_snapshot!(ran.out.replace(text(dir.path()), "rubrics"));
    std::fs::write(
        &file,
        broken.replace("sampel", "sample").replace("answr", "answer").replace("rude: 2", "rude: 0.6"),
    )
    .expect("it can be written");
    let ran = run(&["rubric", "check", text(&file), "--json"]).await;
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, report["warnings"].as_u64()), (Some(1), Some(2)), "{report}");
}

#[tokio::test]
async fn a_new_rubric_can_be_checked_tested_shown_and_compared() {
    let dir = tempfile::tempdir().expect("a folder");
    let ran = run(&["rubric", "new", "warmth", "--dir", text(dir.path()), "--labels", "warm=1,rude=0"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let file = dir.path().join("warmth.yaml");
    assert!(ran.out.contains("assize rubric test") && dir.path().join("schema.json").exists(), "{}", ran.out);
    let again = run(&["rubric", "new", "warmth", "--dir", text(dir.path())]).await;
    assert_eq!(again.code, Some(2), "somebody's file is not written over: {}", again.out);
    assert_eq!(run(&["rubric", "new", "Warmth!"]).await.code, Some(2));
    let checked = run(&["rubric", "check", text(&file)]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.out);
    let source = std::fs::read_to_string(&file).expect("it was written");
    // Now the simulated judge must know, and it says that nothing stands out.
    std::fs::write(&file, source.replace("simulated: false", "simulated: true")).expect("it can be written");
    let tested = run(&["rubric", "test", text(&file), "--judge", "sim", "--times", "3"]).await;
    assert_eq!(tested.code, Some(1), "{}", tested.out);
    assert!(
        tested.out.contains("1 pass, 1 fail, 0 flip in 3 runs") && tested.out.contains("must fail, and passes"),
        "{}",
        tested.out
    );
    let other = dir.path().join("other.yaml");
    std::fs::write(&other, source.replace("pass: 0.5 ", "pass: 0.7 ").replace("title: \"warmth\"", "title: Warmth"))
        .expect("it can be written");
    let diff = run(&["rubric", "diff", text(&file), text(&other), "--json"]).await;
    let report: Value = serde_json::from_str(&diff.out).expect("JSON");
    let keys: Vec<&str> =
        report["changes"].as_array().expect("a list").iter().filter_map(|c| c["key"].as_str()).collect();
    assert_eq!(keys, ["pass", "title"], "{report}");
    assert_ne!(report["from"], report["to"]);
    let shown = run(&["rubric", "show", text(&file), "--prompt"]).await;
    assert!(shown.out.contains("<<<ANSWER ") && shown.out.contains("--- system"), "{}", shown.out);
    let listed = run(&["rubric", "list", "--json"]).await;
    assert!(listed.out.contains("\"no_judge\""), "{}", listed.out);
    let unknown = run(&["rubric", "show", "faithfulnes"]).await;
    assert!(unknown.code == Some(2) && unknown.err.contains("did you mean `faithfulness`"), "{}", unknown.err);
}

#[tokio::test]
async fn diff_shows_whose_verdicts_change() {
    let dir = tempfile::tempdir().expect("a folder");
    let of = |limit: &str| format!("name: x\nchecks:\n  - grounding: {{fail_below: {limit}, pass_above: {limit}}}\n");
    let files = ["a.yaml", "b.yaml"].map(|name| dir.path().join(name));
    std::fs::write(&files[0], of("0.0")).expect("it can be written");
    std::fs::write(&files[1], of("0.6")).expect("it can be written");
    let odd = "Sofas can be returned within 90 days and you get a voucher.";
    let lines: Vec<String> =
        [traces::trace("good", "Sofas can be returned within 30 days."), traces::trace("odd", odd)]
            .iter()
            .map(Value::to_string)
            .collect();
    let input = dir.path().join("t.jsonl");
    std::fs::write(&input, lines.join("\n")).expect("it can be written");
    let ran = run(&["rubric", "diff", text(&files[0]), text(&files[1]), "--trace-file", text(&input), "--json"]).await;
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["verdicts"]["judged"], 2, "{}{}", ran.out, ran.err);
    for changed in report["verdicts"]["differ"].as_array().expect("a list") {
        assert_eq!((&changed["from"]["passed"], &changed["to"]["passed"]), (&true.into(), &false.into()), "{report}");
    }
    assert_eq!(report["verdicts"]["differ"][0]["from"]["trace_id"], "odd", "{report}");
}

/// A rubric of one free check; `limit` makes its version.
fn checked(limit: f64, more: &str) -> String {
    format!("name: a\nchecks:\n  - failure_to_answer: {{fail_below: {limit}}}\n{more}")
}

fn version(source: &str) -> String {
    let around = Surroundings { panels: &BTreeMap::new(), shared: &BTreeMap::new() };
    parse(Path::new("a.yaml"), source, around).expect("valid").rubric.version
}

async fn entry(service: &Service, name: &str) -> Value {
    let all = service.get("/api/v1/rubrics").await;
    let found = all["rubrics"].as_array().expect("a list").iter().find(|r| r["name"] == name);
    found.cloned().unwrap_or_default()
}

async fn until(service: &Service, state: &str, version: &str) -> Value {
    eventually(&format!("the rubric is {state} at {version}"), || async {
        let found = entry(service, "a").await;
        (found["state"] == state && found["version"] == version).then_some(found)
    })
    .await
}

#[tokio::test]
async fn an_edit_is_taken_while_the_service_runs_and_a_bad_one_is_not() {
    let first = checked(0.5, "");
    let config = config(&[&first]);
    let file = config.rubrics.dir.join("0.yaml");
    let service = Service::start(config).await;
    until(&service, "active", &version(&first)).await;
    service.send(&[traces::trace("t1", "Within 30 days.")]).await;
    service.verdicts(1).await;
    let second = checked(0.6, "tests:\n  - {trace: {input: Hi, output: Hello}, expect: {passed: true}}\n");
    std::fs::write(&file, &second).expect("it can be written");
    until(&service, "active", &version(&second)).await;
    service.send(&[traces::trace("t2", "Within 30 days.")]).await;
    let verdicts = service.verdicts(2).await;
    let by = |id: &str| verdicts.iter().find(|v| v.trace_id == id).expect("a verdict").rubric_version.clone();
    assert_eq!((by("t1"), by("t2")), (version(&first), version(&second)), "each under its own version");

    std::fs::write(&file, second.replace("checks", "chekcs")).expect("it can be written");
    let broken = until(&service, "unparsable", &version(&second)).await;
    let why = broken["why"].as_str().expect("a reason");
    assert!(
        why.contains("0.yaml:2:1") && why.contains("did you mean `checks`") && why.contains("still judges"),
        "{why}"
    );
    let wrong =
        checked(0.7, "tests:\n  - {name: greets, trace: {input: Hi, output: Hello}, expect: {passed: false}}\n");
    std::fs::write(&file, &wrong).expect("it can be written");
    let failing = until(&service, "failing_tests", &version(&second)).await;
    assert!(failing["why"].as_str().is_some_and(|why| why.contains("greets: must fail, and passes")), "{failing}");
    let metrics = service
        .http
        .get(format!("{}/metrics", service.base))
        .send()
        .await
        .expect("metrics")
        .text()
        .await
        .expect("text");
    for line in [
        "assize_rubric_state{rubric=\"a\",state=\"failing_tests\"} 1",
        "assize_rubric_state{rubric=\"a\",state=\"active\"} 0",
        "assize_rubric_judging{rubric=\"a\"} 1",
        "assize_rubric_changes_total{result=\"refused\",rubric=\"a\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    service.send(&[traces::trace("t3", "Within 30 days.")]).await;
    let verdicts = service.verdicts(3).await;
    assert_eq!(
        verdicts.iter().filter(|v| v.rubric_version == version(&second)).count(),
        2,
        "the last good one judges on"
    );
    std::fs::write(&file, checked(0.8, "paused: true\n")).expect("it can be written");
    eventually("it is paused", || async { (entry(&service, "a").await["state"] == "paused").then_some(()) }).await;
    std::fs::write(&file, wrong.replace("passed: false", "passed: true")).expect("it can be written");
    until(&service, "active", &version(&wrong)).await;
}

#[tokio::test]
async fn the_gate_asks_the_panel_and_the_folder_may_be_swapped_as_a_config_map_is() {
    let (_sim, base) = sim(Faults::default()).await;
    let mount = tempfile::tempdir().expect("a folder");
    let publish = |name: &str, text: &str| {
        let dir = mount.path().join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("a.yaml"), text).expect("it can be written");
        let fresh = mount.path().join("..data_tmp");
        std::os::unix::fs::symlink(name, &fresh).expect("a link");
        std::fs::rename(&fresh, mount.path().join("..data")).expect("an atomic swap");
    };
    let of = |pass: f64, passed: bool| {
        format!(
            "name: a\npanel: default\npass: {pass}\nprompt: \"{{{{ answer }}}} 0 or 1?\"\ntests:\n  - trace: {{output: Fine.}}\n    expect: {{passed: {passed}}}\n"
        )
    };
    publish("..one", &of(0.5, true));
    std::os::unix::fs::symlink("..data/a.yaml", mount.path().join("a.yaml")).expect("a link");
    let mut config = config(&[]);
    config.rubrics.dir = mount.path().to_owned();
    with_judges(&mut config, &base, &["a", "b"]);
    let service = Service::start(config).await;
    let panels = BTreeMap::from([("default".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
    let version = |text: &str| {
        let around = Surroundings { panels: &panels, shared: &BTreeMap::new() };
        parse(Path::new("a.yaml"), text, around).expect("valid").rubric.version
    };
    until(&service, "active", &version(&of(0.5, true))).await;
    publish("..two", &of(0.4, true));
    until(&service, "active", &version(&of(0.4, true))).await;
    // The simulated judges give about 0.8: this test cannot hold.
    publish("..three", &of(0.3, false));
    until(&service, "failing_tests", &version(&of(0.4, true))).await;
    publish("..four", &of(0.3, true));
    until(&service, "active", &version(&of(0.3, true))).await;
}

#[tokio::test]
async fn sighup_reads_the_rubrics_again_and_ends_nothing() {
    let program = Program::serve(&database().await, &config(&[&checked(0.5, "")]), "info").await;
    eventually("the signal is heard", || async {
        program.signal("HUP").await;
        program.log().contains("SIGHUP").then_some(())
    })
    .await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
}

/// The edits that people, editors and machines make.
struct Editor {
    dir: PathBuf,
    random: u64,
    /// Versions that stood whole in the file.
    whole: BTreeSet<String>,
    last: String,
}

impl Editor {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    async fn edit(&mut self, n: u32) {
        let file = self.dir.join("0.yaml");
        // What makes the version stands last: half of the file is a rubric too, but none that was ever meant.
        let text = format!(
            "name: a\nchecks: [failure_to_answer]\napplies_when:\n  service: [shop, v{n}]\npass: 0.{:03}1\n",
            n % 1000
        );
        match self.draw(6) {
            0 | 1 => {
                let fresh = self.dir.join(".0.yaml.swp");
                std::fs::write(&fresh, &text).expect("it can be written");
                std::fs::rename(&fresh, &file).expect("an atomic rename");
                self.took(text);
            }
            2 | 3 => {
                let at = usize::try_from(self.draw(text.len() as u64)).expect("small");
                std::fs::write(&file, &text[..at]).expect("half of it");
                for_a_while(Duration::from_millis(self.draw(12))).await;
                std::fs::write(&file, &text).expect("all of it");
                self.took(text);
            }
            4 => std::fs::write(&file, "name: [broken\n").expect("it can be written"),
            _ => {
                std::fs::remove_file(&file).ok();
                for_a_while(Duration::from_millis(self.draw(5))).await;
                std::fs::write(&file, &text).expect("it can be written");
                self.took(text);
            }
        }
    }

    fn took(&mut self, text: String) {
        self.whole.insert(version(&text));
        self.last = text;
    }
}

/// A thousand random edits while traces are judged: every trace has its one verdict, and each was made under a version that once
/// stood whole in the file.
#[tokio::test]
async fn a_thousand_edits_lose_nothing_and_no_half_file_is_applied() {
    let first = "name: a\nchecks: [failure_to_answer]\n".to_owned();
    let config = config(&[&first]);
    let dir = config.rubrics.dir.clone();
    let service = Service::start(config).await;
    let mut editor = Editor { dir, random: 42, whole: BTreeSet::from([version(&first)]), last: first };
    let mut sent = 0;
    for n in 0..1_000 {
        editor.edit(n).await;
        if n % 25 == 0 {
            let more: Vec<Value> = (0..8).map(|i| traces::trace(&format!("t{n}-{i}"), "Within 30 days.")).collect();
            service.send(&more).await;
            sent += more.len();
            // Long enough for a reload: else none would be taken before the end.
            for_a_while(Duration::from_millis(400)).await;
        }
    }
    let last = editor.last.clone();
    std::fs::write(editor.dir.join("0.yaml"), &last).expect("it can be written");
    until(&service, "active", &version(&last)).await;
    let verdicts = service.verdicts(sent).await;
    let traces: BTreeSet<&str> = verdicts.iter().map(|v| v.trace_id.as_str()).collect();
    assert_eq!(traces.len(), sent, "one verdict for each trace");
    let strange: Vec<&str> =
        verdicts.iter().map(|v| v.rubric_version.as_str()).filter(|v| !editor.whole.contains(*v)).collect();
    assert!(strange.is_empty(), "versions that nobody wrote: {strange:?}");
    let used: BTreeSet<&str> = verdicts.iter().map(|v| v.rubric_version.as_str()).collect();
    assert!(used.len() > 5, "reloads happened meanwhile: {}", used.len());
}
