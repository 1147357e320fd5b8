//! Deployments that show in traces: a service version, prompt version or model that was not there before.
//!
//! Called by `assemble` with the labels of the traces that it has decided on. Its rule: a process asks the database about a version once;
//! a failure costs nothing but a later note. The way not taken: a query a trace.

use super::note;
use crate::app::App;
use crate::domain::deployment::{Deployed, Deployment};
use crate::domain::verdict::TraceLabels;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::PoisonError;
use uuid::Uuid;

/// Versions that a process remembers at most; beyond that it asks the database again.
const REMEMBERED_MAX: usize = 50_000;

/// Versions that are noted at once at most; the others are noted with a later trace. Whoever sends random versions does
/// not hold up the assembling.
const NEW_MAX: usize = 100;

/// Notes versions that no trace had before.
pub async fn seen(app: &App, labels: &[TraceLabels], now: DateTime<Utc>) {
    let mut all: HashMap<Uuid, Deployment> = HashMap::new();
    for deployment in labels.iter().flat_map(|l| versions(l, now)) {
        all.insert(deployment.id, deployment);
    }
    let new: Vec<Deployment> = {
        let known = app.versions_seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.into_values().filter(|d| !known.contains(&d.id)).take(NEW_MAX).collect()
    };
    if new.is_empty() {
        return;
    }
    if let Err(error) = app.store.versions_seen(&new, now).await {
        note(app, &error, "versions first seen could not be noted, trying again with a later trace");
        return;
    }
    let mut known = app.versions_seen.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() > REMEMBERED_MAX {
        known.clear();
    }
    known.extend(new.iter().map(|d| d.id));
}

fn versions(labels: &TraceLabels, now: DateTime<Utc>) -> Vec<Deployment> {
    let environment = labels.environment.as_deref();
    let of = |what: Deployed, name: Option<&String>, version: Option<&String>| {
        Some(Deployment::seen(what, name?, version?, environment, now))
    };
    let user = labels.feature.as_ref().or(labels.service.as_ref());
    let prompt = labels.prompt_name.as_ref().or(user);
    [
        of(Deployed::Service, labels.service.as_ref(), labels.service_version.as_ref()),
        of(Deployed::Prompt, prompt, labels.prompt_version.as_ref()),
        of(Deployed::Model, user, labels.model.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
