//! Traces from NATS JetStream, against a real nats-server: every format, what cannot be read, kills, replicas, a full backlog.
//!
//! What must hold: a message that the server has stored ends in verdicts once, or in `parked_messages` with its reason, whatever
//! is killed when; and none holds up another.

use crate::support::nats::Nats;
use crate::support::program::{Program, assize};
use crate::support::{
    ANSWERED, JUDGED, Service, config, database, eventually, fixture_bytes, for_a_while, sim, traces,
    wait_for_verdicts, with_judges,
};
use assize::config::{Config, Source};
use assize::domain::verdict::Verdict;
use assize::llm::sim::Faults;
use assize::store::Store;
use assize::store::cluster::Cluster;
use futures_util::StreamExt;
use secrecy::ExposeSecret;
use serde_json::json;
use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

/// A source with short waits.
fn source(nats: &Nats, more: &str) -> Source {
    let text = format!(
        "name = \"events\"\nkind = \"nats\"\nurl = \"{}\"\nstream = \"LLM\"\nformat = \"native\"\n\
         retry_ms = 50\nretry_ms_max = 500\n{more}",
        nats.url()
    );
    toml::from_str(&text).expect("a valid source")
}

fn with_source(mut config: Config, source: Source) -> Config {
    config.sources = vec![source];
    config.check().expect("a valid configuration");
    config
}

async fn publish_all(nats: &Nats, traces: &[serde_json::Value]) {
    for trace in traces {
        assert!(nats.publish("llm.native", &[], trace.to_string()).await, "the server stores it");
    }
}

fn ids(verdicts: &[Verdict]) -> HashSet<String> {
    verdicts.iter().map(|v| v.trace_id.clone()).collect()
}

async fn metric(service: &Service, line: &str) -> u64 {
    let text = service.http.get(format!("{}/metrics", service.base)).send().await.expect("it answers").text().await;
    let text = text.expect("a body");
    let value = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_default()
}

fn result(word: &str) -> String {
    format!("assize_source_messages_total{{result=\"{word}\",source=\"events\"}}")
}

#[tokio::test]
async fn messages_of_every_format_are_judged() {
    let nats = Nats::start().await;
    let formats = "formats = [{ subject = \"llm.proto\", format = \"otlp_proto\" }, { subject = \"llm.json.*\", format = \"otlp_json\" }]\n\
        headers = { tenant = \"x-tenant\" }\n";
    let service = Service::start(with_source(config(&[ANSWERED]), source(&nats, formats))).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&fixture_bytes("openinference-openai.pb")).expect("memory can be written");
    let packed = gzip.finish().expect("memory can be written");
    let json = fixture_bytes("otel-genai-openai-span.json");
    assert!(nats.publish("llm.proto", &[("X-Tenant", "acme"), ("Content-Encoding", "gzip")], packed).await);
    assert!(nats.publish("llm.json.shop", &[], json.clone()).await);
    assert!(nats.publish("llm.native", &[], traces::trace("t-1", "Within 30 days.").to_string()).await);
    nats.drained().await;
    let verdicts = eventually("verdicts of all three", || async {
        let stats = service.app.store.queue_stats(chrono::Utc::now()).await.ok()?;
        let left = stats.inbox_spans + stats.open_traces + stats.ready + stats.delayed + stats.leased;
        // Read after the counts: what was judged in between would be missing.
        let page = service.get("/api/v1/verdicts?limit=1000").await;
        let found = page["verdicts"].as_array()?.clone();
        (found.iter().any(|v| v["trace_id"] == "t-1") && left == 0).then_some(found)
    })
    .await;
    // The fixtures hold several traces each; the doors give the same ones.
    assert!(verdicts.len() > 3, "{}", verdicts.len());
    let of = |tenant: &str| verdicts.iter().filter(|v| v["trace"]["tenant"] == tenant).count();
    let (acme, all) = (of("acme"), verdicts.len());
    assert!(acme > 0 && acme < all - 1, "the header names the tenant of its message only: {acme} of {all}");
    assert_eq!(metric(&service, &result("committed")).await, 3);
    // What the door is sent again was there already: a broker and a door may carry the same trace.
    let headers = [("content-type", "application/json")];
    assert_eq!(service.post("/v1/traces", &headers, json).await.0, 200);
    wait_for_verdicts(&service.app.store, all).await;
}

