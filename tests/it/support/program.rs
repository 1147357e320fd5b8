//! The real program as a process that can be killed.

use super::eventually;
use assize::config::{Config, GrpcListen};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_assize");

/// A command of the program that sees nothing of this machine's configuration.
pub fn assize(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).kill_on_drop(true);
    command
}

/// A running `assize serve`.
pub struct Program {
    child: Child,
    pub base: String,
    log: PathBuf,
}

impl Program {
    /// Writes the configuration to a file, starts `serve` on it and waits until it is ready.
    pub async fn serve(url: &SecretString, config: &Config, log_level: &str) -> Self {
        let dir = super::folder();
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut config = config.clone();
        config.server.listen = ([127, 0, 0, 1], port).into();
        config.server.grpc_listen = GrpcListen::Off;
        let file = dir.join("assize.toml");
        // A header's value is not shown; the one that a test looks for in the logs is put back.
        let text = config.redacted().replace("\"***\"", "\"swordfish-header\"");
        std::fs::write(&file, text).expect("the configuration can be written");
        let log = dir.join("log");
        let out = std::fs::File::create(&log).expect("a log");
        let child = assize(&["serve", "--config", &file.display().to_string()])
            .env("DATABASE_URL", url.expose_secret())
            .env("RUST_LOG", log_level)
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("the program starts");
        let program = Self { child, base: format!("http://127.0.0.1:{port}"), log };
        program.ready().await;
        program
    }

    async fn ready(&self) {
        let http = assize::runtime::http::client(super::PATIENCE).expect("an HTTP client");
        let url = format!("{}/readyz", self.base);
        eventually("the program is ready", || async {
            http.get(&url).send().await.ok().filter(|r| r.status().is_success()).map(drop)
        })
        .await;
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        Command::new("kill").args([&format!("-{name}"), &pid]).status().await.expect("kill runs");
    }

    /// SIGTERM, then waits for the end; gives the exit code and the log.
    pub async fn terminate(mut self) -> (Option<i32>, String) {
        self.signal("TERM").await;
        let status = tokio::time::timeout(super::PATIENCE, self.child.wait()).await.expect("it stops in time");
        (status.expect("it can be waited for").code(), self.log())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
