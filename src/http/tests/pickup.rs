//! The pickup point over HTTP, with a Redis that is not there: lists are right without it.

use super::*;
use crate::store::{Error, query};
use serde_json::json;

const LATER: &str = "2099-05-01T10:00:00Z";

async fn accept(world: &World, order: &str, user: &str) -> Answered {
    world.post("/v1/pickup/accept", json!({"order": order, "user": user, "storage_until": LATER})).await
}

/// `outcome` of each order, by its code or state.
async fn each(world: &World, act: &str, user: &str, orders: Value) -> Vec<String> {
    let answered = world.post(&format!("/v1/pickup/{act}"), json!({"user": user, "orders": orders})).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
    let outcome = |order: &Value| {
        let word = if order["ok"] == true { &order["state"] } else { &order["code"] };
        word.as_str().unwrap().to_owned()
    };
    answered.body["orders"].as_array().unwrap().iter().map(outcome).collect()
}

async fn change(world: &World, sql: &'static str) {
    let store = world.state.intake.flights().store();
    let done: Result<(), Error> =
        store.unit_of_work("test.change", move |tx| Box::pin(async move { tx.execute(query(sql)).await })).await;
    done.unwrap();
}

async fn listed(world: &World, list: &str, user: &str) -> Vec<String> {
    let page = world.get(&format!("/v1/pickup/{list}?user={user}")).await;
    let word = if list == "orders" { "state" } else { "event" };
    let item = |item: &Value| format!("{} {}", item["order"].as_str().unwrap(), item[word].as_str().unwrap());
    page.body["items"].as_array().unwrap().iter().map(item).collect()
}

#[tokio::test]
async fn an_order_walks_from_the_courier_to_its_client_and_back() {
    let world = World::new().await;
    let accepted = accept(&world, "1", "olga").await;
    assert_eq!((accepted.status.as_u16(), &accepted.body["state"]), (200, &json!("accepted")), "{}", accepted.text);
    accept(&world, "1", "ivan").await.problem(409, "order_exists");
    let to_courier = || world.post("/v1/pickup/return-to-courier", json!({"order": "1"}));
    to_courier().await.problem(409, "order_not_returned");
    assert_eq!(each(&world, "issue", "olga", json!(["1"])).await, ["issued"]);
    assert_eq!(each(&world, "take-back", "olga", json!(["1"])).await, ["returned"]);
    to_courier().await.problem(409, "courier_too_early");
    change(&world, "-- test.age\nupdate pickup_orders set returned_at_ms = returned_at_ms - 14 * 86400000").await;
    assert_eq!(to_courier().await.status, 200);
    to_courier().await.problem(404, "order_unknown");

    assert!(listed(&world, "orders", "olga").await.is_empty());
    assert_eq!(
        listed(&world, "history", "olga").await,
        ["1 returned_to_courier", "1 returned", "1 issued", "1 accepted"]
    );
    let shown = world.get("/v1/pickup/orders/1").await;
    assert_eq!((&shown.body["order"], shown.body["history"].as_array().unwrap().len()), (&Value::Null, 4));
    assert_eq!(accept(&world, "1", "vera").await.status, 200, "the id is free again");
    assert_eq!(listed(&world, "history", "vera").await, ["1 accepted"]);
}

#[tokio::test]
async fn each_order_of_a_call_has_its_own_outcome() {
    let world = World::new().await;
    for order in ["mine", "late", "gone"] {
        accept(&world, order, "olga").await;
    }
    accept(&world, "his", "ivan").await;
    each(&world, "issue", "olga", json!(["gone"])).await;
    change(&world, "-- test.expire\nupdate pickup_orders set storage_until_ms = 1 where id = 'late'").await;
    assert_eq!(
        each(&world, "issue", "olga", json!(["his", "late", "mine", "gone", "none"])).await,
        ["order_foreign", "storage_expired", "issued", "order_not_available", "order_unknown"]
    );
    assert_eq!(
        each(&world, "take-back", "olga", json!(["mine", "late", "his", "none"])).await,
        ["returned", "order_not_issued", "order_foreign", "order_unknown"]
    );
    assert_eq!(each(&world, "take-back", "olga", json!(["mine"])).await, ["order_already_returned"]);
    change(&world, "-- test.age\nupdate pickup_orders set issued_at_ms = issued_at_ms - 48 * 3600000 - 1").await;
    assert_eq!(each(&world, "take-back", "olga", json!(["gone"])).await, ["return_too_late"]);
    assert_eq!(listed(&world, "orders", "ivan").await, ["his accepted"], "nothing foreign was changed");
    let store = world.state.intake.flights().store();
    let lines = store.fetch_all(query(
        "-- test.lines\nselect actor || ' ' || subject || ' ' || event as line from ownership_audit order by id",
    ));
    let lines: Vec<String> = lines.await.unwrap().iter().map(|row| row.get("line").unwrap()).collect();
    assert_eq!(lines, ["olga his order_foreign", "olga his order_foreign"]);
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_before() {
    let world = World::new().await;
    for order in ["1", "2"] {
        accept(&world, order, "olga").await;
    }
    let send = |path: &'static str, body: Value| {
        let world = &world;
        async move { world.send(Method::POST, path, &[("idempotency-key", "k")], body.to_string()).await }
    };
    let call = json!({"user": "olga", "orders": ["1", "none", "2"]});
    let first = send("/v1/pickup/issue", call.clone()).await;
    let again = send("/v1/pickup/issue", call).await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &first.body));
    let other = json!({"user": "olga", "orders": ["2"]});
    send("/v1/pickup/issue", other).await.problem(422, "idempotency_key_reused");
    assert_eq!(listed(&world, "history", "olga").await.len(), 4);
}

