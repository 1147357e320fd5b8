//! Days of traffic that the real rules sample: bursts, a weekly cycle, new versions, with boosts, floors and ceilings at work.
//!
//! Used by `benches/simulate.rs`, and with fewer days by the tests of `pipeline::sample`. Its rule: traces are drawn by
//! `pipeline::sample::draw` with steps from `pipeline::sample::control`, whose counts are kept here as the database keeps them. The
//! way not taken: rates and draws of the simulation's own, which would prove another sampler.

use assize::config::Sampling;
use assize::domain::span::Status;
use assize::domain::step::{Count, Past, Step};
use assize::domain::trace::Trace;
use assize::pipeline::sample::{Draw, Evidence, control, draw};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};

/// Traffic of a feature: its name, traces a day, and how often they fail.
const FEATURES: [(&str, f64, f64); 4] =
    [("search", 2_400.0, 0.05), ("chat", 1_200.0, 0.10), ("returns", 300.0, 0.08), ("legal", 50.0, 0.12)];

/// How much busier a burst of the chat is.
const BURST: f64 = 20.0;

/// A trace that was kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Which of the features.
    pub feature: usize,
    /// 1 when it failed.
    pub failed: f64,
    /// Its inclusion probability.
    pub inclusion: f64,
}

/// What a day had: by feature, how many traces, how many of them failed, and how many were to fail on average.
#[derive(Debug, Clone, Default)]
pub struct Day {
    pub kept: Vec<Kept>,
    pub traces: [f64; 4],
    pub failures: [f64; 4],
    pub hazard: [f64; 4],
}

/// The rules: a first match, boosts, a floor, two ceilings.
pub fn policy(step_seconds: u64) -> Sampling {
    let text = format!(
        "default_rate = 0.05\nstep_seconds = {step_seconds}\n\
         [[rules]]\nname = \"chat\"\nrate = 0.2\nwhen = {{ feature = \"chat\" }}\n\
         [[boosts]]\nname = \"errors\"\nwhen = {{ status = \"error\" }}\n\
         [[boosts]]\nname = \"new versions\"\nfirst = 60\nby = \"prompt_version\"\nrate = 0.7\n\
         [[floors]]\nname = \"features\"\nby = \"feature\"\nper_hour = 5\n\
         [[ceilings]]\nname = \"each feature\"\nby = \"feature\"\nper_hour = 20\n\
         [[ceilings]]\nname = \"all\"\nper_hour = 40\n"
    );
    toml::from_str(&text).expect("valid rules")
}

/// Counts of a step, by limit and value.
type Sums = BTreeMap<(String, String), Count>;

/// The counts of the last hour, as the tables keep them.
#[derive(Default)]
struct Memory {
    counts: VecDeque<(DateTime<Utc>, Sums)>,
    firsts: BTreeMap<(String, String), u64>,
}

impl Memory {
    fn past(&mut self, now: DateTime<Utc>) -> Past {
        while self.counts.front().is_some_and(|(at, _)| *at < now - control::WINDOW) {
            self.counts.pop_front();
        }
        let counts = self.counts.iter().flat_map(|(at, counts)| counts.values().map(|c| (*at, c.clone()))).collect();
        let firsts = self.firsts.iter().map(|((limit, value), n)| (limit.clone(), value.clone(), *n)).collect();
        Past { since: self.counts.front().map(|(at, _)| *at), counts, firsts }
    }

    fn add(&mut self, counts: Vec<Count>) {
        for count in counts {
            let key = (count.limit.clone(), count.value.clone());
            if count.first {
                *self.firsts.entry(key).or_default() += 1;
                continue;
            }
            let (_, step) = self.counts.back_mut().expect("a step has begun");
            let fresh = || Count { limit: count.limit.clone(), value: count.value.clone(), ..Count::default() };
            let sum = step.entry(key).or_insert_with(fresh);
            sum.seen += count.seen;
            sum.floored += count.floored;
            sum.wanted += count.wanted;
            sum.expected += count.expected;
        }
    }
}

