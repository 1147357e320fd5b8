//! What the statistics promise, simulated through the code that the worker runs: `make simulate`.
//!
//! Intervals that cover, scans that stay quiet while nothing changes and find drops in time, version tests that do not confuse
//! equal versions, samples that the real rules draw, and what an hour of ten thousand streams costs. Seeded: the same figures on every machine but for times.
//! `--long` repeats everything ten times, `--only PART` runs one part. Its rule: each figure stands beside its goal, and a missed goal is exit code 1. The
//! way not taken: the simulations in Python that chose the methods, which say nothing about this code.

#[path = "simulate/cost.rs"]
mod cost;
#[path = "simulate/coverage.rs"]
mod coverage;
#[path = "simulate/days.rs"]
mod days;
#[path = "simulate/draws.rs"]
mod draws;
#[path = "simulate/picture.rs"]
mod picture;
#[path = "simulate/sampling.rs"]
mod sampling;
#[path = "simulate/traffic.rs"]
mod traffic;

use assize::stats::kernel::tally::Tally;
use assize::stats::kernel::version;
use assize::stats::many::budget::Budget;
use assize::stats::stream::{Finding, Rules, Stream};
use chrono::{DateTime, Duration, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::process::ExitCode;
use traffic::{DROP_AFTER_DAYS, HISTORY_DAYS, Scenario, WATCHED_DAYS, hours};

/// Streams that share the budget of one false alarm a month.
const STREAMS: usize = 200;
/// Days of history, as the rules take them.
const HISTORY_DAYS_U32: u32 = 14;
/// Streams with a drop, for a median: of two hundred it would be uncertain by a thirteenth of itself.
const DROPS: usize = 600;
/// Most days after a drop that it is waited for.
const PATIENCE_DAYS: usize = 20;

/// A figure and what it should be.
pub struct Figure {
    what: String,
    found: f64,
    low: f64,
    high: f64,
}

impl Figure {
    /// A figure that may not exceed the goal.
    pub fn at_most(what: impl Into<String>, found: f64, high: f64) -> Self {
        Self { what: what.into(), found, low: f64::NEG_INFINITY, high }
    }

    /// A figure that must lie between two.
    pub fn between(what: impl Into<String>, found: f64, low: f64, high: f64) -> Self {
        Self { what: what.into(), found, low, high }
    }

    /// A figure that must reach the goal.
    pub fn at_least(what: impl Into<String>, found: f64, low: f64) -> Self {
        Self { what: what.into(), found, low, high: f64::INFINITY }
    }

    fn met(&self) -> bool {
        (self.low..=self.high).contains(&self.found)
    }

    fn print(&self) {
        let goal = match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => format!("{} to {}", self.low, self.high),
            (true, false) => format!("at least {}", self.low),
            _ => format!("at most {}", self.high),
        };
        let met = if self.met() { "met" } else { "NOT met" };
        println!("{:<66} {:>10.3}  {goal:<14} {met}", self.what, self.found);
    }
}

/// What `--only` takes.
const PARTS: [&str; 5] = ["coverage", "sampling", "scan", "versions", "cost"];

