//! Every configured judge: its model, its limit, its price, and whether it may be asked at all.
//!
//! Built once by `app`, used by `pipeline`. Its rule: judges that share an endpoint and model share a pacer, and all at one
//! endpoint share a circuit, since that is what the provider counts; what a request cost is computed here. The way not
//! taken: one limiter for all judges, where a slow one holds up the others.

use super::circuit::Circuit;
use super::client::{ClientError, OpenAiModel};
use super::pacer::{Limits, Pacer};
use super::prices;
use crate::config::{Judge, Price};
use crate::domain::chat::{ChatError, ChatModel};
use crate::domain::message::Usage;
use crate::domain::pause::Pause;
use crate::domain::rung::Traits;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The built-in list price of a model, where there is one.
#[must_use]
pub fn list_price(model: &str) -> Option<Price> {
    prices::of(model)
}

/// One judge, ready to be asked.
#[derive(Debug)]
pub struct JudgeHandle {
    /// Its name in the configuration.
    pub name: String,
    /// Its configuration.
    pub config: Judge,
    /// What answers.
    pub model: Arc<dyn ChatModel>,
    /// Its price; `None` when neither the configuration nor the list knows it.
    pub price: Option<Price>,
    /// When requests may be sent.
    pub pacer: Arc<Pacer>,
    /// Whether its endpoint is left alone.
    pub circuit: Arc<Circuit>,
    /// When a failure was last logged, in Unix seconds.
    noted_at: AtomicI64,
    /// Jobs in a row whose replies could not be read.
    unreadable: AtomicU32,
    /// Whether a reply was ever read well.
    proven: AtomicBool,
    /// Mean tokens of an answer, in thousandths, for estimates.
    answer_tokens: AtomicU32,
    /// What is known of the endpoint, and whether that is not remembered in the database yet.
    traits: RwLock<(Traits, bool)>,
    /// Why it is not asked, and whether that is not in the database yet.
    pause: RwLock<(Option<Pause>, bool)>,
}

impl JudgeHandle {
    /// A judge with a model that is already there.
    #[must_use]
    pub fn new(
        name: &str,
        config: Judge,
        model: Arc<dyn ChatModel>,
        (pacer, circuit): (Arc<Pacer>, Arc<Circuit>),
    ) -> Self {
        let price = config.price.or_else(|| prices::of(&config.model));
        Self {
            name: name.to_owned(),
            config,
            model,
            price,
            pacer,
            circuit,
            noted_at: AtomicI64::new(0),
            unreadable: AtomicU32::new(0),
            proven: AtomicBool::new(false),
            answer_tokens: AtomicU32::new(200_000),
            traits: RwLock::default(),
            pause: RwLock::default(),
        }
    }

    /// What is known of the endpoint at `now`.
    #[must_use]
    pub fn traits(&self, now: DateTime<Utc>) -> Traits {
        self.traits.read().unwrap_or_else(PoisonError::into_inner).0.at(now)
    }

    /// Learns something; it is remembered at the next upkeep. What others have learnt meanwhile is kept.
    pub fn learn(&self, traits: &Traits) {
        let mut known = self.traits.write().unwrap_or_else(PoisonError::into_inner);
        let merged = known.0.merged(traits);
        *known = (merged, true);
        tracing::info!(judge = self.name, rung = traits.rung.as_str(), refused = ?traits.refused, "learnt what the endpoint takes");
    }

    /// Takes over what another process has learnt, if it is newer.
    pub fn remember(&self, traits: &Traits) {
        let mut known = self.traits.write().unwrap_or_else(PoisonError::into_inner);
        if traits.learnt_at > known.0.learnt_at {
            *known = (traits.clone(), false);
        }
    }

    /// What was learnt here and is not remembered yet.
    #[must_use]
    pub fn news(&self) -> Option<Traits> {
        let known = self.traits.read().unwrap_or_else(PoisonError::into_inner);
        known.1.then(|| known.0.clone())
    }