#[tokio::test]
async fn a_server_that_wants_certificates_and_a_password_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("plain").to_owned();
    let (cert, key) = crate::tls::pair();
    std::fs::write(path("both.pem"), cert).expect("it can be written");
    std::fs::write(path("key.pem"), key).expect("it can be written");
    std::fs::write(path("other.pem"), crate::tls::pair().0).expect("it can be written");
    let given = [("--tlscert", "both.pem"), ("--tlskey", "key.pem"), ("--tlscacert", "both.pem")];
    let mut arguments = vec!["--tlsverify".to_owned()];
    arguments.extend(given.iter().flat_map(|(flag, file)| [(*flag).to_owned(), path(file)]));
    arguments.extend(["--user", "assize", "--pass", "a-good-password"].map(str::to_owned));
    drop(async_nats::rustls::crypto::aws_lc_rs::default_provider().install_default());
    let options = async_nats::ConnectOptions::with_user_and_password("assize".to_owned(), "a-good-password".to_owned())
        .require_tls(true)
        .add_root_certificates(path("both.pem").into())
        .add_client_certificate(path("both.pem").into(), path("key.pem").into());
    let nats = Nats::start_with(arguments, options).await;
    let files = |root: &str| {
        format!(
            "tls = true\nca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            path(root),
            path("both.pem"),
            path("key.pem")
        )
    };
    let signed_in = |root: &str, password: &str| {
        let mut source = source(&nats, &files(root));
        source.secrets.user = Some("assize".into());
        source.secrets.password = Some(password.into());
        source
    };
    // What is wrong is said, without the password.
    for (source, words) in [
        (signed_in("both.pem", "a-bad-password"), "authorization"),
        (signed_in("other.pem", "a-good-password"), "certificate"),
        (signed_in("none.pem", "a-good-password"), "none.pem"),
    ] {
        let Err(error) = assize::sources::connect(&source).await else { panic!("{words}: it must not connect") };
        let told = error.chain();
        assert!(told.contains(words) && !told.contains("password"), "{words}: {told}");
    }
    let service = Service::start(with_source(config(&[ANSWERED]), signed_in("both.pem", "a-good-password"))).await;
    publish_all(&nats, &[traces::trace("t-tls", "Within 30 days.")]).await;
    assert_eq!(ids(&service.verdicts(1).await), HashSet::from(["t-tls".to_owned()]));
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_and_holds_up_nothing() {
    let nats = Nats::start().await;
    let service =
        Service::start(with_source(config(&[ANSWERED]), source(&nats, "dead_letter = \"parked.events\"\n"))).await;
    let in_part = format!("{}\n{{\"output\":\"my secret word\"}}", traces::trace("t-part", "Yes, 30 days."));
    let poison = "{\"trace_id\": \"t\", \"kind\": \"my secret word\"}";
    assert!(nats.publish("llm.a", &[("x-own", "kept")], poison).await);
    assert!(nats.publish("llm.a", &[], traces::trace("t-good", "Within 30 days.").to_string()).await);
    assert!(nats.publish("llm.a", &[], in_part).await);
    let verdicts = service.verdicts(2).await;
    assert_eq!(ids(&verdicts), HashSet::from(["t-good".to_owned(), "t-part".to_owned()]));
    nats.drained().await;
    let parked = service.app.store.parked_messages(10).await.expect("it can be read");
    let reasons: Vec<(&str, i64)> = parked.iter().map(|p| (p.reason.as_str(), p.spans_taken)).collect();
    assert_eq!(parked.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|(reason, _)| !reason.contains("secret")), "{reasons:?}");
    let whole = parked.iter().find(|p| p.spans_taken == 0).expect("one was not taken at all");
    assert_eq!((whole.source.as_str(), whole.position.as_str(), whole.subject.as_str()), ("events", "LLM 1", "llm.a"));
    assert_eq!(whole.reason, "line 1: `kind` \"…\" is not known");
    assert_eq!(whole.size_bytes, i64::try_from(poison.len()).expect("it is small"));
    assert!(reasons.contains(&("1 refused; the first: line 2: `trace_id` is missing", 1)), "{reasons:?}");
    // The dead letter is whole, with its own headers and ours.
    let stream = nats.context.get_stream("PARKED").await.expect("it is there");
    let consumer = stream.create_consumer(async_nats::jetstream::consumer::pull::Config::default()).await;
    let mut letters = consumer.expect("it can be made").fetch().max_messages(2).messages().await.expect("a batch");
    let letter = letters.next().await.expect("a dead letter").expect("it can be read");
    let headers = letter.headers.clone().expect("it has headers");
    let header = |name: &str| headers.get(name).map(|v| v.as_str().to_owned()).unwrap_or_default();
    assert_eq!((letter.payload.as_ref(), header("x-own").as_str()), (poison.as_bytes(), "kept"));
    assert_eq!((header("Assize-Source").as_str(), header("Assize-Position").as_str()), ("events", "LLM 1"));
    assert!(header("Assize-Reason").contains("`kind`"));
    assert_eq!(metric(&service, &result("parked")).await, 2);
}

