//! Dividing the limits of judges among the live workers.
//!
//! One loop a process with the role work, once a second. Its rule: every worker reads the same rows and computes the same
//! division, so none has to be asked; a share shrinks at once and grows two seconds later, so that together they never exceed
//! the limit; a dead worker's share is free when its row runs out. The way not taken: an elected worker that hands out permits.

use super::note;
use crate::app::App;
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(1);

/// How long a worker that says nothing is taken to be alive.
const ALIVE: Duration = Duration::from_secs(4);

/// What a worker gets even when it wants nothing, as part of an equal share: it may want something before the next second.
const SPARE: f64 = 0.1;

/// Shares limits until stopped and nothing is in hand any more; then [`leave`] gives the shares back.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    while !stop.is_cancelled() || app.bench.metrics.in_hand.get() > 0 {
        once(&app).await;
        let stopping = stop.is_cancelled();
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled(), if !stopping => {}
        }
    }
}

/// Gives this worker's shares back, when nothing is in hand any more.
pub async fn leave(app: &App) {
    if let Err(error) = app.store.leave_shares(app.worker).await {
        note(app, &error, "shares of limits could not be given back; they run out");
    }
}

async fn once(app: &App) {
    let worker = app.worker;
    let wanted: Vec<_> = app.bench.judges.pacers().map(|(key, pacer)| (key.clone(), pacer.demand())).collect();
    if wanted.is_empty() {
        return;
    }
    let (now, believed) = (app.bench.clock.now(), Instant::now() + ALIVE);
    let until = now + TimeDelta::from_std(ALIVE).unwrap_or_default();
    match app.store.exchange_shares(worker, &wanted, (now, until)).await {
        Ok(all) => {
            for (key, pacer) in app.bench.judges.pacers() {
                let mut same: Vec<_> = all.iter().filter(|w| w.key == *key).collect();
                same.sort_by_key(|w| w.worker);
                let parts = divide(&same.iter().map(|w| w.part).collect::<Vec<_>>());
                if let Some(at) = same.iter().position(|w| w.worker == worker) {
                    pacer.set_share(parts[at], same.len() == 1, believed);
                }
            }
        }
        Err(error) => note(app, &error, "limits could not be shared; the share of before holds for some seconds"),
    }
}

/// Divides one limit among workers that want these parts of it: nobody gets less than an equal share while somebody gets
/// more than they want (max-min fairness). The sum is 1.
#[must_use]
pub fn divide(wanted: &[f64]) -> Vec<f64> {
    let n = wanted.len().max(1) as f64;
    // A little more than was wanted, so that growing demand is not held back by its own measurement.
    let wants: Vec<f64> = wanted.iter().map(|w| (w * 1.25).max(SPARE / n)).collect();
    let mut given = vec![0.0; wants.len()];
    let mut open: Vec<usize> = (0..wants.len()).collect();
    let mut left = 1.0;
    while !open.is_empty() {
        let fair = left / open.len() as f64;
        let (modest, greedy): (Vec<usize>, Vec<usize>) = open.iter().copied().partition(|i| wants[*i] <= fair);
        if modest.is_empty() {
            for i in &greedy {
                given[*i] = fair;
            }
            return given;
        }
        for i in &modest {
            given[*i] = wants[*i];
            left -= wants[*i];
        }
        open = greedy;
    }
    // Everybody has what they want: the rest is spread evenly, for what comes.
    given.iter().map(|g| g + left / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_divided_by_what_is_wanted() {
        assert_eq!(divide(&[5.0]), [1.0]);
        assert_eq!(divide(&[9.0, 1.5, 2.0, 7.0]), [0.25; 4]);
        let idle = divide(&[9.0, 0.0]);
        assert!((idle[1] - 0.05).abs() < 1e-12 && (idle[0] - 0.95).abs() < 1e-12, "{idle:?}");
        let calm = divide(&[0.1, 0.1]);
        assert!((calm[0] - 0.5).abs() < 1e-12, "{calm:?}");
        assert!(divide(&[]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_parts_sum_to_the_whole(wanted in proptest::collection::vec(0.0f64..4.0, 1..20)) {
            let parts = divide(&wanted);
            proptest::prop_assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            proptest::prop_assert!(parts.iter().all(|p| *p > 0.0));
        }
    }
}
