//! Tables `alerts`, `alert_findings`, `alert_changes`: findings become incidents, incidents have a life.
//!
//! Called by `pipeline::notify`, `server` and `cli`. Its rule: every change is one transaction under one advisory lock, and makes
//! its deliveries in it, so that two processes with the same finding open one alert and nothing is changed without being
//! told. Changes are rare, so one lock is enough. The way not taken: a unique key on a cause, which is no function of a
//! finding alone.

use super::alert_deliveries::Telling;
use super::columns::{json, optional, text};
use super::{Store, StoreError};
use crate::config::Alerts;
use crate::domain::alert::incident::{Alert, Change, ChangeKind, Merged, Place, State, place};
use crate::domain::alert::{Finding, Severity};
use crate::domain::ids::event_id;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Postgres, Transaction};
use std::collections::HashMap;
use uuid::Uuid;

/// Key of the lock under which alerts change: "alerts" in ASCII.
const LOCK: i64 = 0x0061_6c65_7274_7300;

/// Which alerts to read.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only in these states; none = all.
    pub states: Vec<State>,
    /// Only of this severity.
    pub severity: Option<Severity>,
    /// Only about this rubric.
    pub rubric: Option<String>,
    /// Only opened at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only opened before the alert of this time and id: where the page before ended.
    pub before: Option<(DateTime<Utc>, Uuid)>,
    /// At most this many, newest first.
    pub limit: i64,
}

/// Who changes an alert, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The person; none = the detectors.
    pub whom: Option<&'a str>,
    /// Why.
    pub why: Option<&'a str>,
}

/// What came of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Where it went; for one that opened an alert, [`Place::Opens`].
    pub place: Place,
    /// The alert.
    pub alert: Uuid,
    /// Channels that are told because of it.
    pub told: usize,
}

