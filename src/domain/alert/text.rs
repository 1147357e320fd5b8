//! An alert in words: a title, and facts with their names, of which every channel makes its own form.
//!
//! Used by `sinks::alerts`, `cli::alerts` and the read API. Its rule: the text says what dropped, from what to what, since when, on how much
//! data, with which evidence, near which deployments, and what to do; what came with traces is cut and cannot break a line.
//! A judge's reason is told only where the channel asks for content. The way not taken: one template a channel, which would
//! say different things.

use super::incident::{Alert, ChangeKind, Merged, State};
use super::notice::Notice;
use super::{Estimate, Evidence, Finding, Kind, Measure};
use crate::domain::deployment::{Deployed, Deployment};
use crate::domain::drift::Canaries;
use chrono::{DateTime, TimeDelta, Utc};
use std::fmt::Write;

/// Streams, examples and deployments that a text names at most; the API has all of them.
const NAMED_MAX: usize = 5;

/// Longest piece of text from a trace, in characters.
const PIECE_CHARS_MAX: usize = 120;

/// Longest reason of a judge, in characters.
const REASON_CHARS_MAX: usize = 300;

/// A time for people.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.format("%F %H:%M UTC").to_string()
}

/// Text from outside in one line, cut.
#[must_use]
pub fn plain(text: &str) -> String {
    cut(text, PIECE_CHARS_MAX)
}

fn cut(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most + 1).collect();
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most - 1).chain(['…']).collect()
}

/// A span of time in its two largest units.
fn lasting(time: TimeDelta) -> String {
    let minutes = time.num_minutes().abs();
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, m) => format!("{m} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// An estimate with its interval.
fn shown(measure: Measure, estimate: Estimate) -> String {
    let value = measure.show(estimate.value);
    match (estimate.lower, estimate.upper) {
        (Some(lower), Some(upper)) => format!("{value} ({} to {})", measure.show(lower), measure.show(upper)),
        _ => value,
    }
}

/// The stream's keys, the feature first.
fn stream(finding: &Finding) -> String {
    let feature = finding.stream.get("feature").map(|v| plain(v));
    let others = finding.stream.iter().filter(|(key, _)| *key != "feature").map(|(key, value)| {
        if key == "environment" { plain(value) } else { format!("{} {}", plain(key), plain(value)) }
    });
    feature.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

/// What moved, without the stream: `pass rate fell from 91.2 % to 78.4 %`.
fn moved(finding: &Finding, whole: bool) -> String {
    let measure = finding.measure;
    let show = |estimate: Estimate| if whole { shown(measure, estimate) } else { measure.show(estimate.value) };
    let name = match finding.kind {
        Kind::JudgeDrift => format!("the judge moved: {} of the same traces", measure.words()),
        _ => measure.words().to_owned(),
    };
    match (finding.from, finding.to, finding.limit) {
        _ if finding.kind == Kind::NoData => "no verdicts any more".to_owned(),
        (_, Some(to), Some(limit)) => {
            let side = if to.value < limit { "below" } else { "above" };
            format!("{name} is {}, {side} {}", show(to), measure.show(limit))
        }
        (Some(from), Some(to), None) => {
            let verb = if to.value < from.value { "fell" } else { "rose" };
            format!("{name} {verb} from {} to {}", show(from), show(to))
        }
        (_, Some(to), None) => format!("{name} is {}", show(to)),
        (_, None, _) => format!("{name} has moved"),
    }
}

/// The versions that changed: `prompt_version v2 → v3`.
fn steps(finding: &Finding) -> String {
    let steps = finding.versions.iter().filter(|step| !step.before.is_empty()).map(|step| {
        let before: Vec<String> = step.before.iter().take(NAMED_MAX).map(|v| plain(v)).collect();
        format!("{} {} → {}", step.what, before.join(", "), plain(&step.after))
    });
    steps.collect::<Vec<_>>().join("; ")
}

/// One line that names an alert: rubric, what moved, where, and how many other streams.
#[must_use]
pub fn title(alert: &Alert) -> String {
    let Some(lead) = alert.lead() else { return "alert without a finding".to_owned() };
    let mut text = lead.rubric.as_ref().map_or_else(String::new, |rubric| format!("{rubric}: "));
    text.push_str(&moved(lead, false));
    let blamed = steps(lead);
    if !blamed.is_empty() {
        text = format!("{text} with {blamed}");
    }
    let place = stream(lead);
    if !place.is_empty() {
        text = format!("{text} ({place})");
    }
    match alert.findings.len() - 1 {
        0 => text,
        1 => text + ", and 1 more stream",
        more => format!("{text}, and {more} more streams"),
    }
}

/// What a notice is about, before the title: `Opened`, `Acknowledged by ann`, ….
#[must_use]
pub fn heading(notice: &Notice) -> String {
    let change = &notice.change;
    let by = change.by.as_deref().map_or_else(String::new, |by| format!(" by {}", plain(by)));
    let word = match change.kind {
        ChangeKind::Opened => "Opened",
        ChangeKind::Joined => "Another stream",
        ChangeKind::Escalated => "More severe",
        ChangeKind::Repeated => "Still open",
        ChangeKind::Acknowledged => "Acknowledged",
        ChangeKind::Resolved => "Resolved",
    };
    let test = if notice.test { "TEST, " } else { "" };
    format!("[{test}{}] {word}{by}", notice.alert.severity.as_str())
}

/// What an alert says, a name and a text each, in the order in which they are read. Reasons of judges only with `content`.
#[must_use]
pub fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let alert = &notice.alert;
    let Some(lead) = alert.lead() else { return Vec::new() };
    let mut facts = vec![("What", what(lead)), ("Since", since(alert, lead))];
    let mut add = |name: &'static str, text: String| {
        if !text.is_empty() {
            facts.push((name, text));
        }
    };
    add("Data", data(lead));
    add("Evidence", evidence(lead.kind, &lead.evidence));
    add("Judges", lead.canaries.as_ref().filter(|_| lead.kind != Kind::JudgeDrift).map(judges).unwrap_or_default());
    add("Deployments", list(lead.deploys.iter().map(|d| deploy(d, lead.since)), lead.deploys.len()));
    add("Also", also(alert, lead));
    let examples = lead.examples.iter().map(|example| {
        let trace = notice.links.trace(&example.trace_id).unwrap_or_else(|| plain(&example.trace_id));
        let score = example.score.map_or_else(String::new, |s| format!(" (score {s:.2})"));
        let reason = if notice.content { cut(&example.reason, REASON_CHARS_MAX) } else { String::new() };
        if reason.is_empty() { format!("{trace}{score}") } else { format!("{trace}{score}: {reason}") }
    });
    add("Examples", list(examples, lead.examples.len()));
    add("What to do", lead.runbook.as_deref().map(|r| cut(r, REASON_CHARS_MAX)).unwrap_or_default());
    add("State", state(alert));
    add("Alert", notice.links.alert(alert.id).unwrap_or_else(|| format!("assize alerts show {}", alert.id)));
    facts
}

