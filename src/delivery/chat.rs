//! Delivery to a Telegram chat, at Telegram's pace; a file is uploaded once for all who asked.

use std::sync::Arc;
use std::time::Duration;

use super::Outcome;
use super::dispatch::{Sent, target, verdict};
use super::message::Message;
use super::telegram::{self, Telegram, Video};
use super::upload::{self, Upload};
use crate::config;
use crate::files::FileStore;
use crate::flight::{DeliveryLease, Verdict};
use crate::pace::Pace;
use crate::store::Store;

/// Waits up to this long are slept through; longer ones give their place in the runner up.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// How soon a delivery looks again whether another has uploaded its file.
const UPLOAD_WAIT: Duration = Duration::from_millis(500);
/// A reserved moment is good for this long: who comes later lines up again, so that a stall is not followed by a burst.
const SLOT_GOOD_FOR_MS: i64 = 1000;

/// One bot's chats. Cheap to clone.
#[derive(Clone)]
pub struct Chats {
    pub telegram: Arc<Telegram>,
    pub pace: Pace,
    pub store: Store,
    pub files: FileStore,
    pub settings: Arc<config::Settings>,
}

impl Chats {
    /// Sends a delivery; `after` is when it would be tried again if it fails.
    pub async fn send(&self, lease: &DeliveryLease, after: Option<Duration>) -> Sent {
        let chat = target(lease, "chat");
        let message = Message::of(lease, &self.settings.videos);
        // A result is whatever a processor says: of the files on this machine, only those in our folder are sent.
        let path = message.file.as_deref().and_then(|file| self.files.path_of(file));
        let upload = match (&message.file_id, &message.file) {
            (Some(file_id), _) => Some(Upload::Known(file_id.clone())),
            (None, None) => None,
            (None, Some(_)) if path.is_none() => {
                let reason = "the result's file is none in the folder of files".to_owned();
                return (Verdict::Dead { reason, ambiguous: false }, Vec::new());
            }
            (None, Some(_)) => {
                // Longer than one sending takes; the uploader itself takes it up again at once.
                let lasts = self.settings.delivery.time_limit.0 + self.settings.runner.lease.0;
                match upload::claim(&self.store, self.telegram.bot_id(), lease, lasts).await {
                    Ok(Upload::Wait) => return (again(UPLOAD_WAIT, false), Vec::new()),
                    Ok(upload) => Some(upload),
                    Err(error) => return (later(error.to_string()), Vec::new()),
                }
            }
        };
        if let Some(paced) = self.wait_for_slot(lease, &chat).await {
            self.let_others_upload(&upload, lease).await;
            return (paced, Vec::new());
        }
        let video = match (&upload, &path) {
            (Some(Upload::Known(file_id)), _) => Some(Video::FileId(file_id)),
            (Some(_), Some(path)) => Some(Video::File { path }),
            _ => None,
        };
        let mut sent = self.send_once(&chat, video, &message.text).await;
        if let Some(moved_to) = sent.moved_to.take() {
            sent = self.send_once(&moved_to, video, &message.text).await;
        }
        if let Outcome::Retry { after: Some(told), .. } = &sent.outcome {
            self.pace.hold(&chat, *told).await;
        }
        let mut rows = Vec::new();
        match (&sent.outcome, &sent.file_id, &upload) {
            (Outcome::Delivered { .. }, Some(file_id), Some(Upload::Mine)) => {
                rows = upload::done(self.telegram.bot_id(), lease, file_id);
            }
            (Outcome::Delivered { .. }, _, _) => {}
            _ => self.let_others_upload(&upload, lease).await,
        }
        if let (true, Some(Upload::Known(file_id))) = (sent.file_refused, &upload) {
            if message.file.is_none() {
                let reason = "Telegram refuses the imported file_id, and there is no file to upload".to_owned();
                return (Verdict::Dead { reason, ambiguous: false }, Vec::new());
            }
            // Nothing was sent: uploaded again at once.
            if let Err(error) = upload::forget(&self.store, self.telegram.bot_id(), lease, file_id).await {
                return (later(error.to_string()), Vec::new());
            }
            return (again(Duration::ZERO, true), Vec::new());
        }
        (verdict(lease, sent.outcome, after), rows)
    }

    async fn send_once(&self, chat: &str, video: Option<Video<'_>>, text: &str) -> telegram::Sent {
        match video {
            Some(video) => self.telegram.send_video(chat, video, text).await,
            None => self.telegram.send_message(chat, text).await,
        }
    }

    /// `None`: go now.
    async fn wait_for_slot(&self, lease: &DeliveryLease, chat: &str) -> Option<Verdict> {
        let later =
            |after, slot| Verdict::Again { after, reason: String::new(), counts: false, ambiguous: false, slot };
        let has_slot = lease.slot_at_ms.is_some_and(|at| (0..SLOT_GOOD_FOR_MS).contains(&(lease.now_ms - at)));
        if !has_slot {
            let wait = self.pace.reserve(chat).await;
            if wait > SHORT_WAIT {
                return Some(later(wait, true));
            }
            tokio::time::sleep(wait).await;
        }
        // Another message to this chat may have been refused since the moment was reserved.
        let held = self.pace.held(chat).await;
        (held > Duration::ZERO).then(|| later(held, false))
    }

    /// Whoever was to upload and did not lets the next one try at once.
    async fn let_others_upload(&self, upload: &Option<Upload>, lease: &DeliveryLease) {
        if matches!(upload, Some(Upload::Mine)) {
            // If SQL is away, the uploader's lease ends by itself.
            let _ = upload::give_up(&self.store, self.telegram.bot_id(), lease).await;
        }
    }
}

fn again(after: Duration, is_noted: bool) -> Verdict {
    let reason = if is_noted { "the file_id was refused; uploading again".to_owned() } else { String::new() };
    Verdict::Again { after, reason, counts: is_noted, ambiguous: false, slot: false }
}

fn later(reason: String) -> Verdict {
    Verdict::Again { after: Duration::from_secs(1), reason, counts: false, ambiguous: false, slot: false }
}
