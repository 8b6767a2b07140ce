//! Bounded waiting for what another process does. Nothing here sleeps for a fixed time and hopes.

use std::time::{Duration, Instant};

/// How long a start, a stop or a first answer may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Looks again and again until `look` sees something, and returns that.
///
/// # Panics
/// After `patience`, with `what` in the message: "waited 30s in vain for {what}".
pub async fn until<T, Look, Seen>(what: &str, patience: Duration, mut look: Look) -> T
where
    Look: FnMut() -> Seen,
    Seen: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// [`until`] for a plain condition.
pub async fn until_true<Look, Seen>(what: &str, patience: Duration, mut look: Look)
where
    Look: FnMut() -> Seen,
    Seen: Future<Output = bool>,
{
    until(what, patience, || {
        let seen = look();
        async { seen.await.then_some(()) }
    })
    .await;
}
