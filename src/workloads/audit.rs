//! The lines that are kept where something changes its owner, written in the change's own transaction. Attempts on what is
//! somebody else's leave one, too.

use crate::store::{Error, Tx, query};

/// One line.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Made before the transaction.
    pub id: &'a str,
    pub workload: &'static str,
    /// What it is about: a slot, an order.
    pub subject: &'a str,
    /// The end user who asked.
    pub actor: &'a str,
    /// The API key or the queue through which they asked.
    pub by: &'a str,
    pub event: &'a str,
    pub detail: Option<&'a str>,
}

/// # Errors
/// [`Error`] of the store.
pub async fn write(tx: &mut Tx, line: Line<'_>) -> Result<(), Error> {
    tx.execute(
        query(
            "-- audit.write
            insert into ownership_audit (id, at_ms, workload, subject, actor, by_whom, event, detail)
            values ($1, {now}, $2, $3, $4, $5, $6, $7)",
        )
        .bind(line.id)
        .bind(line.workload)
        .bind(line.subject)
        .bind(line.actor)
        .bind(line.by)
        .bind(line.event)
        .bind(line.detail.map(str::to_owned)),
    )
    .await
}
