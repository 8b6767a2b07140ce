//! Waking those who wait for a lock in this process. A wake-up is a hint: whoever waits looks again by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Who waits for which word in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Wakes {
    waiting: Arc<Mutex<HashMap<String, Vec<Arc<Notify>>>>>,
}

/// One who waits; gone when dropped.
pub(super) struct Waiting {
    wakes: Wakes,
    word: String,
    notify: Arc<Notify>,
}

impl Wakes {
    /// Listens for `word` from now on: what is told before [`Waiting::woken`] is called is not missed.
    pub fn listen(&self, word: String) -> Waiting {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock().expect("no user panics inside");
        waiting.entry(word.clone()).or_default().push(notify.clone());
        Waiting { wakes: self.clone(), word, notify }
    }

    /// Wakes all who listen for `word`.
    pub fn tell(&self, word: &str) {
        if let Some(waiting) = self.waiting.lock().expect("no user panics inside").get(word) {
            for notify in waiting {
                notify.notify_one();
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.waiting.lock().expect("no user panics inside").len()
    }
}

impl Waiting {
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.wakes.waiting.lock().expect("no user panics inside");
        if let Some(listed) = waiting.get_mut(&self.word) {
            listed.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
            if listed.is_empty() {
                waiting.remove(&self.word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_not_missed_and_nothing_is_left_behind() {
        let wakes = Wakes::default();
        let (one, other) = (wakes.listen("a".into()), wakes.listen("a".into()));
        wakes.tell("b");
        wakes.tell("a");
        tokio::join!(one.woken(), other.woken());
        drop(one);
        assert_eq!(wakes.count(), 1);
        drop(other);
        assert_eq!(wakes.count(), 0);
    }
}
