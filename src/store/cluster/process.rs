//! The server process: whose it is, how it starts, how it ends.
//!
//! Its rule: the server is in a process group of its own, so that Ctrl-C reaches us and not it; a shell that waits for the
//! end of a pipe from us stops it when we are gone, however we went. The way not taken: `pg_ctl start`, which leaves nothing
//! to wait on.

use super::{Binaries, ClusterError, only_owner};
use secrecy::{ExposeSecret, SecretString};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// The user the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(Option<(u32, u32)>);

impl Identity {
    /// Ourselves; or, when we are root, `postgres` or `nobody`, to whom `dir` is given.
    pub(super) async fn of(dir: &Path) -> Result<Self, ClusterError> {
        let identity = Self::find().await;
        if let Some((uid, gid)) = identity.0 {
            chown(dir, Some(uid), Some(gid)).map_err(ClusterError::io("give away", dir))?;
        }
        Ok(identity)
    }

    async fn find() -> Self {
        if id(&["-u"]).await != Some(0) {
            return Self(None);
        }
        for user in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id(&["-u", user]).await, id(&["-g", user]).await) {
                return Self(Some((uid, gid)));
            }
        }
        Self(None)
    }

    /// Whether the server's user can enter `dir`.
    pub(super) async fn can_reach(dir: &Path) -> bool {
        let identity = Self::find().await;
        let mut command = identity.command(Path::new("test"));
        matches!(command.arg("-x").arg(dir).status().await, Ok(status) if status.success())
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir("/").process_group(0);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}

async fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).output().await.ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// Makes the cluster's files.
pub(super) async fn initdb(
    binaries: &Binaries,
    identity: &Identity,
    dir: &Path,
    data: &Path,
) -> Result<(), ClusterError> {
    let password = dir.join("password");
    if let Some((uid, gid)) = identity.0 {
        chown(&password, Some(uid), Some(gid)).map_err(ClusterError::io("give away", &password))?;
    }
    // Made beside the final place and moved there, so that an initdb that was cut short is not taken for a cluster.
    let fresh = dir.join("postgres.new");
    drop(std::fs::remove_dir_all(&fresh));
    let output = identity
        .command(&binaries.dir.join("initdb"))
        .args(["--username=assize", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"])
        .arg(format!("--pwfile={}", password.display()))
        .arg(format!("--pgdata={}", fresh.display()))
        .output()
        .await
        .map_err(ClusterError::io("run initdb for", data))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(ClusterError::Program { program: "initdb".into(), output: tail(&said) });
    }
    only_owner(&fresh)?;
    std::fs::rename(&fresh, data).map_err(ClusterError::io("move into place", data))
}

/// A server process and its watchdog.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    _watchdog: Child,
    /// Its port on the loopback.
    pub(super) port: u16,
    log: PathBuf,
}

impl Server {
    pub(super) fn start(
        binaries: &Binaries,
        identity: &Identity,
        dir: &Path,
        durable: bool,
    ) -> Result<Self, ClusterError> {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(ClusterError::io("find a free port for", dir))?
            .port();
        Self::start_on(binaries, identity, dir, durable, port)
    }

    pub(super) fn start_on(
        binaries: &Binaries,
        identity: &Identity,
        dir: &Path,
        durable: bool,
        port: u16,
    ) -> Result<Self, ClusterError> {
        let log = dir.join("postgres.log");
        let out = std::fs::File::create(&log).map_err(ClusterError::io("create", &log))?;
        let err = out.try_clone().map_err(ClusterError::io("open", &log))?;
        let mut command = identity.command(&binaries.dir.join("postgres"));
        command.arg("-D").arg(dir.join("postgres")).args(["-p", &port.to_string()]);
        command.args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=200",
        ]);
        if !durable {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off"]);
        }
        let child = command.stdout(out).stderr(err).spawn().map_err(ClusterError::io("start the server of", dir))?;
        let watchdog = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -INT \"$1\" 2>/dev/null", "assize-watchdog"])
            .arg(child.id().unwrap_or_default().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(ClusterError::io("watch the server of", dir))?;
        Ok(Self { child, _watchdog: watchdog, port, log })
    }

    /// Waits until the server answers and has the database `assize`.
    pub(super) async fn wait_ready(&self, url: &SecretString, patience: Duration) -> Result<(), ClusterError> {
        use sqlx::{Connection, Executor, PgConnection};
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Ok(mut connection) = PgConnection::connect(url.expose_secret()).await {
                // Fails when it exists, which is as good.
                drop(connection.execute("CREATE DATABASE assize").await);
                drop(connection.close().await);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        Err(ClusterError::NotReady { seconds: patience.as_secs(), log: self.log.clone(), tail: tail(&said) })
    }

    /// Fast shutdown: clients are disconnected, everything is written.
    pub(super) async fn stop(mut self, patience: Duration) {
        if let Some(pid) = self.child.id() {
            kill("-INT", pid).await;
            if tokio::time::timeout(patience, self.child.wait()).await.is_err() {
                tracing::warn!("the private Postgres does not stop, killing it");
                kill("-QUIT", pid).await;
                drop(self.child.wait().await);
            }
        }
    }

    /// Immediate shutdown: as a crash, with recovery at the next start.
    pub(super) async fn crash(&mut self, patience: Duration) {
        if let Some(pid) = self.child.id() {
            kill("-QUIT", pid).await;
            drop(tokio::time::timeout(patience, self.child.wait()).await);
        }
    }
}

async fn kill(signal: &str, pid: u32) -> bool {
    let status = Command::new("kill").arg(signal).arg(pid.to_string()).stderr(Stdio::null()).status().await;
    matches!(status, Ok(status) if status.success())
}

/// Stops a server that an earlier process of ours left behind. We hold the lock, so nobody else owns it.
pub(super) async fn stop_leftover(data: &Path) -> Result<(), ClusterError> {
    let pid_file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&pid_file) else { return Ok(()) };
    let pid: Option<u32> = text.lines().next().and_then(|line| line.trim().parse().ok());
    let Some(pid) = pid else { return Ok(()) };
    let start = Instant::now();
    let mut signal = "-INT";
    // `kill -0` also answers for a foreign process that got the number; Postgres itself looks closer at start, so the file
    // is removed only when nothing has that number any more.
    while kill("-0", pid).await && pid_file.exists() {
        if !runs_postgres(pid).await {
            break;
        }
        kill(signal, pid).await;
        if start.elapsed() > Duration::from_secs(20) {
            signal = "-QUIT";
        }
        if start.elapsed() > Duration::from_secs(40) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if pid_file.exists() && !(kill("-0", pid).await && runs_postgres(pid).await) {
        std::fs::remove_file(&pid_file).map_err(ClusterError::io("remove", &pid_file))?;
    }
    Ok(())
}

async fn runs_postgres(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output().await;
    output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("postgres"))
}

/// The last lines of a program's output.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