#[tokio::test]
async fn what_only_the_database_refuses_is_tried_again_and_then_parked() {
    let nats = Nats::start().await;
    let service = Service::start(with_source(config(&[ANSWERED]), source(&nats, "deliver_max = 3\n"))).await;
    let rule = "ALTER TABLE inbox_spans ADD CONSTRAINT refused CHECK (trace_id <> 'bad')";
    sqlx::query(rule).execute(service.app.store.pool()).await.expect("it can be added");
    publish_all(&nats, &traces::many("before", 10)).await;
    publish_all(&nats, &[traces::trace("bad", "Yes.")]).await;
    publish_all(&nats, &traces::many("after", 10)).await;
    service.verdicts(20).await;
    nats.drained().await;
    let parked = service.app.store.parked_messages(10).await.expect("it can be read");
    let told: Vec<(&str, i64, i64)> =
        parked.iter().map(|p| (p.position.as_str(), p.deliveries, p.spans_taken)).collect();
    assert_eq!(told, [("LLM 11", 3, 0)]);
    assert!(parked[0].reason.starts_with("the database refuses what is in it"), "{}", parked[0].reason);
    assert_eq!(metric(&service, &result("again")).await, 2);
}

#[tokio::test]
async fn a_message_that_comes_twice_is_judged_once() {
    let (nats, url) = (Nats::start().await, database().await);
    let alone = || with_source(config(&[ANSWERED]), source(&nats, "parallel = 1\nack_wait_ms = 1000\n"));
    // All are one batch. Its spans are stored, but nothing is settled while the poison cannot be parked.
    publish_all(&nats, &traces::many("t", 20)).await;
    assert!(nats.publish("llm.a", &[], "poison").await);
    let store = Store::connect(&url, 2, Duration::from_secs(10)).await.expect("the database is there");
    store.migrate().await.expect("the tables can be made");
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(store.pool()).await.expect("it can be renamed");
    };
    rename("parked_messages", "away").await;
    let one = Service::start_on(&url, alone()).await;
    one.verdicts(20).await;
    assert!(nats.waiting().await.is_some_and(|(_, in_hand)| in_hand == 21), "all are in hand");
    // It goes without a word, and its messages come again, to another; the sender sends them twice besides.
    drop(one);
    publish_all(&nats, &traces::many("t", 20)).await;
    rename("away", "parked_messages").await;
    let two = Service::start_on(&url, alone()).await;
    nats.drained().await;
    two.verdicts(20).await;
    assert!(metric(&two, &result("redelivered")).await >= 21);
    assert_eq!(two.app.store.parked_messages(10).await.expect("it can be read").len(), 1);
}

