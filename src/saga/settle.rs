//! Writing down what became of a call: the saga's row and the domain's change, in one unit of work under the lease's token.

use std::sync::Arc;

use metrics::counter;
use tracing::{debug, error, warn};

use super::decide::Next;
use super::{Effect, Leased, Saga, Sagas, note};
use crate::clock::millis;
use crate::store::{Error, Tx, query};

impl Sagas {
    /// False: the lease was lost meanwhile, and nothing was changed.
    pub(super) async fn settle(&self, leased: &Leased, effect: &Arc<dyn Effect>, next: Next) -> Result<bool, Error> {
        let (work, told) = ((leased.saga.clone(), leased.token.clone(), effect.clone(), next.clone()), &leased.saga);
        let is_settled = self
            .store
            .unit_of_work::<_, Error, _>("saga.settle", move |tx| {
                let (saga, token, effect, next) = work.clone();
                Box::pin(async move {
                    let lock = "-- saga.settle.lock
                        select id from sagas where id = $1 and lease_token = $2 {for update}";
                    let held = tx.fetch_optional(query(lock).bind(saga.id.as_str()).bind(token)).await?;
                    if held.is_none() {
                        return Ok(false);
                    }
                    write(tx, &saga, &*effect, &next, "worker").await?;
                    Ok(true)
                })
            })
            .await?;
        if is_settled {
            tell(told, &next);
        }
        Ok(is_settled)
    }
}

/// The domain's change and the saga's, whose row is locked.
pub(super) async fn write(
    tx: &mut Tx,
    saga: &Saga,
    effect: &dyn Effect,
    next: &Next,
    actor: &str,
) -> Result<(), Error> {
    let (state, after, receipt, reason) = match next {
        Next::Confirm { receipt } => {
            effect.confirm(tx, saga, receipt).await?;
            ("confirmed", None, Some(receipt.clone()), None)
        }
        Next::Compensate { reason } => {
            effect.compensate(tx, saga, reason).await?;
            ("compensated", None, None, Some(reason.clone()))
        }
        Next::Call { after, reason } => ("due", Some(*after), None, Some(reason.clone())),
        Next::Ask { after, reason } => ("unknown", Some(*after), None, Some(reason.clone())),
        Next::Park { reason } => ("parked", None, None, Some(reason.clone())),
    };
    tx.execute(
        query(
            "-- saga.settle
            update sagas set state = $2, next_at_ms = {now} + $3, receipt = $4, error = $5, lease_token = null,
              lease_until_ms = null, touched_at_ms = {now}
            where id = $1",
        )
        .bind(saga.id.as_str())
        .bind(state)
        .bind(after.map_or(0, millis))
        .bind(receipt.clone())
        .bind(reason.clone()),
    )
    .await?;
    note(tx, &saga.id, actor, state, receipt.or(reason)).await
}

/// After the commit: in the log and in the metrics, by the saga's name.
pub(super) fn tell(saga: &Saga, next: &Next) {
    let Saga { id, name, subject, .. } = saga;
    let outcome = match next {
        Next::Confirm { .. } => {
            debug!(saga = %id, subject, "{name} {id} is confirmed");
            "confirmed"
        }
        Next::Compensate { reason } => {
            warn!(saga = %id, subject, reason, "{name} {id} was not performed, and is compensated");
            "compensated"
        }
        Next::Call { reason, .. } => {
            debug!(saga = %id, subject, reason, "{name} {id} is tried again");
            "again"
        }
        Next::Ask { reason, .. } => {
            warn!(saga = %id, subject, reason, "nobody knows whether {name} {id} was performed: asking");
            "unknown"
        }
        Next::Park { reason } => {
            error!(saga = %id, subject, reason, "{name} {id} is parked: look at the other side, then `onetake saga resolve`");
            "parked"
        }
    };
    counter!("onetake_saga_steps_total", "name" => name.clone(), "outcome" => outcome).increment(1);
}
