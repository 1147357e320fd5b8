//! Spans and sessions as units of judging: which verdicts there are, of what, and which of them count.

use crate::support::program::assize;
use crate::support::{PATIENCE, Service, config, eventually, sim, traces, with_judges};
use assize::domain::verdict::{Outcome, Verdict};
use assize::llm::sim::Faults;
use assize::pipeline::explain::explain;
use assize::pipeline::report;
use assize::pipeline::units::Shown;
use assize::store::verdicts::VerdictFilter;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

fn agent(id: usize, tools: usize) -> Value {
    let mut spans =
        vec![json!({"span_id": "00000000000000aa", "kind": "llm", "name": "chat", "input": "Hi", "output": "Hello."})];
    spans.extend((0..tools).map(|n| {
        json!({"span_id": format!("{:016x}", n + 1), "kind": "tool", "name": format!("tool_{n}"), "output": "done",
               "tool_calls": [{"name": "find", "arguments": {"n": n}, "result": "ok"}]})
    }));
    json!({"trace_id": format!("{id:032x}"), "service": "shop", "feature": "agent", "input": "Do it.", "output": "Done.",
           "spans": spans})
}

/// Judges each run of a tool.
const TOOLS: &str = "name: tools\nevaluates: span\nspans_max: 3\napplies_when: {span_kind: tool, span_name: tool_*, requires: [tool_calls]}\n\
                     checks: [tool_use]\n";

#[tokio::test]
async fn each_span_that_fits_has_a_verdict_and_what_is_over_the_cap_is_told() {
    let service = Service::start(config(&[TOOLS])).await;
    service.send(&[agent(1, 2), agent(2, 8), agent(3, 0)]).await;
    let verdicts = service.verdicts(2 + 3 + 1 + 1).await;
    let of = |id: usize| -> Vec<&Verdict> { verdicts.iter().filter(|v| v.trace_id == format!("{id:032x}")).collect() };
    let mut two: Vec<&str> = of(1).iter().filter_map(|v| v.span_id.as_deref()).collect();
    two.sort_unstable();
    assert_eq!(two, ["0000000000000001", "0000000000000002"]);
    assert!(
        of(1).iter().all(|v| v.outcome == Outcome::Scored && v.join.span_id == *v.span_id.as_ref().expect("a span"))
    );
    let (capped, judged): (Vec<&Verdict>, Vec<&Verdict>) = of(2).into_iter().partition(|v| v.span_id.is_none());
    assert_eq!((capped.len(), judged.len()), (1, 3));
    assert_eq!(capped[0].outcome, Outcome::SampledOut);
    assert!(capped[0].explanation.starts_with("3 of 8 spans that fit are judged"), "{}", capped[0].explanation);
    assert!(judged.iter().all(|v| (v.inclusion_probability - 3.0 / 8.0).abs() < 1e-12));
    assert_eq!(of(3)[0].outcome, Outcome::NotApplicable);
}

/// Judges a session by a panel.
const SESSIONS: &str = "name: reached\nevaluates: session\napplies_when: {requires: [conversation]}\npanel: default\noutput: {type: boolean}\n\
                        prompt: \"Was it reached, true or false? {{ conversation }}\"\n";

fn turn(n: usize, session: &str, input: &str) -> Value {
    let mut trace = traces::trace(&format!("{session}-{n}"), "An answer.");
    trace["session"] = json!(session);
    trace["input"] = json!(input);
    trace["started_at"] = json!(format!("2026-11-20T12:00:{n:02}Z"));
    trace
}

#[tokio::test]
async fn a_session_is_judged_when_it_is_quiet_and_again_when_it_goes_on() {
    let (judge, base) = sim(Faults::default()).await;
    let mut config = config(&[SESSIONS]);
    with_judges(&mut config, &base, &["a"]);
    config.sessions.quiet_seconds = 1;
    config.sessions.tick_ms = 20;
    let service = Service::start(config).await;
    service
        .send(&[turn(1, "s", "Where is my lamp?"), turn(2, "s", "Order 4711."), traces::trace("alone", "Yes.")])
        .await;
    let first = service.verdicts(2).await;
    let alone = first.iter().find(|v| v.trace_id == "alone").expect("a verdict");
    assert_eq!(alone.outcome, Outcome::NotApplicable, "{}", alone.explanation);
    let session = first.iter().find(|v| v.session.is_some()).expect("a verdict");
    assert_eq!((session.trace_id.as_str(), session.outcome), ("s-2", Outcome::Scored), "{}", session.explanation);
    assert_eq!(session.detail["session"], json!(Shown { traces: 2, ..Shown::default() }));
    assert_eq!(judge.stats().requests, 1, "both turns are asked about at once");

    service.send(&[turn(3, "s", "Thanks!")]).await;
    let second = judged(&service, 2).await;
    assert!(second.superseded_at.is_none());
    assert_eq!((second.trace_id.as_str(), &second.detail["session"]["traces"]), ("s-3", &json!(3)));
    let store = &service.app.store;
    let replaced = store.superseded("s-2", None, 10).await.expect("verdicts");
    let ordinals: Vec<_> = replaced.iter().map(|(v, _)| v.session.as_ref().map(|s| s.ordinal)).collect();
    assert_eq!(ordinals, [Some(1)]);
    assert_eq!(service.verdicts(2).await.len(), 2, "the current one, and the one about the trace alone");

    let now = Utc::now();
    let asked = report::Asked {
        since: now - TimeDelta::hours(1),
        until: now + TimeDelta::seconds(5),
        rubric: Some("reached".to_owned()),
        by: Vec::new(),
    };
    let made = report::of_store(store, &asked).await.expect("a report");
    assert_eq!(made.lines[0].outcomes.get("scored"), Some(&1), "what is superseded is not counted");
    let told = explain(store, &service.app.bench.config, "s-1", None).await.expect("a told");
    assert_eq!((told.verdicts.len(), told.superseded.len()), (1, 1), "the first trace knows of its session's verdicts");
    assert_eq!(told.session.map(|s| (s.traces, s.kept, s.judged)), Some((3, 3, 2)));
}

