//! Labels on their way in: drafts are held against their rubrics, and stored.
//!
//! Called by `server` (the API, the page), `cli` (files, the form) and `assemble` (labels that came with spans). Its rule: each
//! draft is taken or refused by itself with a reason that names the remedy; feedback that names no rubric is a label of
//! every rubric that says `feedback: true`. The way not taken: storing what fits no rubric, which nobody would find.

use crate::app::App;
use crate::config::nearest::nearest;
use crate::domain::label::{Draft, Label, Source, Stored, Untimed, resolve};
use crate::domain::rubric::Rubric;
use crate::domain::span::Span;
use crate::rubrics::catalog::Catalog;
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels stored in one transaction at most.
pub const BATCH_MAX: usize = 1_000;

/// The rubrics that can be labelled, by name.
#[derive(Debug, Clone, Default)]
pub struct Book(BTreeMap<String, Arc<Rubric>>);

impl Book {
    /// The rubrics whose files can be read.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        Self(catalog.known().map(|r| (r.name.clone(), Arc::clone(r))).collect())
    }

    /// Adds rubrics that are not there yet.
    #[must_use]
    pub fn or(mut self, others: Vec<Rubric>) -> Self {
        for rubric in others {
            self.0.entry(rubric.name.clone()).or_insert_with(|| Arc::new(rubric));
        }
        self
    }

    /// The rubric of that name.
    ///
    /// # Errors
    /// Names the nearest one, and all.
    pub fn get(&self, name: &str) -> Result<&Arc<Rubric>, String> {
        self.0.get(name).ok_or_else(|| {
            let names = || self.0.keys().map(String::as_str);
            let hint = nearest(name, names()).map_or_else(String::new, |best| format!(" (did you mean `{best}`?)"));
            let all = names().collect::<Vec<_>>().join(", ");
            format!("there is no such rubric{hint}; there are: {all}")
        })
    }

    /// The labels that a draft makes: one, or one for each rubric that takes feedback.
    ///
    /// # Errors
    /// What does not fit, and what to do.
    pub fn labels(
        &self,
        draft: &Draft,
        trace_id: Option<&str>,
        when: (Untimed, DateTime<Utc>),
    ) -> Result<Vec<Label>, String> {
        if let Some(name) = &draft.rubric {
            return Ok(vec![resolve(draft, trace_id, self.get(name)?, when)?]);
        }
        let taking: Vec<_> = self.0.values().filter(|r| r.feedback && draft.source == Source::UserFeedback).collect();
        if taking.is_empty() {
            return Err("no rubric takes feedback; name a `rubric`, or set `feedback: true` in a rubric's file".into());
        }
        taking.into_iter().map(|rubric| resolve(draft, trace_id, rubric, when)).collect()
    }
}

/// What became of labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The first of their slots.
    pub imported: usize,
    /// There already.
    pub unchanged: usize,
    /// Took an earlier one's place.
    pub replaced: usize,
    /// Older than what is there; kept as superseded.
    pub superseded: usize,
    /// Line or position, and why.
    pub refused: Vec<(usize, String)>,
}

impl Report {
    /// Labels that were taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.imported + self.unchanged + self.replaced + self.superseded
    }

    fn count(&mut self, stored: &[Stored]) {
        for one in stored {
            *match one {
                Stored::Imported => &mut self.imported,
                Stored::Unchanged => &mut self.unchanged,
                Stored::Replaced => &mut self.replaced,
                Stored::Superseded => &mut self.superseded,
            } += 1;
        }
    }
}

/// Stores drafts that are numbered by line or position; those that do not fit are refused by themselves. With `dry_run`
/// nothing is stored, but the report is the same.
///
/// # Errors
/// When the database fails; the batches before are stored.
pub async fn import(
    store: &Store,
    book: &Book,
    drafts: Vec<(usize, Result<Draft, String>)>,
    when: (Untimed, DateTime<Utc>),
    dry_run: bool,
) -> Result<Report, StoreError> {
    let (mut report, mut labels) = (Report::default(), Vec::with_capacity(drafts.len()));
    for (line, draft) in drafts {
        match draft.and_then(|draft| book.labels(&draft, None, when)) {
            Ok(made) => labels.extend(made),
            Err(why) => report.refused.push((line, why)),
        }
    }
    // A trial is one transaction, so that it sees its own earlier labels.
    let size = if dry_run { labels.len().max(1) } else { BATCH_MAX };
    for batch in labels.chunks(size) {
        let stored =
            if dry_run { store.try_labels(batch, when.1).await? } else { store.put_labels(batch, when.1).await? };
        report.count(&stored);
    }
    Ok(report)
}

/// Takes the drafts out of a trace's spans and makes them labels; what does not fit is counted and logged without its text.
pub(super) fn take(app: &App, trace_id: &str, spans: &mut [Span], now: DateTime<Utc>, labels: &mut Vec<Label>) {
    let drafts: Vec<Draft> = spans.iter_mut().flat_map(|span| std::mem::take(&mut span.labels)).collect();
    if drafts.is_empty() {
        return;
    }
    let book = Book::of(&app.bench.rubrics.load());
    let counter = &app.bench.metrics.labels;
    for draft in drafts {
        match book.labels(&draft, Some(trace_id), (Untimed::IsTheSame, now)) {
            Ok(made) => {
                counter.with_label_values(&["trace", "accepted"]).inc_by(made.len() as u64);
                labels.extend(made);
            }
            Err(why) => {
                counter.with_label_values(&["trace", "refused"]).inc();
                tracing::warn!(trace_id, why, "a label that came with a trace was refused");
            }
        }
    }
}

/// Why labels of a trace that is just coming in would be refused, so that its sender can be told.
#[must_use]
pub fn refusals(book: &Book, spans: &[Span], now: DateTime<Utc>) -> Vec<String> {
    let unread = spans.iter().flat_map(|s| &s.gaps).filter(|gap| gap.field == "label").map(|gap| gap.reason.clone());
    let drafts = spans.iter().flat_map(|s| s.labels.iter().map(move |draft| (s.trace_id.as_str(), draft)));
    let unfit = drafts.filter_map(|(id, draft)| book.labels(draft, Some(id), (Untimed::IsTheSame, now)).err());
    unread.chain(unfit).collect()
}
