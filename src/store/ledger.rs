//! The ledger through which every call is paid.
//!
//! Asked by `pipeline::evaluate` before and after each call, by `pipeline::steps` for the rates that are left, kept up by
//! `pipeline::upkeep`. Its rule: what a call may cost at most is reserved before it and trued up after; a worker reserves in
//! advances of a fiftieth of the budget, so that the row is not written for each call, and no worker can spend what another
//! has reserved. Near the end less is sampled, and the rate goes into the inclusion probability. The way not taken: counting
//! what was spent afterwards, by which time it is spent.

use super::budget_spend::{Amount, Period, Spend};
use super::{Store, StoreError};
use crate::config::{Budget, Per};
use crate::domain::step::BudgetRate;
use crate::domain::verdict::TraceLabels;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Part of a budget that a worker reserves at once.
const ADVANCE: f64 = 0.02;

/// The lowest rate to which sampling goes near the end of a budget; never nothing, which would bias every estimate.
const RATE_MIN: f64 = 1.0 / 64.0;

/// Budgets near their end that a step knows of at most; for further ones only reserving says no.
const RATES_MAX: usize = 1_000;

/// What a call is paid from: a budget, by its place in the configuration, for a subject in a period.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    budget: usize,
    subject: String,
    period: Period,
    starts_at: DateTime<Utc>,
}

/// What this worker has of an account.
#[derive(Debug, Clone, Copy, Default)]
struct Purse {
    advanced: Amount,
    used: Amount,
    /// Spent by all workers, as last read.
    all: Amount,
    busy: bool,
}

/// What was reserved for one call.
#[derive(Debug, Clone, Default)]
pub struct Reservation {
    accounts: Vec<Account>,
    amount: Amount,
}

/// Why nothing could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A budget has not enough left; which, in words.
    #[error("{0}")]
    Spent(String),
    /// The database cannot be asked, so nobody knows.
    #[error("the budget cannot be asked")]
    Unasked(#[source] StoreError),
}

/// The ledger of one process.
#[derive(Debug, Default)]
pub struct Ledger {
    budgets: Vec<Budget>,
    store: Option<Store>,
    purses: Mutex<HashMap<Account, Purse>>,
    /// Taken while an advance is asked for, so that one statement serves all that wait.
    asking: tokio::sync::Mutex<()>,
}

impl Ledger {
    /// A ledger over these budgets; without a store it counts for this process alone.
    #[must_use]
    pub fn new(budgets: Vec<Budget>, store: Option<Store>) -> Self {
        Self { budgets, store, ..Self::default() }
    }

    fn purses(&self) -> MutexGuard<'_, HashMap<Account, Purse>> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accounts that a call for this rubric and trace is paid from.
    fn accounts(&self, rubric: &str, labels: &TraceLabels, now: DateTime<Utc>) -> Vec<Account> {
        let mut accounts = Vec::new();
        for (n, budget) in self.budgets.iter().enumerate() {
            let subject = match budget.per {
                Per::All => Some(""),
                Per::Rubric => Some(rubric),
                Per::Feature => labels.feature.as_deref(),
                Per::Tenant => labels.tenant.as_deref(),
            };
            let Some(subject) = subject.filter(|s| budget.per == Per::All || budget.only.accept(Some(s))) else {
                continue;
            };
            for period in Period::ALL {
                if limit(budget, period).is_some() {
                    let starts_at = period.start(now);
                    accounts.push(Account { budget: n, subject: subject.to_owned(), period, starts_at });
                }
            }
        }
        accounts
    }

