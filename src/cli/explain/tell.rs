//! An explanation in lines, for people.
//!
//! Used by `explain`. Its rule: what has happened comes before what would, and each says which it is.

use super::{Asked, Foreseen, Told};
use crate::domain::policy::SampleDecision;
use crate::domain::verdict::{CheckResult, FINAL};
use crate::pipeline::explain::Explanation;
use serde_json::Value;
use std::fmt::Write;

/// Everything.
pub(super) fn text(told: &Told, rubric: Option<&str>) -> String {
    let mut out = String::new();
    if let Some(story) = &told.story {
        tell(&mut out, story, rubric, told.would.is_empty() && told.idle.is_empty());
    }
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    if let Some(file) = &told.from_file {
        line(format!("trace {} (from a file)", file.trace_id));
        line(format!("  assembled from {}", count(i32::try_from(file.spans).unwrap_or(i32::MAX), "span")));
        line(format!(
            "  it would be {}: {}",
            if file.sampling.kept { "kept" } else { "left out by sampling" },
            draw(&file.sampling)
        ));
        for gap in &file.gaps {
            line(format!("  gap in {}: {}", gap.field, gap.reason));
        }
    }
    for (name, asked) in &told.asked {
        line(format!("  {name} asks:"));
        for one in asked {
            tell_asked(&mut line, one);
        }
    }
    let kept = told.from_file.as_ref().map(|f| f.sampling.kept).or(told.story.as_ref().map(|s| s.sampling.kept));
    if kept == Some(false) && !told.would.is_empty() {
        line("  if it were kept:".to_owned());
    }
    for idle in &told.idle {
        line(format!("  {} is {}: {}", idle.rubric, idle.state, idle.why));
    }
    for foreseen in &told.would {
        tell_foreseen(&mut out, foreseen, rubric.is_some());
    }
    out.trim_end().to_owned()
}

/// The draw against the rate.
fn draw(s: &SampleDecision) -> String {
    format!(
        "draw {:.4} (from {}), kept at {:.4} or above: rule `{}`, rate {}",
        unit(s.randomness),
        s.source,
        unit(s.threshold),
        s.rule,
        rate(s.probability)
    )
}

/// What a rubric would say.
fn tell_foreseen(out: &mut String, foreseen: &Foreseen, in_full: bool) {
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    let (name, version) = (&foreseen.rubric, &foreseen.rubric_version);
    let about = foreseen.span_id.as_ref().map_or_else(String::new, |span| format!(" on span {span}"));
    if let Some(why) = &foreseen.why {
        match foreseen.outcome {
            Some(outcome) => line(format!("  {name} ({version}){about} would be {}: {why}", outcome.as_str())),
            None => line(format!("  {name} ({version}): {why}")),
        }
        for check in &foreseen.checks {
            line(told_check(check));
        }
        return;
    }
    if let Some(verdict) = &foreseen.verdict {
        tell_verdict(out, verdict, "would be ");
    } else {
        let judges: Vec<&str> = foreseen.asked.iter().flat_map(|a| &a.judges).map(String::as_str).collect();
        line(format!("  {name} ({version}){about} would be judged by {} (--ask asks them)", judges.join(", ")));
        for check in &foreseen.checks {
            line(told_check(check));
        }
    }
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    if let Some((check, passed)) = &foreseen.decided_by_check {
        let word = if *passed { "passes" } else { "fails" };
        line(format!("      check {check} decides: the rubric {word} and no judge is asked"));
    }
    if !foreseen.asked.is_empty() {
        let combine = serde_json::to_value(foreseen.combine).unwrap_or_default();
        let how = combine.as_str().unwrap_or_default();
        line(format!("      votes are combined by {how}; it passes from {} on", foreseen.pass));
    }
    for asked in &foreseen.asked {
        for name in &asked.unknown {
            line(format!("      judge {name} is not configured; add [judges.{name}]"));
        }
        if in_full {
            tell_asked(&mut line, asked);
        }
    }
}

fn told_check(check: &CheckResult) -> String {
    let score = check.score.map_or_else(String::new, |s| format!(" {s}"));
    let finding = match check.finding {
        crate::domain::verdict::Finding::Pass => "pass",
        crate::domain::verdict::Finding::Fail => "fail",
        crate::domain::verdict::Finding::NotApplicable => "not_applicable",
    };
    format!("      check {}: {finding}{score}", check.check)
}

/// The messages to some judges.
fn tell_asked(line: &mut impl FnMut(String), asked: &Asked) {
    line(format!("      to {}:", asked.judges.join(", ")));
    for (role, text) in &asked.messages {
        line(format!("      --- {role}"));
        for one in text.lines() {
            line(format!("      {one}"));
        }
    }
}

