//! Who may call: API keys with scopes, kept in SQL as hashes.
//!
//! A key reads `otk_<id>_<secret>`. Its secret has 256 random bits, so that one SHA-256 is as good as a slow hash. Keys
//! are remembered for a few seconds, so that a revocation elsewhere is noticed soon and a request costs no SQL; while
//! SQL is away, what was known last stands.
//!
//! Without any key, and without a bootstrap key, a server on loopback is open: every caller has every scope. The first
//! key closes it, and revoking keys does not open it again.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::Millis;
use crate::id;
use crate::idempotency::{self, Before, Key, StoredAnswer};
use crate::store::{Error, Row, Store, query};

/// How long what SQL said is taken to be true.
const TRUSTED_FOR: Duration = Duration::from_secs(3);
/// Keys that are remembered at most, those that do not exist included.
const REMEMBERED: u64 = 10_000;

/// What a caller may do. Each key has one or more; `admin` is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Ask for results, add jobs, leave.
    Enqueue,
    /// Claim jobs and end them.
    Work,
    /// Pause, resume, replay, release, import.
    Operate,
    /// All of it, and the keys themselves.
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Enqueue => "enqueue",
            Self::Work => "work",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Whether a key with this scope may do what needs `needed`. All may read.
    fn covers(self, needed: Self) -> bool {
        self == Self::Admin || self == needed || needed == Self::Read
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Read, Self::Enqueue, Self::Work, Self::Operate, Self::Admin]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or(())
    }
}

/// Whoever calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's id; "admin" for the bootstrap key, "open" where no key is needed.
    pub id: Arc<str>,
    scopes: Arc<[Scope]>,
}

impl Principal {
    fn with_all_scopes(id: &str) -> Self {
        Self { id: id.into(), scopes: [Scope::Admin].into() }
    }

    pub fn may(&self, needed: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(needed))
    }
}

/// A key as it is listed.
#[derive(Clone, Debug)]
pub struct ListedKey {
    pub id: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_at_ms: Millis,
    pub revoked_at_ms: Option<Millis>,
}

/// A key as its owner gets it: its text is not kept anywhere.
pub struct NewKey {
    pub id: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    secret: String,
}

impl NewKey {
    pub fn make(name: String, scopes: Vec<Scope>) -> Self {
        let secret = crate::text::hex(&rand::rng().random::<[u8; 32]>());
        Self { id: id::new_id(), name, scopes, secret }
    }

    /// What a caller sends.
    pub fn text(&self) -> String {
        format!("otk_{}_{}", self.id, self.secret)
    }
}

/// What is known of a key id.
struct Known {
    /// Nothing if there is no such key, or it was revoked.
    key: Option<([u8; 32], Principal)>,
    looked_at: Instant,
}

/// The keys. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    store: Store,
    /// The SHA-256 of the configured bootstrap key.
    bootstrap: Option<[u8; 32]>,
    may_be_open: bool,
    known: Cache<String, Arc<Known>>,
    /// Whether there are keys at all, and when SQL said so.
    any: Arc<Mutex<Option<(bool, Instant)>>>,
    open: Principal,
    admin: Principal,
}

impl Access {
    /// `admin_key` is the bootstrap key (empty: none); `is_loopback` says whether only this machine can reach us.
    pub fn new(store: Store, admin_key: &str, is_loopback: bool) -> Self {
        let bootstrap = (!admin_key.is_empty()).then(|| digest(admin_key));
        Self {
            store,
            may_be_open: is_loopback && bootstrap.is_none(),
            bootstrap,
            known: Cache::builder().max_capacity(REMEMBERED).time_to_live(Duration::from_secs(3600)).build(),
            any: Arc::default(),
            open: Principal::with_all_scopes("open"),
            admin: Principal::with_all_scopes("admin"),
        }
    }

    /// Who anybody is without a key: nobody, or on an open server everybody.
    ///
    /// # Errors
    /// [`Error`] when SQL is away and never said whether there are keys.
    pub async fn anonymous(&self) -> Result<Option<Principal>, Error> {
        if !self.may_be_open {
            return Ok(None);
        }
        let last = *self.any.lock().expect("no user panics inside");
        let any = match last {
            // Keys do not vanish: once there is one, no further look is needed.
            Some((true, _)) => true,
            Some((false, looked_at)) if looked_at.elapsed() < TRUSTED_FOR => false,
            _ => match (self.look_for_any().await, last) {
                (Ok(any), _) => {
                    *self.any.lock().expect("no user panics inside") = Some((any, Instant::now()));
                    any
                }
                // Asked again a while later: each look at a database that is away takes its time.
                (Err(_), Some((any, _))) => {
                    *self.any.lock().expect("no user panics inside") = Some((any, Instant::now()));
                    any
                }
                (Err(error), None) => return Err(error),
            },
        };
        Ok((!any).then(|| self.open.clone()))
    }

    /// Who has this key; nobody if it is none of ours.
    ///
    /// # Errors
    /// [`Error`] when SQL is away and the key is not known here.
    pub async fn verify(&self, text: &str) -> Result<Option<Principal>, Error> {
        if let Some(bootstrap) = &self.bootstrap
            && bool::from(bootstrap.ct_eq(&digest(text)))
        {
            return Ok(Some(self.admin.clone()));
        }
        let Some((id, secret)) = text.strip_prefix("otk_").and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        if id.len() > 64 {
            return Ok(None);
        }
        let known = self.look_up(id).await?;
        let Some((hash, principal)) = &known.key else { return Ok(None) };
        Ok(bool::from(hash.ct_eq(&digest(secret))).then(|| principal.clone()))
    }

