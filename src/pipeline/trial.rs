//! A rubric tried on its own tests: traces with the verdict that it must give.
//!
//! Called by `cli::rubric` and `reload`. Its rule: the steps of the worker judge them, through `offline`; a test that could not
//! be judged has failed, and says that it was for want of a judge. The way not taken: a mock of the panel.

use super::assemble::assemble;
use super::{offline, units};
use crate::app::Bench;
use crate::config::{Config, Judge};
use crate::dialect::native;
use crate::domain::rubric::Rubric;
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::domain::unit::Evaluates;
use crate::domain::verdict::{Outcome, Verdict};
use crate::llm::sim::{Faults, Sim};
use crate::rubrics::parse::{Expect, Test};
use crate::runtime::lifecycle::Lifecycle;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Tests that are judged at the same time.
const AT_ONCE: usize = 8;

/// What became of a test.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The test.
    pub test: Test,
    /// Its verdicts, one for each time it was run; none when it was left out.
    pub verdicts: Vec<Verdict>,
    /// Why it was not run, or could not be.
    pub left_out: Option<String>,
    /// For each verdict, what it is not that it should be.
    pub misses: Vec<Option<String>>,
}

impl Tried {
    /// Whether each run gave what it must.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        !self.verdicts.is_empty() && self.misses.iter().all(Option::is_none)
    }

    /// Whether it was left out on purpose.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        self.verdicts.is_empty() && !self.test.simulated
    }

    /// Whether runs gave different verdicts.
    #[must_use]
    pub fn flips(&self) -> bool {
        let said = |v: &Verdict| (v.outcome, v.passed, v.label.clone());
        self.verdicts.windows(2).any(|pair| said(&pair[0]) != said(&pair[1]))
    }

    /// The first thing that is not as it should be.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.misses.iter().flatten().next().cloned().or_else(|| self.left_out.clone())
    }

    /// Whether it failed for want of a judge, which may be another time.
    #[must_use]
    pub fn wants_a_judge(&self) -> bool {
        self.verdicts.iter().any(|v| matches!(v.outcome, Outcome::JudgeError | Outcome::OverBudget))
    }
}

/// Runs a rubric's tests, each so many times. `simulated` leaves out what the simulated judge cannot know.
pub async fn run(bench: &Bench, rubric: &Arc<Rubric>, tests: &[Test], (times, simulated): (u32, bool)) -> Vec<Tried> {
    // A batch may take hours; a test is asked now.
    let rubric = Arc::new(Rubric { batch_hours: None, ..rubric.as_ref().clone() });
    let one = |test: &Test| one(bench, &rubric, test.clone(), (times, simulated)).boxed();
    let all: Vec<BoxFuture<'_, Tried>> = tests.iter().map(one).collect();
    stream::iter(all).buffered(AT_ONCE).collect().await
}

async fn one(bench: &Bench, rubric: &Arc<Rubric>, test: Test, (times, simulated): (u32, bool)) -> Tried {
    let mut tried = Tried { test, verdicts: Vec::new(), left_out: None, misses: Vec::new() };
    if simulated && !tried.test.simulated {
        tried.left_out = Some("the simulated judge cannot know this".to_owned());
        return tried;
    }
    let traces = match traces(&tried.test) {
        Ok(traces) => traces,
        Err(why) => {
            tried.left_out = Some(format!("the trace cannot be read: {why}"));
            return tried;
        }
    };
    for _ in 0..times.max(1) {
        match meant(judged(bench, rubric, &traces).await, tried.test.expect.span.as_deref()) {
            Ok(verdict) => {
                tried.misses.push(miss(&tried.test.expect, &verdict));
                tried.verdicts.push(verdict);
            }
            Err(why) => {
                tried.left_out = Some(why);
                return tried;
            }
        }
    }
    tried
}

/// The verdicts of a test's unit.
async fn judged(bench: &Bench, rubric: &Arc<Rubric>, traces: &[Trace]) -> Vec<Verdict> {
    let rubrics = std::slice::from_ref(rubric);
    match (rubric.evaluates, traces) {
        (Evaluates::Session, traces) => {
            offline::judge_session(bench, rubrics, &traces.iter().collect::<Vec<_>>()).await
        }
        (_, [trace, ..]) => offline::judge(bench, rubrics, &Arc::new(trace.clone())).await,
        (_, []) => Vec::new(),
    }
}

/// The verdict that a test is about: of several spans' it must say whose.
fn meant(mut verdicts: Vec<Verdict>, span: Option<&str>) -> Result<Verdict, String> {
    let ids: Vec<String> = verdicts.iter().filter_map(|v| v.span_id.clone()).collect();
    let place = match span {
        Some(id) => verdicts.iter().position(|v| v.span_id.as_deref() == Some(id)),
        None => (verdicts.len() == 1).then_some(0),
    };
    let listed = ids.join(", ");
    let why = match span {
        _ if ids.is_empty() => "no span of the trace fits".to_owned(),
        Some(id) => format!("the span {id} is not judged; those that are: {listed}"),
        None => format!("{} spans are judged, so `expect` must say which `span`: {listed}", ids.len()),
    };
    place.map(|at| verdicts.swap_remove(at)).ok_or(why)
}

