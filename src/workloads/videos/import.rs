//! Bringing in videos that were made elsewhere: Telegram has the files, and we are told their ids.
//!
//! Each becomes a flight that has its result without a run of ours. What exists already, or is being made, stays.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use crate::clock::Millis;
use crate::id::{self, QueueName};
use crate::idempotency::{self, Answered, Key, Told};
use crate::retry::Backoff;
use crate::store::{Error, Store, Tx, query, rows};

/// Items in one unit of work.
const PAGE: usize = 200;

/// A video that exists.
#[derive(Clone, Debug)]
pub struct Item {
    /// The dedupe key, a JSON array.
    pub key: String,
    /// As it is drawn.
    pub name: String,
    pub gender: String,
    pub template: String,
    /// Telegram's, for the bot that is configured.
    pub file_id: String,
    /// Now, if it is not known.
    pub made_at_ms: Option<Millis>,
}

/// What became of the items.
#[derive(Clone, Copy, Debug, Default)]
struct Imported {
    imported: usize,
    skipped: usize,
}

/// An item as the statements take it.
#[derive(Clone, Serialize)]
struct ItemRow {
    /// Of the flight; as made here until it turns out that there is one.
    id: String,
    key: String,
    generation: i64,
    name_key: String,
    name: String,
    gender: String,
    template: String,
    file_id: String,
    data: String,
    result: String,
    made_at_ms: Option<Millis>,
}

impl ItemRow {
    fn of(item: Item) -> Self {
        let Item { key, name, gender, template, file_id, made_at_ms } = item;
        let data = json!({"name": name, "gender": gender, "template": template});
        let mut result = data.clone();
        result["file_id"] = file_id.as_str().into();
        Self {
            id: id::new_id(),
            key,
            generation: 1,
            name_key: super::name::normalise(&name),
            data: data.to_string(),
            result: result.to_string(),
            name,
            gender,
            template,
            file_id,
            made_at_ms,
        }
    }
}

/// Brings `items` in. `bot` is the id of the bot that the file ids belong to.
///
/// Under a key all of them, with the answer, in one unit of work. Without one a page at a time: after an error some pages may
/// be in, and repeating it skips them.
///
/// # Errors
/// [`Error`] of the store.
pub async fn import(
    store: &Store,
    scope: &QueueName,
    bot: Option<&str>,
    items: Vec<Item>,
    key: Option<Key>,
) -> Result<Answered, Error> {
    let pages = pages(items);
    let with = Arc::new((scope.clone(), bot.map(str::to_owned)));
    if key.is_some() {
        return idempotency::unit_of_work(store, "video.import", key, move |tx| {
            let (pages, with) = (pages.clone(), with.clone());
            Box::pin(async move {
                let mut total = Imported::default();
                for page in pages {
                    total.add(&page, import_page(tx, page.rows.clone(), &with.0, with.1.as_deref()).await?);
                }
                Ok(total.told())
            })
        })
        .await;
    }
    let mut total = Imported::default();
    for page in pages {
        let (rows, with) = (page.rows.clone(), with.clone());
        let imported = store
            .unit_of_work::<_, Error, _>("video.import", move |tx| {
                let (rows, with) = (rows.clone(), with.clone());
                Box::pin(async move { import_page(tx, rows, &with.0, with.1.as_deref()).await })
            })
            .await?;
        total.add(&page, imported);
    }
    Ok(Answered::First(total.told()))
}

/// Items that go in together.
#[derive(Clone)]
struct Page {
    asked: usize,
    rows: Vec<ItemRow>,
}

/// Of equal items of a page the first counts. They are sorted over all pages, so that two imports do not wait for each other in
/// a circle.
fn pages(mut items: Vec<Item>) -> Vec<Page> {
    items.sort_by(|a, b| a.key.cmp(&b.key));
    let page = |items: &[Item]| {
        let mut first = BTreeMap::new();
        for item in items {
            first.entry(item.key.clone()).or_insert_with(|| ItemRow::of(item.clone()));
        }
        Page { asked: items.len(), rows: first.into_values().collect() }
    };
    items.chunks(PAGE).map(page).collect()
}

