//! What a person is told: a video with its caption, a plain text, or why there is none.

use serde_json::{Map, Value};

use super::mailbox::readable;
use crate::config;
use crate::flight::{DeliveryLease, Outcome};
use crate::json;
use crate::text::template;

/// A message to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    /// The stored file's name, if there is a video to go with it.
    pub file: Option<String>,
    /// Telegram's id of a video that was imported.
    pub file_id: Option<String>,
    is_success: bool,
}

impl Message {
    pub fn of(lease: &DeliveryLease, videos: &config::Videos) -> Self {
        let message = Self::filled(lease, videos);
        // Text in Postgres cannot have one, and nobody can read it.
        Self { text: message.text.replace('\0', ""), ..message }
    }

    fn filled(lease: &DeliveryLease, videos: &config::Videos) -> Self {
        // A failure has no result; what was asked for still names it.
        let mut fields = object(&lease.data);
        let Outcome::Succeeded(result) = &lease.outcome else {
            let text = template::fill(&videos.failure_message, &fields);
            return Self { text, file: None, file_id: None, is_success: false };
        };
        // What nobody can read is sent as it was written.
        let value = json::told(result).unwrap_or_else(|| Value::String(result.clone()));
        let text_of = |name: &str| value.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let (file, file_id) = (text_of("file"), text_of("file_id"));
        if file.is_none() && file_id.is_none() {
            return Self { text: readable(&value), file, file_id, is_success: true };
        }
        fields.extend(object(result));
        Self { text: template::fill(&videos.caption, &fields), file, file_id, is_success: true }
    }

    pub fn has_video(&self) -> bool {
        self.file.is_some() || self.file_id.is_some()
    }

    /// "video", "result", or "message" for a failure.
    pub fn kind(&self) -> &'static str {
        match (self.is_success, self.has_video()) {
            (false, _) => "message",
            (true, true) => "video",
            (true, false) => "result",
        }
    }
}

fn object(json: &str) -> Map<String, Value> {
    match json::told(json) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
