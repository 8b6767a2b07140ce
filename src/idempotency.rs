//! `Idempotency-Key`: the answer to a write is stored in the write's own transaction, and given again to whoever repeats it.
//!
//! [`once`] takes the key first, then does the work, then stores the answer: all in one transaction. Whoever comes with
//! the same key meanwhile, on whatever server, waits at the key's row and finds that answer, so that no key is ever
//! written twice and no constraint is broken. A death before the commit leaves neither the work nor the key.
//!
//! Refusals are stored too: they were decided in the transaction, often with an audit line beside them, and whoever
//! repeats the question under its key is owed the answer that it had. What never reached the transaction (a body that
//! cannot be read, a database that is away) is not stored, and is worked out anew.
//!
//! Keys are swept after `retention.idempotency_keys`, by the reconciler's retention step.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use crate::fault;
use crate::id::derived_id;
use crate::refusal::{Kind, Refusal};
use crate::store::{Error, Query, Row, Store, Tx, query, rows};

/// A key goes by its owner, and stands for one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Key {
    /// Whose key it is: keys of different callers have nothing to do with each other.
    pub principal: String,
    pub key: String,
    /// A hash over all that was asked for.
    pub fingerprint: String,
}

/// An answer as it was given first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    pub status: u16,
    pub body: String,
    pub location: Option<String>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub enum Before {
    /// Answered, for the same request.
    Same(StoredAnswer),
    /// It was used for another request.
    Reused,
    /// Claimed for the same request, at this time, and not answered: by a server that works on it, or died.
    Unanswered { since_ms: i64 },
}

/// What a write comes to: an answer as a JSON object, or a refusal that changed nothing.
pub type Told = Result<Value, Refusal>;

/// What became of a write under a key.
#[derive(Clone, Debug)]
pub enum Answered {
    First(Told),
    /// It had been done before, and this was the answer then.
    Again(Told),
    /// The key stands for another request.
    KeyReused,
}

/// What became of a claim to a key.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// The write is to be done, or to be done again: nobody knows of an answer. What it makes is named after the stem.
    Ours {
        stem: String,
    },
    Before(Before),
}

/// How a workload refuses a key that stands for another request.
pub const KEY_REUSED: Refusal = Refusal::new(
    "idempotency_key_reused",
    Kind::Unfit,
    "This idempotency key was used for another request.",
    "Этот ключ идемпотентности уже использован для другого запроса.",
);

/// Of a key that is taken, as its status.
const UNANSWERED: i64 = 0;
const DONE: u16 = 200;
const REFUSED: u16 = 409;
/// A key that is there, and gone when it is looked at, was just swept: the next try takes it.
const TRIES: usize = 3;

/// Does `work` in the transaction at hand, unless its key says that it was done before. Without a key it is just done.
///
/// # Errors
/// What `work` or the store fails with: nothing of it happened then.
pub async fn once<E, F>(tx: &mut Tx, key: Option<&Key>, work: F) -> Result<Answered, E>
where
    E: From<Error>,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<Told, E>> + Send,
{
    let Some(key) = key else { return Ok(Answered::First(work(tx).await?)) };
    match take(tx, key).await? {
        None => {}
        // What is done in one transaction is never left unanswered: the key was used for something else.
        Some(Before::Reused | Before::Unanswered { .. }) => return Ok(Answered::KeyReused),
        Some(Before::Same(stored)) => return Ok(Answered::Again(read(&stored)?)),
    }
    fault::point("once.taken");
    let told = work(tx).await?;
    let (status, body) = match &told {
        Ok(value) => (DONE, value.to_string()),
        Err(refusal) => (REFUSED, serde_json::to_string(refusal).expect("texts are JSON")),
    };
    store(tx, key, &StoredAnswer { status, body, location: None }).await?;
    fault::point("once.stored");
    Ok(Answered::First(told))
}

