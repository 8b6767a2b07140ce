//! A new order: what it is for and what it costs, checked once, before anything is written.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Orders;
use super::order::{Event, Order, note};
use super::refusals::{AMOUNT, CURRENCY};
use crate::clock::millis;
use crate::config::Settings;
use crate::id::{self, Name};
use crate::idempotency::{self, Answered, Key};
use crate::refusal::Refusal;
use crate::store::{Error, Tx, query};
use crate::workloads::videos::wish::{self, Wrong};

/// What somebody asks for, over HTTP or in a job.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = OrderWish)]
pub struct Wish {
    /// Who orders: a text or an integer. The `AccountId` of the payment, if it has one, must be the same.
    #[schema(value_type = crate::id::TextOrInteger)]
    pub user: Name,
    /// The Telegram chat that is to get the video; else it goes to the user's mailbox.
    #[schema(value_type = Option<crate::id::TextOrInteger>)]
    pub chat: Option<Name>,
    /// For whom the video is; at most 100 characters.
    pub name: String,
    pub gender: Option<String>,
    pub template: Option<String>,
    /// In hundredths of the currency.
    pub amount: i64,
    /// Such as `RUB`.
    pub currency: String,
}

impl Wish {
    /// What is ordered, if a video can be made of it.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(self, settings: &Settings) -> Result<NewOrder, Wrong> {
        let data = wish::read(&self.name, self.gender.as_deref(), self.template.as_deref(), settings)?;
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        Ok(NewOrder {
            user: self.user.0,
            chat: self.chat.map(|chat| chat.0),
            name: text("name"),
            gender: text("gender"),
            template: text("template"),
            amount: self.amount,
            currency: self.currency,
        })
    }
}

/// What is ordered. Name, gender and template are those of a wish that was read before.
#[derive(Clone, Debug)]
pub struct NewOrder {
    pub user: String,
    pub chat: Option<String>,
    pub name: String,
    pub gender: String,
    pub template: String,
    /// Whole hundredths of the currency.
    pub amount: i64,
    /// Three capital letters.
    pub currency: String,
}

impl Orders {
    /// Takes an order in; it waits for its payment.
    ///
    /// # Errors
    /// [`Error`] of the store: nothing is acknowledged.
    pub async fn create(&self, new: NewOrder, actor: String, key: Option<Key>) -> Result<Answered, Error> {
        let checked = self.check_price(&new);
        let expire_ms = millis(self.settings.orders.expire_after.0);
        // Made before the transaction, so that its repetition makes no second order.
        let id = id::new_id();
        idempotency::unit_of_work(&self.store, "order.create", key, move |tx| {
            let (new, actor, id, checked) = (new.clone(), actor.clone(), id.clone(), checked.clone());
            Box::pin(async move {
                match checked {
                    Ok(()) => create(tx, &id, &new, expire_ms, &actor).await.map(Ok),
                    Err(refusal) => Ok(Err(refusal)),
                }
            })
        })
        .await
    }

    fn check_price(&self, new: &NewOrder) -> Result<(), Refusal> {
        let limits = self.settings.orders.currencies.get(&new.currency).ok_or(CURRENCY)?;
        if (limits.min..=limits.max).contains(&new.amount) { Ok(()) } else { Err(AMOUNT) }
    }
}

async fn create(tx: &mut Tx, id: &str, new: &NewOrder, expire_ms: i64, actor: &str) -> Result<Value, Error> {
    tx.execute(
        query(
            "-- order.create
            insert into orders (id, user_id, chat, name, gender, template, amount, currency, state, expires_at_ms,
              created_at_ms, touched_at_ms)
            values ($1, $2, $3, $4, $5, $6, $7, $8, 'awaiting_payment', {now} + $9, {now}, {now})
            on conflict (id) do nothing",
        )
        .bind(id)
        .bind(new.user.as_str())
        .bind(new.chat.clone())
        .bind(new.name.as_str())
        .bind(new.gender.as_str())
        .bind(new.template.as_str())
        .bind(new.amount)
        .bind(new.currency.as_str())
        .bind(expire_ms),
    )
    .await?;
    note(tx, id, None, Event { actor, event: "created", ..Event::default() }).await?;
    let order = Order::lock(tx, id).await?.ok_or_else(|| Error::Setup("a new order is not there".into()))?;
    Ok(order.to_json())
}
