//! Verdicts → gauges: pass rates and mean scores with their intervals, corrected for sampling.
//!
//! One loop, started by `pipeline::start` under the role `watch`. Its rules: a bounded number of series, those with the most
//! verdicts; rubric versions that are not loaded are not shown; Prometheus gets one series a rubric, since labels there never come
//! from a trace. It only reads, so that any number of processes may do it, to the same effect. The way not taken: rates made in
//! Datadog of counts, which no query there can weight.

use super::note;
use super::report::{Line, Rate, lines};
use crate::app::App;
use crate::config::Datadog;
use crate::domain::dimension::Dimension;
use crate::sinks::datadog::Gauge;
use crate::store::StoreError;
use crate::store::report::Counting;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(60);

/// What series are told apart by, besides the rubric.
const BY: [Dimension; 4] = [Dimension::Environment, Dimension::Service, Dimension::Feature, Dimension::PromptVersion];

/// Groups that are sent at most; each is six series.
const GROUPS_MAX: usize = 200;

/// Rows that are read at most.
const ROWS_MAX: i64 = 500_000;

/// Names of an estimate and of the ends of its interval.
type Names = [&'static str; 3];
const PASS_RATE: Names = ["llm.eval.pass_rate", "llm.eval.pass_rate.lower", "llm.eval.pass_rate.upper"];
const MEAN_SCORE: Names = ["llm.eval.mean_score", "llm.eval.mean_score.lower", "llm.eval.mean_score.upper"];

/// Sends gauges every minute until stopped.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = once(&app).await {
            note(&app, &error, "gauges could not be counted, trying again");
        }
    }
}

/// Counts and sends once; gives the number of series.
///
/// # Errors
/// When the verdicts cannot be counted.
pub async fn once(app: &App) -> Result<usize, StoreError> {
    let now = app.bench.clock.now();
    let window = TimeDelta::hours(i64::from(app.bench.config.export.gauge_hours));
    let counting = Counting {
        since: now - window,
        until: now + TimeDelta::seconds(1),
        rubric: None,
        by: BY.to_vec(),
        bucket: window + TimeDelta::seconds(1),
        limit: ROWS_MAX,
    };
    let mut alike = app.store.count_alike(&counting).await?;
    let catalog = app.bench.rubrics.load();
    alike.retain(|row| catalog.get(&row.rubric, &row.rubric_version).is_some());
    show(app, &lines(alike.clone(), &[]));
    let Some(sender) = &app.gauges else { return Ok(0) };
    let (gauges, left_out) = gauges(&lines(alike, &BY), &app.bench.config.datadog);
    if left_out > 0 {
        tracing::warn!(left_out, most = GROUPS_MAX, "groups with the fewest verdicts have no gauges");
    }
    if let Err(why) = sender.send(&gauges, now).await {
        tracing::warn!(why, "gauges were not sent; the next ones follow in a minute");
    }
    Ok(gauges.len())
}

/// Puts the rubrics' rates into the metrics of this process.
fn show(app: &App, lines: &[Line]) {
    let metrics = &app.bench.metrics;
    metrics.pass_rate.reset();
    metrics.mean_score.reset();
    for line in lines {
        for (family, rate) in [(&metrics.pass_rate, line.pass_rate), (&metrics.mean_score, line.mean_score)] {
            let Some(Rate { value, lower, upper }) = rate else { continue };
            for (bound, value) in [("estimate", value), ("lower", lower), ("upper", upper)] {
                family.with_label_values(&[line.rubric.as_str(), bound]).set(value);
            }
        }
    }
}

/// The gauges of the groups with the most verdicts, and how many groups were left out.
fn gauges(lines: &[Line], config: &Datadog) -> (Vec<Gauge>, usize) {
    let mut scored: Vec<&Line> = lines.iter().filter(|line| line.n > 0).collect();
    scored.sort_by(|a, b| b.n.cmp(&a.n).then_with(|| a.rubric.cmp(&b.rubric)).then_with(|| a.by.cmp(&b.by)));
    let left_out = scored.len().saturating_sub(GROUPS_MAX);
    let mut gauges = Vec::new();
    for line in scored.into_iter().take(GROUPS_MAX) {
        let tags = tags(line, config);
        for (names, rate) in [(PASS_RATE, line.pass_rate), (MEAN_SCORE, line.mean_score)] {
            let Some(rate) = rate else { continue };
            let values = names.into_iter().zip([rate.value, rate.lower, rate.upper]);
            gauges.extend(values.map(|(name, value)| Gauge { name, value, tags: tags.clone() }));
        }
    }
    (gauges, left_out)
}

/// Every tag that monitors group by, in the words of the other metrics.
fn tags(line: &Line, config: &Datadog) -> Vec<(&'static str, String)> {
    let value = |wanted: Dimension| line.by.iter().find(|(d, _)| *d == wanted).and_then(|(_, value)| value.clone());
    let service = value(Dimension::Service).unwrap_or_else(|| config.service.clone());
    vec![
        ("eval", line.rubric.clone()),
        ("env", value(Dimension::Environment).or_else(|| config.env.clone()).unwrap_or_default()),
        ("ml_app", config.ml_app.clone().unwrap_or_else(|| service.clone())),
        ("service", service),
        ("feature", value(Dimension::Feature).unwrap_or_default()),
        ("prompt_version", value(Dimension::PromptVersion).unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::{Outcome, TraceLabels};
    use crate::store::report::Alike;
    use chrono::DateTime;

    fn alike(version: &str, passed: bool, probability: f64, count: u64) -> Alike {
        Alike {
            rubric: "tone".to_owned(),
            rubric_version: "v".to_owned(),
            labels: TraceLabels { prompt_version: Some(version.to_owned()), ..TraceLabels::default() },
            bucket: 0,
            outcome: Outcome::Scored,
            passed: Some(passed),
            score: Some(f64::from(u8::from(passed))),
            inclusion_probability: probability,
            count,
            cost_usd: 0.0,
            first_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_gauge_is_weighted_and_has_every_tag() {
        // All failures were kept and a tenth of the rest: 90 × 10 passed and 100 failed are 90 %.
        let rows = vec![alike("2", true, 0.1, 90), alike("2", false, 1.0, 100)];
        let (gauges, left_out) = gauges(&lines(rows, &BY), &Datadog::default());
        assert_eq!((gauges.len(), left_out), (6, 0));
        let value = |name: &str| gauges.iter().find(|g| g.name == name).expect("it is there").value;
        assert!((value("llm.eval.pass_rate") - 0.9).abs() < 1e-12);
        assert!(value("llm.eval.pass_rate.lower") < 0.9 && value("llm.eval.pass_rate.upper") > 0.9);
        let tags: Vec<(&str, &str)> = gauges[0].tags.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let wanted = [
            ("eval", "tone"),
            ("env", ""),
            ("ml_app", "assize"),
            ("service", "assize"),
            ("feature", ""),
            ("prompt_version", "2"),
        ];
        assert_eq!(tags, wanted);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_the_largest_groups_stay() {
        let rows = (0..300_u64).map(|n| alike(&n.to_string(), true, 1.0, n + 1)).collect();
        let (gauges, left_out) = gauges(&lines(rows, &BY), &Datadog::default());
        assert_eq!((gauges.len(), left_out), (GROUPS_MAX * 6, 100));
        assert!(gauges[0].tags.contains(&("prompt_version", "299".to_owned())));
    }
}