/// The story in lines.
fn tell(out: &mut String, story: &Explanation, rubric: Option<&str>, nothing_else: bool) {
    writeln!(out, "trace {}", story.trace_id).expect("a String can be written");
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String can be written");
    let s = &story.sampling;
    let draw = draw(s);
    match story.state {
        "unknown" => {
            line("never seen here, left out by sampling more than a day ago, or removed by retention".to_owned());
            line(format!("it would be {} if it had no labels: {draw}", if s.kept { "kept" } else { "left out" }));
            how(s, &mut line);
            line("what rubrics would say of it: assize explain ID --trace-file FILE".to_owned());
        }
        "open" => {
            let due = story.due_at.map_or_else(String::new, |d| format!(", assembled at {d} unless more comes"));
            line(format!("{} have come{due}", count(story.spans.0, "span")));
        }
        "nothing_to_judge" => {
            line(format!("assembled from {}, none of a language model", count(story.spans.0, "span")));
        }
        "too_large" => {
            line(format!(
                "{}, more than assembly.trace_spans_max or larger than assembly.trace_bytes_max: not read",
                count(story.spans.0, "span")
            ));
        }
        state => {
            line(format!("assembled from {}{}", count(story.spans.0, "span"), late(story)));
            line(format!("{}: {draw}", if state == "kept" { "kept" } else { "left out by sampling" }));
            how(s, &mut line);
            if let Some(weight) = story.weight {
                line(format!("weight {}: so many traces it stands for", rate(weight)));
            }
        }
    }
    if story.removed {
        line(
            "its spans and text were removed by retention (retention.traces_seconds); what is known without them:"
                .to_owned(),
        );
    }
    if let Some(at) = story.reopened_at {
        line(format!("judged again at {at} for what came late"));
    }
    for gap in &story.gaps {
        line(format!("gap in {}: {}", gap.field, gap.reason));
    }
    if let Some(session) = &story.session {
        let due = session.due_at.map_or_else(String::new, |at| format!(", due at {at} unless more comes"));
        line(format!(
            "session {}: {} trace(s), {} of them kept; taken to be judged {} time(s){due}",
            session.session, session.traces, session.kept, session.judged
        ));
    }
    for job in &story.waiting {
        let error = job.last_error.as_ref().map_or_else(String::new, |e| format!("; last attempt: {e}"));
        line(format!("{}: waits until {} (attempts {}){error}", job.rubric, job.visible_at, job.attempts));
    }
    if let Some(name) =
        rubric.filter(|_| nothing_else && story.is_known() && story.verdicts.is_empty() && story.waiting.is_empty())
    {
        line(format!("{name}: no verdict and no job; is the name right, and was the rubric loaded then?"));
    }
    for verdict in story.verdicts.iter().chain(&story.superseded) {
        tell_verdict(out, verdict, "");
    }
}

/// What came after the trace was decided on, and what of it is not in the trace.
fn late(story: &Explanation) -> String {
    match (story.spans.1, story.late_left_out) {
        (0, _) => String::new(),
        (late, 0) => format!(", {late} came late"),
        (late, left_out) => {
            let why = if story.state == "kept" { "too late, or too much" } else { "the trace was not kept" };
            format!(", {late} came late, {left_out} of them are left out: {why}")
        }
    }
}

/// How the rate came about, where more than a rule had a say.
fn how(s: &SampleDecision, line: &mut impl FnMut(String)) {
    let parts = &s.parts;
    let mut said: Vec<String> = parts.boosts.iter().map(|(name, r)| format!("boost `{name}` {}", rate(*r))).collect();
    said.extend(parts.floor.as_ref().map(|(name, r)| format!("floor `{name}` {}", rate(*r))));
    said.extend(parts.ceiling.as_ref().map(|(name, r)| format!("ceiling `{name}` leaves {}", rate(*r))));
    if !said.is_empty() {
        line(format!("rate of the rule alone {}; {}", rate(parts.rule), said.join(", ")));
    }
    if let Some(at) = s.step {
        line(format!("by the step of {}", at.format("%Y-%m-%dT%H:%M:%S%.3fZ")));
    }
    if let Some(upstream) = &s.upstream {
        let against = if upstream.kept { "" } else { ", and it decided against this trace" };
        line(format!("a sampler before us let through {} ({}){against}", rate(upstream.probability), upstream.source));
    }
}

/// A rate without the last digits of its binary form.
fn rate(probability: f64) -> f64 {
    (probability * 1e9).round() / 1e9
}

