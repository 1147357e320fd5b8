//! A listening address: connections are accepted, made secure, and spoken to in HTTP/1 or HTTP/2.
//!
//! Started by `cli`. Its rule: connections, handshakes and silences are bounded, a handshake never holds up the next connection, and
//! at the stop each connection ends after the requests that it has in hand. The way not taken: `axum::serve`, which has no
//! bounds and no TLS, and tonic's transport, which is for gRPC only; both are this loop around hyper.

use super::tls::Tls;
use crate::app::App;
use crate::runtime::lifecycle::Lifecycle;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use prometheus::IntGauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A client that does not finish its handshake in this time is gone.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A head of HTTP/1 must come within this time, the first one or the next on the same connection.
const HEAD: Duration = Duration::from_secs(75);

/// A silent connection of HTTP/2 is asked whether it lives, and has this long to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Requests on one connection of HTTP/2 at the same time at most.
const STREAMS_MAX: u32 = 256;

/// After an accept that failed for a reason that is not the client's, as too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// An address and what is spoken there.
#[derive(Debug)]
pub struct Door {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Where it listens.
    pub listener: TcpListener,
    /// What it answers.
    pub router: Router,
    /// Absent where it speaks in clear.
    pub tls: Option<Arc<Tls>>,
}

/// Serves until the soft stop; requests in hand are finished, or dropped at the hard stop.
pub fn serve(app: &Arc<App>, door: Door, life: &Lifecycle) {
    life.spawn(door.name, accept(Arc::clone(app), door, life.clone()));
}

async fn accept(app: Arc<App>, door: Door, life: Lifecycle) {
    let room = Arc::new(Semaphore::new(app.bench.config.server.connections_max.min(Semaphore::MAX_PERMITS)));
    let open = app.bench.metrics.connections.with_label_values(&[door.name]);
    loop {
        let next = async {
            // Without room the kernel holds clients back.
            let place = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
            (place, door.listener.accept().await)
        };
        let Some((place, accepted)) = life.soft.run_until_cancelled(next).await else { return };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !is_of_the_client(&error) {
                    tracing::error!(%error, door = door.name, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let counted = Counted::new(&open, place);
        let (router, tls, stop) = (door.router.clone(), door.tls.clone(), life.clone());
        life.spawn_contained("connection", async move {
            connection(stream, router, tls.as_deref(), &stop).await;
            drop(counted);
        });
    }
}

/// A connection among those that are open, however it ends.
struct Counted {
    open: IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(open: &IntGauge, place: OwnedSemaphorePermit) -> Self {
        open.inc();
        Self { open: open.clone(), _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.dec();
    }
}

fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, tls: Option<&Tls>, life: &Lifecycle) {
    // Answers are small and wait for a commit anyway; holding them back for more makes no sense.
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else { return talk(stream, router, life).await };
    let handshake = tokio::time::timeout(HANDSHAKE, tls.acceptor().accept(stream));
    match life.soft.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => talk(stream, router, life).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a client did not finish its handshake"),
        Some(Err(_)) => tracing::debug!("a client did not finish its handshake in time"),
        None => {}
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, life: &Lifecycle) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
    http2.max_concurrent_streams(STREAMS_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    // How a client ends a connection is its own business.
    tokio::select! {
        ended = serving.as_mut() => return drop(ended),
        () = life.soft.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    drop(life.hard.run_until_cancelled(serving).await);
}
