//! Issuing orders to a client, and taking them back: several in one call, each in a transaction with its own outcome.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    Changed, Event, NAME, NOT_TRIED, ORDER_FOREIGN, ORDER_NOT_AVAILABLE, ORDER_NOT_ISSUED, ORDER_RETURNED,
    ORDER_UNKNOWN, Order, Pickup, RETURN_TOO_LATE, RETURN_WITHIN, STORAGE_EXPIRED, hold, note, standing,
};
use crate::clock::{Millis, millis};
use crate::id::{Name, new_id};
use crate::idempotency::{self, Answered, Before, Key, StoredAnswer, Told};
use crate::refusal::Refusal;
use crate::store::{Error, Tx, query};
use crate::workloads::audit::{self, Line};

/// Orders in one call, at most.
const MOST: usize = 100;

/// Orders of one client.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PickupOrders)]
pub struct Several {
    #[schema(value_type = crate::id::TextOrInteger)]
    pub user: Name,
    /// 1 to 100, each once.
    #[schema(value_type = Vec<String>)]
    pub orders: Vec<Name>,
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Unfit {
    pub field: String,
    pub reason: String,
}

impl Several {
    /// # Errors
    /// The first field that cannot be as it is.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.orders.is_empty() || self.orders.len() > MOST {
            return Err(Unfit { field: "orders".into(), reason: format!("a call is about 1 to {MOST} orders") });
        }
        let mut seen = BTreeSet::new();
        match self.orders.iter().position(|order| !seen.insert(order)) {
            Some(index) => Err(Unfit { field: format!("orders[{index}]"), reason: "each order is named once".into() }),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Act {
    Issue,
    TakeBack,
}

impl Pickup {
    /// Hands orders over to their client; `ask` was checked. Each is answered by itself.
    ///
    /// Refused with [`ORDER_UNKNOWN`], [`ORDER_FOREIGN`], [`ORDER_NOT_AVAILABLE`] or [`STORAGE_EXPIRED`].
    ///
    /// # Errors
    /// [`Error`] of the store, if nothing was done.
    pub async fn issue(&self, ask: Several, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        self.each(Act::Issue, ask, by, key).await
    }

    /// Takes orders back from their client, 48 hours after they were issued at the latest; `ask` was checked. Each is
    /// answered by itself.
    ///
    /// Refused with [`ORDER_UNKNOWN`], [`ORDER_FOREIGN`], [`ORDER_NOT_ISSUED`], [`ORDER_RETURNED`] or [`RETURN_TOO_LATE`].
    ///
    /// # Errors
    /// [`Error`] of the store, if nothing was done.
    pub async fn take_back(&self, ask: Several, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        self.each(Act::TakeBack, ask, by, key).await
    }

    /// The key of the call is taken first, by itself, and says that the call was begun; each order then has a key of its
    /// own below it. So whoever repeats a call that died half-way is told the first answers, and has the rest done.
    async fn each(&self, act: Act, ask: Several, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let mut is_again = match &key {
            None => false,
            Some(key) => match self.begin(key).await? {
                Some(Before::Reused) => return Ok(Answered::KeyReused),
                before => before.is_some(),
            },
        };
        let mut outcomes = Vec::with_capacity(ask.orders.len());
        let mut is_away = None;
        for order in &ask.orders {
            if is_away.is_some() {
                outcomes.push(outcome(&order.0, Err(NOT_TRIED)));
                continue;
            }
            // No key of a caller's has a control character.
            let key = key.as_ref().map(|key| Key { key: format!("{}\u{1f}{}", key.key, order.0), ..key.clone() });
            match self.one(act, order, &ask.user, by, key).await {
                Ok(Answered::First(told)) => {
                    is_again = false;
                    outcomes.push(outcome(&order.0, told));
                }
                Ok(Answered::Again(told)) => outcomes.push(outcome(&order.0, told)),
                Ok(Answered::KeyReused) => return Ok(Answered::KeyReused),
                Err(error) if outcomes.is_empty() || !error.is_repeatable() => return Err(error),
                Err(error) => {
                    is_away = Some(error);
                    outcomes.push(outcome(&order.0, Err(NOT_TRIED)));
                }
            }
        }
        let told = Ok(json!({"user": ask.user, "orders": outcomes}));
        Ok(if is_again && is_away.is_none() { Answered::Again(told) } else { Answered::First(told) })
    }

    async fn begin(&self, key: &Key) -> Result<Option<Before>, Error> {
        let key = key.clone();
        self.store
            .unit_of_work("pickup.begin", move |tx| {
                let key = key.clone();
                Box::pin(async move {
                    let before = idempotency::take(tx, &key).await?;
                    if before.is_none() {
                        let begun = StoredAnswer { status: 200, body: "{}".into(), location: None };
                        idempotency::store(tx, &key, &begun).await?;
                    }
                    Ok(before)
                })
            })
            .await
    }

    async fn one(&self, act: Act, order: &Name, user: &Name, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (order, user, by) = (order.0.clone(), user.0.clone(), by.to_owned());
        let (event, name) = (
            new_id(),
            match act {
                Act::Issue => "pickup.issue",
                Act::TakeBack => "pickup.take_back",
            },
        );
        self.change(name, key, move |tx, changed| {
            let (order, user, by, event) = (order.clone(), user.clone(), by.clone(), event.clone());
            Box::pin(async move { decide(tx, act, &order, &user, &by, &event, &changed).await })
        })
        .await
    }
}

fn outcome(order: &str, told: Told) -> Value {
    match told {
        Ok(mut value) => {
            value["ok"] = true.into();
            value
        }
        Err(Refusal { code, message, .. }) => json!({"order": order, "ok": false, "code": code, "message": message}),
    }
}

async fn decide(
    tx: &mut Tx,
    act: Act,
    order: &str,
    user: &str,
    by: &str,
    event: &str,
    changed: &Changed,
) -> Result<Told, Error> {
    let Some(held) = hold(tx, order).await? else { return Ok(Err(ORDER_UNKNOWN)) };
    let (now_ms, was_done) = standing(tx, event).await?;
    if was_done {
        return Ok(Ok(held.to_json()));
    }
    if held.owner != user {
        let subject = held.id.as_str();
        let line =
            Line { id: event, workload: NAME, subject, actor: user, by, event: &ORDER_FOREIGN.code, detail: None };
        audit::write(tx, line).await?;
        return Ok(Err(ORDER_FOREIGN));
    }
    let refused = match act {
        Act::Issue => not_to_issue(&held, now_ms),
        Act::TakeBack => not_to_take_back(&held, now_ms),
    };
    if let Some(refusal) = refused {
        return Ok(Err(refusal));
    }
    let (order, event_name) = match act {
        Act::Issue => (Order { state: "issued".into(), issued_at_ms: Some(now_ms), ..held }, "issued"),
        Act::TakeBack => (Order { state: "returned".into(), returned_at_ms: Some(now_ms), ..held }, "returned"),
    };
    tx.execute(
        query("-- pickup.change\nupdate pickup_orders set state = $2, issued_at_ms = $3, returned_at_ms = $4 where id = $1")
            .bind(order.id.as_str())
            .bind(order.state.as_str())
            .bind(order.issued_at_ms)
            .bind(order.returned_at_ms),
    )
    .await?;
    let line = Event { id: event, order: &order.id, owner: &order.owner, event: event_name, at_ms: now_ms, by };
    note(tx, line, changed).await?;
    Ok(Ok(order.to_json()))
}

fn not_to_issue(order: &Order, now_ms: Millis) -> Option<Refusal> {
    match order.state.as_str() {
        "accepted" if order.storage_until_ms < now_ms => Some(STORAGE_EXPIRED),
        "accepted" => None,
        _ => Some(ORDER_NOT_AVAILABLE),
    }
}

fn not_to_take_back(order: &Order, now_ms: Millis) -> Option<Refusal> {
    let is_late = |issued_at_ms: Millis| now_ms - issued_at_ms > millis(RETURN_WITHIN);
    match order.state.as_str() {
        "issued" if order.issued_at_ms.is_some_and(is_late) => Some(RETURN_TOO_LATE),
        "issued" => None,
        "returned" => Some(ORDER_RETURNED),
        _ => Some(ORDER_NOT_ISSUED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(state: &str) -> Order {
        Order {
            id: "1".into(),
            place: "p".into(),
            owner: "olga".into(),
            state: state.into(),
            storage_until_ms: 1000,
            accepted_at_ms: 0,
            issued_at_ms: (state != "accepted").then_some(500),
            returned_at_ms: (state == "returned").then_some(600),
        }
    }

    fn code(refusal: Option<Refusal>) -> String {
        refusal.map_or_else(|| "ok".to_owned(), |refusal| refusal.code.into_owned())
    }

    #[test]
    fn an_order_is_issued_once_and_in_time() {
        assert_eq!(code(not_to_issue(&order("accepted"), 1000)), "ok");
        assert_eq!(code(not_to_issue(&order("accepted"), 1001)), "storage_expired");
        assert_eq!(code(not_to_issue(&order("issued"), 600)), "order_not_available");
        assert_eq!(code(not_to_issue(&order("returned"), 600)), "order_not_available");
    }

    #[test]
    fn a_return_is_taken_for_48_hours_inclusive() {
        let end = 500 + 48 * 3_600_000;
        assert_eq!(code(not_to_take_back(&order("issued"), end)), "ok");
        assert_eq!(code(not_to_take_back(&order("issued"), end + 1)), "return_too_late");
        assert_eq!(code(not_to_take_back(&order("accepted"), 600)), "order_not_issued");
        assert_eq!(code(not_to_take_back(&order("returned"), 600)), "order_already_returned");
    }

    #[test]
    fn a_call_names_1_to_100_orders_each_once() {
        let several = |ids: Vec<u32>| Several {
            user: Name("olga".into()),
            orders: ids.into_iter().map(|id| Name(id.to_string())).collect(),
        };
        assert_eq!(several((0..100).collect()).check(), Ok(()));
        assert_eq!(several((0..101).collect()).check().unwrap_err().field, "orders");
        assert_eq!(several(vec![]).check().unwrap_err().field, "orders");
        assert_eq!(several(vec![1, 2, 1]).check().unwrap_err().field, "orders[2]");
    }
}