/// [`once`] as a unit of work of its own. `work` may be repeated as a whole: its ids are made before.
///
/// # Errors
/// As [`once`].
pub async fn unit_of_work<E, F>(store: &Store, name: &'static str, key: Option<Key>, work: F) -> Result<Answered, E>
where
    E: From<Error> + Send + 'static,
    F: for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<Told, E>> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let answered = store
        .unit_of_work(name, move |tx| {
            let (key, work) = (key.clone(), work.clone());
            Box::pin(async move { once(tx, key.as_ref(), |tx| work(tx)).await })
        })
        .await;
    fault::point("once.committed");
    answered
}

/// Takes a key for the transaction at hand; `Some` if it was taken before. A transaction that has taken it and not ended
/// yet is waited for.
///
/// # Errors
/// [`Error`] of the store.
pub async fn take(tx: &mut Tx, key: &Key) -> Result<Option<Before>, Error> {
    for _ in 0..TRIES {
        let taken = query(
            "-- idempotency.take
            insert into idempotency (principal, key, fingerprint, status, body, created_at_ms)
            values ($1, $2, $3, 0, '', {now})
            on conflict (principal, key) do nothing
            returning key",
        )
        .bind(key.principal.as_str())
        .bind(key.key.as_str())
        .bind(key.fingerprint.as_str());
        if tx.fetch_optional(taken).await?.is_some() {
            return Ok(None);
        }
        // A statement of its own, as only that sees what was committed while the first one waited.
        if let Some(row) = tx.fetch_optional(find(key)).await? {
            return before(&row, key).map(Some);
        }
    }
    Err(Error::Setup("an idempotency key comes and goes: is retention.idempotency_keys very short?".into()))
}

fn find(key: &Key) -> Query {
    let found = query(
        "-- idempotency.look
        select fingerprint, status, body, location, created_at_ms from idempotency where principal = $1 and key = $2",
    );
    found.bind(key.principal.as_str()).bind(key.key.as_str())
}

/// Stores the answer under a key that was taken. The first answer stands.
///
/// # Errors
/// [`Error`] of the store.
pub async fn store(tx: &mut Tx, key: &Key, answer: &StoredAnswer) -> Result<(), Error> {
    tx.execute(
        query(
            "-- idempotency.answer
            update idempotency set status = $3, body = $4, location = $5
            where principal = $1 and key = $2 and status = 0",
        )
        .bind(key.principal.as_str())
        .bind(key.key.as_str())
        .bind(i64::from(answer.status))
        .bind(answer.body.as_str())
        .bind(answer.location.clone()),
    )
    .await
}

/// What is known of a key, outside any transaction.
///
/// # Errors
/// [`Error`] of the store.
pub async fn look(store: &Store, key: &Key) -> Result<Option<Before>, Error> {
    store.fetch_optional(find(key)).await?.map(|row| before(&row, key)).transpose()
}

/// Claims a key for a write that is done outside this transaction, and that is harmless to do twice *as long as what it makes
/// is named after the claim's `stem`*: the claim stands until the key is swept, answered or not, so that whoever repeats the
/// write, here or on another server, names the same.
///
/// # Errors
/// [`Error`] of the store.
pub async fn claim(store: &Store, key: &Key) -> Result<Claimed, Error> {
    let key = key.clone();
    store
        .unit_of_work("idempotency.claim", move |tx| {
            let key = key.clone();
            Box::pin(async move {
                let before = match take(tx, &key).await? {
                    // Ours: the row is held until the commit.
                    None => tx.fetch_optional(find(&key)).await?.map(|row| before(&row, &key)).transpose()?,
                    before => before,
                };
                match before {
                    Some(Before::Unanswered { since_ms }) => {
                        let parts = [key.principal.as_str(), &key.key, &since_ms.to_string()];
                        Ok(Claimed::Ours { stem: derived_id(&parts) })
                    }
                    Some(before) => Ok(Claimed::Before(before)),
                    None => Err(Error::Setup("an idempotency key that is held is gone".into())),
                }
            })
        })
        .await
}

/// Stores the answer of a write under its claimed key. The first answer stands.
///
/// # Errors
/// [`Error`] of the store.
pub async fn keep(store: &Store, key: &Key, answer: &StoredAnswer) -> Result<(), Error> {
    let (key, answer) = (key.clone(), answer.clone());
    store
        .unit_of_work("idempotency.keep", move |tx| {
            let (key, answer) = (key.clone(), answer.clone());
            Box::pin(async move { self::store(tx, &key, &answer).await })
        })
        .await
}

