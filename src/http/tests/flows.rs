//! Flows over HTTP, on a Redis of the test's own.

use serde_json::json;

use super::queues::world;
use super::*;

#[tokio::test]
async fn a_flow_is_added_and_shown_as_a_tree() {
    let (world, _server) = world().await;
    let wish = json!({"queue": "mail", "name": "report", "data": {"n": 1}, "options": {"jobId": "top", "priority": 3},
    "children": [
        {"queue": "orders", "data": {"page": 1}, "on_failure": "fail_parent", "options": {"attempts": 3, "backoff": 50}},
        {"queue": "mail", "children": [{"queue": "pickup", "options": {"delay": 60_000}}]},
    ]});
    let added = world.post("/v1/flows", wish.clone()).await;
    assert_eq!(added.status, 201, "{}", added.text);
    assert_eq!(added.header("location"), "/v1/queues/mail/jobs/top");
    let children = &added.body["children"];
    assert_eq!(
        (&added.body["id"], &children[0]["queue"], &children[1]["queue"]),
        (&json!("top"), &json!("orders"), &json!("mail"))
    );
    assert_eq!(children[1]["children"][0]["queue"], "pickup");
    let page = children[0]["id"].as_str().unwrap();
    let shown = world.get(&format!("/v1/queues/orders/jobs/{page}")).await.body;
    for (field, value) in [
        ("state", json!("waiting")),
        ("data", json!({"page": 1})),
        ("parent", json!("bull:mail:top")),
        ("name", json!("orders")),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!((&shown["options"]["fpof"], &shown["options"]["attempts"]), (&json!(true), &json!(3)));

    let tree = world.get("/v1/queues/mail/jobs/top/tree").await.body;
    assert_eq!((&tree["state"], &tree["name"]), (&json!("waiting-children"), &json!("report")));
    assert_eq!(tree["counts"], json!({"unprocessed": 2, "processed": 0, "ignored": 0, "failed": 0}));
    let middle = tree["children"].as_array().unwrap().iter().find(|child| child["queue"] == "mail").unwrap();
    assert_eq!((&middle["kind"], &middle["children"][0]["state"]), (&json!("unprocessed"), &json!("delayed")));
    let cut = world.get("/v1/queues/mail/jobs/top/tree?depth=0").await.body;
    assert_eq!((&cut["children"], &cut["more"]), (&json!([]), &json!(true)));
    let narrow = world.get("/v1/queues/mail/jobs/top/tree?width=1").await.body;
    assert_eq!((narrow["children"].as_array().unwrap().len(), &narrow["more"]), (1, &json!(true)));
    world.get("/v1/queues/mail/jobs/nobody/tree").await.problem(404, "job_unknown");
    world.get("/v1/queues/nope/jobs/top/tree").await.problem(404, "queue_unknown");
    for (query, field) in [("depth=21", "depth"), ("depth=-1", "depth"), ("width=0", "width"), ("width=201", "width")] {
        let refused = world.get(&format!("/v1/queues/mail/jobs/top/tree?{query}")).await;
        assert_eq!(refused.problem(422, "invalid_field"), field, "{query}");
    }

    let again = world.post("/v1/flows", wish).await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"]),
        (200, &json!("top")),
        "its root is there: nothing was added"
    );
    assert_eq!(world.get("/v1/queues/orders").await.body["counts"]["waiting"], 1);
}

