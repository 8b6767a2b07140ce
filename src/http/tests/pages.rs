//! Documents, health, files, and what is not there.

use serde_json::json;

use super::*;

/// What the norm asks of a document, and generators of clients go by.
#[tokio::test]
async fn each_operation_has_an_id_of_its_own_and_each_response_a_description() {
    let world = World::new().await;
    let described = world.get("/openapi.json").await.body;
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{method} {path}: {id} is another's");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} {status}");
                let is_refusal = status.starts_with('4');
                assert!(!is_refusal || response["content"].is_object(), "{id} {status} is a problem document");
            }
        }
    }
    assert!(ids.contains("locks_renew") && ids.len() > 80, "{ids:?}");
}

#[tokio::test]
async fn the_document_describes_every_route_of_the_contract() {
    let world = World::new().await;
    let described = world.get("/openapi.json").await.body;
    assert!(described["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(described["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert!(described["components"]["schemas"]["Problem"].is_object());
    for (path, methods) in [
        ("/v1/videos", vec!["post"]),
        ("/v1/videos/import", vec!["post"]),
        ("/v1/requests", vec!["get"]),
        ("/v1/requests/{id}", vec!["get", "delete"]),
        ("/v1/requests/{id}/events", vec!["get"]),
        ("/v1/mailbox/{user}", vec!["get"]),
        ("/v1/files/{name}", vec!["get"]),
        ("/v1/deliveries", vec!["get"]),
        ("/v1/deliveries/{id}", vec!["get"]),
        ("/v1/deliveries/{id}/replay", vec!["post"]),
        ("/v1/dedupe", vec!["get"]),
        ("/v1/dedupe/{scope}/{key}", vec!["get"]),
        ("/v1/dedupe/{scope}/{key}/release", vec!["post"]),
        ("/v1/queues", vec!["get"]),
        ("/v1/queues/{queue}", vec!["get"]),
        ("/v1/queues/{queue}/pause", vec!["post"]),
        ("/v1/queues/{queue}/resume", vec!["post"]),
        ("/v1/queues/{queue}/retry", vec!["post"]),
        ("/v1/queues/{queue}/promote", vec!["post"]),
        ("/v1/queues/{queue}/drain", vec!["post"]),
        ("/v1/queues/{queue}/clean", vec!["post"]),
        ("/v1/queues/{queue}/obliterate", vec!["post"]),
        ("/v1/queues/{queue}/trim-events", vec!["post"]),
        ("/v1/queues/{queue}/concurrency", vec!["post", "delete"]),
        ("/v1/queues/{queue}/rate-limit", vec!["post", "delete"]),
        ("/v1/queues/{queue}/limiter", vec!["delete"]),
        ("/v1/queues/{queue}/jobs", vec!["get", "post"]),
        ("/v1/queues/{queue}/jobs/{id}", vec!["get", "delete"]),
        ("/v1/queues/{queue}/jobs/{id}/children", vec!["get"]),
        ("/v1/queues/{queue}/jobs/{id}/logs", vec!["get"]),
        ("/v1/queues/{queue}/jobs/{id}/retry", vec!["post"]),
        ("/v1/queues/{queue}/jobs/{id}/promote", vec!["post"]),
        ("/v1/queues/{queue}/jobs/{id}/delay", vec!["post"]),
        ("/v1/queues/{queue}/jobs/{id}/priority", vec!["post"]),
        ("/v1/queues/{queue}/jobs/{id}/data", vec!["post"]),
        ("/v1/keys", vec!["get", "post"]),
        ("/v1/keys/{id}", vec!["delete"]),
        ("/livez", vec!["get"]),
        ("/readyz", vec!["get"]),
        ("/metrics", vec!["get"]),
    ] {
        for method in methods {
            assert!(described["paths"][path][method].is_object(), "{method} {path}");
        }
    }
    let text = described.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(described["components"]["schemas"][name].is_object(), "{name} is referred to and not there");
    }
    let page = world.get("/docs/").await;
    assert!(page.status == 200 && page.text.contains("swagger-ui"), "{}", page.text);
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let world = World::new().await;
    world.get("/v2/videos").await.problem(404, "not_found");
    let wrong = world.send(Method::PUT, "/v1/videos", &[], Body::empty()).await;
    wrong.problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "POST");
    world.get("/v1/keys/../keys").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_is_replaced() {
    let world = World::new().await;
    let send = |id: &'static str| {
        let world = &world;
        async move { world.send(Method::GET, "/nowhere", &[("x-request-id", id)], Body::empty()).await }
    };
    assert_eq!(send("trace-1.a_b").await.body["request_id"], "trace-1.a_b");
    for bad in ["a b", "<script>", "", "ключ"] {
        let answered = send(bad).await;
        answered.problem(404, "not_found");
        assert_eq!(answered.header("x-request-id").len(), 32, "{bad}");
    }
}

