//! The streams: one a rubric version and slice of the traffic, each with its change scan and its version tests.
//!
//! Held by `pipeline::watch`, stored by `store::watch`. Its rule: which stream a verdict belongs to follows from the verdict and
//! the rubric's `alert.by` alone; versions of a rubric are streams of their own, so that an edited rubric is never taken for a
//! changed application. The way not taken: one detector a rubric, in which a small feature drowns.

use super::finding::{of_scan, of_version};
use crate::app::App;
use crate::config::Watch;
use crate::domain::alert::Finding;
use crate::domain::dimension::Dimension;
use crate::domain::ids::short_hash;
use crate::domain::rubric::{AlertRule, OutputKind, Rubric};
use crate::stats::invalid::Invalid;
use crate::stats::kernel::version::Verdict as Word;
use crate::stats::many::budget::Budget;
use crate::stats::many::evalues::e_bh;
use crate::stats::stream::{Alarm, Finding as Found, Rules, Score, Stream, VersionFinding, Versions};
use crate::store::StoreError;
use crate::store::watch::{Scored, StreamRow};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What names a version of something.
pub const VERSIONED: [Dimension; 3] = [Dimension::PromptVersion, Dimension::Model, Dimension::ServiceVersion];

/// False discoveries among the version tests of one deployment, as a share.
const DEPLOYMENT_Q: f64 = 0.1;

/// Effective scores of the last day that it takes to call a drop over.
const RECOVERED_MIN: f64 = 30.0;

/// Which stream: a rubric version in one slice of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slice {
    /// The rubric.
    pub rubric: String,
    /// Its version.
    pub rubric_version: String,
    /// The values that its verdicts have in common.
    pub labels: BTreeMap<String, String>,
}

impl Slice {
    /// The stream of a verdict. Versions are not part of it: they are what is compared in it.
    #[must_use]
    pub fn of(verdict: &Scored, rule: &AlertRule) -> Self {
        let mut by = BTreeSet::from([Dimension::Feature, Dimension::Environment]);
        by.extend(rule.by.iter().filter(|d| !VERSIONED.contains(d)));
        let labels = by.iter().filter_map(|d| Some((d.as_str().to_owned(), d.of(&verdict.labels)?.to_owned())));
        Self {
            rubric: verdict.rubric.clone(),
            rubric_version: verdict.rubric_version.clone(),
            labels: labels.collect(),
        }
    }

    fn id(&self) -> String {
        let mut parts = vec![self.rubric.as_bytes(), self.rubric_version.as_bytes()];
        parts.extend(self.labels.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
        short_hash(&parts, 32)
    }
}

/// What is tested, and what the evidence says.
type VersionTests = Vec<(Dimension, VersionFinding)>;

/// A stream's state, as it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    kind: OutputKind,
    pub(super) scan: Stream,
    pub(super) versions: BTreeMap<Dimension, Versions>,
    /// Versions whose evidence has reached its level: it may fall again by chance, and stays reached.
    worse: BTreeSet<(Dimension, String)>,
    /// Mean loss after the drop, as it was when the scan first said so.
    dropped_to: Option<f64>,
    /// The version tests of the last look, and the numbers that they were made with; anew when verdicts have come.
    #[serde(skip)]
    tested: Option<([u64; 3], VersionTests)>,
}

/// A version test of a stream.
struct Tested {
    slice: Slice,
    kind: OutputKind,
    dimension: Dimension,
    found: VersionFinding,
    alpha: f64,
    /// Whether its evidence has reached its level before.
    latched: bool,
}

/// A version test of a stream, and whether its evidence has reached its level.
type Latched = (Slice, (Dimension, String), bool);

/// All streams of a project.
#[derive(Debug, Default)]
pub struct Streams {
    all: BTreeMap<Slice, State>,
    changed: BTreeSet<Slice>,
    left_out: u64,
}

