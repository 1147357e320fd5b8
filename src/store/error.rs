//! What can go wrong with the database, a variant an operation, the cause as `source`.

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be read; it is not shown, since it holds a password.
    #[error("DATABASE_URL (or database.url) is not a Postgres URL; write postgres://user:password@host:5432/database")]
    Url,
    /// No connection.
    #[error("cannot connect to Postgres at {place}; is it running, and are user and password right?")]
    Connect {
        /// Host, port and database.
        place: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed.
    #[error("cannot bring the tables up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{operation} failed")]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The tables are not there, or not those of this version.
    #[error("{operation} failed: the database's tables are not up to date; run `assize migrate`")]
    NotMigrated {
        /// What was being done.
        operation: &'static str,
    },
    /// A stored value cannot be read back.
    #[error("{what} in the database cannot be read")]
    Content {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Makes an error of `operation` out of sqlx's.
    pub(super) fn op(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            // 42P01 undefined table, 42703 undefined column.
            let code = source.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
            match code.as_deref() {
                Some("42P01" | "42703") => Self::NotMigrated { operation },
                _ => Self::Statement { operation, source },
            }
        }
    }

    /// Whether the database refuses the values themselves, so that the same statement would fail again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Statement { source, .. } = self else { return false };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // Classes of SQLSTATE: data exception, integrity constraint, program limit.
        code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }

    /// The operation, for metrics.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Statement { operation, .. } | Self::NotMigrated { operation } => operation,
            Self::Url | Self::Connect { .. } => "connecting",
            Self::Migrate(_) => "migrating",
            Self::Content { .. } => "reading content",
        }
    }
}
