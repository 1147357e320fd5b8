//! A private Postgres: found, initialised once, started, watched and stopped.
//!
//! Called by `cli` when no `DATABASE_URL` is set, and by the tests. Its rule: whoever holds the lock file owns the server;
//! a server that a crash of ours left behind is stopped before a new one starts; and a watchdog stops the server even when we
//! are killed with -9. As root the server runs as an unprivileged user, since Postgres refuses root. The way not taken:
//! embedding or downloading Postgres, which needs a network or does not build.

mod binaries;
mod process;

pub use binaries::Binaries;

use crate::domain::ids::short_hash;
use crate::store::StoreError;
use process::{Identity, Server};
use secrecy::{ExposeSecret, SecretString};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the private Postgres is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server binaries on this machine.
    #[error(
        "no PostgreSQL server found (looked in PATH, /usr/lib/postgresql/*/bin and Homebrew's places); \
         install it with `{install}`, or set DATABASE_URL to use one that runs"
    )]
    NotInstalled {
        /// The command that installs it here.
        install: &'static str,
    },
    /// The cluster was made by a version that is not installed.
    #[error(
        "{dir} was made by PostgreSQL {wanted}, which is not installed (found: {found}); install it, or remove the folder to begin anew"
    )]
    WrongVersion {
        /// The cluster.
        dir: PathBuf,
        /// Its version.
        wanted: String,
        /// Versions found.
        found: String,
    },
    /// Another process of ours uses the cluster.
    #[error("{dir} is in use by another assize process; stop it, or use another folder with database.private_dir")]
    InUse {
        /// The cluster's folder.
        dir: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// The server did not come up.
    #[error("PostgreSQL did not become ready in {seconds} s; its log {log} ends with: {tail}")]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The log's end.
        tail: String,
    },
}

impl ClusterError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// A running private Postgres. Stop it with [`Cluster::stop`]; if it is dropped, or we are killed, the watchdog stops it.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    url: SecretString,
    /// Where its files are.
    pub dir: PathBuf,
    _lock: File,
}

/// How long the server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts the cluster under `dir` (made if it is not there) with database `assize`. `durable = false` is for tests: it
    /// turns fsync off.
    ///
    /// # Errors
    /// When Postgres is not installed, the folder is in use or cannot be written, or the server does not come up.
    pub async fn start(dir: &Path, durable: bool) -> Result<Self, ClusterError> {
        let dir = home(dir).await?;
        let lock = take_lock(&dir)?;
        let identity = Identity::of(&dir).await?;
        let data = dir.join("postgres");
        process::stop_leftover(&data).await?;
        let binaries = binaries::for_cluster(&data).await?;
        let password = password(&dir)?;
        if !data.join("PG_VERSION").exists() {
            process::initdb(&binaries, &identity, &dir, &data).await?;
        }
        let server = Server::start(&binaries, &identity, &dir, durable)?;
        let url = |database: &str| {
            let text = format!("postgres://assize:{}@127.0.0.1:{}/{database}", password.expose_secret(), server.port);
            SecretString::from(text)
        };
        server.wait_ready(&url("postgres"), PATIENCE).await?;
        Ok(Self { url: url("assize"), server, dir, _lock: lock })
    }

    /// Address of the database `assize`; a secret, since it holds the password.
    #[must_use]
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Stops the server and waits until it has ended.
    pub async fn stop(self) {
        self.server.stop(PATIENCE).await;
    }

    /// Kills the server as a crash of the machine would, for tests of recovery, and starts it again on the same port.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn crash_and_restart(&mut self, down_for: Duration) -> Result<(), ClusterError> {
        let binaries = binaries::for_cluster(&self.dir.join("postgres")).await?;
        let identity = Identity::of(&self.dir).await?;
        self.server.crash(PATIENCE).await;
        tokio::time::sleep(down_for).await;
        process::stop_leftover(&self.dir.join("postgres")).await?;
        let port = self.server.port;
        self.server = Server::start_on(&binaries, &identity, &self.dir, true, port)?;
        self.server.wait_ready(&self.url, PATIENCE).await
    }
}

