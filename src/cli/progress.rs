//! How far a long command is: a bar on a terminal, a plain line now and then elsewhere.
//!
//! Used by `eval`, `rubric diff` and `rubric test`. Its rule: rate, spend and time left are of this run, so what was there
//! already does not count; short work says nothing in a pipe. The way not taken: a bar drawn into a CI log.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of so many things.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    usd: f64,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins; `what` names the things in the plural.
    pub fn new(total: usize, what: &'static str) -> Self {
        let total = total as u64;
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{per_sec:.1}}, {{msg}}, {{eta}} left");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style).with_message(usd(0.0));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Self { what, total, done: 0, usd: 0.0, began: now, told: now, bar }
    }

    /// One more is done, and cost that.
    pub fn one(&mut self, cost_usd: f64) {
        self.done += 1;
        self.usd += cost_usd;
        match &self.bar {
            Some(bar) => {
                bar.set_message(usd(self.usd));
                bar.inc(1);
            }
            None if self.told.elapsed() >= LINE_EVERY => {
                self.told = Instant::now();
                eprintln!("{}", self.line(self.began.elapsed()));
            }
            None => {}
        }
    }

    fn line(&self, took: Duration) -> String {
        let rate = self.done as f64 / took.as_secs_f64().max(1e-9);
        let left = (self.total.saturating_sub(self.done)) as f64 / rate.max(1e-9);
        let (done, total, what) = (self.done, self.total, self.what);
        format!("{done} of {total} {what}, {rate:.1} a second, {}, about {left:.0} s left", usd(self.usd))
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn usd(amount: f64) -> String {
    format!("{amount:.4} USD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_spend_and_time_left() {
        let mut progress = Progress::new(40, "verdicts");
        for _ in 0..10 {
            progress.one(0.001);
        }
        let line = progress.line(Duration::from_secs(5));
        assert_eq!(line, "10 of 40 verdicts, 2.0 a second, 0.0100 USD, about 15 s left");
    }
}