#[tokio::test]
async fn replicas_share_the_work() {
    let (nats, url) = (Nats::start().await, database().await);
    let few = || with_source(config(&[ANSWERED]), source(&nats, "batch_messages_max = 5\nparallel = 1\n"));
    let (one, two) = (Service::start_on(&url, few()).await, Service::start_on(&url, few()).await);
    publish_all(&nats, &traces::many("t", 200)).await;
    one.verdicts(200).await;
    nats.drained().await;
    let (first, second) = (metric(&one, &result("committed")).await, metric(&two, &result("committed")).await);
    assert_eq!(first + second, 200);
    assert!(first > 0 && second > 0, "{first} and {second}");
    // One leaves; the other has it all.
    one.stop(Duration::from_secs(10)).await;
    publish_all(&nats, &traces::many("later", 50)).await;
    two.verdicts(250).await;
    nats.drained().await;
}

#[tokio::test]
async fn fault_kill_9_of_nats_and_of_the_worker_loses_nothing_and_doubles_nothing() {
    let (mut nats, url) = (Nats::start().await, database().await);
    let mut config = with_source(config(&[ANSWERED]), source(&nats, "batch_messages_max = 20\nack_wait_ms = 2000\n"));
    config.work.dead_after_ms = 2_000;
    let mut program = Program::serve(&url, &config, "warn").await;
    let mut stored = HashSet::new();
    for round in 0..4 {
        for trace in traces::many(&format!("round{round}"), 150) {
            // What the server does not say it has stored, its sender must send again; here it is not.
            if nats.publish("llm.native", &[], trace.to_string()).await {
                stored.insert(trace["trace_id"].as_str().expect("text").to_owned());
            }
        }
        match round {
            0 | 2 => {
                program.kill().await;
                program = Program::serve(&url, &config, "warn").await;
            }
            1 => {
                nats.kill().await;
                for_a_while(Duration::from_millis(500)).await;
                nats.start_again();
            }
            _ => {}
        }
    }
    assert!(stored.len() > 300, "{} messages were stored", stored.len());
    let store = Store::connect(&url, 4, Duration::from_secs(10)).await.expect("the database is there");
    nats.drained().await;
    let decided = eventually("all is judged", || async {
        let stats = store.queue_stats(chrono::Utc::now()).await.ok()?;
        let (seen, _) = store.tally_totals().await.ok()?;
        let left = stats.open_traces + stats.inbox_spans + stats.ready + stats.delayed + stats.leased;
        (left == 0 && usize::try_from(seen).ok()? >= stored.len()).then_some(usize::try_from(seen).ok()?)
    })
    .await;
    // A message may have been stored although its sender was not told so.
    let verdicts = wait_for_verdicts(&store, decided).await;
    let judged = ids(&verdicts);
    assert_eq!(judged.len(), verdicts.len(), "one verdict a trace");
    assert!(stored.is_subset(&judged), "{} messages were lost", stored.difference(&judged).count());
    assert_eq!(store.parked_messages(10).await.expect("it can be read"), []);
    program.kill().await;
}

