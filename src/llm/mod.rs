//! L2: talking to models.
//!
//! `client` asks one endpoint once, `batch` hands it many questions at half price, `judges` holds every configured judge with its
//! price, `pacer` keeps limits, `circuit` leaves a broken endpoint alone, `headers` reads what endpoints advertise, `prices`
//! knows what tokens cost, `tokens` counts them, `sim` is the simulated judge. Its rule: one call is one request on the wire; retries are the caller's, by
//! `runtime::retry`. The way not taken: the client library's own retries, which go around limits and budgets.

pub mod batch;
pub mod circuit;
pub mod client;
mod headers;
pub mod judges;
pub mod pacer;
mod prices;
pub mod sim;
pub mod tokens;
mod wire;
