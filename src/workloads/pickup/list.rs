//! A user's orders and history, page by page through the cache; one order with its own history past it.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Order, Pickup};
use crate::cache::Page;
use crate::clock::rfc3339;
use crate::store::{Batch, Error, Row, Store, query, rows};

const ORDERS: &str = "pickup-orders";
const HISTORY: &str = "pickup-history";
/// The lists of a user that a change outdates.
pub(super) const LISTS: [&str; 2] = [ORDERS, HISTORY];
/// Lines of history that are shown with one order.
const SHOWN_WITH_ORDER: i64 = 1000;

/// Which page of whose list.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub user: String,
    /// The id of the last item of the page before, or nothing.
    pub before: String,
    pub limit: u32,
}

/// An order that is there or was, with all that happened to it.
#[derive(Clone, Debug)]
pub struct OrderView {
    /// Nothing if it went back to the courier.
    pub order: Option<Order>,
    /// The newest first, 1,000 at most.
    pub history: Vec<Value>,
}

#[derive(Serialize)]
struct Owner<'a> {
    owner: &'a str,
}

/// The versions of many users' lists in one query: a reader rides in one that begins after it asked.
pub(super) fn versions(store: &Store) -> Batch<String, i64> {
    let owner = store.clone();
    Batch::new(store.ride("pickup.versions"), move |owners: std::sync::Arc<Vec<String>>| {
        let store = owner.clone();
        Box::pin(async move {
            let wanted: Vec<_> = owners.iter().map(|owner| Owner { owner }).collect();
            let found = query(
                "-- pickup.versions
                select v.owner, v.version from pickup_versions v join {rows $1: owner text} r on r.owner = v.owner",
            );
            let mut known = std::collections::HashMap::new();
            for row in store.fetch_all(found.bind(rows(&wanted))).await? {
                known.insert(row.get::<String>("owner")?, row.get::<i64>("version")?);
            }
            Ok(owners.iter().map(|owner| known.get(owner).copied().unwrap_or(0)).collect())
        })
    })
}

impl Pickup {
    /// A page of the user's orders that are here, the newest first: `{items, next}` as JSON.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn orders(&self, wanted: &Wanted) -> Result<Bytes, Error> {
        self.page(ORDERS, wanted, || self.read_orders(wanted)).await
    }

    /// A page of what happened to the user's orders, the newest first: `{items, next}` as JSON.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn history(&self, wanted: &Wanted) -> Result<Bytes, Error> {
        self.page(HISTORY, wanted, || self.read_history(wanted)).await
    }

    /// An order with its history, straight from the database; `None` if there never was one of this id.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn order(&self, id: &str) -> Result<Option<OrderView>, Error> {
        let found = query(
            "-- pickup.order
            select id, place, owner, state, storage_until_ms, accepted_at_ms, issued_at_ms, returned_at_ms
            from pickup_orders where id = $1",
        );
        let order = self.store.fetch_optional(found.bind(id)).await?.map(|row| Order::read(&row)).transpose()?;
        let found = query(
            "-- pickup.order_history
            select id, order_id, owner, event, at_ms from pickup_history where order_id = $1
            order by at_ms desc, id desc limit $2",
        );
        let found = self.store.fetch_all(found.bind(id).bind(SHOWN_WITH_ORDER)).await?;
        let history = found.iter().map(|row| event(row).map(|(_, event)| event)).collect::<Result<Vec<_>, _>>()?;
        Ok((order.is_some() || !history.is_empty()).then_some(OrderView { order, history }))
    }

    /// The version is read before the page, so that the page is as new as its version at least.
    async fn page<F, R>(&self, list: &'static str, wanted: &Wanted, read: F) -> Result<Bytes, Error>
    where
        F: Fn() -> R,
        R: Future<Output = Result<Bytes, Error>>,
    {
        let version = self.versions.run(wanted.user.clone()).await?;
        let page = format!("{}:{}", wanted.before, wanted.limit);
        self.cache.read(Page { list, owner: &wanted.user, version, page: &page }, read).await
    }

    async fn read_orders(&self, wanted: &Wanted) -> Result<Bytes, Error> {
        let found = query(
            "-- pickup.orders
            select id, place, owner, state, storage_until_ms, accepted_at_ms, issued_at_ms, returned_at_ms
            from pickup_orders where owner = $1 and ($2 = '' or place < $2) order by place desc limit $3",
        );
        self.read(found, wanted, |row| Order::read(row).map(|order| (order.place.clone(), order.to_json()))).await
    }

    async fn read_history(&self, wanted: &Wanted) -> Result<Bytes, Error> {
        let found = query(
            "-- pickup.user_history
            select id, order_id, owner, event, at_ms from pickup_history
            where owner = $1 and ($2 = '' or id < $2) order by id desc limit $3",
        );
        self.read(found, wanted, event).await
    }

    async fn read(
        &self,
        found: crate::store::Query,
        wanted: &Wanted,
        item: impl Fn(&Row) -> Result<(String, Value), Error>,
    ) -> Result<Bytes, Error> {
        let limit = wanted.limit as usize;
        // One more than is wanted, to know whether there is another page.
        let found = found.bind(wanted.user.as_str()).bind(wanted.before.as_str()).bind(i64::from(wanted.limit) + 1);
        let found = self.store.fetch_all(found).await?;
        let items = found.iter().take(limit).map(item).collect::<Result<Vec<_>, _>>()?;
        let next = items.last().filter(|_| found.len() > limit).map(|(id, _)| id.clone());
        let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        Ok(Bytes::from(json!({"items": items, "next": next}).to_string()))
    }
}

fn event(row: &Row) -> Result<(String, Value), Error> {
    let id: String = row.get("id")?;
    let event = json!({
        "order": row.get::<String>("order_id")?,
        "user": row.get::<String>("owner")?,
        "event": row.get::<String>("event")?,
        "at": rfc3339(row.get("at_ms")?),
    });
    Ok((id, event))
}
