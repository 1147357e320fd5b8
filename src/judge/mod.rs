//! L1: the pure half of judging: what is asked, what a reply means, who votes next, how votes become one score.
//!
//! Called by `pipeline::evaluate` and `pipeline::aggregate`. Its rule: no I/O, so every decision can be replayed from what is
//! stored. The way not taken: judging logic inside the client that talks to the model.

pub mod chunks;
pub mod claims;
pub mod combine;
pub mod hide;
pub mod logprobs;
pub mod panel;
pub mod prompt;
pub mod reply;
pub mod template;
