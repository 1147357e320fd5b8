//! Bounds and evidence that hold at any time one looks.
//!
//! Called by `stats::kernel` for what is shown beside means. Its rule: each file names its theorem. The way not taken: fixed-n
//! intervals, which are wrong as soon as somebody looks twice.

pub mod asymptotic;
