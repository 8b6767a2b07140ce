//! One namespace in Redis belongs to one store.
//!
//! Two stores that share a namespace would each correct what the other wrote there, and refuse each other's locks. The
//! servers of one Postgres database share its id, and so the namespace; an SQLite file has an id of its own.

use bytes::Bytes;

use super::{Error, Locks};
use crate::store::{self, query};

/// The namespace belongs to another store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another store uses this namespace in Redis: the key {key} names the store {theirs}, this one is {ours}. Give one of \
     them another redis.namespace and redis.prefix, or another Redis. If that store is gone for good, run `redis-cli del \
     {key}`"
)]
pub struct ForeignNamespace {
    pub key: String,
    pub theirs: String,
    pub ours: String,
}

/// Whose the namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Ours,
    Foreign(ForeignNamespace),
}

impl Locks {
    /// Marks the namespace as this store's. `Err` inside: it is another's, and a server must not start on it.
    ///
    /// # Errors
    /// `Redis` when it is away: to be asked again when it is there. `Store` of the store.
    pub async fn claim_namespace(&self) -> Result<Result<(), ForeignNamespace>, Error> {
        Ok(match self.claim().await? {
            Claim::Ours => Ok(()),
            Claim::Foreign(foreign) => Err(foreign),
        })
    }

    pub(super) async fn claim(&self) -> Result<Claim, Error> {
        let ours = self.identity().await?;
        let (key, redis) = (self.keys.store(), self.link.redis());
        redis.set(&key, Bytes::from(ours.clone()), None, true).await?;
        // Read after writing: of two that claim at once, both see who was first.
        let known = redis.get(&key).await?.unwrap_or_default();
        let theirs = String::from_utf8_lossy(&known).into_owned();
        if theirs == ours {
            return Ok(Claim::Ours);
        }
        Ok(Claim::Foreign(ForeignNamespace { key, theirs, ours }))
    }

    /// The id of this store, made by whoever asks first.
    async fn identity(&self) -> Result<String, store::Error> {
        let read = || query("-- store.identity\nselect id from store_identity where one = 1");
        if let Some(row) = self.store.fetch_optional(read()).await? {
            return row.get("id");
        }
        let id = crate::id::new_id();
        self.store
            .unit_of_work::<_, store::Error, _>("store.identity", move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let make = "-- store.make_identity
                        insert into store_identity (one, id) values (1, $1) on conflict (one) do nothing";
                    tx.execute(query(make).bind(id)).await?;
                    let row = tx.fetch_optional(read()).await?;
                    row.ok_or_else(|| store::Error::Setup("the store has no id".into()))?.get("id")
                })
            })
            .await
    }
}
