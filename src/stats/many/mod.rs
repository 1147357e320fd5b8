//! Many streams and many tests: what may be said when a lot is looked at.
//!
//! Called by the step that watches and by reports. Scans share a budget of false alarms (`budget`); the version tests of one
//! deployment are one family (`evalues`); deployments follow each other for ever (`online`); p-values of one look are for
//! offline comparisons (`adjust`); alarms with one cause become one incident (`incidents`). Its rule: each file says
//! under which dependence it holds. The way not taken: Benjamini-Hochberg at each look, where four of ten alarms are false.

pub mod adjust;
pub mod budget;
pub mod evalues;
pub mod incidents;
pub mod online;

#[cfg(test)]
mod tests;
