//! What the runner does with plain jobs beyond taking and ending them: bounds, steps, cancellation, turning it while it
//! runs. With Node peers where BullMQ shows it or has a part in it.

use serde_json::{Value, json};

use crate::support::http::Api;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

mod again;
mod bounds;
mod branch;
mod cancel;
mod limits;
mod steps;
mod trace;
mod turned;

/// A world with these queues. Plain jobs touch no store: one is enough.
async fn world(queues: &str) -> World {
    let mut world = World::new(StoreKind::Sqlite).await;
    world.setup = world.setup.config(queues);
    world
}

async fn start(queues: &str) -> (World, Onetake) {
    let world = world(queues).await;
    let server = world.server().await;
    (world, server)
}

/// A queue of jobs that a shell works on.
fn shell(queue: &str, script: &str) -> String {
    format!(
        "[queues.{queue}]\nprocessor = {{ kind = \"command\", program = \"sh\", args = [\"-c\", '''{script}'''] }}\n"
    )
}

/// Adds a job; its path.
async fn add(api: &Api, queue: &str, job: Value) -> String {
    let added = api.post(&format!("/v1/queues/{queue}/jobs"), job).await.expect(201);
    format!("/v1/queues/{queue}/jobs/{}", added["job"]["id"].as_str().expect("an id"))
}

async fn until_state(api: &Api, path: &str, state: &str) -> Value {
    wait::until(&format!("{path} to be {state}"), PATIENCE, async || {
        Some(api.get(path).await.expect(200)).filter(|job| job["state"] == state)
    })
    .await
}

async fn counts(api: &Api, queue: &str) -> Value {
    api.get(&format!("/v1/queues/{queue}")).await.expect(200)["counts"].clone()
}
