//! One upload per file and bot: who uploads, and under which `file_id` the others send.

use std::time::Duration;

use crate::clock::millis;
use crate::flight::DeliveryLease;
use crate::store::{Error, Query, Store, query};

/// How a delivery gets at its video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    Known(String),
    /// This delivery uploads.
    Mine,
    /// Another one does.
    Wait,
}

/// Asks for the file of a delivery's generation, and becomes its uploader if nobody is.
pub async fn claim(store: &Store, bot: &str, lease: &DeliveryLease, lasts: Duration) -> Result<Upload, Error> {
    let (bot, lease) = (bot.to_owned(), lease.clone());
    store
        .unit_of_work("upload.claim", move |tx| {
            let (bot, lease) = (bot.clone(), lease.clone());
            Box::pin(async move {
                tx.execute(of(
                    "-- upload.ensure
                    insert into telegram_files (bot, flight_id, generation) values ($1, $2, $3) on conflict do nothing",
                    &bot,
                    &lease,
                ))
                .await?;
                let row = tx
                    .fetch_optional(of(
                        "-- upload.lock
                        select file_id, uploader, uploader_until_ms, {now} as now_ms from telegram_files
                        where bot = $1 and flight_id = $2 and generation = $3 {for update}",
                        &bot,
                        &lease,
                    ))
                    .await?
                    .ok_or_else(|| Error::Setup("an upload's row vanished while it was locked".into()))?;
                if let Some(file_id) = row.get::<Option<String>>("file_id")? {
                    return Ok(Upload::Known(file_id));
                }
                let uploader: Option<String> = row.get("uploader")?;
                let until: i64 = row.get::<Option<i64>>("uploader_until_ms")?.unwrap_or(0);
                let is_taken = uploader.is_some_and(|other| other != lease.id) && until > row.get::<i64>("now_ms")?;
                if is_taken {
                    return Ok(Upload::Wait);
                }
                let take = of(
                    "-- upload.take
                    update telegram_files set uploader = $4, uploader_until_ms = {now} + $5
                    where bot = $1 and flight_id = $2 and generation = $3",
                    &bot,
                    &lease,
                );
                tx.execute(take.bind(lease.id.as_str()).bind(millis(lasts))).await?;
                Ok(Upload::Mine)
            })
        })
        .await
}

/// The rows by which an upload is remembered, for the transaction that marks its delivery.
pub fn done(bot: &str, lease: &DeliveryLease, file_id: &str) -> Vec<Query> {
    let remember = of(
        "-- upload.done
        update telegram_files set file_id = $4, uploader = null, uploader_until_ms = null
        where bot = $1 and flight_id = $2 and generation = $3",
        bot,
        lease,
    );
    let show =
        query("-- video.uploaded\nupdate generated_videos set file_id = $1 where flight_id = $2 and generation = $3");
    vec![remember.bind(file_id), show.bind(file_id).bind(lease.flight.as_str()).bind(lease.generation)]
}

/// This delivery does not upload after all.
pub async fn give_up(store: &Store, bot: &str, lease: &DeliveryLease) -> Result<(), Error> {
    let statement = of(
        "-- upload.give_up
        update telegram_files set uploader = null, uploader_until_ms = null
        where bot = $1 and flight_id = $2 and generation = $3 and uploader = $4",
        bot,
        lease,
    );
    run(store, "upload.give_up", statement.bind(lease.id.as_str())).await
}

/// Telegram refuses this `file_id`: it must be uploaded again.
pub async fn forget(store: &Store, bot: &str, lease: &DeliveryLease, file_id: &str) -> Result<(), Error> {
    let statement = of(
        "-- upload.forget
        update telegram_files set file_id = null
        where bot = $1 and flight_id = $2 and generation = $3 and file_id = $4",
        bot,
        lease,
    );
    run(store, "upload.forget", statement.bind(file_id)).await
}

async fn run(store: &Store, name: &'static str, statement: Query) -> Result<(), Error> {
    store
        .unit_of_work(name, move |tx| {
            let statement = statement.clone();
            Box::pin(async move { tx.execute(statement).await })
        })
        .await
}

/// A statement whose first three parameters are the bot and the generation of a flight.
fn of(sql: &'static str, bot: &str, lease: &DeliveryLease) -> Query {
    query(sql).bind(bot).bind(lease.flight.as_str()).bind(lease.generation)
}
