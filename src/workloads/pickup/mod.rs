//! A pickup point: orders come from the courier, are issued to their clients, may come back, and go back to the courier.
//!
//! ```text
//! ORDER  -accept-> accepted -issue-> issued -take back, within 48 h-> returned -return to courier, after two weeks-> gone
//! ```
//!
//! Whoever decides about an order holds its row, then reads the time and the rest in statements of their own, then writes.
//! What concerns several orders is done order by order, each in a transaction of its own with its own outcome. An order's
//! history outlives it. The database's clock says what is too late and what too early.

mod accept;
mod courier;
mod list;
mod several;
mod verbs;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::clock::{Millis, rfc3339};
use crate::fault;
use crate::idempotency::{self, Answered, Key, Told};
use crate::refusal::{Kind, Refusal};
use crate::store::{Batch, Error, Row, Store, Tx, query};

pub use accept::Accept;
pub use courier::ToCourier;
pub use list::{OrderView, Wanted};
pub use several::{Several, Unfit};

/// The workload's name, in audit lines and as a queue.
pub const NAME: &str = "pickup";

/// A client may bring an order back for this long, its end included.
pub const RETURN_WITHIN: Duration = Duration::from_secs(48 * 3600);
/// An order that came back goes to the courier after this long.
pub const COURIER_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);

pub const ORDER_EXISTS: Refusal =
    Refusal::new("order_exists", Kind::Conflict, "This order is here already.", "Этот заказ уже принят.");
pub const DEADLINE_PAST: Refusal = Refusal::new(
    "storage_deadline_past",
    Kind::Unfit,
    "The storage deadline is in the past.",
    "Срок хранения уже в прошлом.",
);
pub const ORDER_UNKNOWN: Refusal =
    Refusal::new("order_unknown", Kind::Unknown, "There is no such order here.", "Такого заказа здесь нет.");
pub const ORDER_FOREIGN: Refusal = Refusal::new(
    "order_foreign",
    Kind::Foreign,
    "This order belongs to somebody else.",
    "Этот заказ принадлежит другому человеку.",
);
pub const ORDER_NOT_AVAILABLE: Refusal = Refusal::new(
    "order_not_available",
    Kind::Conflict,
    "This order has been issued already.",
    "Этот заказ уже был выдан.",
);
pub const STORAGE_EXPIRED: Refusal = Refusal::new(
    "storage_expired",
    Kind::Conflict,
    "The storage time of this order is over.",
    "Срок хранения этого заказа истёк.",
);
pub const ORDER_NOT_ISSUED: Refusal = Refusal::new(
    "order_not_issued",
    Kind::Conflict,
    "This order has not been issued, so it cannot be brought back.",
    "Этот заказ не был выдан, вернуть его нельзя.",
);
pub const ORDER_RETURNED: Refusal = Refusal::new(
    "order_already_returned",
    Kind::Conflict,
    "This order has been brought back already.",
    "Этот заказ уже возвращён.",
);
pub const RETURN_TOO_LATE: Refusal = Refusal::new(
    "return_too_late",
    Kind::Conflict,
    "An order can be brought back within 48 hours only.",
    "Вернуть заказ можно только в течение 48 часов.",
);
pub const ORDER_NOT_RETURNED: Refusal = Refusal::new(
    "order_not_returned",
    Kind::Conflict,
    "Only an order that its client brought back goes to the courier.",
    "Курьеру отдают только заказы, которые вернул клиент.",
);
pub const RETURN_TOO_EARLY: Refusal = Refusal::new(
    "courier_too_early",
    Kind::Conflict,
    "An order goes to the courier two weeks after its client brought it back.",
    "Заказ отдают курьеру через две недели после возврата клиентом.",
);
pub const NOT_TRIED: Refusal = Refusal::new(
    "order_not_tried",
    Kind::Conflict,
    "The database could not be reached; please ask for this order again.",
    "База данных недоступна; пожалуйста, повторите запрос по этому заказу.",
);

/// The pickup point. Cheap to clone.
#[derive(Clone)]
pub struct Pickup {
    store: Store,
    cache: Cache,
    versions: Batch<String, i64>,
}

impl Pickup {
    /// Needs to be called inside a tokio runtime.
    pub fn new(store: Store, cache: Cache) -> Self {
        Self { versions: list::versions(&store), store, cache }
    }

