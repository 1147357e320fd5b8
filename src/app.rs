//! `App`: the one struct of dependencies, built once from the configuration and passed down.
//!
//! Built by `cli`, used by `pipeline` and `server`. Its rule: everything a step needs is here or is an argument. The way not
//! taken: statics, which two Apps in one test process would share.

use crate::checks::redact::Redactor;
use crate::config::Config;
use crate::domain::alert::notice::Channel;
use crate::domain::clock::Clock;
use crate::domain::event::Sink;
use crate::domain::panel::PanelModel;
use crate::domain::rubric::Rubric;
use crate::domain::step::Step;
use crate::judge::panel::Known;
use crate::judge::prompt::Templates;
use crate::llm::client::ClientError;
use crate::llm::judges::Judges;
use crate::rubrics::catalog::{Catalog, CatalogError, Entry, State};
use crate::runtime::metrics::Metrics;
use crate::sinks::datadog::Gauges;
use crate::sinks::{self, SinkError};
use crate::store::ledger::Ledger;
use crate::store::{Store, StoreError};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use tokio::sync::Notify;

/// What judging needs, with or without a database.
#[derive(Debug)]
pub struct Bench {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Takes personal data out of traces.
    pub redactor: Redactor,
    /// The judges.
    pub judges: Judges,
    /// The rubrics.
    pub rubrics: ArcSwap<Catalog>,
    /// The metrics.
    pub metrics: Metrics,
    /// The database; absent where files are judged.
    pub store: Option<Store>,
    /// The budgets.
    pub ledger: Ledger,
    /// The rubrics' prompts, parsed.
    pub templates: Templates,
    /// What labels have taught about panels.
    pub panel_models: ArcSwap<PanelModels>,
    /// The judges' configured weights.
    pub weights: BTreeMap<String, f64>,
}

/// Panel models by rubric and version.
pub type PanelModels = HashMap<(String, String), PanelModel>;

/// Tells an idle step of the same process that there is work, before its next poll.
#[derive(Debug, Default)]
pub struct Wake {
    /// Spans were committed.
    pub spans: Notify,
    /// Jobs were enqueued.
    pub jobs: Notify,
    /// Verdicts were stored.
    pub events: Notify,
    /// Alerts have changed.
    pub alerts: Notify,
}

/// Everything.
#[derive(Debug)]
pub struct App {
    /// What judging needs.
    pub bench: Bench,
    /// The database.
    pub store: Store,
    /// Where verdicts go.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// Where gauges go, if anywhere.
    pub gauges: Option<Gauges>,
    /// Who is told of alerts, by the names of the configuration.
    pub channels: BTreeMap<String, Arc<dyn Channel>>,
    /// Wake-up calls.
    pub wake: Wake,
    /// Spans and jobs waiting, as last counted.
    pub backlog: AtomicI64,
    /// Whether a person has paused the queue.
    pub queue_paused: AtomicBool,
    /// Deployments that this process has noted from traces.
    pub versions_seen: std::sync::Mutex<HashSet<uuid::Uuid>>,
    /// The step of sampling that was last used.
    pub step: ArcSwap<Step>,
    /// This process, among the workers: they share limits, and take over a dead one's jobs.
    pub worker: uuid::Uuid,
    /// Rounds of the watch that this process has finished: what was counted in one has been looked at when it is over.
    pub watch_rounds: AtomicU64,
    /// Whether other workers know of this one: before that it claims nothing, since nobody would take its jobs over.
    pub signed_on: AtomicBool,
}