#[tokio::test]
async fn an_idempotency_key_adds_a_flow_once() {
    let (world, _server) = world().await;
    let wish = json!({"queue": "mail", "children": [{"queue": "mail"}]}).to_string();
    let send = || world.send(Method::POST, "/v1/flows", &[("idempotency-key", "k")], wish.clone());
    let (first, again) = (send().await, send().await);
    assert_eq!((first.status.as_u16(), &first.text), (201, &again.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let counts = world.get("/v1/queues/mail").await.body["counts"].clone();
    assert_eq!((&counts["waiting"], &counts["waiting-children"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_flow_that_makes_no_sense_is_refused_with_the_field_and_adds_nothing() {
    let (world, _server) = world().await;
    let child = |child: Value| json!({"queue": "mail", "children": [{"queue": "mail"}, child]});
    let deep = (0..14).fold(json!({"queue": "mail"}), |below, _| json!({"queue": "mail", "children": [below]}));
    assert_eq!(world.post("/v1/flows", deep).await.status, 201);
    let before = world.get("/v1/queues/mail").await.body["counts"].clone();
    for (body, code, field) in [
        (json!({}), "missing_field", "queue"),
        (json!({"queue": "mail", "on_failure": "fail_parent"}), "invalid_field", "on_failure"),
        (json!({"queue": "mail", "parent": "p"}), "invalid_field", "parent"),
        (json!({"queue": "mail", "parent": {"id": "p"}}), "missing_field", "parent.queue"),
        (json!({"queue": "mail", "parent": {"queue": "mail"}}), "missing_field", "parent.id"),
        (json!({"queue": "mail", "parent": {"queue": "a b", "id": "p"}}), "invalid_field", "parent.queue"),
        (json!({"queue": "mail", "parent": {"queue": "video", "id": "p"}}), "invalid_field", "parent.queue"),
        (
            child(json!({"queue": "mail", "parent": {"queue": "mail", "id": "p"}})),
            "invalid_field",
            "children[1].parent",
        ),
        (child(json!({})), "missing_field", "children[1].queue"),
        (child(json!({"queue": "a b"})), "invalid_field", "children[1].queue"),
        (child(json!({"queue": "video"})), "invalid_field", "children[1].queue"),
        (child(json!({"queue": "mail-work"})), "invalid_field", "children[1].queue"),
        (child(json!({"queue": "onetake-delivery"})), "invalid_field", "children[1].queue"),
        (child(json!({"queue": "mail", "on_failure": "explode"})), "invalid_field", "children[1].on_failure"),
        (child(json!({"queue": "mail", "options": {"jobId": "7"}})), "invalid_field", "children[1].options.jobId"),
        (json!({"queue": "mail", "options": {"group": {"id": "g"}}}), "invalid_field", "options.group"),
        (
            child(json!({"queue": "mail", "options": {"group": {"id": "g"}}})),
            "invalid_field",
            "children[1].options.group",
        ),
        (
            child(json!({"queue": "mail", "options": {"priority": 3_000_000}})),
            "invalid_field",
            "children[1].options.priority",
        ),
        (
            child(json!({"queue": "mail", "children": [{"queue": "mail", "options": {"attempts": 5_000}}]})),
            "invalid_field",
            "children[1].children[0].options.attempts",
        ),
        (
            json!({"queue": "mail", "options": {"jobId": "x"}, "children": [{"queue": "mail", "options": {"jobId": "x"}}]}),
            "invalid_field",
            "children[0].options.jobId",
        ),
        (json!({"queue": "mail", "children": vec![json!({"queue": "mail"}); 1_000]}), "invalid_field", "children"),
    ] {
        let refused = world.post("/v1/flows", body.clone()).await;
        assert_eq!(refused.problem(422, code), field, "{body}");
    }
    let unknown = world.post("/v1/flows", child(json!({"queue": "nope"}))).await;
    assert_eq!(unknown.problem(404, "queue_unknown"), "children[1].queue");
    assert_eq!(world.get("/v1/queues/mail").await.body["counts"], before);

    let held = json!({"queue": "mail", "children": [{"queue": "mail", "options": {"jobId": "held"}}]});
    assert_eq!(world.post("/v1/flows", held.clone()).await.status, 201);
    assert_eq!(world.post("/v1/flows", held).await.problem(409, "job_exists"), "children[0].options.jobId");
}

#[tokio::test]
async fn a_flow_is_added_under_a_job_that_is_there() {
    let (world, _server) = world().await;
    assert_eq!(world.post("/v1/queues/orders/jobs", json!({"options": {"jobId": "top"}})).await.status, 201);
    let claimed = world.post("/v1/queues/orders/claims", json!({})).await.body;
    let under = |queue: &str, id: &str, child: &str| {
        json!({"queue": "mail", "on_failure": "ignore_dependency", "options": {"jobId": child},
            "parent": {"queue": queue, "id": id}, "children": [{"queue": "pickup"}]})
    };
    let send = async |key: &str| {
        let wish = under("orders", "top", "a").to_string();
        world.send(Method::POST, "/v1/flows", &[("idempotency-key", key)], wish).await
    };
    let added = send("k").await;
    assert_eq!((added.status.as_u16(), added.header("location")), (201, "/v1/queues/mail/jobs/a"), "{}", added.text);
    assert_eq!(send("k").await.text, added.text);
    assert_eq!(send("l").await.status, 200, "it is there already");
    let shown = world.get("/v1/queues/mail/jobs/a").await.body;
    assert_eq!((&shown["parent"], &shown["options"]["idof"]), (&json!("bull:orders:top"), &json!(true)));
    let tree = world.get("/v1/queues/orders/jobs/top/tree").await.body;
    assert_eq!((&tree["state"], &tree["counts"]["unprocessed"]), (&json!("active"), &json!(1)));
    assert_eq!(tree["children"][0]["children"].as_array().map(Vec::len), Some(1));
    let token = &claimed["token"];
    let ended = world.post("/v1/queues/orders/claims/top/complete", json!({"token": token})).await;
    ended.problem(409, "children_pending");

    let refused = async |wish: Value, status: u16, code: &str| {
        world.post("/v1/flows", wish).await.problem(status, code).to_owned()
    };
    assert_eq!(refused(under("orders", "nobody", "b"), 404, "job_unknown").await, "parent.id");
    assert_eq!(refused(under("nope", "top", "b"), 404, "queue_unknown").await, "parent.queue");
    assert_eq!(refused(under("mail", "b", "a"), 404, "job_unknown").await, "parent.id");
    assert_eq!(world.post("/v1/queues/mail/jobs", json!({"options": {"jobId": "other"}})).await.status, 201);
    assert_eq!(refused(under("mail", "other", "a"), 409, "job_exists").await, "options.jobId");
    let leaf = json!({"queue": "orders", "options": {"jobId": "top"}, "parent": {"queue": "mail", "id": "a"}});
    assert_eq!(refused(leaf, 409, "job_exists").await, "options.jobId");
    let failed = world.post("/v1/queues/orders/claims/top/fail", json!({"token": token, "reason": "no"})).await;
    assert_eq!(failed.status, 200, "{}", failed.text);
    assert_eq!(refused(under("orders", "top", "b"), 409, "job_wrong_state").await, "parent.id");
    assert_eq!(world.get("/v1/queues/mail/jobs/b").await.status, 404);
}
