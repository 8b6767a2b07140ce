//! What callers send: bodies, query strings and paths, checked before anybody works with them.
//!
//! A body is JSON whatever its content type says. How long it takes, how large and how deep it is, are bounded here;
//! what is wrong with it is told with the name of the field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::path::ErrorKind as PathError;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use bytes::BytesMut;
use futures::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::AppState;
use super::problem::{Code, Problem};
use crate::text::{Object, in_plain_words};
pub use crate::text::{object, object_if_any, objects};

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(20);

/// A body of JSON, and its bytes.
pub struct Json<T> {
    pub value: T,
    pub raw: Bytes,
}

/// As [`Json`]; no body, or null, is an empty object.
pub struct OptionalJson<T> {
    pub value: T,
    pub raw: Bytes,
}

/// A body that nobody reads.
pub struct Raw(pub Bytes);

/// The query string.
pub struct Query<T>(pub T);

/// The parts of the path.
pub struct Path<T>(pub T);

/// What is looked for, in a query or a path. No name has a NUL, and Postgres takes no text with one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('\0') {
            return Err(serde::de::Error::custom("no name has a NUL character"));
        }
        Ok(Self(text))
    }
}

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let raw = read_body(request, state.settings.http.body_limit).await?;
        Ok(Self { value: parse(&raw, state.settings.http.json_depth)?, raw })
    }
}

impl<T: DeserializeOwned> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let raw = read_body(request, state.settings.http.body_limit).await?;
        let is_nothing = matches!(raw.trim_ascii(), b"" | b"null");
        let text: &[u8] = if is_nothing { b"{}" } else { &raw };
        Ok(Self { value: parse(text, state.settings.http.json_depth)?, raw })
    }
}

impl FromRequest<AppState> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        Ok(Self(read_body(request, state.settings.http.body_limit).await?))
    }
}

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            let field = error.path().to_string();
            misshapen(&field, &error.into_inner().to_string())
        })
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::MissingPathParams(error)) => Err(Problem::internal(error)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(Problem::field(
                "path",
                match error.into_kind() {
                    PathError::Message(reason) | PathError::DeserializeError { message: reason, .. } => reason,
                    _ => "the path is not percent-encoded UTF-8".to_owned(),
                },
            )),
            Err(_) => Err(Problem::field("path", "the path cannot be read")),
        }
    }
}

async fn read_body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::BodyTooLarge, format!("a body has at most {limit} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let late = |_| Problem::new(Code::RequestTimeout, format!("the body took longer than {BODY_WITHIN:?}"));
    let broken = |_| Problem::new(Code::InvalidJson, "the body broke off");
    let mut chunks = request.into_body().into_data_stream();
    let collected = async {
        // Nearly every body comes in one piece, which then is not copied.
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(broken)?;
            if first.len() + rest.len() + chunk.len() > limit {
                return Err(too_large());
            }
            if first.is_empty() { first = chunk } else { rest.extend_from_slice(&chunk) }
        }
        Ok(if rest.is_empty() { first } else { Bytes::from([&first[..], &rest[..]].concat()) })
    };
    tokio::time::timeout(BODY_WITHIN, collected).await.map_err(late)?
}

/// # Errors
/// What is wrong with it, with the name of the field.
pub fn parse<T: DeserializeOwned>(text: &[u8], deepest: usize) -> Result<T, Problem> {
    if depth(text) > deepest {
        return Err(Problem::new(Code::JsonTooDeep, format!("JSON may be nested {deepest} levels deep at most")));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        told(&field, &error.into_inner(), text)
    })?;
    json.end().map_err(|error| told("", &error, text))?;
    Ok(value)
}

fn told(field: &str, error: &serde_json::Error, body: &[u8]) -> Problem {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    if error.classify() == Category::Data {
        return misshapen(field, reason);
    }
    // A number in place of one of some names is a fault of grammar to serde_json.
    if reason == "expected value" && serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return misshapen(field, "expected one of the known names");
    }
    Problem::new(Code::InvalidJson, text)
}

/// `field` is "." or empty for the whole.
fn misshapen(field: &str, reason: &str) -> Problem {
    let parent = field.trim_start_matches('.');
    if let Some(name) = reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return Problem::missing(if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") });
    }
    let quoted = |start: &str| reason.strip_prefix(start).and_then(|rest| rest.split('`').next());
    let field = match quoted("unknown field `").or_else(|| quoted("duplicate field `")) {
        // The path may or may not name the field already.
        Some(name) if !parent.is_empty() && !parent.ends_with(name) => format!("{parent}.{name}"),
        Some(name) if parent.is_empty() => name.to_owned(),
        _ if parent.is_empty() => "body".to_owned(),
        _ => parent.to_owned(),
    };
    Problem::field(field, in_plain_words(reason))
}

/// How deeply arrays and objects are nested, at most. What stands in strings does not count.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only how it fails to be read matters")]
        #[serde(deserialize_with = "object")]
        inner: Inner,
        data: Option<Box<serde_json::value::RawValue>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only how it fails to be read matters")]
        n: u32,
    }

    fn refusal(text: &str) -> (Code, Option<String>) {
        let problem = parse::<Outer>(text.as_bytes(), 64).unwrap_err();
        (problem.code, problem.field)
    }

    #[test]
    fn what_is_wrong_is_told_with_the_field() {
        let field = |name: &str| Some(name.to_owned());
        assert_eq!(refusal("{"), (Code::InvalidJson, None));
        assert_eq!(refusal(""), (Code::InvalidJson, None));
        assert_eq!(refusal(r#"{"inner":{"n":1}} x"#), (Code::InvalidJson, None));
        assert_eq!(refusal("{}"), (Code::MissingField, field("inner")));
        assert_eq!(refusal(r#"{"inner":{}}"#), (Code::MissingField, field("inner.n")));
        assert_eq!(refusal(r#"{"inner":{"n":"x"}}"#), (Code::InvalidField, field("inner.n")));
        assert_eq!(refusal(r#"{"inner":{"n":1,"m":2}}"#), (Code::InvalidField, field("inner.m")));
        assert_eq!(refusal(r#"{"inner":{"n":1},"other":2}"#), (Code::InvalidField, field("other")));
        assert_eq!(refusal("[]"), (Code::InvalidField, field("body")));
        assert_eq!(refusal(r#"[{"n":1}, null]"#), (Code::InvalidField, field("body")), "no list of the fields' values");
        assert_eq!(refusal(r#"{"inner":[1]}"#), (Code::InvalidField, field("inner")));
        assert_eq!(refusal(&"[".repeat(1000)).0, Code::JsonTooDeep);
    }

    #[test]
    fn opaque_data_keeps_its_digits() {
        let read: Outer = parse(br#"{"inner":{"n":1},"data":{"n":123456789012345678901.50}}"#, 64).unwrap();
        assert_eq!(read.data.unwrap().get(), r#"{"n":123456789012345678901.50}"#);
    }

    #[test]
    fn brackets_in_strings_are_no_depth() {
        assert_eq!(depth(br#"{"a":"[[[[\"[[","b":[1]}"#), 2);
        assert_eq!(depth(b"[[]][[[]]]"), 3);
        assert_eq!(depth(b"]]]["), 1);
    }
}
