//! Locks: one holder of a name at a time, among all servers.
//!
//! **Redis may only say no; SQL says yes.** A lock that is taken in Redis, or in the database where Redis cannot be reached,
//! has two holders as soon as two servers disagree on whether it can. So the database grants, always; Redis keeps crowds
//! away from it, and where it does not answer it is left out, with nothing to agree on and nothing to repair afterwards.
//!
//! | | for | granted by | may be trusted |
//! |---|---|---|---|
//! | [`Locks::guarded`] | a unit of work | the transaction's own advisory lock | wholly: it commits while it holds, or not at all |
//! | [`Locks::lease`] | longer holds, other services | a row in SQL, with a fencing token | until shortly before its end; [`check`] makes a write safe |
//! | [`fast`](Locks::take_fast) | saving work | Redis alone | not for data: it may have two holders for a moment |
//!
//! The same name is another lock for each of the three.
//!
//! | key | type | fields or members | kept |
//! |---|---|---|---|
//! | `<ns>:lock:{<name>}:unit:line`, `…:lease:line` | sorted set | who stands in line, by number | while somebody does |
//! | `<ns>:lock:{<name>}:unit:alive`, `…:lease:alive` | sorted set | until when each of them counts, in ms | likewise |
//! | `<ns>:lock:{<name>}:lease` | hash | `token`, `until_ms` (by Redis's clock), `holder`, `request`, `note`, `name`; `released` | as long as the lease; 10 s after a release |
//! | `<ns>:lock:{<name>}:fast` | hash | `owner`, `holder`, `request`, `note`, `token`, `name` | as long as the lock |
//! | `<ns>:lock:wake` | channel | who may look again | |
//! | `<ns>:store` | string | the id of the store that this namespace belongs to | for ever |

mod acquire;
mod admin;
mod fast;
mod gate;
mod hold;
mod keep;
mod keys;
mod lease;
mod line;
mod link;
mod mirror;
mod name;
mod namespace;
mod owner;
mod unit;
mod wake;

use std::time::{Duration, Instant};

use crate::config;
use crate::redis::Redis;
use crate::store::{self, Store};

pub use acquire::{Acquired, Holder, Wanted};
pub use admin::{AuditEntry, Filter, Forced, LeaseView};
pub use fast::{Fast, FastWanted};
pub use hold::{Lease, Leased};
pub use lease::{Grant, check};
pub use name::{LONGEST_NAME, LockName, NameError};
pub use namespace::ForeignNamespace;
pub use owner::Owned;
use unit::Handed;
pub use unit::{Guarded, names};

use gate::Gate;
use keys::Keys;
use line::Lines;
use link::Link;
use mirror::Mirror;
use name::Kind;
use wake::Wakes;

/// The shortest time to live of a lease: less would end while its answer is on the way.
pub const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// What went wrong. That somebody else has the lock is an answer, not an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Of a fast lock, which has nothing to fall back on.
    #[error(transparent)]
    Redis(#[from] crate::redis::Error),
    /// Out of bounds: nothing was asked.
    #[error("a time to live must be from {SHORTEST_TTL:?} to {longest:?}")]
    Ttl { longest: Duration },
}

/// The locks of one store, with the help of one Redis. Cheap to clone.
#[derive(Clone)]
pub struct Locks {
    store: Store,
    link: Link,
    keys: Keys,
    wakes: Wakes,
    units: Lines<Handed>,
    leases: Lines<()>,
    unit_gate: Gate,
    lease_gate: Gate,
    mirror: Mirror,
    settings: config::Locks,
}

impl Locks {
    pub fn new(store: Store, redis: Redis, namespace: &str, settings: &config::Locks) -> Self {
        let (keys, wakes) = (Keys::new(namespace), Wakes::default());
        let link = Link::new(redis, settings.redis_patience.0, keys.store());
        let width = settings.width;
        let gate = |kind, width| Gate::new(kind, width, link.clone(), keys.clone(), wakes.clone());
        Self {
            units: Lines::new(1),
            // Only who is at the head looks whether a lease has ended.
            leases: Lines::new(1),
            unit_gate: gate(Kind::Unit, width),
            lease_gate: gate(Kind::Lease, 1),
            mirror: Mirror::new(link.clone(), keys.clone()),
            settings: settings.clone(),
            store,
            link,
            keys,
            wakes,
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The longest time to live that may be asked for.
    pub fn longest_ttl(&self) -> Duration {
        self.settings.max_ttl.0
    }

    fn check_ttl(&self, ttl: Duration) -> Result<(), Error> {
        let longest = self.longest_ttl();
        if (SHORTEST_TTL..=longest).contains(&ttl) { Ok(()) } else { Err(Error::Ttl { longest }) }
    }
}

/// When a wait ends; `None` for one that does not begin.
fn until(asked: Instant, wait: Duration) -> Option<Instant> {
    (!wait.is_zero()).then(|| asked + wait)
}
