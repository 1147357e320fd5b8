//! Builders and fault tools of the integration tests.
//!
//! Its rule: each test has a database of its own; waiting is for a condition, with a bound, never for a time.

pub mod intake;
pub mod nats;
pub mod program;
pub mod recorder;
pub mod traces;

use assize::app::App;
use assize::config::{Config, Judge, Price};
use assize::domain::clock::{Clock, SystemClock};
use assize::domain::verdict::Verdict;
use assize::llm::sim::{Faults, Sim};
use assize::pipeline::{self, Roles, ingest::Inbox};
use assize::runtime::lifecycle::Lifecycle;
use assize::server::{self, Door, Guard, Tls};
use assize::store::Store;
use assize::store::cluster::{Cluster, fresh_database};
use assize::store::verdicts::VerdictFilter;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of this run of the tests. What runs left behind whose process is gone is removed, since a server's files are large.
fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        const PREFIX: &str = "assize-test-";
        let temp = std::env::temp_dir();
        for entry in std::fs::read_dir(&temp).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.strip_prefix(PREFIX).and_then(|id| id.parse::<u32>().ok());
            if process.is_some_and(|id| Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{id}")).exists())
            {
                drop(std::fs::remove_dir_all(entry.path()));
            }
        }
        temp.join(format!("{PREFIX}{}", std::process::id()))
    })
}

/// A folder that nobody else uses; it stays until a later run.
pub fn folder() -> PathBuf {
    let path = run_folder().join(Uuid::now_v7().simple().to_string());
    std::fs::create_dir_all(&path).expect("a folder can be made");
    path
}

/// The server that all tests share: `DATABASE_URL`, or a private one that goes with this process.
async fn shared_server() -> SecretString {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        return url.into();
    }
    let start = || async { Cluster::start(&folder().join("cluster"), false).await.expect("a private Postgres starts") };
    CLUSTER.get_or_init(start).await.url().clone()
}

/// A database that nobody else uses.
pub async fn database() -> SecretString {
    let name = format!("test_{}", Uuid::now_v7().simple());
    fresh_database(&shared_server().await, &name).await.expect("a database can be made")
}

/// Waits until `probe` gives something.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets a fault last: the one place where a test lets time pass.
pub async fn for_a_while(how_long: Duration) {
    tokio::time::sleep(how_long).await;
}

/// Serves a router on a free loopback port; gives its base URL.
pub async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it has an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

/// A configuration for tests: short waits, rubrics of the test.
pub fn config(rubrics: &[&str]) -> Config {
    let dir = folder();
    for (n, text) in rubrics.iter().enumerate() {
        std::fs::write(dir.join(format!("{n}.yaml")), text).expect("a rubric can be written");
    }
    let mut config = Config::default();
    config.rubrics.dir = dir;
    config.assembly.quiet_ms = 50;
    config.assembly.idle_ms = 400;
    config.assembly.hard_cap_ms = 5_000;
    config.assembly.tick_ms = 20;
    // Most tests send the same text many times and count requests; the cache has tests of its own.
    config.work.cache_seconds = 0;
    config.work.poll_ms = 20;
    config.work.retry_ms = 100;
    config.work.retry_ms_max = 1_000;
    config.export.poll_ms = 20;
    config.export.retry_ms = 50;
    config.export.retry_ms_max = 200;
    config.watch.tick_ms = 100;
    config.watch.lease_ms = 1_000;
    config
}

/// A free rubric that always scores.
pub const ANSWERED: &str = "name: answered\nchecks: [failure_to_answer]\n";

/// A rubric with a panel.
pub const JUDGED: &str = "name: judged\npanel: default\nprompt: \"{{ question }} {{ answer }}\"\n";

/// Adds a panel of simulated judges that are at `base`.
pub fn with_judges(config: &mut Config, base: &str, names: &[&str]) {
    for name in names {
        let judge = Judge {
            model: format!("sim-{name}"),
            base_url: Some(format!("{base}/v1")),
            timeout_ms: Some(2_000),
            price: Some(Price { input_usd_per_million: 1.0, output_usd_per_million: 4.0, ..Price::default() }),
            ..Judge::default()
        };
        config.judges.insert((*name).to_owned(), judge);
    }
    config.panels = BTreeMap::from([("default".to_owned(), names.iter().map(|n| (*n).to_owned()).collect())]);
}

/// A simulated judge over HTTP.
pub async fn sim(faults: Faults) -> (Sim, String) {
    let sim = Sim::new(faults);
    let base = serve(sim.router()).await;
    (sim, base)
}