/// The whole text: heading, title, a fact a line.
#[must_use]
pub fn text(notice: &Notice) -> String {
    let mut out = format!("{}: {}\n", heading(notice), title(&notice.alert));
    for (name, fact) in facts(notice) {
        // Lists go on in lines of their own.
        let fact = fact.replace('\n', &format!("\n{:14}", ""));
        writeln!(out, "{:<13} {fact}", format!("{name}:")).expect("a String can be written");
    }
    out.trim_end().to_owned()
}

fn list(items: impl Iterator<Item = String>, all: usize) -> String {
    let mut lines: Vec<String> = items.take(NAMED_MAX).collect();
    if all > NAMED_MAX {
        lines.push(format!("and {} more", all - NAMED_MAX));
    }
    lines.join("\n")
}

fn what(lead: &Finding) -> String {
    let mut text = moved(lead, true);
    let blamed = steps(lead);
    if !blamed.is_empty() {
        text = format!("{text}; {blamed}");
    }
    let place = stream(lead);
    if place.is_empty() { text } else { format!("{text} ({place})") }
}

fn since(alert: &Alert, lead: &Finding) -> String {
    let start = alert.since();
    let found = alert.findings.iter().map(|m| m.first_found_at).min().unwrap_or(lead.found_at);
    format!("about {}, found {} later, at {}", time(start), lasting(found - start), time(found))
}

fn data(lead: &Finding) -> String {
    if lead.n == 0 {
        return String::new();
    }
    let version = lead.rubric_version.as_ref().map_or_else(String::new, |v| format!("; rubric version {}", plain(v)));
    if let Some(canaries) = lead.canaries.as_ref().filter(|_| lead.kind == Kind::JudgeDrift) {
        let (of, worse, better) = (canaries.of, canaries.worse, canaries.better);
        return format!(
            "{of} stored traces judged again at {}: {worse} worse than before, {better} better{version}",
            time(canaries.at)
        );
    }
    let verdicts = if lead.n == 1 { "verdict" } else { "verdicts" };
    let weights = lead.weights.as_ref().map_or_else(String::new, |w| format!(", {}", plain(w)));
    format!("{} {verdicts} since then, worth {:.0} of equal weight{weights}{version}", lead.n, lead.n_eff)
}