#[tokio::test]
async fn fault_messages_stay_in_hand_while_the_database_is_away() {
    let nats = Nats::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start(&dir.path().join("cluster"), true).await.expect("Postgres starts");
    let mut config = config(&[ANSWERED]);
    config.database.acquire_ms_max = 2_000;
    let config = with_source(
        config,
        source(&nats, "batch_messages_max = 10\nack_wait_ms = 2000\ndead_letter = \"parked.events\"\n"),
    );
    let service = Service::start_on(&cluster.url().clone(), config).await;
    publish_all(&nats, &traces::many("before", 20)).await;
    service.verdicts(20).await;
    // Longer than `ack_wait_ms`: without signs of life the messages would be delivered again and again.
    let (crashed, ()) = tokio::join!(cluster.crash_and_restart(Duration::from_secs(5)), async {
        for_a_while(Duration::from_millis(300)).await;
        publish_all(&nats, &traces::many("during", 40)).await;
    });
    crashed.expect("Postgres comes back");
    nats.drained().await;
    service.verdicts(60).await;
    assert_eq!(service.app.store.parked_messages(10).await.expect("it can be read"), []);
    assert_eq!(metric(&service, &result("parked")).await, 0);
    drop(service);
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_is_taken_while_the_backlog_is_full() {
    let nats = Nats::start().await;
    let (judge, base) = sim(Faults { hang_rate: 1.0, ..Faults::default() }).await;
    let mut config = config(&[JUDGED]);
    with_judges(&mut config, &base, &["a"]);
    config.judges.get_mut("a").expect("it is there").timeout_ms = Some(1_000);
    config.work.attempts_max = 1_000;
    config.ingest.backlog_max = 5;
    let service = Service::start(with_source(config, source(&nats, "parallel = 1\n"))).await;
    service.send(&traces::many("first", 5)).await;
    let held = "assize_source_held{source=\"events\"}";
    eventually("the source is held", || async { (metric(&service, held).await > 0).then_some(()) }).await;
    publish_all(&nats, &traces::many("second", 30)).await;
    let received = metric(&service, &result("received")).await;
    for_a_while(Duration::from_secs(2)).await;
    assert_eq!(metric(&service, &result("received")).await, received, "nothing more is taken");
    assert!(nats.waiting().await.is_some_and(|(pending, _)| pending > 20), "they wait in the broker");
    judge.set_faults(Faults::default());
    service.verdicts(35).await;
    nats.drained().await;
    eventually("the source is free again", || async { (metric(&service, held).await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn the_doctor_looks_at_sources_and_names_the_remedy() {
    let (nats, url) = (Nats::start().await, database().await);
    let dir = tempfile::tempdir().expect("a folder");
    let doctor = async |more: &str| {
        let file = dir.path().join("assize.toml");
        let text = format!(
            "[rubrics]\ndir = \"{}/rubrics\"\n[[sources]]\nname = \"events\"\nkind = \"nats\"\nformat = \"native\"\n{more}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::write(&file, text).expect("a file can be written");
        let path = file.to_str().expect("a plain path");
        let mut command = assize(&["doctor", "--json", "--config", path]);
        let output = command.env("DATABASE_URL", url.expose_secret()).env("NATS_URL", nats.url()).output().await;
        let output = output.expect("it runs");
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let found = all["findings"].as_array().expect("a list").iter().find(|f| f["what"] == "source events").cloned();
        found.unwrap_or_else(|| json!({"stderr": String::from_utf8_lossy(&output.stderr)}))
    };
    let good = doctor("stream = \"LLM\"").await;
    assert_eq!(
        (&good["ok"], &good["detail"]),
        (&json!(true), &json!("consumer assize is made at the start")),
        "{good}"
    );
    for (more, words) in [
        ("stream = \"OTHER\"", "looking for the stream"),
        ("stream = \"LLM\"\ndead_letter = \"llm.dead\"", "would come back for ever"),
        ("stream = \"LLM\"\ndead_letter = \"nobody.takes\"", "no stream takes the dead_letter subject"),
        ("stream = \"LLM\"\nurl = \"nats://127.0.0.1:9\"", "connecting to NATS"),
        ("stream = \"LLM\"\ntoken_env = \"NOT_SET\"", "environment variable NOT_SET is not set"),
    ] {
        let found = doctor(more).await;
        assert_eq!(found["ok"], json!(false), "{more}: {found}");
        assert!(found["detail"].as_str().is_some_and(|d| d.contains(words)), "{more}: {found}");
    }
}
