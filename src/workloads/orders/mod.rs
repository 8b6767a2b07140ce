//! Orders: videos that somebody pays for.
//!
//! ```text
//! awaiting_payment -pay-> paid -video delivered-> fulfilled
//!        |                 '------- money back ------'----> refunded
//!        '-> cancelled | expired
//! ```
//!
//! Each verb is one unit of work that locks the order's row, decides, then writes; who did what stands in `order_events`,
//! also what was refused. Money is taken by the provider ([`cloudpayments`]), which tells us; it goes back by a
//! [saga](crate::saga). Payments that cannot be used (late, twice, of another amount) go back by themselves: money that was
//! taken is always either applied to an order, on its way back, returned, or in plain sight of an operator.
//!
//! The database's clock decides what has expired. Lock order: notices, sagas, orders, flights, payments.

pub mod cloudpayments;

mod cancel;
mod create;
mod delivered;
mod expire;
mod list;
mod money;
mod notices;
mod order;
mod pay;
mod payment;
mod refund;
mod refusals;
mod verbs;

use std::sync::Arc;

use crate::config::Settings;
use crate::intake::Intake;
use crate::saga::Sagas;
use crate::store::Store;

pub use cancel::Cancel;
pub use create::{NewOrder, Wish};
pub use delivered::ended;
pub use list::{OrderFilter, PaymentFilter};
pub use money::{Malformed, amount_text, parse_amount};
pub use notices::Codes;
pub use order::State;
pub use refund::{REFUND, Refund, Refunds};
pub use refusals::UNKNOWN;

/// The queue in which bots leave jobs for this workload.
pub const QUEUE: &str = "orders";

/// The orders of a store. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    store: Store,
    intake: Intake,
    sagas: Sagas,
    settings: Arc<Settings>,
}

impl Orders {
    pub fn new(store: Store, intake: Intake, sagas: Sagas, settings: Arc<Settings>) -> Self {
        Self { store, intake, sagas, settings }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
