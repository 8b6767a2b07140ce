//! Idempotency keys over several servers, and what goes with time.

use futures::future::join_all;
use serde_json::json;

use super::{accept, sync};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_key_that_is_raced_has_one_effect_and_one_answer,
    keys_are_swept_when_they_are_old,
    old_histories_go_and_what_is_here_keeps_its_own,
);

async fn a_key_that_is_raced_has_one_effect_and_one_answer(kind: StoreKind) {
    let world = World::new(kind).await;
    let servers = if kind == StoreKind::Postgres { 2 } else { 1 };
    let servers: Vec<Onetake> = join_all((0..servers).map(|_| world.server())).await;
    sync(&servers[0], 20).await;
    for slot in 0..20 {
        // Different users under one key: whoever is first has it, and the others' bodies do not fit it.
        let asks = (0..8).map(|n| {
            let api = servers[n % servers.len()].with("idempotency-key", format!("k{slot}"));
            let body = json!({"slot": slot, "user": format!("u{}", n / 4)});
            async move { api.post("/v1/slots/book", body).await }
        });
        let answers = join_all(asks).await;
        let booked: Vec<_> =
            answers.iter().filter(|answer| answer.status == 200).map(|a| a.json()["booking"].clone()).collect();
        assert!(!booked.is_empty(), "{answers:?}");
        assert!(booked.iter().all(|booking| *booking == booked[0]), "{booked:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let code = answer.json()["code"].as_str().unwrap().to_owned();
            assert!(["idempotency_key_in_flight", "idempotency_key_reused"].contains(&code.as_str()), "{answer:?}");
        }
    }
    assert_eq!(world.store.numbers("select count(*) from bookings").await, [20]);
    if let TestStore::Postgres(server) = &world.store {
        assert!(!server.log().iter().any(|line| line.contains("duplicate key")), "keys wait, they do not collide");
    }
}

async fn keys_are_swept_when_they_are_old(kind: StoreKind) {
    let mut world = World::new(kind).await;
    world.setup = world.setup.env("ONETAKE_RETENTION__EVERY", "200ms");
    let server = world.server().await;
    sync(&server, 1).await;
    let book = async || {
        let body = json!({"slot": 0, "user": "olga"});
        server.with("idempotency-key", "k").post("/v1/slots/book", body).await
    };
    book().await.expect(200);
    assert_eq!(book().await.header("idempotency-replayed"), "true");
    world.store.change("update idempotency set created_at_ms = created_at_ms - 25 * 3600000").await;
    wait::until_true("the key to be swept", PATIENCE, async || {
        world.store.numbers("select count(*) from idempotency").await == [0]
    })
    .await;
    assert_eq!(book().await.header("idempotency-replayed"), "", "it is a new question");
    assert_eq!(world.store.numbers("select count(*) from bookings").await, [1]);
}

async fn old_histories_go_and_what_is_here_keeps_its_own(kind: StoreKind) {
    let mut world = World::new(kind).await;
    world.setup = world.setup.env("ONETAKE_RETENTION__EVERY", "200ms");
    let server = world.server().await;
    sync(&server, 2).await;
    server.post("/v1/slots/book", json!({"slot": 0, "user": "olga"})).await.expect(200);
    accept(&server, "olga", &["gone", "here"]).await;
    // 800 days.
    let age = "- 69120000000";
    for (table, column) in [("ownership_audit", "at_ms"), ("pickup_history", "at_ms")] {
        world.store.change(&format!("update {table} set {column} = {column} {age}")).await;
    }
    world.store.change("update bookings set starts_at_ms = 1").await;
    world.store.change("update slots set starts_at_ms = 1 where id = '0'").await;
    world.store.change("delete from pickup_orders where id = 'gone'").await;
    wait::until_true("old lines to go", PATIENCE, async || {
        let left = "select (select count(*) from ownership_audit) + (select count(*) from bookings)
          + (select count(*) from slots) + (select count(*) from pickup_history)";
        world.store.numbers(left).await == [2]
    })
    .await;
    assert_eq!(world.store.texts("select order_id from pickup_history").await, ["here"]);
    assert_eq!(world.store.texts("select id from slots").await, ["1"]);
}