/// The session's verdict of this judging.
async fn judged(service: &Service, ordinal: i32) -> Verdict {
    eventually("the session is judged", || async {
        let filter = VerdictFilter { limit: 10, ..VerdictFilter::default() };
        let found = service.app.store.verdicts(&filter).await.ok()?;
        found.into_iter().find(|v| v.session.as_ref().is_some_and(|s| s.ordinal == ordinal))
    })
    .await
}

#[tokio::test]
async fn half_a_session_is_not_judged_as_a_whole_one() {
    let rubric = "name: reached\nevaluates: session\nchecks: [failure_to_answer]\n";
    let mut config = config(&[rubric]);
    config.sessions.quiet_seconds = 1;
    config.sessions.tick_ms = 20;
    config.sampling = serde_json::from_value(json!({
        "default_rate": 0.3, "rules": [{"name": "errors", "rate": 1.0, "when": {"status": "error"}}]
    }))
    .expect("a policy");
    let policy = config.sampling.clone();
    let service = Service::start(config).await;
    let mut sent = Vec::new();
    for n in 0..20 {
        let session = format!("s{n}");
        let mut failed = turn(3, &session, "Hello?");
        failed["status"] = json!("error");
        sent.extend([turn(1, &session, "Hi"), turn(2, &session, "You there?"), failed]);
    }
    service.send(&sent).await;
    let verdicts = service.verdicts(20).await;
    let (whole, half): (Vec<&Verdict>, Vec<&Verdict>) = verdicts.iter().partition(|v| v.outcome == Outcome::Scored);
    assert!((1..=14).contains(&whole.len()), "{} of 20 at a rate of 0.3", whole.len());
    assert!(verdicts.iter().all(|v| (v.inclusion_probability - policy.default_rate).abs() < 1e-9));
    assert!(whole.iter().all(|v| v.detail["session"]["traces"] == 3));
    for verdict in half {
        assert_eq!(verdict.outcome, Outcome::SampledOut);
        assert!(verdict.explanation.starts_with("2 of the session's 3 traces"), "{}", verdict.explanation);
    }
}

#[tokio::test]
async fn files_are_judged_by_the_same_units() {
    let dir = tempfile::tempdir().expect("a folder");
    let rubrics = dir.path().join("rubrics");
    std::fs::create_dir(&rubrics).expect("a folder");
    std::fs::write(rubrics.join("tools.yaml"), TOOLS).expect("it can be written");
    std::fs::write(rubrics.join("reached.yaml"), SESSIONS).expect("it can be written");
    let lines = [agent(1, 2), turn(2, "s", "And now?"), turn(1, "s", "Hi")];
    let input = dir.path().join("t.jsonl");
    std::fs::write(&input, lines.map(|t| t.to_string()).join("\n")).expect("it can be written");
    let out = dir.path().join("out.jsonl");
    let path = |p: &std::path::Path| p.display().to_string();
    let args = ["eval", &path(&input), "--rubrics", &path(&rubrics), "--judge", "sim", "--out", &path(&out)];
    let ran = tokio::time::timeout(PATIENCE, assize(&args).output()).await.expect("in time").expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = std::fs::read_to_string(&out).expect("verdicts");
    let verdicts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let count = |rubric: &str, outcome: &str| {
        verdicts.iter().filter(|v| v["rubric"] == rubric && v["outcome"] == outcome).count()
    };
    assert_eq!(count("tools", "scored"), 2, "{text}");
    assert_eq!(count("tools", "not_applicable"), 2, "{text}");
    let session = verdicts.iter().find(|v| v["session"] == "s").expect("a session's verdict");
    assert_eq!((&session["outcome"], &session["trace_id"]), (&json!("scored"), &json!("s-2")));
    assert_eq!(session["detail"]["session"]["traces"], 2);
    assert_eq!(count("reached", "not_applicable"), 1, "the agent's trace is in no session");
}

#[tokio::test]
async fn the_watch_counts_a_session_once() {
    let rubric = "name: reached\nevaluates: session\nchecks: [failure_to_answer]\n";
    let mut config = config(&[rubric]);
    config.sessions.quiet_seconds = 1;
    config.sessions.tick_ms = 20;
    let service = Service::start(config).await;
    for n in 1..=3 {
        service.send(&[turn(usize::try_from(n).expect("small"), "s", &format!("Question {n}"))]).await;
        judged(&service, n).await;
    }
    let store = &service.app.store;
    eventually("the watch has looked", || async { (!store.watch_is_behind().await.ok()?).then_some(()) }).await;
    let seen =
        store.unwatched(assize::store::watch::Cursor { tx: 0, id: uuid::Uuid::nil() }, 100).await.expect("verdicts");
    let new = seen.iter().filter(|u| u.replaced.is_none()).count();
    assert_eq!(new, 1, "of three verdicts of one session the first is evidence");
    let exchanged: Vec<_> =
        seen.windows(2).map(|two| two[1].replaced.as_ref().map(|r| r.at) == Some(two[0].at)).collect();
    assert_eq!(exchanged, [true, true], "each other one is exchanged for the one before");
    let filter = VerdictFilter { limit: 10, ..VerdictFilter::default() };
    assert_eq!(store.verdicts(&filter).await.expect("verdicts").len(), 1);
}
