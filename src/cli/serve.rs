//! `assize serve`: the service.

use super::{Context, database::Database};
use crate::app::App;
use crate::config::{Config, GrpcListen};
use crate::domain::clock::{Clock, SystemClock};
use crate::pipeline::ingest::Inbox;
use crate::pipeline::{self, Roles};
use crate::runtime::lifecycle::Lifecycle;
use crate::server::{self, Door, Guard, Tls};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Where the service listens.
#[derive(Debug)]
pub(super) struct Doors {
    pub http: TcpListener,
    pub grpc: Option<TcpListener>,
    pub tls: Option<Arc<Tls>>,
}

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  assize serve\n  assize serve --config assize.toml --roles ingest,web\n  \
    DATABASE_URL=postgres://assize@db/assize assize serve --roles work,export")]
pub(super) struct Args {
    /// What this process does; roles scale apart
    #[arg(long, value_delimiter = ',', default_values_t = [Role::Ingest, Role::Work, Role::Export, Role::Watch, Role::Web])]
    roles: Vec<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Take traces in, assemble, sample, enqueue
    Ingest,
    /// Judge
    Work,
    /// Send verdicts out
    Export,
    /// Tell people of alerts
    Watch,
    /// Read API
    Web,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Ingest => "ingest",
            Self::Work => "work",
            Self::Export => "export",
            Self::Watch => "watch",
            Self::Web => "web",
        };
        f.write_str(name)
    }
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let guard = Guard::new(&config, &context.ambient)?;
    let doors = open(&config, args.roles.contains(&Role::Ingest)).await?;
    for name in config.server.weak_tokens(&context.ambient) {
        tracing::warn!(name, "the token is short enough to be guessed; make one with `openssl rand -hex 32`");
    }
    let database = Database::open(&config, None).await?;
    if let Some(dir) = database.private_dir() {
        tracing::info!(dir = %dir.display(), "no DATABASE_URL: using a private Postgres, kept between runs");
    }
    if database.is_shared {
        tracing::warn!("using the private Postgres of another assize process; it goes when that process stops");
    }
    let started = start(&args, config, &database, guard, doors).await;
    let life = match started {
        Ok(life) => life,
        Err(error) => {
            database.close().await;
            return Err(error);
        }
    };
    let drain = Duration::from_millis(context.config()?.server.drain_ms);
    life.run_until_stopped(drain).await;
    database.close().await;
    tracing::info!("stopped");
    Ok(if life.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Binds the addresses, so that a mistake stops the start before anything else is done.
async fn open(config: &Config, ingest: bool) -> anyhow::Result<Doors> {
    let server = &config.server;
    let tls = match &server.tls {
        Some(files) => Some(Arc::new(Tls::open(files).await.context("TLS cannot be set up")?)),
        None => None,
    };
    if let Some(tls) = tls.as_ref().filter(|tls| tls.expires_at() <= SystemClock.now()) {
        tracing::error!(expired_at = %tls.expires_at(), "the certificate has expired, clients will not believe it");
    }
    let http = bind(server.listen, "server.listen").await?;
    let grpc = match server.grpc_address().filter(|_| ingest) {
        Some(address) => match bind(address, "server.grpc_listen").await {
            Ok(listener) => Some(listener),
            Err(error) if server.grpc_listen == GrpcListen::Auto => {
                tracing::warn!(%error, "no address for gRPC alone; it is spoken at server.listen too");
                None
            }
            Err(error) => return Err(error),
        },
        None => None,
    };
    Ok(Doors { http, grpc, tls })
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let variable = key.replace('.', "__").to_uppercase();
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; set {key} or ASSIZE__{variable} to another address")
    })
}

async fn start(
    args: &Args,
    config: Config,
    database: &Database,
    guard: Guard,
    doors: Doors,
) -> anyhow::Result<Lifecycle> {
    if config.database.migrate {
        database.store.migrate().await?;
    }
    let app = App::build(config, database.store.clone(), Arc::new(SystemClock)).await?;
    let has = |role: Role| args.roles.contains(&role);
    let roles = Roles {
        ingest: has(Role::Ingest),
        work: has(Role::Work),
        export: has(Role::Export),
        watch: has(Role::Watch),
        web: has(Role::Web),
    };
    let open = guard.is_open();
    let life = Lifecycle::default();
    let (grpc, tls) = (doors.grpc.as_ref().and_then(|l| l.local_addr().ok()), doors.tls.is_some());
    launch(&app, roles, guard, doors, &life);
    let sinks = app.sink_names().join(", ");
    let catalog = app.bench.rubrics.load_full();
    let names: Vec<&str> = catalog.entries().keys().map(String::as_str).collect();
    for why in app.bench.config.unmatched_rubrics(&names) {
        tracing::warn!("{why}");
    }
    let rubrics = catalog.active().len();
    let listen = app.bench.config.server.listen;
    let grpc = grpc.map(tracing::field::display);
    tracing::info!(%listen, grpc, tls, rubrics, judges = app.bench.judges.all().count(), sinks, "serving");
    if open {
        tracing::info!("no token is configured: only this machine can reach the service");
    }
    Ok(life)
}

/// Starts the loops and the doors; used by the demo too.
pub(super) fn launch(app: &Arc<App>, roles: Roles, guard: Guard, doors: Doors, life: &Lifecycle) {
    let inbox = roles.ingest.then(|| Inbox::start(app, life));
    if let Some(inbox) = &inbox {
        pipeline::pull::start(app, inbox, life);
    }
    if let (Some(listener), Some(inbox)) = (doors.grpc, inbox.clone()) {
        let router = server::ingest_router(app, inbox, guard.clone());
        server::serve(app, Door { name: "grpc", listener, router, tls: doors.tls.clone() }, life);
    }
    let router = server::router(app, inbox, roles.web, guard);
    server::serve(app, Door { name: "http", listener: doors.http, router, tls: doors.tls.clone() }, life);
    if let Some(tls) = doors.tls {
        tls.keep_fresh(Arc::clone(&app.bench.clock), app.bench.metrics.clone(), life);
    }
    pipeline::start(app, roles, life);
}
