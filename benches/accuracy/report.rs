//! What was measured, as text for people, as a page of docs/accuracy.md, and as JSON.

use super::measure::{NAMES, Row};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A published or computed figure of something simpler on the same set.
pub struct Baseline {
    /// What it is: "phrase list in the first 300 characters".
    pub what: &'static str,
    /// The set, `pooled` or `macro`.
    pub set: &'static str,
    /// The figure's name, as in `measure::NAMES`.
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
}

/// Something counted rather than scored: cases right, spans found.
pub struct Count {
    /// The set.
    pub set: String,
    /// What is counted.
    pub what: String,
    /// How many.
    pub right: usize,
    /// Out of how many.
    pub of: usize,
    /// How many something simpler has right, and what it is.
    pub baseline: Option<(&'static str, usize)>,
}

/// What must hold.
pub struct Goal {
    /// In words.
    pub what: String,
    /// What was found.
    pub found: f64,
    /// The bound.
    pub bound: f64,
    /// Whether the bound is the most that is allowed, rather than the least.
    pub at_most: bool,
}

impl Goal {
    /// At least `bound`.
    pub fn least(what: impl Into<String>, found: f64, bound: f64) -> Self {
        Self { what: what.into(), found, bound, at_most: false }
    }

    /// At most `bound`.
    pub fn most(what: impl Into<String>, found: f64, bound: f64) -> Self {
        Self { what: what.into(), found, bound, at_most: true }
    }

    fn met(&self) -> bool {
        if self.at_most { self.found <= self.bound } else { self.found >= self.bound }
    }
}

/// One family of checks, measured.
#[derive(Default)]
pub struct Family {
    /// Its name: `refusal`.
    pub name: &'static str,
    /// What was measured, what counts as bad, what to mind; Markdown.
    pub about: &'static str,
    /// Scored sets.
    pub rows: Vec<Row>,
    /// Sets that are in no mean, and why.
    pub apart: Vec<(&'static str, &'static str)>,
    /// Figures to compare with.
    pub baselines: Vec<Baseline>,
    /// Counted sets.
    pub counts: Vec<Count>,
    /// Cases worth naming: what fails, or cannot be seen.
    pub named: Vec<String>,
    /// What must hold.
    pub goals: Vec<Goal>,
}

impl Family {
    /// A figure of a row; NaN when there is none.
    pub fn figure(&self, set: &str, figure: &str) -> f64 {
        let column = NAMES.iter().position(|name| *name == figure);
        let row = self.rows.iter().find(|row| row.name == set);
        row.zip(column).map_or(f64::NAN, |(row, n)| row.at.all()[n])
    }

    /// For a terminal.
    pub fn as_text(&self) -> String {
        let mut out = format!("\n{}\n", self.name);
        if !self.rows.is_empty() {
            let _ = write!(out, "{:<22}{:>6}{:>6}{:>8}", "set", "n", "bad", "sources");
            for name in NAMES {
                let _ = write!(out, "{name:>20}");
            }
            out.push('\n');
        }
        for row in &self.rows {
            let _ = write!(out, "{:<22}{:>6}{:>6}{:>8}", row.name, row.n, row.bad, row.sources);
            for cell in Self::cells(row) {
                let _ = write!(out, "{cell:>20}");
            }
            out.push('\n');
        }
        for baseline in &self.baselines {
            let _ = writeln!(out, "  {} {} {}: {:.3}", baseline.what, baseline.set, baseline.figure, baseline.value);
        }
        for count in &self.counts {
            let _ = writeln!(out, "{:<28}{:<34}{:>5} of {:>5}", count.set, count.what, count.right, count.of);
        }
        for line in &self.named {
            let _ = writeln!(out, "  {line}");
        }
        for goal in &self.goals {
            let _ = writeln!(out, "{}", goal_line(goal));
        }
        out
    }

    fn cells(row: &Row) -> Vec<String> {
        let cell = |(x, (low, high)): (f64, (f64, f64))| {
            if x.is_finite() { format!("{} [{}, {}]", short(x), short(low), short(high)) } else { "–".to_owned() }
        };
        row.at.all().into_iter().zip(row.interval).map(cell).collect()
    }