impl Store {
    /// Opens alerts for findings, or adds them to those that have their cause. The same findings again change nothing.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn raise(
        &self,
        findings: &[Finding],
        config: &Alerts,
        now: DateTime<Utc>,
    ) -> Result<Vec<Raised>, StoreError> {
        let mut tx = self.begin_change().await?;
        let prints: Vec<String> = findings.iter().map(Finding::fingerprint).collect();
        let ids = sqlx::query_scalar!(
            "SELECT id FROM alerts WHERE state <> 'resolved'
             UNION SELECT alert_id FROM alert_findings WHERE fingerprint = ANY($1)",
            &prints
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for alerts"))?;
        let ids: Vec<Uuid> = ids.into_iter().flatten().collect();
        let mut alerts = read(&mut tx, &ids).await?;
        let mut raised = Vec::with_capacity(findings.len());
        for finding in findings {
            let finding = finding.clone().storable();
            let found = place(&finding, &alerts);
            let (alert, told) = match found {
                Place::Over(id) => (id, 0),
                Place::Opens => {
                    let alert = open(&mut tx, &finding, now).await?;
                    alerts.push(alert);
                    let alert = alerts.last_mut().expect("one was added");
                    let told = change(&mut tx, alert, ChangeKind::Opened, (config, now)).await?;
                    (alert.id, told)
                }
                Place::Known(id) | Place::Joins(id) => {
                    let alert = alerts.iter_mut().find(|a| a.id == id).expect("it was chosen among these");
                    (id, merge(&mut tx, alert, finding, (config, now)).await?)
                }
            };
            raised.push(Raised { place: found, alert, told });
        }
        tx.commit().await.map_err(StoreError::op("committing alerts"))?;
        Ok(raised)
    }

    /// Says that the trouble with these fingerprints is over; alerts of which every finding is over are resolved by evidence.
    /// Gives those alerts.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn recovered(
        &self,
        fingerprints: &[String],
        why: &str,
        config: &Alerts,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut tx = self.begin_change().await?;
        let touched = sqlx::query_scalar!(
            "UPDATE alert_findings f SET recovered_at = $2 FROM alerts a
             WHERE f.fingerprint = ANY($1) AND f.recovered_at IS NULL AND a.id = f.alert_id AND a.state <> 'resolved'
             RETURNING f.alert_id",
            fingerprints,
            now
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("ending findings"))?;
        let mut over = Vec::new();
        for mut alert in read(&mut tx, &touched).await? {
            if alert.is_over() {
                over.push(alert.id);
                end(&mut tx, &mut alert, By { whom: None, why: Some(why) }, (config, now)).await?;
            }
        }
        tx.commit().await.map_err(StoreError::op("committing alerts"))?;
        Ok(over)
    }

    /// Marks an alert as taken by somebody. `None` = there is no such alert; one that is not open stays as it is.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn acknowledge(
        &self,
        id: Uuid,
        by: By<'_>,
        config: &Alerts,
        now: DateTime<Utc>,
    ) -> Result<Option<Alert>, StoreError> {
        let mut tx = self.begin_change().await?;
        let Some(mut alert) = read(&mut tx, &[id]).await?.pop() else { return Ok(None) };
        if alert.state == State::Open {
            alert.state = State::Acknowledged;
            told(&mut tx, &mut alert, (ChangeKind::Acknowledged, by), (config, now)).await?;
            save(&mut tx, &alert).await?;
        }
        tx.commit().await.map_err(StoreError::op("committing alerts"))?;
        Ok(Some(alert))
    }

    /// Resolves an alert by hand. `None` = there is no such alert; one that is resolved stays as it is.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn resolve(
        &self,
        id: Uuid,
        by: By<'_>,
        config: &Alerts,
        now: DateTime<Utc>,
    ) -> Result<Option<Alert>, StoreError> {
        let mut tx = self.begin_change().await?;
        let Some(mut alert) = read(&mut tx, &[id]).await?.pop() else { return Ok(None) };
        if alert.state != State::Resolved {
            end(&mut tx, &mut alert, by, (config, now)).await?;
        }
        tx.commit().await.map_err(StoreError::op("committing alerts"))?;
        Ok(Some(alert))
    }

    /// Tells open alerts again that were last told `every` ago or earlier; how many.
    ///
    /// # Errors
    /// When a statement fails; then nothing has changed.
    pub async fn repeat(&self, every: TimeDelta, config: &Alerts, now: DateTime<Utc>) -> Result<usize, StoreError> {
        let mut tx = self.begin_change().await?;
        let due = sqlx::query_scalar!(
            "SELECT a.id FROM alerts a WHERE a.state = 'open'
             AND (SELECT max(c.at) FROM alert_changes c WHERE c.alert_id = a.id) <= $1",
            now - every
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::op("looking for alerts to tell again"))?;
        let mut alerts = read(&mut tx, &due).await?;
        for alert in &mut alerts {
            change(&mut tx, alert, ChangeKind::Repeated, (config, now)).await?;
        }
        tx.commit().await.map_err(StoreError::op("committing alerts"))?;
        Ok(alerts.len())
    }

    /// One alert with everything about it.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn alert(&self, id: Uuid) -> Result<Option<Alert>, StoreError> {
        Ok(self.alerts_by_id(&[id]).await?.pop())
    }

    /// Alerts by id, newest first; those that are not there are left out.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn alerts_by_id(&self, ids: &[Uuid]) -> Result<Vec<Alert>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::op("reading alerts"))?;
        read(&mut connection, ids).await
    }

    /// Alerts that fit, newest first.
    ///
    /// # Errors
    /// When a statement fails.
    pub async fn alerts(&self, filter: &AlertFilter) -> Result<Vec<Alert>, StoreError> {
        let states: Vec<String> = filter.states.iter().map(|s| s.as_str().to_owned()).collect();
        let ids = sqlx::query_scalar!(
            "SELECT a.id FROM alerts a
             WHERE (cardinality($1::text[]) = 0 OR a.state = ANY($1)) AND ($2::text IS NULL OR a.severity = $2)
             AND ($3::text IS NULL OR EXISTS (SELECT 1 FROM alert_findings f WHERE f.alert_id = a.id AND f.rubric = $3))
             AND ($4::timestamptz IS NULL OR a.opened_at >= $4)
             AND ($5::timestamptz IS NULL OR (a.opened_at, a.id) < ($5, $6::uuid))
             ORDER BY a.opened_at DESC, a.id DESC LIMIT $7",
            &states,
            filter.severity.map(Severity::as_str),
            optional(filter.rubric.as_ref()),
            filter.since,
            filter.before.map(|(at, _)| at),
            filter.before.map(|(_, id)| id),
            filter.limit
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("listing alerts"))?;
        self.alerts_by_id(&ids).await
    }

    /// How many alerts are not resolved, by state and severity.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn alerts_waiting(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        let rows = sqlx::query!(
            "SELECT state, severity, count(*) AS \"count!\" FROM alerts WHERE state <> 'resolved' GROUP BY 1, 2"
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("counting alerts"))?;
        Ok(rows.into_iter().map(|r| (r.state, r.severity, r.count)).collect())
    }

    /// A transaction in which alerts may change; others wait for its end.
    async fn begin_change(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::op("beginning to change alerts"))?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::op("waiting to change alerts"))?;
        Ok(tx)
    }
}

