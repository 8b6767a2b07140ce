//! Ready answers of the last second, in this process's memory, for askers who only poll.
//!
//! Most keys are asked for rarely, and to remember those costs more than it saves: an answer is kept when its key is
//! asked for twice in one second (TinyLFU's doorkeeper, a Bloom filter, begun anew each second).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;

use crate::clock::Millis;

const KEPT_FOR: Duration = Duration::from_secs(1);
const MOST: u64 = 10_000;
/// Bits of the filter, in words of 64: with 20,000 keys in a second every sixth is let in on its first visit.
const WORDS: usize = 2_048;

/// A ready answer.
#[derive(Debug)]
pub(super) struct Ready {
    pub flight: String,
    pub generation: i64,
    pub result: Bytes,
    pub made_at_ms: Millis,
}

/// The answers by scope and key. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hot {
    answers: Cache<Box<str>, Arc<Ready>>,
    door: Arc<Door>,
}

/// Which keys were asked for in this second.
struct Door {
    hasher: RandomState,
    second: AtomicI64,
    words: Vec<AtomicU64>,
}

/// What a key is called here.
pub(super) struct Name(Box<str>);

impl Name {
    pub fn of(scope: &str, key: &str) -> Self {
        // A scope is the name of a queue, which holds no blank.
        Self(format!("{scope} {key}").into())
    }
}

impl Hot {
    pub fn new() -> Self {
        let answers =
            Cache::builder().max_capacity(MOST).time_to_live(KEPT_FOR).support_invalidation_closures().build();
        let words = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { answers, door: Arc::new(Door { hasher: RandomState::new(), second: AtomicI64::new(0), words }) }
    }

    pub fn get(&self, name: &Name) -> Option<Arc<Ready>> {
        self.answers.get(&name.0)
    }

    /// Keeps an answer, if its key comes again.
    pub fn offer(&self, name: Name, ready: &Arc<Ready>, now_ms: Millis) {
        if self.door.has_seen(&name.0, now_ms / 1000) {
            self.answers.insert(name.0, ready.clone());
        }
    }

    /// A flight changed: what is remembered of it is old.
    pub fn forget(&self, flight: &str) {
        let flight = flight.to_owned();
        // Few entries live here for a second; looking through them is cheaper than a second index.
        let _ = self.answers.invalidate_entries_if(move |_, ready| ready.flight == flight);
    }
}

impl Door {
    /// Whether the key came in this second; it has from now on. A wrong guess costs an entry or a look, no more.
    fn has_seen(&self, name: &str, second: i64) -> bool {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        let hash = self.hasher.hash_one(name);
        let bit = 1 << (hash % 64);
        let word = usize::try_from(hash / 64 % WORDS as u64).expect("the words are few");
        self.words[word].fetch_or(bit, Ordering::Relaxed) & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(flight: &str) -> Arc<Ready> {
        Arc::new(Ready { flight: flight.into(), generation: 1, result: Bytes::from_static(b"1"), made_at_ms: 0 })
    }

    #[test]
    fn an_answer_is_kept_when_its_key_comes_twice_in_a_second() {
        let hot = Hot::new();
        let name = || Name::of("video", r#"["anna"]"#);
        hot.offer(name(), &ready("f"), 1_000);
        hot.offer(name(), &ready("f"), 2_000);
        assert!(hot.get(&name()).is_none(), "once in each of two seconds is rare");
        hot.offer(name(), &ready("f"), 2_999);
        assert_eq!(hot.get(&name()).map(|ready| ready.generation), Some(1));
        assert!(hot.get(&Name::of("video", r#"["ivan"]"#)).is_none());
    }

    #[test]
    fn a_flight_that_changed_is_forgotten() {
        let hot = Hot::new();
        for flight in ["a", "b"] {
            let name = || Name::of("video", flight);
            hot.offer(name(), &ready(flight), 1_000);
            hot.offer(name(), &ready(flight), 1_000);
        }
        hot.forget("a");
        assert!(hot.get(&Name::of("video", "a")).is_none());
        assert!(hot.get(&Name::of("video", "b")).is_some());
    }
}
