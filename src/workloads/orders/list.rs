//! Orders and payments as people look at them.

use serde_json::{Value, json};

use super::Orders;
use super::order::{Order, order_columns};
use crate::clock::rfc3339;
use crate::id::is_id;
use crate::store::{Error, Row, query};

/// Which orders to list; empty texts are no condition.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    pub user: String,
    pub state: String,
    /// Those before this id, the newest first.
    pub before: String,
    pub limit: u32,
}

/// Which payments to list; empty texts are no condition.
#[derive(Clone, Debug, Default)]
pub struct PaymentFilter {
    pub state: String,
    pub after: String,
    pub limit: u32,
}

impl Orders {
    /// # Errors
    /// [`Error`] of the store.
    pub async fn list(&self, filter: &OrderFilter) -> Result<Vec<Value>, Error> {
        let list = concat!(
            "-- order.list\nselect ",
            order_columns!(),
            " from orders o
            where ($1 = '' or o.user_id = $1) and ($2 = '' or o.state = $2) and ($3 = '' or o.id < $3)
            order by o.id desc limit $4"
        );
        let find = query(list).bind(filter.user.as_str()).bind(filter.state.as_str()).bind(filter.before.as_str());
        let found = self.store.fetch_all(find.bind(i64::from(filter.limit))).await?;
        found.iter().map(|row| Order::read(row).map(|order| order.to_json())).collect()
    }

    /// An order with its payments and its history: its last 1,000 events, in their order.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn show(&self, id: &str) -> Result<Option<Value>, Error> {
        if !is_id(id) {
            return Ok(None);
        }
        let find = concat!("-- order.show\nselect ", order_columns!(), " from orders o where o.id = $1");
        let Some(row) = self.store.fetch_optional(query(find).bind(id)).await? else { return Ok(None) };
        let mut order = Order::read(&row)?.to_json();
        let payments = "-- order.show.payments
            select transaction_id, order_id, invoice, amount, currency, state, pays, returned_amount, reason, refund_id,
              created_at_ms from order_payments where order_id = $1 order by transaction_id";
        let payments = self.store.fetch_all(query(payments).bind(id)).await?;
        order["payments"] = payments.iter().map(payment).collect::<Result<Value, Error>>()?;
        let history = "-- order.show.history
            select at_ms, actor, event, from_state, to_state, reason, transaction_id from order_events
            where order_id = $1 order by at_ms desc, rowid desc limit 1000";
        let history = self.store.fetch_all(query(history).bind(id)).await?;
        order["history"] = history.iter().rev().map(event).collect::<Result<Value, Error>>()?;
        Ok(Some(order))
    }

    /// Whether an order asked for this request, was paid, and owes its user the video.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn is_paid_for(&self, request: &str) -> Result<bool, Error> {
        let paid = "-- order.paid_for\nselect 1 as one from orders where request_id = $1 and state = 'paid'";
        Ok(self.store.fetch_optional(query(paid).bind(request)).await?.is_some())
    }

    /// Payments in the order of their numbers: above all those that are `unknown` or `stuck`.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn payments(&self, filter: &PaymentFilter) -> Result<Vec<Value>, Error> {
        let list = "-- order.payments
            select transaction_id, order_id, invoice, amount, currency, state, pays, returned_amount, reason, refund_id,
              created_at_ms from order_payments
            where ($1 = '' or state = $1) and transaction_id > $2 order by transaction_id limit $3";
        let find = query(list).bind(filter.state.as_str()).bind(filter.after.as_str()).bind(i64::from(filter.limit));
        self.store.fetch_all(find).await?.iter().map(payment).collect()
    }
}

fn payment(row: &Row) -> Result<Value, Error> {
    Ok(json!({
        "transaction": row.get::<String>("transaction_id")?,
        "order": row.get::<Option<String>>("order_id")?,
        "invoice": row.get::<String>("invoice")?,
        "amount": row.get::<i64>("amount")?,
        "currency": row.get::<String>("currency")?,
        "state": row.get::<String>("state")?,
        "pays": row.get::<bool>("pays")?,
        "returned_amount": row.get::<i64>("returned_amount")?,
        "reason": row.get::<Option<String>>("reason")?,
        "refund": row.get::<Option<String>>("refund_id")?,
        "created_at": rfc3339(row.get("created_at_ms")?),
    }))
}

fn event(row: &Row) -> Result<Value, Error> {
    Ok(json!({
        "at": rfc3339(row.get("at_ms")?),
        "actor": row.get::<String>("actor")?,
        "event": row.get::<String>("event")?,
        "from": row.get::<Option<String>>("from_state")?,
        "to": row.get::<Option<String>>("to_state")?,
        "reason": row.get::<Option<String>>("reason")?,
        "transaction": row.get::<Option<String>>("transaction_id")?,
    }))
}
