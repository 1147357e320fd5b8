//! `assize alerts`: what has dropped, and what became of it.

use super::{Context, database::Database};
use crate::config::{Alerts, Config};
use crate::domain::alert::incident::{Alert, Change, ChangeKind, Merged, State};
use crate::domain::alert::notice::{Notice, shown};
use crate::domain::alert::{Estimate, Evidence, Finding, Kind, Measure, Severity, text};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::Delivery;
use crate::sinks;
use crate::store::Store;
use crate::store::alerts::{AlertFilter, By};
use chrono::{DateTime, Utc};
use std::fmt::Write;
use std::process::ExitCode;
use uuid::Uuid;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  assize alerts list\n  assize alerts show 3f2a8c31-5c0d-5f0e-9a53-0d4f6f0f4a11\n  \
    assize alerts ack 3f2a8c31-5c0d-5f0e-9a53-0d4f6f0f4a11 --by ann\n  \
    assize alerts close 3f2a8c31-5c0d-5f0e-9a53-0d4f6f0f4a11 --by ann --why \"rolled back to v2\"\n  \
    assize alerts test team"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Alerts that are not resolved
    List(Listing),
    /// Everything about one alert
    Show(One),
    /// Say that somebody looks at it
    Ack(Acting),
    /// Say that it is over, and why
    Close(Acting),
    /// Send a test notice to a channel, at once and past the queue
    Test {
        /// The channel's name in the configuration
        channel: String,
    },
    /// Try notices again that were given up
    Redrive,
}

#[derive(Debug, Default, clap::Args)]
struct Listing {
    /// Resolved ones too
    #[arg(long)]
    all: bool,
    /// Only about this rubric
    #[arg(long)]
    rubric: Option<String>,
    /// At most this many, newest first
    #[arg(long, default_value_t = 50)]
    limit: i64,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The alert
    id: Uuid,
}

#[derive(Debug, clap::Args)]
struct Acting {
    /// The alert
    id: Uuid,
    /// Who you are
    #[arg(long, env = "USER", default_value = "somebody, on the command line")]
    by: String,
    /// Why; needed to close
    #[arg(long)]
    why: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    if let Some(What::Test { channel }) = &args.what {
        return test(channel, &config, args.json).await;
    }
    if let Some(What::Close(Acting { why: None, .. })) = &args.what {
        anyhow::bail!("say why it is over, for those who look later: --why \"rolled back\"");
    }
    let database = Database::open(&config, None).await?;
    let result = act(&args, &config.alerts, &database.store).await;
    database.close().await;
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}

async fn act(args: &Args, config: &Alerts, store: &Store) -> anyhow::Result<String> {
    let now = SystemClock.now();
    let usual = Listing { limit: 50, ..Listing::default() };
    let tell = |alert: Alert| {
        if args.json { shown(&alert, true, &config.links()).to_string() } else { told(alert, config, now) }
    };
    let found = |id: &Uuid, alert: Option<Alert>| {
        alert.ok_or_else(|| anyhow::anyhow!("there is no alert {id}; `assize alerts list --all` lists them"))
    };
    match args.what.as_ref() {
        None => list(&usual, args.json, config, store).await,
        Some(What::List(listing)) => list(listing, args.json, config, store).await,
        Some(What::Show(One { id })) => Ok(tell(found(id, store.alert(*id).await?)?)),
        Some(What::Ack(Acting { id, by, why })) => {
            let by = By { whom: Some(by), why: why.as_deref() };
            Ok(tell(found(id, store.acknowledge(*id, by, config, now).await?)?))
        }
        Some(What::Close(Acting { id, by, why })) => {
            let by = By { whom: Some(by), why: why.as_deref() };
            Ok(tell(found(id, store.resolve(*id, by, config, now).await?)?))
        }
        Some(What::Redrive | What::Test { .. }) => {
            let count = store.redrive_deliveries(now).await?;
            Ok(if args.json {
                format!("{{\"redriven\":{count}}}")
            } else {
                format!("{count} notices will be tried again")
            })
        }
    }
}

