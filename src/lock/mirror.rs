//! The mirror of leases in Redis: a busy one is refused without asking SQL each time, and `redis-cli` shows who has it.
//!
//! It is written after SQL has granted, never before, and nobody is granted anything by it. A mirror may be stale (its
//! release never reached Redis): its no is believed for a moment after SQL has said the same, and then SQL is asked again.
//! It ends when its lease would have, told as a time of Redis's own clock, which was read before SQL was asked, so that a
//! call that Redis works off late writes what has ended already.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use moka::sync::Cache;

use super::acquire::{Holder, Wanted};
use super::gate::number;
use super::keys::{Keys, lease_word};
use super::lease::LeaseRow;
use super::link::Link;
use super::name::LockName;
use crate::clock::{Millis, millis};
use crate::redis::{Reply, Script};

static LOOK: LazyLock<Script> = LazyLock::new(|| Script::new("lock.look", &[include_str!("../../lua/lock/look.lua")]));
static MIRROR: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.mirror", &[include_str!("../../lua/lock/mirror.lua")]));
static UNMIRROR: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.unmirror", &[include_str!("../../lua/lock/unmirror.lua")]));

/// How long Redis remembers that a grant is over: longer than what was told before can be on the way.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long Redis's no is believed after SQL has said the same.
const BELIEVED: Duration = Duration::from_secs(1);
/// Names of which SQL's word is kept at most; of the others it is asked for.
const KEPT: u64 = 10_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Mirror {
    link: Link,
    keys: Keys,
    /// Of which names SQL has said a moment ago that they are held, and under which token.
    confirmed: Cache<LockName, i64>,
}

/// What Redis knew of some leases before SQL was asked.
#[derive(Default)]
pub(super) struct Seen {
    /// Redis's time. Nothing if Redis took no part.
    redis_ms: Option<Millis>,
    held: Vec<(Holder, String)>,
}

impl Seen {
    /// Somebody else who has one of the names.
    pub fn busy(&self, wanted: &Wanted) -> Option<Holder> {
        let is_other =
            |(holder, request): &&(Holder, String)| holder.principal != wanted.principal || *request != wanted.request;
        self.held.iter().find(is_other).map(|(holder, _)| holder.clone())
    }
}

impl Mirror {
    pub fn new(link: Link, keys: Keys) -> Self {
        let confirmed = Cache::builder().max_capacity(KEPT).time_to_live(BELIEVED).build();
        Self { link, keys, confirmed }
    }

    /// SQL says that somebody has this name under this token.
    pub fn confirm(&self, name: &LockName, token: i64) {
        self.confirmed.insert(name.clone(), token);
    }

    /// Whether SQL has said a moment ago what Redis says.
    pub fn is_confirmed(&self, holder: &Holder) -> bool {
        self.confirmed.get(&holder.name) == Some(holder.fencing_token)
    }

    pub async fn look(&self, names: &[LockName]) -> Seen {
        let mut seen = Seen::default();
        let looks = names.iter().map(|name| self.link.run(&LOOK, vec![self.keys.mirror(name)], Vec::new()));
        for (name, reply) in names.iter().zip(join_all(looks).await) {
            if let Some((now_ms, holder)) = reply.and_then(|reply| read(name, reply)) {
                seen.redis_ms = Some(now_ms);
                seen.held.extend(holder);
            }
        }
        seen
    }

    /// Writes down what SQL granted or renewed; `seen` was read before SQL was asked. Waited for, so that a release that comes
    /// right afterwards finds it.
    pub async fn write(&self, granted: &[LeaseRow], seen: &Seen) {
        for row in granted {
            self.confirm(&row.name, row.token);
        }
        // Without its clock, Redis cannot be told when the lease ends.
        let Some(then_ms) = seen.redis_ms else { return };
        join_all(granted.iter().map(|row| self.write_one(row, then_ms))).await;
    }

    async fn write_one(&self, row: &LeaseRow, then_ms: Millis) {
        let args = vec![
            number(row.token),
            number(then_ms + row.left_ms()),
            Bytes::from(row.principal.clone()),
            Bytes::from(row.request.clone()),
            Bytes::from(row.note.clone()),
            Bytes::from(row.name.to_string()),
        ];
        let _ = self.link.run(&MIRROR, vec![self.keys.mirror(&row.name)], args).await;
    }

    /// Forgets a lease that has ended before its time, and wakes who waits for it. Waited for, so that who is told of the
    /// release finds the lease free.
    pub async fn forget(&self, name: &LockName, token: i64) {
        let word = Bytes::from(lease_word(name));
        let args = vec![number(token), Bytes::from(self.keys.channel()), word, number(millis(REMEMBERED))];
        let _ = self.link.run(&UNMIRROR, vec![self.keys.mirror(name)], args).await;
    }
}

fn read(name: &LockName, reply: Reply) -> Option<(Millis, Option<(Holder, String)>)> {
    let mut reply = reply.items().ok()?.into_iter();
    let now_ms = reply.next()?.int().ok()?;
    let Some(left_ms) = reply.next() else { return Some((now_ms, None)) };
    let left = Duration::from_millis(u64::try_from(left_ms.int().ok()?).ok()?);
    let mut text = || reply.next()?.text().ok();
    let (principal, request, note, token) = (text()?, text()?, text()?, text()?);
    let holder = Holder { name: name.clone(), principal, note, fencing_token: token.parse().ok()?, left };
    Some((now_ms, Some((holder, request))))
}
