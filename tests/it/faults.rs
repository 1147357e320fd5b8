//! Things that break: a killed process, a restarted database, judges that hang or fail, an intake that is away.
//!
//! Each is done for real: the program is killed with -9, Postgres is crashed, the judge is an HTTP server that misbehaves. What
//! must hold: every accepted trace ends with exactly one verdict a rubric, and no paid call is repeated beyond those in flight.

use crate::support::intake::Intake;
use crate::support::program::Program;
use crate::support::{
    ANSWERED, JUDGED, PATIENCE, Service, config, database, eventually, for_a_while, sim, traces, wait_for_verdicts,
    with_judges,
};
use assize::config::Config;
use assize::domain::verdict::{Outcome, Verdict};
use assize::llm::sim::Faults;
use assize::store::Store;
use assize::store::cluster::Cluster;
use secrecy::SecretString;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

async fn store(url: &SecretString) -> Store {
    Store::connect(url, 4, Duration::from_secs(10)).await.expect("the database is there")
}

/// Exactly one verdict for each trace and rubric.
fn each_once(verdicts: &[Verdict], traces: usize, rubrics: usize) {
    let keys: HashSet<(&str, &str)> = verdicts.iter().map(|v| (v.trace_id.as_str(), v.rubric.as_str())).collect();
    assert_eq!((keys.len(), verdicts.len()), (traces * rubrics, traces * rubrics));
}

/// Sends traces in small requests until the service goes away; gives those that were accepted.
async fn send_until_it_dies(base: String, all: Vec<serde_json::Value>) -> Vec<String> {
    let http = assize::runtime::http::client(PATIENCE).expect("an HTTP client");
    let mut accepted = Vec::new();
    for trace in all {
        let request = http.post(format!("{base}/api/v1/traces")).json(&trace).send().await;
        match request {
            Ok(r) if r.status().is_success() => accepted.push(trace["trace_id"].as_str().expect("text").to_owned()),
            _ => break,
        }
    }
    accepted
}

fn short_leases(config: &mut Config) {
    config.work.lease_ms = 3_000;
    config.work.lease_margin_ms = 500;
    config.work.concurrency = 16;
    // A configuration whose judges may outlast their lease is refused.
    config.judges.values_mut().for_each(|judge| judge.timeout_ms = Some(1_000));
}

#[tokio::test]
async fn fault_kill_9_under_load_loses_nothing_and_doubles_nothing() {
    let url = database().await;
    let (sim, judges) = sim(Faults { latency_ms: 30, ..Faults::default() }).await;
    let mut config = config(&[JUDGED, ANSWERED]);
    with_judges(&mut config, &judges, &["a", "b"]);
    short_leases(&mut config);
    let mut accepted: Vec<String> = Vec::new();
    // Killed at three different moments: while spans come in, while traces are judged, and late in the judging.
    let kills = [Duration::from_millis(150), Duration::from_millis(400), Duration::from_millis(900)];
    for (round, after) in kills.into_iter().enumerate() {
        let program = Program::serve(&url, &config, "warn").await;
        let base = program.base.clone();
        let sending = tokio::spawn(send_until_it_dies(base, traces::many(&format!("kill{round}"), 2_000)));
        for_a_while(after).await;
        program.kill().await;
        accepted.extend(sending.await.expect("the sender ends"));
    }
    // Enough to be killed among; how many there are is the machine's speed.
    assert!(accepted.len() > 10, "only {} traces were accepted before the kills", accepted.len());
    let program = Program::serve(&url, &config, "warn").await;
    let store = store(&url).await;
    // A request that was cut off by the kill may have been committed without an answer: at most one a round.
    let decided = eventually("all is judged", || async {
        let stats = store.queue_stats(chrono::Utc::now()).await.ok()?;
        let left = stats.open_traces + stats.inbox_spans + stats.ready + stats.delayed + stats.leased;
        let (seen, _) = store.tally_totals().await.ok()?;
        (left == 0 && usize::try_from(seen).ok()? >= accepted.len()).then_some(usize::try_from(seen).ok()?)
    })
    .await;
    assert!(decided <= accepted.len() + kills.len(), "{decided} decided, {} accepted", accepted.len());
    let verdicts = wait_for_verdicts(&store, decided * 2).await;
    each_once(&verdicts, decided, 2);
    let ended: HashSet<&str> = verdicts.iter().map(|v| v.trace_id.as_str()).collect();
    assert!(accepted.iter().all(|id| ended.contains(id.as_str())), "an accepted trace was lost");
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored));
    // Two judges a job; those in flight at a kill may be asked again.
    let paid = sim.stats().requests;
    let needed = decided as u64 * 2;
    let in_flight = kills.len() as u64 * 16 * 2;
    assert!(paid <= needed + in_flight, "{paid} paid calls for {needed} votes");
    program.kill().await;
}

