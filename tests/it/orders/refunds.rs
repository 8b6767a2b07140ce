//! Money on its way back: what the provider's every kind of answer leads to, and what a person decides.

use serde_json::{Value, json};

use super::{PRICE, Shop, events, order, show, text, until_state};
use crate::support::cloudpayments::{Refund, form};
use crate::support::on_each_store;
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};

on_each_store!(
    a_refund_ends_well_however_its_first_answer_was_lost,
    a_refund_that_is_refused_leaves_the_order_paid,
    a_provider_that_cannot_be_reached_is_tried_three_times,
    one_that_nobody_can_tell_about_is_parked_and_resolved,
    a_refund_is_asked_for_once,
    a_rest_whose_end_is_unknown_is_parked,
);

/// An order that was paid and fulfilled, and its payment.
async fn fulfilled(shop: &Shop, server: &Onetake) -> (Value, u64) {
    let placed = order(server, "Anna", "olga").await;
    let transaction = shop.pay(server, &placed).await;
    (until_state(server, &placed, "fulfilled").await, transaction)
}

async fn refund(server: &Onetake, order: &Value) -> Value {
    let path = format!("/v1/orders/{}/refund", text(order, "id"));
    server.post(&path, json!({"reason": "does not like it"})).await.expect(200)
}

async fn a_refund_ends_well_however_its_first_answer_was_lost(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    for (first, calls) in [
        (Refund::Ok, 1),
        (Refund::ErrorAfter, 1),
        (Refund::HangAfter, 1),
        (Refund::ResetAfter, 1),
        (Refund::ErrorBefore, 2),
        (Refund::HangBefore, 2),
        (Refund::ResetBefore, 2),
    ] {
        let (done, transaction) = fulfilled(&shop, &server).await;
        let before = shop.provider.refund_calls().0;
        shop.provider.script([first]);
        refund(&server, &done).await;
        let refunded = until_state(&server, &done, "refunded").await;
        assert_eq!(shop.provider.refund_calls().0 - before, calls, "{first:?}");
        assert_eq!(shop.provider.payment(transaction).returned, PRICE, "{first:?}");
        assert_eq!(&events(&refunded)[3..], ["refund_began", "money_back", "refunded"], "{first:?}");
        assert_eq!(text(&refunded["history"][3], "reason"), "does not like it");
    }
    shop.money_adds_up().await;
}

async fn a_refund_that_is_refused_leaves_the_order_paid(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let (done, transaction) = fulfilled(&shop, &server).await;
    shop.provider.script([Refund::Refused]);
    refund(&server, &done).await;
    shop.until_quiet().await;
    let shown = show(&server, &done).await;
    assert_eq!((text(&shown, "state"), text(&shown["payments"][0], "state")), ("fulfilled", "applied"));
    assert_eq!(events(&shown).last(), Some(&"refund_failed"));
    assert_eq!(shop.provider.payment(transaction).returned, 0);
    // And it may be tried again.
    refund(&server, &done).await;
    until_state(&server, &done, "refunded").await;
    shop.money_adds_up().await;
}

async fn a_provider_that_cannot_be_reached_is_tried_three_times(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    let right = shop.world.setup.clone();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound");
    shop.world.setup = right.clone().env("ONETAKE_CLOUDPAYMENTS__BASE_URL", format!("http://{nobody}"));
    let server = shop.server().await;
    let (done, _) = fulfilled(&shop, &server).await;
    refund(&server, &done).await;
    shop.until_quiet().await;
    let saga = &server.get("/v1/sagas?name=order_refund").await.expect(200)["items"][0];
    assert_eq!((text(saga, "state"), &saga["calls"]), ("compensated", &json!(3)));
    assert_eq!(text(&show(&server, &done).await, "state"), "fulfilled");
    server.stop().await;
    shop.world.setup = right;
    let server = shop.server().await;
    refund(&server, &done).await;
    until_state(&server, &done, "refunded").await;
    shop.money_adds_up().await;
}