/// Configuration and time of a change.
type Terms<'a> = (&'a Alerts, DateTime<Utc>);

async fn open(db: &mut PgConnection, finding: &Finding, now: DateTime<Utc>) -> Result<Alert, StoreError> {
    let fingerprint = finding.fingerprint();
    // The same finding gives the same id, and another than the one that the same trouble opened before.
    let name = format!("alert:{fingerprint}:{}", finding.found_at.timestamp_micros());
    let merged = Merged { fingerprint, finding: finding.clone(), first_found_at: finding.found_at, recovered_at: None };
    let alert = Alert {
        id: event_id(Uuid::nil(), &name),
        state: State::Open,
        severity: finding.severity,
        opened_at: now,
        updated_at: now,
        resolved_at: None,
        findings: vec![merged],
        changes: Vec::new(),
    };
    sqlx::query!(
        "INSERT INTO alerts (id, state, severity, opened_at, updated_at) VALUES ($1, 'open', $2, $3, $3)",
        alert.id,
        alert.severity.as_str(),
        now
    )
    .execute(&mut *db)
    .await
    .map_err(StoreError::op("opening an alert"))?;
    put(db, alert.id, &alert.findings[0]).await?;
    Ok(alert)
}

/// Adds a finding, or brings its evidence up to date; how many channels are told of it.
async fn merge(
    db: &mut PgConnection,
    alert: &mut Alert,
    finding: Finding,
    terms: Terms<'_>,
) -> Result<usize, StoreError> {
    let fingerprint = finding.fingerprint();
    let severity = finding.severity;
    let joins = match alert.findings.iter_mut().find(|m| m.fingerprint == fingerprint) {
        // A replay: what is stored is as new or newer.
        Some(known) if known.finding.found_at >= finding.found_at && known.recovered_at.is_none() => return Ok(0),
        // Older than the recovery: it says nothing against it.
        Some(known) if known.recovered_at.is_some_and(|at| finding.found_at <= at) => return Ok(0),
        Some(known) => {
            known.finding = finding;
            known.recovered_at = None;
            put(db, alert.id, known).await?;
            false
        }
        None => {
            // The finding that opened the alert stays the first: receivers know the alert by it.
            let opening = alert.findings.first().map_or(finding.found_at, |m| m.first_found_at);
            let first_found_at = finding.found_at.max(opening + TimeDelta::microseconds(1));
            let merged = Merged { fingerprint, finding, first_found_at, recovered_at: None };
            put(db, alert.id, &merged).await?;
            alert.findings.push(merged);
            true
        }
    };
    alert.updated_at = alert.updated_at.max(terms.1);
    let mut told = 0;
    if severity > alert.severity {
        alert.severity = severity;
        told = change(db, alert, ChangeKind::Escalated, terms).await?;
    } else if joins {
        told = change(db, alert, ChangeKind::Joined, terms).await?;
    }
    save(db, alert).await?;
    Ok(told)
}

/// Notes a change that the detectors made and tells it to the channels that the routes name; of another stream only those
/// hear that have heard nothing of the alert.
async fn change(
    db: &mut PgConnection,
    alert: &mut Alert,
    kind: ChangeKind,
    (config, now): Terms<'_>,
) -> Result<usize, StoreError> {
    let mut channels = config.channels_for(&alert.rubrics(), alert.severity);
    if kind == ChangeKind::Joined {
        let told = super::alert_deliveries::channels_told(db, alert.id).await?;
        channels.retain(|name| !told.contains(name));
    }
    note(db, alert, (kind, By { whom: None, why: None }), now).await?;
    super::alert_deliveries::put(db, alert, &Telling { channels: &channels, config, now }).await?;
    Ok(channels.len())
}

