//! Step 4: kept trace × rubrics → jobs, and verdicts where nothing needs to be judged. Pure.
//!
//! Called by `assemble`, `offline` and `replay`; of sessions by `sessions`. Its rule: every active rubric ends up with exactly one verdict
//! for each unit of a kept trace that it is about: at once when that is filtered, lacks an input or falls out of the rubric's own
//! sample, else through a job; and one about the trace where it has no such unit, or more than are judged. The way not taken:
//! leaving no trace of what was not judged.

use super::units;
use crate::domain::ids::short_hash;
use crate::domain::job::Job;
use crate::domain::policy::{Matcher, SampleDecision};
use crate::domain::rubric::{Rubric, Variable};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::domain::unit::{Evaluates, SPANS_MAX, Unit};
use crate::domain::verdict::{JoinIds, Outcome, TraceLabels, Verdict};
use crate::judge::prompt;
use crate::pipeline::sample::{nested, session_of, threshold};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What one rubric makes of a kept trace.
#[derive(Debug)]
pub enum Enqueued {
    /// It is to be judged.
    Job(Job),
    /// It is not, and why.
    Verdict(Box<Verdict>),
}

/// The labels of a trace that go with its verdicts.
#[must_use]
pub fn labels(view: &Span) -> TraceLabels {
    TraceLabels {
        service: view.service.clone(),
        service_version: view.service_version.clone(),
        environment: view.environment.clone(),
        feature: view.feature.clone(),
        prompt_name: view.prompt.name.clone(),
        prompt_version: view.prompt.version.clone(),
        model: view.model.clone(),
        tenant: view.tenant.clone(),
    }
}

/// The ids under which Datadog knows the trace's root.
#[must_use]
pub fn join_ids(view: &Span) -> JoinIds {
    JoinIds { source: view.id_source, span_id: view.span_id.clone() }
}

/// Goes through the rubrics for a kept trace. A rubric about sessions has something to say here only when the trace is in none.
#[must_use]
pub fn enqueue(
    trace: &Trace,
    decision: &SampleDecision,
    rubrics: &[Arc<Rubric>],
    lowered: Lowered<'_>,
    (now, job_for): (DateTime<Utc>, TimeDelta),
) -> Vec<Enqueued> {
    let inputs = prompt::inputs(trace);
    let labels = labels(&trace.view);
    let mut made = Vec::with_capacity(rubrics.len());
    for rubric in rubrics {
        let lowered = lowered(rubric, &labels);
        let turn = Turn { trace, decision, rubric, lowered: lowered.as_ref(), times: (now, now + job_for) };
        match rubric.evaluates {
            Evaluates::Trace => made.push(turn.whole(&inputs)),
            Evaluates::Span => turn.spans(&mut made),
            Evaluates::Session => made.extend(turn.without_session()),
        }
    }
    made
}

/// The rate that is left near the end of a budget, and the budget's name; `None` = all of it.
pub type Lowered<'a> = &'a dyn Fn(&Rubric, &TraceLabels) -> Option<(f64, String)>;

/// No budget is near its end.
#[must_use]
pub fn not_lowered(_: &Rubric, _: &TraceLabels) -> Option<(f64, String)> {
    None
}

/// One rubric's look at one trace.
struct Turn<'a> {
    trace: &'a Trace,
    decision: &'a SampleDecision,
    rubric: &'a Rubric,
    lowered: Option<&'a (f64, String)>,
    times: (DateTime<Utc>, DateTime<Utc>),
}

