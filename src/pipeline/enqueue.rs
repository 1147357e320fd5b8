//! Step 4: kept trace × rubrics → jobs, and verdicts where nothing needs to be judged. Pure.
//!
//! Called by `assemble`. Its rule: every active rubric ends up with exactly one verdict for a kept trace: at once when the
//! trace is filtered, lacks an input or falls out of the rubric's own sample, else through a job. The way not taken:
//! leaving no trace of what was not judged.

use crate::domain::ids::job_id;
use crate::domain::job::Job;
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::{Rubric, Variable};
use crate::domain::span::Span;
use crate::domain::trace::Trace;
use crate::domain::verdict::{JoinIds, Outcome, TraceLabels, Verdict};
use crate::judge::prompt;
use crate::pipeline::sample::{nested, threshold};
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

/// Goes through the rubrics for a kept trace.
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
    let one = |rubric: &Arc<Rubric>| {
        let rate = lowered(rubric, &labels);
        one((trace, decision), rubric, &inputs, rate.as_ref(), (now, now + job_for))
    };
    rubrics.iter().map(one).collect()
}

/// The rate that is left near the end of a budget, and the budget's name; `None` = all of it.
pub type Lowered<'a> = &'a dyn Fn(&Rubric, &TraceLabels) -> Option<(f64, String)>;

/// No budget is near its end.
#[must_use]
pub fn not_lowered(_: &Rubric, _: &TraceLabels) -> Option<(f64, String)> {
    None
}

fn one(
    (trace, decision): (&Trace, &SampleDecision),
    rubric: &Rubric,
    inputs: &BTreeMap<Variable, String>,
    lowered: Option<&(f64, String)>,
    (now, deadline_at): (DateTime<Utc>, DateTime<Utc>),
) -> Enqueued {
    // Nested in the trace's own draw: a rubric's sample is a part of the sample.
    let sample = rubric.sample * lowered.map_or(1.0, |(rate, _)| *rate);
    let threshold = nested(decision.threshold, threshold(sample));
    let job = Job {
        id: job_id(&trace.trace_id, &rubric.name, &rubric.version),
        trace_id: trace.trace_id.clone(),
        rubric: rubric.name.as_str().into(),
        rubric_version: rubric.version.as_str().into(),
        inclusion_probability: decision.inclusion() * sample,
        attempts: 0,
        votes: Vec::new(),
        enqueued_at: now,
        deadline_at,
    };
    let outside = (decision.randomness < threshold).then(|| match lowered {
        Some((rate, budget)) => format!(
            "outside the rubric's own sample of {}, which is lowered to {sample:.4} (times {rate:.4}) because budget `{budget}` is nearly spent",
            rubric.sample
        ),
        None => format!("outside the rubric's own sample of {}", rubric.sample),
    });
    match reason_not_to_judge(trace, outside, rubric, inputs) {
        None => Enqueued::Job(job),
        Some((outcome, why)) => {
            let verdict = job.unscored(outcome, why, labels(&trace.view), now);
            let join = join_ids(&trace.view);
            Enqueued::Verdict(Box::new(Verdict { join, kind: rubric.output.kind(), ..verdict }))
        }
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
    if let Some(variable) = prompt::missing(&rubric.applies_when.requires, inputs) {
        let field = gap_field(variable);
        let gap = trace.view.gaps.iter().find(|g| g.field.starts_with(field));
        let why = gap.map_or_else(String::new, |g| format!(" ({})", g.reason));
        return Some((Outcome::NotApplicable, format!("the trace has no {variable}{why}")));
    }
    outside.map(|why| (Outcome::SampledOut, why))
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
