//! Answers on stdout: tables for people, JSON for programs.

use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::Value;

use super::client::Answer;

/// A column: its heading, and where its value stands in an item (a JSON pointer).
pub(super) type Column = (&'static str, &'static str);

#[derive(Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(self) -> bool {
        self.json
    }

    /// Text as it is.
    pub fn text(self, text: &str) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        Ok(stdout.flush()?)
    }

    /// The items of a list, which goes on with `--cursor` or `--start`.
    pub fn list(self, answer: &Answer, columns: &[Column]) -> anyhow::Result<()> {
        let flag = if answer.value["next"].is_number() { "--start" } else { "--cursor" };
        self.list_on_with(flag, answer, columns)
    }

    /// The items of a list that goes on with `flag`.
    pub fn list_on_with(self, flag: &str, answer: &Answer, columns: &[Column]) -> anyhow::Result<()> {
        if self.json {
            return self.text(&answer.text);
        }
        let items = answer.value["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return self.remark("nothing there");
        }
        let cells = |item: &Value| columns.iter().map(|(_, at)| cell(item.pointer(at))).collect();
        self.text(&table(columns.iter().map(|(heading, _)| *heading), items.iter().map(cells)))?;
        more(flag, answer).map_or(Ok(()), |more| self.remark(&more))
    }

    /// The items of a list of texts, a line each.
    pub fn lines(self, answer: &Answer) -> anyhow::Result<()> {
        if self.json {
            return self.text(&answer.text);
        }
        let items = answer.value["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() {
            return self.remark("nothing there");
        }
        self.text(&items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join("\n"))?;
        more("--start", answer).map_or(Ok(()), |more| self.remark(&more))
    }

    /// One thing, a line for each of its fields.
    pub fn details(self, answer: &Answer) -> anyhow::Result<()> {
        if self.json {
            return self.text(&answer.text);
        }
        let mut rows = Vec::new();
        flatten(&answer.value, "", &mut rows);
        self.text(&table([], rows.into_iter().map(|(name, value)| vec![name, value])))
    }

    /// What was done, in a sentence.
    pub fn done(self, answer: &Answer, sentence: &str) -> anyhow::Result<()> {
        self.text(if self.json { &answer.text } else { sentence })
    }

    /// Rows of our own making.
    pub fn rows<T: Serialize>(
        self,
        headings: &[&str],
        rows: &[T],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.text(&serde_json::to_string_pretty(rows)?);
        }
        let clean = |row: &T| cells(row).iter().map(|text| printable(text)).collect();
        self.text(&table(headings.iter().copied(), rows.iter().map(clean)))
    }

    /// A word beside the answer, on stderr so that pipes do not see it.
    fn remark(self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(std::io::stderr(), "{text}")?)
    }
}

/// How to go on with a list that has not ended.
fn more(flag: &str, answer: &Answer) -> Option<String> {
    let next = Some(&answer.value["next"]).filter(|next| !next.is_null())?;
    Some(format!("there is more: {flag} {}", cell(Some(next))))
}

fn table<'a>(headings: impl IntoIterator<Item = &'a str>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let headings: Vec<&str> = headings.into_iter().collect();
    if !headings.is_empty() {
        table.set_header(headings);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(other) => printable(&other.to_string()),
    }
}

/// Names come from anybody, and a terminal obeys what it prints: control characters are spelt out.
pub(super) fn printable(text: &str) -> String {
    let spell = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    if text.contains(char::is_control) { text.chars().map(spell).collect() } else { text.to_owned() }
}

fn flatten(value: &Value, prefix: &str, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, inner) in fields {
                let name = printable(name);
                let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(inner, &key, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, inner) in items.iter().enumerate() {
                flatten(inner, &format!("{prefix}[{index}]"), rows);
            }
        }
        other => rows.push((prefix.to_owned(), cell(Some(other)))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(cell(Some(&json!("Anna\u{1b}[2J\u{9b}1m"))), "Anna\\u{1b}[2J\\u{9b}1m");
        assert_eq!(cell(Some(&json!("Žofie 李"))), "Žofie 李");
    }

    #[test]
    fn a_list_says_how_it_goes_on() {
        let told = |flag: &str, next: Value| more(flag, &Answer { text: String::new(), value: json!({"next": next}) });
        assert_eq!(told("--cursor", json!("018f")).as_deref(), Some("there is more: --cursor 018f"));
        assert_eq!(told("--start", json!(50)).as_deref(), Some("there is more: --start 50"));
        assert_eq!(told("--start", Value::Null), None);
    }

    #[test]
    fn nested_fields_get_dotted_names() {
        let mut rows = Vec::new();
        flatten(&json!({"a": {"b": 1}, "c": [1, 2], "d": [{"e": null}]}), "", &mut rows);
        let rows: Vec<_> = rows.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(rows, ["a.b=1", "c=[1,2]", "d[0].e=-"]);
    }

    #[test]
    fn a_table_has_its_headings_and_no_borders() {
        let text = table(["NAME", "N"], [vec!["video".to_owned(), "3".to_owned()]].into_iter());
        assert_eq!(text, "NAME   N\nvideo  3");
    }
}
