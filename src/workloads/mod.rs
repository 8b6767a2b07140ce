//! Domains built on queues, dedupe, locks and units of work.
//!
//! Those that are asked for by verbs ([`verbs`]) are built and registered here, one line each.

pub mod audit;
pub mod orders;
pub mod pickup;
pub mod slots;
pub mod verbs;
pub mod videos;

use std::sync::Arc;

use crate::cache::Cache;
use crate::config::Settings;
use crate::intake::Intake;
use crate::processor::builtin::Builtins;
use crate::saga::Sagas;
use crate::store::Store;
use orders::Orders;
use pickup::Pickup;
use slots::Slots;
use verbs::Worked;

/// The workloads that are asked for by verbs, over HTTP and in queues. Cheap to clone.
#[derive(Clone)]
pub struct Workloads {
    pub slots: Slots,
    pub pickup: Pickup,
    pub orders: Orders,
}

/// What they stand on.
pub struct On {
    pub store: Store,
    pub cache: Cache,
    pub intake: Intake,
    pub sagas: Sagas,
    pub settings: Arc<Settings>,
}

impl Workloads {
    /// Needs to be called inside a tokio runtime.
    pub fn new(on: &On) -> Self {
        let On { store, cache, intake, sagas, settings } = on;
        Self {
            slots: Slots::new(store.clone()),
            pickup: Pickup::new(store.clone(), cache.clone()),
            orders: Orders::new(store.clone(), intake.clone(), sagas.clone(), settings.clone()),
        }
    }

    /// Their processors, by the name of their queue.
    pub fn register(&self, builtins: &mut Builtins) {
        builtins.insert(slots::NAME, Arc::new(Worked(self.slots.clone())));
        builtins.insert(pickup::NAME, Arc::new(Worked(self.pickup.clone())));
        builtins.insert(orders::QUEUE, Arc::new(Worked(self.orders.clone())));
    }
}
