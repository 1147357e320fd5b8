//! Plain thresholds over a window, for those who know the level that they want, and for what is not a score.
//!
//! Called by `pipeline::watch` at each look. Its rule: a threshold takes a least number of verdicts, and says its level; that
//! nothing comes any more is found in streams that were there before. The way not taken: a threshold as the only alarm.

use super::streams::Streams;
use crate::app::App;
use crate::config::Rule;
use crate::domain::alert::{Estimate, Evidence, Finding, Kind, Measure};
use crate::store::StoreError;
use crate::store::watch::Window;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// What the rules say now.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Rules that are crossed.
    pub findings: Vec<Finding>,
    /// Fingerprints of those that have too few verdicts to say.
    pub unknown: BTreeSet<String>,
}

/// Looks at all rules.
pub(super) async fn findings(app: &App, streams: &Streams, now: DateTime<Utc>) -> Result<Looked, StoreError> {
    let rules = &app.bench.config.watch.rules;
    let mut by_length: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        by_length.entry(rule.minutes).or_default().push(rule);
    }
    let catalog = app.bench.rubrics.load();
    let active = |name: &str| catalog.active().iter().any(|r| r.name == name);
    let mut looked = Looked::default();
    for (minutes, rules) in by_length {
        let since = now - TimeDelta::minutes(i64::from(minutes));
        let windows = app.store.windows(since).await?;
        let silent = silent(streams, &windows);
        for rule in rules {
            for window in windows.iter().chain(&silent).filter(|w| active(&w.rubric)) {
                match crossed(rule, window, (since, now)) {
                    Some((finding, true)) => looked.findings.push(finding),
                    Some((finding, false)) => drop(looked.unknown.insert(finding.fingerprint())),
                    None => {}
                }
            }
        }
    }
    for finding in &mut looked.findings {
        let rubric = catalog.active().iter().find(|r| Some(&r.name) == finding.rubric.as_ref());
        finding.runbook = rubric.and_then(|r| r.alert.runbook.clone());
    }
    Ok(looked)
}

/// Slices that are watched and have no verdict in the window.
fn silent(streams: &Streams, windows: &[Window]) -> Vec<Window> {
    let key = |w: &Window| (w.rubric.clone(), w.feature.clone(), w.environment.clone());
    let present: BTreeSet<_> = windows.iter().map(key).collect();
    let known = streams.slices().map(|slice| {
        (slice.rubric.clone(), slice.labels.get("feature").cloned(), slice.labels.get("environment").cloned())
    });
    let absent: BTreeSet<_> = known.filter(|k| !present.contains(k)).collect();
    let none = |(rubric, feature, environment)| Window {
        rubric,
        feature,
        environment,
        judged: 0,
        judge_errors: 0,
        scored: 0,
        pass_rate: None,
        mean_score: None,
        cost_usd: None,
        latency_seconds: None,
    };
    absent.into_iter().map(none).collect()
}

/// The value that a rule is about, and how many verdicts it is from.
fn value(rule: &Rule, window: &Window) -> Option<(f64, i64)> {
    let judged = window.judged;
    match rule.measure {
        Measure::PassRate => Some((window.pass_rate?, window.scored)),
        Measure::MeanScore => Some((window.mean_score?, window.scored)),
        Measure::JudgeErrorRate => (judged > 0).then(|| (window.judge_errors as f64 / judged as f64, judged)),
        Measure::CostUsd => Some((window.cost_usd?, judged)),
        Measure::LatencySeconds => Some((window.latency_seconds?, judged)),
        // That there are few is what it is about.
        Measure::VerdictsPerHour => Some((judged as f64 * 60.0 / f64::from(rule.minutes), i64::from(rule.n_min))),
        _ => None,
    }
}

