//! What Redis answered, as a tree of our own.

use bytes::Bytes;
use fred::types::Value;

use super::Error;

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nil,
    Int(i64),
    /// A text, which need not be UTF-8.
    Text(Bytes),
    Array(Vec<Reply>),
}

impl Reply {
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// An integer, also one that came as text.
    ///
    /// # Errors
    /// `Protocol` if it is none.
    pub fn int(&self) -> Result<i64, Error> {
        match self {
            Self::Int(n) => Ok(*n),
            Self::Text(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| self.unlike("an integer")),
            _ => Err(self.unlike("an integer")),
        }
    }

    /// A text; what is not UTF-8 in it is replaced.
    ///
    /// # Errors
    /// `Protocol` if it is none.
    pub fn text(&self) -> Result<String, Error> {
        match self {
            Self::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Self::Int(n) => Ok(n.to_string()),
            _ => Err(self.unlike("a text")),
        }
    }

    /// # Errors
    /// `Protocol` if it is no text.
    pub fn bytes(self) -> Result<Bytes, Error> {
        match self {
            Self::Text(bytes) => Ok(bytes),
            Self::Int(n) => Ok(Bytes::from(n.to_string())),
            _ => Err(self.unlike("a text")),
        }
    }

    /// The items; nil has none.
    ///
    /// # Errors
    /// `Protocol` if it is neither.
    pub fn items(self) -> Result<Vec<Self>, Error> {
        match self {
            Self::Array(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            _ => Err(self.unlike("a list")),
        }
    }

    /// All items as texts.
    ///
    /// # Errors
    /// `Protocol` if it is no list of texts.
    pub fn texts(self) -> Result<Vec<String>, Error> {
        self.items()?.iter().map(Self::text).collect()
    }

    /// `None` for nil, else what `read` makes of it.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn option<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Result<Option<T>, Error> {
        if self.is_nil() { Ok(None) } else { read(self).map(Some) }
    }

    fn unlike(&self, wanted: &str) -> Error {
        let shape = match self {
            Self::Nil => "nil",
            Self::Int(_) => "an integer",
            Self::Text(_) => "a text",
            Self::Array(_) => "a list",
        };
        Error::protocol(format!("{shape} where {wanted} was expected"))
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Boolean(truth) => Self::Int(i64::from(truth)),
            Value::Integer(n) => Self::Int(n),
            Value::Double(n) => Self::Text(Bytes::from(n.to_string())),
            Value::String(text) => Self::Text(text.into_inner()),
            Value::Bytes(bytes) => Self::Text(bytes),
            Value::Queued => Self::Text(Bytes::from_static(b"QUEUED")),
            Value::Map(map) => Self::Array(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Text(Bytes::from(key.into_bytes().to_vec())), Self::from(value)])
                    .collect(),
            ),
            Value::Array(values) => Self::Array(values.into_iter().map(Self::from).collect()),
        }
    }
}
