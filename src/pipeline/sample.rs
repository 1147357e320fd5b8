//! Step 3: whether a trace is judged. Pure: the same trace, policy and step give the same answer anywhere.
//!
//! Called by `assemble` and `explain`. The draw follows the 56-bit threshold form of OpenTelemetry's consistent probability
//! sampling: keep iff R >= T with T = round((1 - p) 2^56). Its rule: p is a function of the trace and of a step that was fixed
//! before, and the draw is one hash a trace, or a session, so that every inclusion probability is exact and samples are nested. The way not
//! taken: a random draw, which redelivery and replay would repeat with another result.

pub mod control;
pub mod rates;
pub mod upstream;

use crate::config::{Sampling, SessionDraw, UpstreamUse};
use crate::domain::ids::hashed_randomness;
use crate::domain::label::{Draft, Said};
use crate::domain::policy::SampleDecision;
use crate::domain::rubric::CheckKind;
use crate::domain::span::Span;
use crate::domain::step::{Count, Step};
use crate::domain::trace::Trace;
use crate::domain::unit::session_key;
use crate::stats::thresholds::probability;
pub use crate::stats::thresholds::{NEVER, nested, threshold};
use upstream::{Bits, bits};
use uuid::Uuid;

/// Name of the rule when none matched.
pub const DEFAULT_RULE: &str = "default";

/// Where the random bits of a trace are from when its session draws as a whole.
pub const SESSION: &str = "session";

/// The session that a trace belongs to.
#[must_use]
pub fn session_of(view: &Span) -> Option<Uuid> {
    let session = view.session.as_deref().filter(|id| !id.trim().is_empty())?;
    Some(session_key(view.service.as_deref(), view.tenant.as_deref(), session))
}

/// Name of the rule for traces that a sampler before us decided against, but that were sent all the same.
pub const LEFT_OUT_UPSTREAM: &str = "left out upstream";

/// What is known of a trace beside itself, by the time it is decided on.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Somebody has said that it was not good.
    pub negative_feedback: bool,
}

/// A decision, and what it adds to the counts that the next step is made from.
#[derive(Debug, Clone)]
pub struct Draw {
    /// The decision.
    pub decision: SampleDecision,
    /// One for each floor, ceiling and boost of first traces that the trace falls under.
    pub counts: Vec<Count>,
}

/// Decides on a trace where nothing adapts and nobody has said anything.
#[must_use]
pub fn decide(policy: &Sampling, trace: &Trace) -> SampleDecision {
    draw(policy, &Step::default(), &Evidence::default(), trace).decision
}

/// Decides on a trace.
#[must_use]
pub fn draw(policy: &Sampling, step: &Step, evidence: &Evidence, trace: &Trace) -> Draw {
    let rates::Rate { own, rule, parts, counts } = rates::rate(policy, step, evidence, trace);
    let Bits { randomness, source, from, upstream } = drawn_by(policy, trace);
    let used = upstream.filter(|_| policy.upstream == UpstreamUse::Use);
    // A consistent sampler before us let through only R >= its threshold: our share is taken of that range.
    let own = threshold(own);
    let limit = nested(from, own);
    let decision = SampleDecision {
        kept: randomness >= limit,
        rule,
        probability: probability(own),
        randomness,
        threshold: limit,
        source: source.to_owned(),
        parts,
        step: step.began(),
        upstream: used,
    };
    if decision.upstream.as_ref().is_some_and(|u| !u.kept) {
        return Draw { decision: decision.never(LEFT_OUT_UPSTREAM, NEVER), counts: Vec::new() };
    }
    Draw { decision, counts }
}

/// All traces of a session share one draw, whatever their own ids say: it is kept whole or left out whole. No sampler before us has
/// looked at those bits.
fn drawn_by(policy: &Sampling, trace: &Trace) -> Bits {
    let own = bits(&policy.hash_key, trace);
    match session_of(&trace.view).filter(|_| policy.sessions == SessionDraw::Whole) {
        Some(key) => {
            let randomness = hashed_randomness(&policy.hash_key, &key.to_string());
            Bits { randomness, source: SESSION, from: 0, ..own }
        }
        None => own,
    }
}

/// Whether a label that came with a trace says that it is not good, whatever rubric it is for.
#[must_use]
pub fn is_negative(draft: &Draft) -> bool {
    match &draft.said {
        Said::Passed(passed) => !passed,
        Said::Score(score) => *score < 0.5,
        Said::Rating { given, worst, best } => *given < f64::midpoint(*worst, *best),
        Said::Raw(_) | Said::Word(_) => false,
    }
}

/// Whether one of the checks fails on the trace.
fn any_fails(kinds: &[CheckKind], trace: &Trace) -> bool {
    use crate::domain::rubric::{CheckOptions, CheckSpec};
    use crate::domain::verdict::Finding;
    let spec = |kind: &CheckKind| CheckSpec {
        kind: *kind,
        fail_below: None,
        pass_above: None,
        options: CheckOptions::default(),
    };
    let specs: Vec<CheckSpec> = kinds.iter().map(spec).collect();
    crate::checks::run_all(&specs, trace).iter().any(|result| result.finding == Finding::Fail)
}

#[cfg(test)]
#[path = "sample/tests.rs"]
mod tests;