async fn list(listing: &Listing, as_json: bool, config: &Alerts, store: &Store) -> anyhow::Result<String> {
    let states = if listing.all { vec![] } else { vec![State::Open, State::Acknowledged] };
    let filter = AlertFilter {
        states,
        rubric: listing.rubric.clone(),
        limit: listing.limit.clamp(1, 10_000),
        ..AlertFilter::default()
    };
    let alerts = store.alerts(&filter).await?;
    if as_json {
        let all: Vec<_> = alerts.iter().map(|alert| shown(alert, true, &config.links())).collect();
        return Ok(serde_json::json!({ "alerts": all }).to_string());
    }
    if alerts.is_empty() {
        return Ok(if listing.all { "no alerts" } else { "no alerts that are not resolved; --all lists the others" }
            .to_owned());
    }
    // No table: an id that is wrapped cannot be copied.
    let lines = alerts.iter().map(|alert| {
        let (state, severity) = (alert.state.as_str(), alert.severity.as_str());
        let (since, title) = (text::time(alert.since()), text::title(alert));
        format!("{}  {state}, {severity}, since about {since}\n    {title}", alert.id)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// The alert as a channel with content would tell it, and its life.
fn told(alert: Alert, config: &Alerts, now: DateTime<Utc>) -> String {
    let changes = alert.changes.clone();
    let change = changes.last().cloned().unwrap_or(Change {
        number: 0,
        kind: ChangeKind::Opened,
        severity: alert.severity,
        at: alert.opened_at,
        by: None,
        why: None,
    });
    let notice = Notice { id: Uuid::nil(), change, alert, links: config.links(), content: true, at: now, test: false };
    let mut out = text::text(&notice);
    out.push_str("\nLife:");
    for change in &changes {
        let by = change.by.as_deref().map_or_else(String::new, |by| format!(" by {}", text::plain(by)));
        let why = change.why.as_deref().map_or_else(String::new, |why| format!(": {}", text::plain(why)));
        let (at, kind, severity) = (text::time(change.at), change.kind.as_str(), change.severity.as_str());
        write!(out, "\n  {at}  {kind} ({severity}){by}{why}").expect("a String can be written");
    }
    out
}

/// Opens and resolves a made-up alert at one channel, so that nothing stays open there.
async fn test(name: &str, config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    let channels = sinks::alerts::build(config)?;
    let Some(channel) = channels.get(name) else { anyhow::bail!(config.alerts.unknown_channel(name)) };
    let mut alert = example(SystemClock.now());
    let mut outcome = Delivery::Delivered;
    for kind in [ChangeKind::Opened, ChangeKind::Resolved] {
        let now = SystemClock.now();
        let number = i32::try_from(alert.changes.len()).unwrap_or(0) + 1;
        let why = Some("this only tries the channel".to_owned());
        let change = Change { number, kind, severity: alert.severity, at: now, by: None, why };
        alert.changes.push(change.clone());
        if kind == ChangeKind::Resolved {
            (alert.state, alert.resolved_at) = (State::Resolved, Some(now));
        }
        let id = alert.delivery_id(number, name);
        let links = config.alerts.links();
        let notice = Notice { id, change, alert: alert.clone(), links, content: false, at: now, test: true };
        outcome = channel.tell(&notice).await;
        if outcome != Delivery::Delivered {
            break;
        }
    }
    let reason = match &outcome {
        Delivery::Delivered => None,
        Delivery::Retry { reason, .. } | Delivery::Dead { reason } => Some(reason.as_str()),
    };
    if as_json {
        println!("{}", serde_json::json!({"channel": name, "delivered": reason.is_none(), "error": reason}));
    } else if let Some(reason) = reason {
        eprintln!("channel {name}: {reason}");
    } else {
        println!("channel {name}: a test alert was opened and resolved");
    }
    Ok(if reason.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn example(now: DateTime<Utc>) -> Alert {
    let share = |value: f64| Some(Estimate { value, lower: Some(value - 0.02), upper: Some(value + 0.02) });
    let finding = Finding {
        kind: Kind::ChangeScan,
        measure: Measure::PassRate,
        rubric: Some("test_of_the_channel".to_owned()),
        rubric_version: None,
        stream: [("environment".to_owned(), "test".to_owned())].into(),
        from: share(0.9),
        to: share(0.8),
        limit: None,
        since: now,
        found_at: now,
        n: 100,
        n_eff: 100.0,
        weights: None,
        evidence: Evidence::default(),
        versions: Vec::new(),
        severity: Severity::Info,
        examples: Vec::new(),
        deploys: Vec::new(),
        runbook: Some("nothing: this only tries the channel".to_owned()),
        canaries: None,
    };
    Alert {
        id: Uuid::now_v7(),
        state: State::Open,
        severity: Severity::Info,
        opened_at: now,
        updated_at: now,
        resolved_at: None,
        findings: vec![Merged { fingerprint: finding.fingerprint(), finding, first_found_at: now, recovered_at: None }],
        changes: Vec::new(),
    }
}
