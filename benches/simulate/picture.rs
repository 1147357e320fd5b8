//! The picture of a drop in docs/statistics.md, drawn from a simulated stream: `make simulate ARGS="--picture docs/drop.svg"`.
//!
//! Its rule: what is drawn is what the detector saw and said. The way not taken: a picture drawn by hand, which shows what one
//! would like to see.

use assize::stats::estimate::Level;
use assize::stats::proportions::wilson;
use assize::stats::stream::{Alarm, Finding, Rules, Score, Stream};
use chrono::{DateTime, Duration, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt::Write;

/// Days drawn; the drop begins after so many of them; scores a day.
const DAYS: i32 = 30;
const DROP_AFTER: i32 = 20;
const A_DAY: i32 = 1_000;

/// Pass rates before and after.
const RATES: (f64, f64) = (0.90, 0.85);

/// Share of the false-alarm budget: one of two hundred streams.
const ALPHA: f64 = 0.0045;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 30.0;

/// A day's pass rate with its interval.
struct Day {
    rate: f64,
    low: f64,
    high: f64,
}

/// Draws it.
pub fn svg() -> String {
    let (days, alarm, raised) = simulate();
    let y = |rate: f64| TOP + (0.95 - rate) / 0.17 * HEIGHT;
    let x = |day: f64| LEFT + day / f64::from(DAYS) * WIDTH;
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 390\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"960\" height=\"390\" fill=\"white\"/>\n",
    );
    let mut add = |line: String| writeln!(out, "{line}").expect("a String can be written");
    for percent in [80, 85, 90, 95] {
        let at = y(f64::from(percent) / 100.0);
        add(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>", LEFT + WIDTH));
        add(format!("<text x=\"12\" y=\"{:.1}\">{percent} %</text>", at + 4.0));
    }
    let middle = |n: usize| x(n as f64 + 0.5);
    let upper = days.iter().enumerate().map(|(n, d)| format!("{:.1},{:.1}", middle(n), y(d.high)));
    let lower = days.iter().enumerate().rev().map(|(n, d)| format!("{:.1},{:.1}", middle(n), y(d.low)));
    let band: Vec<String> = upper.chain(lower).collect();
    add(format!("<polygon points=\"{}\" fill=\"#cfe3f7\"/>", band.join(" ")));
    let line: Vec<String> =
        days.iter().enumerate().map(|(n, d)| format!("{:.1},{:.1}", middle(n), y(d.rate))).collect();
    add(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2\"/>", line.join(" ")));
    let truth = [(0.0, RATES.0), (20.0, RATES.0), (20.0, RATES.1), (30.0, RATES.1)];
    let truth: Vec<String> = truth.iter().map(|(day, rate)| format!("{:.1},{:.1}", x(*day), y(*rate))).collect();
    add(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"#888\" stroke-dasharray=\"6 4\"/>", truth.join(" ")));
    let day = |at: DateTime<Utc>| (at - DateTime::UNIX_EPOCH).as_seconds_f64() / 86_400.0;
    let hours = (day(raised) - f64::from(DROP_AFTER)) * 24.0;
    for (at, colour, text, height) in [
        (day(alarm.since), "#b26b00", "estimated start".to_owned(), 352.0),
        (day(raised), "#b00020", format!("alert, {hours:.0} hours after the drop"), 370.0),
    ] {
        let at = x(at);
        let bottom = TOP + HEIGHT;
        add(format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        ));
        add(format!("<text x=\"{:.1}\" y=\"{height}\" fill=\"{colour}\">{text}</text>", at + 4.0));
    }
    add(format!(
        "<text x=\"{LEFT}\" y=\"18\">Pass rate a day with its 95 % interval, {A_DAY} scores a day; dashed: the truth, \
         {:.0} % until day {DROP_AFTER}, then {:.0} %</text>",
        RATES.0 * 100.0,
        RATES.1 * 100.0
    ));
    add("</svg>".to_owned());
    out
}

fn simulate() -> (Vec<Day>, Alarm, DateTime<Utc>) {
    let mut draws = StdRng::seed_from_u64(7);
    let rules = Rules { alpha_scan: ALPHA, warm_up_days: 14, ..Rules::default() };
    let (mut stream, mut days, mut found) = (Stream::default(), Vec::new(), None);
    for day in 0..DAYS {
        let mut count = 0;
        for n in 0..A_DAY {
            let at = DateTime::UNIX_EPOCH + Duration::days(day.into()) + Duration::milliseconds(86_400 * i64::from(n));
            if n % 42 == 0 && found.is_none() {
                let look = stream.close(at, &rules).expect("the rules are valid");
                if let Finding::Alarm(alarm) = look {
                    found = Some(*alarm);
                }
            }
            let rate = if day < DROP_AFTER { RATES.0 } else { RATES.1 };
            let passes = draws.random_bool(rate);
            count += i32::from(passes);
            stream.add(&Score::new(at, if passes { 0.0 } else { 1.0 })).expect("a valid score");
        }
        let rate = f64::from(count) / f64::from(A_DAY);
        let band = wilson(rate, f64::from(A_DAY), Level::P95).expect("a valid rate");
        days.push(Day { rate, low: band.low, high: band.high });
    }
    let alarm = found.expect("a drop of five points at a thousand scores a day is found within ten days");
    (days, alarm, alarm.raised_at)
}
