//! `assize serve`: the service.

use super::{Context, database::Database};
use crate::app::App;
use crate::config::Config;
use crate::domain::clock::SystemClock;
use crate::pipeline::ingest::Inbox;
use crate::pipeline::{self, Roles};
use crate::runtime::lifecycle::Lifecycle;
use crate::server::{self, Guard};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

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
    let listener = listen(&config).await?;
    let database = Database::open(&config, None).await?;
    if let Some(dir) = database.private_dir() {
        tracing::info!(dir = %dir.display(), "no DATABASE_URL: using a private Postgres, kept between runs");
    }
    let started = start(&args, config, &database, guard, listener).await;
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

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.server.listen;
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!(
            "cannot listen on {address}: {error}; set server.listen or ASSIZE__SERVER__LISTEN to another address"
        )
    })
}

async fn start(
    args: &Args,
    config: Config,
    database: &Database,
    guard: Guard,
    listener: TcpListener,
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
    launch(&app, roles, guard, listener, &life);
    let sinks = app.sink_names().join(", ");
    let rubrics = app.bench.rubrics.load().active().len();
    let listen = app.bench.config.server.listen;
    tracing::info!(%listen, rubrics, judges = app.bench.judges.all().count(), sinks, "serving");
    if open {
        tracing::info!("no token is configured: only this machine can reach the service");
    }
    Ok(life)
}

/// Starts the loops and the server; used by the demo too.
pub(super) fn launch(app: &Arc<App>, roles: Roles, guard: Guard, listener: TcpListener, life: &Lifecycle) {
    let inbox = roles.ingest.then(|| Inbox::start(app, life));
    if let Some(inbox) = &inbox {
        pipeline::pull::start(app, inbox, life);
    }
    let router = server::router(app, inbox, roles.web, guard);
    let (stop, hard) = (life.soft.clone(), life.hard.clone());
    life.spawn("server", async move {
        tokio::select! {
            served = server::serve(listener, router, stop.cancelled_owned()) => {
                if let Err(error) = served {
                    tracing::error!(%error, "the server stopped");
                }
            }
            // A request whose body never ends must not keep the process.
            () = hard.cancelled() => {}
        }
    });
    pipeline::start(app, roles, life);
}