impl Turn<'_> {
    /// Share of the kept traces that the rubric judges now.
    fn sample(&self) -> f64 {
        self.rubric.sample * self.lowered.map_or(1.0, |(rate, _)| *rate)
    }

    fn job(&self, unit: Unit) -> Job {
        let (trace, rubric) = (self.trace, self.rubric);
        Job {
            inclusion_probability: self.decision.inclusion() * self.sample(),
            ..Job::new(&trace.trace_id, unit, (&rubric.name, &rubric.version), self.times)
        }
    }

    /// Whether the trace falls out of the rubric's own sample. Nested in the trace's own draw: a rubric's sample is a part of the
    /// sample.
    fn outside(&self) -> Option<String> {
        let threshold = nested(self.decision.threshold, threshold(self.sample()));
        (self.decision.randomness < threshold).then(|| outside(self.rubric, self.lowered))
    }

    fn verdict(&self, job: &Job, view: &Span, (outcome, why): (Outcome, String)) -> Enqueued {
        let verdict = job.unscored(outcome, why, labels(view), self.times.0);
        Enqueued::Verdict(Box::new(Verdict { join: join_ids(view), kind: self.rubric.output.kind(), ..verdict }))
    }

    fn whole(&self, inputs: &BTreeMap<Variable, String>) -> Enqueued {
        let (job, view) = (self.job(Unit::Trace), &self.trace.view);
        let wanted = &self.rubric.applies_when.spans;
        let refused = reason_not_to_judge(self.trace, self.outside(), self.rubric, inputs);
        let without = !wanted.is_empty() && !self.trace.spans.iter().any(|span| wanted.accepts(span));
        match refused {
            Some(reason) if reason.0 == Outcome::Filtered || !without => self.verdict(&job, view, reason),
            _ if without => self.verdict(&job, view, (Outcome::Filtered, NO_SPAN.to_owned())),
            _ => Enqueued::Job(job),
        }
    }

    /// One job or verdict for each span that fits; where none is judged, or not all, one about the trace that says why.
    fn spans(&self, made: &mut Vec<Enqueued>) {
        let (rubric, trace) = (self.rubric, self.trace);
        let about_trace = self.job(Unit::Trace);
        let mut fitting: Vec<&Span> = trace.spans.iter().filter(|s| rubric.applies_when.spans.accepts(s)).collect();
        let refusal = self.without_refused(&mut fitting);
        let nothing = match refusal {
            Some(condition) if fitting.is_empty() => {
                Some((Outcome::Filtered, format!("applies_when.{condition} does not fit")))
            }
            _ if fitting.is_empty() => Some((Outcome::NotApplicable, NO_SPAN.to_owned())),
            _ => self.outside().map(|why| (Outcome::SampledOut, why)),
        };
        if let Some(reason) = nothing {
            made.push(self.verdict(&about_trace, &trace.view, reason));
            return;
        }
        let (all, most) = (fitting.len(), rubric.spans_max.unwrap_or(SPANS_MAX) as usize);
        if all > most {
            // By a hash of their own, so that each is as likely to be drawn as the others, today and tomorrow.
            fitting.sort_by_cached_key(|s| short_hash(&[trace.trace_id.as_bytes(), s.span_id.as_bytes()], 32));
            fitting.truncate(most);
            let why =
                format!("{most} of {all} spans that fit are judged, drawn by a hash (spans_max); the others are not");
            made.push(self.verdict(&about_trace, &trace.view, (Outcome::SampledOut, why)));
        }
        let share = fitting.len() as f64 / all as f64;
        for span in fitting {
            let Some(seen) = units::span_view(trace, &span.span_id) else { continue };
            let mut job = self.job(Unit::Span(span.span_id.clone()));
            job.inclusion_probability *= share;
            let inputs = prompt::inputs(&seen);
            made.push(match missing(&seen, rubric, &inputs) {
                Some(reason) => self.verdict(&job, &seen.view, reason),
                None => Enqueued::Job(job),
            });
        }
    }

    /// Takes out spans whose labels do not fit; the first condition that refused one. A span has its own labels, else its trace's.
    fn without_refused(&self, fitting: &mut Vec<&Span>) -> Option<String> {
        let (wanted, mut refusal) = (&self.rubric.applies_when.labels, None);
        if *wanted != Matcher::default() {
            fitting.retain(|span| {
                let seen = units::span_view(self.trace, &span.span_id);
                let refused = seen.and_then(|seen| wanted.refused_by(&seen));
                refusal = refusal.take().or_else(|| refused.clone());
                refused.is_none()
            });
        }
        refusal
    }

    /// A trace in a session has no verdict of its own: its session has.
    fn without_session(&self) -> Option<Enqueued> {
        let (job, view) = (self.job(Unit::Trace), &self.trace.view);
        if session_of(view).is_some() {
            return None;
        }
        let reason = match self.rubric.applies_when.labels.refused_by(self.trace) {
            Some(condition) => (Outcome::Filtered, format!("applies_when.{condition} does not fit")),
            None => (Outcome::NotApplicable, "the trace is in no session, and the rubric judges sessions".to_owned()),
        };
        Some(self.verdict(&job, view, reason))
    }
}

const NO_SPAN: &str = "no span of the trace fits applies_when.span_kind and span_name";

