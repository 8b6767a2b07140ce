//! One source of settings: its values, and for each value where exactly it stands.
//!
//! Later layers win value by value, with two exceptions (see [`Layer::give_way_to`]) where half of an old table under
//! half of a new one would mean something that nobody wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use toml_edit::{Document, TableLike};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: PathBuf, line: Option<usize> },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A flag of the command line that sets the value at `key`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, such as "--bind".
    pub name: String,
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub values: Dict,
    /// By key; tables of a file are in here too, so that an error at a table has a line.
    pub origins: BTreeMap<String, Origin>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("settings")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Layer {
    /// Reads TOML. `path` is `None` for the built-in file.
    ///
    /// # Errors
    /// What is wrong with the syntax, with line and column.
    pub fn toml(text: &str, path: Option<&Path>) -> Result<Self, String> {
        let values: Dict = Toml::from_str(text).map_err(|e| e.to_string())?;
        let mut origins = BTreeMap::new();
        match path {
            None => leaves(&values, "", &mut |key, _| {
                origins.insert(key, Origin::Default);
            }),
            Some(path) => {
                let document = Document::parse(text).map_err(|e| e.to_string())?;
                let lines = Lines { text, path };
                lines.collect(document.as_table(), "", &mut origins);
            }
        }
        Ok(Self { values, origins })
    }

    /// Sets one value from text, typed like `like`: a string stays one even when it looks like a number.
    pub fn set(&mut self, key: &[String], text: &str, like: Option<&Value>, origin: Origin) {
        insert(&mut self.values, key, typed(text, like));
        self.origins.insert(key.join("."), origin);
    }

    /// Drops what a later layer replaces as a whole: a processor whose kind the later one names (the other fields belong
    /// to the old kind), and the defaults of a dedupe whose fields it names anew.
    pub fn give_way_to(&mut self, later: &Layer) {
        give_way(&mut self.values, &later.values);
    }
}

fn give_way(earlier: &mut Dict, later: &Dict) {
    for (name, value) in later {
        let Value::Dict(_, after) = value else { continue };
        if name == "processor" && after.contains_key("kind") {
            earlier.remove(name);
        }
        let Some(Value::Dict(_, before)) = earlier.get_mut(name) else { continue };
        if name == "dedupe" && after.contains_key("fields") {
            before.remove("defaults");
        }
        give_way(before, after);
    }
}

/// Calls `visit` for everything that is not a table, and for empty tables.
pub(super) fn leaves(dict: &Dict, prefix: &str, visit: &mut impl FnMut(String, &Value)) {
    for (name, value) in dict {
        let key = join(prefix, name);
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => leaves(inner, &key, visit),
            _ => visit(key, value),
        }
    }
}

/// The value at `key` in nested tables.
pub(super) fn find<'a>(dict: &'a Dict, key: &[impl AsRef<str>]) -> Option<&'a Value> {
    let (first, rest) = key.split_first()?;
    let value = dict.get(first.as_ref())?;
    if rest.is_empty() { Some(value) } else { find(value.as_dict()?, rest) }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn insert(dict: &mut Dict, key: &[String], value: Value) {
    let Some((first, rest)) = key.split_first() else { return };
    if rest.is_empty() {
        dict.insert(first.clone(), value);
        return;
    }
    let inner = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
    if !matches!(inner, Value::Dict(..)) {
        *inner = Value::from(Dict::new());
    }
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// `text` as the type that `like` has. What cannot be read as that stays a string, and the settings' own types refuse it
/// with a message that names the key.
fn typed(text: &str, like: Option<&Value>) -> Value {
    let guess = || text.trim().parse::<Value>().unwrap_or_else(|never| match never {});
    match like {
        Some(Value::String(..) | Value::Char(..)) => Value::from(text),
        Some(Value::Array(..)) if !text.trim_start().starts_with('[') => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().into()
        }
        _ => guess(),
    }
}

struct Lines<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Lines<'_> {
    fn collect(&self, table: &dyn TableLike, prefix: &str, origins: &mut BTreeMap<String, Origin>) {
        for (name, item) in table.iter() {
            let key = join(prefix, name);
            let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
            let line = span.map(|span| self.text[..span.start].matches('\n').count() + 1);
            origins.insert(key.clone(), Origin::File { path: self.path.to_owned(), line });
            if let Some(inner) = item.as_table_like() {
                self.collect(inner, &key, origins);
            }
        }
    }
}
