//! `assize doctor`: everything that a start needs, tried one by one, with the remedy beside what is wrong.

mod sources;
mod storage;

use super::{Context, database::Database, table};
use crate::app::Bench;
use crate::config::{Config, DatadogMode, GrpcListen};
use crate::domain::clock::{Clock, SystemClock};
use crate::rubrics::catalog::State;
use crate::runtime::http;
use crate::server::{Guard, Tls};
use crate::sinks;
use chrono::TimeDelta;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  assize doctor --config assize.toml\n\nExit code 1 when something is wrong.")]
pub(super) struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Show the configuration in force, without its secrets
    #[arg(long)]
    show_config: bool,
}

#[derive(Debug, serde::Serialize)]
struct Finding {
    what: String,
    ok: bool,
    detail: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn say(&mut self, what: impl Into<String>, ok: bool, detail: impl Into<String>) {
        self.0.push(Finding { what: what.into(), ok, detail: detail.into() });
    }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    if args.show_config {
        println!("{}", config.redacted());
    }
    let mut findings = Findings::default();
    findings.say("configuration", true, "valid");
    match Guard::new(&config, &context.ambient) {
        Ok(guard) if guard.is_open() => findings.say("tokens", true, "none: only this machine can reach the service"),
        Ok(_) => {
            let weak = config.server.weak_tokens(&context.ambient).join(", ");
            let guessed = if weak.is_empty() { String::new() } else { format!("; short enough to be guessed: {weak}") };
            findings.say("tokens", weak.is_empty(), format!("{} configured{guessed}", config.server.tokens.len()));
        }
        Err(error) => findings.say("tokens", false, error.to_string()),
    }
    doors(&config, &mut findings).await;
    database(&config, &mut findings).await;
    sources::reachable(&config, &mut findings).await;
    rubrics(&config, &mut findings).await;
    judges(&config, &mut findings).await;
    datadog(&config, &mut findings).await;
    channels(&config, &mut findings);
    let healthy = findings.0.iter().all(|f| f.ok);
    if args.json {
        println!("{}", serde_json::json!({"healthy": healthy, "findings": findings.0}));
    } else {
        let rows = findings.0.into_iter().map(|f| vec![if f.ok { "ok" } else { "WRONG" }.to_owned(), f.what, f.detail]);
        println!("{}", table::render(&["", "what", "detail"], rows.collect()));
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A certificate that is near its end.
const EXPIRES_SOON: TimeDelta = TimeDelta::days(7);

/// Whether the addresses can be had, or are those of a service that runs; and the certificate.
async fn doors(config: &Config, findings: &mut Findings) {
    let server = &config.server;
    let running = match http::probe(Duration::from_secs(2)) {
        Ok(client) => client.get(format!("{}/livez", server.local_url())).send().await.is_ok_and(|r| r.status() == 200),
        Err(_) => false,
    };
    let addresses = [("OTLP/HTTP, API", Some(server.listen)), ("OTLP/gRPC", server.grpc_address())];
    for (what, address) in addresses.into_iter().filter_map(|(what, address)| Some((what, address?))) {
        match tokio::net::TcpListener::bind(address).await {
            Ok(_) => findings.say(what, true, format!("{address} is free")),
            Err(_) if running => findings.say(what, true, format!("{address}: a service runs")),
            Err(_) if address != server.listen && server.grpc_listen == GrpcListen::Auto => {
                findings.say(what, true, format!("{address} is somebody else's; it is spoken at {}", server.listen));
            }
            Err(error) => findings.say(what, false, format!("cannot listen on {address}: {error}")),
        }
    }
    let Some(files) = &server.tls else { return findings.say("TLS", true, "none: the doors speak in clear") };
    match Tls::open(files).await {
        Ok(tls) => {
            let (at, now) = (tls.expires_at(), SystemClock.now());
            let soon = if at <= now + EXPIRES_SOON { "; renew it" } else { "" };
            let detail = format!("the certificate in {} is valid until {at}{soon}", files.cert_file.display());
            findings.say("TLS", soon.is_empty(), detail);
        }
        Err(error) => findings.say("TLS", false, format!("{:#}", anyhow::Error::from(error))),
    }
}

async fn database(config: &Config, findings: &mut Findings) {
    match Database::open(config, None).await {
        Ok(database) => {
            let place = place(config, &database);
            findings.say("database", true, place);
            match database.store.is_migrated().await {
                Ok(true) => findings.say("tables", true, "up to date"),
                Ok(false) if config.database.migrate => {
                    findings.say("tables", true, "not up to date; `serve` will do it at start");
                }
                Ok(false) => findings.say("tables", false, "not up to date; run `assize migrate`"),
                Err(error) => findings.say("tables", false, error.to_string()),
            }
            judging(&database, findings).await;
            watch(&database, findings).await;
            notices(config, &database, findings).await;
            sources::parked(&database, findings).await;
            storage::partitions(&config.retention, &database, findings).await;
            database.close().await;
        }
        Err(error) => {
            let cause = error.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ");
            findings.say(
                "database",
                false,
                if cause.is_empty() { error.to_string() } else { format!("{error} ({cause})") },
            );
        }
    }
}

/// Where the data is. A private folder is looked for from where one stands, which surprises those who stand elsewhere.
fn place(config: &Config, database: &Database) -> String {
    if config.database.url.is_some() {
        return "reachable".to_owned();
    }
    let dir = &config.database.private_dir;
    let shared = if database.is_shared { ", run by another assize process: it goes when that one stops" } else { "" };
    let whole = match database.private_dir() {
        Some(dir) => dir.to_owned(),
        None => std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
    };
    let from = if dir.is_absolute() {
        String::new()
    } else {
        let said = "is looked for from the current folder: from elsewhere it is another database";
        format!(
            "; database.private_dir = \"{}\" {said}, so make it an absolute path or set DATABASE_URL",
            dir.display()
        )
    };
    format!("private, in {}{shared}{from}", whole.display())
}

/// What rests, and what budgets have spent.
async fn judging(database: &Database, findings: &mut Findings) {
    // Tables that are not there yet hold nothing; `tables` above says so.
    for ((kind, name), pause) in database.store.pauses().await.unwrap_or_default() {
        let who = if kind == "queue" { "the queue".to_owned() } else { format!("judge {name}") };
        let resume = if kind == "queue" {
            "assize queue resume".to_owned()
        } else {
            format!("assize queue resume --judge {name}")
        };
        let probe =
            pause.probe_at.map_or_else(String::new, |at| format!("; tried again at {}", at.format("%H:%M:%S UTC")));
        let since = pause.since.format("%F %T UTC");
        findings.say(
            format!("{who} is paused"),
            false,
            format!("{} (since {since}{probe}); or: {resume}", pause.reason),
        );
    }
    let now = SystemClock.now();
    let spend = database.store.spend(now).await.unwrap_or_default();
    for row in spend {
        let whom = if row.subject.is_empty() { String::new() } else { format!(" of {}", row.subject) };
        let (usd, tokens, period) = (row.amount.usd, row.amount.tokens, row.period.as_str());
        let text = format!("{usd:.4} USD and {tokens:.0} tokens spent or reserved this {period}");
        findings.say(format!("budget {}{whom}", row.budget), true, text);
    }
}

/// Verdicts may wait so long to be watched before that is trouble.
const WATCH_LAG_MAX: TimeDelta = TimeDelta::minutes(10);

/// Whether somebody watches, and keeps up.
async fn watch(database: &Database, findings: &mut Findings) {
    let now = SystemClock.now();
    let lag = match database.store.unwatched_since().await {
        Ok(since) => since.map_or(TimeDelta::zero(), |at| now - at),
        Err(error) => return findings.say("watch", false, error.to_string()),
    };
    if lag > WATCH_LAG_MAX {
        let remedy = "no alert can be raised for it; a process with the role `watch` must run: see its log";
        let text = format!("the oldest verdict that nobody has watched is {} minutes old; {remedy}", lag.num_minutes());
        findings.say("watch", false, text);
    } else {
        findings.say("watch", true, format!("{} s behind", lag.num_seconds().max(0)));
    }
}

/// Notices of alerts that do not arrive.
async fn notices(config: &Config, database: &Database, findings: &mut Findings) {
    for stats in database.store.channel_stats().await.unwrap_or_default() {
        let what = format!("alerts to {}", stats.channel);
        let error = stats.last_error.map_or_else(String::new, |e| format!("; last error: {e}"));
        let counted = format!("{} waiting, {} failing, {} dead{error}", stats.waiting, stats.failing, stats.dead);
        if stats.waiting > 0 && !config.alerts.channels.contains_key(&stats.channel) {
            findings.say(what, false, format!("{counted}; the channel is not configured any more"));
        } else if stats.dead > 0 {
            findings.say(what, false, format!("{counted}; when it is repaired: assize alerts redrive"));
        } else {
            findings.say(what, stats.failing == 0, counted);
        }
    }
}

/// Whether the channels of alerts can be set up; nothing is sent.
fn channels(config: &Config, findings: &mut Findings) {
    let count = config.alerts.channels.len();
    match sinks::alerts::build(config) {
        Ok(_) if count == 0 => {
            findings.say("alert channels", true, "none: alerts are only listed; add [alerts.channels.NAME]");
        }
        Ok(made) => {
            let names = made.keys().cloned().collect::<Vec<_>>().join(", ");
            findings.say("alert channels", true, format!("{names}; try one with `assize alerts test NAME`"));
        }
        Err(error) => findings.say("alert channels", false, error.to_string()),
    }
}

/// The files here, and what the running service says of its own.
async fn rubrics(config: &Config, findings: &mut Findings) {
    let bench = match Bench::build(config.clone(), Arc::new(SystemClock), None) {
        Ok(bench) => bench,
        Err(error) => return findings.say("rubrics", false, error.to_string()),
    };
    let catalog = bench.rubrics.load_full();
    let names: Vec<&str> = catalog.entries().keys().map(String::as_str).collect();
    for why in config.unmatched_rubrics(&names) {
        findings.say("configuration", false, why);
    }
    let running = running_states(config).await;
    for (name, entry) in catalog.entries() {
        let version = entry.judging.as_ref().map(|rubric| rubric.version.clone());
        let here = entry.state.why().unwrap_or_else(|| format!("active, {}", version.unwrap_or_default()));
        let (ok, detail) = match running.get(name).map(String::as_str) {
            Some("active") | None => (entry.state.why().is_none() || entry.state == State::Paused, here),
            Some("paused") => (true, here),
            Some(word) => {
                (false, format!("{here}; the running service says {word}: its log and /api/v1/rubrics say why"))
            }
        };
        findings.say(format!("rubric {name}"), ok, detail);
    }
}

/// The states of rubrics in the service that listens here, by its metrics; none when there is no such service.
async fn running_states(config: &Config) -> BTreeMap<String, String> {
    let url = format!("{}/metrics", config.server.local_url());
    let Ok(client) = http::probe(Duration::from_secs(2)) else { return BTreeMap::new() };
    let Ok(response) = client.get(url).send().await else { return BTreeMap::new() };
    let text = response.text().await.unwrap_or_default();
    let one = |line: &str| {
        let (name, rest) = line.strip_prefix("assize_rubric_state{rubric=\"")?.split_once("\",state=\"")?;
        Some((name.to_owned(), rest.strip_suffix("\"} 1")?.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

/// Says when a judge's cost cannot be counted.
fn price(judge: &crate::config::Judge) -> &'static str {
    let known = judge.price.is_some() || crate::llm::judges::list_price(&judge.model).is_some();
    if known { "" } else { "; its price is unknown, so its cost counts as 0 (set price)" }
}

/// Asks each endpoint for its models, which costs nothing.
async fn judges(config: &Config, findings: &mut Findings) {
    if config.judges.is_empty() {
        let needed = Bench::build(config.clone(), Arc::new(SystemClock), None)
            .is_ok_and(|b| b.rubrics.load().entries().values().any(|e| e.state.as_str() == "no_judge"));
        findings.say(
            "judges",
            !needed,
            "none configured: only rubrics of deterministic checks judge; set OPENAI_API_KEY or add [judges.NAME]",
        );
    }
    for (name, judge) in &config.judges {
        let base = judge.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
        let what = format!("judge {name}");
        let Ok(client) = http::client(Duration::from_secs(10)) else { continue };
        let mut request = client.get(format!("{base}/models"));
        if let Some(key) = &judge.api_key {
            request = request.bearer_auth(key.expose_secret());
        }
        match request.send().await {
            Ok(r) if r.status().is_success() => {
                findings.say(what, true, format!("{} at {base} answers{}", judge.model, price(judge)));
            }
            Ok(r) if r.status().as_u16() == 401 => {
                let variable = judge.api_key_env.as_deref().unwrap_or("api_key_env and the variable that it names");
                findings.say(what, false, format!("{base} refuses the key; set {variable}"));
            }
            Ok(r) => match with_v1(&client, judge, base).await {
                Some(better) => findings.say(
                    what,
                    false,
                    format!("{base} has no API, {better} has: set judges.{name}.base_url = \"{better}\""),
                ),
                None => {
                    findings.say(
                        what,
                        true,
                        format!(
                            "{base} answers {} to /models, which not every server has; `assize eval` tries it",
                            r.status()
                        ),
                    );
                }
            },
            Err(_) => findings.say(what, false, format!("{base} does not answer; check judges.{name}.base_url")),
        }
    }
}

/// The address with `/v1`, where it has none and the API is there.
async fn with_v1(client: &reqwest::Client, judge: &crate::config::Judge, base: &str) -> Option<String> {
    if base.ends_with("/v1") {
        return None;
    }
    let better = format!("{base}/v1");
    let mut request = client.get(format!("{better}/models"));
    if let Some(key) = &judge.api_key {
        request = request.bearer_auth(key.expose_secret());
    }
    let answer = request.send().await.ok()?;
    // A server that wants another key has the API too.
    (answer.status().is_success() || answer.status().as_u16() == 401).then_some(better)
}

async fn datadog(config: &Config, findings: &mut Findings) {
    if let Err(error) = sinks::build(config) {
        findings.say("sinks", false, error.to_string());
    }
    let Some(mode) = config.datadog.mode() else {
        findings.say("Datadog", true, "not configured; set DD_API_KEY or DD_AGENT_HOST to send evaluation metrics");
        return;
    };
    let Ok(client) = http::client(Duration::from_secs(10)) else { return };
    let (request, place) = match &mode {
        DatadogMode::Agentless { url, key } => {
            (client.get(format!("{url}/api/v1/validate")).header("DD-API-KEY", key.expose_secret()), url)
        }
        DatadogMode::Agent { url } => (client.get(format!("{url}/info")), url),
    };
    match request.send().await {
        Ok(r) if r.status().is_success() => {
            let info = r.text().await.unwrap_or_default();
            let proxy = matches!(mode, DatadogMode::Agentless { .. }) || info.contains("/evp_proxy/v2/");
            let detail = if proxy {
                format!("{place} answers")
            } else {
                format!("the agent at {place} has no evp_proxy; update it or enable evp_proxy_config")
            };
            findings.say("Datadog", proxy, detail);
        }
        Ok(r) => {
            findings.say("Datadog", false, format!("{place} answers {}; check DD_API_KEY and DD_SITE", r.status()));
        }
        Err(_) => findings.say("Datadog", false, format!("{place} does not answer")),
    }
}
