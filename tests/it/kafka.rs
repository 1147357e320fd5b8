//! Traces from Kafka, against librdkafka's mock cluster: messages as the Collector's kafkaexporter writes them, what cannot be read,
//! replicas and their rebalances, a restart.
//!
//! What must hold: as with NATS, and offsets are committed only for what is in Postgres.

use crate::support::{ANSWERED, Service, config, database, eventually, fixture_bytes, for_a_while, traces};
use assize::config::{Config, Source};
use assize::domain::verdict::Verdict;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

fn cluster(partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in ["otlp_spans", "events", "parked"] {
        cluster.create_topic(topic, partitions, 1).expect("a topic");
    }
    cluster
}

fn source(brokers: &str, more: &str) -> Source {
    let text = format!(
        "name = \"events\"\nkind = \"kafka\"\nbrokers = [\"{brokers}\"]\ngroup = \"assize\"\nparallel = 1\n\
         retry_ms = 50\nretry_ms_max = 500\n{more}"
    );
    toml::from_str(&text).expect("a valid source")
}

fn with_source(mut config: Config, source: Source) -> Config {
    config.sources = vec![source];
    config.check().expect("a valid configuration");
    config
}

fn producer(brokers: &str, compression: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("compression.type", compression);
    config.create().expect("a producer")
}

async fn send(producer: &FutureProducer, topic: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) {
    let headers =
        headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
    let record = FutureRecord::to(topic).key(key).payload(body).headers(headers);
    producer.send(record, TIMEOUT).await.expect("the cluster takes it");
}

/// What the Collector sends for one batch of spans; each batch here has traces of its own.
fn request(n: u8) -> (String, Vec<u8>) {
    let body = fixture_bytes("captures/otel-genai-openai-span/traces-a.pb");
    let mut request = ExportTraceServiceRequest::decode(&body[..]).expect("a capture");
    let mut key = String::new();
    for span in request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans) {
        span.trace_id[0] = n;
        key = hex::encode(&span.trace_id);
    }
    (key, request.encode_to_vec())
}

/// The group's committed offsets and the ends of a topic's partitions.
fn committed(brokers: &str, topic: &str, partitions: i32) -> Option<(i64, i64)> {
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer =
        config.set("bootstrap.servers", brokers).set("group.id", "assize").create().expect("a consumer");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let known = consumer.committed_offsets(asked, TIMEOUT).ok()?;
    let offset = |offset: Offset| if let Offset::Offset(n) = offset { n } else { 0 };
    let ours = known.elements().iter().map(|e| offset(e.offset())).sum();
    let ends = (0..partitions).map(|p| consumer.fetch_watermarks(topic, p, TIMEOUT).map_or(0, |(_, high)| high)).sum();
    Some((ours, ends))
}

async fn all_committed(brokers: &str, topic: &str, partitions: i32) {
    eventually("all offsets are committed", || async {
        committed(brokers, topic, partitions).is_some_and(|(ours, ends)| ours == ends && ends > 0).then_some(())
    })
    .await;
}