    fn as_markdown(&self) -> String {
        let mut out = format!("## {}\n\n{}\n\n", self.name, self.about);
        if !self.rows.is_empty() {
            out.push_str("| set | n | bad | sources | AUC | balanced accuracy | precision | recall | false-positive rate | F1 | accuracy |\n");
            out.push_str("|---|--:|--:|--:|---|---|---|---|---|---|---|\n");
            for row in &self.rows {
                let cells = Self::cells(row).join(" | ");
                let _ = writeln!(out, "| {} | {} | {} | {} | {cells} |", row.name, row.n, row.bad, row.sources);
            }
            out.push('\n');
        }
        for (set, why) in &self.apart {
            let _ = writeln!(out, "`{set}` counts neither in `pooled` nor in `macro`: {why}\n");
        }
        if !self.baselines.is_empty() {
            out.push_str("| to compare with | set | figure | theirs | ours |\n|---|---|---|--:|--:|\n");
            for b in &self.baselines {
                let ours = short(self.figure(b.set, b.figure));
                let _ = writeln!(out, "| {} | {} | {} | {} | {ours} |", b.what, b.set, b.figure, short(b.value));
            }
            out.push('\n');
        }
        if !self.counts.is_empty() {
            out.push_str("| set | what | right | of | to compare with |\n|---|---|--:|--:|---|\n");
            for count in &self.counts {
                let than = count.baseline.map_or_else(String::new, |(what, right)| format!("{what}: {right}"));
                let _ = writeln!(out, "| {} | {} | {} | {} | {than} |", count.set, count.what, count.right, count.of);
            }
            out.push('\n');
        }
        for line in &self.named {
            let _ = writeln!(out, "- {line}");
        }
        for goal in &self.goals {
            let _ = writeln!(out, "- {}", goal_line(goal));
        }
        out
    }

    /// For programs.
    pub fn as_json(&self) -> Value {
        let figures = |values: [f64; 7]| -> Value {
            let pairs = NAMES.iter().zip(values).filter(|(_, x)| x.is_finite());
            pairs.map(|(name, x)| ((*name).to_owned(), json!(round(x)))).collect::<serde_json::Map<_, _>>().into()
        };
        let row = |r: &Row| {
            json!({"set": r.name, "n": r.n, "bad": r.bad, "sources": r.sources, "figures": figures(r.at.all()),
                "low": figures(r.interval.map(|i| i.0)), "high": figures(r.interval.map(|i| i.1))})
        };
        let count = |c: &Count| json!({"set": c.set, "what": c.what, "right": c.right, "of": c.of});
        let goal = |g: &Goal| json!({"goal": g.what, "found": round(g.found), "bound": g.bound, "met": g.met()});
        json!({"family": self.name, "sets": self.rows.iter().map(row).collect::<Vec<_>>(),
            "counts": self.counts.iter().map(count).collect::<Vec<_>>(),
            "goals": self.goals.iter().map(goal).collect::<Vec<_>>()})
    }
}

fn goal_line(goal: &Goal) -> String {
    let word = if goal.met() { "met" } else { "MISSED" };
    let side = if goal.at_most { "at most" } else { "at least" };
    format!("{word}: {} {side} {}: {:.3}", goal.what, goal.bound, goal.found)
}

/// `.931`, and `1.00`.
fn short(x: f64) -> String {
    let text = format!("{x:.3}");
    text.strip_prefix('0').map_or_else(|| format!("{x:.2}"), str::to_owned)
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}

const HEAD: &str = "# How often the checks are right

Written by `make accuracy`; do not edit. Data: public labelled sets (not in this repository), to which nobody here gave a label.
Base rates are not natural, so precision and F1 hold for these mixes only. In brackets: 95 % intervals from 1000 bootstrap
resamples of sources (a prompt, a context), not of items. Positive, or bad, means that the problem is there. Decisions are at the one
threshold that the check ships with. `pooled` is all items together, `macro` the mean of the sets.
";

/// Writes docs/accuracy.md.
pub fn write(families: &[Family]) {
    let mut page = HEAD.to_owned();
    for family in families {
        page.push('\n');
        page.push_str(&family.as_markdown());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/accuracy.md");
    if let Err(error) = std::fs::write(path, page) {
        println!("accuracy: docs/accuracy.md could not be written: {error}");
    }
}