/// The service, in this process.
pub struct Service {
    pub app: Arc<App>,
    pub base: String,
    pub http: reqwest::Client,
    life: Lifecycle,
}

impl Service {
    /// Starts it on a database of its own.
    pub async fn start(config: Config) -> Self {
        Self::start_on(&database().await, config).await
    }

    /// Starts it on a given database.
    pub async fn start_on(url: &SecretString, config: Config) -> Self {
        Self::start_at(url, config, Arc::new(SystemClock)).await
    }

    /// Starts it with a clock of the test's.
    pub async fn start_at(url: &SecretString, config: Config, clock: Arc<dyn Clock>) -> Self {
        let database = &config.database;
        let acquire = Duration::from_millis(database.acquire_ms_max);
        let store = Store::connect(url, database.connections_max, acquire).await.expect("the database is there");
        store.migrate().await.expect("the tables can be made");
        let app = App::build(config, store, clock).await.expect("a valid configuration");
        let life = Lifecycle::default();
        let inbox = Inbox::start(&app, &life);
        pipeline::pull::start(&app, &inbox, &life);
        let router = server::router(&app, Some(inbox), true, Guard::default());
        let base = serve(router).await;
        pipeline::start(&app, Roles { ingest: true, work: true, export: true, watch: true, web: true }, &life);
        let http = assize::runtime::http::client(PATIENCE).expect("an HTTP client");
        Self { app, base, http, life }
    }

    /// Opens a door of the program's own kind, beside the one of the tests; gives its base URL.
    pub async fn door(&self, guard: Guard, tls: Option<Arc<Tls>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let router = server::router(&self.app, Some(Inbox::start(&self.app, &self.life)), true, guard);
        server::serve(&self.app, Door { name: "test", listener, router, tls }, &self.life);
        format!("{scheme}://{address}")
    }

    /// Sends a body and gives status and answer.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Vec<u8>) {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("the service answers");
        (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
    }

    /// Sends native traces, one a line, and demands that all are taken.
    pub async fn send(&self, traces: &[serde_json::Value]) {
        let body: String = traces.iter().map(|t| format!("{t}\n")).collect();
        let (status, answer) = self.post("/api/v1/traces", &[("content-type", "application/x-ndjson")], body).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }

    /// A JSON answer.
    pub async fn get(&self, path: &str) -> serde_json::Value {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.expect("the service answers");
        response.json().await.expect("it is JSON")
    }

    /// Waits until exactly `count` verdicts are stored and nothing is left to do.
    pub async fn verdicts(&self, count: usize) -> Vec<Verdict> {
        wait_for_verdicts(&self.app.store, count).await
    }

    /// Stops it, softly, then hard after `drain`.
    pub async fn stop(&self, drain: Duration) {
        self.life.stop(drain, std::future::pending()).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.life.hard.cancel();
        self.life.soft.cancel();
    }
}

/// Waits until exactly `count` verdicts are stored and no job is left; more than that is a failure.
pub async fn wait_for_verdicts(store: &Store, count: usize) -> Vec<Verdict> {
    let limit = i64::try_from(count + 10).expect("a small number");
    let what = format!("{count} verdicts");
    let all = eventually(&what, || async {
        let found = store.verdicts(&VerdictFilter { limit, ..VerdictFilter::default() }).await.ok()?;
        assert!(found.len() <= count, "{} verdicts where {count} were expected", found.len());
        let stats = store.queue_stats(chrono::Utc::now()).await.ok()?;
        let idle = stats.ready + stats.delayed + stats.leased + stats.open_traces == 0;
        (found.len() == count && idle).then_some(found)
    });
    let Ok(found) = tokio::time::timeout(PATIENCE.saturating_sub(Duration::from_secs(1)), all).await else {
        panic!("gave up waiting for {count} verdicts; {}", left_over(store).await)
    };
    found
}

/// What is not done yet, and why.
async fn left_over(store: &Store) -> String {
    let queue = store.queue_stats(chrono::Utc::now()).await;
    let jobs: Result<Vec<String>, _> = sqlx::query_scalar(
        "SELECT concat_ws(' ', rubric, 'attempts', attempts, 'visible', visible_at, 'leased', lease_token IS NOT NULL, last_error)
         FROM jobs ORDER BY visible_at LIMIT 5",
    )
    .fetch_all(store.pool())
    .await;
    format!("{queue:?}, jobs {jobs:?}")
}

/// A fixture's path.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's content.
pub fn fixture_bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect("the fixture is there")
}
