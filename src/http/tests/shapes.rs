//! What every route refuses, taken from the OpenAPI document: bodies and parameters of a wrong shape. Nobody is told of
//! Rust's types, and nothing of it is the server's own fault.

use serde_json::json;

use super::queues::world;
use super::*;

/// Each route: its method, its path with something in place of the parameters, and its description.
async fn routes(world: &World) -> Vec<(Method, String, Value, Value)> {
    let document = world.get("/openapi.json").await.body;
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{queue}", "mail").replace("{id}", "x").replace("{name}", "x").replace("{user}", "x");
        let path = path.replace("{scope}", "video").replace("{key}", "%5B%22x%22%5D").replace("{group}", "x");
        for (method, route) in methods.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let content = &route["requestBody"]["content"]["application/json"]["schema"];
            routes.push((method, path.clone(), route.clone(), fields(&document, content)));
        }
    }
    assert!(routes.len() > 80, "{}", routes.len());
    routes
}

/// The properties of a schema, which may be the name of one, or one of several.
fn fields(document: &Value, schema: &Value) -> Value {
    if let Some(named) = schema["$ref"].as_str() {
        return fields(document, document.pointer(named.trim_start_matches('#')).unwrap());
    }
    let several = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    match several.and_then(|several| several.iter().find(|one| one.get("$ref").is_some())) {
        Some(one) => fields(document, one),
        None => schema["properties"].clone(),
    }
}

fn names_a_type(text: &str) -> bool {
    let types = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f64", "usize", "struct", "enum", "untagged"];
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| types.contains(&word))
}

#[tokio::test]
async fn a_body_of_a_wrong_shape_is_refused_in_plain_words() {
    let (world, _server) = world().await;
    let mut refused = 0;
    for (method, path, route, fields) in routes(&world).await {
        if route.get("requestBody").is_none() {
            continue;
        }
        let fields = fields.as_object().cloned().unwrap_or_default();
        let whole = [json!([]), json!([true]), json!(7)].map(|body| (body, true));
        let shapes = [json!([]), json!({}), json!(-1), json!(0.5), json!("\u{0}")];
        let each = fields.keys().flat_map(|field| shapes.iter().map(move |shape| (json!({field: shape}), false)));
        for (body, must_be_refused) in whole.into_iter().chain(each.collect::<Vec<_>>()) {
            let answered = world.send(method.clone(), &path, &[], body.to_string()).await;
            let (status, detail) = (answered.status.as_u16(), answered.body["detail"].as_str().unwrap_or_default());
            assert!(status < 500, "{method} {path} {body}: {}", answered.text);
            assert!(!names_a_type(detail), "{method} {path} {body}: {detail}");
            // Payments are told as forms.
            if must_be_refused && !path.contains("cloudpayments") {
                assert_eq!(answered.problem(422, "invalid_field"), "body", "{method} {path} {body}");
                refused += 1;
            }
        }
    }
    assert!(refused > 90, "{refused}");
    // Nor are the objects inside lists.
    for (path, body, field) in [
        ("/v1/slots/sync", json!({"slots": [["mon-10", "2030-05-06T10:00:00Z", ""]]}), "slots[0]"),
        ("/v1/flows", json!({"queue": "mail", "children": [["mail"]]}), "children[0]"),
        ("/v1/videos/import", json!({"items": [["Anna", null, null, "F1", null]]}), "items[0]"),
    ] {
        assert_eq!(world.post(path, body).await.problem(422, "invalid_field"), field, "{path}");
    }
}

#[tokio::test]
async fn a_parameter_of_a_wrong_shape_is_refused_in_plain_words() {
    let (world, _server) = world().await;
    let mut refused = 0;
    for (method, path, route, _) in routes(&world).await {
        let parameters = route["parameters"].as_array().cloned().unwrap_or_default();
        let query: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "query").collect();
        for parameter in &query {
            let name = parameter["name"].as_str().unwrap();
            for value in ["%00", "%00x", "18446744073709551615"] {
                // A text may well be made of digits.
                let is_number = ["start", "depth", "width"].contains(&name);
                if !value.starts_with("%00") && !is_number {
                    continue;
                }
                let answered = world.send(method.clone(), &format!("{path}?{name}={value}"), &[], Body::empty()).await;
                let detail = answered.body["detail"].as_str().unwrap_or_default();
                let what = format!("{method} {path}?{name}={value}: {}", answered.text);
                // 404: what the path names is looked for first.
                assert!(matches!(answered.status.as_u16(), 404 | 422), "{what}");
                assert!(!names_a_type(detail), "{what}");
                refused += 1;
            }
        }
        if !query.is_empty() {
            let answered = world.send(method.clone(), &format!("{path}?childern=true"), &[], Body::empty()).await;
            assert_eq!(answered.problem(422, "invalid_field"), "childern", "{method} {path}");
        }
    }
    assert!(refused > 80, "{refused}");
    for path in ["/v1/mailbox/%00", "/v1/dedupe/%00/%5B%22x%22%5D"] {
        assert_eq!(world.get(path).await.problem(422, "invalid_field"), "path", "{path}");
    }
    let clean = json!({"state": "completed", "next": u64::MAX});
    assert_eq!(world.post("/v1/queues/mail/clean", clean).await.problem(422, "invalid_field"), "next");
}
