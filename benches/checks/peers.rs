//! Our checks beside what Python users run instead, on the same inputs in the same run.
//!
//! Called by `benches/checks.rs --peers`. Its rule: both sides take turns, so that a busy machine is busy for both; each round's mean is
//! one figure, and the table has the median and the range of them. Without Python or its packages their half is left out, with a
//! message. The way not taken: figures of theirs from another day.

use super::{answered, spec, structured};
use assize::checks::run_all;
use assize::domain::rubric::{CheckKind, CheckSpec};
use assize::domain::trace::Trace;
use comfy_table::Table;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Rounds of each side.
const ROUNDS: usize = 9;

/// Wall time of a round of ours, in seconds.
const ROUND_SECONDS: f64 = 0.05;

/// The Python side, which answers each name on its input with microseconds a call.
struct Python {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Python {
    #[expect(clippy::disallowed_methods, reason = "the doors are for the program; benches stand outside of it")]
    fn start(inputs: &Value) -> Result<Self, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/checks_peers.py");
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let spawned = Command::new(&python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| format!("{python} cannot be started: {e}"))?;
        let stdout = child.stdout.take().ok_or("no pipe from Python")?;
        let mut python = Self { child, lines: BufReader::new(stdout).lines() };
        match python.ask(&inputs.to_string())?.as_str() {
            "ready" => Ok(python),
            other => Err(other.to_owned()),
        }
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        let stdin = self.child.stdin.as_mut().ok_or("no pipe to Python")?;
        writeln!(stdin, "{line}").map_err(|e| e.to_string())?;
        self.lines.next().ok_or("Python ended")?.map_err(|e| e.to_string())
    }

    fn time(&mut self, what: &str) -> Result<f64, String> {
        let answer = self.ask(what)?;
        answer.parse().map_err(|_| format!("Python said: {answer}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends when nothing more can come.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Prints the table.
pub fn compare() {
    let mut rng = StdRng::seed_from_u64(3);
    let answers: Vec<Trace> = (0..64).map(|_| answered(&mut rng)).collect();
    let documents: Vec<Trace> = (0..64).map(|_| structured(&mut rng, Value::Null)).collect();
    let text = |trace: &Trace| trace.answer().unwrap_or_default();
    let context = |trace: &Trace| trace.view.documents[0].content.clone().unwrap_or_default();
    let inputs = json!({
        "json": documents.iter().map(text).collect::<Vec<_>>(),
        "answers": answers.iter().map(text).collect::<Vec<_>>(),
        "contexts": answers.iter().map(context).collect::<Vec<_>>(),
    });
    let mut python = Python::start(&inputs).map_err(|why| println!("checks: Python's half is left out: {why}")).ok();
    let mut table = Table::new();
    table.set_header(["ours", "µs (range)", "theirs", "µs (range)", "times faster (range)"]);
    let rows = [
        (CheckKind::JsonValidity, &documents, "json.loads"),
        (CheckKind::Grounding, &answers, "rouge-score rouge1+rouge2"),
    ];
    for (kind, traces, theirs) in rows {
        let (mut own, mut other, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(time(&[spec(kind)], traces));
            if let Some(them) = python.as_mut().and_then(|python| python.time(theirs).ok()) {
                other.push(them);
                ratio.push(them / own[own.len() - 1]);
            }
        }
        table.add_row([kind.as_str(), &spread(own, 2), theirs, &spread(other, 1), &spread(ratio, 1)]);
    }
    println!("{table}");
}

/// Microseconds a trace, as the mean of one round.
fn time(specs: &[CheckSpec], traces: &[Trace]) -> f64 {
    let begun = Instant::now();
    let mut passes = 0_u32;
    while begun.elapsed().as_secs_f64() < ROUND_SECONDS {
        for trace in traces {
            black_box(run_all(black_box(specs), black_box(trace)));
        }
        passes += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(passes) / traces.len() as f64
}

/// Median, least and most.
fn spread(mut figures: Vec<f64>, digits: usize) -> String {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => "not measured".to_owned(),
        [least, .., most] => format!("{:.digits$} ({least:.digits$} to {most:.digits$})", figures[figures.len() / 2]),
        [one] => format!("{one:.digits$}"),
    }
}
