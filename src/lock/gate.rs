//! The gate: a line in Redis between the servers, so that few of them at a time stand at the database for one name.
//!
//! It only says no or not yet. Who passes has nothing: the database decides. So a place that ran out while its owner was
//! paused, a wiped Redis, or one that answers some servers only, lets more through than meant, and harms nothing else.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use tracing::warn;

use super::keys::Keys;
use super::link::Link;
use super::name::{Kind, LockName};
use super::wake::Wakes;
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

/// How an attempt to pass ended.
pub(super) enum Passage {
    /// At the head of the line; or Redis takes no part, and there is no line.
    Open(Place),
    /// Somebody else is there, or was until the deadline.
    Busy,
}

/// A place in line. Dropped: left, as far as Redis can be told; else it runs out by itself.
pub(super) struct Place {
    gate: Gate,
    line: [String; 2],
    id: String,
}

impl Gate {
    pub fn new(kind: Kind, width: usize, link: Link, keys: Keys, wakes: Wakes) -> Self {
        Self { kind, width: width.max(1), link, keys, wakes }
    }

    /// Stands in line until its turn comes, or until `until`. Without an `until`, passes only if nobody is there.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub async fn pass(&self, name: &LockName, until: Option<Instant>) -> Passage {
        let id = crate::id::new_token();
        let waiting = self.wakes.listen(id.clone());
        let place = Place { gate: self.clone(), line: self.keys.line(self.kind, name), id };
        let mut pause = LOOKS.0;
        loop {
            let rank = match place.look(until.is_some()).await {
                Some(rank) => rank,
                None => return Passage::Open(place),
            };
            match usize::try_from(rank) {
                Ok(rank) if rank < self.width => return Passage::Open(place),
                Ok(_) => {}
                Err(_) => return Passage::Busy,
            }
            let now = Instant::now();
            let Some(left) = until.and_then(|until| until.checked_duration_since(now)) else { return Passage::Busy };
            // Not all at once, so that those who wait do not look in step.
            let pause_now = pause.mul_f64(rand::rng().random_range(0.5..1.0)).min(left);
            tokio::select! {
                // dropped: a pause only
                () = tokio::time::sleep(pause_now) => {}
                // dropped: a wake-up is kept until it is heard
                () = waiting.woken() => {}
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }
}

impl Place {
    /// Keeps the place, for somebody who stays at the head for longer.
    pub async fn keep(&self) {
        let _ = self.look(true).await;
    }

    /// Stands in line, or looks how far it has moved: the number of those before us. `None`: Redis takes no part.
    async fn look(&self, joins: bool) -> Option<i64> {
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
        let gate = &self.gate;
        let args = vec![Bytes::from(self.id.clone()), number(gate.width as i64), Bytes::from(gate.keys.channel())];
        gate.link.tell(&LEAVE, self.line.to_vec(), args);
    }
}

pub(super) fn number(number: i64) -> Bytes {
    Bytes::from(number.to_string())
}