/// A week, from a cold start on a Monday.
pub fn week(seed: u64, step_seconds: u64) -> Vec<Day> {
    let (policy, mut rng, mut memory) = (policy(step_seconds), StdRng::seed_from_u64(seed), Memory::default());
    let start = DateTime::from_timestamp(1_750_032_000, 0).expect("a Monday");
    let (mut now, mut burst_until, mut drawn) = (start, start, 0_u32);
    let mut days = vec![Day::default(); 7];
    while now < start + TimeDelta::days(7) {
        let step = control::next(&policy, &memory.past(now), now);
        memory.counts.push_back((now, BTreeMap::new()));
        let day = usize::try_from((now - start).num_days()).expect("the future");
        if now >= burst_until && rng.random_bool(0.01) {
            burst_until = now + TimeDelta::minutes(12);
        }
        let moment = Moment { at: now, of_day: (now - start).as_seconds_f64() / 86_400.0, burst: now < burst_until };
        for feature in 0..FEATURES.len() {
            let mean = moment.arrivals(feature) * (step.ends_at - step.starts_at).as_seconds_f64() / 86_400.0;
            let mut time = exponential(&mut rng);
            while time < mean {
                time += exponential(&mut rng);
                drawn += 1;
                let (trace, hazard) = moment.trace(&mut rng, feature, &format!("{seed}-{drawn}"));
                let failed = f64::from(u8::from(rng.random_bool(hazard)));
                take(&mut days[day], &mut memory, (&policy, &step, &trace), (feature, failed, hazard));
            }
        }
        now = step.ends_at;
    }
    days
}

fn take(
    day: &mut Day,
    memory: &mut Memory,
    (policy, step, trace): (&Sampling, &Step, &Trace),
    (feature, failed, hazard): (usize, f64, f64),
) {
    day.traces[feature] += 1.0;
    day.failures[feature] += failed;
    day.hazard[feature] += hazard;
    let Draw { decision, counts } = draw(policy, step, &Evidence::default(), trace);
    memory.add(counts);
    if decision.kept {
        day.kept.push(Kept { feature, failed, inclusion: decision.inclusion() });
    }
}

/// What the traffic is like.
struct Moment {
    at: DateTime<Utc>,
    /// Days since the start.
    of_day: f64,
    burst: bool,
}

impl Moment {
    fn weekend(&self) -> bool {
        self.of_day >= 5.0
    }

    /// Traces a day at this moment.
    fn arrivals(&self, feature: usize) -> f64 {
        let (name, usual, _) = FEATURES[feature];
        let daily = 1.0 + 0.7 * (std::f64::consts::TAU * (self.of_day - 0.4)).sin();
        let weekly = if self.weekend() { 0.4 } else { 1.0 };
        usual * daily * weekly * if self.burst && name == "chat" { BURST } else { 1.0 }
    }

    /// A trace, and how likely it is to fail.
    fn trace(&self, rng: &mut StdRng, feature: usize, id: &str) -> (Trace, f64) {
        let (name, _, usual) = FEATURES[feature];
        let mut trace = Trace { trace_id: id.to_owned(), ..Trace::default() };
        trace.view.feature = Some(name.to_owned());
        // A new version every other day, and not all of the traffic has it at once.
        let release = (self.at.timestamp() / 172_800).to_string();
        trace.view.prompt.version = Some(if rng.random_bool(0.5) { release } else { "stable".to_owned() });
        let errs = rng.random_bool(0.03);
        if errs {
            trace.view.status = Status::Error;
        }
        let weekend = if self.weekend() { 0.03 } else { 0.0 };
        let in_burst = if self.burst && name == "chat" { 0.15 } else { 0.0 };
        (trace, if errs { 0.6 } else { usual + weekend + in_burst })
    }
}

fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}

/// How estimates of many days compare with the truth.
#[derive(Debug, Default)]
pub struct Record {
    /// Estimate less truth, a day.
    pub errors: Vec<f64>,
    /// Days whose interval holds the truth.
    pub covered: usize,
}

impl Record {
    /// Notes a day.
    pub fn note(&mut self, estimate: f64, truth: f64, covers: bool) {
        self.errors.push(estimate - truth);
        self.covered += usize::from(covers);
    }

    /// Share of the days whose interval holds the truth.
    pub fn coverage(&self) -> f64 {
        self.covered as f64 / self.errors.len() as f64
    }

    /// The mean error in standard errors of itself.
    pub fn bias(&self) -> f64 {
        let n = self.errors.len() as f64;
        let mean = self.errors.iter().sum::<f64>() / n;
        let variance = self.errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (n - 1.0);
        mean / (variance / n).sqrt()
    }
}
