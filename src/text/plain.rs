//! What serde says of input that it cannot read, in words for people who never saw our types.

/// `reason` without the names of Rust's types: "expected u8" is "expected a whole number from 0 to 255".
///
/// Where it stands in the text, "at line 1 column 2", stays at its end.
pub fn in_plain_words(reason: &str) -> String {
    if let Some((reason, place)) = reason.rsplit_once(" at line ")
        && place.split(" column ").all(|number| number.parse::<u64>().is_ok())
    {
        return format!("{} at line {place}", in_plain_words(reason));
    }
    match reason.rsplit_once(", expected ") {
        Some((found, expected)) => format!("{}, expected {}", found_plainly(found), plainly(expected)),
        None => match reason {
            "invalid digit found in string" | "cannot parse integer from empty string" => "expected a whole number",
            "number too large to fit in target type" | "number too small to fit in target type" => {
                "the number is too large or too small"
            }
            "invalid float literal" => "expected a number",
            "provided string was not `true` or `false`" => "expected true or false",
            _ if reason.starts_with("data did not match any variant of untagged enum") => {
                "its shape is not one of those"
            }
            _ => reason,
        }
        .to_owned(),
    }
}

/// What was expected, as serde names it.
pub fn plainly(expected: &str) -> String {
    let starts = |words: &[&str]| words.iter().any(|word| expected.starts_with(word));
    if let Some(number) = expected.strip_prefix("a nonzero ").or(expected.strip_prefix("nonzero "))
        && whole_number(number).is_some()
    {
        return "a whole number from 1".to_owned();
    }
    if let Some(number) = whole_number(expected) {
        return number.to_owned();
    }
    let plain = match expected {
        "f32" | "f64" => "a number",
        "string" | "a string" | "a borrowed string" | "str" | "a character" => "a text",
        "a boolean" | "bool" => "true or false",
        "variant identifier" | "string or map" | "a string or map" => "one of the known names",
        _ if starts(&["tuple struct ", "struct ", "internally tagged enum ", "adjacently tagged enum "]) => "an object",
        "map" | "a map" => "an object",
        _ if starts(&["a sequence", "sequence", "a tuple of ", "tuple of ", "an array of "]) => "a list",
        _ if starts(&["enum ", "struct variant ", "tuple variant ", "unit variant "]) => "one of the known names",
        other => other,
    };
    plain.to_owned()
}

fn whole_number(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "u128" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        _ => return None,
    })
}

/// The end alone: what was found may be quoted from somebody's own text.
fn found_plainly(found: &str) -> &str {
    match found {
        "invalid type: sequence" => "invalid type: a list",
        "invalid type: map" => "invalid type: an object",
        "invalid type: unit value" => "invalid type: null",
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Six {
        #[expect(dead_code, reason = "only how it fails to be read matters")]
        n: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Either {
        #[expect(dead_code, reason = "only how it fails to be read matters")]
        Six(Six),
    }

    fn told<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let reason = serde_json::from_str::<T>(text).unwrap_err().to_string();
        in_plain_words(reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason))
    }

    #[test]
    fn what_is_expected_is_told_without_the_names_of_types() {
        assert_eq!(told::<Six>("7"), "invalid type: integer `7`, expected an object");
        assert_eq!(told::<Six>("[]"), "invalid length 0, expected an object");
        assert_eq!(told::<u8>("-1"), "invalid value: integer `-1`, expected a whole number from 0 to 255");
        assert_eq!(told::<usize>("\"x\""), "invalid type: string \"x\", expected a whole number from 0");
        assert_eq!(told::<std::num::NonZeroU64>("0"), "invalid value: integer `0`, expected a whole number from 1");
        assert_eq!(told::<Vec<u8>>("{}"), "invalid type: an object, expected a list");
        assert_eq!(told::<String>("[]"), "invalid type: a list, expected a text");
        assert_eq!(told::<f64>("null"), "invalid type: null, expected a number");
        assert_eq!(told::<Either>("7"), "its shape is not one of those");
        let with_its_place = serde_json::from_str::<Six>("7").unwrap_err().to_string();
        assert_eq!(in_plain_words(&with_its_place), "invalid type: integer `7`, expected an object at line 1 column 1");
    }

    #[test]
    fn somebody_elses_words_stay() {
        let theirs = told::<u32>("\"x, expected usize\"");
        assert_eq!(theirs, "invalid type: string \"x, expected usize\", expected a whole number from 0 to 4294967295");
        assert_eq!(in_plain_words("unknown field `a`, expected `b`"), "unknown field `a`, expected `b`");
    }
}
