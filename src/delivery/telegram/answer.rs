//! What Telegram's answers mean for a delivery. Nothing is sent here.
//!
//! The Bot API has few error codes and tells most of its reasons in English only; the lists below are those that end or
//! turn a delivery. A reason that is not listed is final, and an operator may replay the delivery.

use std::time::Duration;

use serde::Deserialize;

use super::{Sent, certainly_not};
use crate::delivery::Outcome;
use crate::delivery::client::wait;

/// Parts of descriptions of 400, in lower case: this receiver cannot be reached, through no fault of ours.
const RECEIVER_GONE: &[&str] = &[
    "chat not found",
    "user not found",
    "user is deactivated",
    "input_user_deactivated",
    "peer_id_invalid",
    "user_is_blocked",
    "group chat was deactivated",
    "group chat was deleted",
    "bot was kicked",
    "bot was blocked",
    "chat_write_forbidden",
    "chat_restricted",
    "have no rights to send",
    "not enough rights",
    "need administrator rights",
];

/// Parts of descriptions of 400, in lower case: Telegram does not know the file by this id, or not any more.
const FILE_REFUSED: &[&str] = &[
    "wrong file identifier",
    "wrong file_id",
    "invalid file_id",
    "wrong remote file",
    "file reference expired",
    "file_reference_",
    "wrong padding in the string",
    "wrong string length",
    "can't use file of type",
    "file is temporarily unavailable",
];

/// Long enough for each of Telegram's own.
const DESCRIPTION_CHARS: usize = 200;

pub(super) struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// From the header: what stands between us and Telegram may ask for it too.
    pub retry_after: Option<Duration>,
    /// Nothing if the body was cut off, too long, or not Telegram's.
    pub answer: Option<Answer>,
    /// False if the answer came before the request was whole.
    pub body_written: bool,
}

