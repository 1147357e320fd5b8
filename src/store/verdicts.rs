//! Tables `verdicts` and `votes`, and the one transaction that settles jobs.
//!
//! Written by `pipeline::record`, read by `server`, `cli` and `pipeline::export`. Its rule: verdict, votes, events and the end
//! of the job are one transaction, fenced by the lease: if the lease is no longer ours, nothing of that job is written.
//! The way not taken: an upsert of the verdict, which would hide that two workers judged the same job.
//! Both tables are partitioned by week, so every reading that knows about when says so.

use super::columns::{json_text, optional, text};
use super::{Store, StoreError, reopen, replay, sessions, tallies, vote_cache};
use crate::domain::ids::event_id;
use crate::domain::job::{Job, Lease};
use crate::domain::rubric::OutputKind;
use crate::domain::span::IdSource;
use crate::domain::unit::SessionRef;
use crate::domain::verdict::{JoinIds, Outcome, TraceLabels, Verdict, Vote};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use uuid::Uuid;

/// How far the clocks of processes may be apart: by so much a verdict may seem to be made before what it follows from.
pub const CLOCKS_APART_MAX: TimeDelta = TimeDelta::days(1);

/// Which verdicts to read.
#[derive(Debug, Clone, Default)]
pub struct VerdictFilter {
    /// Only of this trace.
    pub trace_id: Option<String>,
    /// Only of this session.
    pub session_id: Option<Uuid>,
    /// Only of this rubric.
    pub rubric: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Only made at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only older than the verdict of this time and id: where the page before ended.
    pub before: Option<(DateTime<Utc>, Uuid)>,
    /// At most this many, newest first.
    pub limit: i64,
}

impl Store {
    /// Settles jobs: stores their verdicts and votes, those of a replay apart from the others, keeps votes in the cache for `cache_for`, makes an event for each of
    /// `sinks`, and ends the jobs.
    /// Returns the ids that were settled; the others' leases had run out and somebody else has them.
    ///
    /// # Errors
    /// When a statement fails; then nothing is settled and the leases still hold.
    pub async fn settle(
        &self,
        settled: &[(Lease<Job>, Verdict)],
        sinks: &[&'static str],
        cache_for: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<HashSet<Uuid>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to settle"))?;
        let ended = sqlx::query!(
            "DELETE FROM jobs j USING unnest($1::uuid[], $2::uuid[]) AS u(id, token)
             WHERE j.id = u.id AND j.lease_token = u.token RETURNING j.id, j.lease_token, j.supersedes, j.trace_id",
            &settled.iter().map(|(lease, _)| lease.item.id).collect::<Vec<_>>(),
            &settled.iter().map(|(lease, _)| lease.token).collect::<Vec<_>>(),
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("ending jobs"))?;
        // By token too: a batch may hold two results of one job, an old one whose lease was lost and the one that counts.
        let tokens: HashSet<(Uuid, Option<Uuid>)> = ended.iter().map(|row| (row.id, row.lease_token)).collect();
        let ours: HashSet<Uuid> = ended.iter().map(|row| row.id).collect();
        let again_for = || ended.iter().filter_map(|row| Some(((row.supersedes?, row.id), &row.trace_id)));
        let replaced: Vec<(Uuid, Uuid)> = again_for().map(|(pair, _)| pair).collect();
        let of_traces: Vec<String> = again_for().map(|(_, trace_id)| trace_id.clone()).collect();
        let held = || settled.iter().filter(|(lease, _)| tokens.contains(&(lease.item.id, Some(lease.token))));
        let again = held().filter(|(lease, _)| lease.item.replay).map(|(lease, v)| (v, lease.item.canary));
        let (again, canaries): (Vec<&Verdict>, Vec<bool>) = again.unzip();
        let verdicts = held().filter(|(lease, _)| !lease.item.replay).map(|(_, v)| v);
        if cache_for > TimeDelta::zero() {
            let votes = held().flat_map(|(_, v)| &v.votes);
            vote_cache::insert(&mut tx, votes, cache_for, now).await?;
        }
        replay::insert(&mut tx, (&again, &canaries)).await?;
        let rows = VerdictRows::of(verdicts.clone());
        if !rows.ids.is_empty() {
            let sessions: Vec<Uuid> = rows.session_ids.iter().copied().flatten().collect();
            let first_seen = if sessions.is_empty() { now } else { sessions::lock(&mut tx, &sessions, now).await? };
            insert_votes(&mut tx, verdicts).await?;
            insert_events(&mut tx, &rows, sinks, now).await?;
            insert(&mut tx, rows).await?;
            if !replaced.is_empty() {
                let since = reopen::decided_first(&mut tx, &of_traces, now).await?;
                reopen::supersede(&mut tx, &replaced, since, sinks, now).await?;
            }
            if !sessions.is_empty() {
                sessions::supersede(&mut tx, &sessions, first_seen, sinks, now).await?;
            }
        }
        tx.commit().await.map_err(StoreError::op("committing verdicts"))?;
        Ok(ours)
    }

    /// Reads current verdicts with their votes, newest first.
    ///
    /// # Errors
    /// When a statement fails or a stored vote cannot be read.
    pub async fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, StoreError> {
        let rows = sqlx::query_as!(
            VerdictRow,
            "SELECT id, trace_id, span_id, rubric, rubric_version, kind, outcome, score, raw, label, passed,
                    confidence, disagreement, detail, explanation, decided_by, checks, cost_usd, latency_ms,
                    inclusion_probability, service, service_version, environment, feature, prompt_name,
                    prompt_version, model, tenant, join_source, join_span_id, created_at, session, session_id,
                    session_ordinal, superseded_at
             FROM verdicts
             WHERE ($1::text IS NULL OR trace_id = $1) AND ($2::text IS NULL OR rubric = $2)
               AND ($3::text IS NULL OR outcome = $3) AND ($4::timestamptz IS NULL OR created_at >= $4)
               AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6)) AND superseded_at IS NULL
               AND ($8::uuid IS NULL OR session_id = $8)
             ORDER BY created_at DESC, id DESC LIMIT $7",
            filter.trace_id,
            filter.rubric,
            filter.outcome.map(Outcome::as_str),
            filter.since,
            filter.before.map(|(at, _)| at),
            filter.before.map(|(_, id)| id),
            filter.limit,
            filter.session_id,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading verdicts"))?;
        self.with_votes(rows).await
    }

