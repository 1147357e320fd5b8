//! Whether estimates from samples that the real rules draw are right: a thousand days of traffic.
//!
//! Used by `benches/simulate.rs`. Estimates and intervals are those of reports (`stats::survey`): of the day's traces, and of what
//! made them. Its rule: the plain mean stands beside it, to show what the weights are for. The way not taken: one long day.

use crate::Figure;
use crate::days::{Day, Kept, Record, week};
use assize::stats::estimate::Level;
use assize::stats::hajek::Target;
use assize::stats::survey::{self, Stratum};
use rayon::prelude::*;

/// Length of a step.
const STEP_SECONDS: u64 = 120;

/// Bias in standard errors and coverage, over `days` days.
pub fn figures(days: usize) -> Vec<Figure> {
    let weeks = days.div_ceil(7) as u64;
    let all: Vec<Day> = (0..weeks).into_par_iter().flat_map_iter(|seed| week(6_000_000 + seed, STEP_SECONDS)).collect();
    let kept = all.iter().map(|day| day.kept.len()).sum::<usize>() as f64 / all.len() as f64;
    let seen = all.iter().map(|day| day.traces.iter().sum::<f64>()).sum::<f64>() / all.len() as f64;
    let mut out =
        vec![Figure::between(format!("of {seen:.0} traces a day kept ({} days)", all.len()), kept, 300.0, 960.0)];
    let of_day = record(&all, |_| true, |d| d.failures.iter().sum(), Target::Population);
    let of_process = record(&all, |_| true, |d| d.hazard.iter().sum(), Target::Process);
    let chat = record(&all, |k| k.feature == 1, |d| d.hazard[1], Target::Process);
    let search = record(&all, |k| k.feature == 0, |d| d.hazard[0], Target::Process);
    for (what, record) in [
        ("a day's failure rate", of_day),
        ("the rate behind it", of_process),
        ("the rate of a feature with bursts", chat),
        ("the rate of a large feature", search),
    ] {
        out.push(Figure::between(format!("sampled days: bias in standard errors, {what}"), record.bias(), -3.0, 3.0));
        out.push(Figure::between(format!("sampled days: coverage of 95 %, {what}"), record.coverage(), 0.93, 0.97));
    }
    let naive = naive(&all);
    out.push(Figure::at_least("sampled days: bias of the plain mean in standard errors", naive.bias(), 20.0));
    out
}

fn record(days: &[Day], of: impl Fn(&Kept) -> bool, truth: impl Fn(&Day) -> f64, target: Target) -> Record {
    let mut record = Record::default();
    for day in days {
        let items: Vec<(f64, f64)> = day.kept.iter().filter(|k| of(k)).map(|k| (k.failed, k.inclusion)).collect();
        let traces: f64 = (0..day.traces.len())
            .filter(|feature| of(&Kept { feature: *feature, failed: 0.0, inclusion: 1.0 }))
            .map(|feature| day.traces[feature])
            .sum();
        let size = items.iter().map(|(_, pi)| 1.0 / pi).sum();
        let survey =
            survey::mean(&[Stratum { size, items: &items, clusters: None }], target).expect("something was kept");
        let interval = survey.rate_interval(Level::P95).expect("a rate");
        let truth = truth(day) / traces;
        record.note(survey.estimate.value, truth, (interval.low..=interval.high).contains(&truth));
    }
    record
}

fn naive(days: &[Day]) -> Record {
    let mut record = Record::default();
    for day in days {
        let mean = day.kept.iter().map(|k| k.failed).sum::<f64>() / day.kept.len() as f64;
        record.note(mean, day.failures.iter().sum::<f64>() / day.traces.iter().sum::<f64>(), false);
    }
    record
}
