//! Tables `tallies` and `outcome_tallies`: how many traces were seen, kept, and what became of them, by stratum and hour.
//!
//! Written by `store::traces` and `store::verdicts` in the transactions that decide and judge, read by `server`. Its rule: every
//! trace and every verdict is counted once, in the hour in which the trace was decided, so that every denominator is known when
//! rows are gone. The way not taken: counting rows when somebody asks, which ends with their retention.

use super::columns::{optional, text};
use super::traces::DecidedTrace;
use super::{Store, StoreError};
use crate::domain::verdict::TraceLabels;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// One stratum in one hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tally {
    /// Start of the hour.
    pub hour: DateTime<Utc>,
    /// The rule that fitted first.
    pub rule: String,
    /// Probability with which its traces were to be kept, of those received.
    pub probability: f64,
    /// Labels of the traces.
    pub labels: TraceLabels,
    /// `ok` or `error`.
    pub status: String,
    /// Traces decided on.
    pub seen: i64,
    /// Of these, kept.
    pub kept: i64,
    /// Traces that there were before the samplers before us, as far as those are known.
    pub population: Option<f64>,
    /// Rubric, rubric version and outcome to the number of verdicts.
    pub outcomes: Value,
}

impl Store {
    /// Traces decided on and kept, over all tallies.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn tally_totals(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query!(
            r#"SELECT coalesce(sum(seen), 0)::bigint AS "seen!", coalesce(sum(kept), 0)::bigint AS "kept!" FROM tallies"#
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::op("adding up tallies"))?;
        Ok((row.seen, row.kept))
    }

    /// Strata of the hours from `since` on, the latest hours and the largest strata first.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn tallies(&self, since: DateTime<Utc>, limit: i64) -> Result<Vec<Tally>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT t.hour, t.rule, t.probability, t.service, t.environment, t.feature, t.prompt_version, t.model,
                      t.tenant, t.status, t.seen, t.kept, t.population,
                      coalesce((SELECT jsonb_agg(jsonb_build_object('rubric', o.rubric, 'rubric_version', o.rubric_version,
                                                                    'outcome', o.outcome, 'verdicts', o.verdicts)
                                                 ORDER BY o.rubric, o.rubric_version, o.outcome)
                                FROM (SELECT rubric, rubric_version, outcome, sum(verdicts) AS verdicts
                                      FROM outcome_tallies WHERE hour = t.hour AND stratum = t.stratum
                                      GROUP BY rubric, rubric_version, outcome HAVING sum(verdicts) <> 0) o), '[]') AS "outcomes!"
               FROM tallies t WHERE t.hour >= $1 ORDER BY t.hour DESC, t.seen DESC, t.stratum LIMIT $2"#,
            since,
            limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading tallies"))?;
        let tally = rows.into_iter().map(|r| Tally {
            hour: r.hour,
            rule: r.rule,
            probability: r.probability,
            labels: TraceLabels {
                service: r.service,
                environment: r.environment,
                feature: r.feature,
                prompt_version: r.prompt_version,
                model: r.model,
                tenant: r.tenant,
                ..TraceLabels::default()
            },
            status: r.status,
            seen: r.seen,
            kept: r.kept,
            population: r.population,
            outcomes: r.outcomes,
        });
        Ok(tally.collect())
    }
}

/// Counts traces that were decided on.
pub(super) async fn insert(
    tx: &mut PgConnection,
    traces: &[DecidedTrace],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // Added up here, so that a batch of one stratum updates one row; in the order of the key, so that two assemblers
    // cannot lock each other out.
    let mut strata = std::collections::BTreeMap::<String, (&DecidedTrace, i64, i64, f64)>::new();
    for trace in traces {
        let entry = strata.entry(stratum(trace)).or_insert((trace, 0, 0, 0.0));
        entry.1 += 1;
        entry.2 += i64::from(trace.decision.kept);
        entry.3 += population(trace);
    }
    let rows: Vec<_> = strata.into_iter().collect();
    let label = |f: fn(&TraceLabels) -> &Option<String>| -> Vec<Option<String>> {
        rows.iter().map(|(_, (t, ..))| optional(f(&t.labels).as_ref())).collect()
    };
    let hour = chrono::DurationRound::duration_trunc(now, chrono::TimeDelta::hours(1)).unwrap_or(now);
    sqlx::query!(
        "INSERT INTO tallies AS t (hour, stratum, rule, probability, service, environment, feature, prompt_version,
                                   model, tenant, status, seen, kept, population)
         SELECT $1, u.* FROM unnest($2::text[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::text[],
                                    $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[],
                                    $14::float8[]) u
         ON CONFLICT (hour, stratum) DO UPDATE SET seen = t.seen + excluded.seen, kept = t.kept + excluded.kept,
             population = coalesce(t.population, t.seen) + excluded.population",
        hour,
        &rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (t, ..))| text(&t.decision.rule)).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (t, ..))| t.decision.probability).collect::<Vec<_>>(),
        &label(|l| &l.service) as &[Option<String>],
        &label(|l| &l.environment) as &[Option<String>],
        &label(|l| &l.feature) as &[Option<String>],
        &label(|l| &l.prompt_version) as &[Option<String>],
        &label(|l| &l.model) as &[Option<String>],
        &label(|l| &l.tenant) as &[Option<String>],
        &rows.iter().map(|(_, (t, ..))| t.status.to_owned()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (_, seen, ..))| *seen).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (_, _, kept, _))| *kept).collect::<Vec<_>>(),
        &rows.iter().map(|(_, (.., population))| *population).collect::<Vec<_>>(),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("tallying traces"))?;
    Ok(())
}