/// Why there is no App.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The rubrics.
    #[error(transparent)]
    Rubrics(#[from] CatalogError),
    /// A judge.
    #[error(transparent)]
    Judges(#[from] ClientError),
    /// A sink.
    #[error(transparent)]
    Sinks(#[from] SinkError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bench {
    /// Loads the rubrics and sets up the judges.
    ///
    /// # Errors
    /// When no rubric can be used or a judge cannot be set up.
    pub fn build(config: Config, clock: Arc<dyn Clock>, store: Option<Store>) -> Result<Self, AppError> {
        let names: Vec<&str> = config.judges.keys().map(String::as_str).collect();
        let catalog = Catalog::load(&config.rubrics.dir, &config.panels, &names)?;
        let bench = Self::without_rubrics(config, clock, store)?;
        bench.take_rubrics(catalog);
        Ok(bench)
    }

    /// A bench with judges but no rubrics, for checks by themselves.
    ///
    /// # Errors
    /// When a judge cannot be set up.
    pub fn without_rubrics(config: Config, clock: Arc<dyn Clock>, store: Option<Store>) -> Result<Self, AppError> {
        let judges = Judges::build(&config.judges, store.is_some())?;
        let weights = config.judges.iter().map(|(name, judge)| (name.clone(), judge.weight)).collect();
        Ok(Self {
            redactor: Redactor::new(config.redaction.policy(), config.redaction.key_bytes()),
            judges,
            rubrics: ArcSwap::default(),
            metrics: Metrics::default(),
            clock,
            ledger: Ledger::new(config.budgets.clone(), store.clone()),
            store,
            templates: Templates::default(),
            panel_models: ArcSwap::default(),
            weights,
            config,
        })
    }

    /// Where votes are cached, if they are.
    #[must_use]
    pub fn cache(&self) -> Option<&Store> {
        self.store.as_ref().filter(|_| self.config.work.cache_seconds > 0)
    }

    /// What is known about the judges of a rubric's panel.
    #[must_use]
    pub fn known<'a>(&'a self, models: &'a PanelModels, rubric: &Rubric) -> Known<'a> {
        let model = models.get(&(rubric.name.clone(), rubric.version.clone()));
        Known { weights: &self.weights, model }
    }

    /// Judges by these rubrics from now on. Metrics show their states; the log tells what has changed.
    pub fn take_rubrics(&self, next: Catalog) {
        let before = self.rubrics.swap(Arc::new(next));
        let now = self.rubrics.load();
        for name in before.entries().keys().filter(|name| !now.entries().contains_key(*name)) {
            tracing::info!(rubric = name, "rubric is gone");
            for word in State::WORDS {
                drop(self.metrics.rubric_state.remove_label_values(&[name.as_str(), word]));
            }
            drop(self.metrics.rubric_judging.remove_label_values(&[name.as_str()]));
        }
        for (name, entry) in now.entries() {
            self.show(name, entry);
            self.tell((name, entry), before.entries().get(name), before.entries().is_empty());
        }
    }

    fn show(&self, name: &str, entry: &Entry) {
        for word in State::WORDS {
            let value = f64::from(u8::from(word == entry.state.as_str()));
            self.metrics.rubric_state.with_label_values(&[name, word]).set(value);
        }
        let judging = f64::from(u8::from(entry.judging.is_some()));
        self.metrics.rubric_judging.with_label_values(&[name]).set(judging);
    }

    fn tell(&self, (name, entry): (&str, &Entry), before: Option<&Entry>, is_start: bool) {
        let version = |entry: &Entry| entry.judging.as_ref().map(|r| r.version.clone());
        if before.is_some_and(|b| b.state == entry.state && version(b) == version(entry)) {
            return;
        }
        let (state, why, judging) = (entry.state.as_str(), entry.why(), version(entry));
        let counted = |result: &str| {
            if before.is_some() {
                self.metrics.rubric_changes.with_label_values(&[name, result]).inc();
            }
        };
        match &entry.state {
            State::Active => {
                counted("taken");
                // At a start all of them are new, and that is no news.
                if before.is_some() || !is_start {
                    tracing::info!(
                        rubric = name,
                        version = judging,
                        from = before.and_then(version),
                        "rubric is taken"
                    );
                }
            }
            State::Paused => {
                counted("taken");
                tracing::info!(rubric = name, "rubric is paused");
            }
            State::NoJudge(_) => tracing::warn!(rubric = name, why, "rubric does not judge"),
            State::FailingTests(_) | State::Unparsable(_) => {
                counted("refused");
                tracing::error!(rubric = name, state, why, judging, "rubric file is not taken");
            }
        }
    }
}

impl App {
    /// Puts everything together and stores the rubrics' versions.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn build(config: Config, store: Store, clock: Arc<dyn Clock>) -> Result<Arc<Self>, AppError> {
        let sinks = sinks::build(&config)?;
        let channels = sinks::alerts::build(&config).map_err(SinkError::Channel)?;
        let gauges = Gauges::build(&config.datadog)?;
        let bench = Bench::build(config, clock, Some(store.clone()))?;
        let app = Self {
            bench,
            store,
            sinks,
            gauges,
            channels,
            wake: Wake::default(),
            backlog: AtomicI64::new(0),
            queue_paused: AtomicBool::new(false),
            versions_seen: std::sync::Mutex::default(),
            step: ArcSwap::default(),
            worker: uuid::Uuid::new_v4(),
            watch_rounds: AtomicU64::new(0),
            signed_on: AtomicBool::new(false),
        };
        let catalog = app.bench.rubrics.load_full();
        let active: Vec<_> = catalog.active().iter().map(AsRef::as_ref).collect();
        app.store.put_rubrics(&active, app.bench.clock.now()).await?;
        Ok(Arc::new(app))
    }

    /// The sinks' names.
    #[must_use]
    pub fn sink_names(&self) -> Vec<&'static str> {
        self.sinks.iter().map(|sink| sink.name()).collect()
    }
}
