//! Money goes back: reserved here, done by the provider, confirmed or compensated here.
//!
//! An order is `refunded` when its money *is* back, not when that was asked for. A refund that the provider refuses leaves
//! an order paid as it was, and a payment that paid for nothing `stuck`: both in sight of an operator, who may try again.

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tracing::error;

use super::Orders;
use super::cloudpayments::{CloudPayments, Notice};
use super::notices::{self, Codes};
use super::order::{Event, Order, State, note};
use super::payment::Payment;
use super::refusals::{NOT_PAID, REFUNDING, UNKNOWN};
use crate::id;
use crate::idempotency::{self, Answered, Key, Told};
use crate::saga::{Asked, Called, Effect, Reserve, Saga, Sagas};
use crate::store::{Error, Tx, query};

/// The name of the saga.
pub const REFUND: &str = "order_refund";

/// Reserves the way back of what is left of a payment. The payment's state keeps a repetition from reserving it twice, so
/// that the saga's id need not be made before.
pub(super) async fn give_back(tx: &mut Tx, payment: &Payment, actor: &str, reason: &str) -> Result<(), Error> {
    let order = payment.order.clone().unwrap_or_default();
    let saga = Reserve {
        id: id::new_id(),
        name: REFUND,
        subject: order.clone(),
        input: json!({
            "order": order,
            "payment": payment.transaction,
            "amount": payment.amount - payment.returned,
            "pays": payment.pays,
            "is_rest": payment.returned > 0,
        }),
    };
    Sagas::reserve(tx, &saga).await?;
    let update = "-- order.payment.returning
        update order_payments set state = 'returning', refund_id = $2, reason = $3, touched_at_ms = {now}
        where transaction_id = $1";
    tx.execute(query(update).bind(payment.transaction.as_str()).bind(saga.id).bind(reason)).await?;
    let transaction = Some(payment.transaction.as_str());
    note(tx, &order, None, Event { actor, event: "refund_began", reason: Some(reason), transaction }).await
}

/// Who wants which order's money back, and why.
#[derive(Clone, Debug)]
pub struct Refund {
    pub id: String,
    pub actor: String,
    pub reason: String,
}

impl Orders {
    /// An operator gives an order's money back: that which paid for it, and what got stuck.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn refund(&self, refund: Refund, key: Option<Key>) -> Result<Answered, Error> {
        let answered = idempotency::unit_of_work(&self.store, "order.refund", key, move |tx| {
            let refund = refund.clone();
            Box::pin(async move { begin(tx, &refund).await })
        })
        .await;
        self.sagas.wake();
        answered
    }

    /// The provider has given money back, on our word or on that of somebody in its own pages.
    ///
    /// # Errors
    /// [`Error`] of the store: the provider tells again.
    pub async fn refunded(&self, notice: Notice) -> Result<Codes, Error> {
        self.store
            .unit_of_work("order.refunded", move |tx| {
                let notice = notice.clone();
                Box::pin(async move {
                    let payment = notice.payment.clone().unwrap_or_default();
                    notices::lock(tx, &payment).await?;
                    if let Some(code) = notices::before(tx, "refund", &notice).await? {
                        return Ok(code);
                    }
                    notices::answered(tx, "refund", &notice, Codes::Ok).await?;
                    note_refund(tx, &payment, &notice).await?;
                    Ok(Codes::Ok)
                })
            })
            .await
    }
}

async fn begin(tx: &mut Tx, refund: &Refund) -> Result<Told, Error> {
    let Some(order) = Order::lock(tx, &refund.id).await? else { return Ok(Err(UNKNOWN)) };
    let payments = Payment::lock_all(tx, &order.id).await?;
    let here: Vec<_> =
        payments.iter().filter(|payment| matches!(payment.state.as_str(), "applied" | "stuck")).collect();
    if here.is_empty() {
        let is_under_way = payments.iter().any(|payment| payment.state == "returning");
        let refusal = if is_under_way { REFUNDING } else { NOT_PAID };
        let event =
            Event { actor: &refund.actor, event: "refund_refused", reason: Some(&refusal.code), ..Event::default() };
        note(tx, &order.id, None, event).await?;
        return Ok(Err(refusal));
    }
    for payment in here {
        give_back(tx, payment, &refund.actor, &refund.reason).await?;
    }
    Ok(Ok(order.to_json()))
}

