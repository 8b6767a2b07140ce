//! Node bots: unmodified BullMQ producers of both versions ask for verbs, and are answered by return values.

use serde_json::{Value, json};

use super::{LATER, orders, sync};
use crate::support::node::{BullMq, Producer};
use crate::support::store::StoreKind;
use crate::support::world::World;

mod node_on_sqlite {
    #[tokio::test]
    async fn bots_of_both_versions_book_and_are_refused() {
        super::bots(super::StoreKind::Sqlite).await;
    }
}

mod node_on_postgres {
    mod on_postgres {
        #[tokio::test]
        async fn bots_of_both_versions_book_and_are_refused() {
            super::super::bots(super::super::StoreKind::Postgres).await;
        }
    }
}

fn job(name: &str, data: Value) -> Value {
    json!({"name": name, "data": data})
}

/// Gives jobs one after the other, and says how each ended: the code or the state, or why it failed.
async fn ends(producer: &mut Producer, jobs: &[Value]) -> Vec<String> {
    let mut words = Vec::new();
    for job in jobs {
        producer.give(std::slice::from_ref(job));
        let outcome = producer.ended().await.pop().expect("one was given");
        words.push(match (&outcome.value, &outcome.error) {
            (Some(value), None) if value["ok"] == false => {
                assert!(value["message"]["ru"].is_string() && value["message"]["en"].is_string(), "{value}");
                value["code"].as_str().unwrap().to_owned()
            }
            (Some(value), None) => {
                assert_eq!(value["ok"], true, "{value}");
                value["state"].as_str().unwrap_or("ok").to_owned()
            }
            (_, error) => format!("failed: {}", error.clone().unwrap_or_default()),
        });
    }
    words
}

async fn bots(kind: StoreKind) {
    let world = World::new(kind).await;
    let server = world.server().await;
    sync(&server, 3).await;
    for (version, user, slot) in [(BullMq::V5, "five", 0), (BullMq::V6, "six", 1)] {
        let (slots, pickup) = (world.peer(version, "slots"), world.peer(version, "pickup"));
        let (mut slots, mut pickup) = tokio::join!(Producer::start(&slots), Producer::start(&pickup));
        let book = json!({"slot": slot, "user": user});
        let other = json!({"slot": slot, "user": "somebody else"});
        let keyed = json!({"slot": 2, "user": user, "idempotencyKey": user});
        let told = ends(
            &mut slots,
            &[
                job("book", book.clone()),
                job("book", book),
                job("book", other.clone()),
                job("cancel", other),
                job("book", json!({"slot": "none", "user": user})),
                job("book", keyed.clone()),
                job("cancel", json!({"slot": 2, "user": user})),
                job("book", keyed.clone()),
                job("cancel", keyed),
                job("book", json!({"slot": slot})),
                job("look", json!({})),
            ],
        )
        .await;
        assert_eq!(
            told,
            [
                "booked",
                "booked",
                "slot_taken",
                "booking_foreign",
                "slot_unknown",
                "booked",
                "cancelled",
                // The key's first answer, though the booking was given back since.
                "booked",
                "idempotency_key_reused",
                "failed: the job's data: missing field `user`",
                "failed: \"look\" is none of this queue's verbs: book, cancel, sync",
            ]
        );
        let order = format!("order of {user}");
        let of_user = json!({"user": user, "orders": [order, "none"]});
        let told = ends(
            &mut pickup,
            &[
                job("accept", json!({"order": order, "user": user, "storage_until": LATER})),
                job("accept", json!({"order": order, "user": user, "storage_until": LATER})),
                job("issue", of_user.clone()),
                job("take_back", of_user.clone()),
                job("take_back", of_user),
                job("return_to_courier", json!({"order": order})),
                job("issue", json!({"user": user, "orders": []})),
            ],
        )
        .await;
        assert_eq!(
            told,
            [
                "accepted",
                "order_exists",
                "ok",
                "ok",
                "ok",
                "courier_too_early",
                "failed: the job's data: orders: a call is about 1 to 100 orders",
            ]
        );
        assert_eq!(orders(&server, user).await, [format!("{order} returned")]);
    }
    assert_eq!(world.store.numbers("select count(*) from bookings where state = 'booked'").await, [2]);
    let by = world.store.texts("select distinct by_whom from ownership_audit").await;
    assert_eq!(by, ["queue:slots"]);
}
