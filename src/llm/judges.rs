//! Every configured judge: its model, its limit, its price.
//!
//! Built once by `app`, used by `pipeline::evaluate`. Its rule: a request waits for its place under the judge's limit before it
//! is sent, and what it cost is computed here. The way not taken: one limiter for all judges, where a slow one holds up
//! the others.

use super::client::{ClientError, OpenAiModel};
use super::prices;
use crate::config::{Judge, Price};
use crate::domain::chat::{ChatError, ChatModel};
use crate::domain::message::Usage;
use crate::domain::rung::Traits;
use chrono::{DateTime, Utc};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

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
    limiter: Option<DefaultDirectRateLimiter>,
    /// When a failure was last logged, in Unix seconds.
    noted_at: AtomicI64,
    /// Jobs in a row whose replies could not be read.
    unreadable: AtomicU32,
    /// What is known of the endpoint, and whether that is not remembered in the database yet.
    traits: RwLock<(Traits, bool)>,
}

impl JudgeHandle {
    /// A judge with a model that is already there (tests bring their own).
    #[must_use]
    pub fn new(name: &str, config: Judge, model: Arc<dyn ChatModel>) -> Self {
        let price = config.price.or_else(|| prices::of(&config.model));
        let limiter = config.requests_per_minute.and_then(NonZeroU32::new).map(|rpm| {
            // Evenly spaced, with a burst of one second's worth: providers count in windows shorter than a minute.
            let gap = Duration::from_secs(60) / rpm.get();
            let burst = NonZeroU32::new((rpm.get() / 60).max(1)).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::with_period(gap).expect("a minute divided is not zero").allow_burst(burst))
        });
        Self {
            name: name.to_owned(),
            config,
            model,
            price,
            limiter,
            noted_at: AtomicI64::new(0),
            unreadable: AtomicU32::new(0),
            traits: RwLock::default(),
        }
    }

    /// What is known of the endpoint at `now`.
    #[must_use]
    pub fn traits(&self, now: DateTime<Utc>) -> Traits {
        self.traits.read().unwrap_or_else(PoisonError::into_inner).0.at(now)
    }

    /// Learns something; it is remembered at the next upkeep.
    pub fn learn(&self, traits: &Traits) {
        *self.traits.write().unwrap_or_else(PoisonError::into_inner) = (traits.clone(), true);
        tracing::info!(judge = self.name, rung = traits.rung.as_str(), refused = ?traits.refused, "learnt what the endpoint takes");
    }

    /// Takes over what another process has learnt, if it is newer.
    pub fn remember(&self, traits: &Traits) {
        let mut known = self.traits.write().unwrap_or_else(PoisonError::into_inner);
        if traits.learnt_at > known.0.learnt_at {
            *known = (traits.clone(), false);
        }
    }

    /// What was learnt here and is not remembered yet; asking marks it as remembered.
    pub fn take_news(&self) -> Option<Traits> {
        let mut known = self.traits.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut known.1).then(|| known.0.clone())
    }

    /// The endpoint's address, without user and password.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let url = self.config.base_url.as_deref().unwrap_or_default();
        match (url.find("://"), url.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &url[..scheme], &url[at + 1..]),
            _ => url.to_owned(),
        }
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
    }

    /// Notes a job whose replies could not be read; true when that is the third in a row.
    pub fn read_badly(&self) -> bool {
        const IN_A_ROW: u32 = 3;
        let count = self.unreadable.fetch_add(1, Ordering::Relaxed) + 1;
        if count >= IN_A_ROW {
            self.read_well();
        }
        count >= IN_A_ROW
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// When that would take longer than `most`: the wait until a place may be free.
    pub async fn admit(&self, most: Duration) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let start = tokio::time::Instant::now();
        loop {
            match limiter.check() {
                Ok(()) => return Ok(()),
                Err(busy) => {
                    let wait =
                        busy.wait_time_from(governor::clock::Clock::now(&governor::clock::DefaultClock::default()));
                    if start.elapsed() + wait > most {
                        return Err(wait);
                    }
                    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
                }
            }
        }
    }

    /// What a request cost, in US dollars; zero when the price is unknown.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> f64 {
        self.price.map_or(0.0, |price| {
            (usage.input_tokens as f64 * price.input_usd_per_million
                + usage.output_tokens as f64 * price.output_usd_per_million)
                / 1e6
        })
    }
}

/// All judges and panels.
#[derive(Debug, Default)]
pub struct Judges {
    judges: BTreeMap<String, Arc<JudgeHandle>>,
    panels: BTreeMap<String, Vec<String>>,
}

impl Judges {
    /// Sets up every configured judge.
    ///
    /// # Errors
    /// When one of them cannot be set up.
    pub fn build(
        judges: &BTreeMap<String, Judge>,
        panels: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, ClientError> {
        let mut built = BTreeMap::new();
        for (name, config) in judges {
            let model = Arc::new(OpenAiModel::new(name, config)?);
            built.insert(name.clone(), Arc::new(JudgeHandle::new(name, config.clone(), model)));
        }
        Ok(Self { judges: built, panels: panels.clone() })
    }

    /// The judge of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<JudgeHandle>> {
        self.judges.get(name)
    }

    /// All judges, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<JudgeHandle>> {
        self.judges.values()
    }

    /// Panels: name to the judges' names.
    #[must_use]
    pub fn panels(&self) -> &BTreeMap<String, Vec<String>> {
        &self.panels
    }
}
