//! The crash matrix: the server dies between any two steps of a payment and of a refund, on both stores.
//!
//! In every cell money adds up afterwards, each refund was performed at most once, and whoever paid has the video or the
//! money.

use onetake::fault::ORDER_POINTS;
use reqwest::Method;
use serde_json::json;

use super::{PRICE, Shop, order, text, until_state};
use crate::support::cloudpayments::Refund;
use crate::support::making::until_settled;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;

macro_rules! cells {
    ($($name:ident $point:literal $cell:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$cell(super::StoreKind::Sqlite, $point).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$cell(super::StoreKind::Postgres, $point).await; })*
        }
        #[test]
        fn every_point_has_its_cells() {
            let points = [$($point),*];
            assert!(ORDER_POINTS.iter().all(|point| points.contains(point)));
        }
    };
}

cells!(
    a_kill_after_the_key_was_taken "once.taken" creating,
    a_kill_before_the_order_s_commit "once.stored" creating,
    a_kill_after_the_order_s_commit "once.committed" creating,
    a_kill_after_the_payment_s_commit "order.paid" paying,
    a_kill_when_the_video_is_made "run.completed" paying,
    a_kill_when_the_video_is_sent "deliver.sent" paying,
    a_kill_when_the_delivery_is_marked "deliver.marked" paying,
    a_kill_before_the_refund_is_called "saga.leased" refunding,
    a_kill_after_the_refund_is_called "saga.called" refunding,
    a_kill_when_the_refund_is_settled "saga.settled" refunding,
);

/// An order is placed and its server dies; the asker asks again under the same key.
async fn creating(kind: StoreKind, point: &str) {
    let shop = Shop::new(kind).await;
    let doomed = Onetake::start(&shop.world.setup.clone().fault(point)).await;
    let api = doomed.with("idempotency-key", "k1");
    let _ = api.request(Method::POST, "/v1/orders", Some(super::wish("Anna", "olga"))).await;
    doomed.wait_exit().await;
    let server = shop.server().await;
    let placed = order(&server.with("idempotency-key", "k1"), "Anna", "olga").await;
    assert_eq!(shop.store().numbers("select count(*) from orders").await, [1], "one order, whenever it died");
    shop.pay(&server, &placed).await;
    until_state(&server, &placed, "fulfilled").await;
}

/// A payment is told, and the server dies on the way to the video; the provider tells again.
async fn paying(kind: StoreKind, point: &str) {
    let shop = Shop::new(kind).await;
    let doomed = Onetake::start(&shop.world.setup.clone().fault(point)).await;
    let placed = order(&doomed, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let told = shop.provider.form_of(transaction, "olga");
    let _ = shop.provider.try_tell(doomed.base_url(), "pay", &told).await;
    doomed.wait_exit().await;
    let server = shop.server().await;
    shop.tell_paid(&server, &placed, transaction).await;
    until_state(&server, &placed, "fulfilled").await;
    until_settled(shop.store()).await;
    assert_eq!(shop.store().numbers("select count(*) from mailbox").await, [1], "given once");
    assert!(shop.making.runs().len() <= 1, "made once: {:?}", shop.making.runs());
    shop.until_quiet().await;
    shop.money_adds_up().await;
}

/// Money is to go back, and the server dies at a step of that, whatever the provider did with the call.
async fn refunding(kind: StoreKind, point: &str) {
    for mode in [Refund::Ok, Refund::ErrorAfter, Refund::ErrorBefore, Refund::Refused] {
        let shop = Shop::new(kind).await;
        let server = shop.server().await;
        let placed = order(&server, "Anna", "olga").await;
        let transaction = shop.pay(&server, &placed).await;
        until_state(&server, &placed, "fulfilled").await;
        server.stop().await;
        shop.provider.script([mode]);
        let doomed = Onetake::start(&shop.world.setup.clone().fault(point)).await;
        let path = format!("/v1/orders/{}/refund", text(&placed, "id"));
        let asked = doomed.request(Method::POST, &path, Some(json!({"reason": "x"}))).await;
        doomed.wait_exit().await;
        let server = shop.server().await;
        if asked.is_err() {
            // No answer came: whether it was taken shows when it is asked again.
            let again = server.post(&path, json!({"reason": "x"})).await;
            assert!(matches!(again.status, 200 | 409), "{again:?}");
        }
        shop.until_quiet().await;
        let (calls, repeated) = shop.provider.refund_calls();
        assert!(calls >= 1 && repeated == 0, "{mode:?}: {calls} calls, {repeated} of what had been done");
        let paid = shop.provider.payment(transaction);
        assert!(paid.refunds <= 1, "{mode:?}: {paid:?}");
        let state = if paid.returned == PRICE { "refunded" } else { "fulfilled" };
        until_state(&server, &placed, state).await;
        assert_eq!(shop.store().numbers("select count(*) from sagas where state = 'parked'").await, [0]);
        shop.money_adds_up().await;
    }
}
