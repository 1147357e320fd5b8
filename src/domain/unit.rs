//! What one verdict is about: a trace, a span of it, or a session of several.
//!
//! Used by `rubric`, `job`, `verdict` and whoever makes or settles jobs. Its rule: a unit is named by the same id whoever names it,
//! so that judging it twice is one job. The way not taken: a table of units beside jobs and verdicts.

use super::ids::short_hash;
use super::policy::Patterns;
use super::span::{Span, SpanKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a rubric judges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluates {
    /// Each trace.
    #[default]
    Trace,
    /// Each span of a trace that fits.
    Span,
    /// Each session, once it is quiet.
    Session,
}

impl Evaluates {
    /// Its name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Span => "span",
            Self::Session => "session",
        }
    }
}

/// Spans of one trace that a rubric judges at most, unless it says otherwise.
pub const SPANS_MAX: u32 = 50;

/// Which spans are meant; empty means each that says something about language models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpanMatcher {
    /// Kinds, by their names.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub kind: Patterns,
    /// Globs of names.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub name: Patterns,
}

impl SpanMatcher {
    /// Whether nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kind.is_empty() && self.name.is_empty()
    }

    /// Whether the span is meant. Spans that say nothing about language models, and evaluations that somebody else ran, must
    /// be named by their kind.
    #[must_use]
    pub fn accepts(&self, span: &Span) -> bool {
        let silent = matches!(span.kind, SpanKind::Other | SpanKind::Evaluator) && self.kind.is_empty();
        span.part.is_none()
            && !silent
            && self.kind.accept(Some(span.kind.as_str()))
            && self.name.accept(Some(&span.name))
    }
}

/// A session at one of the times when it is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRef {
    /// Hash of service, tenant and the session's id.
    pub key: Uuid,
    /// The session's id, as the application sent it.
    pub session: String,
    /// How often it has been taken to be judged, this time included.
    pub ordinal: i32,
}

/// What a job judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unit {
    /// The trace.
    #[default]
    Trace,
    /// The span of this id.
    Span(String),
    /// The session; the job's trace is its latest.
    Session(SessionRef),
}

impl Unit {
    /// The span, if it is one.
    #[must_use]
    pub fn span_id(&self) -> Option<&str> {
        if let Self::Span(id) = self { Some(id) } else { None }
    }

    /// The session, if it is one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionRef> {
        if let Self::Session(session) = self { Some(session) } else { None }
    }
}

/// The key of a session: the same id under another service or tenant is another session.
#[must_use]
pub fn session_key(service: Option<&str>, tenant: Option<&str>, session: &str) -> Uuid {
    let part = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| format!("+{text}"));
    let (service, tenant) = (part(service), part(tenant));
    named(&["session", &service, &tenant, session])
}

/// Id of a job and its verdict: as [`super::ids::job_id`] for a trace.
#[must_use]
pub fn unit_job_id(trace_id: &str, unit: &Unit, rubric: &str, version: &str) -> Uuid {
    match unit {
        Unit::Trace => super::ids::job_id(trace_id, rubric, version),
        Unit::Span(span) => named(&["span", trace_id, span, rubric, version]),
        Unit::Session(s) => named(&["session job", &s.key.to_string(), &s.ordinal.to_string(), rubric, version]),
    }
}

/// Id of the job that judges a unit again, beside what was judged live.
#[must_use]
pub fn replay_id(live: Uuid) -> Uuid {
    named(&["replay", &live.to_string()])
}

/// Id of the job that judges the unit of a live verdict again in a run of drift canaries.
#[must_use]
pub fn canary_id(run: Uuid, verdict: Uuid) -> Uuid {
    named(&["canary", &run.to_string(), &verdict.to_string()])
}

/// Id of a rubric version's run of drift canaries.
#[must_use]
pub fn drift_run_id(rubric: &str, version: &str, number: i32) -> Uuid {
    named(&["drift run", rubric, version, &number.to_string()])
}

/// A computed id; each part is hashed with its length, so that parts cannot run into each other.
fn named(parts: &[&str]) -> Uuid {
    let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, short_hash(&bytes, 64).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_id_under_a_service_and_tenant() {
        let key = |service, tenant| session_key(service, tenant, "s-1");
        assert_eq!(key(Some("shop"), None), key(Some("shop"), None));
        let all = [key(None, None), key(Some(""), None), key(Some("shop"), None), key(None, Some("shop"))];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), 4, "an absent label is none that is empty");
    }

    #[test]
    fn each_unit_has_an_id_of_its_own() {
        let session = |ordinal| SessionRef { key: session_key(None, None, "s"), session: "s".to_owned(), ordinal };
        let units = [
            Unit::Trace,
            Unit::Span("a".to_owned()),
            Unit::Span("b".to_owned()),
            Unit::Session(session(1)),
            Unit::Session(session(2)),
        ];
        let ids: std::collections::HashSet<Uuid> = units.iter().map(|u| unit_job_id("t", u, "r", "v")).collect();
        assert_eq!(ids.len(), units.len());
        assert_eq!(unit_job_id("t", &Unit::Trace, "r", "v"), super::super::ids::job_id("t", "r", "v"));
        assert!(!ids.contains(&replay_id(unit_job_id("t", &Unit::Trace, "r", "v"))));
    }

    #[test]
    fn spans_are_meant_by_kind_and_name() {
        let span = |kind, name: &str| Span { kind, name: name.to_owned(), ..Span::default() };
        let of = |kind: &[&str], name: &[&str]| {
            let globs = |list: &[&str]| Patterns(list.iter().map(|g| (*g).to_owned()).collect());
            SpanMatcher { kind: globs(kind), name: globs(name) }
        };
        let search = span(SpanKind::Retrieval, "search_docs");
        assert!(of(&[], &[]).accepts(&search) && of(&["retrieval", "tool"], &["search_*"]).accepts(&search));
        assert!(!of(&["llm"], &[]).accepts(&search) && !of(&[], &["chat*"]).accepts(&search));
        let http = span(SpanKind::Other, "GET /");
        assert!(!of(&[], &["GET*"]).accepts(&http), "it says nothing about a model unless it is named");
        assert!(of(&["other"], &[]).accepts(&http));
        assert!(!of(&[], &[]).accepts(&Span { part: Some(1), ..search }), "a part is no span");
    }
}
