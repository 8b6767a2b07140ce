//! One sending against a Telegram that misbehaves on demand.

use std::net::SocketAddr;

use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use self::fake::{Answer, BOT_ID, FakeTelegram, TOKEN};
use super::*;
use crate::config::Span;
use crate::delivery::client;

#[path = "../../../tests/it/support/telegram.rs"]
mod fake;

const MORE_THAN_SOCKETS_HOLD: usize = 32 * 1024 * 1024;

fn telegram_at(base_url: &str, token: &str, limit: Duration) -> Result<Telegram, Error> {
    let settings = config::Telegram {
        bot_token: token.into(),
        base_url: base_url.into(),
        messages_per_second: 30,
        chat_interval: Span(Duration::from_secs(1)),
    };
    Telegram::new(client::builder().build().unwrap(), &settings, limit)
}

fn telegram(base_url: &str) -> Telegram {
    telegram_at(base_url, TOKEN, Duration::from_secs(10)).unwrap()
}

fn impatient(base_url: &str) -> Telegram {
    telegram_at(base_url, TOKEN, Duration::from_millis(300)).unwrap()
}

fn file_of(bytes: usize) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; bytes]).unwrap();
    file
}

/// What comes of a message that gets `answer`.
async fn answered(answer: Answer) -> Outcome {
    let fake = FakeTelegram::start().await;
    fake.script("1", [answer]);
    telegram(&fake.base_url()).send_message("1", "hello").await.outcome
}

fn is_retry(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Retry { after: None, .. })
}

fn is_ambiguous(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ambiguous { .. })
}

#[tokio::test]
async fn a_video_is_uploaded_once_and_then_sent_by_its_file_id() {
    let fake = FakeTelegram::start().await;
    let telegram = telegram(&fake.base_url());
    let file = file_of(200_000);

    let first = telegram.send_video("1", Video::File { path: file.path() }, "For Anna").await;
    assert!(matches!(first.outcome, Outcome::Delivered { .. }), "{first:?}");
    let file_id = first.file_id.unwrap();
    let second = telegram.send_video("2", Video::FileId(&file_id), "For Anna too").await;
    assert_eq!(second.outcome, Outcome::Delivered { receipt: "2".into() });
    assert_eq!(second.file_id, Some(file_id.clone()));

    let calls = fake.wait_for(2).await;
    assert_eq!((&*calls[0].chat, &*calls[0].text), ("1", "For Anna"));
    assert_eq!(calls[0].video, Some(fake::Sent::Upload { bytes: 200_000 }));
    assert_eq!((&*calls[1].chat, &*calls[1].text), ("2", "For Anna too"));
    assert_eq!(calls[1].video, Some(fake::Sent::FileId(file_id)));
}

#[tokio::test]
async fn a_message_is_sent() {
    let fake = FakeTelegram::start().await;
    let sent = telegram(&fake.base_url()).send_message("@anna", "hello").await;
    assert_eq!(sent, Outcome::Delivered { receipt: "1".into() }.into());
    let [call] = &fake.calls()[..] else { panic!("one call") };
    assert_eq!((&*call.method, &*call.chat, &*call.text), ("sendMessage", "@anna", "hello"));
}

#[tokio::test]
async fn too_many_messages_wait_as_long_as_telegram_says() {
    let outcome = answered(Answer::TooMany { retry_after: 7 }).await;
    assert!(matches!(outcome, Outcome::Retry { after: Some(after), .. } if after == Duration::from_secs(7)));
}

#[tokio::test]
async fn a_receiver_that_is_gone_suppresses_its_delivery() {
    assert!(matches!(answered(Answer::Blocked).await, Outcome::Suppressed { .. }));
    assert!(matches!(answered(Answer::ChatNotFound).await, Outcome::Suppressed { .. }));
}

#[tokio::test]
async fn other_refusals_are_final() {
    for code in [400, 401, 404, 413] {
        let outcome = answered(Answer::Refused { code, description: "no" }).await;
        assert_eq!(outcome, Outcome::Rejected { reason: format!("telegram answered {code}: no") });
    }
}

#[tokio::test]
async fn no_clear_answer_to_a_whole_request_is_ambiguous() {
    assert!(is_ambiguous(&answered(Answer::ServerError).await));
    assert!(is_ambiguous(&answered(Answer::Garbled).await));
    assert!(is_ambiguous(&answered(Answer::ResetAfterBody).await));
}

