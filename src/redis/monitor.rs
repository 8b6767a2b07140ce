//! Whether Redis is there: a ping every half second decides, not the state of a socket.
//!
//! A stopped process (SIGSTOP) keeps its connections open and a killed one may come back as another; only an answer
//! proves that there is somebody.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Options;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(500);
/// Long enough for a fork of a big server, short enough that a request notices.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// After so many pings in a row without an answer, a connection that looks sound is given up for another.
const DEAF: u32 = 5;

/// Starts the task; it ends with `stop` or when nobody looks any more.
pub(super) fn start(client: Client, stop: CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let options = Options { fail_fast: true, max_attempts: Some(1), timeout: Some(PATIENCE), ..Options::default() };
        let pings = client.with_options(&options);
        let (mut wait, mut unanswered) = (Duration::ZERO, 0);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let answer = tokio::time::timeout(PATIENCE * 2, pings.ping::<String>(None)).await;
            let up = matches!(answer, Ok(Ok(_)));
            let changed = sender.send_if_modified(|was| std::mem::replace(was, up) != up);
            match (changed, up) {
                (true, true) => tracing::info!("redis answers"),
                (true, false) => tracing::warn!("redis does not answer"),
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