    /// Puts a key in force. Under an idempotency key its answer is stored with it; what that key stood for before is given
    /// back, and nothing is made then.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn create(&self, new: &NewKey, repeatable: Option<(Key, StoredAnswer)>) -> Result<Option<Before>, Error> {
        let (id, name, scopes) = (new.id.clone(), new.name.clone(), spell(&new.scopes));
        let hash = crate::text::hex(&digest(&new.secret));
        let own = repeatable.as_ref().map(|(_, answer)| answer.clone());
        let before = self
            .store
            .unit_of_work::<_, Error, _>("key.create", move |tx| {
                let (id, name, hash, scopes) = (id.clone(), name.clone(), hash.clone(), scopes.clone());
                let repeatable = repeatable.clone();
                Box::pin(async move {
                    if let Some((key, _)) = &repeatable
                        && let Some(before) = idempotency::take(tx, key).await?
                    {
                        return Ok(Some(before));
                    }
                    let insert = query(
                        "-- key.create
                        insert into api_keys (id, name, hash, scopes, created_at_ms) values ($1, $2, $3, $4, {now})
                        on conflict do nothing",
                    );
                    tx.execute(insert.bind(id).bind(name).bind(hash).bind(scopes)).await?;
                    if let Some((key, answer)) = &repeatable {
                        idempotency::store(tx, key, answer).await?;
                    }
                    Ok(None)
                })
            })
            .await?;
        if !matches!(before, Some(Before::Reused)) {
            *self.any.lock().expect("no user panics inside") = Some((true, Instant::now()));
        }
        self.known.invalidate(&new.id);
        // Of a commit whose answer was lost, and that was tried again.
        let is_own = matches!((&before, &own), (Some(Before::Same(stored)), Some(own)) if stored == own);
        Ok(before.filter(|_| !is_own))
    }

    /// All keys, the newest first, the revoked ones too.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn list(&self) -> Result<Vec<ListedKey>, Error> {
        let found = self
            .store
            .fetch_all(query(
                "-- key.list
                select id, name, scopes, created_at_ms, revoked_at_ms from api_keys order by id desc limit 1000",
            ))
            .await?;
        found
            .iter()
            .map(|row| {
                Ok(ListedKey {
                    id: row.get("id")?,
                    name: row.get("name")?,
                    scopes: read_scopes(row)?,
                    created_at_ms: row.get("created_at_ms")?,
                    revoked_at_ms: row.get("revoked_at_ms")?,
                })
            })
            .collect()
    }

    /// Ends a key, here at once and on other servers within seconds. False if there is none, or it was revoked before.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn revoke(&self, id: &str) -> Result<bool, Error> {
        let wanted = id.to_owned();
        let revoked = self
            .store
            .unit_of_work::<_, Error, _>("key.revoke", move |tx| {
                let id = wanted.clone();
                Box::pin(async move {
                    let revoke = "-- key.revoke
                        update api_keys set revoked_at_ms = {now} where id = $1 and revoked_at_ms is null returning id";
                    tx.fetch_optional(query(revoke).bind(id)).await
                })
            })
            .await?;
        self.known.invalidate(id);
        Ok(revoked.is_some())
    }

    async fn look_for_any(&self) -> Result<bool, Error> {
        Ok(self.store.fetch_optional(query("-- key.any\nselect 1 as one from api_keys limit 1")).await?.is_some())
    }

    async fn look_up(&self, id: &str) -> Result<Arc<Known>, Error> {
        let last = self.known.get(id);
        if let Some(known) = &last
            && known.looked_at.elapsed() < TRUSTED_FOR
        {
            return Ok(known.clone());
        }
        match (self.read(id).await, last) {
            (Ok(key), _) => {
                let known = Arc::new(Known { key, looked_at: Instant::now() });
                self.known.insert(id.to_owned(), known.clone());
                Ok(known)
            }
            (Err(error), Some(last)) if error.is_unreachable() => {
                let known = Arc::new(Known { key: last.key.clone(), looked_at: Instant::now() });
                self.known.insert(id.to_owned(), known.clone());
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn read(&self, id: &str) -> Result<Option<([u8; 32], Principal)>, Error> {
        let find = "-- key.find\nselect hash, scopes from api_keys where id = $1 and revoked_at_ms is null";
        let Some(row) = self.store.fetch_optional(query(find).bind(id)).await? else { return Ok(None) };
        let hash = unhex(&row.get::<String>("hash")?)
            .ok_or_else(|| Error::Setup(format!("the hash of the API key {id} is none")))?;
        Ok(Some((hash, Principal { id: id.into(), scopes: read_scopes(&row)?.into() })))
    }
}

/// Whether anybody has a key that was not revoked.
///
/// # Errors
/// [`Error`] of the store.
pub async fn has_key(store: &Store) -> Result<bool, Error> {
    let live = "-- key.has\nselect 1 as one from api_keys where revoked_at_ms is null limit 1";
    Ok(store.fetch_optional(query(live)).await?.is_some())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

fn spell(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// A scope that this version does not know gives no right.
fn read_scopes(row: &Row) -> Result<Vec<Scope>, Error> {
    Ok(row.get::<String>("scopes")?.split(' ').filter_map(|word| word.parse().ok()).collect())
}

#[cfg(test)]
mod tests;
