//! Bots that leave their orders in the queue, with real `bullmq` of both releases.

mod node {
    use serde_json::{Value, json};

    use crate::orders::{PRICE, Shop, text, until_state};
    use crate::support::node::{BullMq, Producer};
    use crate::support::store::StoreKind;

    async fn bot(version: BullMq) {
        let shop = Shop::new(StoreKind::Sqlite).await;
        let server = shop.server().await;
        let mut bot = Producer::start(&shop.world.peer(version, "orders")).await;
        let wish = |key: &str, amount: Value| json!({"user": 42, "chat": "-100", "name": "mila", "amount": amount, "currency": "RUB", "idempotencyKey": key});
        let create = |data: Value| json!({"name": "create", "data": data});
        bot.give(&[
            create(wish("k1", json!(PRICE))),
            create(wish("k1", json!(PRICE))),
            create(wish("k2", json!(-5))),
            create(wish("k3", json!("1"))),
            json!({"name": "pay", "data": {}}),
        ]);
        let ended = bot.ended().await;
        let value = |n: usize| ended[n].value.clone().expect("it completed");
        let placed = value(0);
        assert_eq!(
            (&placed["ok"], text(&placed, "state"), text(&placed, "user")),
            (&json!(true), "awaiting_payment", "42")
        );
        assert_eq!(value(1), placed, "one order under one key");
        let refused = value(2);
        assert_eq!((&refused["ok"], text(&refused, "code")), (&json!(false), "order_amount"));
        assert_eq!(refused["message"]["ru"], "Заказ не может столько стоить.");
        assert!(ended[3].error.as_ref().is_some_and(|error| error.contains("amount")), "{:?}", ended[3]);
        assert!(!ended[4].ok, "no verb of this queue");
        assert_eq!(shop.store().numbers("select count(*) from orders").await, [1]);

        let cancel = |user: &str| json!({"name": "cancel", "data": {"order": placed["id"], "user": user}});
        bot.give(&[cancel("ivan")]);
        assert_eq!(bot.ended().await[5].value.as_ref().expect("it completed")["code"], "order_foreign");
        shop.pay(&server, &placed).await;
        let done = until_state(&server, &placed, "fulfilled").await;
        assert_eq!(text(&done, "chat"), "-100");
        bot.give(&[cancel("42")]);
        assert_eq!(bot.ended().await[6].value.as_ref().expect("it completed")["code"], "order_paid");
        shop.money_adds_up().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bot_of_bullmq_5_orders_and_cancels() {
        bot(BullMq::V5).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bot_of_bullmq_6_orders_and_cancels() {
        bot(BullMq::V6).await;
    }
}
