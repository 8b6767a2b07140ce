//! Interview slots over HTTP: refusals in the caller's language, answers that are repeated, bad input.

use super::*;
use serde_json::json;

const LATER: &str = "2099-05-01T10:00:00Z";

/// A server whose list has a slot `a` to come and a slot `old` that is past.
async fn world() -> World {
    let world = World::new().await;
    let list = json!({"slots": [{"id": "a", "starts_at": LATER, "title": "Анна"}, {"id": 7, "starts_at": LATER}]});
    let synced = world.post("/v1/slots/sync", list).await;
    assert_eq!((&synced.body["added"], &synced.body["version"]), (&json!(2), &json!(1)), "{}", synced.text);
    world
}

async fn book(world: &World, slot: &str, user: &str) -> Answered {
    world.post("/v1/slots/book", json!({"slot": slot, "user": user})).await
}

#[tokio::test]
async fn one_gets_it_and_the_other_is_told_in_their_language() {
    let world = world().await;
    let booked = book(&world, "a", "olga").await;
    assert_eq!((booked.status.as_u16(), &booked.body["state"]), (200, &json!("booked")), "{}", booked.text);
    assert_eq!((&booked.body["starts_at"], &booked.body["user"]), (&json!(LATER), &json!("olga")));

    let taken = book(&world, "a", "ivan").await;
    taken.problem(409, "slot_taken");
    assert!(taken.body["detail"].as_str().unwrap().contains("just booked"), "{}", taken.text);
    assert!(taken.body["messages"]["ru"].as_str().unwrap().contains("занято"));
    let headers = [("accept-language", "ru-RU,ru;q=0.9,en;q=0.5")];
    let russian = world.send(Method::POST, "/v1/slots/book", &headers, r#"{"slot":"a","user":"ivan"}"#).await;
    russian.problem(409, "slot_taken");
    assert_eq!(russian.body["detail"], taken.body["messages"]["ru"]);

    let again = book(&world, "a", "olga").await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &booked.body), "whoever has it is told so");
}

#[tokio::test]
async fn a_booked_slot_that_is_listed_again_stays_when_its_booking_is_cancelled() {
    let world = world().await;
    book(&world, "a", "olga").await;
    let sync = |slots: Value| world.post("/v1/slots/sync", json!({ "slots": slots }));
    let gone = sync(json!([{"id": 7, "starts_at": LATER}])).await;
    assert_eq!(gone.body["kept"][0]["reason"], "booked_and_not_listed", "{}", gone.text);
    let again = sync(json!([{"id": 7, "starts_at": LATER}, {"id": "a", "starts_at": LATER, "title": "another"}])).await;
    assert_eq!(again.body["kept"][0]["reason"], "booked", "{}", again.text);
    world.post("/v1/slots/cancel", json!({"slot": "a", "user": "olga"})).await;
    assert_eq!(book(&world, "a", "ivan").await.body["state"], "booked");
}

#[tokio::test]
async fn a_booking_is_given_back_by_its_owner_alone() {
    let world = world().await;
    book(&world, "7", "olga").await;
    let cancel = |user: &'static str| world.post("/v1/slots/cancel", json!({"slot": 7, "user": user}));
    cancel("ivan").await.problem(403, "booking_foreign");
    let cancelled = cancel("olga").await;
    assert_eq!((&cancelled.body["state"], &cancelled.body["slot"]), (&json!("cancelled"), &json!("7")));
    assert!(cancelled.body["cancelled_at"].is_string());
    cancel("olga").await.problem(404, "booking_unknown");
    assert_eq!(book(&world, "7", "ivan").await.status, 200);

    let bookings = world.get("/v1/bookings?user=olga").await;
    assert_eq!(bookings.body["items"][0]["state"], "cancelled");
    let store = world.state.intake.flights().store();
    let lines = store
        .fetch_all(crate::store::query(
            "-- test.lines\nselect actor || ' ' || event as line from ownership_audit order by id",
        ))
        .await
        .unwrap();
    let lines: Vec<String> = lines.iter().map(|row| row.get("line").unwrap()).collect();
    assert_eq!(lines, ["olga booked", "ivan booking_foreign", "olga cancelled", "ivan booked"]);
}

#[tokio::test]
async fn the_first_answer_stands_under_its_key_also_a_refusal() {
    let world = world().await;
    let send = |user: &'static str, key: &'static str| {
        let world = &world;
        async move {
            let body = json!({"slot": "a", "user": user}).to_string();
            world.send(Method::POST, "/v1/slots/book", &[("idempotency-key", key)], body).await
        }
    };
    let first = send("olga", "k1").await;
    let again = send("olga", "k1").await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &first.body));
    send("ivan", "k1").await.problem(422, "idempotency_key_reused");
    send("ivan", "k2").await.problem(409, "slot_taken");
    world.post("/v1/slots/cancel", json!({"slot": "a", "user": "olga"})).await;
    let refused = send("ivan", "k2").await;
    refused.problem(409, "slot_taken");
    assert_eq!(refused.header("idempotency-replayed"), "true", "the question was answered");
    assert_eq!(send("ivan", "k3").await.status, 200, "a new question has a new answer");
}

