//! The line inside this process: per name a few pass at a time, first come, first served.
//!
//! It keeps a crowd that wants one name away from Redis and from the connections of the database, whatever the state of
//! Redis. Who leaves may hand what it stands on (an open transaction that has the lock) to the next in line.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::oneshot;

/// The lines of one kind of lock; `T` is what can be handed on. Cheap to clone.
pub(super) struct Lines<T> {
    width: usize,
    known: Arc<Mutex<HashMap<String, Line<T>>>>,
}

struct Line<T> {
    inside: usize,
    waiting: VecDeque<Waiter<T>>,
}

struct Waiter<T> {
    takes_over: bool,
    told: oneshot::Sender<Turn<T>>,
}

/// A place at the head. Dropped: the next one's turn.
pub(super) struct Turn<T> {
    lines: Lines<T>,
    name: String,
    /// What the one before has handed on.
    pub handed: Option<T>,
    /// Nobody was there before us.
    pub came_alone: bool,
    is_over: bool,
}

/// A place further behind. Dropped: given up.
struct Place<T> {
    lines: Lines<T>,
    name: String,
    told: Option<oneshot::Receiver<Turn<T>>>,
}

impl<T> Clone for Lines<T> {
    fn clone(&self) -> Self {
        Self { width: self.width, known: self.known.clone() }
    }
}

impl<T> Lines<T> {
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1), known: Arc::default() }
    }

    /// Waits for its turn; `None` if it did not come before `until`. Without an `until`, `None` if anybody is there.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place up.
    pub async fn turn(&self, name: &str, until: Option<Instant>, takes_over: bool) -> Option<Turn<T>> {
        let mut place = Place { lines: self.clone(), name: name.to_owned(), told: None };
        {
            let mut known = self.known.lock().expect("no user panics inside");
            let line = known.entry(name.to_owned()).or_default();
            let came_alone = line.inside == 0;
            if line.inside < self.width && (came_alone || until.is_some()) {
                line.inside += 1;
                return Some(Turn {
                    lines: self.clone(),
                    name: name.to_owned(),
                    handed: None,
                    came_alone,
                    is_over: false,
                });
            }
            until?;
            let (told, is_told) = oneshot::channel();
            line.waiting.push_back(Waiter { takes_over, told });
            place.told = Some(is_told);
        }
        let told = place.told.as_mut()?;
        let turn = tokio::time::timeout_at(until?.into(), told).await.ok()?.ok()?;
        place.told = None;
        Some(turn)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.known.lock().expect("no user panics inside").len()
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { inside: 0, waiting: VecDeque::new() }
    }
}

impl<T> Turn<T> {
    /// Whether somebody waits who would take over.
    pub fn has_heir(&self) -> bool {
        let known = self.lines.known.lock().expect("no user panics inside");
        let next = known.get(&self.name).and_then(|line| line.waiting.iter().find(|next| !next.told.is_closed()));
        next.is_some_and(|next| next.takes_over)
    }

    /// Lets the next one in, with what it takes over.
    pub fn hand_on(mut self, what: T) {
        self.handed = Some(what);
    }

    /// Who comes next; nobody: the place is given up.
    fn next(&self) -> Option<Waiter<T>> {
        let mut known = self.lines.known.lock().expect("no user panics inside");
        let line = known.get_mut(&self.name)?;
        let next = line.waiting.pop_front();
        if next.is_none() {
            line.inside -= 1;
            if line.inside == 0 {
                known.remove(&self.name);
            }
        }
        next
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut turn = Self {
            lines: self.lines.clone(),
            name: std::mem::take(&mut self.name),
            handed: self.handed.take(),
            came_alone: false,
            is_over: false,
        };
        while let Some(next) = turn.next() {
            if !next.takes_over {
                turn.handed = None;
            }
            // Whoever went away meanwhile gives it back.
            match next.told.send(turn) {
                Ok(()) => return,
                Err(back) => turn = back,
            }
        }
        turn.is_over = true;
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        // A turn that has come just now goes on to the next.
        let Some(told) = self.told.take() else { return };
        drop(told);
        let mut known = self.lines.known.lock().expect("no user panics inside");
        if let Some(line) = known.get_mut(&self.name) {
            line.waiting.retain(|next| !next.told.is_closed());
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
        let lines = Lines::<&str>::new(2);
        let one = lines.turn("a", None, true).await.unwrap();
        assert!(lines.turn("a", None, true).await.is_none(), "a try wants nobody there");
        let two = lines.turn("a", soon(), true).await.unwrap();
        assert!(lines.turn("a", soon(), true).await.is_none());
        assert!(lines.turn("b", None, true).await.is_some());
        drop(one);
        assert!(lines.turn("a", soon(), true).await.is_some());
        drop(two);
        assert_eq!(lines.count(), 0, "a line without anybody is forgotten");
    }

    #[tokio::test]
    async fn first_come_first_served_and_who_leaves_gives_its_place_up() {
        let lines = Lines::<&str>::new(1);
        let held = lines.turn("a", None, true).await.unwrap();
        let far = Some(Instant::now() + Duration::from_secs(30));
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for n in 0..4 {
            let (lines, told) = (lines.clone(), told.clone());
            let task = tokio::spawn(async move {
                let _turn = lines.turn("a", far, true).await.unwrap();
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

    #[tokio::test]
    async fn what_is_handed_on_reaches_the_next_who_takes_it_and_nobody_else() {
        let lines = Lines::<&str>::new(1);
        let far = Some(Instant::now() + Duration::from_secs(30));
        let held = lines.turn("a", far, true).await.unwrap();
        assert!(held.came_alone && !held.has_heir());
        let mut waiting = Vec::new();
        for takes_over in [true, true, false] {
            let lines = lines.clone();
            waiting.push(tokio::spawn(async move { lines.turn("a", far, takes_over).await.unwrap() }));
            tokio::task::yield_now().await;
        }
        let (other, heir, gone) = (waiting.remove(2), waiting.remove(1), waiting.remove(0));
        assert!(held.has_heir());
        // It goes away in the same moment in which its turn comes.
        gone.abort();
        held.hand_on("lock");
        let heir = heir.await.unwrap();
        assert_eq!((heir.handed, heir.came_alone), (Some("lock"), false));
        assert!(!heir.has_heir(), "the next one needs more than this lock");
        heir.hand_on("lock");
        let other = other.await.unwrap();
        assert_eq!(other.handed, None);
        drop(other);
        assert_eq!(lines.count(), 0);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_hears_of_goes_on() {
        let lines = Lines::<&str>::new(1);
        let held = lines.turn("a", None, true).await.unwrap();
        let mut places: Vec<_> = (0..3).map(|_| Box::pin(lines.turn("a", soon(), true))).collect();
        for place in &mut places {
            assert!(futures::poll!(place.as_mut()).is_pending());
        }
        held.hand_on("lock");
        // Told, and never looked: given on with what was handed on.
        drop(places.remove(0));
        let turn = places.remove(0).await.unwrap();
        assert_eq!(turn.handed, Some("lock"));
        drop(places);
        drop(turn);
        assert_eq!(lines.count(), 0, "whoever gave up is forgotten");
    }
}
