//! Lists by cursor: the id of the last item that was looked at.

use std::fmt;
use std::future::Future;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::clock::Millis;
use crate::id::is_id;
use crate::store;

/// Where to go on, and how many items at most.
const DEFAULT_LIMIT: u32 = 50;
const LARGEST_LIMIT: u32 = 200;
/// 2^53.
const FURTHEST: u64 = 9_007_199_254_740_992;
/// Rows that one call looks at to fill a page by a filter that SQL does not know.
const ROUNDS: usize = 20;

/// The number of items of a page: 1 to 200, larger ones count as 200.
#[derive(Clone, Copy, Debug)]
pub struct Limit(pub u32);

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Err(serde::de::Error::custom("a page has at least one item")),
            limit => Ok(Self(limit.min(LARGEST_LIMIT))),
        }
    }
}

/// How many items to leave out. Redis counts further, but nobody can mean that, and JSON numbers of other languages cannot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start(pub u64);

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            start if start > FURTHEST => Err(serde::de::Error::custom(format!("at most {FURTHEST}"))),
            start => Ok(Self(start)),
        }
    }
}

/// The cursor of an earlier page.
#[derive(Clone, Debug, Default)]
pub struct Cursor(pub String);

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.is_empty() && !is_id(&text) {
            return Err(serde::de::Error::custom("this is no cursor of ours"));
        }
        Ok(Self(text))
    }
}

/// The cursor of a list by time: the moment and the id of its last item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceCursor(pub Option<(Millis, String)>);

impl fmt::Display for PlaceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(place) => f.write_str(&URL_SAFE_NO_PAD.encode(serde_json::to_string(place).expect("texts are JSON"))),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for PlaceCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let place = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let place = place.filter(|(_, id): &(Millis, String)| !id.contains('\0'));
        place.map(|place| Self(Some(place))).ok_or_else(|| serde::de::Error::custom("this is no cursor of ours"))
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The cursor of the next page; nothing on the last one.
    pub next: Option<String>,
}

/// Fills a page with those rows that `keep` wants. `fetch` reads rows before an id, newest first.
///
/// # Errors
/// What `fetch` fails with.
pub async fn fill<T, F, R>(
    cursor: Cursor,
    limit: Limit,
    fetch: F,
    id: impl Fn(&T) -> &str,
    keep: impl Fn(&T) -> bool,
) -> Result<(Vec<T>, Option<String>), Problem>
where
    F: Fn(String, u32) -> R,
    R: Future<Output = Result<Vec<T>, store::Error>>,
{
    let (mut before, wanted) = (cursor.0, limit.0 as usize);
    let mut kept = Vec::with_capacity(wanted);
    for _ in 0..ROUNDS {
        // One more than is wanted, to know whether there is another page.
        let rows = fetch(before.clone(), limit.0 + 1).await?;
        let is_last = rows.len() <= wanted;
        for row in rows {
            if kept.len() == wanted {
                return Ok((kept, Some(before)));
            }
            id(&row).clone_into(&mut before);
            if keep(&row) {
                kept.push(row);
            }
        }
        if is_last {
            return Ok((kept, None));
        }
    }
    Ok((kept, Some(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn page(cursor: &str, limit: u32, keep: impl Fn(&String) -> bool) -> (Vec<String>, Option<String>) {
        let all: Vec<String> = (0..10).rev().map(|n| n.to_string()).collect();
        let fetch = |before: String, limit: u32| {
            let rows = all.iter().filter(|n| before.is_empty() || **n < before).take(limit as usize).cloned().collect();
            async move { Ok(rows) }
        };
        fill(Cursor(cursor.into()), Limit(limit), fetch, |n| n, keep).await.unwrap()
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let read = |text: &str| serde_json::from_value::<PlaceCursor>(serde_json::json!(text));
        let place = PlaceCursor(Some((7, "слот ':'".into())));
        assert_eq!(read(&place.to_string()).unwrap(), place);
        assert_eq!(read("").unwrap(), PlaceCursor(None));
        let forged = PlaceCursor(Some((7, "a\0".into()))).to_string();
        for wrong in ["x", "W10", "018f", "\u{0}", &forged] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_gaps() {
        let (first, next) = page("", 4, |_| true).await;
        assert_eq!((first.join(""), next.as_deref()), ("9876".into(), Some("6")));
        let (second, next) = page("6", 4, |_| true).await;
        assert_eq!((second.join(""), next.as_deref()), ("5432".into(), Some("2")));
        let (last, next) = page("2", 4, |_| true).await;
        assert_eq!((last.join(""), next), ("10".into(), None));
        assert_eq!(page("", 10, |_| true).await.1, None, "a page that ends with the list is the last");
    }

    #[tokio::test]
    async fn a_filter_looks_on_until_the_page_is_full() {
        let even = |n: &String| n.parse::<u32>().unwrap() % 2 == 0;
        let (first, next) = page("", 2, even).await;
        assert_eq!(first.join(""), "86");
        let (second, _) = page(&next.unwrap(), 3, even).await;
        assert_eq!(second.join(""), "420");
    }
}