/// Takes a trace out of the tally of the hour in which it was decided on; false when it is not there.
pub(super) async fn take_out(
    tx: &mut PgConnection,
    trace: &DecidedTrace,
    decided_at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let hour = chrono::DurationRound::duration_trunc(decided_at, chrono::TimeDelta::hours(1)).unwrap_or(decided_at);
    let taken = sqlx::query!(
        "UPDATE tallies SET seen = seen - 1, kept = kept - $3, population = population - $4
         WHERE hour = $1 AND stratum = $2",
        hour,
        stratum(trace),
        i64::from(trace.decision.kept),
        population(trace),
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("taking a trace out of its tally"))?;
    Ok(taken.rows_affected() > 0)
}

/// How many traces it stands for; what a sampler before us decided against is stood for by what it let through.
fn population(trace: &DecidedTrace) -> f64 {
    trace.decision.upstream.as_ref().map_or(1.0, |u| f64::from(u8::from(u.kept)) / u.probability)
}

/// Counts stored verdicts once more (`by` 1) or takes them out (-1), in the stratum in which their traces are now.
/// None of them was made before `since`.
pub(super) async fn recount(
    tx: &mut PgConnection,
    verdicts: &[Uuid],
    since: DateTime<Utc>,
    by: i64,
) -> Result<(), StoreError> {
    if verdicts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO outcome_tallies AS o (hour, stratum, rubric, rubric_version, outcome, shard, verdicts)
         SELECT date_trunc('hour', t.decided_at, 'UTC'), t.stratum, v.rubric, v.rubric_version, v.outcome,
                pg_backend_pid() % 16, $2 * count(*)
         FROM verdicts v JOIN traces t ON t.trace_id = v.trace_id
         WHERE v.id = ANY($1) AND v.created_at >= $3 AND t.stratum IS NOT NULL
         GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
         ON CONFLICT (hour, stratum, rubric, rubric_version, outcome, shard)
             DO UPDATE SET verdicts = o.verdicts + excluded.verdicts",
        verdicts,
        by,
        since,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("tallying outcomes anew"))?;
    Ok(())
}

/// Hash of all by which tallies tell traces apart.
pub(super) fn stratum(trace: &DecidedTrace) -> String {
    let l = &trace.labels;
    let labels = [&l.service, &l.environment, &l.feature, &l.prompt_version, &l.model, &l.tenant];
    let rate = trace.decision.probability.to_bits().to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![trace.decision.rule.as_bytes(), &rate, trace.status.as_bytes()];
    parts.extend(labels.iter().map(|label| label.as_deref().map_or(&b"\0"[..], str::as_bytes)));
    crate::domain::ids::short_hash(&parts, 24)
}

/// Counts verdicts in the stratum and hour of their traces; those of traces that are not there are not counted.
pub(super) async fn insert_outcomes(
    tx: &mut PgConnection,
    [trace_ids, rubrics, versions, outcomes]: [&[String]; 4],
) -> Result<(), StoreError> {
    // In the order of the key, and by connection, so that workers neither lock each other out nor wait for long.
    sqlx::query!(
        "INSERT INTO outcome_tallies AS o (hour, stratum, rubric, rubric_version, outcome, shard, verdicts)
         SELECT date_trunc('hour', t.decided_at, 'UTC'), t.stratum, u.r, u.v, u.o, pg_backend_pid() % 16, count(*)
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(t, r, v, o)
         JOIN traces t ON t.trace_id = u.t WHERE t.stratum IS NOT NULL
         GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
         ON CONFLICT (hour, stratum, rubric, rubric_version, outcome, shard)
             DO UPDATE SET verdicts = o.verdicts + excluded.verdicts",
        trace_ids,
        rubrics,
        versions,
        outcomes,
    )
    .execute(tx)
    .await
    .map_err(StoreError::op("tallying outcomes"))?;
    Ok(())
}
