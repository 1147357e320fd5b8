//! Table `labels`: what people said, kept whole.
//!
//! Written by `pipeline::labels` and by the transaction that settles traces, read by calibration, `server` and `cli`. Its rule:
//! storing the same label again changes nothing; a later one of the same slot supersedes the earlier one, which stays; a
//! label needs no trace, it joins when both are there. The way not taken: an upsert by slot, which forgets what was
//! said before and by whom it was taken back.

use super::columns::{optional, text};
use super::{Store, StoreError};
use crate::domain::label::{JudgeVote, Label, LabelValue, LabelledVerdict, Source, Stored};
use crate::domain::verdict::TraceLabels;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// Whoever stores labels waits here for the others, so that a slot never has two current ones. ASCII "labels".
const LOCK: i64 = 0x6c61_6265_6c73;

/// Which labels to read.
#[derive(Debug, Clone, Default)]
pub struct LabelFilter {
    /// Only of this trace.
    pub trace_id: Option<String>,
    /// Only for this rubric.
    pub rubric: Option<String>,
    /// Only of this source.
    pub source: Option<Source>,
    /// Only of this labeller.
    pub labeller: Option<String>,
    /// Only made at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Also those that a later one has superseded.
    pub superseded: bool,
    /// Only older than the label of this time and id: where the page before ended.
    pub before: Option<(DateTime<Utc>, Uuid)>,
    /// At most this many, newest first.
    pub limit: i64,
}

/// Which labelled verdicts to read.
#[derive(Debug, Clone, Default)]
pub struct LabelledFilter {
    /// Of this rubric.
    pub rubric: String,
    /// Judged by this version; `None`: by whichever judged last.
    pub rubric_version: Option<String>,
    /// Only labels of this rank and above; 2 leaves out users' feedback.
    pub rank_min: i16,
    /// Only labels made at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only traces after this id: where the page before ended.
    pub after: Option<String>,
    /// At most this many, by trace id.
    pub limit: i64,
}

impl Store {
    /// Stores labels in one transaction; says of each, in their order, what became of it.
    ///
    /// # Errors
    /// When a statement fails; then none is stored.
    pub async fn put_labels(&self, labels: &[Label], now: DateTime<Utc>) -> Result<Vec<Stored>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to store labels"))?;
        let stored = insert(&mut tx, labels, now).await?;
        tx.commit().await.map_err(StoreError::op("committing labels"))?;
        Ok(stored)
    }

    /// What would become of labels, without storing them.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn try_labels(&self, labels: &[Label], now: DateTime<Utc>) -> Result<Vec<Stored>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to store labels"))?;
        let stored = insert(&mut tx, labels, now).await?;
        tx.rollback().await.map_err(StoreError::op("undoing labels"))?;
        Ok(stored)
    }

    /// Reads labels, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn labels(&self, filter: &LabelFilter) -> Result<Vec<Label>, StoreError> {
        let rows = sqlx::query_as!(
            LabelRow,
            "SELECT id, slot, trace_id, span_id, rubric, rubric_version, passed, score, category, source, labeller,
                    comment, made_at, draw_probability, batch_id
             FROM labels
             WHERE ($1::text IS NULL OR trace_id = $1) AND ($2::text IS NULL OR rubric = $2)
               AND ($3::text IS NULL OR source = $3) AND ($4::text IS NULL OR labeller = $4)
               AND ($5::timestamptz IS NULL OR made_at >= $5) AND ($6 OR superseded_at IS NULL)
               AND ($7::timestamptz IS NULL OR (made_at, id) < ($7, $8))
             ORDER BY made_at DESC, id DESC LIMIT $9",
            filter.trace_id,
            filter.rubric,
            filter.source.map(Source::as_str),
            filter.labeller,
            filter.since,
            filter.superseded,
            filter.before.map(|(at, _)| at),
            filter.before.map(|(_, id)| id),
            filter.limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading labels"))?;
        Ok(rows.into_iter().map(LabelRow::into_label).collect())
    }

    /// Traces that have both a label and a scored verdict, by trace id: the label of the highest source (of several the
    /// newest) beside the newest verdict with its votes. Page on with `after`.
    ///
    /// `label_probability` is the sender's where it gave one. Else it follows from the queue: each batch is a Poisson
    /// sample whose members are done in the order of draw / probability, so what is done of it is again one, with its
    /// probabilities times the first ratio that is not done yet; of several batches the greatest counts, since all
    /// compare the same draw.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn labelled_verdicts(&self, filter: &LabelledFilter) -> Result<Vec<LabelledVerdict>, StoreError> {
        let rows = sqlx::query_file_as!(
            LabelledRow,
            "src/store/sql/labelled_verdicts.sql",
            filter.rubric,
            filter.rubric_version,
            filter.rank_min,
            filter.since,
            filter.after,
            filter.limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("joining labels with verdicts"))?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.verdict_id).collect();
        let found = sqlx::query!(
            r#"SELECT verdict_id, judge, model, score, body->>'label' AS label FROM votes
               WHERE verdict_id = ANY($1) ORDER BY verdict_id, position"#,
            &ids
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading votes"))?;
        let mut votes: HashMap<Uuid, Vec<JudgeVote>> = HashMap::new();
        for row in found {
            let vote = JudgeVote { judge: row.judge, model: row.model, score: row.score, label: row.label };
            votes.entry(row.verdict_id).or_default().push(vote);
        }
        Ok(rows.into_iter().map(|row| row.into_item(&mut votes)).collect())
    }
}

