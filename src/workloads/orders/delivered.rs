//! What the end of a delivery means for its order: written in the delivery's own transaction, both or neither.
//!
//! A video that was delivered fulfils its order. One that can never be made gives the money back. One that was made and
//! cannot be delivered (the bot is blocked) leaves the order paid: an operator replays the delivery or gives the money back.

use futures::future::BoxFuture;

use super::order::{Event, Order, State, order_columns};
use super::payment::Payment;
use super::refund::give_back;
use crate::store::{Error, Tx, query, rows};

/// For [`Flights::on_ended`](crate::flight::Flights::on_ended).
pub fn ended<'t>(tx: &'t mut Tx, deliveries: &'t [String]) -> BoxFuture<'t, Result<(), Error>> {
    Box::pin(write(tx, deliveries))
}

async fn write(tx: &mut Tx, deliveries: &[String]) -> Result<(), Error> {
    let list: Vec<_> = deliveries.iter().map(|id| serde_json::json!({"id": id})).collect();
    let lock = concat!(
        "-- order.delivered.lock\nselect ",
        order_columns!(),
        " from orders o where o.request_id in (select r.id from {rows $1: id text} r) order by o.id {for update}"
    );
    for row in tx.fetch_all(query(lock).bind(rows(&list))).await? {
        let mut order = Order::read(&row)?;
        if order.state != State::Paid {
            continue;
        }
        let look = "-- order.delivered.look
            select d.state as delivery, n.state as run, n.error from deliveries d
            join runs n on n.flight_id = d.flight_id and n.generation = d.generation
            where d.id = $1";
        let Some(row) = tx.fetch_optional(query(look).bind(order.request.clone())).await? else { continue };
        let (delivery, run): (String, String) = (row.get("delivery")?, row.get("run")?);
        if run != "succeeded" {
            let reason = row.get::<Option<String>>("error")?.unwrap_or_default();
            let reason = format!("the video was not made: {reason}");
            let payments = Payment::lock_all(tx, &order.id).await?;
            for payment in payments.iter().filter(|payment| payment.state == "applied") {
                give_back(tx, payment, "delivery", &reason).await?;
            }
        } else if delivery == "delivered" {
            let event = Event { actor: "delivery", event: "fulfilled", ..Event::default() };
            order.move_to(tx, State::Fulfilled, event).await?;
        }
    }
    Ok(())
}
