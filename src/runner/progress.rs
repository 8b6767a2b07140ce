//! Passing a processor's progress on: the newest value counts, and a slow receiver never holds the work up.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::processor::Progress;

/// Where a processor reports to, and the task that passes it on; the task ends when the reporter is dropped.
pub fn forward<F>(pass_on: F) -> (Progress, JoinHandle<()>)
where
    F: Fn(Value) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let (sender, mut receiver) = watch::channel(None);
    let progress: Progress = Arc::new(move |value| {
        sender.send_replace(Some(value));
    });
    let task = tokio::spawn(async move {
        while receiver.changed().await.is_ok() {
            let newest = receiver.borrow_and_update().clone();
            if let Some(value) = newest {
                pass_on(value).await;
            }
        }
    });
    (progress, task)
}