/// The provider says that a payment was given back, not how much of it: of a rest that is no answer.
async fn a_rest_whose_end_is_unknown_is_parked(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    shop.world.setup = shop.world.setup.clone().env("ONETAKE_SAGA__ASKS", "2");
    let server = shop.server().await;
    let (done, transaction) = fulfilled(&shop, &server).await;
    let part = shop.provider.give_back(transaction, 9_900);
    let told = form(&[
        ("TransactionId", &part.to_string()),
        ("PaymentTransactionId", &transaction.to_string()),
        ("Amount", "99.00"),
    ]);
    assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
    shop.provider.script([Refund::HangAfter]);
    refund(&server, &done).await;
    shop.until_quiet().await;
    let saga = &server.get("/v1/sagas?state=parked").await.expect(200)["items"][0];
    assert_eq!((&saga["input"]["amount"], &saga["calls"]), (&json!(10_000), &json!(1)));
    assert_eq!(shop.provider.payment(transaction).returned, PRICE, "the rest, not the whole again");
    let path = format!("/v1/sagas/{}/resolve", text(saga, "id"));
    server.post(&path, json!({"outcome": "done", "reason": "seen in the provider's pages"})).await.expect(200);
    let refunded = show(&server, &done).await;
    assert_eq!((text(&refunded, "state"), &refunded["payments"][0]["returned_amount"]), ("refunded", &json!(PRICE)));
}

async fn one_that_nobody_can_tell_about_is_parked_and_resolved(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    shop.world.setup = shop.world.setup.clone().env("ONETAKE_SAGA__ASKS", "2");
    let server = shop.server().await;
    shop.provider.be_silent(true);
    for (mode, outcome, state, payment) in
        [(Refund::HangAfter, "done", "refunded", "returned"), (Refund::HangBefore, "not_done", "fulfilled", "applied")]
    {
        let (done, _) = fulfilled(&shop, &server).await;
        shop.provider.script([mode]);
        refund(&server, &done).await;
        let parked = wait::until("a saga to be parked", PATIENCE, async || {
            let parked = server.get("/v1/sagas?state=parked").await.expect(200);
            Some(parked["items"][0].clone()).filter(|saga| !saga.is_null())
        })
        .await;
        assert_eq!((text(&parked, "subject"), &parked["calls"]), (text(&done, "id"), &json!(1)), "never repeated");
        let path = format!("/v1/sagas/{}", text(&parked, "id"));
        let resolve = format!("{path}/resolve");
        assert_eq!(server.post(&resolve, json!({"outcome": "maybe", "reason": "x"})).await.status, 422);
        assert_eq!(
            server.post(&resolve, json!({"outcome": "done", "reason": " "})).await.expect(422)["field"],
            "reason"
        );
        let decided = json!({"outcome": outcome, "reason": "seen in the provider's pages"});
        let api = server.with("idempotency-key", text(&parked, "id"));
        let answer = api.post(&resolve, decided.clone()).await.expect(200);
        assert_eq!(api.post(&resolve, decided.clone()).await.expect(200), answer, "the same again");
        assert_eq!(server.post(&resolve, decided).await.expect(409)["code"], "saga_not_parked");
        let shown = server.get(&path).await.expect(200);
        let history: Vec<_> = shown["history"].as_array().expect("it has one").iter().collect();
        let line = history.iter().find(|line| line["event"] == "resolved").expect("it is on record");
        assert_eq!((text(line, "actor"), text(line, "detail")), ("key:open", "seen in the provider's pages"));
        let shown = show(&server, &done).await;
        assert_eq!((text(&shown, "state"), text(&shown["payments"][0], "state")), (state, payment));
    }
    let unknown = server.post("/v1/sagas/0123/resolve", json!({"outcome": "done", "reason": "x"})).await;
    assert_eq!(unknown.expect(404)["code"], "saga_unknown");
}

async fn a_refund_is_asked_for_once(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let (done, transaction) = fulfilled(&shop, &server).await;
    shop.provider.script([Refund::HangBefore]);
    let path = format!("/v1/orders/{}/refund", text(&done, "id"));
    let asks = (0..8).map(|_| server.post(&path, json!({"reason": "x"})));
    let answers = futures::future::join_all(asks).await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    let told =
        answers.iter().filter(|answer| answer.status == 409 && answer.json()["code"] == "order_refunding").count();
    assert_eq!((taken, told), (1, 7));
    until_state(&server, &done, "refunded").await;
    assert_eq!(shop.provider.payment(transaction).refunds, 1);
    assert_eq!(shop.store().numbers("select count(*) from sagas").await, [1]);
}
