//! Runs a command with a throw-away Postgres: `cargo run --example with_postgres -- COMMAND ARGS…`.
//!
//! Used by the Makefile for `cargo sqlx prepare --check` and the tests, so that all of them share one server. Its rule: the
//! command's exit code is ours, and the server is gone afterwards, however the command ended.

use assize::store::Store;
use assize::store::cluster::Cluster;
use secrecy::ExposeSecret;
use std::process::ExitCode;
use std::time::Duration;
use tokio::process::Command;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(program) = args.next() else {
        eprintln!("usage: with_postgres COMMAND ARGS…");
        return ExitCode::from(2);
    };
    let dir = std::env::temp_dir().join(format!("assize-with-postgres-{}", std::process::id()));
    let cluster = match Cluster::start(&dir, false).await {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = run(&cluster, &program, args).await;
    cluster.stop().await;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        eprintln!("note: {} could not be removed: {error}", dir.display());
    }
    code
}

async fn run(cluster: &Cluster, program: &std::ffi::OsStr, args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let migrated = async {
        let store = Store::connect(cluster.url(), 1, Duration::from_secs(10)).await?;
        store.migrate().await?;
        store.pool().close().await;
        Ok::<(), assize::store::StoreError>(())
    };
    if let Err(error) = migrated.await {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    match Command::new(program).args(args).env("DATABASE_URL", cluster.url().expose_secret()).status().await {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: cannot run {}: {error}", program.to_string_lossy());
            ExitCode::FAILURE
        }
    }
}