    /// A change of somebody's orders: a unit of work, then their lists in Redis are forgotten, then it is answered.
    async fn change<F>(&self, name: &'static str, key: Option<Key>, work: F) -> Result<Answered, Error>
    where
        F: for<'t> Fn(&'t mut Tx, Changed) -> BoxFuture<'t, Result<Told, Error>> + Send + Sync + 'static,
    {
        let changed = Changed::default();
        let noted = changed.clone();
        let answered = idempotency::unit_of_work(&self.store, name, key, move |tx| {
            // A try before this one was rolled back, and what it noted never was.
            noted.clear();
            work(tx, noted.clone())
        })
        .await?;
        if let Some((owner, version)) = changed.take() {
            for list in list::LISTS {
                self.cache.forget(list, &owner, version).await;
            }
        }
        fault::point("pickup.forgotten");
        Ok(answered)
    }
}

/// Whose lists a transaction changed, and their version then: told out of a transaction that may be repeated.
#[derive(Clone, Default)]
struct Changed(Arc<(std::sync::Mutex<String>, AtomicI64)>);

impl Changed {
    fn note(&self, owner: &str, version: i64) {
        owner.clone_into(&mut self.0.0.lock().expect("no user panics inside"));
        self.0.1.store(version, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.0.1.store(0, Ordering::SeqCst);
    }

    fn take(&self) -> Option<(String, i64)> {
        let version = self.0.1.load(Ordering::SeqCst);
        (version > 0).then(|| (self.0.0.lock().expect("no user panics inside").clone(), version))
    }
}

/// An order's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: String,
    pub place: String,
    pub owner: String,
    pub state: String,
    pub storage_until_ms: Millis,
    pub accepted_at_ms: Millis,
    pub issued_at_ms: Option<Millis>,
    pub returned_at_ms: Option<Millis>,
}

impl Order {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            place: row.get("place")?,
            owner: row.get("owner")?,
            state: row.get("state")?,
            storage_until_ms: row.get("storage_until_ms")?,
            accepted_at_ms: row.get("accepted_at_ms")?,
            issued_at_ms: row.get("issued_at_ms")?,
            returned_at_ms: row.get("returned_at_ms")?,
        })
    }

    /// As it is told over HTTP and in queues.
    pub fn to_json(&self) -> Value {
        json!({
            "order": self.id,
            "user": self.owner,
            "state": self.state,
            "storage_until": rfc3339(self.storage_until_ms),
            "accepted_at": rfc3339(self.accepted_at_ms),
            "issued_at": self.issued_at_ms.map(rfc3339),
            "returned_at": self.returned_at_ms.map(rfc3339),
        })
    }
}

/// Holds an order's row until the transaction ends.
async fn hold(tx: &mut Tx, order: &str) -> Result<Option<Order>, Error> {
    let row = query(
        "-- pickup.hold
        select id, place, owner, state, storage_until_ms, accepted_at_ms, issued_at_ms, returned_at_ms
        from pickup_orders where id = $1 {for update}",
    );
    let row = tx.fetch_optional(row.bind(order)).await?;
    row.map(|row| Order::read(&row)).transpose()
}

/// The time after the row was taken, and whether `event` was written before: by this very act, whose commit was not heard of.
async fn standing(tx: &mut Tx, event: &str) -> Result<(Millis, bool), Error> {
    let row = query(
        "-- pickup.standing
        select {now} as now_ms, (select count(*) from pickup_history where id = $1) as done",
    );
    let row = tx.fetch_optional(row.bind(event)).await?;
    let row = row.ok_or_else(|| Error::Setup("one row was asked for, and none came".into()))?;
    Ok((row.get("now_ms")?, row.get::<i64>("done")? > 0))
}

/// A line of history.
struct Event<'a> {
    /// Made before the transaction.
    id: &'a str,
    order: &'a str,
    owner: &'a str,
    event: &'static str,
    at_ms: Millis,
    by: &'a str,
}

/// Writes the line, and raises the version of its owner's lists: the last thing that a change does.
async fn note(tx: &mut Tx, event: Event<'_>, changed: &Changed) -> Result<(), Error> {
    tx.execute(
        query(
            "-- pickup.history
            insert into pickup_history (id, order_id, owner, event, at_ms, by_whom) values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(event.id)
        .bind(event.order)
        .bind(event.owner)
        .bind(event.event)
        .bind(event.at_ms)
        .bind(event.by),
    )
    .await?;
    let raised = query(
        "-- pickup.raise
        insert into pickup_versions (owner, version) values ($1, 1)
        on conflict (owner) do update set version = pickup_versions.version + 1
        returning version",
    );
    let raised = tx.fetch_optional(raised.bind(event.owner)).await?;
    let raised = raised.ok_or_else(|| Error::Setup("an upsert returned no row".into()))?;
    changed.note(event.owner, raised.get("version")?);
    Ok(())
}
