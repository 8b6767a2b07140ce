//! Two servers whose clocks differ.

use std::collections::BTreeSet;

use serde_json::json;

use crate::loss::{Gate, all_served, ask_many};
use crate::support::making::{Making, ask, until_delivered};
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

const AHEAD_MS: &str = "90000";

mod on_postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_clock_that_is_ahead_takes_no_live_lease() {
        super::no_early_takeover().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_clock_that_is_ahead_holds_nothing_up() {
        super::nothing_stuck().await;
    }
}

async fn two_servers(world: &World) -> (Onetake, Onetake) {
    let ahead = world.setup.clone().env("ONETAKE_CLOCK_SKEW_MS", AHEAD_MS);
    tokio::join!(world.server(), Onetake::start(&ahead))
}

async fn no_early_takeover() {
    let gate = Gate::new();
    let mut world = World::new(StoreKind::Postgres).await;
    world.setup = world.setup.config(&gate.config("attempts = 1"));
    let (right, ahead) = two_servers(&world).await;

    // Eight places at each server: with more runs than that, both of them have some.
    let requests = ask_many(&right, "right", 6, 2).await + ask_many(&ahead, "ahead", 6, 2).await;
    assert_eq!(requests, 24);
    let holders: BTreeSet<i32> = gate.until_begun(12).await.into_iter().collect();
    assert_eq!(holders.len(), 2, "both make runs");
    let kept = "select count(*) from flights where state = 'running' and lease_until_ms > started_at_ms + 6000";
    wait::until_true("all leases to be renewed", PATIENCE, async || world.store.numbers(kept).await == [12]).await;
    gate.open();
    all_served(&world, gate.making(), requests, 12).await;
    assert_eq!(gate.making().runs().len(), 12);
}

async fn nothing_stuck() {
    let making = Making::new();
    let mut world = World::new(StoreKind::Postgres).await;
    // The first attempt of each fails: the second waits for its time, which the two servers tell differently.
    let then = r#"case "$job" in *'"attempt":1,'*) exit 1;; esac; echo '{"made":true}'"#;
    let more = "attempts = 3\nbackoff = { kind = \"fixed\", delay = \"300ms\" }";
    world.setup = world.setup.config(&making.config(then, more));
    let (right, mut ahead) = two_servers(&world).await;
    let requests = ask_many(&right, "right", 6, 2).await + ask_many(&ahead, "ahead", 6, 2).await;
    all_served(&world, &making, requests, 12).await;

    // What the wrong clock has put off until later is not late when its server is gone.
    let last = ask(&ahead, "Vera", "vera").await;
    ahead.kill();
    until_delivered(&right, "vera", 1).await;
    let view = right.get(last["links"]["self"].as_str().unwrap()).await.expect(200);
    assert_eq!((&view["state"], &view["result"]), (&json!("ready"), &json!({"made": true})));
}
