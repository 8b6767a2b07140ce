//! `Idempotency-Key` of a wish: its answer is stored in the transaction that accepts it, with those of its batch.

use std::sync::Arc;

use super::accept::{Accepted, Answer, Ask};
use crate::idempotency::{self, Before, Key, StoredAnswer};
use crate::store::{Error, Tx};

/// The `Idempotency-Key` of a write.
#[derive(Clone)]
pub struct Idempotency {
    pub key: Key,
    /// Writes the answer down as it will be sent.
    pub render: Arc<dyn Fn(&Accepted) -> StoredAnswer + Send + Sync>,
}

/// The answers that were given before, by `Idempotency-Key`.
pub(super) async fn replays(tx: &mut Tx, asks: &[Ask]) -> Result<Vec<Option<Answer>>, Error> {
    let keys: Vec<&Key> = asks.iter().filter_map(|ask| ask.idempotency.as_ref()).map(|i| &i.key).collect();
    let known = idempotency::look_all(tx, &keys).await?;
    let answer = |ask: &Ask| match known.get(&ask.idempotency.as_ref()?.key)? {
        Before::Same(stored) => Some(Answer::Replayed(stored.clone())),
        // A wish is answered in the transaction that accepts it: the key was claimed for something else.
        Before::Reused | Before::Unanswered { .. } => Some(Answer::KeyReused),
    };
    Ok(asks.iter().map(answer).collect())
}