impl Imported {
    fn add(&mut self, page: &Page, imported: usize) {
        self.imported += imported;
        self.skipped += page.asked - imported;
    }

    fn told(self) -> Told {
        Ok(json!({"imported": self.imported, "skipped": self.skipped}))
    }
}

async fn import_page(tx: &mut Tx, page: Vec<ItemRow>, scope: &QueueName, bot: Option<&str>) -> Result<usize, Error> {
    let new = insert_flights(tx, &page, scope).await?;
    let revived = revive_flights(tx, &page, scope, &new).await?;
    let page: Vec<ItemRow> = page
        .into_iter()
        .filter_map(|row| match revived.get(&row.key) {
            Some((id, generation)) => Some(ItemRow { id: id.clone(), generation: *generation, ..row }),
            None => new.contains(&row.key).then_some(row),
        })
        .collect();
    if !page.is_empty() {
        record(tx, &page, bot).await?;
    }
    Ok(page.len())
}

/// The keys that nobody had asked for yet.
async fn insert_flights(tx: &mut Tx, page: &[ItemRow], scope: &QueueName) -> Result<Vec<String>, Error> {
    let inserted = tx
        .fetch_all(
            query(
                "-- video.import.insert
                insert into flights (id, scope, key, queue, generation, state, name, data, priority, attempt, max_attempts,
                  backoff, next_at_ms, cancel_when_abandoned, result, result_generation, made_at_ms, dirty, created_at_ms,
                  touched_at_ms)
                select r.id, $2, r.key, $3, 1, 'idle', 'video', r.data, 0, 0, 1, $4, {now}, false,
                   r.result, 1, coalesce(r.made_at_ms, {now}), false, {now}, {now}
                from {rows $1: id text, key text, data text, result text, made_at_ms bigint} r
                where true
                order by r.key
                on conflict (scope, key) do nothing
                returning key",
            )
            .bind(rows(page))
            .bind(scope.as_str())
            .bind(scope.work().as_str())
            .bind(serde_json::to_string(&Backoff::NONE).expect("a backoff is JSON")),
        )
        .await?;
    inserted.iter().map(|row| row.get("key")).collect()
}

/// Gives the result to flights that have none and are not making one: by key, their id and new generation.
async fn revive_flights(
    tx: &mut Tx,
    page: &[ItemRow],
    scope: &QueueName,
    new: &[String],
) -> Result<HashMap<String, (String, i64)>, Error> {
    let others: Vec<&ItemRow> = page.iter().filter(|row| !new.contains(&row.key)).collect();
    if others.is_empty() {
        return Ok(HashMap::new());
    }
    let lock = "-- video.import.lock
        select id, key, generation, state, result from flights
        where scope = $2 and key in (select r.key from {rows $1: key text} r) order by key {for update}";
    let mut revived: HashMap<String, (String, i64)> = HashMap::new();
    for row in tx.fetch_all(query(lock).bind(rows(&others)).bind(scope.as_str())).await? {
        let is_open = matches!(row.get::<String>("state")?.as_str(), "pending" | "running");
        if !is_open && row.get::<Option<String>>("result")?.is_none() {
            revived.insert(row.get("key")?, (row.get("id")?, row.get::<i64>("generation")? + 1));
        }
    }
    let changed: Vec<ItemRow> = others
        .into_iter()
        .filter_map(|row| {
            let (id, generation) = revived.get(&row.key)?;
            Some(ItemRow { id: id.clone(), generation: *generation, ..row.clone() })
        })
        .collect();
    tx.execute(
        query(
            "-- video.import.revive
            update flights set generation = r.generation, state = 'idle', attempt = 0, error = null, negative_until_ms = null,
              result = r.result, result_generation = r.generation, made_at_ms = coalesce(r.made_at_ms, {now}), dirty = true,
              touched_at_ms = {now}
            from {rows $1: id text, generation bigint, result text, made_at_ms bigint} r
            where flights.id = r.id",
        )
        .bind(rows(&changed)),
    )
    .await?;
    Ok(revived)
}

