//! Orders: money that was taken is applied to an order, returned, or in plain sight; a video is made once for many of them.

mod crash;
mod lifecycle;
mod node_bots;
mod notices;
mod races;
mod refunds;

use serde_json::{Value, json};

use crate::support::cloudpayments::FakeCloudPayments;
use crate::support::http::Api;
use crate::support::making::Making;
use crate::support::server::Onetake;
use crate::support::store::{StoreKind, TestStore};
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

pub const PRICE: i64 = 19_900;

/// A shop: servers of one world, and the provider that takes its money.
pub struct Shop {
    pub world: World,
    pub provider: FakeCloudPayments,
    pub making: Making,
}

impl Shop {
    pub async fn new(kind: StoreKind) -> Self {
        let making = Making::new();
        let provider = FakeCloudPayments::start().await;
        let mut world = World::new(kind).await.making(&making);
        world.setup = provider.setup(world.setup);
        Self { world, provider, making }
    }

    pub async fn server(&self) -> Onetake {
        self.world.server().await
    }

    pub fn store(&self) -> &TestStore {
        &self.world.store
    }

    /// A payment that somebody makes, and the server is told of.
    pub async fn pay(&self, server: &Onetake, order: &Value) -> u64 {
        let transaction = self.provider.take(text(order, "id"), PRICE);
        self.tell_paid(server, order, transaction).await;
        transaction
    }

    pub async fn tell_paid(&self, server: &Onetake, order: &Value, transaction: u64) {
        let form = self.provider.form_of(transaction, text(order, "user"));
        assert_eq!(self.provider.tell(server.base_url(), "pay", &form).await, (200, Some(0)));
    }

    /// Waits until no saga is under way.
    pub async fn until_quiet(&self) {
        wait::until_true("all effects came to an end", PATIENCE, async || {
            let open = "select count(*) from sagas where state not in ('confirmed', 'compensated', 'parked')";
            self.store().numbers(open).await[0] == 0
        })
        .await;
    }

    /// Every kopeck that was taken pays an order or is back, or is parked or stuck in sight; no refund was performed twice.
    pub async fn money_adds_up(&self) {
        for paid in self.provider.payments() {
            assert!(paid.refunds <= 1, "given back more than once: {paid:?}");
            assert!(paid.returned <= paid.amount, "{paid:?}");
        }
        assert_eq!(self.provider.refund_calls().1, 0, "a refund that was performed was asked for again");
        let odd = "select count(*) from orders o where (o.state in ('paid', 'fulfilled')) <> exists
            (select 1 from order_payments p where p.order_id = o.id and p.pays and p.state in ('applied', 'returning'))";
        assert_eq!(self.store().numbers(odd).await, [0], "an order is paid if and only if a payment pays it");
        let ours =
            "select cast(coalesce(sum(returned_amount), 0) as bigint) from order_payments where state = 'returned'";
        let settled = "select count(*) from order_payments where state in ('returning', 'stuck')";
        if self.store().numbers(settled).await == [0] {
            let theirs: i64 = self.provider.payments().iter().map(|paid| paid.returned).sum();
            assert_eq!(self.store().numbers(ours).await, [theirs], "both sides know of the same money");
        }
    }
}

/// Places an order for `name`.
pub async fn order(api: &Api, name: &str, user: &str) -> Value {
    api.post("/v1/orders", wish(name, user)).await.expect(200)
}

pub fn wish(name: &str, user: &str) -> Value {
    json!({"name": name, "user": user, "amount": PRICE, "currency": "RUB"})
}

pub async fn show(api: &Api, order: &Value) -> Value {
    api.get(&format!("/v1/orders/{}", text(order, "id"))).await.expect(200)
}

pub async fn until_state(api: &Api, order: &Value, state: &str) -> Value {
    wait::until(&format!("the order to be {state}"), PATIENCE, async || {
        Some(show(api, order).await).filter(|order| order["state"] == state)
    })
    .await
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// The events in an order's history, in their order.
pub fn events(order: &Value) -> Vec<&str> {
    order["history"].as_array().expect("it has one").iter().map(|event| text(event, "event")).collect()
}
