//! Domains built on queues, dedupe, locks and units of work.
//!
//! Those that are asked for by verbs ([`verbs`]) are built and registered here, one line each.

pub mod audit;
pub mod pickup;
pub mod slots;
pub mod verbs;
pub mod videos;

use std::sync::Arc;

use crate::cache::Cache;
use crate::processor::builtin::Builtins;
use crate::store::Store;
use pickup::Pickup;
use slots::Slots;
use verbs::Worked;

/// The workloads that are asked for by verbs, over HTTP and in queues. Cheap to clone.
#[derive(Clone)]
pub struct Workloads {
    pub slots: Slots,
    pub pickup: Pickup,
}

/// What they stand on.
pub struct On {
    pub store: Store,
    pub cache: Cache,
}

impl Workloads {
    /// Needs to be called inside a tokio runtime.
    pub fn new(on: &On) -> Self {
        Self { slots: Slots::new(on.store.clone()), pickup: Pickup::new(on.store.clone(), on.cache.clone()) }
    }

    /// Their processors, by the name of their queue.
    pub fn register(&self, builtins: &mut Builtins) {
        builtins.insert(slots::NAME, Arc::new(Worked(self.slots.clone())));
        builtins.insert(pickup::NAME, Arc::new(Worked(self.pickup.clone())));
    }
}
