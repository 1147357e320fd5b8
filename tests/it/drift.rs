//! Drift canaries: a judge that moved is told apart from an application that did, one that only wavers is left alone, nothing live
//! sees any of it, and it costs no more than it may.

use crate::support::{JUDGED, Service, config, database, eventually, for_a_while, sim, traces, with_judges};
use assize::config::Config;
use assize::domain::alert::Kind;
use assize::domain::alert::incident::{Alert, State};
use assize::domain::alert::text;
use assize::domain::clock::{Clock, ManualClock, SystemClock};
use assize::domain::drift::{Compared, JudgeCompared};
use assize::domain::verdict::Verdict;
use assize::llm::sim::{Faults, Sim};
use assize::pipeline::replay::outcome;
use assize::pipeline::report::{Asked, of_store};
use assize::store::Store;
use assize::store::alerts::{AlertFilter, By};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Traces whose texts differ, so that none is answered out of the cache.
fn different(prefix: &str, version: &str, count: usize) -> Vec<serde_json::Value> {
    let one = |n: usize| {
        let mut trace = traces::trace(&format!("{prefix}-{n}"), &format!("Sofas can be returned within {n} days."));
        trace["prompt"]["version"] = json!(version);
        trace
    };
    (0..count).map(one).collect()
}

/// A run as it is stored: why, what it says, what it cost.
type Row = (String, sqlx::types::Json<Compared>, f64);

/// A service whose clock the test moves, with judge a at one endpoint and b at another.
struct Rig {
    service: Service,
    clock: Arc<ManualClock>,
    judges: [Sim; 2],
    config: Config,
    url: SecretString,
}

impl Rig {
    async fn start(faults: Faults) -> Self {
        let ((a, at_a), (b, at_b)) = (sim(faults.clone()).await, sim(faults).await);
        let mut config = config(&[JUDGED]);
        with_judges(&mut config, &at_a, &["a"]);
        with_judges(&mut config, &at_b, &["b"]);
        config.panels = [("default".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into();
        config.work.cache_seconds = 30 * 86_400;
        // The clock runs three thousand times as fast as the judges.
        config.work.lease_ms = 30 * 86_400_000;
        config.watch.canaries.traces = 40;
        config.watch.canaries.every_hours = 24.0;
        let url = database().await;
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let service = Self::service(&url, &config, &clock).await;
        Self { service, clock, judges: [a, b], config, url }
    }

    async fn service(url: &SecretString, config: &Config, clock: &Arc<ManualClock>) -> Service {
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Service::start_at(url, config.clone(), shared).await
    }

    fn store(&self) -> &Store {
        &self.service.app.store
    }

    /// Waits for so many verdicts while time passes: what failed once, as on a busy machine, is asked again after a while.
    async fn verdicts(&self, count: usize) -> Vec<Verdict> {
        tokio::select! {
            found = self.service.verdicts(count) => found,
            never = self.time_passes() => never,
        }
    }

    async fn time_passes(&self) -> ! {
        loop {
            for_a_while(Duration::from_millis(50)).await;
            self.clock.advance(TimeDelta::seconds(1));
        }
    }

    async fn ended(&self) -> Vec<Row> {
        sqlx::query_as("SELECT why, result, usd FROM drift_runs WHERE ended_at IS NOT NULL ORDER BY started_at")
            .fetch_all(self.store().pool())
            .await
            .expect("runs can be read")
    }

    /// Lets time pass until so many runs have ended.
    async fn runs(&self, count: usize) -> Vec<Row> {
        eventually(&format!("{count} runs end"), || async {
            self.clock.advance(TimeDelta::seconds(61));
            let found = self.ended().await;
            (found.len() >= count).then_some(found)
        })
        .await
    }

    async fn alerts(&self, kind: Kind) -> Vec<Alert> {
        let filter = AlertFilter { limit: 100, ..AlertFilter::default() };
        let mut all = self.store().alerts(&filter).await.expect("alerts can be read");
        all.retain(|alert| alert.lead().is_some_and(|lead| lead.kind == kind));
        all
    }

    async fn alert(&self, kind: Kind) -> Alert {
        eventually("an alert opens", || async {
            self.clock.advance(TimeDelta::seconds(1));
            self.alerts(kind).await.pop()
        })
        .await
    }

    /// Lets time pass until judge a is taken as it is.
    async fn rebased(&self) {
        eventually("it is the new normal", || async {
            self.clock.advance(TimeDelta::seconds(61));
            let rebased: i64 =
                sqlx::query_scalar("SELECT count(*) FROM drift_runs WHERE judges #>> '{a,rebased}' = 'true'")
                    .fetch_one(self.store().pool())
                    .await
                    .ok()?;
            (rebased > 0).then_some(())
        })
        .await;
    }
}

fn judge<'a>(row: &'a Row, name: &str) -> &'a JudgeCompared {
    row.1.judges.iter().find(|j| j.judge == name).expect("it was compared")
}

