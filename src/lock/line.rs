//! The line inside this process: per name a few pass at a time, first come, first served.
//!
//! It keeps a crowd that wants one name away from Redis and from the connections of the database, whatever the state of
//! Redis; who passes here goes on to the line between the servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lines of one kind of lock. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    width: usize,
    known: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// A place at the head. Dropped: the next one's turn.
pub(super) struct Turn {
    lines: Lines,
    name: String,
    /// Taken out at the drop, before the line is looked at.
    permit: Option<OwnedSemaphorePermit>,
}

impl Lines {
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), known: Arc::default() }
    }

    /// Waits for its turn; `None` if it did not come before `until`. Without an `until`, `None` if anybody is there.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place up.
    pub async fn turn(&self, name: &str, until: Option<Instant>) -> Option<Turn> {
        let line = {
            let mut known = self.known.lock().expect("no user panics inside");
            known.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.width))).clone()
        };
        // From here on the line is tidied up, also if this future is dropped while it waits.
        let mut turn = Turn { lines: self.clone(), name: name.to_owned(), permit: None };
        let permit = match until {
            None if line.available_permits() < self.width => {
                // Given back before the line is tidied up.
                drop(line);
                None
            }
            None => line.try_acquire_owned().ok(),
            Some(until) => match tokio::time::timeout_at(until.into(), line.acquire_owned()).await {
                Ok(permit) => permit.ok(),
                Err(_) => None,
            },
        };
        turn.permit = Some(permit?);
        Some(turn)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.known.lock().expect("no user panics inside").len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut known = self.lines.known.lock().expect("no user panics inside");
        self.permit = None;
        // Whoever waits or holds has a handle of its own. New ones come through the map, which is locked.
        if known.get(&self.name).is_some_and(|line| Arc::strong_count(line) == 1) {
            known.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[tokio::test]
    async fn so_many_pass_and_the_rest_wait_until_their_deadline() {
        let lines = Lines::new(2);
        let one = lines.turn("a", None).await.unwrap();
        assert!(lines.turn("a", None).await.is_none(), "a try wants nobody there");
        let two = lines.turn("a", soon()).await.unwrap();
        assert!(lines.turn("a", soon()).await.is_none());
        assert!(lines.turn("b", None).await.is_some());
        drop(one);
        assert!(lines.turn("a", soon()).await.is_some());
        drop(two);
        assert_eq!(lines.count(), 0, "a line without anybody is forgotten");
    }

    #[tokio::test]
    async fn first_come_first_served_and_who_leaves_gives_its_place_up() {
        let lines = Lines::new(1);
        let held = lines.turn("a", None).await.unwrap();
        let far = Some(Instant::now() + Duration::from_secs(30));
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for n in 0..4 {
            let (lines, told) = (lines.clone(), told.clone());
            let task = tokio::spawn(async move {
                let _turn = lines.turn("a", far).await.unwrap();
                told.send(n).unwrap();
            });
            // On this one thread a spawned task runs when we yield: each stands in line before the next is made.
            tokio::task::yield_now().await;
            waiting.push(task);
        }
        waiting.remove(1).abort();
        drop(held);
        for task in waiting {
            task.await.unwrap();
        }
        drop(told);
        let mut seen = Vec::new();
        while let Some(n) = order.recv().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 2, 3]);
        assert_eq!(lines.count(), 0);
    }
}
