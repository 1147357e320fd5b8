//! What a run must reach: `--min` and `--no-worse`.
//!
//! Used by `eval`. Its rule: a gate is held by the estimate, with `--confident` by the end of the 95 % interval that is against
//! it; where nothing was scored or paired no gate holds. The way not taken: gates that pass for want of data.

use crate::pipeline::runs::{Paired, Summary};
use serde::Serialize;
use std::collections::BTreeMap;

/// `NAME=0.9`.
pub(super) fn parse(text: &str) -> Result<(String, f64), String> {
    let (name, rate) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; write NAME=0.9"))?;
    let rate: f64 = rate.parse().map_err(|_| format!("`{rate}` is not a number"))?;
    if (0.0..=1.0).contains(&rate) { Ok((name.to_owned(), rate)) } else { Err("give a share from 0 to 1".to_owned()) }
}

/// A gate and whether it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Gate {
    pub rubric: String,
    /// `min` or `no_worse`.
    pub kind: &'static str,
    pub limit: f64,
    pub holds: bool,
    /// In words.
    pub text: String,
}

/// The gates of `--min`.
pub(super) fn min(wanted: &[(String, f64)], by: &BTreeMap<String, Summary>, confident: bool) -> Vec<Gate> {
    let one = |(name, limit): &(String, f64)| {
        let rate = by.get(name).and_then(|s| s.pass_rate);
        let (holds, text) = match rate {
            None => (false, format!("{name}: nothing was scored, so {limit} is not met")),
            Some(r) => {
                let found = if confident { r.lower } else { r.value };
                let what = if confident { "lower bound of the pass rate" } else { "pass rate" };
                let word = if found >= *limit { "reaches" } else { "is below" };
                let of = if confident { format!(" (pass rate {:.3})", r.value) } else { String::new() };
                (found >= *limit, format!("{name}: {what} {found:.3} {word} {limit}{of}"))
            }
        };
        Gate { rubric: name.clone(), kind: "min", limit: *limit, holds, text }
    };
    wanted.iter().map(one).collect()
}

/// The gates of `--no-worse`.
pub(super) fn no_worse(wanted: &[(String, f64)], by: &BTreeMap<String, Paired>, confident: bool) -> Vec<Gate> {
    let one = |(name, limit): &(String, f64)| {
        let drop = by.get(name).and_then(Paired::drop);
        let (holds, text) = match drop {
            None => (false, format!("{name}: no trace is scored here and in the baseline, so nothing can be compared")),
            Some((estimate, worst)) => {
                let found = if confident { worst } else { estimate };
                let what = if confident { "the drop may be as large as" } else { "the drop is" };
                // What is a drop in no digit that is shown is none.
                let holds = found <= *limit + 1e-9;
                let word = if holds { "within" } else { "above" };
                (holds, format!("{name}: {what} {:.3}, {word} {limit}", if found.abs() < 5e-4 { 0.0 } else { found }))
            }
        };
        Gate { rubric: name.clone(), kind: "no_worse", limit: *limit, holds, text }
    };
    wanted.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Verdict;
    use crate::pipeline::runs;
    use serde_json::json;

    fn run(scores: &[f64]) -> Vec<Verdict> {
        let one = |(n, score): (usize, &f64)| {
            let line = json!({"trace_id": n.to_string(), "rubric": "r", "outcome": "scored", "score": score, "passed": *score > 0.5});
            Verdict::of_line(&line).expect("a verdict")
        };
        scores.iter().enumerate().map(one).collect()
    }

    fn gate(name: &str, limit: f64) -> Vec<(String, f64)> {
        vec![(name.to_owned(), limit)]
    }

    #[test]
    fn the_estimate_may_reach_what_the_interval_does_not() {
        let by = runs::summarise(&run(&[1.0; 10]));
        assert!(min(&gate("r", 0.9), &by, false)[0].holds);
        let careful = &min(&gate("r", 0.9), &by, true)[0];
        assert!(
            !careful.holds && careful.text.contains("lower bound") && careful.text.contains("is below 0.9"),
            "{careful:?}"
        );
        assert!(min(&gate("r", 0.9), &runs::summarise(&run(&[1.0; 100])), true)[0].holds);
        assert!(!min(&gate("x", 0.0), &by, false)[0].holds, "nothing was scored");
    }

    #[test]
    fn no_worse_is_about_the_drop() {
        let (good, worse) = (run(&[1.0; 50]), run(&[vec![1.0; 48], vec![0.0; 2]].concat()));
        let by = runs::compare(&good, &worse);
        assert!(no_worse(&gate("r", 0.05), &by, false)[0].holds);
        assert!(!no_worse(&gate("r", 0.05), &by, true)[0].holds, "two of fifty may be one of eight");
        assert!(!no_worse(&gate("r", 0.03), &by, false)[0].holds);
        assert!(no_worse(&gate("r", 0.0), &runs::compare(&worse, &good), false)[0].holds, "better is no worse");
        assert!(!no_worse(&gate("r", 1.0), &runs::compare(&good, &[]), false)[0].holds, "nothing to compare");
    }

    #[test]
    fn a_gate_is_a_name_and_a_share() {
        assert_eq!(parse("a=0.9"), Ok(("a".to_owned(), 0.9)));
        for wrong in ["a", "a=x", "a=2", "a=NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