/// <https://core.telegram.org/bots/api#making-requests>
#[derive(Deserialize)]
pub(super) struct Answer {
    ok: bool,
    result: Option<Message>,
    error_code: Option<u16>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

#[derive(Deserialize)]
struct Message {
    message_id: i64,
    video: Option<Media>,
    /// Telegram makes one of a video without sound.
    animation: Option<Media>,
    document: Option<Media>,
}

#[derive(Deserialize)]
struct Media {
    file_id: String,
}

pub(super) fn judge(reply: Reply) -> Sent {
    match reply.answer {
        Some(Answer { ok: true, result: Some(message), .. }) if is_success(reply.status) => delivered(message),
        Some(Answer { ok: false, error_code, description, parameters, .. }) => {
            let code = error_code.unwrap_or(reply.status);
            refused(code, &description, parameters, reply.retry_after, reply.body_written)
        }
        _ => refused(reply.status, "", Parameters::default(), reply.retry_after, reply.body_written),
    }
}

fn delivered(message: Message) -> Sent {
    let media = message.video.or(message.animation).or(message.document);
    let outcome = Outcome::Delivered { receipt: message.message_id.to_string() };
    Sent { file_id: media.map(|media| media.file_id), ..outcome.into() }
}

fn refused(code: u16, description: &str, parameters: Parameters, header: Option<Duration>, body_written: bool) -> Sent {
    let reason = reason(code, description);
    if let Some(chat_id) = parameters.migrate_to_chat_id {
        return Sent { moved_to: Some(chat_id.to_string()), ..certainly_not(reason) };
    }
    let description = description.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|part| description.contains(part));
    let outcome = match code {
        429 => Outcome::Retry { after: parameters.retry_after.map(wait).or(header), reason },
        403 => Outcome::Suppressed { reason },
        400 if says(RECEIVER_GONE) => Outcome::Suppressed { reason },
        400 if says(FILE_REFUSED) => return Sent { file_refused: true, ..certainly_not(reason) },
        // A success that cannot be read, or trouble behind Telegram's door. It may have sent before.
        200..=299 | 500.. if body_written => Outcome::Ambiguous { reason },
        500.. => Outcome::Retry { after: header, reason },
        _ => Outcome::Rejected { reason },
    };
    outcome.into()
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn reason(code: u16, description: &str) -> String {
    match description {
        "" if is_success(code) => format!("telegram answered {code}, but its answer cannot be read"),
        "" => format!("telegram answered {code}"),
        _ => {
            let description: String = description.chars().take(DESCRIPTION_CHARS).collect();
            format!("telegram answered {code}: {description}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(status: u16, body: Value) -> Sent {
        let answer = serde_json::from_value(body).ok();
        judge(Reply { status, retry_after: None, answer, body_written: true })
    }

    fn refusal(code: u16, description: &str) -> Sent {
        judged(code, json!({"ok": false, "error_code": code, "description": description}))
    }

    #[test]
    fn a_receiver_that_is_gone_ends_its_own_delivery() {
        for (code, description) in [
            (403, "Forbidden: bot was blocked by the user"),
            (403, "Forbidden: user is deactivated"),
            (403, "Forbidden: bot was kicked from the supergroup chat"),
            (403, "Forbidden: bot can't initiate conversation with a user"),
            (400, "Bad Request: chat not found"),
            (400, "Bad Request: user is deactivated"),
            (400, "Bad Request: PEER_ID_INVALID"),
            (400, "Bad Request: not enough rights to send videos to the chat"),
            (400, "Bad Request: group chat was deactivated"),
        ] {
            let reason = format!("telegram answered {code}: {description}");
            assert_eq!(refusal(code, description), Outcome::Suppressed { reason }.into());
        }
    }

    #[test]
    fn a_refused_file_id_asks_for_an_upload() {
        for description in [
            "Bad Request: wrong file identifier/HTTP URL specified",
            "Bad Request: wrong remote file identifier specified: Wrong string length",
            "Bad Request: wrong remote file identifier specified: can't unserialize it",
            "Bad Request: FILE_REFERENCE_EXPIRED",
            "Bad Request: file reference expired",
            "Bad Request: can't use file of type Photo as Video",
        ] {
            let sent = refusal(400, description);
            assert!(sent.file_refused, "{description}");
            assert!(matches!(sent.outcome, Outcome::Retry { .. }), "{description}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_request_or_with_us_is_final() {
        for (code, description) in [
            (400, "Bad Request: message text is empty"),
            (400, "Bad Request: file must be non-empty"),
            (401, "Unauthorized"),
            (404, "Not Found"),
            (409, "Conflict"),
            (413, "Request Entity Too Large"),
        ] {
            let reason = format!("telegram answered {code}: {description}");
            assert_eq!(refusal(code, description), Outcome::Rejected { reason }.into());
        }
    }

    #[test]
    fn a_refusal_without_telegrams_words_is_judged_by_its_status() {
        assert!(matches!(judged(404, json!("<html>")).outcome, Outcome::Rejected { .. }));
        assert!(matches!(judged(302, json!("<html>")).outcome, Outcome::Rejected { .. }));
        assert!(matches!(judged(413, json!("<html>")).outcome, Outcome::Rejected { .. }));
        assert!(matches!(judged(502, json!("<html>")).outcome, Outcome::Ambiguous { .. }));
    }

    #[test]
    fn a_wait_is_taken_from_the_answer_before_the_header() {
        let too_many = |parameters: Value| {
            let answer = json!({"ok": false, "error_code": 429, "description": "Too Many", "parameters": parameters});
            let header = Some(Duration::from_secs(9));
            let answer = serde_json::from_value(answer).ok();
            match judge(Reply { status: 429, retry_after: header, answer, body_written: true }).outcome {
                Outcome::Retry { after, .. } => after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(too_many(json!({"retry_after": 3})), Some(Duration::from_secs(3)));
        assert_eq!(too_many(json!({})), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_group_that_moved_is_reported_with_its_new_id() {
        let sent = judged(
            400,
            json!({"ok": false, "error_code": 400, "parameters": {"migrate_to_chat_id": -1_001_234_567_890_i64},
                "description": "Bad Request: group chat was upgraded to a supergroup chat"}),
        );
        assert_eq!(sent.moved_to.as_deref(), Some("-1001234567890"));
        assert!(matches!(sent.outcome, Outcome::Retry { .. }));
    }

    #[test]
    fn the_file_id_is_found_whatever_telegram_made_of_the_video() {
        for kind in ["video", "animation", "document"] {
            let sent = judged(200, json!({"ok": true, "result": {"message_id": 7, kind: {"file_id": "F"}}}));
            assert_eq!(sent.outcome, Outcome::Delivered { receipt: "7".into() });
            assert_eq!(sent.file_id.as_deref(), Some("F"));
        }
    }

    #[test]
    fn a_success_that_cannot_be_read_is_ambiguous() {
        for body in [json!("?"), json!({"ok": true}), json!({"ok": true, "result": true})] {
            assert!(matches!(judged(200, body).outcome, Outcome::Ambiguous { .. }));
        }
    }

    #[test]
    fn trouble_before_the_request_was_whole_is_not_ambiguous() {
        let reply = Reply { status: 502, retry_after: None, answer: None, body_written: false };
        assert!(matches!(judge(reply).outcome, Outcome::Retry { .. }));
    }
}
