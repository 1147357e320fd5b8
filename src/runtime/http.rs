//! The one place that builds an HTTP client.
//!
//! Called by `llm`, `sinks` and `cli`. Its rule: every client has a connect timeout, and none follows redirects, since a
//! redirected POST with a key in its headers is a leak. `clippy.toml` bans `reqwest::Client::new`.

use std::time::Duration;

/// A client whose whole request may take `timeout`.
///
/// # Errors
/// When the TLS roots of this machine cannot be loaded.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).build()
}

/// A client that asks our own service on this machine how it is, whose certificate is not made out to the loopback. It must
/// not be given anything secret.
///
/// # Errors
/// As [`client`].
pub fn probe(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(timeout).tls_danger_accept_invalid_certs(true).build()
}

fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("assize/", env!("CARGO_PKG_VERSION")))
}
