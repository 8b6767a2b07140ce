//! The administrator's list of slots: told as a whole, compared with what is there, and made so.
//!
//! Nobody's booking is lost by it. A slot that is booked stays as it is, whatever the new list says of it, and is
//! reported; one that is not listed any more takes no further booking, and goes when its booking is cancelled. What is
//! past is left alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{NAME, Slots};
use crate::clock::Millis;
use crate::id::Name;
use crate::idempotency::{self, Answered, Key, Told};
use crate::store::{Error, Tx, query, rows};
use crate::text::objects;

/// Slots in one list, at most.
const MOST: usize = 5000;
const LONGEST_TITLE: usize = 200;

/// The whole list as it should be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SlotList)]
pub struct Sync {
    /// At most 5,000.
    #[serde(deserialize_with = "objects")]
    pub slots: Vec<Listed>,
}

/// A slot as it should be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ListedSlot)]
pub struct Listed {
    #[schema(value_type = crate::id::TextOrInteger)]
    pub id: Name,
    /// RFC 3339.
    #[schema(value_type = String)]
    pub starts_at: Timestamp,
    /// At most 200 characters.
    #[serde(default)]
    pub title: String,
}

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Unfit {
    pub field: String,
    pub reason: String,
}

impl Sync {
    /// # Errors
    /// The first field that cannot be as it is.
    pub fn check(&self) -> Result<(), Unfit> {
        let unfit = |field: String, reason: String| Err(Unfit { field, reason });
        if self.slots.len() > MOST {
            return unfit("slots".into(), format!("a list has at most {MOST} slots"));
        }
        let mut seen = BTreeSet::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if !seen.insert(&slot.id) {
                return unfit(format!("slots[{index}].id"), "each slot is listed once".into());
            }
            if slot.title.chars().count() > LONGEST_TITLE || slot.title.contains('\0') {
                return unfit(
                    format!("slots[{index}].title"),
                    format!("a title has at most {LONGEST_TITLE} characters"),
                );
            }
        }
        Ok(())
    }
}

/// A slot as it is.
struct Present {
    starts_at_ms: Millis,
    title: String,
    is_withdrawn: bool,
    owner: Option<String>,
}

/// A slot to be written.
#[derive(Serialize)]
struct Write<'a> {
    id: &'a str,
    starts_at_ms: Millis,
    title: &'a str,
}

#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

/// What is to be done, and what is reported.
#[derive(Default)]
struct Plan<'a> {
    write: Vec<Write<'a>>,
    added: usize,
    changed: usize,
    unchanged: usize,
    removed: Vec<Id<'a>>,
    withdrawn: Vec<Id<'a>>,
    restored: Vec<Id<'a>>,
    kept: Vec<serde_json::Value>,
}

impl Slots {
    /// Makes the list of slots so, in one transaction; `list` was checked.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn sync(&self, list: Sync, by: &str, key: Option<Key>) -> Result<Answered, Error> {
        let (list, by) = (std::sync::Arc::new(list), by.to_owned());
        idempotency::unit_of_work(&self.store, "slots.sync", key, move |tx| {
            let (list, by) = (list.clone(), by.clone());
            Box::pin(async move { sync(tx, &list, &by).await })
        })
        .await
    }
}

async fn sync(tx: &mut Tx, list: &Sync, by: &str) -> Result<Told, Error> {
    let ids: Vec<Id<'_>> = list.slots.iter().map(|slot| Id { id: &slot.id.0 }).collect();
    let version = hold_list(tx, by).await?;
    let present = hold_slots(tx, &rows(&ids)).await?;
    let now_ms: Millis = match tx.fetch_optional(query("-- slots.now\nselect {now} as now_ms")).await? {
        Some(row) => row.get("now_ms")?,
        None => return Err(Error::Setup("the database told no time".into())),
    };
    let plan = compare(list, &present, now_ms);
    apply(tx, &plan).await?;
    Ok(Ok(json!({
        "version": version,
        "added": plan.added,
        "changed": plan.changed,
        "unchanged": plan.unchanged,
        "removed": plan.removed.len(),
        "kept": plan.kept,
    })))
}

/// One list at a time.
async fn hold_list(tx: &mut Tx, by: &str) -> Result<i64, Error> {
    let row = tx
        .fetch_optional(
            query(
                "-- slots.hold_list
                insert into slot_lists (name, version, synced_at_ms, synced_by) values ($1, 1, {now}, $2)
                on conflict (name) do update
                  set version = slot_lists.version + 1, synced_at_ms = excluded.synced_at_ms, synced_by = excluded.synced_by
                returning version",
            )
            .bind(NAME)
            .bind(by),
        )
        .await?;
    row.ok_or_else(|| Error::Setup("an upsert returned no row".into()))?.get("version")
}

/// Holds the slots that are listed or still to come, then looks who has them.
async fn hold_slots(tx: &mut Tx, listed: &str) -> Result<BTreeMap<String, Present>, Error> {
    let held = tx
        .fetch_all(
            query(
                "-- slots.hold
                select s.id, s.starts_at_ms, s.title, s.withdrawn from slots s
                where s.starts_at_ms > {now} or s.id in (select r.id from {rows $1: id text} r)
                order by s.id {for update}",
            )
            .bind(listed),
        )
        .await?;
    let mut present = BTreeMap::new();
    for row in held {
        let slot = Present {
            starts_at_ms: row.get("starts_at_ms")?,
            title: row.get("title")?,
            is_withdrawn: row.get("withdrawn")?,
            owner: None,
        };
        present.insert(row.get::<String>("id")?, slot);
    }
    let ids: Vec<Id<'_>> = present.keys().map(|id| Id { id }).collect();
    let booked = query(
        "-- slots.booked
        select b.slot_id, b.owner from bookings b join {rows $1: id text} r on r.id = b.slot_id where b.state = 'booked'",
    );
    let booked = tx.fetch_all(booked.bind(rows(&ids))).await?;
    for row in booked {
        if let Some(slot) = present.get_mut(&row.get::<String>("slot_id")?) {
            slot.owner = Some(row.get("owner")?);
        }
    }
    Ok(present)
}

