//! A run as one HTML file: numbers, plots, what turned, and the worst answers with their reasons.
//!
//! Used by `eval --html`. Its rule: nothing is loaded from anywhere and no script runs, which the page itself forbids; every text
//! is escaped by `maud`. The way not taken: a chart library, which makes a report of megabytes that needs a network.

use super::plots;
use super::report::{Report, finding, others, percentages, points, said_of, score_change, scores, turned, unmatched};
use crate::domain::verdict::Verdict;
use crate::pipeline::runs::{Paired, Summary};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::BTreeMap;

/// Answers shown for each rubric.
const WORST_MAX: usize = 10;

/// Turned verdicts shown for each rubric.
const TURNED_MAX: usize = 50;

/// Characters of a question or answer.
const TEXT_MAX: usize = 4_000;

const STYLE: &str = include_str!("report.css");

/// The page.
pub(super) fn of(report: &Report) -> String {
    let facts = &report.facts;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Evaluation of " (facts.traces) " traces" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Evaluation" }
                    p.dim {
                        (facts.at.format("%Y-%m-%d %H:%M UTC")) " · " (facts.traces) " traces · " (report.verdicts.len()) " verdicts · "
                        (format!("{:.4} USD", report.usd()))
                        @if facts.reused > 0 { " · " (facts.reused) " from an earlier run" }
                    }
                    @if facts.simulated { p.badge { "Verdicts of judges are SIMULATED: they come from rules, not from a model." } }
                    (gates(report))
                }
                (overview(report))
                @if let Some((name, by)) = report.baseline.as_ref().filter(|(_, by)| !by.is_empty()) { (against(name, by)) }
                @for (name, summary) in &report.summaries { (rubric(report, name, summary)) }
                footer.dim {
                    "Made by assize " (env!("CARGO_PKG_VERSION")) ". Intervals are of 95 %. "
                    @if !report.show_content { "Reasons are the judges' own words; questions and answers are left out, --show-content shows them." }
                }
            }
        }
    };
    page.into_string()
}

fn gates(report: &Report) -> Markup {
    html! {
        @if !report.gates.is_empty() {
            ul.gates {
                @for gate in &report.gates {
                    li class=(if gate.holds { "good" } else { "bad" }) { (if gate.holds { "✓ " } else { "✗ " }) (gate.text) }
                }
            }
        }
    }
}

fn overview(report: &Report) -> Markup {
    let before: BTreeMap<String, f64> = report
        .baseline
        .iter()
        .flat_map(|(_, by)| by)
        .filter(|(_, p)| p.n > 0)
        .map(|(name, p)| (name.clone(), p.pass_rates.0))
        .collect();
    let limits: BTreeMap<String, f64> =
        report.gates.iter().filter(|g| g.kind == "min").map(|g| (g.rubric.clone(), g.limit)).collect();
    html! {
        section {
            h2 { "Pass rates" }
            (plots::pass_rates(&report.summaries, &before, &limits))
            p.legend {
                span.key { i.dot {} "estimate with its 95 % interval" }
                @if !before.is_empty() { span.key { i.ring {} "before" } }
                @if !limits.is_empty() { span.key { i.bar {} "gate" } }
            }
            div.wide { table.numbers {
                thead { tr { th { "rubric" } th { "passed (95 %)" } th { "mean score (95 %)" } th.n { "scored" } th { "other outcomes" } th.n { "USD" } } }
                tbody { @for (name, s) in &report.summaries {
                    tr { td { a href=(format!("#{name}")) { (name) } } td { (percentages(s.pass_rate)) } td { (scores(s.mean)) } td.n { (s.n) } td { (others(s)) } td.n { (format!("{:.4}", s.cost_usd)) } }
                } }
            } }
        }
    }
}

