//! The clean-up: orders that were not paid in time, each closed in a unit of work of its own.

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Orders;
use super::order::{Event, Order, State};
use crate::clock::millis;
use crate::store::{Error, query};

impl Orders {
    /// Closes what is due at every interval, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let every = self.settings.orders.expire_every.0;
        loop {
            match self.expire_step().await {
                Ok(0) => {}
                Ok(closed) => info!("closed {closed} orders that were not paid in time"),
                Err(error) => debug!(%error, "closing unpaid orders was cut short: SQL is away"),
            }
            // Dropped: a wait only.
            if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
                return;
            }
        }
    }

    /// One page of them; says how many were closed here.
    ///
    /// # Errors
    /// [`Error`] of the store; those closed before stay closed.
    pub async fn expire_step(&self) -> Result<usize, Error> {
        let due = "-- order.expire.due
            select id from orders where state = 'awaiting_payment' and expires_at_ms <= {now} - $1
            order by expires_at_ms limit $2";
        let due = query(due).bind(self.grace_ms()).bind(i64::from(self.settings.orders.expire_page));
        let due = self.store.fetch_all(due).await?;
        let mut closed = 0;
        for row in due {
            closed += usize::from(self.expire(row.get("id")?).await?);
        }
        Ok(closed)
    }

    /// How long after its end an order is left open, for payments that were begun in time.
    fn grace_ms(&self) -> i64 {
        millis(self.settings.orders.expire_grace.0)
    }

    /// Under the row's lock it is looked again: a payment may have come meanwhile, or another server.
    async fn expire(&self, id: String) -> Result<bool, Error> {
        let grace_ms = self.grace_ms();
        self.store
            .unit_of_work("order.expire", move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let Some(mut order) = Order::lock(tx, &id).await? else { return Ok(false) };
                    if order.state != State::AwaitingPayment || order.expires_at_ms > order.now_ms - grace_ms {
                        return Ok(false);
                    }
                    let reason = Some("not paid in time");
                    let event = Event { actor: "clean-up", event: "expired", reason, ..Event::default() };
                    order.move_to(tx, State::Expired, event).await?;
                    Ok(true)
                })
            })
            .await
    }
}
