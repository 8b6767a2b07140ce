//! The line in front of the database's connections: whoever waits for one waits here, in the order of coming.
//!
//! The pool's own patience (two seconds) is for connections that cannot be made. It would run out as well for somebody who
//! only stands behind many others, and a database that is busy would be told to be away. So as many are let through as
//! there are connections; and when one of them finds the database away, all who stand in line are told at once, instead of
//! each finding out in turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Error;

/// Longer than any line that moves.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Line {
    turns: Arc<Semaphore>,
    /// Counts how often the database was found away.
    away: watch::Sender<u64>,
}

/// A turn, to be kept as long as the connection.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Line {
    pub fn new(connections: u32) -> Self {
        Self { turns: Arc::new(Semaphore::new(connections as usize)), away: watch::channel(0).0 }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the database was found away meanwhile, or the line does not move.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the line.
    pub async fn turn(&self) -> Result<Turn, Error> {
        let mut away = self.away.subscribe();
        let permit = tokio::select! {
            biased;
            permit = self.turns.clone().acquire_owned() => permit.map_err(|_| sqlx::Error::PoolClosed)?,
            // Dropped: the place in line.
            _ = away.changed() => return Err(sqlx::Error::PoolTimedOut.into()),
            () = tokio::time::sleep(PATIENCE) => return Err(sqlx::Error::PoolTimedOut.into()),
        };
        Ok(Turn { _permit: permit })
    }

    /// Passes on what the pool said to one whose turn it is; that the database is away, to all in line.
    pub fn told<T>(&self, connected: Result<T, sqlx::Error>) -> Result<T, Error> {
        let connected = connected.map_err(Error::from);
        if connected.as_ref().is_err_and(Error::is_unreachable) {
            self.away.send_modify(|times| *times += 1);
        }
        connected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_moves_and_all_in_it_hear_that_the_database_is_away() {
        let line = Arc::new(Line::new(1));
        let first = line.turn().await.expect("nobody is before us");
        let next = tokio::spawn({
            let line = line.clone();
            async move { line.turn().await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(first);
        next.await.unwrap().expect("the first has gone");

        let held = line.turn().await.expect("nobody is before us");
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move { line.turn().await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(line.told::<()>(Err(sqlx::Error::PoolTimedOut)).is_err());
        for waiter in waiting {
            assert!(waiter.await.unwrap().is_err_and(|error| error.is_unreachable()));
        }
        drop(held);
        line.turn().await.expect("who comes later tries anew");
    }
}
