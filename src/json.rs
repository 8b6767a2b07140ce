//! JSON of strangers, where the common reader is stricter than they are.
//!
//! JSON lets a text hold half of a character (`"\ud83d"`): JavaScript writes one when it cuts a text inside an emoji. No text
//! of ours can hold that. It is no reason to refuse what stands beside it.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// What stands in `json`. In the place of a field that cannot be read (half a character, nested too deeply, a number out of
/// range) stands an empty list: whoever looks for a text or a number there finds that it is none, not that it is missing.
///
/// # Errors
/// It is no JSON, or cannot be read and is no object whose fields have readable names.
pub fn readable(json: &RawValue) -> Result<Value, serde_json::Error> {
    let whole = serde_json::from_str(json.get());
    if whole.is_ok() {
        return whole;
    }
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json.get()) else { return whole };
    let unreadable = || Value::Array(Vec::new());
    let read =
        |(name, field): (String, &RawValue)| (name, serde_json::from_str(field.get()).unwrap_or_else(|_| unreadable()));
    Ok(Value::Object(fields.into_iter().map(read).collect::<Map<_, _>>()))
}

/// What stands in `json`, for people: halves of characters are mended, and in the place of what cannot be read otherwise
/// stands an empty list. Nothing if there is no telling.
pub fn told(json: &str) -> Option<Value> {
    let mended = mended(json);
    let json = mended.as_deref().unwrap_or(json);
    serde_json::from_str::<&RawValue>(json).ok().and_then(|json| readable(json).ok())
}

/// A text; with U+FFFD in the place of each half of a character.
///
/// # Errors
/// It is no text.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let json = <Box<RawValue>>::deserialize(deserializer)?;
    let read = |json: &str| serde_json::from_str(json);
    read(json.get())
        .or_else(|error| mended(json.get()).map_or(Err(error), |json| read(&json)))
        .map_err(D::Error::custom)
}

/// As [`text`], if it is given and not null.
///
/// # Errors
/// It is no text.
pub fn text_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|text| text.0))
}

/// As [`text`], for each of a list.
///
/// # Errors
/// It is no list of texts.
pub fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Whole>::deserialize(deserializer)?.into_iter().map(|text| text.0).collect())
}

#[derive(Deserialize)]
struct Whole(#[serde(deserialize_with = "text")] String);

/// The same with U+FFFD in the place of each half of a character; nothing if there is none.
pub fn mended(json: &str) -> Option<String> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (mut mended, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = json[at..].find('\\') {
        at += found;
        match unit(at) {
            Some(0xD800..0xDC00) if matches!(unit(at + 6), Some(0xDC00..0xE000)) => at += 12,
            Some(0xD800..0xE000) => {
                mended.push_str(&json[copied..at]);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            // Any other escape: the character after the backslash has no meaning of its own.
            _ => at += 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    (copied > 0).then(|| mended + &json[copied..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_missing_and_the_rest_is_read() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let data = raw(&format!(r#"{{"k":"a","cut":"\ud83d","deep":{deep},"huge":1e999,"n":[1]}}"#));
        assert_eq!(readable(&data).unwrap(), json!({"k": "a", "cut": [], "deep": [], "huge": [], "n": [1]}));
        assert_eq!(told(data.get()).unwrap(), json!({"k": "a", "cut": "\u{fffd}", "deep": [], "huge": [], "n": [1]}));
        assert_eq!(readable(&raw(r#"{"k":{"cut":"\ud83d"}}"#)).unwrap(), json!({"k": []}));
        assert_eq!(told("[1e999]"), None);
        assert_eq!(readable(&raw("[1]")).unwrap(), json!([1]));
        assert!(readable(&raw(r#"["\ud83d"]"#)).is_err());
    }

    #[test]
    fn texts_are_taken_with_what_is_left_of_them() {
        #[derive(Deserialize)]
        struct Said {
            #[serde(deserialize_with = "text")]
            one: String,
            #[serde(default, deserialize_with = "text_if_any")]
            maybe: Option<String>,
            #[serde(default, deserialize_with = "texts")]
            many: Vec<String>,
        }
        let said: Said = serde_json::from_str(r#"{"one":"a\ud83d","maybe":null,"many":["b","\ude00"]}"#).unwrap();
        assert_eq!(
            (said.one.as_str(), said.maybe, said.many),
            ("a\u{fffd}", None, vec!["b".into(), "\u{fffd}".into()])
        );
        let said: Said = serde_json::from_str(r#"{"one":"a","maybe":"\ud83d"}"#).unwrap();
        assert_eq!(said.maybe.as_deref(), Some("\u{fffd}"));
        assert!(serde_json::from_str::<Said>(r#"{"one":1}"#).is_err());
    }

    #[test]
    fn halves_of_characters_are_mended_and_nothing_else() {
        for (cut, whole) in [
            (r#""hi \ud83d""#, Some(r#""hi \ufffd""#)),
            (r#""\ude00 \uD83D\u0041""#, Some(r#""\ufffd \ufffd\u0041""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#""\ud83d\ude00 \\ud83d \" ü\n""#, None),
            (r#""\u12""#, None),
            ("\"\\", None),
            ("\\ü", None),
        ] {
            assert_eq!(mended(cut).as_deref(), whole, "{cut}");
        }
    }
}
