//! `eval`, `rubric diff` on traces, and `explain`, as the program is run: what they cost, what they go on from, what they show.

use crate::support::program::assize;
use crate::support::{JUDGED, PATIENCE, Service, config, database, eventually, for_a_while, sim, traces, with_judges};
use assize::config::Config;
use assize::llm::sim::Faults;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

async fn run_in(dir: &Path, args: &[&str], env: &[(&str, &str)], input: &[u8]) -> Ran {
    let mut command = assize(args);
    command.current_dir(dir).envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input).await.ok();
    drop(stdin);
    let output =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time").expect("it ran");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder with a configuration and its rubrics, beside which commands run.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(config: &Config) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("assize.toml"), config.redacted()).expect("it can be written");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.path(name), text).expect("it can be written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    async fn run(&self, args: &[&str]) -> Ran {
        run_in(self.dir.path(), args, &[], b"").await
    }
}

/// Traces whose answers are all different, so that no cache could hide a second judging.
fn different(count: usize) -> Vec<Value> {
    (0..count).map(|n| traces::trace(&format!("t{n:03}"), &format!("Within {n} days."))).collect()
}

#[tokio::test]
async fn a_run_that_is_killed_goes_on_and_nothing_is_judged_twice() {
    let (sim, base) = sim(Faults { latency_ms: 60, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let desk = Desk::new(&config);
    desk.write("traces.jsonl", &different(120));
    let args = ["eval", "traces.jsonl", "--out", "out.jsonl", "--concurrency", "4"];
    let mut child = assize(&args)
        .current_dir(desk.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    eventually("a part is judged", || async {
        let text = std::fs::read_to_string(desk.path("out.jsonl")).unwrap_or_default();
        (text.lines().count() >= 20).then_some(())
    })
    .await;
    child.kill().await.expect("it can be killed");
    // Until its last requests are counted.
    for_a_while(Duration::from_millis(300)).await;
    let written = desk.read("out.jsonl").lines().count();
    assert!(written < 120, "it was killed before its end");
    // What a kill in the middle of a write leaves.
    let mut text = desk.read("out.jsonl");
    text.push_str("{\"trace_id\":\"t119\",\"rubr");
    std::fs::write(desk.path("out.jsonl"), text).expect("it can be written");
    let before = sim.stats().requests;
    sim.set_faults(Faults::default());
    let ran = desk.run(&args).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("are there already"), "{}", ran.err);
    assert_eq!(sim.stats().requests - before, 120 - written as u64, "only what was missing is asked");
    let ids: Vec<String> = desk.lines("out.jsonl").iter().map(|v| v["trace_id"].to_string()).collect();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    assert!(ids.is_sorted(), "in the order of the traces");
    let again = desk.run(&[&args[..], &["--json"]].concat()).await;
    assert_eq!((again.json()["reused"].as_u64(), sim.stats().requests - before), (Some(120), 120 - written as u64));
    // Another trace under an id that is there is another question.
    desk.write("traces.jsonl", &[different(119), vec![traces::trace("t119", "Changed.")]].concat());
    let changed = desk.run(&[&args[..], &["--json"]].concat()).await;
    assert_eq!(changed.json()["reused"], 119, "{}", changed.err);
    let fresh = desk.run(&[&args[..], &["--json", "--fresh"]].concat()).await;
    assert_eq!(fresh.json()["reused"], 0);
}

#[tokio::test]
async fn what_a_judge_failed_at_is_asked_again() {
    let (sim, base) = sim(Faults { garbage_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let desk = Desk::new(&config);
    desk.write("traces.jsonl", &different(3));
    let args = ["eval", "traces.jsonl", "--out", "out.jsonl", "--json", "--junit", "junit.xml"];
    let failed = desk.run(&args).await;
    assert_eq!(failed.json()["rubrics"]["judged"]["outcomes"]["judge_error"], 3, "{}", failed.err);
    assert_eq!(desk.read("junit.xml").matches("<error ").count(), 3);
    sim.set_faults(Faults::default());
    let healed = desk.run(&args).await;
    assert_eq!(
        (healed.json()["rubrics"]["judged"]["n"].as_u64(), healed.json()["reused"].as_u64()),
        (Some(3), Some(0))
    );
    assert_eq!(desk.lines("out.jsonl").len(), 3);
}

/// One free rubric that passes what is supported by the context.
const SUPPORTED: &str = "name: supported\nchecks: [grounding]\npass: 0.5\n";

const GOOD: &str = "Sofas can be returned within 30 days of delivery.";
const BAD: &str = "Sofas can be returned within 365 days and you get a voucher of 50 euros.";

#[tokio::test]
async fn a_run_is_held_against_another_and_gates_say_no() {
    let desk = Desk::new(&config(&[SUPPORTED]));
    let answers = |bad: usize| -> Vec<Value> {
        (0..40).map(|n| traces::trace(&format!("<b>|t{n:02}"), if n < bad { BAD } else { GOOD })).collect()
    };
    desk.write("before.jsonl", &answers(2));
    desk.write("now.jsonl", &[answers(14), vec![traces::trace("new", GOOD)]].concat());
    let first = desk.run(&["eval", "before.jsonl", "--out", "base.jsonl", "--min", "supported=0.9"]).await;
    assert_eq!(first.code, Some(0), "{}{}", first.out, first.err);
    let sure = desk.run(&["eval", "before.jsonl", "--min", "supported=0.9", "--confident"]).await;
    assert_eq!(sure.code, Some(1), "38 of 40 may be fewer than nine of ten: {}", sure.out);
    assert!(sure.err.contains("lower bound of the pass rate"), "{}", sure.err);
    let args = [
        "eval",
        "now.jsonl",
        "--baseline",
        "base.jsonl",
        "--no-worse",
        "supported=0.05",
        "--junit",
        "r.xml",
        "--markdown",
        "r.md",
        "--html",
        "r.html",
    ];
    let worse = desk.run(&args).await;
    assert_eq!(worse.code, Some(1), "{}{}", worse.out, worse.err);
    assert!(worse.err.contains("the drop is 0.300, above 0.05"), "{}", worse.err);
    for words in ["95.0 % → 65.0 %", "-30.0", "12 fail, 0 pass", "worse"] {
        assert!(worse.out.contains(words), "{words}: {}", worse.out);
    }
    let paired = desk.run(&[&args[..], &["--json"]].concat()).await.json()["baseline"]["rubrics"]["supported"].clone();
    assert_eq!((paired["n"].as_u64(), paired["passed"]["second_only"].as_u64()), (Some(40), Some(12)), "{paired}");
    assert_eq!((&paired["only_now"], &paired["only_before"]), (&json!(1), &json!(0)));
    assert!(paired["passed"]["p_value"].as_f64() < Some(0.001) && paired["mean_interval"]["high"].as_f64() < Some(0.0));
    let same = desk.run(&["eval", "before.jsonl", "--baseline", "base.jsonl", "--no-worse", "supported=0"]).await;
    assert_eq!(same.code, Some(0), "{}", same.err);
    let (markdown, xml, page) = (desk.read("r.md"), desk.read("r.xml"), desk.read("r.html"));
    assert!(markdown.contains("1 of 1 gates do not hold") && markdown.contains("12 verdicts turned"), "{markdown}");
    assert!(!markdown.contains("<b>") && !markdown.contains("voucher"), "{markdown}");
    assert_eq!((xml.matches("<testcase ").count(), xml.matches("<failure ").count()), (41, 14));
    assert!(
        page.contains("<svg") && page.contains("default-src 'none'") && !page.contains("<b>"),
        "all text is escaped"
    );
    for outside in ["http://", "https://", "<script", "url(", "src="] {
        assert!(!page.contains(outside), "{outside} is loaded from elsewhere");
    }
    for (wrong, word) in [
        (vec!["eval", "now.jsonl", "--min", "suported=0.9"], "did you mean `supported`"),
        (vec!["eval", "now.jsonl", "--no-worse", "supported=0.9"], "--baseline"),
        (vec!["eval", "now.jsonl", "--baseline", "now.jsonl"], "--out has written"),
        (vec!["eval", "now.jsonl", "--out", "before.jsonl"], "--fresh"),
    ] {
        let ran = desk.run(&wrong).await;
        assert_eq!(ran.code, Some(2), "{wrong:?}: {}", ran.out);
        assert!(ran.err.contains(word), "{wrong:?}: {}", ran.err);
    }
}

#[tokio::test]
async fn reports_show_text_only_when_asked_and_then_redacted() {
    let mut config = config(&[SUPPORTED]);
    config.redaction = toml::from_str("email = \"mask\"").expect("a section");
    let desk = Desk::new(&config);
    desk.write(
        "t.jsonl",
        &[traces::trace("t", "Write to bob.miller@example.com for a voucher of 50 euros and 365 days.")],
    );
    let args = ["eval", "t.jsonl", "--html", "r.html", "--markdown", "r.md", "--junit", "r.xml"];
    desk.run(&args).await;
    assert!(!desk.read("r.html").contains("voucher"));
    desk.run(&[&args[..], &["--show-content"]].concat()).await;
    let page = desk.read("r.html");
    assert!(page.contains("voucher") && page.contains("How long do I have"), "{page}");
    for name in ["r.html", "r.md", "r.xml"] {
        assert!(!desk.read(name).contains("bob.miller"), "{name}");
    }
}

#[tokio::test]
async fn files_come_as_globs_folders_and_standard_input() {
    let desk = Desk::new(&config(&[SUPPORTED]));
    std::fs::create_dir_all(desk.path("in/deep")).expect("a folder");
    desk.write("in/a.jsonl", &traces::many("a", 2));
    desk.write("in/deep/b.jsonl", &traces::many("b", 3));
    let seen = |ran: Ran| ran.json()["traces"].as_u64();
    assert_eq!(seen(desk.run(&["eval", "in", "--json"]).await), Some(5));
    assert_eq!(seen(desk.run(&["eval", "in/*.jsonl", "--json"]).await), Some(2));
    assert_eq!(seen(desk.run(&["eval", "in/**/*.jsonl", "in/a.jsonl", "--json"]).await), Some(5));
    let line = traces::trace("x", GOOD).to_string();
    let piped = run_in(desk.dir.path(), &["eval", "-", "--json"], &[], line.as_bytes()).await;
    assert_eq!(seen(piped), Some(1));
}

#[tokio::test]
async fn versions_that_are_stored_are_compared_on_stored_traces_and_paid_for_once() {
    let (sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.work.cache_seconds = 3_600;
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&different(6)).await;
    let old = service.verdicts(6).await[0].rubric_version.clone();
    service.stop(PATIENCE).await;
    let other = JUDGED.replace("{{ answer }}", "{{ answer }} Be strict.");
    std::fs::write(config.rubrics.dir.join("0.yaml"), other).expect("it can be written");
    let desk = Desk::new(&config);
    let env = [("DATABASE_URL", url.expose_secret())];
    let from = format!("judged@{old}");
    let args = ["rubric", "diff", from.as_str(), "judged", "--since", "1h", "--json"];
    let before = sim.stats().requests;
    let ran = run_in(desk.dir.path(), &args, &env, b"").await;
    let report = ran.json();
    assert_eq!(
        (report["verdicts"]["judged"].as_u64(), report["from"].as_str()),
        (Some(6), Some(old.as_str())),
        "{report}"
    );
    assert_eq!(report["changes"][0]["key"], "prompt");
    assert_eq!(sim.stats().requests - before, 6, "the old version's votes come from the cache");
    let again = run_in(desk.dir.path(), &args, &env, b"").await;
    assert_eq!((again.code, sim.stats().requests - before), (Some(0), 6), "and then those of the new one too");
    let unknown = run_in(desk.dir.path(), &["rubric", "show", "judged@000000000000"], &env, b"").await;
    assert!(unknown.code == Some(2) && unknown.err.contains(&old), "known versions are named: {}", unknown.err);
    let without = desk.run(&["rubric", "show", "judged@000000000000"]).await;
    assert!(without.code == Some(2) && without.err.contains("set DATABASE_URL"), "{}", without.err);
    assert!(!desk.path(".assize").exists(), "no database is made to look for one");
}

#[tokio::test]
async fn folders_are_compared_rubric_by_rubric() {
    let desk = Desk::new(&config(&[]));
    for (name, text) in [
        ("old/a.yaml", SUPPORTED.to_owned()),
        ("old/b.yaml", "name: b\nchecks: [json_validity]\n".to_owned()),
        ("old/c.yaml", "name: c\nchecks: [json_validity]\n".to_owned()),
        ("new/a.yaml", SUPPORTED.replace("0.5", "0.95")),
        ("new/c.yaml", "name: c   # the same\nchecks: [json_validity]\n".to_owned()),
        ("new/d.yaml", "name: d\nchecks: [json_validity]\n".to_owned()),
    ] {
        std::fs::create_dir_all(desk.path(name).parent().expect("a folder")).expect("it can be made");
        std::fs::write(desk.path(name), text).expect("it can be written");
    }
    desk.write("t.jsonl", &[traces::trace("good", GOOD), traces::trace("odd", BAD)]);
    let ran = desk.run(&["rubric", "diff", "old", "new", "--trace-file", "t.jsonl"]).await;
    for words in ["-0.5\n+0.95", "+ d", "- b", "1 rubric(s) are the same", "2 verdicts differ"] {
        assert!(ran.out.contains(words), "{words}: {}{}", ran.out, ran.err);
    }
    let json = desk.run(&["rubric", "diff", "old", "new", "--json"]).await.json();
    assert_eq!((&json["added"], &json["removed"], &json["same"]), (&json!(["d"]), &json!(["b"]), &json!(1)));
    assert_eq!(json["rubrics"][0]["rubric"], "supported");
}

const PICKY: &str =
    "name: picky\npanel: default\napplies_when: {requires: [tools]}\nprompt: \"{{ answer }} 0 or 1?\"\n";

#[tokio::test]
async fn explain_tells_what_would_happen_to_a_trace_that_was_never_seen() {
    let (sim, base) = sim(Faults::default()).await;
    let clear = "name: clear\npanel: default\nchecks:\n  - failure_to_answer: {fail_below: 0.5}\nprompt: \"{{ answer }} 0 or 1?\"\n";
    let mut config = config(&[JUDGED, PICKY, SUPPORTED, clear, "name: broken\n"]);
    with_judges(&mut config, &base, &["a", "b"]);
    config.sampling.default_rate = 0.0;
    let desk = Desk::new(&config);
    desk.write(
        "t.jsonl",
        &[traces::trace("t", "Swordfish within 30 days."), traces::trace("no", "I cannot help with that.")],
    );
    let all = desk.run(&["explain", "t", "--trace-file", "t.jsonl"]).await;
    assert_eq!(all.code, Some(0), "{}", all.err);
    for words in [
        "left out by sampling",
        "rate 0",
        "if it were kept",
        "would be judged by a, b",
        "would be not_applicable: the trace has no tools",
        "is unparsable",
        "check grounding",
    ] {
        assert!(all.out.contains(words), "{words}: {}", all.out);
    }
    assert_eq!(sim.stats().requests, 0, "nobody is asked unasked");
    let one = ["explain", "t", "--trace-file", "t.jsonl", "--rubric", "judged"];
    let hidden = desk.run(&one).await;
    assert!(hidden.out.contains("to a, b:") && hidden.out.contains("[25 characters]"), "{}", hidden.out);
    assert!(!hidden.out.contains("Swordfish"), "{}", hidden.out);
    let shown = desk.run(&[&one[..], &["--show-content"]].concat()).await;
    assert!(shown.out.contains("Swordfish"), "{}", shown.out);
    let asked = desk.run(&[&one[..], &["--ask", "--json"]].concat()).await.json();
    assert_eq!(asked["would"][0]["verdict"]["votes"].as_array().map(Vec::len), Some(2), "{asked}");
    assert_eq!(sim.stats().requests, 2);
    let decided = desk.run(&["explain", "no", "--trace-file", "t.jsonl", "--rubric", "clear"]).await;
    assert!(decided.out.contains("check failure_to_answer decides: the rubric fails"), "{}", decided.out);
    assert_eq!(sim.stats().requests, 2, "what a check decides asks nobody");
    let typo = desk.run(&["explain", "t", "--trace-file", "t.jsonl", "--rubric", "juged"]).await;
    assert!(typo.code == Some(2) && typo.err.contains("did you mean `judged`"), "{}", typo.err);
}

#[tokio::test]
async fn explain_tells_of_a_stored_trace_what_was_asked_and_what_new_rubrics_would_say() {
    let (_sim, base) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&[traces::trace("t", "Swordfish within 30 days.")]).await;
    service.verdicts(1).await;
    service.stop(PATIENCE).await;
    std::fs::write(config.rubrics.dir.join("new.yaml"), SUPPORTED).expect("it can be written");
    let desk = Desk::new(&config);
    let env = [("DATABASE_URL", url.expose_secret())];
    let all = run_in(desk.dir.path(), &["explain", "t"], &env, b"").await;
    assert!(all.out.contains("): scored") && all.out.contains("would be scored"), "{}{}", all.out, all.err);
    let one = run_in(desk.dir.path(), &["explain", "t", "--rubric", "judged"], &env, b"").await;
    assert!(one.out.contains("asks:") && one.out.contains("to a:"), "{}", one.out);
    let asked = one.out.split("asks:").nth(1).expect("what is asked");
    assert!(asked.contains("characters]") && !asked.contains("Swordfish"), "{asked}");
}

#[tokio::test]
async fn doctor_names_a_missing_v1_and_rubrics_that_are_not_there() {
    let (_sim, base) = sim(Faults::default()).await;
    let mut config = config(&[SUPPORTED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").base_url = Some(base.clone());
    config.watch.rules[0].rubric = assize::domain::policy::Patterns(vec!["suported".to_owned()]);
    let desk = Desk::new(&config);
    let url = database().await;
    let ran = run_in(desk.dir.path(), &["doctor", "--json"], &[("DATABASE_URL", url.expose_secret())], b"").await;
    for words in [format!("set judges.a.base_url = \\\"{base}/v1\\\""), "did you mean `supported`?".to_owned()] {
        assert!(ran.out.contains(&words), "{words}: {}", ran.out);
    }
}

#[tokio::test]
async fn a_judge_that_is_not_configured_is_a_warning_with_its_place() {
    let mut config = config(&[]);
    with_judges(&mut config, "http://127.0.0.1:1", &["small"]);
    let desk = Desk::new(&config);
    let text = "name: x\ntitle: X\npanel: [smal]\napplies_when: {requires: [answer]}\nprompt: \"{{ answer }} 0 or 1?\"\n\
        tests:\n  - {trace: {output: a}, expect: {passed: true}}\n  - {trace: {output: b}, expect: {passed: false}}\n";
    std::fs::write(desk.path("x.yaml"), text).expect("it can be written");
    let ran = desk.run(&["rubric", "check", "x.yaml"]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.out.contains("x.yaml:3:9") && ran.out.contains("did you mean `small`"), "{}", ran.out);
}
