//! What the provider says, once, twice, in odd orders, forged.

use serde_json::json;

use super::{PRICE, Shop, events, order, show, text, until_state};
use crate::support::cloudpayments::{form, sign, with};
use crate::support::on_each_store;
use crate::support::store::StoreKind;

on_each_store!(
    what_is_not_signed_changes_nothing,
    both_forms_of_the_signature_and_of_the_body_are_understood,
    a_check_answers_with_the_documented_codes,
    a_payment_that_its_order_cannot_use_goes_back,
    the_same_again_is_answered_the_same_again,
    a_payment_of_no_order_waits_for_a_person,
    what_is_no_payment_of_real_money_is_refused,
    a_refund_that_comes_before_its_payment_is_remembered,
    a_refund_in_the_provider_s_pages_is_heard,
    a_fail_changes_nothing_and_the_payer_tries_again,
);

async fn what_is_not_signed_changes_nothing(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let body = format!("TransactionId={transaction}&Amount=199.00&Currency=RUB&InvoiceId={}", text(&placed, "id"));
    let right = sign(body.as_bytes());
    let tampered = body.replace("199.00", "1.00");
    let form_type = "application/x-www-form-urlencoded";
    for (headers, body) in [
        (vec![], &body),
        (vec![("content-hmac", "AAAA")], &body),
        (vec![("content-hmac", right.as_str())], &tampered),
        (vec![("x-content-hmac", right.as_str())], &tampered),
        (vec![("content-hmac", "AAAA"), ("x-content-hmac", right.as_str())], &body),
    ] {
        for kind in ["check", "pay", "fail", "refund"] {
            let told = shop.provider.send(server.base_url(), kind, form_type, &headers, body.clone()).await;
            assert_eq!(told.expect("it answers").0, 401, "{kind} {headers:?}");
        }
    }
    let shown = show(&server, &placed).await;
    assert_eq!((text(&shown, "state"), events(&shown)), ("awaiting_payment", vec!["created"]));
    assert_eq!(shop.store().numbers("select count(*) from order_notices").await, [0]);
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains(r#"onetake_order_notices_total{kind="pay",outcome="unsigned"} 5"#), "it is counted");
    // Signed, but not to be read: refused with the field, and nothing is written.
    for (body, field) in [
        ("Amount=1", "TransactionId"),
        ("TransactionId=1&Amount=1.001", "Amount"),
        ("TransactionId=1&InvoiceId=%00", "InvoiceId"),
    ] {
        let signature = sign(body.as_bytes());
        let headers = [("content-hmac", signature.as_str())];
        let told = shop.provider.send(server.base_url(), "pay", form_type, &headers, body.into()).await;
        assert_eq!(told.expect("it answers").0, 422, "{field}");
    }
    assert_eq!(shop.store().numbers("select count(*) from order_notices").await, [0]);
}

async fn both_forms_of_the_signature_and_of_the_body_are_understood(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let id = text(&placed, "id");
    let form = format!("TransactionId=7&Amount=199.00&Currency=RUB&InvoiceId={id}&Name=%D0%AF+%26");
    let undone = format!("TransactionId=7&Amount=199.00&Currency=RUB&InvoiceId={id}&Name=Я &");
    let json = format!(r#"{{"TransactionId":7,"Amount":199.00,"Currency":"RUB","InvoiceId":"{id}","Name":"a+b%"}}"#);
    let (form_type, json_type) = ("application/x-www-form-urlencoded", "application/json; charset=utf-8");
    for (header, content_type, body, signed) in [
        ("content-hmac", form_type, &form, &form),
        ("x-content-hmac", form_type, &form, &undone),
        ("content-hmac", json_type, &json, &json),
        ("x-content-hmac", json_type, &json, &json),
    ] {
        let signature = sign(signed.as_bytes());
        let headers = [(header, signature.as_str())];
        let told = shop.provider.send(server.base_url(), "check", content_type, &headers, body.clone()).await;
        assert_eq!(told.expect("it answers"), (200, Some(0)), "{header} {content_type}");
    }
}

async fn a_check_answers_with_the_documented_codes(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let right = shop.provider.form_of(transaction, "olga");
    let check = async |form: &[(String, String)]| shop.provider.tell(server.base_url(), "check", form).await.1;
    for (field, value, code) in [
        ("InvoiceId", "nobody", 10),
        ("InvoiceId", "", 10),
        ("AccountId", "ivan", 11),
        ("Amount", "199.01", 12),
        ("Amount", "1990.00", 12),
        ("Currency", "USD", 12),
        ("TestMode", "1", 13),
        ("AccountId", "olga", 0),
        ("AccountId", "", 0),
        ("Amount", "199.00000", 0),
    ] {
        assert_eq!(check(&with(&right, field, value)).await, Some(code), "{field} = {value}");
    }
    shop.tell_paid(&server, &placed, transaction).await;
    assert_eq!(check(&right).await, Some(0), "the same question about a payment that came in meanwhile");
    let other = shop.provider.form_of(shop.provider.take(text(&placed, "id"), PRICE), "olga");
    assert_eq!(check(&other).await, Some(13), "it is paid");
}

async fn a_payment_that_its_order_cannot_use_goes_back(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    for (field, value) in [("Amount", "199.01"), ("Amount", "0.01"), ("Currency", "USD"), ("AccountId", "ivan")] {
        let placed = order(&server, "Anna", "olga").await;
        let amount = if field == "Amount" { (value.replace('.', "")).parse().expect("digits") } else { PRICE };
        let transaction = shop.provider.take(text(&placed, "id"), amount);
        let told = with(&shop.provider.form_of(transaction, "olga"), field, value);
        assert_eq!(shop.provider.tell(server.base_url(), "pay", &told).await, (200, Some(0)), "{field} = {value}");
        shop.until_quiet().await;
        let shown = show(&server, &placed).await;
        assert_eq!(text(&shown, "state"), "awaiting_payment", "{field} = {value}");
        assert_eq!(shop.provider.payment(transaction).returned, amount);
        // The order can still be paid as it should be.
        shop.pay(&server, &placed).await;
        until_state(&server, &placed, "fulfilled").await;
    }
    // A second payment of a paid order.
    let placed = order(&server, "Anna", "olga").await;
    let (first, second) = (shop.pay(&server, &placed).await, shop.pay(&server, &placed).await);
    shop.until_quiet().await;
    until_state(&server, &placed, "fulfilled").await;
    assert_eq!((shop.provider.payment(first).returned, shop.provider.payment(second).returned), (0, PRICE));
    // One of a cancelled order.
    let placed = order(&server, "Anna", "olga").await;
    server.post(&format!("/v1/orders/{}/cancel", text(&placed, "id")), json!({"user": "olga"})).await.expect(200);
    let late = shop.pay(&server, &placed).await;
    shop.until_quiet().await;
    assert_eq!(
        (shop.provider.payment(late).returned, text(&show(&server, &placed).await, "state")),
        (PRICE, "cancelled")
    );
    shop.money_adds_up().await;
}

async fn the_same_again_is_answered_the_same_again(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let pay = shop.provider.form_of(transaction, "olga");
    let unknown = with(&with(&pay, "InvoiceId", "nobody"), "TransactionId", "77");
    let fail = with(&pay, "TransactionId", "78");
    for _ in 0..3 {
        let tell = async |kind, form| shop.provider.tell(server.base_url(), kind, form).await;
        assert_eq!(tell("fail", &fail).await, (200, Some(0)));
        assert_eq!(tell("pay", &pay).await, (200, Some(0)));
        assert_eq!(tell("pay", &unknown).await, (200, Some(10)));
    }
    let done = until_state(&server, &placed, "fulfilled").await;
    assert_eq!(events(&done), ["created", "payment_failed", "paid", "fulfilled"]);
    // A refund that an operator asked for, told three times.
    let path = format!("/v1/orders/{}/refund", text(&placed, "id"));
    server.post(&path, json!({"reason": "does not like it"})).await.expect(200);
    let refunded = until_state(&server, &placed, "refunded").await;
    assert_eq!(refunded["payments"][0]["returned_amount"], PRICE);
    let told = form(&[
        ("TransactionId", "900001"),
        ("PaymentTransactionId", &transaction.to_string()),
        ("Amount", "199.00"),
        ("InvoiceId", text(&placed, "id")),
    ]);
    for _ in 0..3 {
        assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
    }
    assert_eq!(show(&server, &placed).await["payments"][0]["returned_amount"], PRICE);
    shop.money_adds_up().await;
}

async fn a_payment_of_no_order_waits_for_a_person(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let transaction = shop.provider.take("somebody-else-s", PRICE);
    let form = shop.provider.form_of(transaction, "olga");
    assert_eq!(shop.provider.tell(server.base_url(), "pay", &form).await, (200, Some(10)));
    let waiting = server.get("/v1/payments?state=unknown").await.expect(200);
    assert_eq!(waiting["items"][0]["transaction"], transaction.to_string());
    assert_eq!(waiting["items"][0]["invoice"], "somebody-else-s");
    assert_eq!(shop.provider.refund_calls(), (0, 0), "the account may serve other shops");
    // A person gives it back in the provider's pages.
    let refund = shop.provider.give_back(transaction, PRICE);
    let told = self::form(&[
        ("TransactionId", &refund.to_string()),
        ("PaymentTransactionId", &transaction.to_string()),
        ("Amount", "199.00"),
    ]);
    assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
    assert_eq!(server.get("/v1/payments?state=unknown").await.expect(200)["items"], json!([]));
    assert_eq!(server.get("/v1/payments").await.expect(200)["items"][0]["state"], "returned");
}

async fn what_is_no_payment_of_real_money_is_refused(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let right = shop.provider.form_of(shop.provider.take(text(&placed, "id"), PRICE), "olga");
    for (transaction, field, value) in [("1", "TestMode", "1"), ("2", "Status", "Authorized")] {
        let told = with(&with(&right, "TransactionId", transaction), field, value);
        assert_eq!(shop.provider.tell(server.base_url(), "pay", &told).await, (200, Some(13)), "{field} = {value}");
    }
    assert_eq!(text(&show(&server, &placed).await, "state"), "awaiting_payment");
    assert_eq!(shop.store().numbers("select count(*) from order_payments").await, [0]);
}

async fn a_refund_that_comes_before_its_payment_is_remembered(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let refund = shop.provider.give_back(transaction, PRICE);
    let told = form(&[
        ("TransactionId", &refund.to_string()),
        ("PaymentTransactionId", &transaction.to_string()),
        ("Amount", "199.00"),
        ("InvoiceId", text(&placed, "id")),
    ]);
    assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
    shop.tell_paid(&server, &placed, transaction).await;
    let shown = show(&server, &placed).await;
    assert_eq!((text(&shown, "state"), text(&shown["payments"][0], "state")), ("awaiting_payment", "returned"));
    assert_eq!(shop.making.runs().len(), 0);
    shop.pay(&server, &placed).await;
    until_state(&server, &placed, "fulfilled").await;
    shop.money_adds_up().await;
}

async fn a_refund_in_the_provider_s_pages_is_heard(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.pay(&server, &placed).await;
    until_state(&server, &placed, "fulfilled").await;
    for (amount, state) in [(9_900, "fulfilled"), (10_000, "refunded")] {
        let refund = shop.provider.give_back(transaction, amount);
        let told = form(&[
            ("TransactionId", &refund.to_string()),
            ("PaymentTransactionId", &transaction.to_string()),
            ("Amount", &format!("{}.00", amount / 100)),
        ]);
        assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
        assert_eq!(text(&show(&server, &placed).await, "state"), state);
    }
    let path = format!("/v1/orders/{}/refund", text(&placed, "id"));
    assert_eq!(server.post(&path, json!({"reason": "x"})).await.expect(409)["code"], "order_not_paid");
}

async fn a_fail_changes_nothing_and_the_payer_tries_again(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let told = form(&[("TransactionId", "5"), ("InvoiceId", text(&placed, "id")), ("Reason", "InsufficientFunds")]);
    assert_eq!(shop.provider.tell(server.base_url(), "fail", &told).await, (200, Some(0)));
    let shown = show(&server, &placed).await;
    assert_eq!(
        (text(&shown, "state"), &shown["history"][1]["reason"]),
        ("awaiting_payment", &json!("InsufficientFunds"))
    );
    shop.pay(&server, &placed).await;
    until_state(&server, &placed, "fulfilled").await;
}
