//! From the order to the video, and what is refused on the way.

use futures::future::join_all;
use serde_json::json;

use super::{PRICE, Shop, events, order, show, text, until_state, wish};
use crate::support::making::{until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    many_orders_of_one_name_are_paid_made_once_and_fulfilled,
    an_order_that_cannot_be_is_refused_and_nothing_changes,
    a_repeated_order_is_the_same_order,
    an_order_is_cancelled_by_its_owner_only,
    an_unpaid_order_expires_and_its_late_payment_goes_back,
    a_payment_that_was_begun_in_time_is_still_applied,
    a_video_that_cannot_be_made_gives_the_money_back,
    two_orders_of_one_user_are_each_delivered,
    the_request_of_a_paid_order_is_not_left,
);

async fn many_orders_of_one_name_are_paid_made_once_and_fulfilled(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let users: Vec<String> = (0..8).map(|n| format!("user-{n}")).collect();
    let orders = join_all(users.iter().map(|user| order(&server, " mila ", user))).await;
    assert_eq!((text(&orders[0], "state"), text(&orders[0], "name")), ("awaiting_payment", "Mila"));
    let pay = async |placed: &serde_json::Value| {
        let transaction = shop.provider.take(text(placed, "id"), PRICE);
        let form = shop.provider.form_of(transaction, text(placed, "user"));
        assert_eq!(shop.provider.tell(server.base_url(), "check", &form).await, (200, Some(0)));
        assert_eq!(text(&show(&server, placed).await, "state"), "awaiting_payment", "a check changes nothing");
        shop.tell_paid(&server, placed, transaction).await;
    };
    join_all(orders.iter().map(pay)).await;
    for placed in &orders {
        let done = until_state(&server, placed, "fulfilled").await;
        assert_eq!(events(&done), ["created", "paid", "fulfilled"]);
        let item = &until_delivered(&server, text(placed, "user"), 1).await[0];
        assert_eq!(item["id"], done["request"], "what was delivered is what was paid for");
    }
    assert_eq!(shop.making.runs(), ["Mila"], "one run for all of them");
    shop.money_adds_up().await;
}

async fn an_order_that_cannot_be_is_refused_and_nothing_changes(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let right = wish("Anna", "olga");
    for (field, value, code) in [
        ("amount", json!(0), "order_amount"),
        ("amount", json!(-1), "order_amount"),
        ("amount", json!(99), "order_amount"),
        ("amount", json!(i64::MAX), "order_amount"),
        ("amount", json!(1e30), "invalid_field"),
        ("amount", json!(10.5), "invalid_field"),
        ("amount", json!("100"), "invalid_field"),
        ("currency", json!("XXX"), "order_currency"),
        ("currency", json!("rub"), "order_currency"),
        ("name", json!(""), "invalid_field"),
        ("gender", json!("robot"), "invalid_field"),
        ("user", json!(""), "invalid_field"),
        ("price", json!(1), "invalid_field"),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        let answer = server.post("/v1/orders", wrong).await;
        assert_eq!((answer.status, &answer.json()["code"]), (422, &json!(code)), "{field}: {}", answer.text);
    }
    let russian = server.with("accept-language", "ru");
    let mut wrong = right.clone();
    wrong["amount"] = json!(1);
    let answer = russian.post("/v1/orders", wrong).await.json();
    assert_eq!(answer["detail"], "Заказ не может столько стоить.");
    assert_eq!(shop.store().numbers("select count(*) from orders").await, [0]);
}

async fn a_repeated_order_is_the_same_order(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let api = server.with("idempotency-key", "k1");
    let first = order(&api, "Anna", "olga").await;
    let again = join_all((0..5).map(|_| api.post("/v1/orders", wish("Anna", "olga")))).await;
    for answer in again {
        // The same key at the same moment may be told to wait.
        assert!(answer.status == 409 || answer.json() == first, "{}", answer.text);
    }
    assert_eq!(api.post("/v1/orders", wish("Anna", "olga")).await.expect(200), first);
    assert_eq!(api.post("/v1/orders", wish("Boris", "olga")).await.expect(422)["code"], "idempotency_key_reused");
    assert_eq!(shop.store().numbers("select count(*) from orders").await, [1]);
}

