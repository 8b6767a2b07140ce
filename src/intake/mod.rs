//! Intake: where wishes come in, over HTTP or as Node jobs, and are told what they get.
//!
//! The walk of a request: [`submit`](Intake::submit) looks into Redis (claim), has SQL decide (accept), and lets the
//! publisher tell Redis. Nothing is acknowledged before SQL has committed.

mod follower;
mod hot;
mod submit;
mod watch;

use crate::catalog::Catalog;
use crate::dedupe::{Dedupe, Wakes, What};
use crate::flight::Flights;
use crate::publish::{Announcer, Publisher};
use crate::store;

use hot::Hot;

pub use follower::{Follower, FollowerAnswer, PARKED_FIELD, parked_end, parked_mark, read_parked_mark};
pub use submit::{Deliver, Submit, Submitted, SubscriberSpec};
pub use watch::{RequestState, RequestView};

/// What intake can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQL is away: nothing was accepted.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The wish makes no sense; which field, and why.
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
    #[error("the queue \"{0}\" is not declared")]
    UnknownQueue(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

/// Takes wishes in. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    flights: Flights,
    announcer: Announcer,
    catalog: Catalog,
    hot: Hot,
    /// Whether a bot token is configured, so that a chat can be reached.
    has_telegram: bool,
}

impl Intake {
    pub fn new(flights: Flights, announcer: Announcer, catalog: Catalog, has_telegram: bool) -> Self {
        Self { flights, announcer, catalog, hot: Hot::new(), has_telegram }
    }

    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    pub fn dedupe(&self) -> &Dedupe {
        &self.announcer.dedupe
    }

    pub fn publisher(&self) -> &Publisher {
        &self.announcer.publisher
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn wakes(&self) -> &Wakes {
        &self.announcer.wakes
    }

    /// A flight changed, here or elsewhere: what this process remembers of it is old.
    pub fn forget_hot(&self, flight: &str, what: What) {
        if what != What::Progress {
            self.hot.forget(flight);
        }
    }
}
