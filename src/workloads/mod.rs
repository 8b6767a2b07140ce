//! Domains built on queues, dedupe, locks and units of work.
//!
//! Those that are asked for by verbs ([`verbs`]) are built and registered here, one line each.

pub mod audit;
pub mod orders;
pub mod slots;
pub mod verbs;
pub mod videos;

use std::sync::Arc;

use crate::config::Settings;
use crate::intake::Intake;
use crate::processor::builtin::Builtins;
use crate::saga::Sagas;
use crate::store::Store;
use orders::Orders;
use slots::Slots;
use verbs::Worked;

/// The workloads that are asked for by verbs, over HTTP and in queues. Cheap to clone.
#[derive(Clone)]
pub struct Workloads {
    pub slots: Slots,
    pub orders: Orders,
}

/// What they stand on.
pub struct On {
    pub store: Store,
    pub intake: Intake,
    pub sagas: Sagas,
    pub settings: Arc<Settings>,
}

impl Workloads {
    pub fn new(on: &On) -> Self {
        let On { store, intake, sagas, settings } = on;
        Self {
            slots: Slots::new(store.clone()),
            orders: Orders::new(store.clone(), intake.clone(), sagas.clone(), settings.clone()),
        }
    }

    /// Their processors, by the name of their queue.
    pub fn register(&self, builtins: &mut Builtins) {
        builtins.insert(slots::NAME, Arc::new(Worked(self.slots.clone())));
        builtins.insert(orders::QUEUE, Arc::new(Worked(self.orders.clone())));
    }
}
