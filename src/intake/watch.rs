//! Looking at a request, and waiting for it to end.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{Error, Intake};
use crate::flight::{Outcome, RequestRow, RunState};
use crate::publish::leader_id;

/// Waiting readers look into SQL again after this long, even if nothing woke them.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A request as its asker is shown it.
#[derive(Clone, Debug)]
pub struct RequestView {
    pub row: RequestRow,
    pub state: RequestState,
    /// How many jobs are served before its run: 0 is the next.
    pub position: Option<i64>,
    /// JSON.
    pub progress: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    Waiting,
    Running,
    Ready,
    Failed,
    Cancelled,
    Left,
}

impl RequestState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Left => "left",
        }
    }

    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    pub fn of(row: &RequestRow) -> Self {
        match (&row.outcome, row.has_left) {
            (_, true) => Self::Left,
            (Some(Outcome::Succeeded(_)), _) => Self::Ready,
            (Some(Outcome::Failed(_)), _) => Self::Failed,
            (Some(Outcome::Cancelled(_)), _) => Self::Cancelled,
            (None, _) if row.run_state == RunState::Running => Self::Running,
            (None, _) => Self::Waiting,
        }
    }
}

impl Intake {
    /// A request as it is now. Position and progress come from Redis, and are left out while it is away.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn request(&self, id: &str) -> Result<Option<RequestView>, Error> {
        let Some(row) = self.flights.request(id).await? else { return Ok(None) };
        Ok(Some(self.view(row).await))
    }

    /// A row with what Redis adds to it.
    pub async fn view(&self, row: RequestRow) -> RequestView {
        let state = RequestState::of(&row);
        let mut view = RequestView { row, state, position: None, progress: None };
        match state {
            RequestState::Waiting => {
                let leader = leader_id(&view.row.flight, view.row.generation, view.row.attempt + 1);
                if let Some(queue) = self.publisher.queues().get(&view.row.queue) {
                    view.position = queue.position(&leader).await.ok().flatten().and_then(|n| i64::try_from(n).ok());
                }
            }
            RequestState::Running => {
                let progress = self.dedupe.field(&view.row.scope, &view.row.key, "progress").await;
                view.progress = progress.ok().flatten().and_then(|json| RawValue::from_string(json).ok());
            }
            _ => {}
        }
        view
    }

    /// A request once it has ended, or as it is after `longest`.
    ///
    /// # Errors
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    /// Only reads.
    pub async fn wait(&self, id: &str, longest: Duration) -> Result<Option<RequestView>, Error> {
        let deadline = tokio::time::Instant::now() + longest;
        let Some(first) = self.flights.request(id).await? else { return Ok(None) };
        // Listen before looking: what happens in between is then not missed.
        let mut wakes = self.wakes.listen(&first.flight);
        loop {
            let Some(view) = self.request(id).await? else { return Ok(None) };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if view.state.is_final() || left.is_zero() {
                return Ok(Some(view));
            }
            // A wake-up, a lost wake-up and a timeout are all the same: look again.
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), wakes.recv()).await;
        }
    }

    /// The next view of a request that differs from `seen`, by the text that `describe` makes of it.
    ///
    /// # Errors
    /// [`Error::Store`].
    ///
    /// # Cancel safety
    /// Only reads.
    pub async fn next_change<D>(
        &self,
        id: &str,
        seen: Option<&str>,
        describe: D,
    ) -> Result<Option<(RequestView, String)>, Error>
    where
        D: Fn(&RequestView) -> String,
    {
        let Some(first) = self.flights.request(id).await? else { return Ok(None) };
        let mut wakes = self.wakes.listen(&first.flight);
        loop {
            let Some(view) = self.request(id).await? else { return Ok(None) };
            let description = describe(&view);
            if seen != Some(description.as_str()) {
                return Ok(Some((view, description)));
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, wakes.recv()).await;
        }
    }
}