async fn an_order_is_cancelled_by_its_owner_only(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let path = format!("/v1/orders/{}/cancel", text(&placed, "id"));
    assert_eq!(server.post(&path, json!({"user": "ivan"})).await.expect(403)["code"], "order_foreign");
    let shown = show(&server, &placed).await;
    assert_eq!((text(&shown, "state"), events(&shown)), ("awaiting_payment", vec!["created", "cancel_refused"]));
    assert_eq!(text(&shown["history"][1], "actor"), "user:ivan", "who tried is on record");
    for _ in 0..2 {
        assert_eq!(server.post(&path, json!({"user": "olga"})).await.expect(200)["state"], "cancelled");
    }
    assert_eq!(events(&show(&server, &placed).await), ["created", "cancel_refused", "cancelled"]);
    for path in ["/v1/orders/0123/cancel", "/v1/orders/%00/cancel"] {
        assert_eq!(server.post(path, json!({})).await.expect(404)["code"], "order_unknown");
    }
    assert_eq!(server.get("/v1/orders/%00").await.expect(404)["code"], "order_unknown");

    let paid = order(&server, "Anna", "olga").await;
    shop.pay(&server, &paid).await;
    let path = format!("/v1/orders/{}/cancel", text(&paid, "id"));
    assert_eq!(server.post(&path, json!({"user": "olga"})).await.expect(409)["code"], "order_paid");
    let path = format!("/v1/orders/{}/refund", text(&placed, "id"));
    assert_eq!(server.post(&path, json!({"reason": "x"})).await.expect(409)["code"], "order_not_paid");
    assert_eq!(events(&show(&server, &placed).await).last(), Some(&"refund_refused"), "that it was tried is on record");
    // However often somebody tries, what happens afterwards is seen.
    let many = format!(
        "insert into order_events (order_id, at_ms, actor, event)
         select '{}', 1, 'user:ivan', 'cancel_refused' from (with recursive n(i) as (select 1 union all
         select i + 1 from n where i < 1100) select i from n) as many",
        text(&placed, "id")
    );
    shop.store().change(&many).await;
    let shown = show(&server, &placed).await;
    assert_eq!((events(&shown).len(), events(&shown).last()), (1_000, Some(&"refund_refused")));
}

async fn an_unpaid_order_expires_and_its_late_payment_goes_back(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    shop.world.setup = shop.world.setup.clone().env("ONETAKE_ORDERS__EXPIRE_AFTER", "1ms");
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let expired = until_state(&server, &placed, "expired").await;
    assert_eq!(events(&expired), ["created", "expired"]);
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let form = shop.provider.form_of(transaction, "olga");
    assert_eq!(shop.provider.tell(server.base_url(), "check", &form).await, (200, Some(20)));
    shop.tell_paid(&server, &placed, transaction).await;
    shop.until_quiet().await;
    let closed = show(&server, &placed).await;
    assert_eq!((text(&closed, "state"), text(&closed["payments"][0], "state")), ("expired", "returned"));
    assert_eq!(shop.provider.payment(transaction).returned, PRICE);
    assert_eq!(shop.making.runs().len(), 0, "no video for it");
    shop.money_adds_up().await;
}

async fn a_payment_that_was_begun_in_time_is_still_applied(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    let setup = shop.world.setup.clone().env("ONETAKE_ORDERS__EXPIRE_AFTER", "1ms");
    shop.world.setup = setup.env("ONETAKE_ORDERS__EXPIRE_GRACE", "1h");
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let form = shop.provider.form_of(transaction, "olga");
    assert_eq!(shop.provider.tell(server.base_url(), "check", &form).await, (200, Some(20)), "none begins any more");
    shop.tell_paid(&server, &placed, transaction).await;
    until_state(&server, &placed, "fulfilled").await;
    assert_eq!(shop.provider.payment(transaction).returned, 0);
}

async fn a_video_that_cannot_be_made_gives_the_money_back(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    let fails = shop.making.config("exit 1", "attempts = 2\nbackoff = { kind = \"fixed\", delay = \"10ms\" }");
    shop.world.setup = shop.world.setup.clone().config(&fails);
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.pay(&server, &placed).await;
    let refunded = until_state(&server, &placed, "refunded").await;
    assert_eq!(events(&refunded), ["created", "paid", "refund_began", "money_back", "refunded"]);
    assert_eq!(shop.provider.payment(transaction).returned, PRICE);
    until_settled(shop.store()).await;
    shop.money_adds_up().await;
}

async fn two_orders_of_one_user_are_each_delivered(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let orders = [order(&server, "Anna", "olga").await, order(&server, "Anna", "olga").await];
    for placed in &orders {
        shop.pay(&server, placed).await;
    }
    for placed in &orders {
        until_state(&server, placed, "fulfilled").await;
    }
    assert_eq!(until_delivered(&server, "olga", 2).await.len(), 2);
    assert_eq!(shop.making.runs(), ["Anna"]);
}

async fn the_request_of_a_paid_order_is_not_left(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    let gate = shop.making.file("gate");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo '{{\"made\":true}}'", gate.display());
    shop.world.setup = shop.world.setup.clone().config(&shop.making.config(&script, ""));
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    shop.pay(&server, &placed).await;
    let paid = until_state(&server, &placed, "paid").await;
    let refused = server.delete(&format!("/v1/requests/{}", text(&paid, "request"))).await;
    assert_eq!(refused.expect(409)["code"], "request_final");
    std::fs::write(&gate, "").expect("our folder can be written");
    until_state(&server, &placed, "fulfilled").await;
    until_delivered(&server, "olga", 1).await;
}
