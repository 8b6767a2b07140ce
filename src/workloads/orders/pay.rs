//! A payment comes in: asked about before it is taken (check), told when it was (pay) or was not (fail).
//!
//! A check is asked before money moves, and may be refused. At a pay the money *was* taken: a payment that its order
//! cannot use is written down and given back. Only one that names no order of ours is left to a person, because the
//! account at the provider may serve other shops too.

use metrics::counter;
use tracing::{debug, warn};

use super::cloudpayments::Notice;
use super::notices::{self, Codes};
use super::order::{Event, Order, State, note, order_columns};
use super::payment::Payment;
use super::refund::give_back;
use super::{Orders, QUEUE};
use crate::dedupe::KeyParts;
use crate::fault;
use crate::flight::{Accepted, Answer, Ask, Flights, RunSpec};
use crate::id::{self, QueueName, is_id};
use crate::intake::{Submit, SubscriberSpec};
use crate::store::{Error, Tx, query};
use crate::workloads::videos::wish;

const PROVIDER: &str = "cloudpayments";

/// A wish that was accepted in the payment's own transaction, to be published after it.
type Wished = Option<(Box<Accepted>, RunSpec)>;

impl Orders {
    /// Whether a payment may be taken. Changes nothing.
    ///
    /// # Errors
    /// [`Error`] of the store: the provider asks again, or takes no payment.
    pub async fn check(&self, notice: &Notice) -> Result<Codes, Error> {
        let Some(invoice) = notice.invoice.as_ref().filter(|invoice| is_id(invoice)) else {
            return Ok(Codes::WrongOrder);
        };
        let find = concat!("-- order.check\nselect ", order_columns!(), " from orders o where o.id = $1");
        let Some(row) = self.store.fetch_optional(query(find).bind(invoice.as_str())).await? else {
            return Ok(Codes::WrongOrder);
        };
        let order = Order::read(&row)?;
        if let Some((code, _)) = self.mismatch(&order, notice) {
            return Ok(code);
        }
        Ok(match order.state {
            State::AwaitingPayment if order.expires_at_ms > order.now_ms => Codes::Ok,
            State::AwaitingPayment | State::Expired => Codes::Expired,
            State::Paid | State::Fulfilled => {
                // The provider may repeat its question after we know the answer to be yes.
                let paid_by = "-- order.check.paid
                    select 1 as one from order_payments where order_id = $1 and transaction_id = $2 and pays";
                let paid_by = query(paid_by).bind(order.id).bind(notice.transaction.as_str());
                if self.store.fetch_optional(paid_by).await?.is_some() { Codes::Ok } else { Codes::NotAcceptable }
            }
            State::Cancelled | State::Refunded => Codes::NotAcceptable,
        })
    }

    /// Money was taken: the order is paid and its video requested in one commit, or the money goes back.
    ///
    /// # Errors
    /// [`Error`] of the store: the provider tells again.
    pub async fn pay(&self, notice: Notice) -> Result<Codes, Error> {
        let (orders, told) = (self.clone(), notice.clone());
        let fresh_id = id::new_id();
        let (code, wished) = self
            .store
            .unit_of_work("order.pay", move |tx| {
                let (orders, notice, fresh_id) = (orders.clone(), notice.clone(), fresh_id.clone());
                Box::pin(async move { orders.take_payment(tx, &notice, &fresh_id).await })
            })
            .await?;
        fault::point("order.paid");
        if let Some((accepted, run)) = wished {
            self.intake.accepted(&accepted, &run);
        }
        self.sagas.wake();
        debug!(transaction = %told.transaction, code = code.number(), "heard of payment {}", told.transaction);
        Ok(code)
    }

    /// A payment failed: the order waits on, and the payer may try again.
    ///
    /// # Errors
    /// [`Error`] of the store: the provider tells again.
    pub async fn fail(&self, notice: Notice) -> Result<Codes, Error> {
        self.store
            .unit_of_work("order.fail", move |tx| {
                let notice = notice.clone();
                Box::pin(async move {
                    notices::lock(tx, &notice.transaction).await?;
                    if let Some(code) = notices::before(tx, "fail", &notice).await? {
                        return Ok(code);
                    }
                    let (reason, transaction) = (notice.reason.as_deref(), Some(notice.transaction.as_str()));
                    let event = Event { actor: PROVIDER, event: "payment_failed", reason, transaction };
                    note(tx, notice.invoice.as_deref().unwrap_or_default(), None, event).await?;
                    notices::answered(tx, "fail", &notice, Codes::Ok).await?;
                    Ok(Codes::Ok)
                })
            })
            .await
    }

    async fn take_payment(&self, tx: &mut Tx, notice: &Notice, fresh_id: &str) -> Result<(Codes, Wished), Error> {
        notices::lock(tx, &notice.transaction).await?;
        if let Some(code) = notices::before(tx, "pay", notice).await? {
            return Ok((code, None));
        }
        let (code, wished) = self.judge_payment(tx, notice, fresh_id).await?;
        notices::answered(tx, "pay", notice, code).await?;
        Ok((code, wished))
    }

