//! The walk of a wish: asking, waiting, listening, leaving, and asking again.

use axum::http::HeaderValue;
use futures::StreamExt;
use serde_json::json;

use super::*;

const MADE: &str = r#"{"file":"anna.mp4"}"#;

fn made() -> Ending {
    Ending::Succeeded(MADE.into())
}

#[tokio::test]
async fn equal_wishes_are_one_run_and_the_result_goes_to_all() {
    let world = World::new().await;
    let first = world.post("/v1/videos", json!({"name": " anna  MARIA", "gender": "girl", "user": 1})).await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (202, &json!("queued")));
    assert_eq!(first.body["key"], r#"["anna maria","girl","default"]"#);
    assert_eq!((&first.body["state"], &first.body["queue"]), (&json!("waiting"), &json!("video")));
    let id = first.body["id"].as_str().unwrap();
    assert_eq!(first.header("location"), format!("/v1/requests/{id}"));
    assert_eq!(first.body["links"]["events"], format!("/v1/requests/{id}/events"));

    let wish = json!({"name": "Anna Maria", "gender": "girl", "template": "default", "user": "2"});
    let second = world.post("/v1/videos", wish.clone()).await;
    assert_eq!((second.status.as_u16(), &second.body["status"]), (202, &json!("subscribed")));
    let again = world.post("/v1/videos", wish).await;
    assert_eq!(again.body["id"], second.body["id"], "one subscription for one subscriber");

    world.finish(id, made()).await;
    let view = world.get(&format!("/v1/requests/{id}")).await.body;
    assert_eq!((&view["state"], &view["result"]["file"]), (&json!("ready"), &json!("anna.mp4")));
    assert!(view["made_at"].as_str().unwrap().ends_with('Z') && view.get("status").is_none());
    assert_eq!(view["delivery"]["channel"], "mailbox");

    let third = world.post("/v1/videos", json!({"name": "ANNA MARIA", "gender": "girl", "user": "3"})).await;
    assert_eq!((third.status.as_u16(), &third.body["status"]), (200, &json!("ready")));
    assert_eq!(third.body["result"], json!({"file": "anna.mp4"}));
}

#[tokio::test]
async fn a_failure_is_told_and_frees_the_key() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    world.finish(&id, Ending::FailedForGood("no ink".into())).await;
    let view = world.get(&format!("/v1/requests/{id}")).await.body;
    assert_eq!((&view["state"], &view["error"], &view["result"]), (&json!("failed"), &json!("no ink"), &Value::Null));
    let again = world.post("/v1/videos", json!({"name": "Anna", "user": "2"})).await;
    assert_eq!((&again.body["status"], &again.body["generation"]), (&json!("queued"), &json!(2)));
}

