//! L0: the plain types every other layer speaks in. No async, no I/O, no clock reading.
//!
//! Called by everybody; uses nobody. Its rule: a type lives here when two layers share it, and it holds data,
//! not behaviour that needs a service. The way not taken: one struct per wire format with conversions between
//! all of them; wire formats end at `dialect`, and from there on there is one `Span` and one `Trace`.

pub mod alert;
pub mod alert_rule;
pub mod chat;
pub mod clock;
pub mod deployment;
pub mod dimension;
pub mod drift;
pub mod event;
pub mod ids;
pub mod job;
pub mod label;
pub mod limit;
pub mod message;
pub mod panel;
pub mod pause;
pub mod personal;
pub mod policy;
pub mod rubric;
pub mod rung;
pub mod span;
pub mod step;
pub mod trace;
pub mod unit;
pub mod verdict;
pub mod words;