/// `1 span`, `2 spans`.
fn count(n: i32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// 56 bits as a number in [0,1].
fn unit(bits: u64) -> f64 {
    bits as f64 / (1_u64 << 56) as f64
}

fn tell_verdict(out: &mut String, verdict: &Value, would: &str) {
    let text = |key: &str| verdict[key].as_str().unwrap_or_default();
    let score = verdict["score"].as_f64().map_or_else(String::new, |s| format!(" {s:.3}"));
    let passed = match verdict["passed"].as_bool() {
        Some(true) => ", passed",
        Some(false) => ", failed",
        None => "",
    };
    let by = verdict["decided_by"].as_str().map_or_else(String::new, |by| format!(", decided by {by}"));
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    let colon = if would.is_empty() { ":" } else { "" };
    let then = verdict["superseded_at"].as_str().map_or_else(String::new, |at| format!(", until {at}"));
    let about = match (verdict["span_id"].as_str(), verdict["session"].as_str()) {
        (Some(span), _) => format!(" on span {span}"),
        (_, Some(session)) => format!(" on session {session}"),
        _ => String::new(),
    };
    line(format!(
        "  {} ({}){about}{colon} {would}{}{score}{passed}{by}{then}",
        text("rubric"),
        text("rubric_version"),
        text("outcome")
    ));
    if !text("explanation").is_empty() {
        line(format!("      {}", text("explanation")));
    }
    for (name, check) in verdict["checks"].as_object().into_iter().flatten() {
        let score = check["score"].as_f64().map_or_else(String::new, |s| format!(" {s}"));
        line(format!("      check {name}: {}{score}", check["finding"].as_str().unwrap_or_default()));
    }
    if let Some(text) = asked(&verdict["detail"]["panel"]) {
        line(format!("      {text}"));
    }
    if let Some(text) = shown(&verdict["detail"]["session"]) {
        line(format!("      {text}"));
    }
    if let Some(disagreement) = verdict["disagreement"].as_f64().filter(|d| *d > 0.0) {
        line(format!("      the judges differ by {disagreement:.3} on average"));
    }
    for vote in verdict["votes"].as_array().into_iter().flatten() {
        let said =
            vote["error"].as_str().map(|e| e.trim_start_matches(FINAL)).or(vote["reason"].as_str()).unwrap_or_default();
        let said = vote["abstained"].as_str().map_or_else(|| said.to_owned(), |why| format!("abstained: {why}"));
        line(format!(
            "      judge {} ({}{}): {} {said} [{}{} ms, {:.6} USD]",
            vote["judge"].as_str().unwrap_or_default(),
            vote["model"].as_str().unwrap_or_default(),
            vote["stood_in"].as_str().map_or_else(String::new, |name| format!(", {name} stood in")),
            vote["score"].as_f64().map_or_else(|| "no score,".to_owned(), |s| s.to_string()),
            if vote["batched"] == true {
                "batched, "
            } else if vote["cached"] == true {
                "cached, "
            } else {
                ""
            },
            vote["latency_ms"],
            vote["cost_usd"].as_f64().unwrap_or_default(),
        ));
        tell_claims(&mut line, &vote["detail"]);
    }
}

/// How much of a session its judges saw.
fn shown(session: &Value) -> Option<String> {
    let count = |key: &str| session[key].as_u64().unwrap_or_default();
    let all = session["traces"].as_u64()?;
    let mut text = format!("transcript of {all} trace(s)");
    for (key, words) in [
        ("dropped", "left out because it is longer than the judges' windows or sessions.traces_max"),
        ("excluded", "not stored because sampling excludes them"),
        ("shortened", "long texts of tools shortened"),
    ] {
        if count(key) > 0 {
            write!(text, "; {} {words}", count(key)).expect("a String can be written");
        }
    }
    Some(text)
}

/// Why a panel was not asked to the end.
fn asked(panel: &Value) -> Option<String> {
    let (asked, of) = (&panel["asked"], &panel["of"]);
    match panel["stopped"].as_str()? {
        "sure" => {
            let sure = panel["sure"].as_f64().unwrap_or_default();
            Some(format!("{asked} of {of} judges asked: sure enough ({sure:.3} by the labels)"))
        }
        _ => Some(format!("{asked} of {of} judges asked: the others could not have changed the verdict")),
    }
}

/// The claims of an answer, and how much of the context was read for them.
fn tell_claims(line: &mut impl FnMut(String), detail: &Value) {
    for claim in detail["claims"].as_array().into_iter().flatten() {
        let text = |key: &str| claim[key].as_str().unwrap_or_default();
        let why = match (text("quote"), text("doubt")) {
            ("", "") => String::new(),
            ("", doubt) => format!(" ({doubt})"),
            (quote, _) => format!(" (\u{201c}{quote}\u{201d})"),
        };
        let read = match detail["chunks"]["of"].as_u64() {
            Some(of) if of > 1 => format!(" [{} of {of} chunks read]", claim["chunks_read"]),
            _ => String::new(),
        };
        line(format!("        {} {}: {}{why}{read}", text("id"), text("finding"), text("text")));
    }
}