/// Runs a part; figures are told as they are found.
fn run(part: &str, times: usize, tell: &mut dyn FnMut(Vec<Figure>)) {
    match part {
        "coverage" => tell(coverage::figures(400 * times)),
        "sampling" => tell(sampling::figures(1_001 * times)),
        "scan" => {
            for scenario in scenarios() {
                tell(vec![false_alarms(&scenario, times)]);
            }
            for delay in delays() {
                tell(vec![median_delay(&delay, times)]);
            }
        }
        "versions" => {
            for (failures, per_day) in [(0.1, 100.0), (0.1, 1_000.0), (0.1, 10_000.0), (0.02, 100.0), (0.02, 20.0)] {
                tell(vec![equal_versions(failures, per_day, if per_day > 1_000.0 { 1_200 } else { 6_000 } * times)]);
            }
        }
        _ => tell(cost::figures()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--picture") {
        let path = arguments.get(at + 1).map_or("docs/drop.svg", String::as_str);
        return match std::fs::write(path, picture::svg()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot write {path}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let times = if arguments.iter().any(|argument| argument == "--long") { 10 } else { 1 };
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    if let Some(name) = only.filter(|name| !PARTS.contains(&name.as_str())) {
        eprintln!("--only {name}: there are {}", PARTS.join(", "));
        return ExitCode::FAILURE;
    }
    println!("{:<66} {:>10}  {:<14}", "figure", "found", "goal");
    let mut figures = Vec::new();
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|name| name == part)) {
        run(part, times, &mut |more: Vec<Figure>| {
            more.iter().for_each(Figure::print);
            figures.extend(more);
        });
    }
    let met = figures.iter().all(Figure::met);
    println!("{}", as_json(&figures, met));
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn as_json(figures: &[Figure], met: bool) -> Value {
    let each = |f: &Figure| json!({"what": f.what, "found": f.found, "goal": [f.low, f.high], "met": f.met()});
    json!({"bench": "simulate", "met": met, "figures": figures.iter().map(each).collect::<Vec<_>>()})
}

// ---- the scan ----

/// The rules of each of the streams: an equal share of the budget, and a baseline of two weeks.
fn rules() -> Rules {
    let shares = Budget::default().shares(&[1.0; STREAMS]).expect("equal priorities");
    Rules { alpha_scan: shares[0], warm_up_days: HISTORY_DAYS_U32, ..Rules::default() }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_032_000, 0).expect("a Monday")
}

/// The hour (after the history) in which the stream alarms first, beginning to look after `from` hours.
fn first_alarm(hours: &[Tally], rules: &Rules, from: usize) -> Option<usize> {
    let mut stream = Stream::default();
    for (hour, scores) in hours.iter().enumerate() {
        let at = start() + Duration::hours(i64::try_from(hour).expect("a few thousand"));
        stream.add_counted(at, "", scores);
        let finding = stream.close(at + Duration::hours(1), rules).expect("rules are in range");
        if matches!(finding, Finding::Alarm(_)) {
            if hour >= HISTORY_DAYS * 24 + from {
                return Some(hour - HISTORY_DAYS * 24);
            }
            // A false alarm before: seen, and learnt anew.
            stream.acknowledge();
        }
    }
    None
}

struct Quiet {
    scenario: Scenario,
    per_day: f64,
    name: &'static str,
    goal: f64,
}

fn scenarios() -> Vec<Quiet> {
    let quiet = |scenario, per_day, name| Quiet { scenario, per_day, name, goal: 1.0 };
    vec![
        quiet(Scenario::Independent, 100.0, "independent, 100 a day"),
        quiet(Scenario::Independent, 1_000.0, "independent, 1,000 a day"),
        quiet(Scenario::Independent, 10_000.0, "independent, 10,000 a day"),
        quiet(Scenario::DailyCycle, 1_000.0, "daily cycle of 2 points, 1,000 a day"),
        quiet(Scenario::DailyCycle, 10_000.0, "daily cycle of 2 points, 10,000 a day"),
        quiet(Scenario::Weekend, 10_000.0, "and weekends 1 point worse, 10,000 a day"),
        quiet(Scenario::Shocks(0.005), 1_000.0, "hourly shocks, correlation .005, 1,000 a day"),
        Quiet { goal: 2.0, ..quiet(Scenario::Shocks(0.02), 1_000.0, "hourly shocks, correlation .02, 1,000 a day") },
        quiet(Scenario::MovedSampling, 1_000.0, "sampling moved, .1 to .05 and .5"),
        quiet(Scenario::FastFailures, 1_000.0, "failures judged faster, 1,000 a day"),
    ]
}

/// Streams (of 200) that alarm within 30 days though nothing changes; the average over repetitions.
fn false_alarms(of: &Quiet, times: usize) -> Figure {
    let rules = rules();
    // One repetition cannot tell one alarm in a thousand streams from one in a hundred.
    let times = if of.per_day > 1_000.0 { times } else { 5 * times };
    let alarms = (0..STREAMS * times).into_par_iter().filter(|stream| {
        let hours = hours(1_000_000 + *stream as u64, of.scenario, of.per_day, WATCHED_DAYS, 0.0);
        first_alarm(&hours, &rules, 0).is_some()
    });
    let found = alarms.count() as f64 / times as f64;
    Figure::at_most(format!("false alarms, 200 streams, 30 days: {}", of.name), found, of.goal)
}

struct Delay {
    per_day: f64,
    drop: f64,
    goal: f64,
}

fn delays() -> Vec<Delay> {
    let goals = [(0.05, [330.0, 26.0, 7.0]), (0.10, [80.0, 12.0, 2.0])];
    let of = |(drop, goals): (f64, [f64; 3])| {
        [100.0, 1_000.0, 10_000.0].into_iter().zip(goals).map(move |(per_day, goal)| Delay { per_day, drop, goal })
    };
    goals.into_iter().flat_map(of).collect()
}

/// Median hours from a drop to its alarm, counting those that are not found within twenty days as never found.
fn median_delay(of: &Delay, times: usize) -> Figure {
    let rules = rules();
    let from = DROP_AFTER_DAYS * 24;
    let one = |stream: usize| {
        let days = DROP_AFTER_DAYS + PATIENCE_DAYS;
        let hours = hours(2_000_000 + stream as u64, Scenario::Independent, of.per_day, days, of.drop);
        first_alarm(&hours, &rules, from).map_or(f64::INFINITY, |hour| (hour - from) as f64)
    };
    let mut found: Vec<f64> = (0..DROPS * times).into_par_iter().map(one).collect();
    found.sort_by(f64::total_cmp);
    let middle = found.len() / 2;
    let what = format!("median hours to a drop of {:.0} points, {} a day", of.drop * 100.0, of.per_day);
    Figure::at_most(what, f64::midpoint(found[middle - 1], found[middle]), of.goal)
}

// ---- the version test ----

/// The share of equal versions that are ever called worse, looked at every hour of 30 days, in per cent.
fn equal_versions(failures: f64, per_day: f64, runs: usize) -> Figure {
    let rules = Rules::default();
    let enough = (1.0 / rules.alpha_version).ln();
    let alarmed = (0..runs).into_par_iter().filter(|run| {
        let mut rng = StdRng::seed_from_u64(3_000_000 + *run as u64);
        let mut draw = |mean: f64| {
            let scores = draws::poisson(&mut rng, mean);
            let failed = draws::binomial(&mut rng, scores, failures);
            let mut tally = Tally::default();
            traffic::add(&mut tally, scores, failed, 1.0);
            tally
        };
        let before = draw(per_day * HISTORY_DAYS as f64);
        let mut after = Tally::default();
        (0..WATCHED_DAYS * 24).any(|_| {
            let hour = draw(per_day / 24.0);
            after.merge(&hour);
            // Evidence only grows in hours with failures.
            hour.summary().mean > 0.0 && version::log_e(&before, &after, rules.delta, 1.0).expect("in range") >= enough
        })
    });
    let what = format!("equal versions called worse in 30 days (%), failing at {failures}, {per_day} a day");
    Figure::at_most(what, 100.0 * alarmed.count() as f64 / runs as f64, 1.0)
}