/// How a unit that falls out of a rubric's own sample is told of.
#[must_use]
pub fn outside(rubric: &Rubric, lowered: Option<&(f64, String)>) -> String {
    match lowered {
        Some((rate, budget)) => format!(
            "outside the rubric's own sample of {}, which is lowered to {:.4} (times {rate:.4}) because budget `{budget}` is nearly spent",
            rubric.sample,
            rubric.sample * rate
        ),
        None => format!("outside the rubric's own sample of {}", rubric.sample),
    }
}

/// Why a rubric says nothing about a trace, if it does not.
#[must_use]
pub fn reason_not_to_judge(
    trace: &Trace,
    outside: Option<String>,
    rubric: &Rubric,
    inputs: &BTreeMap<Variable, String>,
) -> Option<(Outcome, String)> {
    if let Some(condition) = rubric.applies_when.labels.refused_by(trace) {
        return Some((Outcome::Filtered, format!("applies_when.{condition} does not fit")));
    }
    missing(trace, rubric, inputs).or_else(|| outside.map(|why| (Outcome::SampledOut, why)))
}

/// What a rubric requires and the unit lacks.
fn missing(unit: &Trace, rubric: &Rubric, inputs: &BTreeMap<Variable, String>) -> Option<(Outcome, String)> {
    let variable = prompt::missing(&rubric.applies_when.requires, inputs)?;
    let field = gap_field(variable);
    let gap = unit.view.gaps.iter().find(|g| g.field.starts_with(field));
    let why = gap.map_or_else(String::new, |g| format!(" ({})", g.reason));
    let unit = rubric.evaluates.as_str();
    Some((Outcome::NotApplicable, format!("the {unit} has no {variable}{why}")))
}