    /// Reads verdicts that were made within a time by id, superseded ones too, in no particular order.
    ///
    /// # Errors
    /// As [`Store::verdicts`].
    pub async fn verdicts_by_id(
        &self,
        ids: &[Uuid],
        made: RangeInclusive<DateTime<Utc>>,
    ) -> Result<Vec<Verdict>, StoreError> {
        let rows = sqlx::query_as!(
            VerdictRow,
            "SELECT id, trace_id, span_id, rubric, rubric_version, kind, outcome, score, raw, label, passed,
                    confidence, disagreement, detail, explanation, decided_by, checks, cost_usd, latency_ms,
                    inclusion_probability, service, service_version, environment, feature, prompt_name,
                    prompt_version, model, tenant, join_source, join_span_id, created_at, session, session_id,
                    session_ordinal, superseded_at
             FROM verdicts WHERE id = ANY($1) AND created_at >= $2 AND created_at <= $3",
            ids,
            made.start(),
            made.end()
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading verdicts"))?;
        self.with_votes(rows).await
    }

    async fn with_votes(&self, rows: Vec<VerdictRow>) -> Result<Vec<Verdict>, StoreError> {
        let ids: Vec<Uuid> = rows.iter().filter(|r| r.decided_by.as_deref() != Some("check")).map(|r| r.id).collect();
        let mut votes: HashMap<Uuid, Vec<Vote>> = HashMap::new();
        if let Some(made) = span(rows.iter().map(|row| row.created_at)).filter(|_| !ids.is_empty()) {
            let found = sqlx::query!(
                "SELECT verdict_id, body FROM votes WHERE verdict_id = ANY($1) AND created_at >= $2 AND created_at <= $3
                 ORDER BY verdict_id, position",
                &ids,
                made.start(),
                made.end()
            )
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::op("reading votes"))?;
            for row in found {
                let vote = serde_json::from_value(row.body)
                    .map_err(|source| StoreError::Content { what: format!("a vote of {}", row.verdict_id), source })?;
                votes.entry(row.verdict_id).or_default().push(vote);
            }
        }
        rows.into_iter().map(|row| row.into_verdict(&mut votes)).collect()
    }
}

/// From the earliest to the latest of some times; `None` of none.
pub(super) fn span(times: impl Iterator<Item = DateTime<Utc>> + Clone) -> Option<RangeInclusive<DateTime<Utc>>> {
    Some(times.clone().min()?..=times.max()?)
}

struct VerdictRow {
    id: Uuid,
    trace_id: String,
    span_id: Option<String>,
    rubric: String,
    rubric_version: String,
    kind: String,
    outcome: String,
    score: Option<f64>,
    raw: Value,
    label: Option<String>,
    passed: Option<bool>,
    confidence: Option<f64>,
    disagreement: Option<f64>,
    detail: Value,
    explanation: String,
    decided_by: Option<String>,
    checks: Value,
    cost_usd: f64,
    latency_ms: i64,
    inclusion_probability: f64,
    service: Option<String>,
    service_version: Option<String>,
    environment: Option<String>,
    feature: Option<String>,
    prompt_name: Option<String>,
    prompt_version: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    join_source: String,
    join_span_id: String,
    created_at: DateTime<Utc>,
    session: Option<String>,
    session_id: Option<Uuid>,
    session_ordinal: Option<i32>,
    superseded_at: Option<DateTime<Utc>>,
}