#[tokio::test]
async fn without_redis_a_server_is_ready_and_without_its_store_it_is_not() {
    let world = World::new().await;
    assert_eq!(world.get("/livez").await.body, json!({"status": "ok"}));
    let ready = world.get("/readyz").await;
    let checks = json!({"status": "degraded", "checks": {"redis": "down", "store": "up"}});
    assert_eq!((ready.status.as_u16(), ready.body), (200, checks));
    world.get("/v1/queues").await.problem(503, "redis_unavailable");

    world.get("/v1/requests").await;
    world.state.intake.flights().store().close().await;
    assert_eq!(world.get("/readyz").await.status, 503);
    let put_off = world.post("/v1/videos", json!({"name": "Anna", "user": "u"})).await;
    put_off.problem(503, "store_unavailable");
    assert_eq!(put_off.header("retry-after"), "1");
    assert!(!put_off.text.contains("sqlx") && !put_off.text.contains("pool"), "{}", put_off.text);
}

#[tokio::test]
async fn files_come_whole_or_in_ranges_and_none_from_elsewhere() {
    let world = World::new().await;
    std::fs::write(world.dir.path().join("anna-1.mp4"), b"0123456789").unwrap();
    std::fs::write(world.dir.path().join(".hidden"), b"x").unwrap();
    let whole = world.get("/v1/files/anna-1.mp4").await;
    assert_eq!((whole.status.as_u16(), whole.text.as_str()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), "video/mp4");
    let part = world.send(Method::GET, "/v1/files/anna-1.mp4", &[("range", "bytes=2-4")], Body::empty()).await;
    assert_eq!((part.status.as_u16(), part.text.as_str()), (206, "234"));
    let asked = async |headers: &[(&str, &str)]| {
        let answer = world.send(Method::GET, "/v1/files/anna-1.mp4", headers, Body::empty()).await;
        (answer.status.as_u16(), answer.text)
    };
    let (all, four) = ((200, "0123456789".to_owned()), (206, "0123".to_owned()));
    // What RFC 9110 has a server pass over.
    for range in ["items=0-9", "bytes=0-1,4-5", "bytes=-11"] {
        assert_eq!(asked(&[("range", range)]).await, all, "{range}");
    }
    // A part of this file, or the whole of another.
    for same in ["last-modified", "etag"] {
        let same = whole.header(same).to_owned();
        assert!(!same.is_empty());
        assert_eq!(asked(&[("range", "bytes=0-3"), ("if-range", &same)]).await, four);
    }
    let unless = [("if-match", "\"other\""), ("if-range", "\"other\""), ("range", "bytes=0-3")];
    assert_eq!(asked(&unless).await.0, 412);
    for other in ["\"other\"", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        assert_eq!(asked(&[("range", "bytes=0-3"), ("if-range", other)]).await, all, "{other}");
    }
    let beyond = world.send(Method::GET, "/v1/files/anna-1.mp4", &[("range", "bytes=10-")], Body::empty()).await;
    beyond.problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */10");
    for bad in ["nope.mp4", ".hidden", "..%2Ft.db", "%2e%2e", "a%00b", "%2Fetc%2Fpasswd"] {
        world.get(&format!("/v1/files/{bad}")).await.problem(404, "file_unknown");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_server_goes_on() {
    let world = World::new().await;
    let broken = Router::new()
        .route("/broken", axum::routing::get(|| async { panic!("of the test") as StatusCode }))
        .layer(axum::middleware::from_fn_with_state(world.state.clone(), crate::http::envelope::envelop));
    let request = Request::get("/broken").body(Body::empty()).unwrap();
    let response = broken.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "internal");
    assert!(!body.to_string().contains("of the test"));
}