struct LabelRow {
    id: Uuid,
    slot: Uuid,
    trace_id: String,
    span_id: Option<String>,
    rubric: String,
    rubric_version: Option<String>,
    passed: bool,
    score: Option<f64>,
    category: Option<String>,
    source: String,
    labeller: Option<String>,
    comment: Option<String>,
    made_at: DateTime<Utc>,
    draw_probability: Option<f64>,
    batch_id: Option<Uuid>,
}

impl LabelRow {
    fn into_label(self) -> Label {
        Label {
            id: self.id,
            slot: self.slot,
            trace_id: self.trace_id,
            span_id: self.span_id,
            rubric: self.rubric,
            rubric_version: self.rubric_version,
            value: read_value(self.score, self.category),
            passed: self.passed,
            source: read_source(&self.source),
            labeller: self.labeller,
            comment: self.comment,
            made_at: self.made_at,
            timed: true,
            draw_probability: self.draw_probability,
            batch_id: self.batch_id,
        }
    }
}

fn read_value(score: Option<f64>, category: Option<String>) -> LabelValue {
    match (score, category) {
        (Some(score), Some(category)) => LabelValue::Category { category, score },
        (Some(score), None) => LabelValue::Score { score },
        (None, _) => LabelValue::Passed,
    }
}

/// A source of a newer version counts as the least trusted one.
fn read_source(name: &str) -> Source {
    Source::parse(name).unwrap_or(Source::UserFeedback)
}

struct LabelledRow {
    verdict_id: Uuid,
    judged_at: DateTime<Utc>,
    trace_id: String,
    verdict_version: String,
    verdict_score: f64,
    verdict_passed: bool,
    decided_by: Option<String>,
    inclusion_probability: f64,
    label_probability: Option<f64>,
    conflicting: bool,
    service: Option<String>,
    service_version: Option<String>,
    environment: Option<String>,
    feature: Option<String>,
    prompt_name: Option<String>,
    prompt_version: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    id: Uuid,
    slot: Uuid,
    span_id: Option<String>,
    rubric: String,
    rubric_version: Option<String>,
    passed: bool,
    score: Option<f64>,
    category: Option<String>,
    source: String,
    labeller: Option<String>,
    comment: Option<String>,
    made_at: DateTime<Utc>,
    draw_probability: Option<f64>,
    batch_id: Option<Uuid>,
}