fn compare<'a>(list: &'a Sync, present: &'a BTreeMap<String, Present>, now_ms: Millis) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut listed = BTreeSet::new();
    for slot in &list.slots {
        let (id, starts_at_ms) = (slot.id.0.as_str(), slot.starts_at.as_millisecond());
        listed.insert(id);
        let write = Write { id, starts_at_ms, title: &slot.title };
        match present.get(id) {
            None if starts_at_ms <= now_ms => plan.keep(id, "past", None),
            None => {
                plan.added += 1;
                plan.write.push(write);
            }
            Some(is) if is.starts_at_ms == starts_at_ms && is.title == slot.title => {
                plan.unchanged += 1;
                if is.is_withdrawn {
                    plan.restored.push(Id { id });
                }
            }
            Some(is) if is.owner.is_some() => {
                plan.keep(id, "booked", is.owner.as_deref());
                // As it is, it is listed again.
                if is.is_withdrawn {
                    plan.restored.push(Id { id });
                }
            }
            Some(is) if is.starts_at_ms <= now_ms || starts_at_ms <= now_ms => plan.keep(id, "past", None),
            Some(_) => {
                plan.changed += 1;
                plan.write.push(write);
            }
        }
    }
    for (id, slot) in present.iter().filter(|(id, slot)| !listed.contains(id.as_str()) && slot.starts_at_ms > now_ms) {
        match &slot.owner {
            None => plan.removed.push(Id { id }),
            Some(owner) => {
                plan.keep(id, "booked_and_not_listed", Some(owner));
                plan.withdrawn.push(Id { id });
            }
        }
    }
    plan
}

impl<'a> Plan<'a> {
    fn keep(&mut self, id: &'a str, reason: &'static str, owner: Option<&str>) {
        self.kept.push(json!({"slot": id, "reason": reason, "user": owner}));
    }
}

async fn apply(tx: &mut Tx, plan: &Plan<'_>) -> Result<(), Error> {
    tx.execute(
        query(
            "-- slots.write
            insert into slots (id, starts_at_ms, title, withdrawn, updated_at_ms)
            select r.id, r.starts_at_ms, r.title, $2, {now} from {rows $1: id text, starts_at_ms bigint, title text} r
            where true order by r.id
            on conflict (id) do update set starts_at_ms = excluded.starts_at_ms, title = excluded.title,
              withdrawn = excluded.withdrawn, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(rows(&plan.write))
        .bind(false),
    )
    .await?;
    tx.execute(
        query("-- slots.remove\ndelete from slots where id in (select r.id from {rows $1: id text} r)")
            .bind(rows(&plan.removed)),
    )
    .await?;
    for (ids, is_withdrawn) in [(&plan.withdrawn, true), (&plan.restored, false)] {
        tx.execute(
            query(
                "-- slots.withdraw
                update slots set withdrawn = $2, updated_at_ms = {now} where id in (select r.id from {rows $1: id text} r)",
            )
            .bind(rows(ids))
            .bind(is_withdrawn),
        )
        .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, starts_at_ms: Millis) -> Listed {
        let starts_at = Timestamp::from_millisecond(starts_at_ms).unwrap();
        Listed { id: Name(id.into()), starts_at, title: String::new() }
    }

    fn present(starts_at_ms: Millis, owner: Option<&str>) -> Present {
        Present { starts_at_ms, title: String::new(), is_withdrawn: false, owner: owner.map(str::to_owned) }
    }

    #[test]
    fn what_is_booked_or_past_is_kept_and_told() {
        let there = BTreeMap::from([
            ("gone".to_owned(), present(200, None)),
            ("gone-booked".to_owned(), present(200, Some("olga"))),
            ("moved".to_owned(), present(200, None)),
            ("moved-booked".to_owned(), present(200, Some("ivan"))),
            ("same".to_owned(), present(200, None)),
            ("over".to_owned(), present(50, None)),
        ]);
        let list = Sync {
            slots: vec![
                listed("new", 300),
                listed("too-late", 100),
                listed("moved", 300),
                listed("moved-booked", 300),
                listed("same", 200),
            ],
        };
        let plan = compare(&list, &there, 100);
        assert_eq!((plan.added, plan.changed, plan.unchanged), (1, 1, 1));
        assert_eq!(plan.removed.iter().map(|slot| slot.id).collect::<Vec<_>>(), ["gone"]);
        assert_eq!(plan.withdrawn.iter().map(|slot| slot.id).collect::<Vec<_>>(), ["gone-booked"]);
        assert_eq!(
            json!(plan.kept),
            json!([
                {"slot": "too-late", "reason": "past", "user": null},
                {"slot": "moved-booked", "reason": "booked", "user": "ivan"},
                {"slot": "gone-booked", "reason": "booked_and_not_listed", "user": "olga"},
            ])
        );
    }

    #[test]
    fn a_list_names_each_slot_once() {
        let twice = Sync { slots: vec![listed("a", 1), listed("b", 1), listed("a", 2)] };
        assert_eq!(twice.check().unwrap_err().field, "slots[2].id");
        let long = Sync { slots: vec![Listed { title: "x".repeat(201), ..listed("a", 1) }] };
        assert_eq!(long.check().unwrap_err().field, "slots[0].title");
    }
}
