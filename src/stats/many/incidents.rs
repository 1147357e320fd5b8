//! Alarms with one cause become one incident.
//!
//! Called by the step that watches. Alarms whose estimated starts lie within six hours of the incident's first, and that share a
//! version or model, are one; its evidence is the mean of their e-values, which is one under any dependence. Its rule: the
//! order in which alarms come changes nothing. The way not taken: one page for each of forty features of one bad deployment.

use super::evalues::log_mean;
use crate::stats::invalid::Invalid;
use chrono::{DateTime, Duration, Utc};
use std::collections::BTreeSet;

/// How far the estimated starts of one incident may lie from its first.
pub const SAME_CAUSE_HOURS: i64 = 6;

/// An alarm of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamAlarm {
    /// Which stream.
    pub stream: String,
    /// The estimated start.
    pub since: DateTime<Utc>,
    /// Versions and models that its scores since then came from.
    pub causes: BTreeSet<String>,
    /// ln of its evidence.
    pub log_e: f64,
}

/// Alarms that are told as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Streams, by start and name.
    pub streams: Vec<String>,
    /// The earliest estimated start.
    pub since: DateTime<Utc>,
    /// What any of them came from.
    pub causes: BTreeSet<String>,
    /// ln of the mean of their evidence.
    pub log_e: f64,
}

/// Groups alarms, earliest first.
///
/// # Errors
/// When an alarm's evidence is NaN.
pub fn merge(alarms: &[StreamAlarm]) -> Result<Vec<Incident>, Invalid> {
    let mut left: Vec<&StreamAlarm> = alarms.iter().collect();
    left.sort_by(|a, b| (a.since, &a.stream).cmp(&(b.since, &b.stream)));
    let mut out = Vec::new();
    while !left.is_empty() {
        let first = left.remove(0);
        let (mut members, mut causes) = (vec![first], first.causes.clone());
        // A member's causes may bring in others, so look again until none comes.
        while let Some(at) = left.iter().position(|alarm| {
            alarm.since - first.since <= Duration::hours(SAME_CAUSE_HOURS) && !alarm.causes.is_disjoint(&causes)
        }) {
            let member = left.remove(at);
            causes.extend(member.causes.iter().cloned());
            members.push(member);
        }
        members.sort_by(|a, b| (a.since, &a.stream).cmp(&(b.since, &b.stream)));
        let evidence: Vec<f64> = members.iter().map(|alarm| alarm.log_e).collect();
        let log_e = log_mean(&evidence, &vec![1.0 / evidence.len() as f64; evidence.len()])?;
        let streams = members.iter().map(|alarm| alarm.stream.clone()).collect();
        out.push(Incident { streams, since: first.since, causes, log_e });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(stream: &str, hour: i64, causes: &[&str], log_e: f64) -> StreamAlarm {
        let since = DateTime::from_timestamp(hour * 3600, 0).expect("a date");
        let causes = causes.iter().map(|cause| (*cause).to_owned()).collect();
        StreamAlarm { stream: stream.to_owned(), since, causes, log_e }
    }

    #[test]
    fn one_cause_is_one_incident_in_any_order() {
        let mut alarms = vec![
            alarm("a", 10, &["v2"], 6.0),
            alarm("b", 12, &["m1", "v2"], 8.0),
            alarm("c", 16, &["m1"], 5.0),
            alarm("d", 17, &["v2"], 7.0),
            alarm("e", 11, &["v9"], 9.0),
            alarm("f", 11, &[], 9.0),
        ];
        let merged = merge(&alarms).expect("numbers");
        let streams: Vec<_> = merged.iter().map(|incident| incident.streams.join("")).collect();
        assert_eq!(streams, ["abc", "e", "f", "d"]);
        let mean = (6.0_f64.exp() + 8.0_f64.exp() + 5.0_f64.exp()) / 3.0;
        assert!((merged[0].log_e - mean.ln()).abs() < 1e-12);
        alarms.reverse();
        assert_eq!(merge(&alarms), Ok(merged));
        assert_eq!(merge(&[]), Ok(vec![]));
        assert!(merge(&[alarm("a", 1, &[], f64::NAN)]).is_err());
    }
}