/// What a run of ours would have left behind.
async fn record(tx: &mut Tx, page: &[ItemRow], bot: Option<&str>) -> Result<(), Error> {
    let list = rows(page);
    tx.execute(
        query(
            "-- video.import.run
            insert into runs (flight_id, generation, state, result, attempts, finished_at_ms)
            select r.id, r.generation, 'succeeded', r.result, 0, coalesce(r.made_at_ms, {now})
            from {rows $1: id text, generation bigint, result text, made_at_ms bigint} r",
        )
        .bind(list.clone()),
    )
    .await?;
    tx.execute(
        query(
            "-- video.import.video
            insert into generated_videos (name_key, gender, template, name, file_id, made_at_ms, flight_id, generation)
            select r.name_key, r.gender, r.template, r.name, r.file_id, coalesce(r.made_at_ms, {now}), r.id, r.generation
            from {rows $1: id text, generation bigint, name_key text, name text, gender text, template text, file_id text,
              made_at_ms bigint} r
            where true
            on conflict (name_key, gender, template) do update set name = excluded.name, file = null,
              file_id = excluded.file_id, bytes = null, made_at_ms = excluded.made_at_ms, flight_id = excluded.flight_id,
              generation = excluded.generation",
        )
        .bind(list.clone()),
    )
    .await?;
    let Some(bot) = bot else { return Ok(()) };
    tx.execute(
        query(
            "-- video.import.file
            insert into telegram_files (bot, flight_id, generation, file_id)
            select $2, r.id, r.generation, r.file_id
            from {rows $1: id text, generation bigint, file_id text} r
            where true
            on conflict do nothing",
        )
        .bind(list)
        .bind(bot),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config;

    fn item(name: &str) -> Item {
        Item {
            key: json!([super::super::name::normalise(name), "girl", "default"]).to_string(),
            name: name.to_owned(),
            gender: "girl".to_owned(),
            template: "default".to_owned(),
            file_id: format!("file-of-{name}"),
            made_at_ms: Some(1),
        }
    }

    #[tokio::test]
    async fn what_is_there_already_is_skipped_and_what_was_forgotten_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let settings = config::Store {
            url: format!("sqlite://{}/t.db", dir.path().display()).into(),
            max_connections: 2,
            slow: "1s".parse().unwrap(),
            batch: 16,
        };
        let store = Store::open(&settings, Clock::system()).await.unwrap();
        let flights = crate::flight::Flights::new(store.clone());
        let scope = QueueName::parse("video").unwrap();
        let names = ["Anna", "Maria", "anna"];
        let run = async |key: Option<Key>| match import(&store, &scope, Some("7"), names.map(item).to_vec(), key).await
        {
            Ok(Answered::First(told)) => ("first", told.unwrap()),
            Ok(Answered::Again(told)) => ("again", told.unwrap()),
            Ok(Answered::KeyReused) => ("reused", json!(null)),
            Err(error) => panic!("{error}"),
        };
        let told = |imported: usize, skipped: usize| json!({"imported": imported, "skipped": skipped});
        let key = |fingerprint: &str| {
            Some(Key { principal: "p".to_owned(), key: "k".to_owned(), fingerprint: fingerprint.to_owned() })
        };
        assert_eq!(run(key("a")).await, ("first", told(2, 1)));
        // The answer went in with the videos: there is no moment at which one is there without the other.
        assert!(matches!(
            idempotency::look(&store, &key("a").unwrap()).await.unwrap(),
            Some(idempotency::Before::Same(_))
        ));
        assert_eq!(run(None).await, ("first", told(0, 3)));
        assert_eq!(run(key("a")).await, ("again", told(2, 1)));
        flights.release("video", &item("Anna").key, "why").await.unwrap();
        assert_eq!(run(key("b")).await, ("reused", json!(null)));
        assert_eq!(run(None).await, ("first", told(1, 2)));
        let flight = flights.flight("video", &item("Anna").key).await.unwrap().unwrap();
        assert_eq!((flight.generation, flight.result_generation, flight.made_at_ms), (2, Some(2), Some(1)));
        assert!(flight.result.unwrap().contains("file-of-Anna"));
    }
}