/// What the report says of everything, which canaries must not change.
async fn reported(store: &Store, until: DateTime<Utc>) -> String {
    let asked = Asked { since: DateTime::UNIX_EPOCH, until, rubric: None, by: Vec::new() };
    format!("{:?}", of_store(store, &asked).await.expect("it can be counted").lines)
}

#[tokio::test]
async fn a_judge_that_became_stricter_is_told_apart_from_the_application() {
    let rig = Rig::start(Faults::default()).await;
    rig.service.send(&different("t", "v1", 40)).await;
    let live = rig.verdicts(40).await;
    let until = rig.clock.now() + TimeDelta::hours(1);
    let report = reported(rig.store(), until).await;
    let asked = rig.judges[0].stats().requests;
    rig.clock.advance(TimeDelta::hours(25));
    let first = rig.runs(1).await.remove(0);
    assert_eq!(first.0, "first");
    assert_eq!(rig.judges[0].stats().requests, asked + 40, "the cache knows the answers and is not asked");
    let a = judge(&first, "a");
    assert_eq!((a.of, a.worse, a.better, a.moved_since), (40, 0, 0, None));
    assert!(rig.alerts(Kind::JudgeDrift).await.is_empty());

    // Judge a becomes stricter; b says what it said.
    rig.judges[0].set_faults(Faults { stricter_by: 0.7, answers_as: Some("sim-a-2".to_owned()), ..Faults::default() });
    rig.clock.advance(TimeDelta::hours(24));
    let second = rig.runs(2).await.remove(1);
    let (a, b) = (judge(&second, "a"), judge(&second, "b"));
    assert_eq!((second.0.as_str(), a.of, a.worse, b.worse + b.better), ("scheduled", 40, 40, 0));
    assert!(a.moved_since.is_some() && b.moved_since.is_none());
    let alert = rig.alert(Kind::JudgeDrift).await;
    let lead = alert.lead().expect("it has a finding");
    assert_eq!((lead.stream["judge"].as_str(), lead.rubric.as_deref()), ("a", Some("judged")));
    let (from, to) = (lead.from.expect("before").value, lead.to.expect("now").value);
    assert!((from - 0.8).abs() < 0.05 && (to - 0.1).abs() < 0.05, "{from} {to}");
    assert_eq!(
        (lead.versions[0].before.as_slice(), lead.versions[0].after.as_str()),
        (&["sim-a".to_owned()][..], "sim-a-2")
    );
    assert!(lead.examples.len() == 3 && lead.examples[0].trace_id.starts_with("t-"));
    let title = text::title(&alert);
    assert!(title.starts_with("judged: the judge moved: mean score of the same traces fell from 0.7"), "{title}");

    // Nothing live has changed: no verdict, no report, no replay, no vote of the cache.
    let now: Vec<_> = rig.verdicts(40).await.into_iter().map(|v| (v.id, v.score)).collect();
    assert!(live.iter().all(|v| now.contains(&(v.id, v.score))));
    assert_eq!(reported(rig.store(), until).await, report);
    let rubric = Arc::clone(&rig.service.app.bench.rubrics.load().active()[0]);
    let replays = outcome(rig.store(), &rubric).await.expect("it can be read");
    assert_eq!((replays.waiting, replays.pairs.len()), (0, 0));

    // New traffic of a new version looks worse, and the alert says that it was the judge.
    rig.clock.advance(TimeDelta::hours(2));
    rig.service.send(&different("u", "v2", 120)).await;
    rig.verdicts(160).await;
    let told = eventually("the alert says that the judge moved", || async {
        rig.clock.advance(TimeDelta::seconds(61));
        let alert = rig.alerts(Kind::VersionTest).await.pop()?;
        alert.lead()?.canaries.clone()
    })
    .await;
    assert_eq!((told.moved.as_slice(), told.of), (&["a".to_owned()][..], 40), "{told:?}");
    assert!(rig.ended().await.iter().any(|run| run.0 == "alert" || run.0 == "judge_changed"), "somebody asked");

    // A person takes the judge as it is: then it has not moved any more.
    let by = By { whom: Some("me"), why: Some("a better model") };
    let app = &rig.service.app;
    rig.store().resolve(alert.id, by, &app.bench.config.alerts, rig.clock.now()).await.expect("it can be closed");
    rig.clock.advance(TimeDelta::hours(2));
    rig.rebased().await;
    rig.clock.advance(TimeDelta::hours(25));
    eventually("it is compared with what it said then", || async {
        rig.clock.advance(TimeDelta::seconds(61));
        let last = rig.ended().await.pop()?;
        let a = judge(&last, "a");
        ((a.of, a.worse, a.better, a.moved_since) == (40, 0, 0, None)).then_some(())
    })
    .await;
    let states: Vec<State> = rig.alerts(Kind::JudgeDrift).await.into_iter().map(|a| a.state).collect();
    assert_eq!(states, [State::Resolved]);
}

