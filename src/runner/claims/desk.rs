//! Where claims wait for a queue: one watch of its marker, and the line in front of it.

use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use crate::queue::Queue;
use crate::redis::MarkerWatch;

/// The name by which BullMQ's `getWorkers()` shows that claims are waiting.
const WORKER: &str = "onetake-claims";

/// It lives as long as somebody waits.
pub(super) struct Desk {
    /// Served in the order in which they came, as tokio's mutex is fair. There until the desk is dropped.
    watch: Mutex<Option<MarkerWatch>>,
}

impl Desk {
    pub fn new(queue: &Queue) -> Self {
        Self { watch: Mutex::new(Some(queue.watch(WORKER))) }
    }

    /// Waits for everybody who came before.
    pub async fn turn(&self) -> Turn<'_> {
        Turn(self.watch.lock().await)
    }
}

/// The first place in the line.
pub(super) struct Turn<'a>(MutexGuard<'a, Option<MarkerWatch>>);

impl Turn<'_> {
    fn watch(&mut self) -> &mut MarkerWatch {
        self.0.as_mut().expect("the watch is taken only when the desk is dropped")
    }

    pub fn arm(&mut self, timeout: std::time::Duration) {
        self.watch().arm(timeout);
    }

    /// # Cancel safety
    /// As [`MarkerWatch::wait`].
    pub async fn wait(&mut self) {
        // Whatever it was, the next take tells what there is; also that Redis went away.
        self.watch().wait().await;
    }
}

impl Drop for Desk {
    /// The last one left: other workers must not wait for a marker that this watch would take away from them.
    fn drop(&mut self) {
        if let (Some(watch), Ok(runtime)) = (self.watch.get_mut().take(), Handle::try_current()) {
            runtime.spawn(watch.stop());
        }
    }
}
