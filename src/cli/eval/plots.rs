//! The plots of a run's HTML report, as inline SVG.
//!
//! Used by `html`. Its rule: a plot shows what its table says and has a text for those who do not see it; colours come from the
//! page, so that they follow its dark form. The way not taken: a script that draws, which a mail or a CI system would not run.

use crate::domain::verdict::Verdict;
use crate::pipeline::runs::Summary;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Where the scale of the first plot begins and ends, in its own units.
const SCALE: (f64, f64) = (210.0, 660.0);

/// Height of a row.
const ROW: f64 = 28.0;

/// Bars of a histogram.
const BINS: usize = 20;

/// Characters of a rubric's name beside its row.
const NAME_MAX: usize = 28;

/// The scale of the pass rates: from 0, or from 50 % where all are above it.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
}

impl Axis {
    fn x(self, share: f64) -> String {
        at(SCALE.0 + (share - self.low) / (1.0 - self.low) * (SCALE.1 - SCALE.0))
    }

    fn ticks(self) -> Vec<f64> {
        (0..=5_u8).map(|n| self.low + f64::from(n) / 5.0 * (1.0 - self.low)).collect()
    }
}

/// A place or size in units of the drawing.
fn at(units: f64) -> String {
    format!("{units:.1}")
}

/// A name that fits beside its row.
fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}

/// Each rubric's pass rate with its interval; a ring where it was before, and a line where a gate stands.
pub(super) fn pass_rates(
    summaries: &BTreeMap<String, Summary>,
    before: &BTreeMap<String, f64>,
    gates: &BTreeMap<String, f64>,
) -> Markup {
    let rows: Vec<(&String, &Summary)> = summaries.iter().filter(|(_, s)| s.pass_rate.is_some()).collect();
    let lowest = rows.iter().filter_map(|(_, s)| s.pass_rate).map(|rate| rate.lower);
    let lowest = lowest.chain(before.values().copied()).chain(gates.values().copied()).fold(1.0, f64::min);
    let axis = Axis { low: if lowest >= 0.5 { 0.5 } else { 0.0 } };
    let x = |share: f64| axis.x(share);
    let bottom = rows.len() as f64 * ROW + 8.0;
    html! {
        svg viewBox=(format!("0 0 760 {:.0}", bottom + 22.0)) role="img" aria-label="Pass rates with their 95 % intervals" {
            @for share in axis.ticks() {
                line.grid x1=(x(share)) x2=(x(share)) y1="4" y2=(at(bottom)) {}
                text.tick x=(x(share)) y=(at(bottom + 15.0)) text-anchor="middle" { (format!("{:.0} %", share * 100.0)) }
            }
            @for (n, (name, s)) in rows.iter().enumerate() {
                @let y = n as f64 * ROW + 18.0;
                @if let Some(rate) = s.pass_rate {
                    text x=(at(SCALE.0 - 12.0)) y=(at(y + 4.0)) text-anchor="end" { title { (name) } (short(name)) }
                    @if let Some(gate) = gates.get(*name) {
                        line.gate x1=(x(*gate)) x2=(x(*gate)) y1=(at(y - 10.0)) y2=(at(y + 10.0)) { title { "gate " (gate) } }
                    }
                    line.interval x1=(x(rate.lower)) x2=(x(rate.upper)) y1=(at(y)) y2=(at(y)) {}
                    @if let Some(old) = before.get(*name) {
                        circle.before cx=(x(*old)) cy=(at(y)) r="6" { title { (format!("before: {:.1} %", old * 100.0)) } }
                    }
                    circle.estimate cx=(x(rate.value)) cy=(at(y)) r="4.5" {}
                    text.value x=(at(SCALE.1 + 12.0)) y=(at(y + 4.0)) { (format!("{:.1} %", rate.value * 100.0)) tspan.dim { (format!("  n {}", s.n)) } }
                }
            }
        }
    }
}

/// How the scores lie: a bar for each twentieth, what passes above what fails.
pub(super) fn scores(verdicts: &[&Verdict]) -> Markup {
    let (width, height) = (320.0, 90.0);
    let mut bins = [(0_u32, 0_u32); BINS];
    for verdict in verdicts {
        let Some(score) = verdict.score else { continue };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a score is in [0,1]")]
        let bin = ((score * BINS as f64) as usize).min(BINS - 1);
        if verdict.passed == Some(true) {
            bins[bin].0 += 1;
        } else {
            bins[bin].1 += 1;
        }
    }
    let most = bins.iter().map(|(pass, fail)| pass + fail).max().unwrap_or(0).max(1);
    let step = width / BINS as f64;
    let tall = |n: u32| f64::from(n) / f64::from(most) * height;
    html! {
        svg.scores viewBox="-4 -14 328 124" role="img" aria-label="Distribution of the scores from 0 to 1" {
            text.tick x="0" y="-3" { "most: " (most) }
            @for (n, (pass, fail)) in bins.iter().enumerate() {
                @let left = n as f64 * step + 1.0;
                @if *fail > 0 {
                    rect.fail x=(at(left)) y=(at(height - tall(*fail))) width=(at(step - 2.0)) height=(at(tall(*fail))) { title { (fail) " fail" } }
                }
                @if *pass > 0 {
                    rect.pass x=(at(left)) y=(at(height - tall(*fail) - tall(*pass))) width=(at(step - 2.0)) height=(at(tall(*pass))) { title { (pass) " pass" } }
                }
            }
            line.axis x1="0" x2=(at(width)) y1=(at(height)) y2=(at(height)) {}
            @for (share, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
                text.tick x=(at(share * width)) y=(at(height + 15.0)) text-anchor=(anchor) { (share) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_score_has_its_place() {
        let verdict = |score: f64, passed: bool| {
            let line = json!({"trace_id": "t", "rubric": "r", "outcome": "scored", "score": score, "passed": passed});
            Verdict::of_line(&line).expect("a verdict")
        };
        let all = [verdict(0.0, false), verdict(1.0, true), verdict(1.0, true), verdict(0.5, false)];
        let drawn = scores(&all.iter().collect::<Vec<_>>()).into_string();
        assert_eq!(
            (drawn.matches("class=\"pass\"").count(), drawn.matches("class=\"fail\"").count()),
            (1, 2),
            "{drawn}"
        );
        assert!(drawn.contains("2 pass") && drawn.contains("most: 2"), "{drawn}");
        let tree = roxmltree::Document::parse(&drawn).expect("well-formed");
        assert!(tree.root_element().has_tag_name("svg"));
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(short(&"a".repeat(60)).chars().count(), NAME_MAX);
        assert_eq!(short("tone"), "tone");
    }
}
