//! Who is let in.

use serde_json::json;

use super::*;

#[tokio::test]
async fn an_open_server_answers_this_machine_only() {
    let world = World::new().await;
    let get = |headers: Vec<(&'static str, &'static str)>| {
        let world = &world;
        async move { world.send(Method::GET, "/v1/requests", &headers, Body::empty()).await }
    };
    for ours in ["127.0.0.1:7700", "localhost", "[::1]:7700"] {
        assert_eq!(get(vec![("host", ours)]).await.status, 200, "{ours}");
    }
    get(vec![("host", "evil.test")]).await.problem(403, "forbidden");
    get(vec![("host", "localhost"), ("origin", "https://evil.test")]).await.problem(403, "forbidden");
    assert_eq!(get(vec![("host", "localhost"), ("origin", "http://localhost:3000")]).await.status, 200);
    get(vec![("host", "localhost"), ("authorization", "Bearer otk_1_2")]).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_key_is_shown_once_and_closes_the_server() {
    let world = World::new().await;
    let made = world.post("/v1/keys", json!({"name": "boss", "scopes": ["admin"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = made.body["key"].as_str().unwrap().to_owned();
    let refused = world.get("/v1/keys").await;
    refused.problem(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("host", "anywhere.test")];
    let listed = world.send(Method::GET, "/v1/keys", &headers, Body::empty()).await;
    assert_eq!((listed.status.as_u16(), &listed.body["items"][0]["name"]), (200, &json!("boss")));
    assert!(!listed.text.contains(key.rsplit_once('_').unwrap().1), "the secret is kept nowhere");

    let path = format!("/v1/keys/{}", made.body["id"].as_str().unwrap());
    assert_eq!(world.send(Method::DELETE, &path, &headers, Body::empty()).await.status, 200);
    world.send(Method::GET, "/v1/keys", &headers, Body::empty()).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn every_route_asks_for_a_key_but_those_that_say_nothing() {
    let world = World::with("[http]\nadmin_key = 'correct horse'").await;
    let described = world.get("/openapi.json").await.body;
    let mut asked = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let concrete = path.replace(['{', '}'], "");
            let answered = world.send(method, &concrete, &[], Body::empty()).await;
            match path.as_str() {
                "/livez" | "/readyz" => assert_eq!(answered.status, 200, "{path}"),
                // A signature over the body stands for a key.
                "/v1/cloudpayments/{kind}" => assert_eq!(answered.problem(401, "signature_invalid"), ""),
                _ => {
                    answered.problem(401, "unauthorized");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 20, "{asked}");
    let headers = [("authorization", "bearer correct horse")];
    assert_eq!(world.send(Method::GET, "/v1/requests", &headers, Body::empty()).await.status, 200);
}

#[tokio::test]
async fn a_scope_opens_what_it_names() {
    let world = World::with("[http]\nadmin_key = 'correct horse'").await;
    let mut statuses = Vec::new();
    for scope in ["read", "enqueue", "operate"] {
        let admin = [("authorization", "Bearer correct horse")];
        let wish = json!({"name": scope, "scopes": [scope]}).to_string();
        let made = world.send(Method::POST, "/v1/keys", &admin, wish).await;
        let bearer = format!("Bearer {}", made.body["key"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        let wish = json!({"name": "Anna", "user": scope}).to_string();
        let mut row = vec![world.send(Method::GET, "/v1/requests", &headers, Body::empty()).await.status.as_u16()];
        row.push(world.send(Method::POST, "/v1/videos", &headers, wish).await.status.as_u16());
        row.push(world.send(Method::POST, "/v1/videos/import", &headers, r#"{"items":[]}"#).await.status.as_u16());
        row.push(world.send(Method::GET, "/v1/keys", &headers, Body::empty()).await.status.as_u16());
        statuses.push(row);
    }
    assert_eq!(statuses, [[200, 403, 403, 403], [200, 202, 403, 403], [200, 403, 200, 403]]);
}

#[tokio::test]
async fn what_changes_a_queue_needs_the_scope_operate() {
    let world = World::with("[http]\nadmin_key = 'correct horse'").await;
    let admin = [("authorization", "Bearer correct horse")];
    let wish = json!({"name": "producer", "scopes": ["read", "enqueue"]}).to_string();
    let made = world.send(Method::POST, "/v1/keys", &admin, wish).await;
    let bearer = format!("Bearer {}", made.body["key"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let described = world.get("/openapi.json").await.body;
    let mut refused = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        let enqueues = path == "/v1/queues/{queue}/jobs";
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "get") {
            if path.starts_with("/v1/queues/") && !enqueues {
                let method: Method = method.to_uppercase().parse().unwrap();
                let concrete = path.replace("{queue}", "mail").replace("{id}", "1");
                world.send(method, &concrete, &headers, Body::empty()).await.problem(403, "forbidden");
                refused += 1;
            }
        }
    }
    assert!(refused >= 19, "{refused}");
}

#[tokio::test]
async fn outside_loopback_nothing_is_open() {
    let world = World::with("[http]\nbind = '0.0.0.0:0'").await;
    world.get("/v1/requests").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_process_that_only_runs_jobs_tells_its_health_and_nothing_else() {
    let world = World::with("role = 'runner'").await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    // Known, but nothing is recorded in this process.
    world.get("/metrics").await.problem(404, "not_found");
    for path in ["/v1/queues", "/openapi.json", "/docs"] {
        world.get(path).await.problem(404, "not_found");
    }
    world.post("/v1/queues/mail/jobs", json!({})).await.problem(404, "not_found");
}