#[tokio::test]
async fn a_call_that_died_half_way_is_finished_by_its_repetition() {
    let world = World::new().await;
    for order in ["1", "2"] {
        accept(&world, order, "olga").await;
    }
    let call = json!({"user": "olga", "orders": ["1", "2"]}).to_string();
    let headers = [("idempotency-key", "k")];
    let first = world.send(Method::POST, "/v1/pickup/issue", &headers, call.clone()).await;
    // As if the server had died before the second order.
    change(&world, "-- test.undo\ndelete from idempotency where key like '%2'").await;
    change(&world, "-- test.undo\nupdate pickup_orders set state = 'accepted', issued_at_ms = null where id = '2'")
        .await;
    let again = world.send(Method::POST, "/v1/pickup/issue", &headers, call).await;
    assert_eq!(again.header("idempotency-replayed"), "", "something was done now");
    assert_eq!(again.body["orders"][0], first.body["orders"][0]);
    assert_eq!(again.body["orders"][1]["state"], "issued");
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let world = World::new().await;
    for order in 0..5 {
        accept(&world, &order.to_string(), "olga").await;
    }
    let (mut path, mut seen) = ("/v1/pickup/orders?user=olga&limit=2".to_owned(), Vec::new());
    loop {
        let page = world.get(&path).await;
        seen.extend(
            page.body["items"].as_array().unwrap().iter().map(|item| item["order"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/pickup/orders?user=olga&limit=2&cursor={next}");
    }
    assert_eq!(seen, ["4", "3", "2", "1", "0"]);
}

#[tokio::test]
async fn bad_input_is_told_with_its_field_and_changes_nothing() {
    let world = World::new().await;
    let past = json!({"order": 1, "user": "olga", "storage_until": "2001-01-01T00:00:00Z"});
    world.post("/v1/pickup/accept", past).await.problem(422, "storage_deadline_past");
    for (path, body, code, field) in [
        ("accept", json!({"order": 1, "user": "olga"}), "missing_field", "storage_until"),
        (
            "accept",
            json!({"order": 1, "user": "olga", "storage_until": "2099-13-01"}),
            "invalid_field",
            "storage_until",
        ),
        ("accept", json!({"order": "\u{0}", "user": "olga", "storage_until": LATER}), "invalid_field", "order"),
        ("issue", json!({"user": "olga", "orders": []}), "invalid_field", "orders"),
        ("issue", json!({"user": "olga", "orders": ["1", 1]}), "invalid_field", "orders[1]"),
        ("issue", json!({"user": "olga", "orders": "1"}), "invalid_field", "orders"),
        ("take-back", json!({"orders": ["1"]}), "missing_field", "user"),
        ("return-to-courier", json!({"order": true}), "invalid_field", "order"),
    ] {
        let answered = world.post(&format!("/v1/pickup/{path}"), body.clone()).await;
        assert_eq!(answered.problem(422, code), field, "{path} {body}");
    }
    assert_eq!(world.get("/v1/pickup/orders?user=olga&limit=0").await.problem(422, "invalid_field"), "limit");
    assert_eq!(world.get("/v1/pickup/orders?user=olga&cursor=zz").await.problem(422, "invalid_field"), "cursor");
    world.get("/v1/pickup/orders/1").await.problem(404, "order_unknown");
    assert!(listed(&world, "history", "olga").await.is_empty());
}