#[tokio::test]
async fn a_judge_that_only_wavers_as_it_always_did_is_left_alone() {
    let rig = Rig::start(Faults { flip_rate: 0.15, ..Faults::default() }).await;
    rig.service.send(&different("t", "v1", 40)).await;
    rig.verdicts(40).await;
    for run in 1..=4 {
        rig.clock.advance(TimeDelta::hours(25));
        rig.runs(run).await;
    }
    let runs = rig.ended().await;
    let flips: u64 = runs.iter().flat_map(|r| &r.1.judges).map(|j| j.worse + j.better).sum();
    assert!(flips > 20, "the judges do waver: {flips}");
    assert!(runs.iter().flat_map(|r| &r.1.judges).all(|j| j.moved_since.is_none()), "{runs:?}");
    assert!(rig.alerts(Kind::JudgeDrift).await.is_empty());
}

#[tokio::test]
async fn labelled_traces_come_first_and_are_compared_with_their_first_judging_as_canaries() {
    let rig = Rig::start(Faults::default()).await;
    rig.service.send(&different("t", "v1", 45)).await;
    rig.verdicts(45).await;
    for n in 0..10 {
        let label = json!({"trace_id": format!("t-{n}"), "rubric": "judged", "passed": true, "source": "expert"});
        let (status, said) =
            rig.service.post("/api/v1/labels", &[("content-type", "application/json")], label.to_string()).await;
        assert!(status < 300, "{status} {}", String::from_utf8_lossy(&said));
    }
    rig.clock.advance(TimeDelta::hours(25));
    let first = rig.runs(1).await.remove(0);
    assert_eq!(judge(&first, "a").of, 30, "ten have no reference yet");
    rig.clock.advance(TimeDelta::hours(25));
    assert_eq!(judge(&rig.runs(2).await[1], "a").of, 40);
    let labelled: i64 = sqlx::query_scalar(
        "SELECT count(DISTINCT v.trace_id) FROM drift_canaries c JOIN verdicts v ON v.id = c.verdict_id
         JOIN labels l ON l.trace_id = v.trace_id",
    )
    .fetch_one(rig.store().pool())
    .await
    .expect("it can be counted");
    assert_eq!(labelled, 10);
}

#[tokio::test]
async fn canaries_cost_no_more_than_they_may() {
    let rig = Rig::start(Faults::default()).await;
    rig.service.send(&different("t", "v1", 40)).await;
    let live = rig.verdicts(40).await;
    let each = live.iter().map(|v| v.cost_usd).sum::<f64>() / 40.0;
    let mut config = rig.config.clone();
    // Enough for 25 at the margin that is kept; a second run would not fit.
    config.watch.canaries.usd_per_month = each * 1.2 * 25.5;
    rig.service.stop(std::time::Duration::from_secs(5)).await;
    let service = Rig::service(&rig.url, &config, &rig.clock).await;
    let rig = Rig { service, config, ..rig };
    rig.clock.advance(TimeDelta::hours(25));
    let first = rig.runs(1).await.remove(0);
    assert_eq!(judge(&first, "a").of, 25);
    rig.clock.advance(TimeDelta::hours(25));
    rig.clock.advance(TimeDelta::hours(25));
    eventually("the watch has counted what it cost", || async {
        rig.clock.advance(TimeDelta::seconds(61));
        let usd = rig.service.app.bench.metrics.drift.usd.get();
        assert!(usd <= rig.config.watch.canaries.usd_per_month, "{usd}");
        ((usd - first.2).abs() < 1e-12).then_some(())
    })
    .await;
    rig.clock.advance(TimeDelta::hours(25));
    eventually("a run is wished for again", || async {
        rig.clock.advance(TimeDelta::seconds(61));
        let streams = rig.service.app.bench.metrics.watch_streams.get();
        (streams > 0).then_some(())
    })
    .await;
    assert_eq!(rig.ended().await.len(), 1, "what is left of the month is not enough for a run");
}