impl VerdictRow {
    fn into_verdict(self, votes: &mut HashMap<Uuid, Vec<Vote>>) -> Result<Verdict, StoreError> {
        let content = |source| StoreError::Content { what: format!("verdict {}", self.id), source };
        let checks = serde_json::from_value(self.checks).map_err(content)?;
        let source = serde_json::from_value(Value::String(self.join_source)).map_err(content)?;
        let kind = serde_json::from_value(Value::String(self.kind)).map_err(content)?;
        let session = self.session.zip(self.session_id).zip(self.session_ordinal);
        Ok(Verdict {
            id: self.id,
            trace_id: self.trace_id,
            span_id: self.span_id,
            session: session.map(|((session, key), ordinal)| SessionRef { key, session, ordinal }),
            superseded_at: self.superseded_at,
            rubric: self.rubric,
            rubric_version: self.rubric_version,
            kind,
            // The column's CHECK admits only names that `parse` knows.
            outcome: Outcome::parse(&self.outcome).expect("the table holds known outcomes only"),
            score: self.score,
            raw: self.raw,
            label: self.label,
            passed: self.passed,
            confidence: self.confidence,
            disagreement: self.disagreement,
            detail: self.detail,
            explanation: self.explanation,
            decided_by: self.decided_by,
            checks,
            votes: votes.remove(&self.id).unwrap_or_default(),
            cost_usd: self.cost_usd,
            latency_ms: self.latency_ms,
            inclusion_probability: self.inclusion_probability,
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
            join: JoinIds { source, span_id: self.join_span_id },
            created_at: self.created_at,
        })
    }
}

/// Verdicts as columns.
#[derive(Debug, Default)]
pub(super) struct VerdictRows {
    ids: Vec<Uuid>,
    texts: [Vec<String>; 7],
    optionals: [Vec<Option<String>>; 12],
    session_ids: Vec<Option<Uuid>>,
    session_ordinals: Vec<Option<i32>>,
    scores: Vec<Option<f64>>,
    passed: Vec<Option<bool>>,
    confidences: Vec<Option<f64>>,
    disagreements: Vec<Option<f64>>,
    details: Vec<String>,
    raws: Vec<String>,
    checks: Vec<String>,
    costs: Vec<f64>,
    latencies: Vec<i64>,
    probabilities: Vec<f64>,
    join_spans: Vec<String>,
    times: Vec<DateTime<Utc>>,
}

impl VerdictRows {
    /// Columns of these verdicts, storable.
    pub(super) fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut rows = Self::default();
        for v in verdicts {
            let t = &v.trace;
            let source = match v.join.source {
                IdSource::Otel => "otel",
                IdSource::Datadog => "datadog",
                IdSource::Native => "native",
            };
            let kind = match v.kind {
                OutputKind::Score => "score",
                OutputKind::Boolean => "boolean",
                OutputKind::Category => "category",
            };
            let texts = [&v.trace_id, &v.rubric, &v.rubric_version, v.outcome.as_str(), &v.explanation, source, kind];
            for (column, value) in rows.texts.iter_mut().zip(texts) {
                column.push(text(value));
            }
            let optionals = [
                &v.span_id,
                &v.label,
                &v.decided_by,
                &t.service,
                &t.service_version,
                &t.environment,
                &t.feature,
                &t.prompt_name,
                &t.prompt_version,
                &t.model,
                &t.tenant,
                &v.session.as_ref().map(|s| s.session.clone()),
            ];
            for (column, value) in rows.optionals.iter_mut().zip(optionals) {
                column.push(optional(value.as_ref()));
            }
            rows.ids.push(v.id);
            rows.session_ids.push(v.session.as_ref().map(|s| s.key));
            rows.session_ordinals.push(v.session.as_ref().map(|s| s.ordinal));
            rows.scores.push(v.score);
            rows.passed.push(v.passed);
            rows.confidences.push(v.confidence);
            rows.disagreements.push(v.disagreement);
            rows.details.push(json_text(&v.detail));
            rows.raws.push(json_text(&v.raw));
            rows.checks.push(json_text(&v.checks));
            rows.costs.push(v.cost_usd);
            rows.latencies.push(v.latency_ms);
            rows.probabilities.push(v.inclusion_probability);
            rows.join_spans.push(text(&v.join.span_id));
            rows.times.push(v.created_at);
        }
        rows
    }
}

