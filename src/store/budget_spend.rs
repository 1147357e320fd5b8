//! Table `budget_spend`: what each budget has spent or reserved, by rubric, feature or tenant, an hour and a day at a time.
//!
//! Written and read by `ledger` and `cli::doctor`. Its rule: one statement adds an amount or, where the limit would be
//! exceeded, adds nothing; so workers cannot spend the same money twice. The way not taken: reading, comparing, writing.

use super::{Store, StoreError};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};

/// Money and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amount {
    /// US dollars.
    pub usd: f64,
    /// Tokens, prompt and answer.
    pub tokens: f64,
}

impl Amount {
    /// More than can be spent.
    pub(super) const UNBOUNDED: Self = Self { usd: f64::INFINITY, tokens: f64::INFINITY };

    /// The sum.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { usd: self.usd + more.usd, tokens: self.tokens + more.tokens }
    }

    /// The difference; may be negative.
    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        Self { usd: self.usd - less.usd, tokens: self.tokens - less.tokens }
    }

    /// Negative parts as zero.
    #[must_use]
    pub fn at_least_zero(self) -> Self {
        Self { usd: self.usd.max(0.0), tokens: self.tokens.max(0.0) }
    }

    /// Whether it is within another amount.
    pub(super) fn fits(self, into: Self) -> bool {
        // A billionth of play: sums of floats.
        self.usd <= into.usd + 1e-9 && self.tokens <= into.tokens + 1e-6
    }
}

/// What a limit is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// An hour, from the full hour on, in UTC.
    Hour,
    /// A day, from midnight on, in UTC.
    Day,
}

impl Period {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// Its name in the table and for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long it is.
    #[must_use]
    pub fn length(self) -> TimeDelta {
        match self {
            Self::Hour => TimeDelta::hours(1),
            Self::Day => TimeDelta::days(1),
        }
    }

    /// When the period that `now` is in began.
    #[must_use]
    pub fn start(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = self.length().num_seconds();
        let start = now.timestamp().div_euclid(seconds) * seconds;
        Utc.timestamp_opt(start, 0).single().unwrap_or(now)
    }
}

/// One row: a budget's spend for a subject in a period.
#[derive(Debug, Clone, PartialEq)]
pub struct Spend {
    /// The budget's name.
    pub budget: String,
    /// The rubric, feature or tenant; empty for everything.
    pub subject: String,
    /// The period.
    pub period: Period,
    /// When it began.
    pub starts_at: DateTime<Utc>,
    /// Spent, and reserved by workers for calls under way.
    pub amount: Amount,
}

impl Store {
    /// Adds `more.amount` to a row unless that exceeds the limit; whether it was added.
    ///
    /// # Errors
    /// When the statement fails; then nothing is added.
    pub(super) async fn add_spend(&self, more: &Spend, limit: Amount) -> Result<bool, StoreError> {
        let amount = more.amount;
        let (usd_max, tokens_max) = (limit.usd.min(f64::MAX), limit.tokens.min(f64::MAX));
        if amount.usd > usd_max || amount.tokens > tokens_max {
            return Ok(false);
        }
        let done = sqlx::query!(
            "INSERT INTO budget_spend AS b (budget, subject, period, starts_at, usd, tokens)
             VALUES ($1, $2, $3, $4, greatest($5::float8, 0), greatest(round($6::float8), 0)::bigint)
             ON CONFLICT (budget, subject, period, starts_at) DO UPDATE
             SET usd = greatest(b.usd + $5, 0), tokens = greatest(b.tokens + round($6), 0)::bigint
             WHERE b.usd + $5 <= $7::float8 + 1e-9 AND b.tokens + $6 <= $8::float8 + 1",
            more.budget,
            super::columns::text(&more.subject),
            more.period.as_str(),
            more.starts_at,
            amount.usd,
            amount.tokens,
            usd_max,
            tokens_max,
        )
        .execute(&self.pool)
        .await
        .map_err(StoreError::op("reserving from a budget"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Everything spent in the hour and the day of `now`, by budget and subject.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn spend(&self, now: DateTime<Utc>) -> Result<Vec<Spend>, StoreError> {
        let rows = sqlx::query!(
            "SELECT budget, subject, period, starts_at, usd, tokens FROM budget_spend
             WHERE (period = 'hour' AND starts_at = $1) OR (period = 'day' AND starts_at = $2)
             ORDER BY budget, subject, period",
            Period::Hour.start(now),
            Period::Day.start(now)
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::op("reading budgets"))?;
        let read = rows.into_iter().map(|r| Spend {
            // The column's CHECK admits only the two.
            period: if r.period == "hour" { Period::Hour } else { Period::Day },
            amount: Amount { usd: r.usd, tokens: r.tokens as f64 },
            budget: r.budget,
            subject: r.subject,
            starts_at: r.starts_at,
        });
        Ok(read.collect())
    }

    /// Removes what was spent before a time.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn forget_spend(&self, before: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM budget_spend WHERE starts_at < $1", before)
            .execute(&self.pool)
            .await
            .map_err(StoreError::op("forgetting old spend"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_start_on_the_hour_and_the_day() {
        let at = DateTime::parse_from_rfc3339("2026-11-21T13:37:11Z").expect("valid").to_utc();
        assert_eq!(Period::Hour.start(at).to_rfc3339(), "2026-11-21T13:00:00+00:00");
        assert_eq!(Period::Day.start(at).to_rfc3339(), "2026-11-21T00:00:00+00:00");
    }
}
