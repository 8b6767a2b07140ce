//! Ten thousand people want a hundred slots at the same moment.

use std::collections::BTreeMap;

use futures::StreamExt;
use serde_json::json;

use super::sync;
use crate::support::server::Onetake;
use crate::support::store::{StoreKind, TestStore};
use crate::support::world::World;

const SLOTS: usize = 100;
const CONTESTANTS: usize = 10_000;
/// Requests under way at once.
const AT_ONCE: usize = 100;
/// Each so many contestants, one has a key, and sends twice at once, to two servers where there are two.
const IMPATIENT: usize = 10;

mod on_sqlite {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_slot_has_one_winner_and_everybody_else_is_told() {
        super::contest(super::StoreKind::Sqlite, 1).await;
    }
}

mod on_postgres {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_slot_has_one_winner_and_everybody_else_is_told_by_two_servers() {
        super::contest(super::StoreKind::Postgres, 2).await;
    }
}

async fn contest(kind: StoreKind, servers: usize) {
    let world = World::new(kind).await;
    let servers: Vec<Onetake> = futures::future::join_all((0..servers).map(|_| world.server())).await;
    sync(&servers[0], SLOTS).await;

    let asks = (0..CONTESTANTS).map(|contestant| {
        let (first, second) = (&servers[contestant % servers.len()], &servers[(contestant + 1) % servers.len()]);
        async move {
            let body = json!({"slot": contestant % SLOTS, "user": format!("c{contestant}")});
            if contestant % IMPATIENT != 0 {
                let answer = first.post("/v1/slots/book", body).await;
                return (contestant, answer.status, answer.text);
            }
            let key = format!("k{contestant}");
            let (first, second) = (first.with("idempotency-key", &key), second.with("idempotency-key", &key));
            let (one, two) =
                tokio::join!(first.post("/v1/slots/book", body.clone()), second.post("/v1/slots/book", body));
            // One server says at once that it is working on the key; two wait for each other at its row.
            let in_flight = |answer: &crate::support::http::Answer| answer.text.contains("idempotency_key_in_flight");
            let (answer, other) = if in_flight(&one) { (two, one) } else { (one, two) };
            if !in_flight(&other) {
                assert_eq!(answer.status, other.status, "{} {}", answer.text, other.text);
                assert_eq!(answer.json()["booking"], other.json()["booking"]);
            }
            (contestant, answer.status, answer.text)
        }
    });
    let answers: Vec<_> = futures::stream::iter(asks).buffer_unordered(AT_ONCE).collect().await;

    let mut winners = BTreeMap::new();
    let mut losers = 0;
    for (contestant, status, text) in answers {
        match status {
            200 => assert!(
                winners.insert(contestant % SLOTS, contestant).is_none(),
                "two have slot {}",
                contestant % SLOTS
            ),
            409 if text.contains("\"code\":\"slot_taken\"") => losers += 1,
            _ => panic!("{status} {text}"),
        }
    }
    assert_eq!((winners.len(), losers), (SLOTS, CONTESTANTS - SLOTS));
    let owners = world.store.texts("select slot_id || ' ' || owner from bookings where state = 'booked'").await;
    assert_eq!(owners.len(), SLOTS);
    for (slot, winner) in winners {
        assert!(owners.contains(&format!("{slot} c{winner}")), "whoever was told so has slot {slot}");
    }
    assert_eq!(world.store.numbers("select count(*) from bookings").await, [SLOTS as i64]);
    assert_eq!(world.store.numbers("select count(*) from ownership_audit").await, [SLOTS as i64]);

    let mut lines: Vec<String> = servers.iter().flat_map(Onetake::log).collect();
    if let TestStore::Postgres(server) = &world.store {
        lines.extend(server.log());
    }
    assert!(lines.len() > 1, "there are logs to look at");
    for line in lines {
        let line = line.to_lowercase();
        assert!(!line.contains("duplicate key") && !line.contains("unique"), "{line}");
    }
}