    /// Reserves what a call may cost at most.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn reserve(
        &self,
        rubric: &str,
        labels: &TraceLabels,
        amount: Amount,
        now: DateTime<Utc>,
    ) -> Result<Reservation, Refused> {
        if self.budgets.is_empty() {
            return Ok(Reservation::default());
        }
        let mut held = Reservation { accounts: Vec::new(), amount };
        for account in self.accounts(rubric, labels, now) {
            if !self.take(&account, amount) {
                let why = match self.advance(&account, amount).await {
                    Ok(true) => None,
                    Ok(false) => Some(Refused::Spent(self.spent_words(&account))),
                    Err(error) => Some(Refused::Unasked(error)),
                };
                if let Some(why) = why {
                    self.settle(held, Amount::default());
                    return Err(why);
                }
            }
            held.accounts.push(account);
        }
        Ok(held)
    }

    /// Replaces what was reserved by what was used.
    pub fn settle(&self, held: Reservation, used: Amount) {
        if held.accounts.is_empty() {
            return;
        }
        let mut purses = self.purses();
        for account in held.accounts {
            let purse = purses.entry(account).or_default();
            purse.used = purse.used.minus(held.amount).plus(used);
        }
    }

    /// Takes from what this worker has.
    fn take(&self, account: &Account, amount: Amount) -> bool {
        let mut purses = self.purses();
        let purse = purses.entry(account.clone()).or_default();
        let fits = purse.used.plus(amount).fits(purse.advanced);
        if fits {
            purse.used = purse.used.plus(amount);
            purse.busy = true;
        }
        fits
    }

    /// Asks for an advance that covers the amount, and takes it.
    async fn advance(&self, account: &Account, amount: Amount) -> Result<bool, StoreError> {
        let _one_at_a_time = self.asking.lock().await;
        if self.take(account, amount) {
            return Ok(true); // somebody else's advance is enough
        }
        let limit = self.limit(account);
        let share = |of: f64| if of.is_finite() { of * ADVANCE } else { 0.0 };
        let missing = {
            let purse = self.purses().get(account).copied().unwrap_or_default();
            purse.used.plus(amount).minus(purse.advanced).at_least_zero()
        };
        let ample = Amount { usd: missing.usd.max(share(limit.usd)), tokens: missing.tokens.max(share(limit.tokens)) };
        for wanted in [ample, missing] {
            if self.add(account, wanted, limit).await? {
                let mut purses = self.purses();
                let purse = purses.entry(account.clone()).or_default();
                purse.advanced = purse.advanced.plus(wanted);
                purse.used = purse.used.plus(amount);
                purse.busy = true;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds to the spend of all workers unless that exceeds the limit.
    async fn add(&self, account: &Account, wanted: Amount, limit: Amount) -> Result<bool, StoreError> {
        let Some(store) = &self.store else {
            let purse = self.purses().get(account).copied().unwrap_or_default();
            return Ok(purse.advanced.plus(wanted).fits(limit));
        };
        store.add_spend(&self.row(account, wanted), limit).await
    }

    /// Corrects what was settled at time `at`, when more is known: by the part of a batched call that was estimated wrongly.
    pub fn correct(&self, rubric: &str, labels: &TraceLabels, by: Amount, at: DateTime<Utc>) {
        let accounts = self.accounts(rubric, labels, at);
        let mut purses = self.purses();
        for account in accounts {
            let purse = purses.entry(account).or_default();
            // Below zero where another worker had settled the estimate; `keep_up` gives the difference back all the same.
            purse.used = purse.used.plus(by);
        }
    }

    fn row(&self, account: &Account, amount: Amount) -> Spend {
        Spend {
            budget: self.budgets[account.budget].name.clone(),
            subject: account.subject.clone(),
            period: account.period,
            starts_at: account.starts_at,
            amount,
        }
    }

    fn limit(&self, account: &Account) -> Amount {
        limit(&self.budgets[account.budget], account.period).unwrap_or_default()
    }

    fn spent_words(&self, account: &Account) -> String {
        let budget = &self.budgets[account.budget];
        let whom = if account.subject.is_empty() { String::new() } else { format!(" of {}", account.subject) };
        format!("budget `{}`{whom} has nothing left for this {}", budget.name, account.period.as_str())
    }

    /// The rate that is left near the end of a budget, as a power of two to the quarter, and the budget; `None` = all.
    #[must_use]
    pub fn rate(&self, rubric: &str, labels: &TraceLabels, now: DateTime<Utc>) -> Option<(f64, String)> {
        self.rate_in(&self.rates(now), rubric, labels, now)
    }

    /// The rates of all budgets near their end, for a step; the lowest ones where there are very many.
    #[must_use]
    pub fn rates(&self, now: DateTime<Utc>) -> Vec<BudgetRate> {
        let purses = self.purses();
        let lowered = purses.iter().filter(|(account, _)| account.starts_at == account.period.start(now));
        let mut rates: Vec<BudgetRate> = lowered
            .filter_map(|(account, purse)| {
                let budget = &self.budgets[account.budget];
                let left = (1.0 - part(purse.all, self.limit(account))) / (1.0 - budget.lower_at);
                (left < 1.0).then(|| BudgetRate {
                    budget: budget.name.clone(),
                    subject: account.subject.clone(),
                    until: account.starts_at + account.period.length(),
                    rate: quantised(left),
                })
            })
            .collect();
        rates.sort_by(|a, b| {
            a.rate.total_cmp(&b.rate).then_with(|| (&a.budget, &a.subject).cmp(&(&b.budget, &b.subject)))
        });
        rates.truncate(RATES_MAX);
        rates
    }

    /// The lowest of these rates that holds for the rubric and trace, with its budget; `None` = all.
    #[must_use]
    pub fn rate_in(
        &self,
        rates: &[BudgetRate],
        rubric: &str,
        labels: &TraceLabels,
        now: DateTime<Utc>,
    ) -> Option<(f64, String)> {
        if rates.is_empty() {
            return None;
        }
        let accounts = self.accounts(rubric, labels, now);
        let ours = |rate: &&BudgetRate| {
            let of = |account: &Account| {
                self.budgets[account.budget].name == rate.budget
                    && account.subject == rate.subject
                    && account.starts_at + account.period.length() == rate.until
            };
            accounts.iter().any(of)
        };
        let lowest = rates.iter().filter(ours).min_by(|a, b| a.rate.total_cmp(&b.rate));
        lowest.map(|rate| (rate.rate, rate.budget.clone()))
    }

    /// Gives advances that are not used back, forgets periods that are over, and reads what all have spent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_up(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        if self.budgets.is_empty() {
            return Ok(());
        }
        let mut idle: Vec<(Account, Amount)> = Vec::new();
        {
            let mut purses = self.purses();
            purses.retain(|account, _| now < account.starts_at + account.period.length() + TimeDelta::minutes(10));
            for (account, purse) in purses.iter_mut() {
                let rest = purse.advanced.minus(purse.used).at_least_zero();
                if self.store.is_none() {
                    purse.all = purse.used;
                } else if !std::mem::take(&mut purse.busy) && rest != Amount::default() {
                    // Out of the purse first, so that nobody spends it meanwhile.
                    purse.advanced = purse.advanced.minus(rest);
                    idle.push((account.clone(), rest));
                }
            }
        }
        let Some(store) = &self.store else { return Ok(()) };
        let mut failed = None;
        for (account, rest) in idle {
            let back = Amount::default().minus(rest);
            if let Err(error) = store.add_spend(&self.row(&account, back), Amount::UNBOUNDED).await {
                self.advanced(account, rest);
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.true_up(store).await?;
        for row in store.spend(now).await? {
            let Some(budget) = self.budgets.iter().position(|b| b.name == row.budget) else { continue };
            let Spend { subject, period, starts_at, amount, .. } = row;
            self.purses().entry(Account { budget, subject, period, starts_at }).or_default().all = amount;
        }
        Ok(())
    }

    /// Calls that cost more than was reserved for them have used more than was advanced: that is spend too.
    async fn true_up(&self, store: &Store) -> Result<(), StoreError> {
        let owed: Vec<(Account, Amount)> = {
            let purses = self.purses();
            let owed = purses.iter().map(|(account, p)| (account.clone(), p.used.minus(p.advanced).at_least_zero()));
            owed.filter(|(_, more)| more.usd > 1e-9 || more.tokens > 1e-6).collect()
        };
        for (account, more) in owed {
            store.add_spend(&self.row(&account, more), Amount::UNBOUNDED).await?;
            self.advanced(account, more);
        }
        Ok(())
    }

    /// So much more is ours to spend.
    fn advanced(&self, account: Account, more: Amount) {
        let mut purses = self.purses();
        let purse = purses.entry(account).or_default();
        purse.advanced = purse.advanced.plus(more);
    }

    /// What each budget has spent of its limit in the current periods, as last read: budget, subject, period, part.
    #[must_use]
    pub fn parts(&self, now: DateTime<Utc>) -> Vec<(String, String, Period, f64)> {
        let purses = self.purses();
        let current = purses.iter().filter(|(a, _)| a.starts_at == a.period.start(now));
        let shown = current.map(|(account, purse)| {
            let name = self.budgets[account.budget].name.clone();
            (name, account.subject.clone(), account.period, part(purse.all, self.limit(account)))
        });
        shown.collect()
    }
}

/// The part of a limit that is spent, by whichever of the two is nearer to its end.
fn part(spent: Amount, limit: Amount) -> f64 {
    (spent.usd / limit.usd).max(spent.tokens / limit.tokens).clamp(0.0, 1.0)
}

/// The next lower quarter power of two, so that weights fall into few classes.
fn quantised(rate: f64) -> f64 {
    if rate <= RATE_MIN {
        return RATE_MIN;
    }
    ((rate.log2() * 4.0).floor() / 4.0).exp2()
}

/// The limit of a period; infinite where only the other of the two is limited.
fn limit(budget: &Budget, period: Period) -> Option<Amount> {
    let (usd, tokens) = match period {
        Period::Hour => (budget.usd_per_hour, budget.tokens_per_hour),
        Period::Day => (budget.usd_per_day, budget.tokens_per_day),
    };
    (usd.is_some() || tokens.is_some())
        .then(|| Amount { usd: usd.unwrap_or(f64::INFINITY), tokens: tokens.map_or(f64::INFINITY, |t| t as f64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(usd: f64) -> Ledger {
        let budget = Budget {
            name: "all".to_owned(),
            per: Per::All,
            only: crate::domain::policy::Patterns::default(),
            usd_per_hour: Some(usd),
            usd_per_day: None,
            tokens_per_hour: None,
            tokens_per_day: Some(1_000_000),
            lower_at: 0.5,
        };
        let tenants = Budget {
            name: "tenants".to_owned(),
            per: Per::Tenant,
            usd_per_hour: None,
            tokens_per_hour: Some(100),
            tokens_per_day: None,
            ..budget.clone()
        };
        Ledger::new(vec![budget, tenants], None)
    }

    fn tenant(name: &str) -> TraceLabels {
        TraceLabels { tenant: Some(name.to_owned()), ..TraceLabels::default() }
    }

    #[tokio::test]
    async fn what_is_reserved_cannot_be_spent_twice_and_what_is_not_used_comes_back() {
        let (ledger, now) = (ledger(1.0), DateTime::UNIX_EPOCH);
        let call = Amount { usd: 0.4, tokens: 10.0 };
        let nobody = TraceLabels::default();
        let one = ledger.reserve("r", &nobody, call, now).await.expect("there is enough");
        let two = ledger.reserve("r", &nobody, call, now).await.expect("there is enough");
        let why = ledger.reserve("r", &nobody, call, now).await.expect_err("there is not").to_string();
        assert!(why.contains("budget `all` has nothing left for this hour"), "{why}");
        ledger.settle(one, Amount { usd: 0.1, tokens: 5.0 });
        let three = ledger.reserve("r", &nobody, call, now).await.expect("some came back");
        ledger.settle(two, call);
        ledger.settle(three, call);
        assert!(ledger.reserve("r", &nobody, call, now).await.is_err());
        assert!(ledger.reserve("r", &nobody, call, now + TimeDelta::hours(1)).await.is_ok(), "the next hour");
    }

    #[tokio::test]
    async fn a_tenants_budget_is_its_own_and_a_failed_reservation_leaves_nothing_behind() {
        let (ledger, now) = (ledger(1.0), DateTime::UNIX_EPOCH);
        let call = Amount { usd: 0.3, tokens: 60.0 };
        ledger.reserve("r", &tenant("a"), call, now).await.expect("enough");
        let why = ledger.reserve("r", &tenant("a"), call, now).await.expect_err("100 tokens an hour").to_string();
        assert!(why.contains("`tenants` of a"), "{why}");
        ledger.reserve("r", &tenant("b"), call, now).await.expect("its own");
        ledger.reserve("r", &TraceLabels::default(), call, now).await.expect("what failed was given back");
    }

    #[tokio::test]
    async fn near_the_end_less_is_sampled_in_few_steps_and_never_nothing() {
        let (ledger, now) = (ledger(1.0), DateTime::UNIX_EPOCH);
        let nobody = TraceLabels::default();
        let spend = async |usd: f64| {
            let held = ledger.reserve("r", &nobody, Amount { usd, tokens: 1.0 }, now).await.expect("enough");
            ledger.settle(held, Amount { usd, tokens: 1.0 });
            ledger.keep_up(now).await.expect("no database");
            ledger.rate("r", &nobody, now)
        };
        assert_eq!(spend(0.4).await, None);
        let (rate, name) = spend(0.3).await.expect("lowered");
        assert_eq!(name, "all");
        assert!((rate - 0.75_f64.exp2().recip()).abs() < 1e-12, "0.6 is left of the second half: the next lower step");
        assert!((spend(0.299).await.expect("lowered").0 - RATE_MIN).abs() < 1e-12);
        assert_eq!(ledger.parts(now).len(), 2);
    }
}