#[tokio::test]
async fn any_queue_with_a_processor_can_be_deduped() {
    let world = World::with(MAIL_IS_MADE_HERE).await;
    let by_key = json!({"dedupe": {"key": "K 1"}, "data": {"n": 1}});
    let first = world.post("/v1/queues/mail/jobs", by_key.clone()).await;
    assert_eq!((first.status.as_u16(), &first.body["key"]), (202, &json!(r#"["k 1"]"#)));
    let second = world.post("/v1/queues/mail/jobs", by_key.clone()).await;
    assert_eq!(second.body["status"], "subscribed");
    world.finish(first.body["id"].as_str().unwrap(), Ending::Succeeded("123456789012345678901".into())).await;
    let ready = world.post("/v1/queues/mail/jobs", by_key).await;
    assert_eq!((ready.status.as_u16(), &ready.body["id"]), (200, &Value::Null));
    assert!(ready.text.contains("\"result\":123456789012345678901,"), "no digit is lost: {}", ready.text);

    let by_fields = world.post("/v1/queues/letters/jobs", json!({"data": {"to": "Bob"}})).await;
    assert_eq!(by_fields.body["key"], r#"["bob","note"]"#);
}

#[tokio::test]
async fn a_run_that_no_server_would_take_is_not_begun() {
    for toml in ["", "[queues.mail]\nprocessor = { kind = 'pull' }"] {
        let world = World::with(toml).await;
        let refused = world.post("/v1/queues/mail/jobs", json!({"dedupe": {"key": "k"}})).await;
        assert_eq!(refused.problem(422, "invalid_field"), "dedupe", "{toml}");
        assert_eq!(world.get("/v1/dedupe?scope=mail").await.body["items"], json!([]));
    }
}

#[tokio::test]
async fn the_first_answer_is_given_again_under_its_idempotency_key() {
    let world = World::new().await;
    let send = |body: &'static str| {
        let world = &world;
        async move { world.send(Method::POST, "/v1/videos", &[("idempotency-key", "k1")], body).await }
    };
    let first = send(r#"{"name":"Anna","user":"u"}"#).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (202, ""));
    let again = send(r#"{"name":"Anna","user":"u"}"#).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("location"), first.header("location"));
    send(r#"{"name":"Maria","user":"u"}"#).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn other_writes_are_idempotent_too_and_a_secret_is_not_kept_for_it() {
    let world = World::with("[http]\nadmin_key = 'correct horse'").await;
    let headers = [("idempotency-key", "k2"), ("authorization", "Bearer correct horse")];
    let wish = r#"{"name":"ci","scopes":["read"]}"#;
    let first = world.send(Method::POST, "/v1/keys", &headers, wish).await;
    assert!(first.body["key"].is_string());
    let again = world.send(Method::POST, "/v1/keys", &headers, wish).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.body["id"], &again.body["key"]), (&first.body["id"], &Value::Null));
    let other = world.send(Method::POST, "/v1/keys", &headers, r#"{"name":"ci","scopes":["admin"]}"#).await;
    other.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_key_in_flight_is_told() {
    let world = World::new().await;
    let caller = world.state.access.anonymous().await.unwrap().unwrap();
    let asked = crate::http::idempotency::Asked::under("k3", Method::POST, "/v1/videos");
    let held = asked.begin(&world.state, &caller, b"").unwrap();
    let headers = [("idempotency-key", "k3")];
    let wish = r#"{"name":"Anna","user":"u"}"#;
    let answered = world.send(Method::POST, "/v1/videos", &headers, wish).await;
    answered.problem(409, "idempotency_key_in_flight");
    drop(held);
    assert_eq!(world.send(Method::POST, "/v1/videos", &headers, wish).await.status, 202);
}

#[tokio::test]
async fn a_long_poll_ends_when_the_result_is_there() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let path = format!("/v1/requests/{id}");
    let waiting = world.send(Method::GET, &path, &[("prefer", "wait=30")], Body::empty());
    let (answered, ()) = tokio::join!(waiting, world.finish(&id, made()));
    assert_eq!((&answered.body["state"], answered.header("preference-applied")), (&json!("ready"), "wait=30"));
    let id = world.ask("Maria", "1").await;
    let now = world.send(Method::GET, &format!("/v1/requests/{id}"), &[("prefer", "wait=0")], Body::empty()).await;
    assert_eq!(now.body["state"], "waiting");
    let capped = world.send(Method::GET, &path, &[("prefer", "wait=9999")], Body::empty()).await;
    assert_eq!(capped.header("preference-applied"), "wait=60");
}

/// The `id:` and the data of each event in a stream's text.
fn events(text: &str) -> Vec<(String, Value)> {
    let line = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
    };
    text.split("\n\n")
        .filter_map(|event| Some((line(event, "id:")?, serde_json::from_str(&line(event, "data:")?).unwrap())))
        .collect()
}

#[tokio::test]
async fn events_tell_each_change_and_go_on_where_the_caller_left() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let path = format!("/v1/requests/{id}/events");
    let request = Request::get(&path).body(Body::empty()).unwrap();
    let response = world.app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], HeaderValue::from_static("text/event-stream"));
    let mut stream = response.into_body().into_data_stream();
    let first = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.contains("event: state"), "{first}");
    let (seen, view) = events(&first).remove(0);
    assert_eq!(view["state"], "waiting");

    world.finish(&id, made()).await;
    let mut rest = String::new();
    while let Some(chunk) = stream.next().await {
        rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let told = events(&rest);
    assert_eq!(told.last().unwrap().1["state"], "ready", "{rest}");

    let resumed = world.send(Method::GET, &path, &[("last-event-id", &seen)], Body::empty()).await;
    let resumed = events(&resumed.text);
    assert_eq!((resumed.len(), &resumed[0].1["state"]), (1, &json!("ready")));
    let over = world.send(Method::GET, &path, &[("last-event-id", &resumed[0].0)], Body::empty()).await;
    assert_eq!((over.status.as_u16(), over.text.as_str()), (204, ""));
}

#[tokio::test]
async fn a_stopping_server_lets_its_listeners_go() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let (path, events) = (format!("/v1/requests/{id}"), format!("/v1/requests/{id}/events"));
    let listening = world.get(&events);
    let waiting = world.send(Method::GET, &path, &[("prefer", "wait=60")], Body::empty());
    let stop = async { world.state.stopping.cancel() };
    let (_, waited, ()) = tokio::join!(listening, waiting, stop);
    assert_eq!(waited.body["state"], "waiting");
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_its_streams_and_returns() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(crate::http::serve(listener, world.state.clone(), stop.clone()));
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let asked = format!("GET /v1/requests/{id}/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
    caller.write_all(asked.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    caller.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), serving).await;
    ended.expect("the open stream does not hold the server").unwrap().unwrap();
}

