//! How often the 95 % interval of a day's mean covers the truth, when sampling rates follow the traffic and bad hours are busy.
//!
//! Used by `benches/simulate.rs`. Three features, one of which has bursts of fifty times its traffic that fail more; every minute
//! each feature's rate is set from the traffic of the minutes before. Its rule: `stats::survey` as reports use it. The way not
//! taken: rates that do not depend on the traffic, where even the plain mean is right.

use crate::Figure;
use crate::draws::poisson;
use assize::stats::estimate::Level;
use assize::stats::hajek::Target;
use assize::stats::survey::{self, Stratum};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

/// Scores a minute and feature that there is money for.
const BUDGET: f64 = 5.0;

struct Day {
    sampled: Vec<(f64, f64)>,
    truth: f64,
}

fn day(seed: u64, bursts: bool) -> Day {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut sampled, mut failures, mut items) = (Vec::new(), 0_u32, 0_u32);
    for (usual, rate) in [(40.0, 0.05), (10.0, 0.08), (2.0, 0.04)] {
        let uneven = bursts && usual < 5.0;
        let (mut expected, mut minutes_left) = (usual, 0);
        for _ in 0..24 * 60 {
            if uneven && minutes_left == 0 && rng.random_bool(0.01) {
                minutes_left = 12;
            }
            let in_burst = minutes_left > 0;
            minutes_left -= i32::from(in_burst);
            let arrivals = poisson(&mut rng, if in_burst { usual * 50.0 } else { usual });
            let wanted: f64 = (BUDGET / expected).clamp(0.02, 1.0);
            // To a quarter of a halving, as the sampler does.
            let inclusion = (((wanted.log2() * 4.0).floor()) / 4.0).exp2().min(1.0);
            for _ in 0..arrivals {
                let fails = rng.random_bool(if in_burst { 0.25 } else { rate });
                items += 1;
                failures += u32::from(fails);
                if rng.random_bool(inclusion) {
                    sampled.push((f64::from(u8::from(fails)), inclusion));
                }
            }
            expected = 0.8 * expected + 0.2 * f64::from(arrivals).max(0.1);
        }
    }
    Day { sampled, truth: f64::from(failures) / f64::from(items) }
}

/// Coverage with and without bursts.
pub fn figures(runs: usize) -> Vec<Figure> {
    let of = |bursts: bool| {
        let covered = (0..runs).into_par_iter().filter(|run| {
            let Day { sampled, truth } = day(4_000_000 + *run as u64, bursts);
            let stratum =
                Stratum { size: sampled.iter().map(|(_, pi)| 1.0 / pi).sum(), items: &sampled, clusters: None };
            let survey = survey::mean(&[stratum], Target::Population).expect("something was sampled");
            survey.rate_interval(Level::P95).expect("a rate").contains(truth)
        });
        covered.count() as f64 / runs as f64
    };
    let figure =
        |name: &str, bursts| Figure::between(format!("coverage of 95 % intervals, {name}"), of(bursts), 0.93, 0.97);
    vec![figure("adaptive rates", false), figure("adaptive rates and bursts", true)]
}
