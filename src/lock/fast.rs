//! Fast locks: Redis alone.
//!
//! **May have two holders for a moment:** after a failover to a replica that had not heard of the lock, after a wipe, or
//! when a holder is paused for longer than its time to live. They spare work that is harmless to do twice; they guard no
//! data. Without Redis there are none, and nothing stands in for them.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{counter, histogram};

use super::gate::number;
use super::keys::fast_word;
use super::name::LockName;
use super::{Error, Locks, until};
use crate::clock::millis;
use crate::redis::{self, Reply, Script};

static TAKE: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.fast_take", &[include_str!("../../lua/lock/fast_take.lua")]));
static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.fast_renew", &[include_str!("../../lua/lock/fast_renew.lua")]));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.fast_release", &[include_str!("../../lua/lock/fast_release.lua")]));

/// Between two looks at a lock that somebody else has.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A wish for a fast lock.
#[derive(Clone, Debug)]
pub struct FastWanted {
    pub name: LockName,
    pub ttl: Duration,
    /// Zero: now or not at all.
    pub wait: Duration,
    pub principal: String,
    /// The same again, by the same principal, finds its own lock again.
    pub request: String,
    pub note: String,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fast {
    /// `token` tells holders apart; it is no fencing token, as it follows the clock of one Redis.
    Taken {
        owner: String,
        token: i64,
        left: Duration,
    },
    Busy {
        principal: String,
        note: String,
        left: Duration,
    },
}

impl Locks {
    /// Takes a fast lock; see the module for what it is not good for.
    ///
    /// # Errors
    /// `Ttl`; `Redis` when it is away: whether the lock was taken is then unknown, and the same request finds out.
    pub async fn take_fast(&self, wanted: FastWanted) -> Result<Fast, Error> {
        self.check_ttl(wanted.ttl)?;
        let owner = crate::id::new_token();
        let asked = Instant::now();
        let until = until(asked, wanted.wait);
        let waiting = self.wakes.listen(fast_word(&wanted.name));
        loop {
            let taken = self.try_fast(&wanted, &owner).await?;
            let Fast::Busy { left, .. } = &taken else {
                counter!("onetake_lock_grants_total", "kind" => "fast").increment(1);
                histogram!("onetake_lock_wait_seconds", "kind" => "fast").record(asked.elapsed().as_secs_f64());
                return Ok(taken);
            };
            let Some(rest) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
                counter!("onetake_lock_busy_total", "kind" => "fast").increment(1);
                return Ok(taken);
            };
            let pause = LOOK_EVERY.min(*left + Duration::from_millis(1)).min(rest);
            tokio::select! {
                // dropped: a pause only
                () = tokio::time::sleep(pause) => {}
                // dropped: a wake-up is kept until it is heard
                () = waiting.woken() => {}
            }
        }
    }

    async fn try_fast(&self, wanted: &FastWanted, owner: &str) -> Result<Fast, redis::Error> {
        let args = vec![
            Bytes::copy_from_slice(owner.as_bytes()),
            Bytes::from(wanted.principal.clone()),
            Bytes::from(wanted.request.clone()),
            Bytes::from(wanted.note.clone()),
            number(millis(wanted.ttl)),
            Bytes::from(wanted.name.to_string()),
        ];
        let reply = self.link.redis().run(&TAKE, vec![self.keys.fast(&wanted.name)], args).await?.items()?;
        let field = |place: usize| {
            let missing = || redis::Error::Protocol { detail: "a fast lock's answer is too short".into() };
            reply.get(place).ok_or_else(missing)
        };
        let left = Duration::from_millis(u64::try_from(field(2)?.int()?).unwrap_or(0));
        if field(0)?.int()? == 1 {
            return Ok(Fast::Taken { owner: field(3)?.text()?, token: field(1)?.int()?, left });
        }
        Ok(Fast::Busy { principal: field(3)?.text()?, note: field(4)?.text()?, left })
    }

    /// Lets a fast lock run for `ttl` from now; its token, or nothing if the owner has it no more.
    ///
    /// # Errors
    /// `Ttl`, or `Redis`.
    pub async fn renew_fast(&self, name: &LockName, owner: &str, ttl: Duration) -> Result<Option<i64>, Error> {
        self.check_ttl(ttl)?;
        let args = vec![Bytes::copy_from_slice(owner.as_bytes()), number(millis(ttl))];
        let token = self.fast(&RENEW, name, args).await?.int()?;
        if token == 0 {
            counter!("onetake_lock_losses_total", "kind" => "fast").increment(1);
        }
        Ok((token != 0).then_some(token))
    }

    /// Gives a fast lock back; false if the owner has it no more.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn release_fast(&self, name: &LockName, owner: &str) -> Result<bool, Error> {
        let args = vec![
            Bytes::copy_from_slice(owner.as_bytes()),
            Bytes::from(self.keys.channel()),
            Bytes::from(fast_word(name)),
        ];
        Ok(self.fast(&RELEASE, name, args).await?.int()? == 1)
    }

    async fn fast(&self, script: &'static Script, name: &LockName, args: Vec<Bytes>) -> Result<Reply, redis::Error> {
        self.link.redis().run(script, vec![self.keys.fast(name)], args).await
    }
}
