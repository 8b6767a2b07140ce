//! Named points at which a test kills the process.
//!
//! Compiled in by the feature `faults` only. `ONETAKE_FAULT=accept.committed` kills the process (SIGKILL, as the kernel
//! would) when it first passes that point; `accept.committed:3` when it passes it for the third time.

/// Dies here if the test said so. Nothing without the feature.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Dies here if the test said so.
#[cfg(feature = "faults")]
pub fn point(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("ONETAKE_FAULT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        let nth = nth.parse().expect("ONETAKE_FAULT is NAME or NAME:COUNT");
        Some((name.to_owned(), AtomicU32::new(nth)))
    });
    if let Some((armed, left)) = &*ARMED
        && armed == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        std::thread::park();
    }
}

/// Every point on the walk of a request, for the matrix that goes through them.
pub const POINTS: &[&str] = &[
    "accept.claimed",
    "accept.committed",
    "publish.done",
    "run.taken",
    "run.claimed",
    "run.processed",
    "run.completed",
    "settle.mirrored",
    "settle.published",
    "deliver.leased",
    "deliver.sent",
    "deliver.marked",
    "follower.accepted",
    "follower.parked",
    "follower.finished",
];

/// Those at which a lease has changed hands in SQL, and nobody has been told.
pub const LOCK_POINTS: &[&str] = &["lease.granted", "lease.released"];

/// Those on the way of a scheduler's run, which no request passes.
pub const SCHEDULER_POINTS: &[&str] = &["schedule.taken", "schedule.made"];

/// Those on the way of a workload's verb, which no request for a result passes.
pub const WORKLOAD_POINTS: &[&str] =
    &["once.taken", "once.stored", "once.committed", "pickup.forgotten", "verb.answered"];
/// Those at which jobs were taken, ended or added for somebody outside, who has not been told.
pub const OUTSIDE_POINTS: &[&str] = &["claim.taken", "claim.ended", "flow.added"];

/// Those on the way of an order's payment and of an effect outside.
pub const ORDER_POINTS: &[&str] = &["order.paid", "saga.leased", "saga.called", "saga.settled"];
