//! Delivery to a Node job that waits as a follower: it ends with the run's value, or with its reason.

use std::time::Duration;

use serde_json::Value;

use crate::clock::Millis;
use crate::fault;
use crate::flight::{DeliveryLease, Verdict};
use crate::intake::{parked_end, parked_mark};
use crate::publish::Publisher;
use crate::queue::ParkedOutcome;

/// A job that is not parked yet is about to be: its runner has promised it. If that died, another takes the job again.
const NOT_PARKED: Duration = Duration::from_millis(200);
const REDIS_AWAY: Duration = Duration::from_secs(1);

/// Ends the waiting job, unless it is another's by now: then nobody waits, and the delivery is suppressed.
pub async fn end(lease: &DeliveryLease, publisher: &Publisher, now_ms: Millis) -> Verdict {
    let target: Value = serde_json::from_str(&lease.target).unwrap_or_default();
    let (queue, job) = (target["queue"].as_str().unwrap_or_default(), target["job"].as_str().unwrap_or_default());
    let Some(queue) = publisher.queues().get(queue) else {
        return Verdict::Suppressed { reason: "the queue is not served any more".into() };
    };
    let timestamp = target["timestamp"].as_i64().unwrap_or_default();
    let mark = parked_mark(&lease.flight, lease.generation);
    let end = parked_end(job.to_owned(), timestamp, mark, &lease.outcome);
    let again = |after, reason: &str| Verdict::Again {
        after,
        reason: reason.to_owned(),
        counts: false,
        ambiguous: false,
        slot: false,
    };
    let outcome = queue.finish_parked(&[end], now_ms).await;
    fault::point("follower.finished");
    match outcome.as_deref() {
        Ok([ParkedOutcome::Finished | ParkedOutcome::AlreadyFinished]) => {
            Verdict::Delivered { receipt: job.to_owned() }
        }
        Ok([ParkedOutcome::NotParked]) => again(NOT_PARKED, ""),
        Ok(_) => Verdict::Suppressed { reason: "the job is gone".into() },
        Err(_) => again(REDIS_AWAY, ""),
    }
}
