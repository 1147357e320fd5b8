//! L1: numbers only: estimates from samples with known inclusion probabilities, and what votes are worth.
//!
//! Called by `pipeline::estimate`. Its rule: each formula names its source and passes a vector made by another implementation.

pub mod anytime;
pub mod hajek;
pub mod invalid;
pub mod kernel;
pub mod many;
pub mod planner;
pub mod sample_ratio;
pub mod stack;
pub mod stream;
