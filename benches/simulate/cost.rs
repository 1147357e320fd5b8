//! What watching costs: the hour of ten thousand streams, and the memory of a million verdicts.
//!
//! Used by `benches/simulate.rs`. Its rule: streams as they are in the midst of an epoch, each with its own scores. The way not
//! taken: one stream closed ten thousand times, whose state would never leave the cache.

use crate::Figure;
use crate::traffic::{FAILURES, Scenario, hours};
use assize::stats::stream::{Rules, Score, Stream};
use chrono::Duration;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Instant;

const STREAMS: usize = 10_000;

/// Time and memory.
pub fn figures() -> Vec<Figure> {
    let mut out = vec![closing()];
    out.extend(a_million());
    out
}

/// Microseconds to close an hour, a stream, on one core.
fn closing() -> Figure {
    let rules = Rules { alpha_scan: 1e-4, ..Rules::default() };
    // A hundred different streams, eight days old, copied; the next hours differ for each of the copies.
    let prototypes: Vec<Stream> = (0..100)
        .map(|seed| {
            let mut stream = Stream::default();
            for (hour, scores) in (0..).zip(&hours(seed, Scenario::Independent, 1_000.0, 0, 0.0)[..8 * 24]) {
                stream.add_counted(crate::start() + Duration::hours(hour), "", scores);
            }
            stream.close(crate::start() + Duration::days(8), &rules).expect("rules are in range");
            stream
        })
        .collect();
    let mut streams: Vec<Stream> = (0..STREAMS).map(|i| prototypes[i % prototypes.len()].clone()).collect();
    let next = hours(99, Scenario::Independent, 1_000.0, 0, 0.0);
    let mut best = f64::INFINITY;
    for round in 0..3 {
        let at = crate::start() + Duration::days(8) + Duration::hours(round);
        for (stream, i) in streams.iter_mut().zip(0..) {
            stream.add_counted(at, "", &next[(i + usize::try_from(round).expect("small")) % next.len()]);
        }
        let started = (Instant::now(), cpu_seconds());
        for stream in &mut streams {
            stream.close(at + Duration::hours(1), &rules).expect("rules are in range");
        }
        best = best.min(since(started) * 1e6 / STREAMS as f64);
    }
    Figure::at_most("closing an hour, microseconds a stream, 10,000 streams", best, 20.0)
}

/// A million scores one by one: nanoseconds each, size of the state, and what the process grew by in the second half.
fn a_million() -> Vec<Figure> {
    let rules = Rules::default();
    let mut rng = StdRng::seed_from_u64(5);
    let (mut stream, mut spent) = (Stream::default(), 0.0);
    let (mut half_size, mut half_memory, mut most) = (0, 0.0, 0);
    // Ten thousand a day for a hundred days.
    for hour in 0..2_400_i64 {
        let started = (Instant::now(), cpu_seconds());
        for i in 0..417 {
            let at = crate::start() + Duration::seconds(hour * 3600 + i * 8);
            let mut score = Score::new(at, f64::from(u8::from(rng.random_bool(FAILURES))));
            score.version = ["v1", "v2"][usize::from(hour > 1_200)];
            stream.add(&score).expect("in range");
        }
        spent += since(started);
        stream.close(crate::start() + Duration::hours(hour + 1), &rules).expect("rules are in range");
        if hour % 100 == 99 {
            let size = serde_json::to_string(&stream).expect("plain data").len();
            most = most.max(size);
            if hour < 1_600 {
                (half_size, half_memory) = (half_size.max(size), resident_mb());
            }
        }
    }
    let growth = most as f64 / half_size as f64;
    vec![
        Figure::at_most("adding a score, microseconds", spent * 1e6 / (2_400.0 * 417.0), 1.0),
        Figure::at_most("a million scores: largest state over its largest in the first 667,000", growth, 1.05),
        Figure::at_most("a million scores: largest state, kB of JSON", most as f64 / 1e3, 100.0),
        Figure::at_most("a million scores: memory grown in the last third, MB", resident_mb() - half_memory, 2.0),
    ]
}

/// Seconds on the processor, so that what else runs on the machine does not count; by the clock where the system does not say.
fn since((started, on_cpu): (Instant, Option<f64>)) -> f64 {
    cpu_seconds().zip(on_cpu).map_or(started.elapsed().as_secs_f64(), |(now, then)| now - then)
}

/// Seconds that this thread was on a processor, where the system says.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// Resident memory; 0 where the system does not say.
fn resident_mb() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).map_or(0.0, |pages| pages * 4096.0 / 1e6)
}