#[tokio::test]
async fn fault_postgres_crash_under_load_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start(&dir.path().join("cluster"), true).await.expect("Postgres starts");
    let url = cluster.url().clone();
    let (sim, judges) = sim(Faults { latency_ms: 40, ..Faults::default() }).await;
    let mut config = config(&[JUDGED, ANSWERED]);
    with_judges(&mut config, &judges, &["a"]);
    short_leases(&mut config);
    config.work.lease_ms = 20_000;
    config.database.acquire_ms_max = 500;
    let service = Service::start_on(&url, config).await;
    service.send(&traces::many("before", 150)).await;
    for_a_while(Duration::from_millis(250)).await;
    let ((), crashed) = tokio::join!(
        async {
            // What is sent while the database is away is refused, in so many words, and accepted later.
            let body = traces::trace("during", "Yes, within 30 days.").to_string();
            let answers = eventually("a refusal while it is away", || async {
                let (status, _) = service.post("/api/v1/traces", &[], body.clone()).await;
                assert!(status == 200 || status == 503, "{status}");
                (status == 503).then_some(())
            });
            answers.await;
            eventually("it is taken when it is back", || async {
                (service.post("/api/v1/traces", &[], body.clone()).await.0 == 200).then_some(())
            })
            .await;
        },
        cluster.crash_and_restart(Duration::from_millis(1_500)),
    );
    crashed.expect("Postgres comes back");
    let verdicts = service.verdicts(151 * 2).await;
    each_once(&verdicts, 151, 2);
    // Votes that were in hand when the database went were kept and stored, not bought again, up to those in flight.
    assert!(sim.stats().requests <= 151 + 16, "{} paid calls for 151 votes", sim.stats().requests);
    drop(service);
    cluster.stop().await;
}

#[tokio::test]
async fn fault_a_judge_that_answers_500_for_a_while_costs_time_not_verdicts() {
    let (sim, judges) = sim(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED, ANSWERED]);
    with_judges(&mut config, &judges, &["a", "b"]);
    config.work.attempts_max = 20;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 30)).await;
    // The free rubric is not held up by the judge.
    eventually("free verdicts while the judge is down", || async {
        let page = service.get("/api/v1/verdicts?rubric=answered&limit=100").await;
        (page["verdicts"].as_array()?.len() == 30).then_some(())
    })
    .await;
    for_a_while(Duration::from_secs(2)).await;
    let story = service.get("/api/v1/traces/t-0").await;
    assert!(story["waiting"][0]["last_error"].as_str().is_some_and(|e| e.contains("500")), "{story}");
    assert_eq!(service.get("/api/v1/verdicts?rubric=judged").await["verdicts"], json!([]), "a failure is no score");
    sim.set_faults(Faults::default());
    let verdicts = service.verdicts(60).await;
    each_once(&verdicts, 30, 2);
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored));
    assert_eq!(sim.stats().answered, 60, "each vote was paid for once");
}

#[tokio::test]
async fn fault_a_judge_that_hangs_is_given_up_and_asked_again() {
    let (sim, judges) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judges, &["a"]);
    config.judges.get_mut("a").expect("it is there").timeout_ms = Some(300);
    config.work.attempts_max = 50;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 10)).await;
    eventually("a time-out is seen", || async {
        let story = service.get("/api/v1/traces/t-0").await;
        story["waiting"][0]["last_error"].as_str()?.contains("timeout").then_some(())
    })
    .await;
    sim.set_faults(Faults::default());
    let verdicts = service.verdicts(10).await;
    each_once(&verdicts, 10, 1);
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored));
}

#[tokio::test]
async fn fault_a_judge_that_never_recovers_ends_as_judge_error_without_a_score() {
    let (_, broken) = sim(Faults { error_rate: 1.0, ..Faults::default() }).await;
    let (good_sim, good) = sim(Faults::default()).await;
    let mut config = config(&[JUDGED, "name: both\npanel: [a, c]\nprompt: \"{{ answer }}\"\n"]);
    with_judges(&mut config, &broken, &["a"]);
    let panels = config.panels.clone();
    with_judges(&mut config, &good, &["c"]);
    config.panels = panels;
    config.work.attempts_max = 3;
    config.work.retry_ms = 20;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 5)).await;
    let verdicts = service.verdicts(10).await;
    for verdict in &verdicts {
        if verdict.rubric == "judged" {
            assert_eq!((verdict.outcome, verdict.score, verdict.passed), (Outcome::JudgeError, None, None));
            assert!(verdict.explanation.contains("500"), "{}", verdict.explanation);
        } else {
            assert_eq!(verdict.outcome, Outcome::Scored, "half of the panel is enough");
            assert_eq!(verdict.votes.iter().filter(|v| v.score.is_some()).count(), 1);
        }
    }
    assert_eq!(good_sim.stats().requests, 5, "the good judge's vote was kept over the other's attempts");
}