#[tokio::test]
async fn slots_are_listed_by_their_time_page_by_page() {
    let world = world().await;
    let list: Vec<_> =
        (0..5).map(|n| json!({"id": format!("s{n}"), "starts_at": format!("2099-06-0{}T09:00:00Z", 5 - n)})).collect();
    let synced = world.post("/v1/slots/sync", json!({"slots": list})).await;
    assert_eq!((&synced.body["added"], &synced.body["removed"]), (&json!(5), &json!(2)));
    book(&world, "s3", "olga").await;
    let (mut path, mut seen) = ("/v1/slots?limit=2".to_owned(), Vec::new());
    loop {
        let page = world.get(&path).await;
        seen.extend(page.body["items"].as_array().unwrap().iter().map(|slot| slot["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/slots?limit=2&cursor={next}");
    }
    assert_eq!(seen, ["s4", "s3", "s2", "s1", "s0"]);
    let free = world.get("/v1/slots?free=true").await;
    assert_eq!(free.body["items"].as_array().unwrap().len(), 4);
    assert!(!world.get("/v1/slots").await.text.contains("olga"), "whose a booking is, is not told");
}

#[tokio::test]
async fn a_new_list_loses_no_booking() {
    let world = world().await;
    book(&world, "a", "olga").await;
    let moved = json!({"slots": [{"id": "a", "starts_at": "2098-01-01T00:00:00Z"}]});
    let report = world.post("/v1/slots/sync", moved).await.body;
    assert_eq!(report["kept"], json!([{"slot": "a", "reason": "booked", "user": "olga"}]));
    assert_eq!(report["removed"], 1);
    let report = world.post("/v1/slots/sync", json!({"slots": []})).await.body;
    assert_eq!(report["kept"], json!([{"slot": "a", "reason": "booked_and_not_listed", "user": "olga"}]));
    assert_eq!(world.get("/v1/bookings?user=olga").await.body["items"][0]["starts_at"], LATER);
    assert_eq!(book(&world, "a", "olga").await.status, 200, "it is still hers");
    book(&world, "a", "ivan").await.problem(404, "slot_unknown");
    let cancelled = world.post("/v1/slots/cancel", json!({"slot": "a", "user": "olga"})).await;
    assert_eq!(cancelled.status, 200);
    book(&world, "a", "ivan").await.problem(404, "slot_unknown");
    let report = world.post("/v1/slots/sync", json!({"slots": [{"id": "a", "starts_at": LATER}]})).await.body;
    assert_eq!(report["added"], 1, "it had gone with its booking");
}

#[tokio::test]
async fn what_is_past_is_refused_by_the_database_s_clock() {
    let world = world().await;
    let store = world.state.intake.flights().store();
    let past = crate::store::query("-- test.past\nupdate slots set starts_at_ms = 1 where id = 'a'");
    store
        .unit_of_work::<_, crate::store::Error, _>("test.past", move |tx| {
            let past = past.clone();
            Box::pin(async move { tx.execute(past).await })
        })
        .await
        .unwrap();
    book(&world, "a", "olga").await.problem(409, "slot_past");
    let list = json!({"slots": [{"id": "new", "starts_at": "2001-01-01T00:00:00Z"}]});
    let report = world.post("/v1/slots/sync", list).await.body;
    assert_eq!(report["kept"], json!([{"slot": "new", "reason": "past", "user": null}]));
}

#[tokio::test]
async fn bad_input_is_told_with_its_field_and_changes_nothing() {
    let world = world().await;
    book(&world, "nobody's", "olga").await.problem(404, "slot_unknown");
    for (path, body, code, field) in [
        ("book", json!({"slot": "a"}), "missing_field", "user"),
        ("book", json!({"slot": "a", "user": ""}), "invalid_field", "user"),
        ("book", json!({"slot": "a", "user": "o\u{202e}lga"}), "invalid_field", "user"),
        ("book", json!({"slot": ["a"], "user": "olga"}), "invalid_field", "slot"),
        ("book", json!({"slot": "a", "user": "olga", "force": true}), "invalid_field", "force"),
        ("cancel", json!({"slot": "a", "user": 1.5}), "invalid_field", "user"),
        ("sync", json!({"slots": [{"id": "a", "starts_at": "tomorrow"}]}), "invalid_field", "slots[0].starts_at"),
        (
            "sync",
            json!({"slots": [{"id": "a", "starts_at": LATER}, {"id": "a", "starts_at": LATER}]}),
            "invalid_field",
            "slots[1].id",
        ),
        ("sync", json!({}), "missing_field", "slots"),
    ] {
        let answered = world.post(&format!("/v1/slots/{path}"), body.clone()).await;
        assert_eq!(answered.problem(422, code), field, "{path} {body}");
    }
    assert_eq!(world.get("/v1/slots?cursor=x").await.problem(422, "invalid_field"), "cursor");
    assert_eq!(world.get("/v1/bookings").await.problem(422, "missing_field"), "user");
    assert_eq!(world.get("/v1/slots").await.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/v1/slots?free=true").await.body["items"].as_array().unwrap().len(), 2);
}
