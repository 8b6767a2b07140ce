//! Following a request: its address, waiting for it, its events, where it stands and how far it is.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::loss::Gate;
use crate::support::making::{Making, ask, until_delivered};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_request_has_an_address,
    an_asker_says_how_old_a_result_may_be,
    waiting_ends_with_the_run_or_with_the_time,
    events_come_in_order_and_can_be_taken_up_again,
    position_and_progress_are_shown,
    a_repeated_write_is_answered_as_the_first_also_after_a_restart,
    after_its_retention_a_key_stands_for_another_write,
    one_key_stands_for_one_body,
);

/// The path of a request.
fn path(request: &Value) -> String {
    format!("/v1/requests/{}", request["id"].as_str().expect("an id"))
}

async fn an_asker_says_how_old_a_result_may_be(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;
    ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
    server.post("/v1/videos", json!({"name": "Anna", "user": "ivan", "max_age": 3600})).await.expect(200);
    server.post("/v1/videos", json!({"name": "Anna", "user": "vera", "max_age": 0})).await.expect(202);
    until_delivered(&server, "vera", 1).await;
    assert_eq!(making.runs(), ["Anna", "Anna"]);
}

async fn a_request_has_an_address(kind: StoreKind) {
    let making = Making::new();
    let world = World::new(kind).await.making(&making);
    let server = world.server().await;
    let answer = server.post("/v1/videos", json!({"name": "Anna", "user": 17})).await;
    let request = answer.expect(202);
    assert_eq!(answer.header("location"), path(&request));
    assert_eq!(request["links"], json!({"self": path(&request), "events": format!("{}/events", path(&request))}));
    let view = server.get(answer.header("location")).await.expect(200);
    assert_eq!((&view["id"], &view["key"]), (&request["id"], &json!(r#"["anna","neutral","default"]"#)));
    until_delivered(&server, "17", 1).await;
    let listed = server.get("/v1/requests?user=17&state=ready").await.expect(200);
    assert_eq!(listed["items"][0]["id"], request["id"]);
}

async fn waiting_ends_with_the_run_or_with_the_time(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;
    let request = ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;

    let began = Instant::now();
    let early = server.with("prefer", "wait=1").get(&path(&request)).await;
    assert_eq!(early.expect(200)["state"], "running");
    assert_eq!(early.header("preference-applied"), "wait=1");
    assert!(began.elapsed() >= Duration::from_secs(1));

    let patient = server.with("prefer", "wait=40");
    let began = Instant::now();
    let at = path(&request);
    let (answer, ()) = tokio::join!(patient.get(&at), async { gate.open() });
    assert_eq!(answer.expect(200)["state"], "ready");
    assert_eq!(answer.header("preference-applied"), "wait=40");
    assert!(began.elapsed() < Duration::from_secs(30), "it came back when it was ready");
    // More than the server is willing to wait is cut, and said so.
    let answer = server.with("prefer", "wait=100000").get(&at).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (200, "wait=60"));
}

async fn events_come_in_order_and_can_be_taken_up_again(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let server = world.server().await;
    server.post("/v1/queues/video-work/pause", json!({})).await.expect(200);
    let request = ask(&server, "Anna", "olga").await;
    let at = format!("{}/events", path(&request));

    let mut events = server.events(&at).await;
    let first = events.next().await.expect("the state as it is");
    assert_eq!((first.name.as_str(), &first.data["state"]), ("state", &json!("waiting")));
    server.post("/v1/queues/video-work/resume", json!({})).await.expect(200);
    gate.until_begun(1).await;
    let running = async || {
        let event = events.next().await.expect("it goes on");
        (event.data["state"] == "running").then_some(event)
    };
    let mut running = running;
    let last_seen = loop {
        if let Some(event) = running().await {
            break event;
        }
    };
    drop(events);

    // What was seen is not told again; the rest is, to its end.
    let mut events = server.with("last-event-id", last_seen.id.as_str()).events(&at).await;
    gate.open();
    let (mut seen, mut end) = (Vec::new(), String::new());
    while let Some(event) = events.next().await {
        assert_ne!(event.id, last_seen.id);
        seen.push(event.data["state"].as_str().expect("a state").to_owned());
        end = event.id;
    }
    assert_eq!(seen.pop().as_deref(), Some("ready"), "it ends with the final state");
    assert!(seen.iter().all(|state| state == "running"), "{seen:?}");
    let over = async || server.with("last-event-id", end.as_str()).request(Method::GET, &at, None).await;
    // The delivery changes the request once more; then there is nothing new for who saw all of it.
    until_delivered(&server, "olga", 1).await;
    let mut events = server.events(&at).await;
    let last = events.next().await.expect("the final state");
    assert_eq!((&last.data["state"], events.next().await.is_none()), (&json!("ready"), true));
    assert!(matches!(over().await.expect("an answer").status, 200 | 204));
    wait::until_true("no news", PATIENCE, async || {
        let mut events = server.events(&at).await;
        let id = events.next().await.expect("the final state").id;
        let again = server.with("last-event-id", id.as_str()).request(Method::GET, &at, None).await;
        again.expect("an answer").status == 204
    })
    .await;
}

async fn position_and_progress_are_shown(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await;
    let go = making.file("go").display().to_string();
    let then = format!("echo 'progress: {{\"percent\":40}}' >&2; while [ ! -e {go} ]; do sleep 0.02; done; echo 1");
    world.setup = world.setup.config(&making.config(&then, ""));
    let server = world.server().await;
    server.post("/v1/queues/video-work/pause", json!({})).await.expect(200);
    let first = ask(&server, "Anna", "olga").await;
    let view = async |request: &Value| server.get(&path(request)).await.expect(200);
    wait::until_true("the first to be next", PATIENCE, async || view(&first).await["position"] == 0).await;
    let second = ask(&server, "Vera", "olga").await;
    wait::until_true("the second behind it", PATIENCE, async || view(&second).await["position"] == 1).await;
    assert_eq!(view(&first).await["progress"], json!(null));

    server.post("/v1/queues/video-work/resume", json!({})).await.expect(200);
    wait::until_true("progress", PATIENCE, async || view(&first).await["progress"] == json!({"percent": 40})).await;
    let running = view(&first).await;
    assert_eq!(
        (&running["state"], &running["position"], &running["attempt"]),
        (&json!("running"), &json!(null), &json!(1))
    );
    std::fs::write(making.file("go"), "").expect("our folder can be written");
    until_delivered(&server, "olga", 2).await;
    assert_eq!(view(&second).await["progress"], json!(null));
}

async fn a_repeated_write_is_answered_as_the_first_also_after_a_restart(kind: StoreKind) {
    let making = Making::new();
    let mut world = World::new(kind).await;
    let plain = "[queues.plain]\nprocessor = { kind = \"builtin\", name = \"echo\" }\n";
    world.setup = world.setup.config(&format!("{}{plain}", making.quick()));
    let wishes = [
        ("/v1/videos", json!({"name": "Anna", "user": "olga"}), 202),
        ("/v1/queues/plain/jobs", json!({"data": [1]}), 201),
    ];
    let mut server = world.server().await;
    let mut first = Vec::new();
    for (n, (at, body, status)) in wishes.iter().enumerate() {
        let answer = server.with("idempotency-key", format!("key-{n}")).post(at, body.clone()).await;
        answer.expect(*status);
        assert_eq!(answer.header("idempotency-replayed"), "");
        first.push(answer);
    }
    server.kill();
    let server = world.server().await;
    for (n, (at, body, _)) in wishes.iter().enumerate() {
        let api = server.with("idempotency-key", format!("key-{n}"));
        let again = api.post(at, body.clone()).await;
        assert_eq!((again.status, &again.text), (first[n].status, &first[n].text));
        assert_eq!(
            (again.header("idempotency-replayed"), again.header("location")),
            ("true", first[n].header("location"))
        );
        let mut other = body.clone();
        other["name"] = json!("Vera");
        let other = api.post(at, other).await;
        assert_eq!(other.expect(422)["code"], "idempotency_key_reused");
    }
    until_delivered(&server, "olga", 1).await;
    assert_eq!(world.store.numbers("select count(*) from subscriptions").await, [1]);
    assert_eq!(world.redis.ask(&["GET", "bull:plain:id"]).await.text(), Some("1"), "one plain job");
}

/// A key that was forgotten is a new one: its job does not hide behind the old one's id.
async fn after_its_retention_a_key_stands_for_another_write(kind: StoreKind) {
    let mut world = World::new(kind).await;
    world.setup = world.setup.config("[queues.plain]\n");
    let server = world.server().await;
    let api = server.with("idempotency-key", "daily");
    let flow = server.with("idempotency-key", "daily-flow");
    for day in [1, 2] {
        for _ in 0..2 {
            api.post("/v1/queues/plain/jobs", json!({"data": {"day": day}})).await.expect(201);
            flow.post("/v1/flows", json!({"queue": "plain", "data": {"day": day}})).await.expect(201);
        }
        world.store.change("delete from idempotency").await;
    }
    let jobs = server.get("/v1/queues/plain/jobs?state=waiting").await.expect(200);
    let mut days: Vec<_> = jobs["items"].as_array().unwrap().iter().map(|job| job["data"]["day"].clone()).collect();
    days.sort_by_key(Value::to_string);
    assert_eq!(days, [json!(1), json!(1), json!(2), json!(2)]);
    // One that was claimed and never answered, as by a server that died: the same adds nothing, another is refused.
    world.store.change("update idempotency set status = 0").await;
    let first = api.post("/v1/queues/plain/jobs", json!({"data": {"day": 3}})).await.expect(201);
    world.store.change("update idempotency set status = 0, body = ''").await;
    let other = api.post("/v1/queues/plain/jobs", json!({"data": {"day": 4}})).await;
    assert_eq!(other.expect(422)["code"], "idempotency_key_reused");
    let again = api.post("/v1/queues/plain/jobs", json!({"data": {"day": 3}})).await.expect(201);
    assert_eq!(again, first);
    assert_eq!(world.redis.ask(&["LLEN", "bull:plain:wait"]).await.number(), 5);
}

/// At whichever server it arrives.
async fn one_key_stands_for_one_body(kind: StoreKind) {
    let mut world = World::new(kind).await;
    world.setup = world.setup.config("[queues.plain]\n");
    let one = world.server().await;
    let second = if kind == StoreKind::Postgres { Some(world.server().await) } else { None };
    let two = second.as_ref().unwrap_or(&one);
    for round in 0..20 {
        let key = format!("k{round}");
        let add = async |server: &Onetake, who: &str| {
            let api = server.with("idempotency-key", &key);
            let answer = api.post("/v1/queues/plain/jobs", json!({"data": {"who": who}})).await;
            answer.json()["code"].as_str().unwrap_or("added").to_owned()
        };
        let (first, second) = tokio::join!(add(&one, "one"), add(two, "two"));
        let told = if first == "added" { second } else { first };
        // One process knows that it is working on the key.
        assert!(["idempotency_key_reused", "idempotency_key_in_flight"].contains(&told.as_str()), "{told}");
    }
    assert_eq!(world.redis.ask(&["LLEN", "bull:plain:wait"]).await.number(), 20);
}