#[tokio::test]
async fn fault_garbage_and_limits_end_in_verdicts() {
    let faults = Faults { garbage_rate: 0.3, error_rate: 0.1, rpm: Some(3_000), ..Faults::default() };
    let (sim, judges) = sim(faults).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judges, &["a", "b"]);
    config.work.attempts_max = 20;
    let service = Service::start(config).await;
    service.send(&traces::many("t", 100)).await;
    let verdicts = service.verdicts(100).await;
    each_once(&verdicts, 100, 1);
    assert!(verdicts.iter().all(|v| v.outcome == Outcome::Scored && v.votes.len() == 2));
    assert!(sim.stats().limited > 0, "the limit was reached: {:?}", sim.stats());
}

#[tokio::test]
async fn fault_an_intake_that_answers_503_for_a_while_gets_every_metric_once() {
    let (intake, base) = Intake::start().await;
    intake.answer_with(503);
    let mut config = config(&[ANSWERED]);
    config.datadog.api_key = Some("0".repeat(32).into());
    config.datadog.api_url = Some(base);
    let service = Service::start(config).await;
    let ids: Vec<serde_json::Value> = (1..=40).map(traces::joinable).collect();
    service.send(&ids).await;
    service.verdicts(40).await;
    eventually("the refusals are seen", || async { (intake.requests().len() >= 3).then_some(()) }).await;
    assert!(intake.accepted().is_empty());
    let queue = service.get("/api/v1/queue").await;
    assert_eq!(queue["outbox"][0]["last_error"], "status 503", "{queue}");
    intake.answer_with(202);
    eventually("all is delivered", || async { (intake.accepted().len() >= 40).then_some(()) }).await;
    eventually("the outbox is empty", || async {
        (service.get("/api/v1/queue").await["outbox"] == json!([])).then_some(())
    })
    .await;
    let spans: HashSet<String> =
        intake.accepted().iter().map(|m| m["join_on"]["span"]["trace_id"].to_string()).collect();
    assert_eq!((spans.len(), intake.accepted().len()), (40, 40));
}

#[tokio::test]
async fn fault_sigterm_finishes_work_in_hand_and_leaves_the_rest_claimable() {
    let url = database().await;
    let (sim, judges) = sim(Faults { latency_ms: 300, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &judges, &["a"]);
    config.work.concurrency = 8;
    let program = Program::serve(&url, &config, "info").await;
    let accepted = send_until_it_dies(program.base.clone(), traces::many("t", 60)).await.len();
    eventually("judging goes on", || async { (sim.stats().requests > 8).then_some(()) }).await;
    let (code, log) = program.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    let store = store(&url).await;
    let stats = store.queue_stats(chrono::Utc::now()).await.expect("it can be read");
    assert_eq!(stats.leased, 0, "no lease is left behind: {stats:?}");
    assert!(stats.ready + stats.open_traces > 0, "it stopped before the end: {stats:?}");
    assert_eq!(sim.stats().requests, sim.stats().answered, "what was asked was waited for");
    let program = Program::serve(&url, &config, "warn").await;
    wait_for_verdicts(&store, accepted).await;
    assert_eq!(sim.stats().requests, accepted as u64, "nothing was asked twice");
    program.kill().await;
}

#[tokio::test]
async fn fault_a_hard_stop_releases_leases_and_keeps_votes() {
    let (slow, slow_base) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let (quick, quick_base) = sim(Faults::default()).await;
    let mut config = config(&["name: both\npanel: [a, c]\nprompt: \"{{ answer }}\"\n"]);
    with_judges(&mut config, &slow_base, &["a"]);
    with_judges(&mut config, &quick_base, &["c"]);
    config.judges.values_mut().for_each(|judge| judge.timeout_ms = Some(60_000));
    let url = database().await;
    let service = Service::start_on(&url, config.clone()).await;
    service.send(&traces::many("t", 4)).await;
    eventually("the slow judge is asked", || async { (slow.stats().requests == 4).then_some(()) }).await;
    eventually("the quick judge has answered", || async { (quick.stats().answered == 4).then_some(()) }).await;
    service.stop(Duration::from_millis(50)).await;
    let jobs = service.app.store.jobs_of_trace("t-0").await.expect("it can be read");
    assert_eq!(jobs[0].1, 0, "an interruption gives the attempt back");
    drop(service);
    slow.set_faults(Faults::default());
    let again = Service::start_on(&url, config).await;
    again.verdicts(4).await;
    assert_eq!(quick.stats().requests, 4, "the vote that was paid for was kept");
}