impl LabelledRow {
    fn into_item(self, votes: &mut HashMap<Uuid, Vec<JudgeVote>>) -> LabelledVerdict {
        LabelledVerdict {
            trace_id: self.trace_id.clone(),
            verdict_id: self.verdict_id,
            judged_at: self.judged_at,
            rubric_version: self.verdict_version,
            score: self.verdict_score,
            passed: self.verdict_passed,
            decided_by: self.decided_by,
            votes: votes.remove(&self.verdict_id).unwrap_or_default(),
            inclusion_probability: self.inclusion_probability,
            label_probability: self.label_probability,
            conflicting: self.conflicting,
            trace: TraceLabels {
                service: self.service,
                service_version: self.service_version,
                environment: self.environment,
                feature: self.feature,
                prompt_name: self.prompt_name,
                prompt_version: self.prompt_version,
                model: self.model,
                tenant: self.tenant,
            },
            label: LabelRow {
                id: self.id,
                slot: self.slot,
                trace_id: self.trace_id,
                span_id: self.span_id,
                rubric: self.rubric,
                rubric_version: self.rubric_version,
                passed: self.passed,
                score: self.score,
                category: self.category,
                source: self.source,
                labeller: self.labeller,
                comment: self.comment,
                made_at: self.made_at,
                draw_probability: self.draw_probability,
                batch_id: self.batch_id,
            }
            .into_label(),
        }
    }
}

/// Those of the traces about which a label in force says that they do not pass.
pub(super) async fn disliked(tx: &mut PgConnection, trace_ids: &[String]) -> Result<HashSet<String>, StoreError> {
    let rows = sqlx::query_scalar!(
        "SELECT DISTINCT trace_id FROM labels WHERE trace_id = ANY($1) AND superseded_at IS NULL AND NOT passed",
        trace_ids
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::op("looking for feedback"))?;
    Ok(rows.into_iter().collect())
}

/// Stores labels; says of each, in their order, what became of it.
pub(super) async fn insert(
    tx: &mut PgConnection,
    labels: &[Label],
    now: DateTime<Utc>,
) -> Result<Vec<Stored>, StoreError> {
    if labels.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("waiting to store labels"))?;
    let ids: Vec<Uuid> = labels.iter().map(|label| label.id).collect();
    let slots: Vec<Uuid> = labels.iter().map(|label| label.slot).collect();
    let known = sqlx::query_scalar!("SELECT id FROM labels WHERE id = ANY($1)", &ids)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for known labels"))?;
    let current = sqlx::query_as!(
        LabelRow,
        "SELECT id, slot, trace_id, span_id, rubric, rubric_version, passed, score, category, source, labeller, comment,
                made_at, draw_probability, batch_id
         FROM labels WHERE slot = ANY($1) AND superseded_at IS NULL",
        &slots
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::op("looking for current labels"))?;
    let current = current.into_iter().map(|row| (row.slot, row.into_label())).collect();
    let plan = Plan::of(labels, known.into_iter().collect(), current);
    sqlx::query!("UPDATE labels SET superseded_at = $2 WHERE id = ANY($1)", &plan.superseded, now)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::op("superseding labels"))?;
    write(tx, &plan.new, now).await?;
    Ok(plan.stored)
}

/// What is to be written.
struct Plan<'a> {
    stored: Vec<Stored>,
    /// Labels to insert by id, and whether each is superseded already.
    new: BTreeMap<Uuid, (&'a Label, bool)>,
    /// Stored labels that lose their place.
    superseded: Vec<Uuid>,
}