fn against(name: &str, by: &BTreeMap<String, Paired>) -> Markup {
    html! {
        section {
            h2 { "Against " (name) }
            p.dim { "On the traces that both runs have scored. Points: change of the share that passes, interval of Bonett and Price, p of McNemar's test; of the mean score: bootstrap." }
            div.wide { table.numbers {
                thead { tr { th { "rubric" } th.n { "pairs" } th { "passed" } th { "points" } th.n { "p" } th { "mean score" } th { "" } } }
                tbody { @for (rubric, p) in by {
                    tr {
                        td { a href=(format!("#{rubric}")) { (rubric) } }
                        td.n { (p.n) }
                        td { (format!("{:.1} % → {:.1} %", p.pass_rates.0 * 100.0, p.pass_rates.1 * 100.0)) }
                        td { (points(p, "")) }
                        td.n { (p.passed.map_or_else(String::new, |c| format!("{:.3}", c.p_value))) }
                        td { (score_change(p)) }
                        td { span class=(finding(p).split(' ').next().unwrap_or_default()) { (finding(p)) } @if !unmatched(p).is_empty() { div.dim { (unmatched(p)) } } }
                    }
                } }
            } }
        }
    }
}

fn rubric(report: &Report, name: &str, summary: &Summary) -> Markup {
    let own: Vec<&Verdict> = report.verdicts.iter().filter(|v| v.rubric == name).collect();
    let versions = summary.versions.iter().cloned().collect::<Vec<_>>().join(", ");
    let failed = own.iter().filter(|v| v.passed == Some(false)).count();
    let worst = report.worst(name, WORST_MAX);
    html! {
        section id=(name) {
            h2 { (name) " " small.dim { (versions) } }
            div.beside {
                @if summary.n > 0 { (plots::scores(&own)) }
                dl {
                    dt { "passed" } dd { (percentages(summary.pass_rate)) }
                    dt { "mean score" } dd { (scores(summary.mean)) }
                    dt { "scored" } dd { (summary.n) }
                    @if !others(summary).is_empty() { dt { "not scored" } dd { (others(summary)) } }
                    dt { "cost" } dd { (format!("{:.4} USD", summary.cost_usd)) }
                }
            }
            @if let Some(p) = report.baseline.as_ref().and_then(|(_, by)| by.get(name)).filter(|p| !p.flips.is_empty()) { (flips(p)) }
            @if worst.is_empty() { @if summary.n > 0 { p.dim { "No answer fails." } } }
            @else {
                h3 { @if failed > worst.len() { "The worst " (worst.len()) " of " (failed) " that fail" } @else { (failed) " fail" @if failed == 1 { "s" } } }
                ol.worst { @for verdict in worst { (example(report, verdict)) } }
            }
        }
    }
}

fn flips(paired: &Paired) -> Markup {
    let (fail, pass) = turned(paired);
    html! {
        details {
            summary { "Against the baseline " (fail) " now fail and " (pass) " now pass" }
            div.wide { table {
                thead { tr { th { "trace" } th { "before" } th { "now" } th { "why" } } }
                tbody { @for flip in paired.flips.iter().take(TURNED_MAX) {
                    tr {
                        td { code { (flip.trace_id) } }
                        td { (word(!flip.passes)) (format!(" {:.2}", flip.scores.0)) }
                        td { (word(flip.passes)) (format!(" {:.2}", flip.scores.1)) }
                        td { (flip.explanation) }
                    }
                } }
            } }
            @if paired.flips.len() > TURNED_MAX { p.dim { "… and " (paired.flips.len() - TURNED_MAX) " more" } }
        }
    }
}

fn word(passes: bool) -> Markup {
    html! { @if passes { span.good { "pass" } } @else { span.bad { "fail" } } }
}

fn example(report: &Report, verdict: &Verdict) -> Markup {
    html! {
        li {
            div { code { (verdict.trace_id) } " " span.dim { (said_of(verdict)) } }
            @if !verdict.explanation.is_empty() { p.why { (cut(&verdict.explanation)) } }
            @if let Some((question, answer)) = report.texts.get(&verdict.trace_id) {
                details {
                    summary { "question and answer" }
                    h4 { "question" } pre { (cut(question)) }
                    h4 { "answer" } pre { (cut(answer)) }
                }
            }
        }
    }
}

fn cut(text: &str) -> String {
    let mut cut: String = text.chars().take(TEXT_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
