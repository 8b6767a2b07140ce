//! Captions and messages: `{name}` stands for a field of a JSON object.
//!
//! What is filled in is text and nothing else: braces in a value stay braces.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A template that names a field which will never be there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{{{0}}} is not one of the fields that can be filled in")]
pub struct UnknownField(String);

/// Whether `template` names only fields in `known`. For the configuration, before anyone gets to see it.
///
/// # Errors
/// The first unknown field.
pub fn check(template: &str, known: &[&str]) -> Result<(), UnknownField> {
    for piece in pieces(template) {
        if let Piece::Field { name, .. } = piece
            && !known.contains(&name)
        {
            return Err(UnknownField(name.to_owned()));
        }
    }
    Ok(())
}

/// `template` with its fields filled in. A field that `values` lacks stays as it is written; null is nothing.
pub fn fill(template: &str, values: &Map<String, Value>) -> String {
    let mut text = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Field { name, written } => match values.get(name) {
                None => text.push_str(written),
                Some(Value::Null) => {}
                Some(Value::String(value)) => text.push_str(value),
                Some(value) => text.push_str(&value.to_string()),
            },
        }
    }
    text
}

/// `text`, cut to at most `units` UTF-16 units, as Telegram counts; a cut ends in an ellipsis.
pub fn shorten(text: &str, units: usize) -> Cow<'_, str> {
    if text.encode_utf16().count() <= units {
        return Cow::Borrowed(text);
    }
    let mut left = units.saturating_sub(1);
    let kept = text.chars().take_while(|c| match left.checked_sub(c.len_utf16()) {
        Some(less) => {
            left = less;
            true
        }
        None => false,
    });
    Cow::Owned(kept.chain(['…']).collect())
}

enum Piece<'a> {
    Text(&'a str),
    Field { name: &'a str, written: &'a str },
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(length) = field_length(rest) {
            let (written, after) = rest.split_at(length);
            rest = after;
            return Some(Piece::Field { name: &written[1..length - 1], written });
        }
        // The first character is text even if it is a brace: it opens no field.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let length = rest[first..].find('{').map_or(rest.len(), |open| first + open);
        let (plain, after) = rest.split_at(length);
        rest = after;
        Some(Piece::Text(plain))
    })
}

/// The length of the field at the start of `text`, braces included.
fn field_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('{')?;
    let close = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    (close > 0 && inner[close..].starts_with('}')).then_some(close + 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(template: &str, values: Value) -> String {
        fill(template, values.as_object().unwrap())
    }

    #[test]
    fn fields_are_filled_in_once() {
        let values = json!({"name": "{gender}", "gender": "girl", "age": 5, "note": null});
        assert_eq!(filled("For {name}, {age}: {gender}{note}!", values), "For {gender}, 5: girl!");
    }

    #[test]
    fn what_is_no_known_field_stays_as_written() {
        let values = json!({"name": "Anna"});
        for text in ["{nme}", "{}", "{", "}", "{ name }", "{na{", "{name", "ё{x}ё"] {
            assert_eq!(filled(text, values.clone()), text);
        }
        assert_eq!(filled("{{name}}", values), "{Anna}");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert_eq!(check("A video for {name}", &["name"]), Ok(()));
        assert_eq!(check("{name} {nme}", &["name"]), Err(UnknownField("nme".into())));
        assert_eq!(
            check("{nme}", &[]).unwrap_err().to_string(),
            "{nme} is not one of the fields that can be filled in"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters_as_telegram_counts() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
        assert_eq!(shorten("😀😀", 4), "😀😀");
        assert_eq!(shorten("😀😀😀", 4), "😀…");
    }
}