impl Streams {
    /// Reads the stored streams. One that cannot be read begins anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(app: &App) -> Result<Self, StoreError> {
        let mut streams = Self::default();
        for row in app.store.watched_streams().await? {
            let labels = serde_json::from_value(row.stream).unwrap_or_default();
            let slice = Slice { rubric: row.rubric, rubric_version: row.rubric_version, labels };
            match unpack(&row.state) {
                Some(state) => drop(streams.all.insert(slice, state)),
                None => tracing::error!(rubric = slice.rubric, "a stored stream cannot be read and begins anew"),
            }
        }
        Ok(streams)
    }

    /// Forgets the streams with these ids.
    pub fn forget(&mut self, ids: &BTreeSet<String>) {
        self.all.retain(|slice, _| !ids.contains(&slice.id()));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The streams, by what they are.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.all.keys()
    }

    /// Counts a verdict. Beyond `max` streams new ones are left out.
    ///
    /// # Errors
    /// When its score or probability is out of range.
    pub fn count(&mut self, verdict: &Scored, rule: Option<&AlertRule>, max: usize) -> Result<(), Invalid> {
        let plain = AlertRule::default();
        let rule = rule.unwrap_or(&plain);
        let slice = Slice::of(verdict, rule);
        if !self.all.contains_key(&slice) && self.all.len() >= max {
            self.left_out += 1;
            if self.left_out.is_power_of_two() {
                let left_out = self.left_out;
                tracing::warn!(
                    left_out,
                    max,
                    "more streams than watch.streams_max: verdicts of new ones are not watched"
                );
            }
            return Ok(());
        }
        let state = self.all.entry(slice.clone()).or_default();
        state.kind = verdict.kind;
        state.tested = None;
        let loss = 1.0 - verdict.score;
        let mut score = Score::new(verdict.created_at, loss);
        score.inclusion = verdict.inclusion_probability;
        state.scan.add(&score)?;
        for dimension in VERSIONED.into_iter().filter(|d| rule.by.contains(d)) {
            if let Some(version) = dimension.of(&verdict.labels) {
                let versions = state.versions.entry(dimension).or_default();
                versions.count(version, verdict.created_at, (loss, verdict.inclusion_probability))?;
            }
        }
        self.changed.insert(slice);
        Ok(())
    }

    /// A verdict took the place of one that was counted. Version tests exchange the scores. The scan keeps what it has seen:
    /// evidence must not change afterwards, and of a trace it counts one verdict, the first that was scored.
    ///
    /// # Errors
    /// As [`Streams::count`].
    pub fn exchange(
        &mut self,
        old: &Scored,
        new: Option<&Scored>,
        rule: Option<&AlertRule>,
        max: usize,
    ) -> Result<(), Invalid> {
        let plain = AlertRule::default();
        let by = rule.unwrap_or(&plain);
        let slice = Slice::of(old, by);
        let Some(state) = self.all.get_mut(&slice) else {
            // Its stream was forgotten, or never had a place.
            return new.map_or(Ok(()), |new| self.count(new, rule, max));
        };
        state.tested = None;
        self.changed.insert(slice.clone());
        for dimension in VERSIONED.into_iter().filter(|d| by.by.contains(d)) {
            if let (Some(version), Some(versions)) = (dimension.of(&old.labels), state.versions.get_mut(&dimension)) {
                versions.uncount(version, old.created_at, (1.0 - old.score, old.inclusion_probability))?;
            }
        }
        let Some(new) = new else { return Ok(()) };
        if Slice::of(new, by) != slice {
            // Another stream has not seen this trace yet.
            return self.count(new, rule, max);
        }
        for dimension in VERSIONED.into_iter().filter(|d| by.by.contains(d)) {
            if let Some(version) = dimension.of(&new.labels) {
                let versions = state.versions.entry(dimension).or_default();
                versions.count(version, new.created_at, (1.0 - new.score, new.inclusion_probability))?;
            }
        }
        Ok(())
    }

    /// Streams that are not stored as they are.
    ///
    /// # Errors
    /// When a state cannot be written, which would be a number that JSON does not have.
    pub fn changed(&self) -> Result<Vec<StreamRow>, Invalid> {
        let row = |slice: &Slice| {
            let state = self.all.get(slice)?;
            Some(pack(state).map(|state| StreamRow {
                id: slice.id(),
                rubric: slice.rubric.clone(),
                rubric_version: slice.rubric_version.clone(),
                stream: serde_json::to_value(&slice.labels).unwrap_or_default(),
                state,
            }))
        };
        self.changed.iter().filter_map(row).collect()
    }

    /// All are stored as they are now.
    pub fn stored(&mut self) {
        self.changed.clear();
    }

    /// Closes the hours that are over and gives what the evidence says is wrong now.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn look(
        &mut self,
        config: &Watch,
        rubrics: &[Arc<Rubric>],
        now: DateTime<Utc>,
    ) -> Result<Vec<Finding>, Invalid> {
        let alphas = self.alphas(config, rubrics)?;
        let mut findings = Vec::new();
        let mut tests: Vec<Tested> = Vec::new();
        for ((slice, state), alpha) in self.all.iter_mut().zip(alphas) {
            let rubric = rubrics.iter().find(|r| r.name == slice.rubric && r.version == slice.rubric_version);
            // Verdicts of a rubric that is gone, or of a version before, are nobody's trouble any more.
            let Some(rubric) = rubric else { continue };
            let rules = Rules {
                delta: rubric.alert.tolerance().unwrap_or(config.tolerance),
                alpha_scan: alpha,
                alpha_version: config.version_alpha,
                overdispersion: true,
                warm_up_scores: config.warm_up_scores,
                warm_up_days: config.warm_up_days,
            };
            let found = state.scan.close(now, &rules)?;
            if let Found::Alarm(alarm) = found {
                if state.is_recovered(&alarm, rules.delta, now) {
                    state.scan.restart(now);
                    state.dropped_to = None;
                    self.changed.insert(slice.clone());
                } else {
                    findings.push(of_scan(slice, state, &alarm, rubric, now));
                }
            }
            for (dimension, found) in state.version_tests(&rules)? {
                let latched = state.worse.contains(&(dimension, found.version.clone()));
                let (slice, kind, alpha) = (slice.clone(), state.kind, rules.alpha_version);
                tests.push(Tested { slice, kind, dimension, found, alpha, latched });
            }
        }
        let (found, latched) = of_deployments(tests, rubrics, now)?;
        findings.extend(found);
        self.latch(latched);
        Ok(findings)
    }

    /// Keeps which version tests have reached their level.
    fn latch(&mut self, tests: Vec<Latched>) {
        for (slice, version, is_worse) in tests {
            let Some(state) = self.all.get_mut(&slice) else { continue };
            let moved = if is_worse { state.worse.insert(version) } else { state.worse.remove(&version) };
            if moved {
                self.changed.insert(slice);
            }
        }
    }

    /// Each stream's part of the false-alarm budget: a rubric's own, or an equal part of everybody's.
    fn alphas(&self, config: &Watch, rubrics: &[Arc<Rubric>]) -> Result<Vec<f64>, Invalid> {
        let own = |slice: &Slice| {
            let rubric = rubrics.iter().find(|r| r.name == slice.rubric && r.version == slice.rubric_version);
            rubric.map(|r| (r.name.clone(), r.alert.false_alarms_per_month))
        };
        let mut groups: BTreeMap<Option<String>, (f64, Vec<usize>)> = BTreeMap::new();
        for (at, slice) in self.all.keys().enumerate() {
            match own(slice) {
                Some((name, Some(budget))) => groups.entry(Some(name)).or_insert((budget, Vec::new())).1.push(at),
                Some((_, None)) => {
                    groups.entry(None).or_insert((config.false_alarms_per_month, Vec::new())).1.push(at);
                }
                // Nobody watches it, so it gets nothing of the budget.
                None => {}
            }
        }
        let mut alphas = vec![f64::MIN_POSITIVE; self.all.len()];
        for (per_month, members) in groups.into_values() {
            let budget = Budget { per_month, ..Budget::default() };
            let shares = budget.shares(&vec![1.0; members.len()])?;
            for (at, share) in members.into_iter().zip(shares) {
                alphas[at] = share.max(f64::MIN_POSITIVE);
            }
        }
        Ok(alphas)
    }

    /// A person has closed the alert of a finding: its stream takes what came since as the new normal.
    pub fn acknowledge(&mut self, finding: &Finding) {
        let of = |slice: &Slice| {
            Some(slice.rubric.as_str()) == finding.rubric.as_deref()
                && Some(slice.rubric_version.as_str()) == finding.rubric_version.as_deref()
                && slice.labels == finding.stream
        };
        if let Some((slice, state)) = self.all.iter_mut().find(|(slice, _)| of(slice)) {
            state.scan.acknowledge();
            state.dropped_to = None;
            self.changed.insert(slice.clone());
        }
    }
}

