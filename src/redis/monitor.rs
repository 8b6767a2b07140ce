//! Whether Redis is there: a ping every half second decides, not the state of a socket.
//!
//! A stopped process (SIGSTOP) keeps its connections open and a killed one may come back as another; only an answer
//! proves that there is somebody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::Options;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::client::OPTIONS;

const INTERVAL: Duration = Duration::from_millis(500);
/// Long enough for a fork of a big server, short enough that a request notices.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// After so many pings in a row without an answer, a connection that looks sound is given up for another.
const DEAF: u32 = 5;

/// What went wrong last with the connection, for whoever finds Redis away: a wrong password looks like a dead server
/// otherwise.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    pub(super) fn explain(&self, what: impl Into<String>) -> String {
        let what = what.into();
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(trouble) => format!("{what}: {trouble}"),
            None => what,
        }
    }

    pub(super) fn set(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Starts the task; it ends with `stop` or when nobody looks any more.
pub(super) fn start(client: Client, trouble: Trouble, stop: CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(take_down(client.clone(), trouble.clone(), stop.clone()));
    tokio::spawn(async move {
        let pings = client.with_options(&Options { timeout: Some(PATIENCE), ..OPTIONS });
        let (mut wait, mut unanswered) = (Duration::ZERO, 0);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let answer = tokio::time::timeout(PATIENCE * 2, pings.ping::<String>(None)).await;
            let up = match answer {
                Ok(Ok(_)) => true,
                // Somebody answered, who may not be asked: what else may not be is found out and told at the start.
                Ok(Err(error)) => matches!(Error::from(error), Error::Refused { .. }),
                Err(_) => false,
            };
            if up {
                trouble.set(None);
            }
            let changed = sender.send_if_modified(|was| std::mem::replace(was, up) != up);
            match (changed, up) {
                (true, true) => tracing::info!("redis answers"),
                (true, false) => tracing::warn!("{}", trouble.explain("redis does not answer")),
                _ => {}
            }
            unanswered = if up { 0 } else { unanswered + 1 };
            // Something in between may have lost an answer and kept the connection. fred would keep it, too: as long as
            // pings are written, it does not count as unresponsive.
            if unanswered >= DEAF && client.is_connected() {
                tracing::warn!("redis does not answer on this connection: making another");
                let _ = tokio::time::timeout(PATIENCE * 2, client.force_reconnection()).await;
                unanswered = 0;
            }
            // Before the first answer somebody is waiting to start.
            wait = if up { INTERVAL } else { INTERVAL / 10 };
        }
    });
    receiver
}

/// Notes the errors of the connection, until stopped.
async fn take_down(client: Client, trouble: Trouble, stop: CancellationToken) {
    let mut errors = client.error_rx();
    loop {
        let error = tokio::select! {
            error = errors.recv() => error,
            () = stop.cancelled() => return,
        };
        match error {
            Ok((error, _)) => trouble.set(Some(error.to_string())),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
