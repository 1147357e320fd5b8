//! Bounds and evidence that hold at any time one looks.
//!
//! `asymptotic` is shown beside means by `stats::kernel`; the others are the textbook methods for one stream of bounded
//! numbers, for reports of single streams and for comparison. Its rule: each file names its theorem and matches the package of
//! its authors. The way not taken: fixed-n intervals, which are wrong as soon as somebody looks twice.

pub mod asymptotic;
pub mod capital;
pub mod detectors;
pub mod mixtures;
pub mod predictable;

#[cfg(test)]
mod tests;