    async fn judge_payment(&self, tx: &mut Tx, notice: &Notice, fresh_id: &str) -> Result<(Codes, Wished), Error> {
        let invoice = notice.invoice.clone().unwrap_or_default();
        let transaction = Some(notice.transaction.as_str());
        let event = |event, reason| Event { actor: PROVIDER, event, reason, transaction };
        if !notice.is_completed || (notice.is_test && !self.settings.cloudpayments.test_payments) {
            // Blocked but not taken (two-stage), or no money at all.
            note(tx, &invoice, None, event("payment_refused", Some("not a completed payment of real money"))).await?;
            return Ok((Codes::NotAcceptable, None));
        }
        let Some(amount) = notice.amount.filter(|amount| *amount > 0) else {
            note(tx, &invoice, None, event("payment_refused", Some("no amount"))).await?;
            return Ok((Codes::WrongAmount, None));
        };
        let Some(mut order) = Order::lock(tx, &invoice).await? else {
            warn!(transaction, invoice, "a payment names no order of ours: a person must look at it");
            counter!("onetake_order_payments_total", "outcome" => "unknown").increment(1);
            Payment::taken(notice, None, amount, "unknown").insert(tx).await?;
            note(tx, &invoice, None, event("payment_unknown", None)).await?;
            return Ok((Codes::WrongOrder, None));
        };
        let given_back = notices::given_back(tx, &notice.transaction).await?;
        let unusable = match (self.mismatch(&order, notice), order.state) {
            _ if given_back >= amount => Some("given back before"),
            (Some((_, reason)), _) => Some(reason),
            // Not closed yet: whoever locks the row first decides, and nothing is lost to a clean-up that is late.
            (None, State::AwaitingPayment) => None,
            (None, State::Paid | State::Fulfilled) => Some("paid already"),
            (None, State::Expired) => Some("too late"),
            (None, State::Cancelled | State::Refunded) => Some("the order is closed"),
        };
        if let Some(reason) = unusable {
            let payment = Payment::taken(notice, Some(&order.id), amount, "stuck");
            payment.insert(tx).await?;
            note(tx, &order.id, None, event("payment_unusable", Some(reason))).await?;
            counter!("onetake_order_payments_total", "outcome" => "unusable").increment(1);
            if given_back >= amount {
                payment.returned(tx, amount).await?;
            } else {
                give_back(tx, &Payment { returned: given_back, ..payment }, PROVIDER, reason).await?;
            }
            return Ok((Codes::Ok, None));
        }
        let wished = self.request_video(tx, &order, fresh_id).await?;
        order.request = wished.0.requests.first().cloned();
        let payment =
            Payment { pays: true, returned: given_back, ..Payment::taken(notice, Some(&order.id), amount, "applied") };
        payment.insert(tx).await?;
        order.move_to(tx, State::Paid, event("paid", None)).await?;
        counter!("onetake_order_payments_total", "outcome" => "applied").increment(1);
        Ok((Codes::Ok, Some(wished)))
    }

    /// The first thing in which a payment and its order differ.
    fn mismatch(&self, order: &Order, notice: &Notice) -> Option<(Codes, &'static str)> {
        if notice.is_test && !self.settings.cloudpayments.test_payments {
            return Some((Codes::NotAcceptable, "a test payment"));
        }
        if notice.account.as_ref().is_some_and(|account| *account != order.user) {
            return Some((Codes::WrongAccount, "of another account"));
        }
        if notice.amount != Some(order.amount) {
            return Some((Codes::WrongAmount, "another amount"));
        }
        if notice.currency.as_ref().is_none_or(|currency| !currency.eq_ignore_ascii_case(&order.currency)) {
            return Some((Codes::WrongAmount, "another currency"));
        }
        None
    }

    /// The wish for the order's video, accepted in the transaction at hand. Each order has a request of its own.
    async fn request_video(
        &self,
        tx: &mut Tx,
        order: &Order,
        fresh_id: &str,
    ) -> Result<(Box<Accepted>, RunSpec), Error> {
        let ask = self.wish_of(order)?;
        match Flights::accept_in(tx, &ask, fresh_id).await? {
            Answer::Accepted(accepted) => Ok((accepted, ask.run)),
            Answer::Replayed(_) | Answer::KeyReused => {
                Err(Error::Setup("an order's wish has no idempotency key".into()))
            }
        }
    }

    fn wish_of(&self, order: &Order) -> Result<Ask, Error> {
        let broken = |reason: String| Error::Setup(format!("the video of an order cannot be requested: {reason}"));
        let scope = QueueName::parse(wish::QUEUE).expect("a constant that is a queue name");
        let entry = self.intake.catalog().get(wish::QUEUE).ok_or_else(|| broken("no such queue".into()))?;
        let dedupe = entry.settings.dedupe.as_ref().ok_or_else(|| broken("the queue does not dedupe".into()))?;
        let data = serde_json::json!({"name": order.name, "gender": order.gender, "template": order.template});
        let parts = KeyParts::from_fields(&data, dedupe.fields.iter().map(String::as_str), &dedupe.defaults);
        let submit = Submit {
            scope,
            key: parts.map_err(broken)?.to_key(),
            name: wish::QUEUE.to_owned(),
            data: data.to_string(),
            delay_ms: 0,
            priority: 0,
            attempts: None,
            backoff: None,
            max_age_ms: None,
            refresh: false,
            subscriber: SubscriberSpec { id: order.user.clone(), deliver: self.intake.push_target(order.chat.clone()) },
            idempotency: None,
        };
        let request = id::derived_id(&[QUEUE, &order.id]);
        let ask = self.intake.prepare(&submit, request, ("order", &order.id)).map_err(|e| broken(e.to_string()))?;
        // A failure that is remembered for others will not do for somebody who has paid.
        Ok(Ask { despite_failure: true, ..ask })
    }
}
