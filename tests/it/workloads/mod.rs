//! Workloads: contests for one thing, deaths between any two steps, lists that are never old, and Node bots.

mod bots;
mod clocks;
mod command_line;
mod contest;
mod crash;
mod keys;
mod stale;

use serde_json::{Value, json};

use crate::support::http::Api;

/// Long after any test.
pub const LATER: &str = "2099-05-01T10:00:00Z";

/// Makes the list of slots `0..count` so.
pub async fn sync(api: &Api, count: usize) {
    let slots: Vec<Value> = (0..count).map(|slot| json!({"id": slot, "starts_at": LATER})).collect();
    let report = api.post("/v1/slots/sync", json!({"slots": slots})).await.expect(200);
    assert_eq!(report["added"], count);
}

/// Has orders accepted for a user.
pub async fn accept(api: &Api, user: &str, orders: &[&str]) {
    for order in orders {
        let body = json!({"order": order, "user": user, "storage_until": LATER});
        api.post("/v1/pickup/accept", body).await.expect(200);
    }
}

/// What is in a user's list of orders, as "order state", the newest first.
pub async fn orders(api: &Api, user: &str) -> Vec<String> {
    let page = api.get(&format!("/v1/pickup/orders?user={user}&limit=200")).await.expect(200);
    let line = |order: &Value| format!("{} {}", order["order"].as_str().unwrap(), order["state"].as_str().unwrap());
    page["items"].as_array().expect("a page has items").iter().map(line).collect()
}