/// Version tests that are sure enough, each by itself and among all tests of the same deployment, and which of all are. One that
/// was sure stays so until it is shown that the version is not worse: what has reached its level has, at whatever look.
fn of_deployments(
    tests: Vec<Tested>,
    rubrics: &[Arc<Rubric>],
    now: DateTime<Utc>,
) -> Result<(Vec<Finding>, Vec<Latched>), Invalid> {
    let mut families: BTreeMap<(Dimension, String), Vec<Tested>> = BTreeMap::new();
    for test in tests {
        families.entry((test.dimension, test.found.version.clone())).or_default().push(test);
    }
    let (mut findings, mut latched) = (Vec::new(), Vec::new());
    for family in families.into_values() {
        let evidence: Vec<f64> = family.iter().map(|t| t.found.comparison.log_e_worse).collect();
        let among_all = e_bh(&evidence, DEPLOYMENT_Q)?;
        for (test, rejected) in family.iter().zip(among_all) {
            let rubric = rubrics.iter().find(|r| r.name == test.slice.rubric);
            let word = test.found.comparison.verdict;
            let is_worse = (rejected && word == Word::Worse) || (test.latched && word != Word::NotWorse);
            latched.push((test.slice.clone(), (test.dimension, test.found.version.clone()), is_worse));
            if let Some(rubric) = rubric.filter(|_| is_worse) {
                let what = (test.kind, test.dimension);
                findings.push(of_version(&test.slice, what, &test.found, (rubric, test.alpha), now));
            }
        }
    }
    Ok((findings, latched))
}

