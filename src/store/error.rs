//! What went wrong with the database, sorted by what the caller can do about it.

use std::sync::Arc;

use crate::batch::Failure;

/// An error of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database does not answer, or broke off. For a write the outcome is unknown: read the row by its id.
    #[error("the database cannot be reached")]
    Unreachable(#[source] Arc<sqlx::Error>),
    /// The transaction collided with another and may be repeated as a whole.
    #[error("the transaction collided with another")]
    Conflict(#[source] Arc<sqlx::Error>),
    /// A constraint said no.
    #[error("a constraint was violated")]
    Constraint(#[source] Arc<sqlx::Error>),
    /// A statement or a row is not as the program expects: a bug, or a foreign schema.
    #[error("the database refused a statement")]
    Statement(#[source] Arc<sqlx::Error>),
    /// The store cannot be used as configured.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Whether repeating the unit of work as a whole can help.
    pub fn is_repeatable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Conflict(_))
    }

    /// Whether the database is away, so that a caller should be told to come back later.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    /// A closed word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Conflict(_) => "conflict",
            Self::Constraint(_) => "constraint",
            Self::Statement(_) => "statement",
            Self::Setup(_) => "setup",
        }
    }
}

impl Failure for Error {
    fn is_of_all(&self) -> bool {
        self.is_unreachable()
    }

    fn stopping() -> Self {
        sqlx::Error::PoolClosed.into()
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unreachable(Arc::new(error))
            }
            E::Database(db) => match db.code().as_deref() {
                // Postgres: serialization failure, deadlock, lock not available.
                Some("40001" | "40P01" | "55P03") => Self::Conflict(Arc::new(error)),
                // SQLite: busy and locked, with their extended codes.
                Some("5" | "6" | "261" | "262" | "517" | "773") => Self::Conflict(Arc::new(error)),
                // Postgres: shutting down, starting up, too many connections, connection exceptions.
                Some("57P01" | "57P02" | "57P03" | "53300" | "25P03") => Self::Unreachable(Arc::new(error)),
                Some(code) if code.starts_with("08") => Self::Unreachable(Arc::new(error)),
                _ if db.is_unique_violation() || db.is_foreign_key_violation() || db.is_check_violation() => {
                    Self::Constraint(Arc::new(error))
                }
                _ => Self::Statement(Arc::new(error)),
            },
            _ => Self::Statement(Arc::new(error)),
        }
    }
}