#[tokio::test]
async fn silence_after_a_whole_request_is_ambiguous() {
    let fake = FakeTelegram::start().await;
    fake.script("1", [Answer::HangAfterBody, Answer::HangAfterBody]);
    let telegram = impatient(&fake.base_url());
    assert!(is_ambiguous(&telegram.send_message("1", "hello").await.outcome));
    let file = file_of(1000);
    assert!(is_ambiguous(&telegram.send_video("1", Video::File { path: file.path() }, "").await.outcome));
}

#[tokio::test]
async fn an_upload_that_did_not_get_through_is_tried_again() {
    let fake = FakeTelegram::start().await;
    fake.script("1", [Answer::HangBeforeBody]);
    let file = file_of(MORE_THAN_SOCKETS_HOLD);
    let sent = impatient(&fake.base_url()).send_video("1", Video::File { path: file.path() }, "").await;
    assert!(is_retry(&sent.outcome), "{sent:?}");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    // Accepts connections, but never says hello in TLS.
    let silent = impatient(&format!("https://{address}")).send_message("1", "hello").await;
    assert!(is_retry(&silent.outcome), "{silent:?}");
    drop(listener);
    let closed = telegram(&format!("http://{address}")).send_message("1", "hello").await;
    assert!(is_retry(&closed.outcome), "{closed:?}");
}

#[tokio::test]
async fn a_file_id_that_telegram_forgot_is_reported() {
    let fake = FakeTelegram::start().await;
    let sent = telegram(&fake.base_url()).send_video("1", Video::FileId("forgotten"), "").await;
    assert!(sent.file_refused && is_retry(&sent.outcome), "{sent:?}");

    fake.know_file_id("forgotten");
    let sent = telegram(&fake.base_url()).send_video("1", Video::FileId("forgotten"), "").await;
    assert!(matches!(sent.outcome, Outcome::Delivered { .. }), "{sent:?}");
}

#[tokio::test]
async fn a_group_that_moved_is_tried_again_elsewhere() {
    let fake = FakeTelegram::start().await;
    fake.script("-1", [Answer::MovedTo(-1001)]);
    let sent = telegram(&fake.base_url()).send_message("-1", "hello").await;
    assert!(is_retry(&sent.outcome), "{sent:?}");
    assert_eq!(sent.moved_to.as_deref(), Some("-1001"));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_sends_nothing() {
    let fake = FakeTelegram::start().await;
    let telegram = telegram(&fake.base_url());
    let empty = file_of(0);
    for path in [Path::new("/no/such/video.mp4"), empty.path()] {
        let sent = telegram.send_video("1", Video::File { path }, "").await;
        assert!(is_retry(&sent.outcome), "{sent:?}");
    }
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn long_texts_are_cut_to_what_telegram_takes() {
    let fake = FakeTelegram::start().await;
    fake.know_file_id("F");
    let telegram = telegram(&fake.base_url());
    let long = "😀".repeat(MESSAGE_UNITS);
    telegram.send_video("1", Video::FileId("F"), &long).await;
    telegram.send_message("1", &long).await;
    let lengths: Vec<_> = fake.calls().iter().map(|call| call.text.encode_utf16().count()).collect();
    assert_eq!(lengths, [CAPTION_UNITS - 1, MESSAGE_UNITS - 1], "an emoji is two units, the ellipsis one");
}

#[tokio::test]
async fn the_token_shows_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let hanging = impatient(&base_url);
    let timed_out = hanging.send_message("1", "hello").await;
    drop(listener);
    let refused = hanging.send_message("1", "hello").await;
    let shown = format!("{hanging:?} {timed_out:?} {refused:?}");
    assert!(!shown.contains("fake-token"), "{shown}");
    assert_eq!(hanging.bot_id(), BOT_ID);
}

#[test]
fn a_token_or_an_address_that_cannot_be_one_is_refused() {
    let new = |base_url, token| telegram_at(base_url, token, Duration::from_secs(1)).map(drop);
    assert_eq!(new("http://localhost:8081/", "1:A-b_c"), Ok(()));
    for token in ["", "1:a/../b", "1:a?b", "1:a b"] {
        assert_eq!(new("https://api.telegram.org", token), Err(Error::Token), "{token}");
    }
    for base_url in ["", "api.telegram.org", "ftp://api.telegram.org", "https://api.telegram.org/?a"] {
        assert_eq!(new(base_url, TOKEN), Err(Error::BaseUrl), "{base_url}");
    }
}
