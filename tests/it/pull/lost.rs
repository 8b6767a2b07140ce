//! Servers that die when they have done what was asked and told nobody: asking again under the same key finds it.

use super::*;

/// POSTs to a server that dies at `point`.
async fn ask_and_die(world: &World, point: &str, path: &str, key: &'static str, body: Value) {
    let dying = Onetake::start(&world.setup.clone().fault(point)).await;
    let api = Api::with(&dying, "idempotency-key", key);
    assert!(api.request(reqwest::Method::POST, path, Some(body)).await.is_err(), "{point}: no answer");
    dying.wait_exit().await;
}

#[tokio::test]
async fn what_was_taken_ended_or_added_without_a_word_is_found_again() {
    assert_eq!(onetake::fault::OUTSIDE_POINTS, ["claim.taken", "claim.ended", "flow.added"]);
    let world = world().await;
    let server = world.server().await;
    let id = add(&server, "elsewhere", json!({"data": 1})).await;
    let other = add(&server, "elsewhere", json!({"data": 2})).await;
    assert!(server.stop().await.success());

    let wish = json!({"lease": "10m"});
    ask_and_die(&world, "claim.taken", "/v1/queues/elsewhere/claims", "k1", wish.clone()).await;
    let server = world.server().await;
    assert_eq!(job(&server, "elsewhere", &id).await["state"], "active", "it was taken");
    let again = claim(&server.with("idempotency-key", "k1"), "elsewhere", wish.clone()).await;
    assert_eq!((&again["items"][0]["id"], &again["items"][0]["attempts_started"]), (&json!(id), &json!(1)));
    let next = claim(&server.with("idempotency-key", "k2"), "elsewhere", wish).await;
    assert_eq!(next["items"][0]["id"], other);
    assert!(server.stop().await.success());

    // An end is not noted before it is made: the repetition is told that the job is not the caller's any more.
    let path = format!("/v1/queues/elsewhere/claims/{id}/complete");
    let end = json!({"token": again["token"], "result": "done"});
    ask_and_die(&world, "claim.ended", &path, "k3", end.clone()).await;
    let server = world.server().await;
    assert_eq!(job(&server, "elsewhere", &id).await["result"], "done");
    let told = server.with("idempotency-key", "k3").post(&path, end).await.expect(409);
    assert_eq!(told["code"], "lease_lost");
    assert!(server.stop().await.success());

    let flow = json!({"queue": "pulled", "children": [{"queue": "elsewhere"}, {"queue": "elsewhere"}]});
    ask_and_die(&world, "flow.added", "/v1/flows", "k4", flow.clone()).await;
    let server = world.server().await;
    let told = server.with("idempotency-key", "k4").post("/v1/flows", flow).await.expect(200);
    assert_eq!(told["children"].as_array().map(Vec::len), Some(2));
    let counts = server.get("/v1/queues/elsewhere").await.expect(200)["counts"].clone();
    assert_eq!(counts["waiting"], 2, "its children are there once: {counts}");
}