/// The trace of a test, or those of its session.
///
/// # Errors
/// Which field is not as native JSON has it.
pub fn traces(test: &Test) -> Result<Vec<Trace>, String> {
    let one = |value: &serde_json::Value| {
        let spans = native::spans(value)?;
        let id = spans.first().map_or_else(String::new, |span| span.trace_id.clone());
        Ok(assemble(&id, spans))
    };
    if test.session.is_empty() { Ok(vec![one(&test.trace)?]) } else { test.session.iter().map(one).collect() }
}

/// What a rubric's judges see of a test, of each unit of it; for what that costs.
///
/// # Errors
/// As [`traces`].
pub fn seen(rubric: &Rubric, test: &Test) -> Result<Vec<Trace>, String> {
    let traces = traces(test)?;
    Ok(match rubric.evaluates {
        Evaluates::Trace => traces,
        Evaluates::Session => vec![units::session_view(&traces, (traces.len(), 0), &|_| usize::MAX).0],
        Evaluates::Span => {
            let fits = |span: &&Span| rubric.applies_when.spans.accepts(span);
            let of = |trace: &Trace| -> Vec<Trace> {
                trace.spans.iter().filter(fits).filter_map(|s| units::span_view(trace, &s.span_id)).collect()
            };
            traces.iter().flat_map(of).collect()
        }
    })
}

/// A field of a test's trace that native JSON does not have, which is more often a misspelling than a tag.
#[must_use]
pub fn unknown_field(test: &Test) -> Option<&str> {
    let traces = std::iter::once(&test.trace).chain(&test.session).filter_map(serde_json::Value::as_object);
    traces.flat_map(serde_json::Map::keys).map(String::as_str).find(|field| !native::KNOWN.contains(field))
}

/// What a verdict is not that it should be.
fn miss(expect: &Expect, verdict: &Verdict) -> Option<String> {
    let wanted = expect.outcome.as_deref().unwrap_or(Outcome::Scored.as_str());
    let got = verdict.outcome.as_str();
    if wanted != got {
        // A judge's own words may quote what it read, and this line goes to the log.
        let why = match verdict.outcome {
            Outcome::Scored => "it could be judged",
            _ if verdict.votes.iter().any(|v| v.abstained.is_some()) => "the judges cannot tell",
            _ => verdict.explanation.as_str(),
        };
        return Some(format!("outcome {wanted} expected, it is {got}: {why}"));
    }
    let score = verdict.score.map_or_else(String::new, |s| format!(" (score {s:.2})"));
    if expect.passed.is_some() && expect.passed != verdict.passed {
        let word = |passed: Option<bool>| if passed == Some(true) { "pass" } else { "fail" };
        return Some(
            format!("must {}, and {}es{score}", word(expect.passed), word(verdict.passed)).replace("failes", "fails"),
        );
    }
    if let Some(label) = &expect.label
        && verdict.label.as_ref() != Some(label)
    {
        return Some(format!("label {label} expected, it is {}{score}", verdict.label.as_deref().unwrap_or("none")));
    }
    let (low, high) = expect.score?;
    let inside = verdict.score.is_some_and(|s| s >= low - 1e-9 && s <= high + 1e-9);
    (!inside).then(|| format!("a score from {low} to {high} expected{score}"))
}

/// What is wrong with a rubric by its tests, in one line; `None` when they all pass.
#[must_use]
pub fn failure(tried: &[Tried]) -> Option<String> {
    let run: Vec<&Tried> = tried.iter().filter(|t| !t.is_skipped()).collect();
    let failed: Vec<&&Tried> = run.iter().filter(|t| !t.is_passed()).collect();
    let first = failed.first()?;
    let why = first.why().unwrap_or_default();
    Some(format!(
        "{} of {} tests fail, the first in line {}: {}: {why}",
        failed.len(),
        run.len(),
        first.test.line,
        first.test.name
    ))
}

/// Whether all judges of a configuration are simulated.
#[must_use]
pub fn is_simulated(config: &Config) -> bool {
    !config.judges.is_empty() && config.judges.values().all(|judge| judge.model.starts_with("sim-"))
}

/// Starts the simulated judge and configures a panel of two of it, under the names of all panels.
///
/// # Errors
/// When no port can be opened.
pub async fn simulated(config: &mut Config, life: &Lifecycle) -> std::io::Result<Sim> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/v1", listener.local_addr()?);
    config.judges = ["sim-large", "sim-small"]
        .map(|model| {
            let judge = Judge { model: model.to_owned(), base_url: Some(base.clone()), ..Judge::default() };
            (model.to_owned(), judge)
        })
        .into();
    let names: Vec<String> = config.judges.keys().cloned().collect();
    let known = std::mem::take(&mut config.panels).into_keys().chain(["default".to_owned()]);
    config.panels = known.map(|panel| (panel, names.clone())).collect::<BTreeMap<_, _>>();
    let sim = Sim::new(Faults::default());
    let (router, stop) = (sim.router(), life.soft.clone());
    life.spawn("sim", async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!(%error, "the simulated judge stopped");
        }
    });
    Ok(sim)
}

/// A rubric with the simulated panel in place of its own.
#[must_use]
pub fn with_simulated_panel(rubric: &Rubric) -> Arc<Rubric> {
    let panel = if rubric.prompt.is_some() { vec!["sim-large".to_owned(), "sim-small".to_owned()] } else { Vec::new() };
    Arc::new(Rubric { panel, ..rubric.clone() })
}
