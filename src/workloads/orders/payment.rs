//! A payment's row: money that the provider took, and how much of it is back.

use super::cloudpayments::Notice;
use crate::store::{Error, Row, Tx, query};

/// A payment's row.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub transaction: String,
    pub order: Option<String>,
    pub invoice: String,
    pub amount: i64,
    pub currency: String,
    pub state: String,
    pub pays: bool,
    pub returned: i64,
    pub refund: Option<String>,
}

impl Payment {
    pub fn taken(notice: &Notice, order: Option<&str>, amount: i64, state: &str) -> Self {
        Self {
            transaction: notice.transaction.clone(),
            order: order.map(ToOwned::to_owned),
            invoice: notice.invoice.clone().unwrap_or_default(),
            amount,
            currency: notice.currency.clone().unwrap_or_default(),
            state: state.to_owned(),
            pays: false,
            returned: 0,
            refund: None,
        }
    }

    pub async fn insert(&self, tx: &mut Tx) -> Result<(), Error> {
        tx.execute(
            query(
                "-- order.payment.insert
                insert into order_payments (transaction_id, order_id, invoice, amount, currency, state, pays,
                  returned_amount, created_at_ms, touched_at_ms)
                values ($1, $2, $3, $4, $5, $6, $7, $8, {now}, {now})",
            )
            .bind(self.transaction.as_str())
            .bind(self.order.clone())
            .bind(self.invoice.as_str())
            .bind(self.amount)
            .bind(self.currency.as_str())
            .bind(self.state.as_str())
            .bind(self.pays)
            .bind(self.returned),
        )
        .await
    }

    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            transaction: row.get("transaction_id")?,
            order: row.get("order_id")?,
            invoice: row.get("invoice")?,
            amount: row.get("amount")?,
            currency: row.get("currency")?,
            state: row.get("state")?,
            pays: row.get("pays")?,
            returned: row.get("returned_amount")?,
            refund: row.get("refund_id")?,
        })
    }

    pub async fn find(tx: &mut Tx, transaction: &str) -> Result<Option<Self>, Error> {
        let find = "-- order.payment.find
            select transaction_id, order_id, invoice, amount, currency, state, pays, returned_amount, refund_id
            from order_payments where transaction_id = $1";
        tx.fetch_optional(query(find).bind(transaction)).await?.map(|row| Self::read(&row)).transpose()
    }

    /// The payments of an order, in the order of their numbers, locked.
    pub async fn lock_all(tx: &mut Tx, order: &str) -> Result<Vec<Self>, Error> {
        let find = "-- order.payment.lock
            select transaction_id, order_id, invoice, amount, currency, state, pays, returned_amount, refund_id
            from order_payments where order_id = $1 order by transaction_id {for update}";
        tx.fetch_all(query(find).bind(order)).await?.iter().map(Self::read).collect()
    }

    /// So much of it is back.
    pub async fn returned(&self, tx: &mut Tx, returned: i64) -> Result<(), Error> {
        let update = "-- order.payment.returned
            update order_payments set returned_amount = $2,
              state = case when $2 = amount then 'returned' else state end, touched_at_ms = {now}
            where transaction_id = $1";
        tx.execute(query(update).bind(self.transaction.as_str()).bind(returned)).await
    }

    pub async fn set_state(&self, tx: &mut Tx, state: &str) -> Result<(), Error> {
        let update = "-- order.payment.state
            update order_payments set state = $2, touched_at_ms = {now} where transaction_id = $1";
        tx.execute(query(update).bind(self.transaction.as_str()).bind(state)).await
    }
}
