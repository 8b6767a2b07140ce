//! At the same moment: equal notices, payments and the clean-up, two servers with one set of sagas.

use futures::future::join_all;
use serde_json::json;

use super::{PRICE, Shop, order, show, text, until_state};
use crate::support::cloudpayments::{Refund, form};
use crate::support::making::until_settled;
use crate::support::on_each_store;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};

on_each_store!(
    a_hundred_equal_pays_are_one_payment,
    a_payment_beside_the_clean_up_is_applied_or_given_back,
    a_refund_told_and_a_refund_called_at_once_are_one,
);

async fn a_hundred_equal_pays_are_one_payment(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    let placed = order(&server, "Anna", "olga").await;
    let transaction = shop.provider.take(text(&placed, "id"), PRICE);
    let told = shop.provider.form_of(transaction, "olga");
    let answers = join_all((0..100).map(|_| shop.provider.tell(server.base_url(), "pay", &told))).await;
    assert!(answers.iter().all(|answer| *answer == (200, Some(0))), "{answers:?}");
    until_state(&server, &placed, "fulfilled").await;
    assert_eq!(shop.store().numbers("select count(*) from order_payments").await, [1]);
    assert_eq!(shop.store().numbers("select count(*) from order_events where event = 'paid'").await, [1]);
    assert_eq!(shop.making.runs(), ["Anna"]);
    shop.money_adds_up().await;
}

async fn a_payment_beside_the_clean_up_is_applied_or_given_back(kind: StoreKind) {
    let mut shop = Shop::new(kind).await;
    shop.world.setup = shop
        .world
        .setup
        .clone()
        .env("ONETAKE_ORDERS__EXPIRE_AFTER", "150ms")
        .env("ONETAKE_ORDERS__EXPIRE_EVERY", "5ms");
    let server = shop.server().await;
    let race = async |n: usize| {
        let placed = order(&server, &format!("Name {}", n % 3), &format!("user-{n}")).await;
        // The payments arrive spread over the moments around the end of the orders.
        tokio::time::sleep(std::time::Duration::from_millis(100 + 2 * n as u64)).await;
        let transaction = shop.pay(&server, &placed).await;
        (placed, transaction)
    };
    let raced = join_all((0..50).map(race)).await;
    shop.until_quiet().await;
    until_settled(shop.store()).await;
    let mut counts = [0, 0];
    for (placed, transaction) in raced {
        let shown = show(&server, &placed).await;
        match text(&shown, "state") {
            "fulfilled" => {
                counts[0] += 1;
                assert_eq!(shop.provider.payment(transaction).returned, 0);
            }
            "expired" => {
                counts[1] += 1;
                assert_eq!(shop.provider.payment(transaction).returned, PRICE);
            }
            other => panic!("{other}: {shown}"),
        }
    }
    assert_eq!(counts[0] + counts[1], 50, "{counts:?}");
    shop.money_adds_up().await;
}

async fn a_refund_told_and_a_refund_called_at_once_are_one(kind: StoreKind) {
    let shop = Shop::new(kind).await;
    let server = shop.server().await;
    for round in 0..10 {
        let placed = order(&server, "Anna", &format!("user-{round}")).await;
        let transaction = shop.pay(&server, &placed).await;
        until_state(&server, &placed, "fulfilled").await;
        // Performed, and told by itself, while the answer to the call is lost.
        shop.provider.script([if round % 2 == 0 { Refund::HangAfter } else { Refund::Ok }]);
        let told = form(&[
            ("TransactionId", &format!("70{round}")),
            ("PaymentTransactionId", &transaction.to_string()),
            ("Amount", "199.00"),
            ("InvoiceId", text(&placed, "id")),
        ]);
        server.post(&format!("/v1/orders/{}/refund", text(&placed, "id")), json!({"reason": "x"})).await.expect(200);
        assert_eq!(shop.provider.tell(server.base_url(), "refund", &told).await, (200, Some(0)));
        let shown = until_state(&server, &placed, "refunded").await;
        assert_eq!(shown["payments"][0]["returned_amount"], PRICE);
    }
    shop.until_quiet().await;
    let twice = "select count(*) from (select order_id from order_events where event = 'refunded'
        group by order_id having count(*) > 1) t";
    assert_eq!(shop.store().numbers(twice).await, [0]);
}

mod servers {
    mod on_postgres {
        use crate::orders::races::*;

        /// Both servers step the same sagas; the provider is slow and forgetful.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn two_servers_give_each_payment_back_once() {
            let shop = Shop::new(StoreKind::Postgres).await;
            let (one, two) = (shop.server().await, shop.server().await);
            let modes = [Refund::Ok, Refund::ErrorAfter, Refund::ResetAfter, Refund::ErrorBefore, Refund::HangAfter];
            shop.provider.script((0..40).map(|n| modes[n % modes.len()]));
            let pay_twice = async |n: usize| {
                let (server, other) = if n.is_multiple_of(2) { (&one, &two) } else { (&two, &one) };
                let placed = order(server, "Anna", &format!("user-{n}")).await;
                let (first, second) = (shop.pay(server, &placed).await, shop.pay(other, &placed).await);
                (placed, first, second)
            };
            let paid = join_all((0..40).map(pay_twice)).await;
            shop.until_quiet().await;
            for (placed, first, second) in paid {
                until_state(&one, &placed, "fulfilled").await;
                let payments = [shop.provider.payment(first), shop.provider.payment(second)];
                let returned: Vec<_> = payments.iter().map(|paid| paid.returned).collect();
                assert_eq!(returned, [0, PRICE]);
                assert_eq!(payments[1].refunds, 1);
            }
            assert_eq!(shop.making.runs(), ["Anna"], "one video for all forty");
            shop.money_adds_up().await;
        }

        /// A server hangs with a call in hand for longer than its lease; another one finishes the work meanwhile.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_server_that_was_paused_over_its_lease_changes_nothing_more() {
            let shop = Shop::new(StoreKind::Postgres).await;
            let paused = shop.server().await;
            let placed = order(&paused, "Anna", "olga").await;
            let transaction = shop.pay(&paused, &placed).await;
            until_state(&paused, &placed, "fulfilled").await;
            shop.provider.script([Refund::HangAfter]);
            let path = format!("/v1/orders/{}/refund", text(&placed, "id"));
            paused.post(&path, json!({"reason": "x"})).await.expect(200);
            wait::until_true("the refund to be called", PATIENCE, async || shop.provider.refund_calls().0 == 1).await;
            paused.freeze();
            let other = shop.server().await;
            let refunded = until_state(&other, &placed, "refunded").await;
            paused.thaw();
            assert_eq!(until_state(&paused, &placed, "refunded").await["history"], refunded["history"]);
            assert_eq!(shop.provider.payment(transaction).refunds, 1);
            assert_eq!(shop.provider.refund_calls(), (1, 0));
            shop.money_adds_up().await;
        }
    }
}