pub(super) async fn insert(tx: &mut PgConnection, rows: VerdictRows) -> Result<(), StoreError> {
    let [trace_ids, rubrics, versions, outcomes, explanations, join_sources, kinds] = rows.texts;
    tallies::insert_outcomes(tx, [&trace_ids, &rubrics, &versions, &outcomes]).await?;
    let [
        span_ids,
        labels,
        decided_by,
        services,
        service_versions,
        environments,
        features,
        prompts,
        prompt_versions,
        models,
        tenants,
        sessions,
    ] = rows.optionals;
    sqlx::query!(
        "INSERT INTO verdicts (id, trace_id, span_id, rubric, rubric_version, outcome, score, raw, label, passed,
             confidence, explanation, decided_by, checks, cost_usd, latency_ms, inclusion_probability, service,
             service_version, environment, feature, prompt_name, prompt_version, model, tenant, join_source,
             join_span_id, created_at, kind, disagreement, detail, session, session_id, session_ordinal)
         SELECT a, b, c, d, e, f, g, h::jsonb, i, j, k, l, m, n::jsonb, o, p, q, r, s, t, u, v, w, x, y, z, aa, ab, ac, ad,
                ae::jsonb, af, ag, ah
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[],
             $8::text[], $9::text[], $10::bool[], $11::float8[], $12::text[], $13::text[], $14::text[], $15::float8[],
             $16::bigint[], $17::float8[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[],
             $24::text[], $25::text[], $26::text[], $27::text[], $28::timestamptz[], $29::text[],
             $30::float8[], $31::text[], $32::text[], $33::uuid[], $34::int[])
             AS u(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, ab, ac, ad, ae, af, ag, ah)",
        &rows.ids,
        &trace_ids,
        &span_ids as &[Option<String>],
        &rubrics,
        &versions,
        &outcomes,
        &rows.scores as &[Option<f64>],
        &rows.raws,
        &labels as &[Option<String>],
        &rows.passed as &[Option<bool>],
        &rows.confidences as &[Option<f64>],
        &explanations,
        &decided_by as &[Option<String>],
        &rows.checks,
        &rows.costs,
        &rows.latencies,
        &rows.probabilities,
        &services as &[Option<String>],
        &service_versions as &[Option<String>],
        &environments as &[Option<String>],
        &features as &[Option<String>],
        &prompts as &[Option<String>],
        &prompt_versions as &[Option<String>],
        &models as &[Option<String>],
        &tenants as &[Option<String>],
        &join_sources,
        &rows.join_spans,
        &rows.times,
        &kinds,
        &rows.disagreements as &[Option<f64>],
        &rows.details,
        &sessions as &[Option<String>],
        &rows.session_ids as &[Option<Uuid>],
        &rows.session_ordinals as &[Option<i32>],
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing verdicts"))?;
    Ok(())
}

async fn insert_votes<'a>(
    tx: &mut PgConnection,
    verdicts: impl Iterator<Item = &'a Verdict>,
) -> Result<(), StoreError> {
    let (mut ids, mut positions, mut judges, mut models) = (vec![], vec![], vec![], vec![]);
    let (mut scores, mut bodies, mut times) = (vec![], vec![], vec![]);
    for verdict in verdicts {
        for (position, vote) in (0_i32..).zip(&verdict.votes) {
            ids.push(verdict.id);
            positions.push(position);
            judges.push(text(&vote.judge));
            models.push(text(&vote.model));
            scores.push(vote.score);
            bodies.push(json_text(vote));
            times.push(verdict.created_at);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO votes (verdict_id, position, judge, model, score, body, created_at)
         SELECT i, p, j, m, s, b::jsonb, c
         FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::timestamptz[])
              AS u(i, p, j, m, s, b, c)",
        &ids,
        &positions,
        &judges,
        &models,
        &scores as &[Option<f64>],
        &bodies,
        &times,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing votes"))?;
    Ok(())
}

pub(super) async fn insert_events(
    tx: &mut PgConnection,
    rows: &VerdictRows,
    sinks: &[&'static str],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if sinks.is_empty() {
        return Ok(());
    }
    let (mut ids, mut names, mut verdicts, mut times) = (vec![], vec![], vec![], vec![]);
    for sink in sinks {
        for (id, made_at) in rows.ids.iter().zip(&rows.times) {
            ids.push(event_id(*id, sink));
            names.push((*sink).to_owned());
            verdicts.push(*id);
            times.push(*made_at);
        }
    }
    sqlx::query!(
        "INSERT INTO outbox (id, sink, verdict_id, visible_at, created_at, verdict_at)
         SELECT i, s, v, $4, $4, m FROM unnest($1::uuid[], $2::text[], $3::uuid[], $5::timestamptz[]) AS u(i, s, v, m)",
        &ids,
        &names,
        &verdicts,
        now,
        &times,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("storing events"))?;
    Ok(())
}