/// Makes database `name` anew on the server of `url`, whatever was in it, and gives its address.
///
/// # Errors
/// When the server does not answer or does not allow it.
pub async fn fresh_database(url: &SecretString, name: &str) -> Result<SecretString, StoreError> {
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let mut connection =
        PgConnection::connect(url.expose_secret()).await.map_err(StoreError::op("connecting to make a database"))?;
    let drop_it = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {quoted} WITH (FORCE)"));
    connection.execute(drop_it).await.map_err(StoreError::op("dropping a database"))?;
    let make_it = AssertSqlSafe(format!("CREATE DATABASE {quoted}"));
    connection.execute(make_it).await.map_err(StoreError::op("making a database"))?;
    connection.close().await.map_err(StoreError::op("closing a connection"))?;
    Ok(with_database(url, name))
}

/// The address of another database on the same server.
#[must_use]
pub fn with_database(url: &SecretString, name: &str) -> SecretString {
    let (base, query) = url.expose_secret().split_once('?').map_or((url.expose_secret(), None), |(b, q)| (b, Some(q)));
    // The path of the URL, if it has one, begins after the third slash.
    let server = base.match_indices('/').nth(2).map_or(base, |(at, _)| &base[..at]);
    let query = query.map_or_else(String::new, |q| format!("?{q}"));
    SecretString::from(format!("{server}/{name}{query}"))
}

/// Whether a private cluster was ever made under `dir`.
#[must_use]
pub async fn exists(dir: &Path) -> bool {
    // `home` makes the folder, which is more than looking.
    dir.is_dir() && home(dir).await.is_ok_and(|dir| dir.join("postgres/PG_VERSION").exists())
}

/// The address of a private cluster that another process of ours runs under `dir`, if one does.
#[must_use]
pub async fn running(dir: &Path) -> Option<SecretString> {
    let dir = home(dir).await.ok()?;
    if take_lock(&dir).is_ok() {
        return None; // nobody holds it, so nobody runs it
    }
    let pid_file = std::fs::read_to_string(dir.join("postgres/postmaster.pid")).ok()?;
    let port: u16 = pid_file.lines().nth(3)?.trim().parse().ok()?;
    let password = std::fs::read_to_string(dir.join("password")).ok()?;
    Some(SecretString::from(format!("postgres://assize:{}@127.0.0.1:{port}/assize", password.trim())))
}

/// The folder to use: `dir`, unless we are root and the server's user cannot get there; then one under /var/tmp that
/// belongs to `dir` by its hash.
async fn home(dir: &Path) -> Result<PathBuf, ClusterError> {
    std::fs::create_dir_all(dir).map_err(ClusterError::io("create", dir))?;
    let dir = dir.canonicalize().map_err(ClusterError::io("find", dir))?;
    if Identity::can_reach(&dir).await {
        return Ok(dir);
    }
    let name = format!("assize-{}", short_hash(&[dir.as_os_str().as_encoded_bytes()], 12));
    let other = Path::new("/var/tmp").join(name);
    std::fs::create_dir_all(&other).map_err(ClusterError::io("create", &other))?;
    Ok(other)
}

fn take_lock(dir: &Path) -> Result<File, ClusterError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ClusterError::io("open", &path))?;
    file.try_lock().map_err(|_| ClusterError::InUse { dir: dir.to_owned() })?;
    Ok(file)
}

/// The database password: made once, kept in a file that only we can read.
fn password(dir: &Path) -> Result<SecretString, ClusterError> {
    let path = dir.join("password");
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(text.trim().to_owned().into());
    }
    let text = hex::encode(rand::random::<[u8; 16]>());
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(ClusterError::io("create", &path))?;
    file.write_all(text.as_bytes()).map_err(ClusterError::io("write", &path))?;
    Ok(text.into())
}

fn only_owner(path: &Path) -> Result<(), ClusterError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(ClusterError::io("restrict", path))
}
