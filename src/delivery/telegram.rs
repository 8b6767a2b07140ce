//! The Telegram Bot API over plain HTTP, as far as deliveries need it.
//!
//! Telegram knows no idempotency key, so the question after a failure is whether it may have got the whole request. It
//! cannot act on half of one: as long as the last byte of the body was not handed over, nothing was sent. The pace is
//! the caller's business. The bot token, a part of every address, appears in no log and no error.

mod answer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use url::Url;

use self::answer::Reply;
use super::Outcome;
use super::client::{describe, read_at_most, retry_after};
use crate::config;
use crate::text::template::shorten;

/// Telegram's limits, in UTF-16 units. Longer texts are cut.
pub const CAPTION_UNITS: usize = 1024;
pub const MESSAGE_UNITS: usize = 4096;

/// Real answers have a few kilobytes.
const ANSWER_BYTES: usize = 256 * 1024;

const CHUNK_BYTES: usize = 64 * 1024;

/// A client for one bot. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telegram {
    client: reqwest::Client,
    base_url: String,
    token: SecretString,
    time_limit: Duration,
}

/// Why there is no Telegram client.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("telegram.bot_token must be the token from @BotFather, such as 123456:ABC-def")]
    Token,
    #[error("telegram.base_url must be an address such as https://api.telegram.org")]
    BaseUrl,
}

/// The video to send.
#[derive(Clone, Copy, Debug)]
pub enum Video<'a> {
    /// A file to upload. Telegram takes up to 50 MB.
    File { path: &'a Path },
    /// A file that this bot (and no other) has sent before.
    FileId(&'a str),
}

/// What came of a sending, and what was learnt by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub outcome: Outcome,
    /// By this the bot can send the video again without uploading it.
    pub file_id: Option<String>,
    /// The `file_id` that was sent is worth nothing (any more); the file must be uploaded again. Comes with
    /// [`Outcome::Retry`].
    pub file_refused: bool,
    /// The chat has become a supergroup with this id; send there from now on. Comes with [`Outcome::Retry`].
    pub moved_to: Option<String>,
}

impl From<Outcome> for Sent {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, file_id: None, file_refused: false, moved_to: None }
    }
}

impl Telegram {
    /// `client` should follow no redirects (see [`super::client::builder`]). `time_limit` is for one sending, from
    /// connection to answer, with the upload.
    ///
    /// # Errors
    /// A token or an address that cannot be one.
    pub fn new(client: reqwest::Client, settings: &config::Telegram, time_limit: Duration) -> Result<Self, Error> {
        let token = settings.bot_token.clone();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
        if token.expose_secret().is_empty() || !token.expose_secret().chars().all(is_plain) {
            return Err(Error::Token);
        }
        let base_url = Url::parse(&settings.base_url).map_err(|_| Error::BaseUrl)?;
        if !matches!(base_url.scheme(), "http" | "https") || base_url.query().is_some() || base_url.fragment().is_some()
        {
            return Err(Error::BaseUrl);
        }
        let base_url = base_url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base_url, token, time_limit })
    }

    /// The public part of the token. A `file_id` is good for the bot that made it.
    pub fn bot_id(&self) -> &str {
        let token = self.token.expose_secret();
        token.split_once(':').map_or(token, |(id, _)| id)
    }

    /// Sends `video` to `chat` (an id or `@name`) once.
    ///
    /// # Cancel safety
    /// None: dropped before its end, it may or may not have sent.
    pub async fn send_video(&self, chat: &str, video: Video<'_>, caption: &str) -> Sent {
        let caption = shorten(caption, CAPTION_UNITS);
        match video {
            Video::FileId(file_id) => {
                self.send_json("sendVideo", json!({"chat_id": chat, "video": file_id, "caption": caption})).await
            }
            Video::File { path } => match self.upload(chat, path, caption.into_owned()).await {
                Ok(sent) => sent,
                // Files may be late on a folder that several machines share.
                Err(error) => certainly_not(format!("the video file cannot be read: {error}")),
            },
        }
    }

    /// Sends `text` to `chat` once, as it is: no markup is understood.
    ///
    /// # Cancel safety
    /// None: dropped before its end, it may or may not have sent.
    pub async fn send_message(&self, chat: &str, text: &str) -> Sent {
        let text = shorten(text, MESSAGE_UNITS);
        self.send_json("sendMessage", json!({"chat_id": chat, "text": text})).await
    }

    async fn send_json(&self, method: &str, arguments: Value) -> Sent {
        let written = Written::default();
        let text = arguments.to_string();
        let length = text.len() as u64;
        let body = written.watch(futures::stream::iter([Ok(Bytes::from(text))]), length);
        // Without the length the body would be chunked, which not every Bot API server takes.
        let request = self.post(method).header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, length);
        self.send(request.body(body), written).await
    }

    async fn upload(&self, chat: &str, path: &Path, caption: String) -> io::Result<Sent> {
        let file = File::open(path).await?;
        let length = file.metadata().await?.len();
        if length == 0 {
            return Err(io::Error::other("it is empty"));
        }
        let written = Written::default();
        let chunks = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
        let video = Part::stream_with_length(written.watch(chunks, length), length)
            .file_name("video.mp4")
            .mime_str("video/mp4")
            .expect("video/mp4 is a media type");
        // The file comes last, so that its last byte stands for the body's.
        let form = Form::new()
            .text("chat_id", chat.to_owned())
            .text("caption", caption)
            .text("supports_streaming", "true")
            .part("video", video);
        Ok(self.send(self.post("sendVideo").multipart(form), written).await)
    }

    fn post(&self, method: &str) -> RequestBuilder {
        let url = format!("{}/bot{}/{method}", self.base_url, self.token.expose_secret());
        self.client.post(url).timeout(self.time_limit)
    }

    async fn send(&self, request: RequestBuilder, written: Written) -> Sent {
        match request.send().await {
            Ok(response) => answer::judge(read(response, written).await),
            Err(error) if error.is_builder() => Outcome::Rejected { reason: describe(error) }.into(),
            Err(error) if error.is_connect() || !written.is_whole() => certainly_not(describe(error)),
            Err(error) => Outcome::Ambiguous { reason: describe(error) }.into(),
        }
    }
}

async fn read(response: Response, written: Written) -> Reply {
    let status = response.status().as_u16();
    // Telegram writes seconds; a date of somebody else in between counts as due.
    let retry_after = retry_after(response.headers(), i64::MAX);
    let body = read_at_most(response, ANSWER_BYTES).await;
    let answer = body.and_then(|body| serde_json::from_slice(&body).ok());
    Reply { status, retry_after, answer, body_written: written.is_whole() }
}

fn certainly_not(reason: String) -> Sent {
    Outcome::Retry { after: None, reason }.into()
}

/// Whether a body was handed over whole, and may have arrived.
#[derive(Clone, Default)]
struct Written(Arc<AtomicBool>);

impl Written {
    /// A body of `chunks`, `length` bytes in all, that leaves its mark here when its last byte is taken.
    fn watch(&self, chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static, length: u64) -> Body {
        let whole = self.0.clone();
        let mut taken = 0;
        Body::wrap_stream(chunks.inspect_ok(move |chunk| {
            taken += chunk.len() as u64;
            if taken >= length {
                whole.store(true, Ordering::Release);
            }
        }))
    }

    fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