fn pack(state: &State) -> Result<Vec<u8>, Invalid> {
    const LEVEL: i32 = 3;
    let unwritable = Invalid { what: "a number in a stream's state", found: f64::NAN, wanted: "a number" };
    let text = serde_json::to_vec(state).map_err(|_| unwritable.clone())?;
    zstd::encode_all(text.as_slice(), LEVEL).map_err(|_| unwritable)
}

fn unpack(bytes: &[u8]) -> Option<State> {
    serde_json::from_slice(&zstd::decode_all(bytes).ok()?).ok()
}

impl State {
    /// Whether the last day is as good as before: surely better than half of the fall, and no worse than chance allows. Against
    /// the level before alone a day's interval is too wide, so that nothing would ever be over.
    fn is_recovered(&mut self, alarm: &Alarm, delta: f64, now: DateTime<Utc>) -> bool {
        let dropped_to = *self.dropped_to.get_or_insert(alarm.after.rate);
        let recent = self.scan.recent(now, 24);
        recent.n_eff >= RECOVERED_MIN
            && recent.high <= f64::midpoint(alarm.before.rate, dropped_to)
            && recent.rate <= alarm.before.high + delta
    }

    /// Each version against those before it; computed anew only when something has come, since it costs milliseconds.
    fn version_tests(&mut self, rules: &Rules) -> Result<VersionTests, Invalid> {
        let numbers = [rules.delta, rules.alpha_version, self.scan.phi()].map(f64::to_bits);
        if let Some((_, tested)) = self.tested.as_ref().filter(|(with, _)| *with == numbers) {
            return Ok(tested.clone());
        }
        let mut tested = Vec::new();
        for (dimension, versions) in &self.versions {
            let found = versions.compare(rules.delta, rules.alpha_version, self.scan.phi())?;
            tested.extend(found.into_iter().map(|found| (*dimension, found)));
        }
        self.tested = Some((numbers, tested.clone()));
        Ok(tested)
    }

    /// The form of the verdicts' output.
    pub(super) fn kind(&self) -> OutputKind {
        self.kind
    }
}

#[cfg(test)]
#[path = "streams/tests.rs"]
mod tests;