/// Whether it may be the judge and not the application: what judges say now of traces that they have judged before.
fn judges(canaries: &Canaries) -> String {
    let Canaries { of, worse, better, moved, at } = canaries;
    let (changed, at) = (worse + better, time(*at));
    let names: Vec<String> = moved.iter().take(NAMED_MAX).map(|judge| plain(judge)).collect();
    let said = match names.len() {
        0 => "the judges are not shown to have moved".to_owned(),
        1 => format!("the judge {} moved too", names[0]),
        _ => format!("the judges {} moved too", names.join(", ")),
    };
    format!("{said}: {changed} of {of} canaries changed ({worse} worse, {better} better), judged again at {at}")
}

/// A number that may be very large or very small, with two digits that count.
fn number(value: f64) -> String {
    let digits = match value {
        v if v >= 100_000.0 || (v > 0.0 && v < 0.000_1) => return format!("{v:.1e}"),
        v if v >= 10.0 => 0,
        v if v >= 1.0 => 1,
        v if v >= 0.1 => 2,
        v if v >= 0.01 => 3,
        v if v >= 0.001 => 4,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn evidence(kind: Kind, evidence: &Evidence) -> String {
    let alpha = evidence.alpha.filter(|alpha| *alpha > 0.0);
    let likely = |alpha: f64| format!("without a change an alarm is at most {} % likely", number(alpha * 100.0));
    let mut parts = Vec::new();
    match (evidence.e_value, alpha) {
        (Some(e), Some(alpha)) => {
            parts.push(format!("e-value {}, told from {} on: {}", number(e), number(1.0 / alpha), likely(alpha)));
        }
        (Some(e), None) => parts.push(format!("e-value {}", number(e))),
        (None, Some(alpha)) => parts.push(likely(alpha)),
        (None, None) => {}
    }
    if let Some(share) = evidence.budget_share {
        parts.push(format!("at most {} false alarms in 30 days from this stream", number(share)));
    }
    if let Some(p) = evidence.p {
        parts.push(format!("p {}", number(p)));
    }
    if parts.is_empty() { kind.words().to_owned() } else { format!("{}; {}", kind.words(), parts.join("; ")) }
}

fn deploy(deploy: &Deployment, since: DateTime<Utc>) -> String {
    let place = deploy.environment.as_ref().map_or_else(String::new, |e| format!(" in {}", plain(e)));
    let apart = deploy.at - since;
    let side = if apart > TimeDelta::zero() { "after" } else { "before" };
    let seen = if deploy.seen { ", first seen in a trace" } else { "" };
    let link = deploy.link.as_ref().map_or_else(String::new, |l| format!(" {}", cut(l, REASON_CHARS_MAX)));
    let what = match deploy.what {
        Deployed::Service => "",
        Deployed::Prompt => "prompt ",
        Deployed::Model => "model of ",
    };
    let (name, version) = (plain(&deploy.name), plain(&deploy.version));
    format!("{what}{name} {version}{place}, {} {side} the start{seen}{link}", lasting(apart))
}

fn also(alert: &Alert, lead: &Finding) -> String {
    let others: Vec<&Merged> = alert.findings.iter().filter(|m| !std::ptr::eq(&raw const m.finding, lead)).collect();
    let lines = others.iter().map(|m| {
        let rubric = m.finding.rubric.as_ref().map_or_else(String::new, |r| format!("{r}: "));
        let over = if m.recovered_at.is_some() { ", recovered" } else { "" };
        format!("{rubric}{} ({}){over}", moved(&m.finding, false), stream(&m.finding))
    });
    list(lines, others.len())
}

fn state(alert: &Alert) -> String {
    let Some(last) = alert.changes.iter().rev().find(|c| match alert.state {
        State::Open => false,
        State::Acknowledged => c.kind == ChangeKind::Acknowledged,
        State::Resolved => c.kind == ChangeKind::Resolved,
    }) else {
        return String::new();
    };
    let by = last.by.as_deref().map_or_else(|| "by evidence".to_owned(), |by| format!("by {}", plain(by)));
    let why = last.why.as_ref().map_or_else(String::new, |w| format!(": {}", cut(w, REASON_CHARS_MAX)));
    format!("{} {by} at {}{why}", alert.state.as_str(), time(last.at))
}

#[cfg(test)]
mod tests {
    use super::super::incident::tests::alert;
    use super::super::notice::tests::notice;
    use super::super::tests::finding;
    use super::*;
    use crate::domain::alert::Severity;

    #[test]
    fn the_text_says_what_one_needs() {
        let mut notice = notice(ChangeKind::Opened);
        let at = finding().since;
        notice.alert.findings[0].finding.deploys = vec![Deployment {
            id: uuid::Uuid::nil(),
            what: Deployed::Service,
            name: "furnish-hub".to_owned(),
            environment: Some("production".to_owned()),
            version: "1.4.2".to_owned(),
            at: at - TimeDelta::minutes(12),
            link: Some("https://ci.example/42".to_owned()),
            seen: false,
        }];
        insta::assert_snapshot!(text(&notice), @"
        [warning] Opened: faithfulness: pass rate fell from 91.2 % to 78.4 % with prompt_version v2 → v3 (support_agent, production)
        What:         pass rate fell from 91.2 % (89.0 % to 93.1 %) to 78.4 % (74.0 % to 82.3 %); prompt_version v2 → v3 (support_agent, production)
        Since:        about 2026-11-20 14:02 UTC, found 2 h 8 min later, at 2026-11-20 16:10 UTC
        Data:         412 verdicts since then, worth 388 of equal weight, weighted by 1/inclusion probability; rubric version sha256:0123456789ab
        Evidence:     test of a new version against those before it; e-value 5230, told from 20 on: without a change an alarm is at most 5 % likely; p 0.00019
        Deployments:  furnish-hub 1.4.2 in production, 12 min before the start https://ci.example/42
        Examples:     https://assize.example/traces/5b8efff798038103d269b633813fc60c (score 0.10)
        What to do:   https://runbooks.example/faithfulness
        Alert:        https://assize.example/alerts/01900000-0000-7000-8000-000000000001
        ");
    }

    #[test]
    fn reasons_are_told_only_where_content_is_asked_for() {
        let mut notice = notice(ChangeKind::Opened);
        assert!(!text(&notice).contains("SECRET-REASON"));
        notice.content = true;
        assert!(text(&notice).contains("SECRET-REASON"));
    }

    #[test]
    fn each_kind_of_finding_has_its_words() {
        let mut one = alert();
        let lead = &mut one.findings[0].finding;
        (lead.kind, lead.measure, lead.limit) = (Kind::Threshold, Measure::InvalidJsonRate, Some(0.02));
        (lead.from, lead.to) = (None, Some(Estimate { value: 0.035, lower: None, upper: None }));
        lead.versions.clear();
        assert_eq!(title(&one), "faithfulness: rate of invalid JSON is 3.5 %, above 2.0 % (support_agent, production)");
        one.findings[0].finding.kind = Kind::NoData;
        assert_eq!(title(&one), "faithfulness: no verdicts any more (support_agent, production)");
        let lead = &mut one.findings[0].finding;
        (lead.kind, lead.measure, lead.limit, lead.rubric) = (Kind::Rate, Measure::CostUsd, None, None);
        lead.from = Some(Estimate { value: 0.001, lower: None, upper: None });
        lead.stream.clear();
        assert_eq!(title(&one), "cost of a verdict rose from 0.00100 USD to 0.03500 USD");
    }

    #[test]
    fn the_lead_is_the_most_severe_and_the_others_are_counted() {
        let mut notice = notice(ChangeKind::Joined);
        let mut more = notice.alert.findings[0].clone();
        more.finding.rubric = Some("tone".to_owned());
        more.finding.severity = Severity::Critical;
        notice.alert.findings.extend(vec![more; 7]);
        let said = text(&notice);
        assert!(title(&notice.alert).starts_with("tone: ") && said.contains("and 7 more streams"), "{said}");
        assert!(said.contains("and 2 more"), "{said}");
    }

    #[test]
    fn what_came_with_a_trace_cannot_break_a_line() {
        let mut notice = notice(ChangeKind::Opened);
        let lead = &mut notice.alert.findings[0].finding;
        lead.stream.insert("feature".to_owned(), format!("a\nFake: line\u{1b}[2J{}", "x".repeat(500)));
        lead.examples[0].trace_id = "t\n2".to_owned();
        let said = text(&notice);
        assert!(!said.contains("\nFake") && !said.contains('\u{1b}'), "{said}");
        assert!(said.lines().all(|line| line.chars().count() < 900), "{said}");
    }

    #[test]
    fn a_resolution_says_who_and_why() {
        let mut notice = notice(ChangeKind::Resolved);
        notice.alert.state = State::Resolved;
        notice.change.by = Some("ann".to_owned());
        notice.change.why = Some("rolled back".to_owned());
        notice.alert.changes.push(notice.change.clone());
        let said = text(&notice);
        assert!(said.starts_with("[warning] Resolved by ann: "), "{said}");
        assert!(said.contains("resolved by ann at 2026-11-20 16:10 UTC: rolled back"), "{said}");
    }
}
