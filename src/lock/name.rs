//! Names of locks, parsed once at the door, and what they become in the database and in Redis.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::text::is_invisible;

/// The longest name, in characters.
pub const LONGEST_NAME: usize = 200;

/// The name of a lock: 1 to 200 visible characters without blanks or braces (`withdraw:17`, `reports/daily`).
///
/// Braces are Redis Cluster's: the whole name is the hash tag of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LockName(String);

/// Why a text names no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a lock's name must not be empty")]
    Empty,
    #[error("a lock's name has at most {LONGEST_NAME} characters")]
    Long,
    #[error("a lock's name must not contain blanks or characters that cannot be seen")]
    Blank,
    #[error("a lock's name must not contain braces")]
    Braces,
}

/// What a name is locked for. The same name is another lock for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A unit of work, for as long as its transaction.
    Unit,
    Lease,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Lease => "lease",
        }
    }
}

impl LockName {
    /// # Errors
    /// What is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.chars().count() > LONGEST_NAME {
            return Err(NameError::Long);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || is_invisible(c)) {
            return Err(NameError::Blank);
        }
        if text.contains(['{', '}']) {
            return Err(NameError::Braces);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The database's advisory lock for this name: the first eight bytes of a SHA-256.
    ///
    /// Two names that share a key only wait for each other. No setting takes part: servers of one database that were
    /// configured differently must still exclude each other, and the locks of another database are others anyway.
    pub(super) fn key64(&self, kind: Kind) -> i64 {
        let mut digest = Sha256::new();
        for part in ["onetake.lock", kind.as_str(), &self.0] {
            digest.update(part);
            digest.update([0]);
        }
        let digest: [u8; 32] = digest.finalize().into();
        i64::from_be_bytes(digest[..8].try_into().expect("a digest has more than eight bytes"))
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LockName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Each name once, in the one order in which everybody takes several.
pub(super) fn in_order(names: &[LockName]) -> Vec<LockName> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_and_bounded() {
        for good in ["a", "withdraw:17", "nft:buy:9", "отчёт", "a/b?c=d", "x\"y'", &"я".repeat(200)] {
            assert!(LockName::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", NameError::Empty),
            ("a b", NameError::Blank),
            ("a\nb", NameError::Blank),
            ("a\0", NameError::Blank),
            ("a\u{200b}b", NameError::Blank),
            ("a\u{202e}b", NameError::Blank),
            ("{a}", NameError::Braces),
            ("a}", NameError::Braces),
        ] {
            assert_eq!(LockName::parse(bad), Err(why), "{bad}");
        }
        assert_eq!(LockName::parse(&"x".repeat(201)), Err(NameError::Long));
    }

    #[test]
    fn keys_are_the_same_for_ever_and_differ_by_name_and_kind() {
        let name = LockName::parse("withdraw:17").unwrap();
        // Servers of several versions share one database: this number must not change.
        assert_eq!(name.key64(Kind::Unit), EXPECTED);
        assert_ne!(name.key64(Kind::Unit), name.key64(Kind::Lease));
        assert_ne!(name.key64(Kind::Unit), LockName::parse("withdraw:18").unwrap().key64(Kind::Unit));
    }

    const EXPECTED: i64 = 7_356_516_208_832_459_694;

    #[test]
    fn several_are_taken_in_one_order_and_each_once() {
        let names = ["b", "a", "b"].map(|text| LockName::parse(text).unwrap());
        assert_eq!(in_order(&names).iter().map(LockName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
