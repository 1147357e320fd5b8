//! `assize explain`: what happened to a trace, and why.

use super::{Context, database::Database};
use crate::domain::verdict::FINAL;
use crate::pipeline::explain::{Explanation, explain};
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  assize explain 5b8efff798038103d269b633813fc60c --rubric faithfulness")]
pub(super) struct Args {
    /// The trace
    trace_id: String,
    /// Only this rubric
    #[arg(long)]
    rubric: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = context.config()?;
    let database = Database::open(&config, None).await?;
    let story = explain(&database.store, &config.sampling, &args.trace_id, args.rubric.as_deref()).await;
    database.close().await;
    let story = story?;
    println!("{}", if args.json { serde_json::to_string(&story)? } else { tell(&story, args.rubric.as_deref()) });
    Ok(if story.is_known() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The story in lines.
fn tell(story: &Explanation, rubric: Option<&str>) -> String {
    let mut out = format!("trace {}\n", story.trace_id);
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String can be written");
    let s = &story.sampling;
    let draw = format!(
        "draw {:.4} (from {}), kept at {:.4} or above: rule `{}`, rate {}",
        unit(s.randomness),
        s.source,
        unit(s.threshold),
        s.rule,
        rate(s.probability)
    );
    match story.state {
        "unknown" => {
            line("never seen here, or left out by sampling more than a day ago".to_owned());
            line(format!("it would be {} by the default rule: {draw}", if s.kept { "kept" } else { "left out" }));
        }
        "open" => {
            let due = story.due_at.map_or_else(String::new, |d| format!(", assembled at {d} unless more comes"));
            line(format!("{} have come{due}", count(story.spans.0, "span")));
        }
        "nothing_to_judge" => {
            line(format!("assembled from {}, none of a language model", count(story.spans.0, "span")));
        }
        "too_large" => {
            line(format!("{}, larger than assembly.trace_bytes_max together: not read", count(story.spans.0, "span")));
        }
        state => {
            let late = if story.spans.1 > 0 { format!(", {} came late", story.spans.1) } else { String::new() };
            line(format!("assembled from {}{late}", count(story.spans.0, "span")));
            line(format!("{}: {draw}", if state == "kept" { "kept" } else { "left out by sampling" }));
        }
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
    if let Some(name) = rubric.filter(|_| story.is_known() && story.verdicts.is_empty() && story.waiting.is_empty()) {
        line(format!("{name}: no verdict and no job; is the name right, and was the rubric loaded then?"));
    }
    for verdict in &story.verdicts {
        tell_verdict(&mut out, verdict);
    }
    out.trim_end().to_owned()
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

fn tell_verdict(out: &mut String, verdict: &Value) {
    let text = |key: &str| verdict[key].as_str().unwrap_or_default();
    let score = verdict["score"].as_f64().map_or_else(String::new, |s| format!(" {s:.3}"));
    let passed = match verdict["passed"].as_bool() {
        Some(true) => ", passed",
        Some(false) => ", failed",
        None => "",
    };
    let by = verdict["decided_by"].as_str().map_or_else(String::new, |by| format!(", decided by {by}"));
    let mut line = |text: String| writeln!(out, "{text}").expect("a String can be written");
    let about = match (verdict["span_id"].as_str(), verdict["session"].as_str()) {
        (Some(span), _) => format!(" on span {span}"),
        (_, Some(session)) => format!(" on session {session}"),
        _ => String::new(),
    };
    let over = if verdict["superseded_at"].is_null() { "" } else { ", superseded" };
    line(format!(
        "  {} ({}){about}: {}{score}{passed}{by}{over}",
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
