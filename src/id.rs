//! Identifiers: parsed once at the door, trusted afterwards.
//!
//! Every id that a row needs is made before its transaction begins, so that repeating the transaction after an unknown
//! COMMIT finds the first one's row instead of writing a second.

use std::fmt;

use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::text::is_invisible;

/// A name that BullMQ can use as a queue name.
///
/// Not empty, at most 100 characters, no `:` (BullMQ's separator), no blanks or control characters (Redis refuses them
/// in a client's name), and braces only as one pair, which is then the queue's hash tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct QueueName(String);

/// Why a text is no queue name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueueNameError {
    #[error("a queue name must not be empty")]
    Empty,
    #[error("a queue name has at most 100 characters")]
    Long,
    #[error("a queue name must not contain ':'")]
    Colon,
    #[error("a queue name must not contain blanks or control characters")]
    Blank,
    #[error("braces in a queue name must be one pair around at least one character")]
    Braces,
}

impl QueueName {
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, QueueNameError> {
        if text.is_empty() {
            return Err(QueueNameError::Empty);
        }
        if text.chars().count() > 100 {
            return Err(QueueNameError::Long);
        }
        if text.contains(':') {
            return Err(QueueNameError::Colon);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(QueueNameError::Blank);
        }
        hash_tag(text)?;
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The queue in which the runs of an intake queue are worked off. It keeps the intake queue's hash tag.
    pub fn work(&self) -> Self {
        Self(format!("{}-work", self.0))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for QueueName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

const LONGEST_NAME: usize = 100;

/// A text, or an integer, which counts as its digits.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it describes a `Name` for OpenAPI")]
pub enum TextOrInteger {
    Text(String),
    Integer(i64),
}

/// Who or what somebody is elsewhere: a text, or an integer that is kept as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(pub String);

impl Name {
    /// `text` without blanks around it, if it can be a name.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_fit = !text.is_empty()
            && text.chars().count() <= LONGEST_NAME
            && !text.chars().any(|c| c.is_control() || is_invisible(c));
        is_fit.then(|| Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Name;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a text of 1 to {LONGEST_NAME} visible characters, or an integer")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
                Name::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Name, E> {
                Ok(Name(number.to_string()))
            }
        }
        deserializer.deserialize_any(Words).map_err(D::Error::custom)
    }
}

/// What stands in the one pair of braces of `text`, if it has one.
///
/// # Errors
/// Braces that are not exactly one pair around something: Redis would hash such a key by another rule than people expect.
pub fn hash_tag(text: &str) -> Result<Option<&str>, QueueNameError> {
    let (opens, closes) = (text.matches('{').count(), text.matches('}').count());
    match (opens, closes, text.find('{'), text.find('}')) {
        (0, 0, _, _) => Ok(None),
        (1, 1, Some(open), Some(close)) if open + 1 < close => Ok(Some(&text[open + 1..close])),
        _ => Err(QueueNameError::Braces),
    }
}

/// A new id that sorts by time of making.
pub fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// An id that is the same whenever it is made from the same parts.
///
/// Work that may be repeated by another process (a Node job taken again after a crash) finds its own earlier row by it.
pub fn derived_id(parts: &[&str]) -> String {
    let name = serde_json::to_string(parts).expect("a list of texts is JSON");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).simple().to_string()
}

/// Whether a text can be an id of ours: of a request, a delivery or another row.
pub fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether an id of ours was made by [`derived_id`].
pub fn is_derived(id: &str) -> bool {
    // The digit in which a UUID says how it was made.
    id.as_bytes().get(12) == Some(&b'5')
}

/// An owner's mark on a lease: never reused, so that a late worker cannot pass for the present one.
pub fn new_token() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_those_that_bullmq_and_redis_accept() {
        for good in ["video", "{mail}", "a{b}c", "Видео", "a-b_c.d"] {
            assert!(QueueName::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", QueueNameError::Empty),
            ("a:b", QueueNameError::Colon),
            ("a b", QueueNameError::Blank),
            ("a\nb", QueueNameError::Blank),
            ("{a}{b}", QueueNameError::Braces),
            ("}a{", QueueNameError::Braces),
            ("{}", QueueNameError::Braces),
            ("{a", QueueNameError::Braces),
        ] {
            assert_eq!(QueueName::parse(bad), Err(why), "{bad}");
        }
        assert_eq!(QueueName::parse(&"x".repeat(101)), Err(QueueNameError::Long));
    }

    #[test]
    fn a_derived_id_keeps_its_parts_apart() {
        assert_eq!(derived_id(&["a", "b"]), derived_id(&["a", "b"]));
        assert_ne!(derived_id(&["a|b", "c"]), derived_id(&["a", "b|c"]));
    }

    #[test]
    fn a_derived_id_is_told_from_a_new_one() {
        assert!(is_derived(&derived_id(&["a"])));
        assert!(!is_derived(&new_id()) && !is_derived(&new_token()) && !is_derived(""));
    }
}
