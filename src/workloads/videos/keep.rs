//! What belongs to a video besides its run: the row in `generated_videos`, and its file in the folder of files.

use std::path::Path;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::files::FileStore;
use crate::flight::Claimed;
use crate::processor::{Failure, ReturnValue};
use crate::runner::Workload;
use crate::store::{Query, query};
use crate::text;

/// The workload of the queue `video`.
#[derive(Clone, Debug)]
pub struct Videos {
    pub files: FileStore,
}

#[async_trait]
impl Workload for Videos {
    /// A processor that is not ours may name the file it wrote by its path: it is moved into the folder of files.
    async fn keep(&self, run: &Claimed, returned: ReturnValue) -> Result<(ReturnValue, Vec<Query>), Failure> {
        let unreadable = |error| Failure::retry(format!("the result cannot be read: {error}"));
        let mut made: Value = serde_json::from_str(returned.get()).map_err(unreadable)?;
        if let Some(path) = made.get("file").and_then(Value::as_str).map(Path::new).filter(|path| path.is_absolute()) {
            let kept = self.files.keep(path, "video").await;
            let kept = kept.map_err(|error| Failure::retry(format!("the file could not be kept: {error}")))?;
            made["file"] = json!(kept.name);
            made["bytes"] = json!(kept.bytes);
        }
        let rows = row(run, &made).into_iter().collect();
        Ok((made.into(), rows))
    }
}

/// The row of a made video; none for a result that is neither a file nor a `file_id`.
fn row(run: &Claimed, made: &Value) -> Option<Query> {
    let text_of = |from: &Value, field: &str| from.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
    let (file, file_id) = (text_of(made, "file"), text_of(made, "file_id"));
    if file.is_none() && file_id.is_none() {
        return None;
    }
    let asked: Value = serde_json::from_str(&run.data).unwrap_or_default();
    let field = |name: &str| text_of(&asked, name).or_else(|| text_of(made, name)).unwrap_or_default();
    let statement = query(
        "-- video.made
        insert into generated_videos (name_key, gender, template, name, file, file_id, bytes, made_at_ms, flight_id, generation)
        values ($1, $2, $3, $4, $5, $6, $7, {now}, $8, $9)
        on conflict (name_key, gender, template) do update set name = excluded.name, file = excluded.file,
          file_id = excluded.file_id, bytes = excluded.bytes, made_at_ms = excluded.made_at_ms,
          flight_id = excluded.flight_id, generation = excluded.generation",
    );
    Some(
        statement
            .bind(text::normalise(&field("name")))
            .bind(text::normalise(&field("gender")))
            .bind(text::normalise(&field("template")))
            .bind(field("name"))
            .bind(file)
            .bind(file_id)
            .bind(made.get("bytes").and_then(Value::as_i64))
            .bind(run.flight.as_str())
            .bind(run.generation),
    )
}
