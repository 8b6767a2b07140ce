//! Reads the files of `video import`: every line is understood before the first one is sent.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::{Object, in_plain_words};

/// A video that exists, as the server takes it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub file_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Csv,
    JsonLines,
}

#[derive(Debug, PartialEq)]
pub(super) struct Bad {
    /// Counted from 1, as editors do.
    pub line: u64,
    pub reason: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub items: Vec<Item>,
    pub bad: Vec<Bad>,
}

impl Parsed {
    fn add(&mut self, line: u64, item: Result<Item, String>) {
        match item.and_then(whole) {
            Ok(item) => self.items.push(item),
            Err(reason) => self.bad.push(Bad { line, reason }),
        }
    }
}

const COLUMNS: [&str; 5] = ["name", "gender", "template", "file_id", "made_at"];

/// Reads a whole file.
///
/// # Errors
/// What makes the file as a whole unreadable: no text, no heading, nothing in it. Bad lines are no error here.
pub(super) fn parse(bytes: &[u8], format: Option<Format>) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    let parsed = match format {
        Some(Format::JsonLines) => json_lines(text),
        Some(Format::Csv) => csv(text)?,
        None if looks_like_json => json_lines(text),
        None => csv(text)?,
    };
    if parsed.items.is_empty() && parsed.bad.is_empty() {
        return Err("there is nothing in it".to_owned());
    }
    Ok(parsed)
}

/// The format that a flag names.
pub(super) fn format(text: &str) -> Result<Format, String> {
    match text {
        "csv" => Ok(Format::Csv),
        "jsonl" => Ok(Format::JsonLines),
        _ => Err("expected csv or jsonl".to_owned()),
    }
}

fn json_lines(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, text) in (1..).zip(text.lines()) {
        if !text.trim().is_empty() {
            let item = serde_json::from_str(text).map(|Object(item)| item);
            parsed.add(line, item.map_err(|e| plain(&e)));
        }
    }
    parsed
}

/// Without "at line 1 column 17": the line is told beside it, and is another one.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    in_plain_words(text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message))
}

fn csv(text: &str) -> Result<Parsed, String> {
    // Flexible, because a line that is too short is that line's fault and must not end the reading.
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let headings: Vec<String> =
        reader.headers().map_err(|e| e.to_string())?.iter().map(|heading| heading.to_lowercase()).collect();
    if let Some(stranger) = headings.iter().find(|heading| !COLUMNS.contains(&heading.as_str())) {
        return Err(format!("unknown column \"{stranger}\" in the heading; known are {}", COLUMNS.join(", ")));
    }
    for needed in ["name", "file_id"] {
        if headings.iter().filter(|heading| *heading == needed).count() != 1 {
            return Err(format!("the heading must have one column \"{needed}\" (name,gender,template,file_id)"));
        }
    }
    let mut parsed = Parsed::default();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        parsed.add(line, item(&headings, &record));
    }
    Ok(parsed)
}

fn item(headings: &[String], record: &csv::StringRecord) -> Result<Item, String> {
    if record.len() != headings.len() {
        return Err(format!("has {} fields, the heading has {}", record.len(), headings.len()));
    }
    let mut fields: BTreeMap<&str, String> =
        headings.iter().map(String::as_str).zip(record.iter().map(str::to_owned)).collect();
    let mut take = |name| fields.remove(name).filter(|value| !value.is_empty());
    Ok(Item {
        name: take("name").unwrap_or_default(),
        gender: take("gender"),
        template: take("template"),
        file_id: take("file_id").unwrap_or_default(),
        made_at: take("made_at"),
    })
}

fn whole(item: Item) -> Result<Item, String> {
    for (field, value) in [("name", &item.name), ("file_id", &item.file_id)] {
        if value.trim().is_empty() {
            return Err(format!("{field} is empty"));
        }
    }
    if let Some(made_at) = &item.made_at {
        made_at
            .parse::<jiff::Timestamp>()
            .map_err(|_| "made_at is not a time such as 2026-01-31T12:00:00Z".to_owned())?;
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Parsed {
        parse(text.as_bytes(), None).unwrap()
    }

    fn refused(text: &[u8]) -> String {
        parse(text, None).unwrap_err()
    }

    #[test]
    fn csv_with_quotes_blanks_and_a_byte_order_mark_is_understood() {
        let parsed = read("\u{feff}Name,gender,template,file_id\r\n\"Anna, dear\",girl,,AAA\r\n\r\n Bo ,,snow,BBB\r\n");
        let names: Vec<_> = parsed.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["Anna, dear", "Bo"]);
        assert_eq!(parsed.items[0].gender.as_deref(), Some("girl"));
        assert_eq!((&parsed.items[0].template, parsed.items[1].template.as_deref()), (&None, Some("snow")));
        assert_eq!(parsed.bad, []);
    }

    #[test]
    fn json_lines_are_understood() {
        let parsed =
            read("{\"name\":\"Anna\",\"file_id\":\"A\"}\n\n{\"name\":\"Bo\",\"gender\":\"boy\",\"file_id\":\"B\"}");
        assert_eq!(parsed.items.len(), 2);
        assert_eq!(serde_json::to_string(&parsed.items[0]).unwrap(), "{\"name\":\"Anna\",\"file_id\":\"A\"}");
    }

    #[test]
    fn bad_lines_are_told_by_number() {
        let bad = |text| read(text).bad.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            bad("name,file_id\nAnna,A\nBo\n,C\nEva,\n\"Two\nlines\",D\nx,y,z\n"),
            [
                "line 3: has 1 fields, the heading has 2",
                "line 4: name is empty",
                "line 5: file_id is empty",
                "line 8: has 3 fields, the heading has 2"
            ]
        );
        let json = bad(
            "{\"name\":\"A\",\"file_id\":\"A\"}\n{\"name\":\n{\"name\":\"B\"}\n{\"name\":\"C\",\"file_id\":\"C\",\"sex\":1}\n",
        );
        assert_eq!(json.len(), 3);
        assert!(json[0].starts_with("line 2: EOF"), "{json:?}");
        assert_eq!(json[1], "line 3: missing field `file_id`");
        assert!(json[2].starts_with("line 4: unknown field `sex`"), "{json:?}");
    }

    #[test]
    fn a_time_must_be_one() {
        assert_eq!(read("name,file_id,made_at\nA,A,2026-01-31T12:00:00Z\nB,B,soon\n").bad[0].line, 3);
    }

    #[test]
    fn a_file_that_is_none_is_refused_as_a_whole() {
        assert_eq!(refused(b"name,file_id\nAnna,\xff\n"), "line 2 is not UTF-8");
        assert!(refused(b"name,age,file_id\n").contains("unknown column \"age\""));
        assert!(refused(b"name,gender\nAnna,girl\n").contains("\"file_id\""));
        assert!(refused(b"").contains("heading"));
        assert_eq!(refused(b"name,file_id\n"), "there is nothing in it");
    }
}