#[tokio::test]
async fn an_asker_may_leave_once() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let path = format!("/v1/requests/{id}");
    let left = world.send(Method::DELETE, &path, &[], Body::empty()).await;
    assert_eq!((left.status.as_u16(), &left.body["state"]), (200, &json!("left")));
    world.send(Method::DELETE, &path, &[], Body::empty()).await.problem(409, "request_final");
}

#[tokio::test]
async fn requests_are_listed_by_user_and_state_and_page() {
    let world = World::new().await;
    for name in ["Anna", "Maria", "Eva"] {
        world.ask(name, "u1").await;
    }
    let other = world.ask("Anna", "u2").await;
    world.finish(&other, made()).await;
    let first = world.get("/v1/requests?user=u1&state=waiting&limit=1").await.body;
    assert_eq!(first["items"][0]["key"], r#"["eva","neutral","default"]"#);
    let next = format!("/v1/requests?user=u1&state=waiting&limit=5&cursor={}", first["next"].as_str().unwrap());
    let rest = world.get(&next).await.body;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    assert_eq!(world.get("/v1/requests?queue=mail").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_released_key_is_made_anew() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    let path = "/v1/dedupe/video/%5B%22anna%22,%20%22neutral%22,%20%22default%22%5D";
    let shown = world.get(path).await.body;
    assert_eq!((&shown["state"], &shown["subscribers"][0]["subscriber"]), (&json!("pending"), &json!("1")));
    assert_eq!(world.get("/v1/dedupe?scope=video&state=pending").await.body["items"][0]["subscribers"], 1);
    let released = world.post(&format!("{path}/release"), json!({"reason": "a typo"})).await;
    assert_eq!((released.status.as_u16(), &released.body["state"]), (200, &json!("cancelled")));
    let view = world.get(&format!("/v1/requests/{id}")).await.body;
    assert_eq!((&view["state"], &view["error"]), (&json!("cancelled"), &json!("a typo")));

    let again = world.ask("Anna", "1").await;
    world.finish(&again, made()).await;
    world.send(Method::POST, &format!("{path}/release"), &[], Body::empty()).await;
    assert_eq!(world.get(path).await.body["state"], "empty");
    assert_eq!(world.get("/v1/dedupe?state=empty").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn imported_videos_are_ready_at_once() {
    let world = World::new().await;
    let items = json!({"items": [
        {"name": "anna", "gender": "girl", "file_id": "F1", "made_at": "2026-01-02T03:04:05Z"},
        {"name": "ANNA", "gender": "girl", "file_id": "F2"},
    ]});
    let done = world.post("/v1/videos/import", items).await;
    assert_eq!(done.body, json!({"imported": 1, "skipped": 1}), "{}", done.text);
    let ready = world.post("/v1/videos", json!({"name": "Anna", "gender": "girl", "user": "u"})).await;
    assert_eq!((ready.status.as_u16(), &ready.body["result"]["file_id"]), (200, &json!("F1")));
    assert_eq!(ready.body["made_at"], "2026-01-02T03:04:05Z");
    assert_eq!(world.get("/v1/dedupe?state=succeeded").await.body["items"][0]["generation"], 1);
    let bad = world.post("/v1/videos/import", json!({"items": [{"name": "Eva", "file_id": ""}]})).await;
    assert_eq!(bad.problem(422, "invalid_field"), "items[0].file_id");
}

#[tokio::test]
async fn deliveries_are_shown_with_their_history_and_only_dead_ones_are_replayed() {
    let world = World::new().await;
    let id = world.ask("Anna", "1").await;
    world.finish(&id, made()).await;
    let listed = world.get("/v1/deliveries?channel=mailbox&state=queued&queue=video").await.body;
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["request"]), (&json!(id), &json!(id)));
    let replay = format!("/v1/deliveries/{id}/replay");
    world.send(Method::POST, &replay, &[], Body::empty()).await.problem(409, "delivery_not_dead");
    world.send(Method::DELETE, &format!("/v1/requests/{id}"), &[], Body::empty()).await;
    let replayed = world.send(Method::POST, &replay, &[], Body::empty()).await;
    assert_eq!((replayed.status.as_u16(), &replayed.body["state"]), (200, &json!("queued")));
    assert_eq!(replayed.body["history"][0]["event"], "replayed");
    assert_eq!(world.get("/v1/mailbox/1").await.body, json!({"items": [], "next": null}));
}
