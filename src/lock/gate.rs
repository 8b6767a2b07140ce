//! The gate: a line in Redis between the servers, so that few of them at a time stand at the database for one name.
//!
//! It only says no or not yet. Who passes has nothing: the database decides. So a place that ran out while its owner was
//! paused, a wiped Redis, or one that answers some servers only, lets more through than meant, and harms nothing else.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use tracing::warn;

use super::keys::Keys;
use super::link::Link;
use super::name::{Kind, LockName};
use super::wake::{Waiting, Wakes};
use crate::clock::millis;
use crate::redis::Script;

static ENTER: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.enter", &[include_str!("../../lua/lock/enter.lua")]));
static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new("lock.leave", &[include_str!("../../lua/lock/leave.lua")]));

/// How long a place behind is kept without its owner looking: three of the longest pauses between two looks.
const WAIT_FOR: Duration = Duration::from_millis(1_500);
/// How long a place at the head is kept: longer than a unit of work should take.
const INSIDE_FOR: Duration = Duration::from_secs(5);
/// Between two looks at the line, if nobody wakes us.
const LOOKS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

/// The gate of one kind of lock. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    kind: Kind,
    width: usize,
    link: Link,
    keys: Keys,
    wakes: Wakes,
}

/// A place in line. Dropped: left, as far as Redis can be told; else it runs out by itself.
pub(super) struct Place {
    gate: Gate,
    line: [String; 2],
    id: String,
    waiting: Waiting,
    /// Redis may know of it.
    told: AtomicBool,
}

impl Gate {
    pub fn new(kind: Kind, width: usize, link: Link, keys: Keys, wakes: Wakes) -> Self {
        Self { kind, width: width.max(1), link, keys, wakes }
    }

    /// Stands in line until its turn comes, or until `until`. Without an `until`, passes only if nobody is there. `None`:
    /// somebody else is there, or was until the deadline. Where Redis takes no part, there is no line.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub async fn pass(&self, name: &LockName, until: Option<Instant>) -> Option<Place> {
        self.place(name).pass(until).await
    }

    /// A place of which Redis knows nothing yet.
    pub fn place(&self, name: &LockName) -> Place {
        let id = crate::id::new_token();
        let waiting = self.wakes.listen(id.clone());
        Place { gate: self.clone(), line: self.keys.line(self.kind, name), id, waiting, told: AtomicBool::new(false) }
    }
}