/// Binds a key to its request, for a write that is repeatable by itself and must not be answered from a store: whether the
/// key stands for this request. Whoever comes first binds it.
///
/// # Errors
/// [`Error`] of the store.
pub async fn bind(store: &Store, key: &Key) -> Result<bool, Error> {
    let same = |before: &Before| !matches!(before, Before::Reused);
    if let Some(before) = look(store, key).await? {
        return Ok(same(&before));
    }
    let key = key.clone();
    store
        .unit_of_work("idempotency.bind", move |tx| {
            let key = key.clone();
            Box::pin(async move {
                if let Some(before) = take(tx, &key).await? {
                    return Ok(same(&before));
                }
                let nothing = StoredAnswer { status: DONE, body: "{}".to_owned(), location: None };
                self::store(tx, &key, &nothing).await?;
                Ok(true)
            })
        })
        .await
}

/// What is known of each of many keys, in one statement.
///
/// # Errors
/// [`Error`] of the store.
pub async fn look_all(tx: &mut Tx, keys: &[&Key]) -> Result<HashMap<Key, Before>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let found = query(
        "-- idempotency.find
        select i.principal, i.key, i.fingerprint, i.status, i.body, i.location, i.created_at_ms
        from idempotency i
        join {rows $1: principal text, key text} r on r.principal = i.principal and r.key = i.key",
    );
    let found = tx.fetch_all(found.bind(rows(keys))).await?;
    let mut known = HashMap::new();
    for row in found {
        let name: (String, String) = (row.get("principal")?, row.get("key")?);
        for key in keys.iter().filter(|key| key.principal == name.0 && key.key == name.1) {
            known.insert((*key).clone(), before(&row, key)?);
        }
    }
    Ok(known)
}

/// An answer to be stored with many others.
#[derive(Serialize)]
struct Stored<'a> {
    principal: &'a str,
    key: &'a str,
    fingerprint: &'a str,
    status: i64,
    body: &'a str,
    location: Option<&'a str>,
}

/// Stores many answers in one statement. A key that was stored meanwhile is a violation here: whoever runs this tries
/// again, and finds that answer.
///
/// # Errors
/// [`Error::Constraint`] for such a key.
pub async fn store_all(tx: &mut Tx, answers: &[(Key, StoredAnswer)]) -> Result<(), Error> {
    if answers.is_empty() {
        return Ok(());
    }
    let stored: Vec<_> = answers
        .iter()
        .map(|(key, answer)| Stored {
            principal: &key.principal,
            key: &key.key,
            fingerprint: &key.fingerprint,
            status: i64::from(answer.status),
            body: &answer.body,
            location: answer.location.as_deref(),
        })
        .collect();
    tx.execute(
        query(
            "-- idempotency.store
            insert into idempotency (principal, key, fingerprint, status, body, location, created_at_ms)
            select r.principal, r.key, r.fingerprint, r.status, r.body, r.location, {now}
            from {rows $1: principal text, key text, fingerprint text, status bigint, body text, location text} r
            order by r.principal, r.key",
        )
        .bind(rows(&stored)),
    )
    .await
}

fn before(row: &Row, key: &Key) -> Result<Before, Error> {
    if row.get::<String>("fingerprint")? != key.fingerprint {
        return Ok(Before::Reused);
    }
    if row.get::<i64>("status")? == UNANSWERED {
        return Ok(Before::Unanswered { since_ms: row.get("created_at_ms")? });
    }
    Ok(Before::Same(StoredAnswer {
        status: u16::try_from(row.get::<i64>("status")?).unwrap_or(500),
        body: row.get("body")?,
        location: row.get("location")?,
    }))
}

fn read(stored: &StoredAnswer) -> Result<Told, Error> {
    let unreadable = |error| Error::Setup(format!("a stored answer cannot be read: {error}"));
    match stored.status {
        REFUSED => serde_json::from_str(&stored.body).map(Err).map_err(unreadable),
        _ => serde_json::from_str(&stored.body).map(Ok).map_err(unreadable),
    }
}
