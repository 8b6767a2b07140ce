//! The server dies between any two steps of a workload's verb; whoever asks again, under the same key, gets what was asked
//! for once.

use std::time::Duration;

use onetake::clock::Clock;
use onetake::config;
use onetake::fault::WORKLOAD_POINTS;
use onetake::id::QueueName;
use onetake::queue::{Add, Queue, State};
use onetake::redis::Redis;
use reqwest::Method;
use serde_json::{Value, json};

use super::{LATER, accept, orders, sync};
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

macro_rules! cells {
    ($($cell:ident $point:literal $script:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $cell() { super::$script(crate::support::store::StoreKind::Sqlite, $point).await; })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $cell() { super::$script(crate::support::store::StoreKind::Postgres, $point).await; })*
        }
        #[test]
        fn every_point_has_its_cells() {
            for point in WORKLOAD_POINTS {
                assert!([$($point),*].iter().any(|cell| cell.split(':').next() == Some(point)), "{point}");
            }
        }
    };
}

cells!(
    a_booking_that_had_only_its_key "once.taken" book,
    a_booking_before_its_commit "once.stored" book,
    a_booking_before_its_answer "once.committed" book,
    a_booking_by_a_bot_that_had_only_its_key "once.taken" bot,
    a_booking_by_a_bot_before_its_commit "once.stored" bot,
    a_booking_by_a_bot_before_its_answer "once.committed" bot,
    a_booking_by_a_bot_before_its_job_ends "verb.answered" bot,
    orders_of_which_one_had_only_its_key "once.taken:2" issue,
    orders_of_which_one_was_not_committed "once.stored:2" issue,
    orders_of_which_one_was_committed "once.committed:2" issue,
    orders_whose_list_was_forgotten "pickup.forgotten:3" issue,
    orders_whose_list_was_not_forgotten "once.committed:3" issue,
    other_verbs_that_had_only_their_key "once.taken" others,
    other_verbs_before_their_commit "once.stored" others,
    other_verbs_before_their_answer "once.committed" others,
);

/// One booking over HTTP.
async fn book(kind: StoreKind, point: &str) {
    let world = World::new(kind).await;
    prepare(&world).await;
    let ask = json!({"slot": 0, "user": "olga"});
    die(&world, point, "/v1/slots/book", &ask).await;
    let server = world.server().await;
    let answer = server.with("idempotency-key", "k").post("/v1/slots/book", ask).await;
    let booked = answer.expect(200);
    assert_eq!(answer.header("idempotency-replayed") == "true", point == "once.committed", "{answer:?}");
    let ids = world.store.texts("select id from bookings where state = 'booked'").await;
    assert_eq!(ids, [booked["booking"].as_str().unwrap()]);
    assert_eq!(world.store.texts("select event from ownership_audit").await, ["booked"]);
    server.post("/v1/slots/book", json!({"slot": 0, "user": "ivan"})).await.expect(409);
}

/// One booking by a job.
async fn bot(kind: StoreKind, point: &str) {
    let world = World::new(kind).await;
    prepare(&world).await;
    let queue = queue(&world).await;
    let doomed = Onetake::start(&world.setup.clone().fault(point)).await;
    let data = json!({"slot": 0, "user": "olga"});
    let add = Add::new("book", serde_json::value::to_raw_value(&data).unwrap());
    let job = queue.add(vec![add], Clock::system().now_ms()).await.expect("Redis takes it").remove(0).id;
    doomed.wait_exit().await;
    let server = world.server().await;
    wait::until_true("the job to complete", PATIENCE, async || {
        matches!(queue.state(&job).await, Ok(Some(State::Completed)))
    })
    .await;
    let answer = server.get(&format!("/v1/queues/slots/jobs/{job}")).await.expect(200);
    assert_eq!((&answer["result"]["ok"], &answer["result"]["user"]), (&json!(true), &json!("olga")));
    assert_eq!(world.store.numbers("select count(*) from bookings").await, [1]);
    assert_eq!(world.store.texts("select event from ownership_audit").await, ["booked"]);
}

