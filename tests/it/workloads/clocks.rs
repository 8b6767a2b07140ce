//! Servers whose clocks are wrong: the database's decides what is past, too late and too early.

use serde_json::json;

use super::{accept, sync};

mod on_postgres {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::support::server::Onetake;
    use crate::support::store::StoreKind;
    use crate::support::world::World;

    const DAY_MS: i64 = 86_400_000;

    #[tokio::test]
    async fn the_database_s_clock_decides() {
        let world = World::new(StoreKind::Postgres).await;
        let ahead = world.setup.clone().env("ONETAKE_CLOCK_SKEW_MS", (60 * DAY_MS).to_string());
        let behind = world.setup.clone().env("ONETAKE_CLOCK_SKEW_MS", (-60 * DAY_MS).to_string());
        let (ahead, behind) = tokio::join!(Onetake::start(&ahead), Onetake::start(&behind));
        let in_an_hour = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
        let an_hour_ago = (Timestamp::now() - SignedDuration::from_hours(1)).to_string();

        sync(&behind, 1).await;
        let list =
            json!({"slots": [{"id": "soon", "starts_at": in_an_hour}, {"id": "over", "starts_at": an_hour_ago}]});
        let report = behind.post("/v1/slots/sync", list).await.expect(200);
        assert_eq!(report["kept"][0]["reason"], "past", "{report}");
        ahead.post("/v1/slots/book", json!({"slot": "soon", "user": "olga"})).await.expect(200);
        world.store.change("update slots set starts_at_ms = starts_at_ms - 7200000").await;
        let late = behind.post("/v1/slots/cancel", json!({"slot": "soon", "user": "olga"})).await;
        assert_eq!(late.expect(409)["code"], "slot_past");

        let order = |order: &str, until: &str| json!({"order": order, "user": "olga", "storage_until": until});
        let refused = behind.post("/v1/pickup/accept", order("1", &an_hour_ago)).await;
        assert_eq!(refused.expect(422)["code"], "storage_deadline_past");
        ahead.post("/v1/pickup/accept", order("1", &in_an_hour)).await.expect(200);
        accept(&behind, "olga", &["2"]).await;
        let both = json!({"user": "olga", "orders": ["1", "2"]});
        let issued = ahead.post("/v1/pickup/issue", both).await.expect(200);
        assert_eq!((&issued["orders"][0]["ok"], &issued["orders"][1]["ok"]), (&json!(true), &json!(true)));
        world.store.change("update pickup_orders set issued_at_ms = issued_at_ms - 49 * 3600000 where id = '1'").await;
        let one = |order: &str| json!({"user": "olga", "orders": [order]});
        let late = behind.post("/v1/pickup/take-back", one("1")).await.expect(200);
        assert_eq!(late["orders"][0]["code"], "return_too_late");
        let back = ahead.post("/v1/pickup/take-back", one("2")).await.expect(200);
        assert_eq!(back["orders"][0]["state"], "returned");
        let early = ahead.post("/v1/pickup/return-to-courier", json!({"order": "2"})).await;
        assert_eq!(early.expect(409)["code"], "courier_too_early");
    }
}
