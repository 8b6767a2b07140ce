//! How dedupe keys are made from data, and spelt in Redis.

use std::collections::BTreeMap;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::id::hash_tag;
use crate::text::{self, hex};

/// The longest key that stands in a Redis key's name as it is, in bytes.
const READABLE: usize = 200;

/// What a dedupe key is made of.
#[derive(Clone, Debug, Default)]
pub struct KeyParts {
    parts: Vec<Value>,
}

impl KeyParts {
    /// A key given in one piece.
    pub fn single(key: &str) -> Self {
        Self { parts: vec![Value::String(text::normalise(key))] }
    }

    /// The named fields of `data`, normalised; a missing or null field takes its default, and is part of the key.
    ///
    /// # Errors
    /// The field that is missing without a default, or is neither text nor boolean nor number, or a whole number that was
    /// rounded when it was read. (Fractions are as exact as a double.)
    pub fn from_fields<'f>(
        data: &Value,
        fields: impl IntoIterator<Item = &'f str>,
        defaults: &BTreeMap<String, Value>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        for field in fields {
            let given = data.get(field).filter(|value| !value.is_null()).or_else(|| defaults.get(field));
            parts.push(match given {
                Some(Value::String(value)) => Value::String(text::normalise(value)),
                Some(value @ Value::Bool(_)) => value.clone(),
                Some(Value::Number(number)) => equal(number).ok_or(field)?,
                Some(_) | None => return Err(field.to_owned()),
            });
        }
        Ok(Self { parts })
    }

    /// A JSON array, so that ("a|b", "c") is not ("a", "b|c").
    pub fn to_key(&self) -> String {
        Value::Array(self.parts.clone()).to_string()
    }
}

/// Equal numbers alike, however their language writes them: `320`, `320.0` and `3.2e2`. Nothing for whole ones that were
/// rounded when they were read: unequal ones look alike.
fn equal(number: &Number) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        _ if !number.is_f64() => Some(Value::Number(number.clone())),
        Some(float) if float.fract() != 0.0 => Some(Value::Number(number.clone())),
        Some(float) if float.abs() < EXACT => Some(Value::from(float as i64)),
        _ => None,
    }
}

/// How Onetake's own keys about dedupe keys are named.
#[derive(Clone)]
pub(super) struct Names {
    pub namespace: String,
    pub prefix: String,
}

impl Names {
    /// The flight's key and the subscribers' key.
    pub(super) fn both(&self, scope: &str, key: &str) -> [String; 2] {
        [self.flight(scope, key), self.subscribers(scope, key)]
    }

    pub(super) fn flight(&self, scope: &str, key: &str) -> String {
        self.name("dedupe", scope, key)
    }

    pub(super) fn subscribers(&self, scope: &str, key: &str) -> String {
        self.name("subscribers", scope, key)
    }

    /// The places of `scopes`, in lists whose keys are in one slot of a cluster.
    pub(super) fn by_slot<'s>(&self, scopes: impl Iterator<Item = &'s str>) -> Vec<Vec<usize>> {
        let mut lists: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (place, scope) in scopes.enumerate() {
            lists.entry(self.tag(scope).map(str::to_owned)).or_default().push(place);
        }
        lists.into_values().collect()
    }

    /// Where the mark of this Redis stands: with the prefix's hash tag, in the slot where the queues are.
    pub(super) fn instance(&self) -> String {
        match hash_tag(&self.prefix) {
            Ok(Some(tag)) => format!("{}:{{{tag}}}:instance", self.namespace),
            _ => format!("{}:instance", self.namespace),
        }
    }

    fn tag<'n>(&'n self, scope: &'n str) -> Option<&'n str> {
        [&self.prefix, scope].into_iter().find_map(|name| hash_tag(name).ok().flatten())
    }

    fn name(&self, kind: &str, scope: &str, key: &str) -> String {
        let namespace = &self.namespace;
        let name = if key.len() <= READABLE { key.to_owned() } else { format!("sha256:{}", hex(&Sha256::digest(key))) };
        match self.tag(scope) {
            Some(tag) => format!("{namespace}:{{{tag}}}:{kind}:{}:{name}", scope.replace(['{', '}'], "")),
            None => format!("{namespace}:{kind}:{scope}:{name}"),
        }
    }
}

/// A text in which a SCAN pattern means nothing special.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if "*?[]\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from(data: Value) -> Result<String, String> {
        let defaults = BTreeMap::from([("gender".to_owned(), json!("neutral"))]);
        KeyParts::from_fields(&data, ["name", "gender"], &defaults).map(|parts| parts.to_key())
    }

    #[test]
    fn fields_are_normalised_and_a_missing_one_takes_its_default() {
        assert_eq!(from(json!({"name": "  Anna \t Maria "})).unwrap(), r#"["anna maria","neutral"]"#);
        assert_eq!(from(json!({"name": "ANNA MARIA", "gender": null})).unwrap(), r#"["anna maria","neutral"]"#);
        assert_eq!(from(json!({"gender": "girl"})), Err("name".to_owned()));
        assert_eq!(from(json!({"name": ["x"]})), Err("name".to_owned()));
    }

    #[test]
    fn equal_numbers_make_one_key_and_rounded_ones_none() {
        let key = |number: &str| from(serde_json::from_str(&format!(r#"{{"name":{number},"gender":"x"}}"#)).unwrap());
        for same in ["320", "320.0", "3.2e2"] {
            assert_eq!(key(same).unwrap(), r#"[320,"x"]"#);
        }
        assert_eq!((key("-0").unwrap(), key("0").unwrap()), (r#"[0,"x"]"#.to_owned(), r#"[0,"x"]"#.to_owned()));
        assert_eq!(key("9.570381778160241").unwrap(), r#"[9.570381778160241,"x"]"#);
        assert_eq!(key("18446744073709551615").unwrap(), r#"[18446744073709551615,"x"]"#);
        for rounded in ["18446744073709551616", "9007199254740993.0", "1e300"] {
            assert_eq!(key(rounded), Err("name".to_owned()), "{rounded}");
        }
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        let two = |a: &str, b: &str| {
            KeyParts::from_fields(&json!({"a": a, "b": b}), ["a", "b"], &BTreeMap::new()).unwrap().to_key()
        };
        assert_ne!(two("a|b", "c"), two("a", "b|c"));
        assert_ne!(two("a\",\"b", "c"), two("a", "b\",\"c"));
    }

    #[test]
    fn a_key_shares_the_hash_tag_and_a_long_one_is_a_digest() {
        let flight = |prefix: &str, scope: &str, key: &str| {
            Names { namespace: "onetake".to_owned(), prefix: prefix.to_owned() }.flight(scope, key)
        };
        assert_eq!(flight("bull", "video", "[\"anna\"]"), "onetake:dedupe:video:[\"anna\"]");
        assert_eq!(flight("{bull}", "video", "[]"), "onetake:{bull}:dedupe:video:[]");
        assert_eq!(flight("bull", "{v}x", "[]"), "onetake:{v}:dedupe:vx:[]");
        assert!(flight("b", "v", &"x".repeat(201)).starts_with("onetake:dedupe:v:sha256:"));
    }

    #[test]
    fn what_rides_in_one_call_shares_a_slot() {
        let names = Names { namespace: "onetake".to_owned(), prefix: "bull".to_owned() };
        assert_eq!(names.by_slot(["a", "{x}a", "b", "{y}", "{x}b"].into_iter()), [vec![0, 2], vec![1, 4], vec![3]]);
    }
}