/// The field of a span that a variable comes from, as gaps name it.
fn gap_field(variable: Variable) -> &'static str {
    match variable {
        Variable::Question | Variable::Input | Variable::History => "input",
        Variable::Answer | Variable::Output => "output",
        Variable::Context => "documents",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Message;

    fn rubric(yaml: &str) -> Arc<Rubric> {
        let made = crate::rubrics::parse::rubric(std::path::Path::new("r.yaml"), yaml, &BTreeMap::new());
        Arc::new(made.expect("valid"))
    }

    fn run(trace: &Trace, yaml: &str) -> Enqueued {
        let decision = crate::pipeline::sample::decide(&crate::config::Sampling::default(), trace);
        enqueue(trace, &decision, &[rubric(yaml)], &not_lowered, (DateTime::UNIX_EPOCH, TimeDelta::hours(1))).remove(0)
    }

    fn outcome(enqueued: &Enqueued) -> Option<Outcome> {
        match enqueued {
            Enqueued::Job(_) => None,
            Enqueued::Verdict(v) => Some(v.outcome),
        }
    }

    #[test]
    fn each_way_of_not_judging_has_its_outcome() {
        let mut trace = Trace { trace_id: "t".to_owned(), ..Trace::default() };
        trace.view.output = vec![Message::text("assistant", "x")];
        trace.view.feature = Some("returns".to_owned());
        let base = "name: r\nchecks: [grounding]\n";
        assert_eq!(outcome(&run(&trace, base)), None);
        let needs = format!("{base}applies_when: {{requires: [context]}}\n");
        assert_eq!(outcome(&run(&trace, &needs)), Some(Outcome::NotApplicable));
        let other = format!("{base}applies_when: {{feature: [billing*, chat]}}\n");
        assert_eq!(outcome(&run(&trace, &other)), Some(Outcome::Filtered));
        assert_eq!(outcome(&run(&trace, &format!("{base}sample: 0\n"))), Some(Outcome::SampledOut));
    }

    fn with_spans() -> Trace {
        let spans = crate::dialect::native::spans(&serde_json::json!({
            "trace_id": "t", "service": "shop", "model": "large", "input": "Hi", "output": "Hello",
            "spans": [
                {"span_id": "l", "kind": "llm", "name": "chat", "model": "small", "input": "Hi", "output": "Hello"},
                {"span_id": "r", "kind": "retrieval", "name": "search_docs", "context": ["x"]},
            ]
        }));
        crate::pipeline::assemble::assemble("t", spans.expect("valid"))
    }

    fn all(trace: &Trace, yaml: &str) -> Vec<(Option<String>, Option<Outcome>)> {
        let decision = crate::pipeline::sample::decide(&crate::config::Sampling::default(), trace);
        let times = (DateTime::UNIX_EPOCH, TimeDelta::hours(1));
        let one = |e: &Enqueued| match e {
            Enqueued::Job(job) => (job.unit.span_id().map(str::to_owned), None),
            Enqueued::Verdict(verdict) => (verdict.span_id.clone(), Some(verdict.outcome)),
        };
        enqueue(trace, &decision, &[rubric(yaml)], &not_lowered, times).iter().map(one).collect()
    }

    #[test]
    fn a_rubric_about_spans_has_one_job_or_verdict_for_each_that_fits() {
        let trace = with_spans();
        let about = |applies: &str| {
            all(&trace, &format!("name: r\nevaluates: span\nchecks: [grounding]\napplies_when: {applies}\n"))
        };
        let id = |id: &str| Some(id.to_owned());
        assert_eq!(about("{span_kind: [llm, retrieval]}"), [(id("l"), None), (id("r"), None)]);
        assert_eq!(about("{span_name: search_*}"), [(id("r"), None)]);
        assert_eq!(about("{span_kind: tool}"), [(None, Some(Outcome::NotApplicable))]);
        assert_eq!(about("{span_kind: llm, requires: [context]}"), [(id("l"), None)], "what was retrieved for it");
        assert_eq!(about("{span_kind: retrieval, requires: [answer]}"), [(id("r"), Some(Outcome::NotApplicable))]);
        assert_eq!(about("{span_kind: llm, model: small}"), [(id("l"), None)], "its own model, not the trace's");
        assert_eq!(about("{service: other}"), [(None, Some(Outcome::Filtered))]);
        assert_eq!(about("{service: shop, span_kind: retrieval}"), [(id("r"), None)], "the trace's where it has none");
        let sampled = all(&trace, "name: r\nevaluates: span\nsample: 0\nchecks: [grounding]\n");
        assert_eq!(sampled, [(None, Some(Outcome::SampledOut))]);
    }

    #[test]
    fn a_rubric_about_traces_can_demand_a_span_and_one_about_sessions_waits_for_them() {
        let mut trace = with_spans();
        let of = |kind: &str| format!("name: r\nchecks: [grounding]\napplies_when: {{span_kind: {kind}}}\n");
        assert_eq!(all(&trace, &of("retrieval")), [(None, None)]);
        assert_eq!(all(&trace, &of("tool")), [(None, Some(Outcome::Filtered))]);
        let session = "name: r\nevaluates: session\nchecks: [grounding]\n";
        assert_eq!(all(&trace, session), [(None, Some(Outcome::NotApplicable))], "it is in none");
        trace.view.session = Some("s".to_owned());
        assert_eq!(all(&trace, session), []);
    }

    #[test]
    fn near_the_end_of_a_budget_less_is_kept_and_the_probability_says_so() {
        let lowered = |_: &Rubric, _: &TraceLabels| Some((0.25, "daily".to_owned()));
        let (mut kept, n) = (0, 4_000);
        for i in 0..n {
            let trace = Trace { trace_id: format!("t{i}"), ..Trace::default() };
            let decision = crate::pipeline::sample::decide(&crate::config::Sampling::default(), &trace);
            let rubrics = [rubric("name: r\nchecks: [grounding]\nsample: 0.8\n")];
            let times = (DateTime::UNIX_EPOCH, TimeDelta::hours(1));
            match enqueue(&trace, &decision, &rubrics, &lowered, times).remove(0) {
                Enqueued::Job(job) => {
                    assert!((job.inclusion_probability - 0.2).abs() < 1e-12);
                    kept += 1;
                }
                Enqueued::Verdict(v) => assert!(v.explanation.contains("budget `daily`"), "{}", v.explanation),
            }
        }
        assert!((720..880).contains(&kept), "{kept} of {n} at a rate of 0.2");
    }

    #[test]
    fn the_rubrics_sample_multiplies_into_the_inclusion_probability() {
        let trace = Trace { trace_id: "t".to_owned(), ..Trace::default() };
        let probability = match run(&trace, "name: r\nchecks: [grounding]\nsample: 0.25\n") {
            Enqueued::Job(job) => job.inclusion_probability,
            Enqueued::Verdict(verdict) => verdict.inclusion_probability,
        };
        assert!((probability - 0.25).abs() < 1e-12);
    }
}