async fn note_refund(tx: &mut Tx, transaction: &str, notice: &Notice) -> Result<(), Error> {
    let event =
        |event| Event { actor: "cloudpayments", event, reason: None, transaction: Some(notice.transaction.as_str()) };
    let Some(payment) = Payment::find(tx, transaction).await? else {
        // It comes before its payment: that will find this notice.
        return note(tx, notice.invoice.as_deref().unwrap_or_default(), None, event("refund_before_payment")).await;
    };
    let back = notice.amount.unwrap_or(0).clamp(0, payment.amount - payment.returned);
    let is_whole = payment.returned + back == payment.amount;
    // The saga's row comes before the order's, as in its worker.
    if let Some(saga) = payment.refund.as_deref().filter(|_| payment.state == "returning" && is_whole) {
        Sagas::performed(tx, saga, &notice.transaction).await?;
    }
    let order = payment.order.clone().unwrap_or_default();
    let locked = Order::lock(tx, &order).await?;
    // Under the order's lock, as the worker may have written it meanwhile.
    let payment = Payment::find(tx, transaction).await?.unwrap_or(payment);
    let back = back.min(payment.amount - payment.returned);
    payment.returned(tx, payment.returned + back).await?;
    note(tx, &order, None, event(if is_whole { "money_back" } else { "money_partly_back" })).await?;
    match locked {
        Some(order) if is_whole && payment.pays => close(tx, order, "cloudpayments", transaction).await,
        _ => Ok(()),
    }
}

/// The money of a paid order is back.
async fn close(tx: &mut Tx, mut order: Order, actor: &str, transaction: &str) -> Result<(), Error> {
    if !matches!(order.state, State::Paid | State::Fulfilled) {
        return Ok(());
    }
    let event = Event { actor, event: "refunded", reason: None, transaction: Some(transaction) };
    order.move_to(tx, State::Refunded, event).await
}

/// The effect of giving money back.
pub struct Refunds {
    pub provider: CloudPayments,
}

#[async_trait]
impl Effect for Refunds {
    async fn call(&self, id: &str, input: &Value) -> Called {
        let (Some(payment), Some(amount)) = (input["payment"].as_str(), input["amount"].as_i64()) else {
            return Called::Refused { reason: "the saga's input names no payment and amount".into() };
        };
        let called = self.provider.refund(id, payment, amount).await;
        // What somebody has given back already is refused, too; but then the money is back.
        if !matches!(called, Called::Refused { .. }) {
            return called;
        }
        match self.ask(id, input).await {
            Asked::Done { receipt } => Called::Done { receipt },
            _ => called,
        }
    }

    async fn ask(&self, id: &str, input: &Value) -> Asked {
        if input["is_rest"] == true {
            // The provider says of a payment that it was given back, not how much of it.
            return Asked::CannotTell { reason: "a part of it had been given back before".into() };
        }
        let payment = input["payment"].as_str().unwrap_or_default();
        self.provider.look_for_refund(id, payment, input["order"].as_str().unwrap_or_default()).await
    }

    fn is_known_for(&self) -> Option<std::time::Duration> {
        Some(CloudPayments::IDS_KNOWN_FOR)
    }

    fn confirm<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, _receipt: &'t str) -> BoxFuture<'t, Result<(), Error>> {
        Box::pin(async move {
            let Some((order, payment)) = of_saga(tx, saga).await? else { return Ok(()) };
            payment.returned(tx, payment.amount).await?;
            let transaction = Some(payment.transaction.as_str());
            let event = Event { actor: "saga", event: "money_back", reason: None, transaction };
            note(tx, &order.id, None, event).await?;
            if payment.pays { close(tx, order, "saga", &payment.transaction).await } else { Ok(()) }
        })
    }

    fn compensate<'t>(&'t self, tx: &'t mut Tx, saga: &'t Saga, reason: &'t str) -> BoxFuture<'t, Result<(), Error>> {
        Box::pin(async move {
            let Some((order, payment)) = of_saga(tx, saga).await? else { return Ok(()) };
            payment.set_state(tx, if payment.pays { "applied" } else { "stuck" }).await?;
            let transaction = Some(payment.transaction.as_str());
            error!(order = %order.id, transaction, reason, "money could not be given back: an operator must see to it");
            let event = Event { actor: "saga", event: "refund_failed", reason: Some(reason), transaction };
            note(tx, &order.id, None, event).await
        })
    }
}

/// The order and the payment of a saga, locked, if it still is what brings the payment back.
async fn of_saga(tx: &mut Tx, saga: &Saga) -> Result<Option<(Order, Payment)>, Error> {
    let Some(order) = Order::lock(tx, &saga.subject).await? else { return Ok(None) };
    let payments = Payment::lock_all(tx, &order.id).await?;
    let ours = |payment: &Payment| payment.refund.as_ref() == Some(&saga.id) && payment.state == "returning";
    Ok(payments.into_iter().find(ours).map(|payment| (order, payment)))
}