/// Notes a change and tells it to the channels that have heard of the alert.
async fn told(
    db: &mut PgConnection,
    alert: &mut Alert,
    change: (ChangeKind, By<'_>),
    (config, now): Terms<'_>,
) -> Result<(), StoreError> {
    let mut channels = super::alert_deliveries::channels_told(db, alert.id).await?;
    channels.retain(|name| config.channels.contains_key(name));
    note(db, alert, change, now).await?;
    super::alert_deliveries::put(db, alert, &Telling { channels: &channels, config, now }).await
}

async fn end(db: &mut PgConnection, alert: &mut Alert, by: By<'_>, terms: Terms<'_>) -> Result<(), StoreError> {
    alert.state = State::Resolved;
    alert.resolved_at = Some(terms.1);
    super::alert_deliveries::stop_refreshing(db, alert.id).await?;
    told(db, alert, (ChangeKind::Resolved, by), terms).await?;
    save(db, alert).await
}

async fn note(
    db: &mut PgConnection,
    alert: &mut Alert,
    (kind, by): (ChangeKind, By<'_>),
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let change = Change {
        number: alert.changes.last().map_or(1, |last| last.number + 1),
        kind,
        severity: alert.severity,
        at: now,
        by: by.whom.map(text),
        why: by.why.map(text),
    };
    sqlx::query!(
        "INSERT INTO alert_changes (alert_id, number, kind, severity, at, by_whom, why) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        alert.id,
        change.number,
        kind.as_str(),
        change.severity.as_str(),
        now,
        change.by,
        change.why
    )
    .execute(db)
    .await
    .map_err(StoreError::op("noting a change of an alert"))?;
    alert.updated_at = now;
    alert.changes.push(change);
    Ok(())
}

async fn save(db: &mut PgConnection, alert: &Alert) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE alerts SET state = $2, severity = $3, updated_at = $4, resolved_at = $5 WHERE id = $1",
        alert.id,
        alert.state.as_str(),
        alert.severity.as_str(),
        alert.updated_at,
        alert.resolved_at
    )
    .execute(db)
    .await
    .map_err(StoreError::op("changing an alert"))?;
    Ok(())
}

async fn put(db: &mut PgConnection, alert: Uuid, merged: &Merged) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO alert_findings (alert_id, fingerprint, rubric, finding, first_found_at, last_found_at, recovered_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (alert_id, fingerprint) DO UPDATE SET finding = excluded.finding,
             last_found_at = excluded.last_found_at, recovered_at = excluded.recovered_at",
        alert,
        merged.fingerprint,
        optional(merged.finding.rubric.as_ref()),
        json(serde_json::to_value(&merged.finding).unwrap_or_default()),
        merged.first_found_at,
        merged.finding.found_at,
        merged.recovered_at
    )
    .execute(db)
    .await
    .map_err(StoreError::op("storing a finding"))?;
    Ok(())
}

/// Alerts with their findings and changes, newest first.
async fn read(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Alert>, StoreError> {
    let rows = sqlx::query!(
        "SELECT id, state, severity, opened_at, updated_at, resolved_at FROM alerts WHERE id = ANY($1)
         ORDER BY opened_at DESC, id DESC",
        ids
    )
    .fetch_all(&mut *db)
    .await
    .map_err(StoreError::op("reading alerts"))?;
    let mut findings = findings_of(db, ids).await?;
    let mut changes = changes_of(db, ids).await?;
    // The columns' CHECKs admit no other words than those that are parsed here.
    let alerts = rows.into_iter().map(|r| Alert {
        id: r.id,
        state: State::parse(&r.state).unwrap_or(State::Open),
        severity: Severity::parse(&r.severity).unwrap_or_default(),
        opened_at: r.opened_at,
        updated_at: r.updated_at,
        resolved_at: r.resolved_at,
        findings: findings.remove(&r.id).unwrap_or_default(),
        changes: changes.remove(&r.id).unwrap_or_default(),
    });
    Ok(alerts.collect())
}

async fn findings_of(db: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Merged>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT alert_id, fingerprint, finding, first_found_at, recovered_at FROM alert_findings
         WHERE alert_id = ANY($1) ORDER BY alert_id, first_found_at, fingerprint",
        ids
    )
    .fetch_all(db)
    .await
    .map_err(StoreError::op("reading findings"))?;
    let mut all: HashMap<Uuid, Vec<Merged>> = HashMap::new();
    for r in rows {
        let finding = serde_json::from_value(r.finding)
            .map_err(|source| StoreError::Content { what: format!("a finding of alert {}", r.alert_id), source })?;
        all.entry(r.alert_id).or_default().push(Merged {
            fingerprint: r.fingerprint,
            finding,
            first_found_at: r.first_found_at,
            recovered_at: r.recovered_at,
        });
    }
    Ok(all)
}

async fn changes_of(db: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Change>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT alert_id, number, kind, severity, at, by_whom, why FROM alert_changes WHERE alert_id = ANY($1)
         ORDER BY alert_id, number",
        ids
    )
    .fetch_all(db)
    .await
    .map_err(StoreError::op("reading changes of alerts"))?;
    let mut all: HashMap<Uuid, Vec<Change>> = HashMap::new();
    for r in rows {
        all.entry(r.alert_id).or_default().push(Change {
            number: r.number,
            kind: ChangeKind::parse(&r.kind).unwrap_or(ChangeKind::Joined),
            severity: Severity::parse(&r.severity).unwrap_or_default(),
            at: r.at,
            by: r.by_whom,
            why: r.why,
        });
    }
    Ok(all)
}