impl<'a> Plan<'a> {
    /// In the order of the labels, as if each were stored by itself.
    fn of(labels: &'a [Label], mut known: HashSet<Uuid>, mut current: HashMap<Uuid, Label>) -> Self {
        let mut plan = Self { stored: Vec::with_capacity(labels.len()), new: BTreeMap::new(), superseded: Vec::new() };
        for label in labels {
            let held = current.get(&label.slot);
            let stored = match held {
                _ if known.contains(&label.id) => Stored::Unchanged,
                Some(held) if !label.timed && held.says_the_same(label) => Stored::Unchanged,
                Some(held) if label.made_at < held.made_at => Stored::Superseded,
                Some(_) => Stored::Replaced,
                None => Stored::Imported,
            };
            plan.stored.push(stored);
            if stored == Stored::Unchanged {
                continue;
            }
            known.insert(label.id);
            plan.new.insert(label.id, (label, stored == Stored::Superseded));
            if stored == Stored::Superseded {
                continue;
            }
            if let Some(held) = current.insert(label.slot, label.clone()) {
                match plan.new.get_mut(&held.id) {
                    Some((_, superseded)) => *superseded = true,
                    None => plan.superseded.push(held.id),
                }
            }
        }
        plan
    }
}

async fn write(
    tx: &mut PgConnection,
    new: &BTreeMap<Uuid, (&Label, bool)>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let labels: Vec<&Label> = new.values().map(|(label, _)| *label).collect();
    let column = |f: fn(&Label) -> &str| labels.iter().map(|l| text(f(l))).collect::<Vec<_>>();
    let maybe = |f: fn(&Label) -> &Option<String>| labels.iter().map(|l| optional(f(l).as_ref())).collect::<Vec<_>>();
    let values: Vec<(&str, Option<f64>, Option<String>)> = labels
        .iter()
        .map(|l| match &l.value {
            LabelValue::Passed => ("passed", None, None),
            LabelValue::Score { score } => ("score", Some(*score), None),
            LabelValue::Category { category, score } => ("category", Some(*score), Some(text(category))),
        })
        .collect();
    sqlx::query!(
        "INSERT INTO labels (id, slot, trace_id, span_id, rubric, rubric_version, kind, passed, score, category, source,
                             rank, labeller, comment, made_at, draw_probability, batch_id, stored_at, superseded_at)
         SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, $18::timestamptz, CASE WHEN r THEN $18::timestamptz END
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bool[],
                     $9::float8[], $10::text[], $11::text[], $12::smallint[], $13::text[], $14::text[],
                     $15::timestamptz[], $16::float8[], $17::uuid[], $19::bool[])
              AS rows(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r)",
        &labels.iter().map(|l| l.id).collect::<Vec<_>>(),
        &labels.iter().map(|l| l.slot).collect::<Vec<_>>(),
        &column(|l| &l.trace_id),
        &maybe(|l| &l.span_id) as &[Option<String>],
        &column(|l| &l.rubric),
        &maybe(|l| &l.rubric_version) as &[Option<String>],
        &values.iter().map(|(kind, ..)| (*kind).to_owned()).collect::<Vec<_>>(),
        &labels.iter().map(|l| l.passed).collect::<Vec<_>>(),
        &values.iter().map(|(_, score, _)| *score).collect::<Vec<_>>() as &[Option<f64>],
        &values.into_iter().map(|(.., category)| category).collect::<Vec<_>>() as &[Option<String>],
        &column(|l| l.source.as_str()),
        &labels.iter().map(|l| l.source.rank()).collect::<Vec<_>>(),
        &maybe(|l| &l.labeller) as &[Option<String>],
        &maybe(|l| &l.comment) as &[Option<String>],
        &labels.iter().map(|l| l.made_at).collect::<Vec<_>>(),
        &labels.iter().map(|l| l.draw_probability).collect::<Vec<_>>() as &[Option<f64>],
        &labels.iter().map(|l| l.batch_id).collect::<Vec<_>>() as &[Option<Uuid>],
        now,
        &new.values().map(|(_, superseded)| *superseded).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing labels"))?;
    Ok(())
}