impl Place {
    /// See [`Gate::pass`].
    pub async fn pass(self, until: Option<Instant>) -> Option<Place> {
        let mut pause = LOOKS.0;
        loop {
            let rank = match self.look(until.is_some()).await {
                Some(rank) => rank,
                None => return Some(self),
            };
            match usize::try_from(rank) {
                Ok(rank) if rank < self.gate.width => return Some(self),
                Ok(_) => {}
                Err(_) => return None,
            }
            let now = Instant::now();
            let left = until.and_then(|until| until.checked_duration_since(now))?;
            // Not all at once, so that those who wait do not look in step.
            let pause_now = pause.mul_f64(rand::rng().random_range(0.5..1.0)).min(left);
            tokio::select! {
                // dropped: a pause only
                () = tokio::time::sleep(pause_now) => {}
                // dropped: a wake-up is kept until it is heard
                () = self.waiting.woken() => {}
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Stands in line, or keeps the place there; for somebody who is inside already.
    pub async fn keep(&self) {
        let _ = self.look(true).await;
    }

    /// Whether Redis may know of it.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Stands in line, or looks how far it has moved: the number of those before us. `None`: Redis takes no part.
    async fn look(&self, joins: bool) -> Option<i64> {
        self.told.store(true, Ordering::Relaxed);
        let gate = &self.gate;
        let args = vec![
            Bytes::from(self.id.clone()),
            number(gate.width as i64),
            number(i64::from(joins)),
            number(millis(WAIT_FOR)),
            number(millis(INSIDE_FOR)),
        ];
        let reply = gate.link.run(&ENTER, self.line.to_vec(), args).await?;
        match reply.int() {
            Ok(rank) => Some(rank),
            Err(error) => {
                warn!(%error, "the gate of a lock answered strangely; going on over the database");
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_told() {
            return;
        }
        let gate = &self.gate;
        let args = vec![Bytes::from(self.id.clone()), number(gate.width as i64), Bytes::from(gate.keys.channel())];
        gate.link.tell(&LEAVE, self.line.to_vec(), args);
    }
}

pub(super) fn number(number: i64) -> Bytes {
    Bytes::from(number.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::redis::testing::{Server, raw, shown};

    fn gate(redis: &crate::redis::Redis, width: usize) -> Gate {
        let link = Link::new(redis.clone(), Duration::from_secs(2), "onetake:store".to_owned());
        Gate::new(Kind::Unit, width, link, Keys::new("onetake"), Wakes::default())
    }

    fn name() -> LockName {
        LockName::parse("a").unwrap()
    }

    fn far() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(30))
    }

    async fn inside(gate: &Gate, until: Option<Instant>) -> Option<Place> {
        gate.pass(&name(), until).await
    }

    async fn until_in_line(redis: &crate::redis::Redis, count: &str) {
        while shown(redis, &["ZCARD", "onetake:lock:{a}:unit:line"]).await != count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn those_of_several_servers_pass_in_the_order_in_which_they_came() {
        let server = Server::start();
        let (one, other) = (server.connect().await, server.connect().await);
        let gates = [gate(&one, 1), gate(&other, 1)];
        let first = inside(&gates[0], None).await.unwrap();
        assert!(inside(&gates[1], None).await.is_none(), "a try wants nobody there");
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for n in 0..6 {
            let (gate, told) = (gates[n % 2].clone(), told.clone());
            waiting.push(tokio::spawn(async move {
                let _place = inside(&gate, far()).await.unwrap();
                told.send(n).unwrap();
            }));
            until_in_line(&one, &(n + 2).to_string()).await;
        }
        // One goes away: its place is given up.
        waiting.remove(2).abort();
        until_in_line(&one, "6").await;
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        drop(told);
        let mut seen = Vec::new();
        while let Some(n) = order.recv().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 3, 4, 5]);
        until_in_line(&one, "0").await;
    }

    #[tokio::test]
    async fn a_place_whose_owner_is_silent_runs_out_and_readable_keys_say_who_stands_there() {
        let server = Server::start();
        let redis = server.connect().await;
        let gate = gate(&redis, 1);
        // What a process that was killed at the head leaves behind, nearly over; and one that was killed behind it.
        let now_ms: i64 = raw(&redis, &["TIME"]).await.items().unwrap()[0].int().unwrap() * 1000;
        for (id, number, until_ms) in [("head", "1", now_ms + 1500), ("behind", "2", now_ms + 1400)] {
            raw(&redis, &["ZADD", "onetake:lock:{a}:unit:line", number, id]).await;
            raw(&redis, &["ZADD", "onetake:lock:{a}:unit:alive", &until_ms.to_string(), id]).await;
        }
        assert!(inside(&gate, None).await.is_none());
        assert!(inside(&gate, Some(Instant::now() + Duration::from_millis(30))).await.is_none());
        let place = inside(&gate, far()).await.unwrap();
        assert_eq!(
            shown(&redis, &["ZRANGE", "onetake:lock:{a}:unit:line", "0", "-1"]).await,
            format!("[{}]", place.id)
        );
        drop(place);
        until_in_line(&redis, "0").await;
    }

    #[tokio::test]
    async fn as_many_pass_as_the_gate_is_wide_and_foreign_keys_block_nobody() {
        let server = Server::start();
        let redis = server.connect().await;
        let gate = gate(&redis, 2);
        let (one, two) = (inside(&gate, far()).await, inside(&gate, far()).await);
        assert!(one.is_some() && two.is_some());
        assert!(inside(&gate, Some(Instant::now() + Duration::from_millis(30))).await.is_none());
        // Keys that are of another type: the database decides alone.
        raw(&redis, &["DEL", "onetake:lock:{a}:unit:line"]).await;
        raw(&redis, &["SET", "onetake:lock:{a}:unit:line", "nonsense"]).await;
        assert!(inside(&gate, None).await.is_some());
    }
}