/// Three orders in one call: it dies at the first, the second or the third, and the repetition does the rest.
async fn issue(kind: StoreKind, point: &str) {
    let world = World::new(kind).await;
    prepare(&world).await;
    let ask = json!({"user": "olga", "orders": ["1", "2", "3"]});
    die(&world, point, "/v1/pickup/issue", &ask).await;
    let server = world.server().await;
    let was_issued = world.store.texts("select id from pickup_orders where state = 'issued' order by id").await;
    // The list is right before anybody asks again, whatever Redis was told.
    let listed = orders(&server, "olga").await;
    assert_eq!(listed.iter().filter(|line| line.ends_with(" issued")).count(), was_issued.len(), "{listed:?}");
    let answer = server.with("idempotency-key", "k").post("/v1/pickup/issue", ask).await.expect(200);
    for outcome in answer["orders"].as_array().unwrap() {
        assert_eq!((&outcome["ok"], &outcome["state"]), (&json!(true), &json!("issued")), "{outcome}");
    }
    assert_eq!(orders(&server, "olga").await, ["3 issued", "2 issued", "1 issued"]);
    let events = "select order_id || ' ' || event from pickup_history order by order_id, event";
    let each = ["1 accepted", "1 issued", "2 accepted", "2 issued", "3 accepted", "3 issued"];
    assert_eq!(world.store.texts(events).await, each, "each step once");
    assert_eq!(world.store.numbers("select version from pickup_versions").await, [6]);
}

/// Each of the other verbs in turn.
async fn others(kind: StoreKind, point: &str) {
    let world = World::new(kind).await;
    prepare(&world).await;
    let server = world.server().await;
    server.post("/v1/slots/book", json!({"slot": 0, "user": "olga"})).await.expect(200);
    server.post("/v1/pickup/issue", json!({"user": "olga", "orders": ["1", "2"]})).await.expect(200);
    server.post("/v1/pickup/take-back", json!({"user": "olga", "orders": ["2"]})).await.expect(200);
    assert!(server.stop().await.success());
    let early = "update pickup_orders set returned_at_ms = returned_at_ms - 1296000000 where id = '2'";
    world.store.change(early).await;

    let later = |slot| json!({"id": slot, "starts_at": LATER});
    let verbs = [
        ("/v1/pickup/accept", json!({"order": "4", "user": "olga", "storage_until": LATER})),
        ("/v1/pickup/take-back", json!({"user": "olga", "orders": ["1"]})),
        ("/v1/pickup/return-to-courier", json!({"order": "2"})),
        ("/v1/slots/cancel", json!({"slot": 0, "user": "olga"})),
        ("/v1/slots/sync", json!({"slots": [later(0), later(1)]})),
    ];
    for (path, ask) in verbs {
        die_under(&world, point, path, &ask, path).await;
        let server = world.server().await;
        let answer = server.with("idempotency-key", path).post(path, ask).await;
        answer.expect(200);
        let is_stored = answer.header("idempotency-replayed") == "true";
        // Of several orders each has a key of its own, and the whole is put together anew.
        assert!(is_stored == (point == "once.committed") || path.ends_with("take-back"), "{path}: {answer:?}");
        assert!(server.stop().await.success());
    }
    let server = world.server().await;
    assert_eq!(orders(&server, "olga").await, ["4 accepted", "3 accepted", "1 returned"]);
    let events = "select order_id || ' ' || event from pickup_history order by order_id, event";
    let each = [
        "1 accepted",
        "1 issued",
        "1 returned",
        "2 accepted",
        "2 issued",
        "2 returned",
        "2 returned_to_courier",
        "3 accepted",
        "4 accepted",
    ];
    assert_eq!(world.store.texts(events).await, each, "each step once");
    let audited = world.store.texts("select event from ownership_audit order by event").await;
    assert_eq!(audited, ["booked", "cancelled"]);
    assert_eq!(world.store.texts("select id from slots order by id").await, ["0", "1"]);
}

/// A slot and three orders, and a server that has read the list, so that Redis has it.
async fn prepare(world: &World) {
    let server = world.server().await;
    sync(&server, 1).await;
    accept(&server, "olga", &["1", "2", "3"]).await;
    assert_eq!(orders(&server, "olga").await.len(), 3);
    assert!(server.stop().await.success());
}

async fn die(world: &World, point: &str, path: &str, ask: &Value) {
    die_under(world, point, path, ask, "k").await;
}

async fn die_under(world: &World, point: &str, path: &str, ask: &Value, key: &str) {
    let doomed = Onetake::start(&world.setup.clone().fault(point)).await;
    let api = doomed.with("idempotency-key", key);
    let answered = api.request(Method::POST, path, Some(ask.clone())).await;
    assert!(answered.is_err(), "it died before it answered: {answered:?}");
    doomed.wait_exit().await;
}

async fn queue(world: &World) -> Queue {
    let settings = config::Redis {
        url: world.redis.url().into(),
        prefix: "bull".into(),
        namespace: "onetake".into(),
        command_timeout: config::Span(Duration::from_secs(2)),
        eviction: config::Eviction::Warn,
        tls: config::Tls::default(),
    };
    let redis = Redis::connect(&settings).await.expect("Redis is up");
    Queue::new(redis, "bull", QueueName::parse("slots").unwrap())
}