fn ids(verdicts: &[Verdict]) -> HashSet<String> {
    verdicts.iter().map(|v| v.trace_id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collectors_messages_are_judged_whatever_their_compression() {
    let cluster = cluster(2);
    let brokers = cluster.bootstrap_servers();
    let more = "topics = [\"otlp_spans\", \"events\"]\nformat = \"otlp_proto\"\n\
        formats = [{ subject = \"events\", format = \"otlp_json\" }]\nheaders = { tenant = \"x-tenant\" }\n";
    let service = Service::start(with_source(config(&[ANSWERED]), source(&brokers, more))).await;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for (n, codec) in (1_u8..).zip(codecs) {
        let (key, body) = request(n);
        send(&producer(&brokers, codec), "otlp_spans", &key, &[("x-tenant", codec)], &body).await;
    }
    let json = fixture_bytes("otel-genai-openai-span.json");
    send(&producer(&brokers, "gzip"), "events", "", &[], &json).await;
    let verdicts = eventually("verdicts from all messages", || async {
        let page = service.get("/api/v1/verdicts?limit=1000").await;
        let found = page["verdicts"].as_array()?.clone();
        let tenants: BTreeSet<&str> = found.iter().filter_map(|v| v["trace"]["tenant"].as_str()).collect();
        let own = found.iter().any(|v| !codecs.iter().any(|codec| v["trace"]["tenant"] == *codec));
        (codecs.iter().all(|codec| tenants.contains(codec)) && own).then_some(found)
    })
    .await;
    let one = verdicts.iter().filter(|v| v["trace"]["tenant"] == "zstd").count();
    for codec in codecs {
        let same = verdicts.iter().filter(|v| v["trace"]["tenant"] == codec).count();
        assert_eq!(same, one, "{codec} carries the same traces");
    }
    all_committed(&brokers, "otlp_spans", 2).await;
    all_committed(&brokers, "events", 2).await;
    service.stop(TIMEOUT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_parked_and_holds_up_nothing() {
    let cluster = cluster(1);
    let brokers = cluster.bootstrap_servers();
    let more = "topics = [\"events\"]\nformat = \"native\"\ndead_letter = \"parked\"\n";
    let service = Service::start(with_source(config(&[ANSWERED]), source(&brokers, more))).await;
    let producer = producer(&brokers, "none");
    send(&producer, "events", "", &[("x-own", "kept")], b"{ no JSON").await;
    send(&producer, "events", "", &[], traces::trace("t-good", "Within 30 days.").to_string().as_bytes()).await;
    let verdicts = service.verdicts(1).await;
    assert_eq!(ids(&verdicts), HashSet::from(["t-good".to_owned()]));
    all_committed(&brokers, "events", 1).await;
    let parked = service.app.store.parked_messages(10).await.expect("it can be read");
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].position, "events 0 0");
    assert!(parked[0].reason.starts_with("line 1: not JSON"), "{}", parked[0].reason);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &brokers).set("group.id", "reader").set("auto.offset.reset", "earliest");
    let reader: BaseConsumer = config.create().expect("a consumer");
    reader.subscribe(&["parked"]).expect("it can be subscribed to");
    let letter =
        eventually("the dead letter", || async { reader.poll(Duration::ZERO)?.ok().map(|m| m.detach()) }).await;
    assert_eq!(letter.payload(), Some(&b"{ no JSON"[..]));
    let headers: Vec<(String, String)> = letter
        .headers()
        .expect("it has headers")
        .iter()
        .map(|h| (h.key.to_owned(), String::from_utf8_lossy(h.value.unwrap_or_default()).into_owned()))
        .collect();
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    assert_eq!(header("x-own").as_deref(), Some("kept"));
    assert_eq!(header("Assize-Position").as_deref(), Some("events 0 0"));
    assert!(header("Assize-Reason").is_some_and(|reason| reason.contains("not JSON")));
    service.stop(TIMEOUT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_partitions_and_a_restart_goes_on_where_it_was() {
    let cluster = cluster(4);
    let brokers = cluster.bootstrap_servers();
    let url = database().await;
    // A short session, so that the group notices soon who has come and gone.
    let more = "topics = [\"events\"]\nformat = \"native\"\nbatch_messages_max = 5\n\
        properties = { \"session.timeout.ms\" = \"6000\", \"heartbeat.interval.ms\" = \"500\" }\n";
    let start = || Service::start_on(&url, with_source(config(&[ANSWERED]), source(&brokers, more)));
    let producer = producer(&brokers, "none");
    let publish = async |name: &str, count: usize| {
        for (n, trace) in traces::many(name, count).into_iter().enumerate() {
            send(&producer, "events", &format!("{name}{n}"), &[], trace.to_string().as_bytes()).await;
        }
    };
    let one = start().await;
    publish("first", 40).await;
    one.verdicts(40).await;
    let two = start().await;
    let committed_by = async |service: &Service| {
        let text = service.http.get(format!("{}/metrics", service.base)).send().await.expect("it answers").text().await;
        let text = text.expect("a body");
        let line = "assize_source_messages_total{result=\"committed\",source=\"events\"} ";
        text.lines().find_map(|l| l.strip_prefix(line)?.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut total = 40;
    // Sent while the group is changing hands: each comes to one of them.
    while committed_by(&two).await == 0 {
        publish(&format!("more{total}"), 10).await;
        total += 10;
        for_a_while(Duration::from_millis(300)).await;
        assert!(total < 2_000, "the second replica was never given a partition");
    }
    one.verdicts(total).await;
    all_committed(&brokers, "events", 4).await;
    one.stop(Duration::from_secs(20)).await;
    drop(one);
    two.stop(Duration::from_secs(20)).await;
    drop(two);
    publish("last", 20).await;
    let again = start().await;
    again.verdicts(total + 20).await;
    assert_eq!(committed_by(&again).await, 20, "what was committed did not come again");
    all_committed(&brokers, "events", 4).await;
    again.stop(TIMEOUT).await;
}