    /// This news is remembered; newer news is not.
    pub fn remembered(&self, news: &Traits) {
        let mut known = self.traits.write().unwrap_or_else(PoisonError::into_inner);
        known.1 &= known.0 != *news;
    }

    /// Why it is not asked at `now`; when it is time for a probe, one caller is let through.
    #[must_use]
    pub fn paused(&self, now: DateTime<Utc>) -> Option<Pause> {
        self.pause.read().unwrap_or_else(PoisonError::into_inner).0.as_ref()?;
        let mut pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        let current = pause.0.as_mut()?;
        if current.probe(now) {
            // Others shall know that somebody is trying.
            pause.1 = true;
            return None;
        }
        Some(current.clone())
    }

    /// The pause, without taking a probe.
    #[must_use]
    pub fn pause_now(&self) -> Option<Pause> {
        self.pause.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Pauses it for a reason that does not pass by itself; a probe tries it again later.
    pub fn pause(&self, reason: &str, now: DateTime<Utc>) {
        let mut pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        if pause.0.is_none() {
            tracing::error!(
                judge = self.name,
                reason,
                "judge paused; its jobs wait, and it is tried again in a minute"
            );
        }
        pause.0 = Some(Pause::again(pause.0.take(), reason, now));
        pause.1 = true;
    }

    /// It answered: a pause that was not a person's is over.
    pub fn resume(&self) {
        if self.pause.read().unwrap_or_else(PoisonError::into_inner).0.is_none() {
            return;
        }
        let mut pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        if pause.0.take_if(|p| !p.by_person).is_some() {
            pause.1 = true;
            tracing::info!(judge = self.name, "judge answers again, the pause is over");
        }
    }

    /// A change of the pause that the database does not have yet.
    #[must_use]
    pub fn pause_news(&self) -> Option<Option<Pause>> {
        let pause = self.pause.read().unwrap_or_else(PoisonError::into_inner);
        pause.1.then(|| pause.0.clone())
    }

    /// This change is stored; a later one is not.
    pub fn pause_stored(&self, news: Option<&Pause>) {
        let mut pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        pause.1 &= pause.0.as_ref() != news;
    }

    /// Takes over what the database says about the pause, unless there is news of our own.
    pub fn set_pause(&self, stored: Option<&Pause>) {
        let mut pause = self.pause.write().unwrap_or_else(PoisonError::into_inner);
        if !pause.1 {
            pause.0 = stored.cloned();
        }
    }

    /// The endpoint's address, without user and password.
    #[must_use]
    pub fn endpoint(&self) -> String {
        endpoint(&self.config)
    }

    /// What a vote of it depends on, besides the question: endpoint, model and parameters.
    #[must_use]
    pub fn parameters(&self) -> serde_json::Value {
        let config = &self.config;
        serde_json::json!({
            "endpoint": self.endpoint(), "model": config.model, "temperature": config.temperature, "top_p": config.top_p,
            "seed": config.seed, "reasoning_effort": config.reasoning_effort, "logprobs": config.logprobs,
            "output_tokens_max": config.output_tokens_max(),
        })
    }

    /// Says in the log that the judge fails, at most every ten seconds; the text has no words of prompts or replies.
    pub fn note(&self, error: &ChatError, now: DateTime<Utc>) {
        const EVERY_SECONDS: i64 = 10;
        let (last, seconds) = (self.noted_at.load(Ordering::Relaxed), now.timestamp());
        if seconds - last >= EVERY_SECONDS
            && self.noted_at.compare_exchange(last, seconds, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::warn!(judge = self.name, %error, "a judge fails; its jobs are tried again");
        }
    }

    /// Notes a reply that could be read.
    pub fn read_well(&self) {
        self.unreadable.store(0, Ordering::Relaxed);
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether a reply was ever read well, so that a vague refusal is about one request and not about the form.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Notes a job whose replies could not be read; true when that is the third in a row.
    pub fn read_badly(&self) -> bool {
        const IN_A_ROW: u32 = 3;
        let count = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= IN_A_ROW {
            self.unreadable.store(0, Ordering::Relaxed);
        }
        count >= IN_A_ROW
    }

    /// About how many tokens a request will use.
    #[must_use]
    pub fn estimate(&self, bytes: usize) -> u64 {
        let (input, output) = self.estimated(bytes);
        input + output
    }

    /// About how many tokens of input and output a request will use: four bytes each in the prompt, and the usual answer.
    #[must_use]
    pub fn estimated(&self, bytes: usize) -> (u64, u64) {
        (bytes as u64 / 4, u64::from(self.answer_tokens.load(Ordering::Relaxed) / 1_000))
    }

    /// Learns from an answer how long they are.
    pub fn used(&self, usage: &Usage) {
        let tokens = u32::try_from(usage.output_tokens.min(1_000_000)).unwrap_or(u32::MAX);
        let before = self.answer_tokens.load(Ordering::Relaxed);
        self.answer_tokens.store(before - before / 16 + tokens.saturating_mul(1_000) / 16, Ordering::Relaxed);
    }

    /// What a request cost, in US dollars; zero when the price is unknown.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> f64 {
        self.price.map_or(0.0, |price| {
            let cached = usage.cached_input_tokens.min(usage.input_tokens);
            let cached_price = price.cached_input_usd_per_million.unwrap_or(price.input_usd_per_million);
            ((usage.input_tokens - cached) as f64 * price.input_usd_per_million
                + cached as f64 * cached_price
                + usage.output_tokens as f64 * price.output_usd_per_million)
                / 1e6
        })
    }
}

fn endpoint(config: &Judge) -> String {
    let url = config.base_url.as_deref().unwrap_or_default();
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &url[..scheme], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

/// All judges.
#[derive(Debug, Default)]
pub struct Judges {
    by_name: BTreeMap<String, Arc<JudgeHandle>>,
    pacers: BTreeMap<(String, String), Arc<Pacer>>,
}

impl Judges {
    /// Sets up every configured judge. `shared` = other workers use the same limits.
    ///
    /// # Errors
    /// When one of them cannot be set up.
    pub fn build(judges: &BTreeMap<String, Judge>, shared: bool) -> Result<Self, ClientError> {
        let mut built = Self::default();
        let mut circuits: BTreeMap<String, Arc<Circuit>> = BTreeMap::new();
        for (name, config) in judges {
            let key = (endpoint(config), config.model.clone());
            let limits = limits_of(judges, &key);
            let pacer = built.pacers.entry(key.clone()).or_insert_with(|| Arc::new(Pacer::new(limits, shared)));
            let circuit = circuits.entry(key.0).or_default();
            let model = Arc::new(OpenAiModel::new(name, config, Arc::clone(pacer))?);
            let way = (Arc::clone(pacer), Arc::clone(circuit));
            built.by_name.insert(name.clone(), Arc::new(JudgeHandle::new(name, config.clone(), model, way)));
        }
        Ok(built)
    }

    /// The judge of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<JudgeHandle>> {
        self.by_name.get(name)
    }

    /// All judges, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<JudgeHandle>> {
        self.by_name.values()
    }

    /// The pacers with their endpoint and model.
    pub fn pacers(&self) -> impl Iterator<Item = (&(String, String), &Arc<Pacer>)> {
        self.pacers.iter()
    }
}

/// The smallest limits that judges of one endpoint and model are configured with.
fn limits_of(judges: &BTreeMap<String, Judge>, key: &(String, String)) -> Limits {
    let same = || judges.values().filter(|j| (endpoint(j), &j.model) == (key.0.clone(), &key.1));
    Limits {
        requests: same().filter_map(|j| j.requests_per_minute).min().map(f64::from),
        tokens: same().filter_map(|j| j.tokens_per_minute).min().map(f64::from),
    }
}
