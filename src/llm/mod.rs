//! L2: talking to models.
//!
//! `client` asks one endpoint once, `judges` holds every configured judge with its limit and price, `prices` knows what tokens
//! cost, `sim` is the simulated judge. Its rule: one call is one request on the wire; retries are the caller's, by
//! `runtime::retry`. The way not taken: the client library's own retries, which go around limits and budgets.

pub mod client;
pub mod judges;
mod prices;
pub mod sim;