/// A rule that is crossed, or, with false, one of which too little is known; `None` = it holds, or is not about this.
fn crossed(rule: &Rule, window: &Window, (since, now): (DateTime<Utc>, DateTime<Utc>)) -> Option<(Finding, bool)> {
    let fits = rule.rubric.accept(Some(&window.rubric))
        && rule.feature.accept(window.feature.as_deref())
        && rule.environment.accept(window.environment.as_deref());
    let limit = rule.above.or(rule.below).filter(|_| fits)?;
    let known = value(rule, window).filter(|(_, n)| *n >= i64::from(rule.n_min));
    let (value, _) = known.unwrap_or((f64::NAN, 0));
    let beyond = rule.above.is_some_and(|above| value > above) || rule.below.is_some_and(|below| value < below);
    if known.is_some() && !beyond {
        return None;
    }
    let labels =
        [("feature", &window.feature), ("environment", &window.environment), ("rule", &Some(rule.name.clone()))];
    let labels = labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    let silent = rule.measure == Measure::VerdictsPerHour && window.judged == 0;
    let finding = Finding {
        kind: if silent { Kind::NoData } else { Kind::Threshold },
        measure: rule.measure,
        rubric: Some(window.rubric.clone()),
        rubric_version: None,
        stream: labels.collect(),
        from: None,
        to: Some(Estimate { value, lower: None, upper: None }),
        limit: Some(limit),
        since,
        found_at: now,
        n: window.judged.unsigned_abs(),
        n_eff: window.judged as f64,
        weights: None,
        evidence: Evidence::default(),
        versions: Vec::new(),
        severity: rule.severity,
        examples: Vec::new(),
        deploys: Vec::new(),
        runbook: None,
        canaries: None,
    };
    Some((finding, known.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(judged: i64, errors: i64, pass_rate: f64) -> Window {
        Window {
            rubric: "r".to_owned(),
            feature: Some("f".to_owned()),
            environment: None,
            judged,
            judge_errors: errors,
            scored: judged - errors,
            pass_rate: Some(pass_rate),
            mean_score: Some(pass_rate),
            cost_usd: Some(0.01),
            latency_seconds: Some(2.0),
        }
    }

    fn rule(measure: Measure, above: Option<f64>, below: Option<f64>) -> Rule {
        Rule { name: "x".to_owned(), measure, above, below, ..Rule::default() }
    }

    fn is_crossed(rule: &Rule, window: &Window) -> bool {
        let now = DateTime::UNIX_EPOCH;
        crossed(rule, window, (now - TimeDelta::hours(1), now)).is_some_and(|(_, known)| known)
    }

    #[test]
    fn a_threshold_is_crossed_on_its_side_with_enough_verdicts() {
        let low = rule(Measure::PassRate, None, Some(0.75));
        assert!(is_crossed(&low, &window(20, 0, 0.7)));
        assert!(!is_crossed(&low, &window(19, 0, 0.7)), "too few");
        assert!(!is_crossed(&low, &window(20, 0, 0.8)), "good enough");
        let errors = rule(Measure::JudgeErrorRate, Some(0.2), None);
        assert!(is_crossed(&errors, &window(20, 5, 1.0)) && !is_crossed(&errors, &window(20, 4, 1.0)));
        assert!(is_crossed(&rule(Measure::LatencySeconds, Some(1.0), None), &window(20, 0, 1.0)));
        let other = Rule { rubric: crate::domain::policy::Patterns(vec!["s*".to_owned()]), ..errors };
        assert!(!is_crossed(&other, &window(20, 20, 1.0)), "another rubric");
    }

    #[test]
    fn nothing_at_all_is_no_data() {
        let few = rule(Measure::VerdictsPerHour, None, Some(5.0));
        let now = DateTime::UNIX_EPOCH;
        let (found, known) =
            crossed(&few, &window(0, 0, 0.0), (now - TimeDelta::hours(1), now)).expect("nothing comes");
        assert!(known);
        assert_eq!((found.kind, found.stream["rule"].as_str(), found.limit), (Kind::NoData, "x", Some(5.0)));
        assert!(!is_crossed(&few, &window(6, 0, 1.0)));
    }
}
