//! Cancelling an order that nobody has paid yet.

use super::Orders;
use super::order::{Event, Order, State, note};
use super::refusals::{CLOSED, FOREIGN, PAID, UNKNOWN};
use crate::idempotency::{self, Answered, Key, Told};
use crate::store::{Error, Tx};

/// Who cancels what, and why.
#[derive(Clone, Debug)]
pub struct Cancel {
    pub id: String,
    /// The user in whose name it is done; nobody: an operator.
    pub user: Option<String>,
    pub actor: String,
    pub reason: Option<String>,
}

impl Orders {
    /// Cancels an order. One of somebody else stays as it is, and the attempt is in the audit.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn cancel(&self, cancel: Cancel, key: Option<Key>) -> Result<Answered, Error> {
        idempotency::unit_of_work(&self.store, "order.cancel", key, move |tx| {
            let cancel = cancel.clone();
            Box::pin(async move { act(tx, &cancel).await })
        })
        .await
    }
}

async fn act(tx: &mut Tx, cancel: &Cancel) -> Result<Told, Error> {
    let Some(mut order) = Order::lock(tx, &cancel.id).await? else { return Ok(Err(UNKNOWN)) };
    let Cancel { actor, reason, .. } = cancel;
    if cancel.user.as_ref().is_some_and(|user| *user != order.user) {
        let event = Event { actor, event: "cancel_refused", reason: Some("order_foreign"), ..Event::default() };
        note(tx, &order.id, None, event).await?;
        return Ok(Err(FOREIGN));
    }
    match order.state {
        State::AwaitingPayment => {}
        // Again: the answer is the same, and nothing more is written.
        State::Cancelled => return Ok(Ok(order.to_json())),
        State::Paid | State::Fulfilled => return Ok(Err(PAID)),
        State::Expired | State::Refunded => return Ok(Err(CLOSED)),
    }
    let event = Event { actor, event: "cancelled", reason: reason.as_deref(), ..Event::default() };
    order.move_to(tx, State::Cancelled, event).await?;
    Ok(Ok(order.to_json()))
}
