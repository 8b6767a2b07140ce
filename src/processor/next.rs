//! What a processor says that is not done with a job yet: where the job goes, and with which data it comes back.
//!
//! Programs and endpoints say it as JSON, `{"next", "ms", "data", "add"}`:
//!
//! ```text
//! {"next": "delay", "ms": 5000}   again after that time
//! {"next": "wait"}                again at once, before the others
//! {"next": "children"}            again when the children of the job are done
//! {"next": "limit", "ms": 5000}   as "wait", and no worker takes jobs of the queue for so long
//! ```
//!
//! `data`, where it is given, replaces the job's data. With "children" the job is given those that `add` lists, each of them
//! a flow as `POST /v1/flows` takes it, in the very step in which it begins to wait: all of them, or none. None of these counts
//! as an attempt. The next call is told how many such steps the job has made, and what became of its children.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::text::{Object, in_plain_words};

/// The longest wait for one job.
const LONGEST_DELAY: Duration = Duration::from_secs(366 * 86_400);
/// The longest time for which one job may hold a whole queue up.
const LONGEST_LIMIT: Duration = Duration::from_secs(86_400);

/// An attempt that has ended without being the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub next: Next,
    /// The job's data from now on, JSON text; as it was if not given.
    pub data: Option<String>,
    /// With [`Next::Children`]: new children, a JSON list of flows.
    pub add: Option<String>,
}

/// Where the job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Delay(Duration),
    Wait,
    Children,
    Limit(Duration),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    next: Word,
    ms: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "given")]
    add: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Delay,
    Wait,
    Children,
    Limit,
}

/// For data that may be left out: null is data as well. The field needs a `default`.
///
/// # Errors
/// It is no JSON.
pub fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl Unfinished {
    /// # Errors
    /// Why this says nothing about a job.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let Object(Said { next, ms, data, add }) =
            serde_json::from_slice(text).map_err(|error| in_plain_words(&error.to_string()))?;
        let span = |longest: Duration| match ms.map(Duration::from_millis) {
            None => Err("\"ms\" is missing".to_owned()),
            Some(span) if span > longest => Err(format!("\"ms\" is {} at most", longest.as_millis())),
            Some(span) => Ok(span),
        };
        let next = match next {
            Word::Delay => Next::Delay(span(LONGEST_DELAY)?),
            Word::Limit => Next::Limit(span(LONGEST_LIMIT)?),
            Word::Wait | Word::Children if ms.is_some() => return Err("\"ms\" goes with delay and limit".into()),
            Word::Wait => Next::Wait,
            Word::Children => Next::Children,
        };
        if add.is_some() && next != Next::Children {
            return Err("\"add\" goes with children".into());
        }
        let text = |json: Box<RawValue>| json.get().to_owned();
        Ok(Self { next, data: data.map(text), add: add.map(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Unfinished, String> {
        Unfinished::parse(text.as_bytes())
    }

    #[test]
    fn each_word_is_understood_and_data_is_kept_as_written() {
        let ms = Duration::from_millis;
        for (text, next) in [
            (r#"{"next":"delay","ms":5}"#, Next::Delay(ms(5))),
            (r#"{"next":"wait"}"#, Next::Wait),
            (r#"{"next":"children"}"#, Next::Children),
            (r#"{"next":"limit","ms":7}"#, Next::Limit(ms(7))),
        ] {
            assert_eq!(parse(text), Ok(Unfinished { next, data: None, add: None }), "{text}");
        }
        let stepped = parse(r#"{"next":"wait","data":{"n": 12345678901234567890}}"#).unwrap();
        assert_eq!(stepped.data.as_deref(), Some(r#"{"n": 12345678901234567890}"#));
        assert_eq!(parse(r#"{"next":"wait","data":null}"#).unwrap().data.as_deref(), Some("null"));
        // Whether these are flows is not seen here.
        let branched = parse(r#"{"next":"children","add":[{"queue": "a"}, 5]}"#).unwrap();
        assert_eq!(branched.add.as_deref(), Some(r#"[{"queue": "a"}, 5]"#));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "null",
            "{}",
            r#"{"next":"later","ms":5}"#,
            r#"{"next":"delay"}"#,
            r#"{"next":"delay","ms":-1}"#,
            r#"{"next":"delay","ms":99999999999}"#,
            r#"{"next":"limit","ms":86400001}"#,
            r#"{"next":"wait","ms":5}"#,
            r#"{"next":"wait","add":[]}"#,
            r#"{"next":"wait","daat":{}}"#,
            r#"["wait",null,{}]"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
