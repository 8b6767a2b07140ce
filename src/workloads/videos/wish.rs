//! What somebody may ask for: checked once, wherever the wish came in.

use serde_json::{Value, json};

use super::name;
use crate::config::{BUILTIN_TEMPLATES, Settings};
use crate::id::QueueName;
use crate::text;

/// The queue whose results are videos.
pub const QUEUE: &str = "video";

/// A field of a wish that cannot be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{field}\": {reason}")]
pub struct Wrong {
    pub field: &'static str,
    pub reason: String,
}

/// The data of the run that makes a video: the name as it is drawn, gender and template as they are compared. What is not
/// given has the queue's defaults.
///
/// # Errors
/// The first field that is wrong.
pub fn read(name: &str, gender: Option<&str>, template: Option<&str>, settings: &Settings) -> Result<Value, Wrong> {
    name::check_name(name).map_err(|error| Wrong { field: "name", reason: error.to_string() })?;
    let genders: Vec<&str> = settings.videos.genders.iter().map(String::as_str).collect();
    let gender = choose("gender", gender, "neutral", &genders, settings)?;
    let own = settings.videos.templates.keys().map(String::as_str);
    let templates: Vec<&str> = BUILTIN_TEMPLATES.into_iter().chain(own).collect();
    let template = choose("template", template, "default", &templates, settings)?;
    Ok(json!({"name": name::display(name), "gender": gender, "template": template}))
}

/// A Node job's data as a run is given it.
///
/// # Errors
/// Which field is wrong, and why, for the producer.
pub fn of_job(data: &Value, settings: &Settings) -> Result<Value, String> {
    let field = |name: &str| match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("\"{name}\" must be a text")),
    };
    let name = field("name")?.ok_or("the job's data has no \"name\"")?;
    read(name, field("gender")?, field("template")?, settings).map_err(|wrong| wrong.to_string())
}

fn choose(
    field: &'static str,
    given: Option<&str>,
    fallback: &str,
    known: &[&str],
    settings: &Settings,
) -> Result<String, Wrong> {
    let chosen = given.map(text::normalise).filter(|text| !text.is_empty());
    let chosen = chosen.unwrap_or_else(|| text::normalise(default_of(field, settings).unwrap_or(fallback)));
    if known.iter().any(|known| text::normalise(known) == chosen) {
        return Ok(chosen);
    }
    Err(Wrong { field, reason: format!("there are {}", known.join(", ")) })
}

/// The default of a field of the queue's dedupe key.
fn default_of<'s>(field: &str, settings: &'s Settings) -> Option<&'s str> {
    let queue = settings.queues.declared.get(&QueueName::parse(QUEUE).ok()?)?;
    queue.dedupe.as_ref()?.defaults.get(field)?.as_str()
}
