//! Sagas as people look at them.

use super::Sagas;
use crate::clock::Millis;
use crate::store::{Error, Row, query};

/// Which sagas to list; empty texts are no condition.
#[derive(Clone, Debug, Default)]
pub struct SagaFilter {
    pub state: String,
    pub name: String,
    /// Those before this id, the newest first.
    pub before: String,
    pub limit: u32,
}

/// A saga as stored.
#[derive(Clone, Debug)]
pub struct SagaView {
    pub id: String,
    pub name: String,
    pub subject: String,
    /// JSON.
    pub input: String,
    pub state: String,
    pub calls: i64,
    pub asks: i64,
    pub next_at_ms: Millis,
    pub receipt: Option<String>,
    pub error: Option<String>,
    pub created_at_ms: Millis,
    pub updated_at_ms: Millis,
}

/// A line of a saga's history.
#[derive(Clone, Debug)]
pub struct SagaEvent {
    pub at_ms: Millis,
    pub actor: String,
    pub event: String,
    pub detail: Option<String>,
}

impl SagaView {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            subject: row.get("subject")?,
            input: row.get("input")?,
            state: row.get("state")?,
            calls: row.get("calls")?,
            asks: row.get("asks")?,
            next_at_ms: row.get("next_at_ms")?,
            receipt: row.get("receipt")?,
            error: row.get("error")?,
            created_at_ms: row.get("created_at_ms")?,
            updated_at_ms: row.get("touched_at_ms")?,
        })
    }
}

impl Sagas {
    /// # Errors
    /// [`Error`] of the store.
    pub async fn list(&self, filter: &SagaFilter) -> Result<Vec<SagaView>, Error> {
        let list = "-- saga.list
            select id, name, subject, input, state, calls, asks, next_at_ms, receipt, error, created_at_ms, touched_at_ms
            from sagas
            where ($1 = '' or state = $1) and ($2 = '' or name = $2) and ($3 = '' or id < $3)
            order by id desc limit $4";
        let SagaFilter { state, name, before, limit } = filter;
        let find = query(list).bind(state.as_str()).bind(name.as_str()).bind(before.as_str());
        let found = self.store.fetch_all(find.bind(i64::from(*limit))).await?;
        found.iter().map(SagaView::read).collect()
    }

    /// A saga with its history.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn show(&self, id: &str) -> Result<Option<(SagaView, Vec<SagaEvent>)>, Error> {
        let show = "-- saga.show
            select id, name, subject, input, state, calls, asks, next_at_ms, receipt, error, created_at_ms, touched_at_ms
            from sagas where id = $1";
        let Some(row) = self.store.fetch_optional(query(show).bind(id)).await? else { return Ok(None) };
        let history = "-- saga.history
            select at_ms, actor, event, detail from saga_events where saga_id = $1 order by at_ms limit 1000";
        let found = self.store.fetch_all(query(history).bind(id)).await?;
        let event = |row: &Row| {
            Ok(SagaEvent {
                at_ms: row.get("at_ms")?,
                actor: row.get("actor")?,
                event: row.get("event")?,
                detail: row.get("detail")?,
            })
        };
        let events = found.iter().map(event).collect::<Result<_, Error>>()?;
        Ok(Some((SagaView::read(&row)?, events)))
    }
}
