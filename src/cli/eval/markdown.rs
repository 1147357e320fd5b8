//! A run as Markdown, for a comment on a pull request.
//!
//! Used by `eval --markdown`. Its rule: names and reasons cannot break out of their cell, and the whole fits into a comment. The
//! way not taken: every verdict in the comment; the HTML report has them.

use super::report::{Report, finding, others, percentages, points, scores, turned, unmatched};
use std::fmt::Write;

/// Traces that are listed at most; GitHub takes 65,536 characters a comment.
const LISTED_MAX: usize = 40;

/// Characters of a reason.
const REASON_MAX: usize = 200;

/// The comment.
pub(super) fn of(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    let missed = report.gates.iter().filter(|g| !g.holds).count();
    line(match (report.gates.len(), missed) {
        (0, _) => "### Evaluation".to_owned(),
        (n, 0) => format!("### Evaluation: ✅ {n} of {n} gates hold"),
        (n, missed) => format!("### Evaluation: ❌ {missed} of {n} gates do not hold"),
    });
    line(String::new());
    let simulated = if report.facts.simulated { " Verdicts of judges are **simulated**." } else { "" };
    let (traces, verdicts) = (report.facts.traces, report.verdicts.len());
    line(format!("{traces} traces, {verdicts} verdicts, {:.4} USD.{simulated}\n", report.usd()));
    for gate in &report.gates {
        line(format!("- {} {}", if gate.holds { "✅" } else { "❌" }, cell(&gate.text)));
    }
    if !report.gates.is_empty() {
        line(String::new());
    }
    line(
        "| rubric | passed (95 %) | mean score | scored | other outcomes | USD |\n|---|---|---|---:|---|---:|"
            .to_owned(),
    );
    for (name, s) in &report.summaries {
        let (name, rate, mean, n, others) = (cell(name), percentages(s.pass_rate), scores(s.mean), s.n, others(s));
        line(format!("| {name} | {rate} | {mean} | {n} | {others} | {:.4} |", s.cost_usd));
    }
    compared(report, &mut line);
    out
}

fn compared(report: &Report, line: &mut impl FnMut(String)) {
    let Some((name, by)) = report.baseline.as_ref().filter(|(_, by)| !by.is_empty()) else { return };
    line(format!("\n**Against {}**, on the traces that both have scored:\n", cell(name)));
    line("| rubric | pairs | change (95 %) | now fail | now pass | |\n|---|---:|---|---:|---:|---|".to_owned());
    for (rubric, p) in by {
        let (fail, pass) = turned(p);
        let mut told = vec![finding(p).to_owned(), unmatched(p)];
        told.retain(|text| !text.is_empty());
        line(format!(
            "| {} | {} | {} | {fail} | {pass} | {} |",
            cell(rubric),
            p.n,
            points(p, " points"),
            told.join("; ")
        ));
    }
    let flips: Vec<_> = by.iter().flat_map(|(rubric, p)| p.flips.iter().map(move |flip| (rubric, flip))).collect();
    if flips.is_empty() {
        return;
    }
    line(format!("\n<details><summary>{} verdicts turned</summary>\n", flips.len()));
    let (head, rule) = if report.show_content { (" why |", "---|") } else { ("", "") };
    line(format!("| trace | rubric | before → now |{head}\n|---|---|---|{rule}"));
    for (rubric, flip) in flips.iter().take(LISTED_MAX) {
        let word = |passes: bool| if passes { "pass" } else { "fail" };
        let (was, is) = (word(!flip.passes), word(flip.passes));
        let why = if report.show_content { format!(" {} |", cell(&flip.explanation)) } else { String::new() };
        let (old, new) = flip.scores;
        line(format!("| {} | {} | {was} {old:.2} → {is} {new:.2} |{why}", cell(&flip.trace_id), cell(rubric)));
    }
    if flips.len() > LISTED_MAX {
        line(format!("\n… and {} more", flips.len() - LISTED_MAX));
    }
    line("\n</details>".to_owned());
}

/// A text within a cell of a table: no markup, no mention, one line.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(REASON_MAX) {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Between the two stands a character that nobody sees, so that nobody is called.
            '@' => out.push_str("@\u{200b}"),
            c if c.is_whitespace() || c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    if text.chars().nth(REASON_MAX).is_some() { out + "…" } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_anything() {
        assert_eq!(cell("a|b\n<img> @all `x`"), "a\\|b &lt;img&gt; @\u{200b}all \\`x\\`");
        assert!(cell(&"x".repeat(500)).ends_with('…') && cell(&"x".repeat(500)).chars().count() == REASON_MAX + 1);
    }
}
