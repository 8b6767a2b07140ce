//! What the provider has told us before, and what it was answered: the same again is answered the same again.

use super::cloudpayments::Notice;
use crate::store::{Error, Tx, query};

/// The answers that the provider documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    Ok = 0,
    /// There is no such order.
    WrongOrder = 10,
    /// The order is another account's.
    WrongAccount = 11,
    /// It costs another amount, or another currency.
    WrongAmount = 12,
    /// The payment cannot be accepted.
    NotAcceptable = 13,
    /// The order was not paid in time.
    Expired = 20,
}

impl Codes {
    pub fn number(self) -> i64 {
        self as i64
    }

    fn of(number: i64) -> Self {
        match number {
            10 => Self::WrongOrder,
            11 => Self::WrongAccount,
            12 => Self::WrongAmount,
            13 => Self::NotAcceptable,
            20 => Self::Expired,
            _ => Self::Ok,
        }
    }
}

/// From here to the end of the transaction nobody else works on this payment, whether it is known already or not.
pub(super) async fn lock(tx: &mut Tx, payment: &str) -> Result<(), Error> {
    tx.execute(
        query(
            "-- order.notice.lock
            insert into order_notices (kind, transaction_id, code, created_at_ms) values ('payment', $1, 0, {now})
            on conflict (kind, transaction_id) do update set code = 0",
        )
        .bind(payment),
    )
    .await
}

/// What the same notice was answered before. Ask under [`lock`].
pub(super) async fn before(tx: &mut Tx, kind: &'static str, notice: &Notice) -> Result<Option<Codes>, Error> {
    let find = "-- order.notice.before\nselect code from order_notices where kind = $1 and transaction_id = $2";
    let row = tx.fetch_optional(query(find).bind(kind).bind(notice.transaction.as_str())).await?;
    row.map(|row| row.get("code").map(Codes::of)).transpose()
}

pub(super) async fn answered(tx: &mut Tx, kind: &'static str, notice: &Notice, code: Codes) -> Result<(), Error> {
    tx.execute(
        query(
            "-- order.notice.answered
            insert into order_notices (kind, transaction_id, payment_id, amount, code, created_at_ms)
            values ($1, $2, $3, $4, $5, {now})",
        )
        .bind(kind)
        .bind(notice.transaction.as_str())
        .bind(notice.payment.clone())
        .bind(notice.amount)
        .bind(code.number()),
    )
    .await
}

/// How much of a payment the provider says it has given back, whoever told it to.
pub(super) async fn given_back(tx: &mut Tx, payment: &str) -> Result<i64, Error> {
    let find = "-- order.notice.given_back
        select amount from order_notices where kind = 'refund' and payment_id = $1";
    let mut sum = 0_i64;
    for row in tx.fetch_all(query(find).bind(payment)).await? {
        // Added up here: what is told may be more than the databases can add.
        sum = sum.saturating_add(row.get::<Option<i64>>("amount")?.unwrap_or(0));
    }
    Ok(sum)
}
