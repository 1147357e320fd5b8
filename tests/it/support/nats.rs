//! A real nats-server with JetStream, which can be killed and comes back with what it had stored.

use super::eventually;
use async_nats::jetstream::{self, Context, stream};
use async_nats::{ConnectOptions, HeaderMap};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A running server, with one stream `LLM` of the subjects `llm.>` and one, `PARKED`, of `parked.>`.
pub struct Nats {
    child: Child,
    port: u16,
    dir: PathBuf,
    arguments: Vec<String>,
    pub context: Context,
}

fn server(port: u16, dir: &std::path::Path, arguments: &[String]) -> Child {
    let log = std::fs::File::create(dir.join("log")).expect("a log");
    // Debian has it where only root looks.
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("nats-server");
    command.env("PATH", path).args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir).args(arguments);
    let child = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
    child.expect("nats-server is not installed: run `scripts/setup.sh nats`, or `apt-get install nats-server`")
}

impl Nats {
    pub async fn start() -> Self {
        Self::start_with(Vec::new(), ConnectOptions::new()).await
    }

    /// A server with more arguments, and how to connect to it.
    pub async fn start_with(arguments: Vec<String>, options: ConnectOptions) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let dir = super::folder();
        let child = server(port, &dir, &arguments);
        let client = eventually("nats-server answers", || async {
            options.clone().connect(format!("nats://127.0.0.1:{port}")).await.ok()
        })
        .await;
        let context = jetstream::new(client);
        for (name, subject) in [("LLM", "llm.>"), ("PARKED", "parked.>")] {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subject.to_owned()],
                ..stream::Config::default()
            };
            eventually("a stream is made", || async { context.create_stream(config.clone()).await.ok() }).await;
        }
        Self { child, port, dir, arguments, context }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// The same server again, on the same port and files.
    pub fn start_again(&mut self) {
        self.child = server(self.port, &self.dir, &self.arguments);
    }

    /// Sends a message; true when the server says that it has stored it.
    pub async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let Ok(sent) = self.context.publish_with_headers(subject.to_owned(), map, body.into()).await else {
            return false;
        };
        let stored = tokio::time::timeout(std::time::Duration::from_secs(2), sent.into_future()).await;
        matches!(stored, Ok(Ok(_)))
    }

    /// Messages that wait for the consumer, and those that it has in hand.
    pub async fn waiting(&self) -> Option<(u64, usize)> {
        let stream = self.context.get_stream("LLM").await.ok()?;
        let info = stream.consumer_info("assize").await.ok()?;
        Some((info.num_pending, info.num_ack_pending))
    }

    /// Waits until the consumer has dealt with everything.
    pub async fn drained(&self) {
        eventually("all messages are settled", || async { (self.waiting().await == Some((0, 0))).then_some(()) }).await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // The server is killed with its handle; its files are nobody's then.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
