//! Passing a processor's progress on: the newest value counts, and a slow receiver never holds the work up.

use std::sync::{Arc, Mutex, OnceLock};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::processor::Progress;

/// What passes on, once something was reported: most jobs never do.
#[derive(Clone, Default)]
pub struct Passing(Arc<Mutex<Option<JoinHandle<()>>>>);

impl Passing {
    /// Waits until the last value was passed on. Drop the reporter before.
    pub async fn ended(self) {
        let task = self.0.lock().expect("no user panics inside").take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

/// Where a processor reports to, and what passes it on until the reporter is dropped.
pub fn forward<F>(pass_on: F) -> (Progress, Passing)
where
    F: Fn(Value) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    let (passing, pass_on) = (Passing::default(), Arc::new(pass_on));
    let (task, runtime) = (passing.0.clone(), Handle::current());
    let sender: OnceLock<watch::Sender<Option<Value>>> = OnceLock::new();
    let progress: Progress = Arc::new(move |value| {
        let sender = sender.get_or_init(|| {
            let (sender, receiver) = watch::channel(None);
            let passes = runtime.spawn(pass(receiver, pass_on.clone()));
            *task.lock().expect("no user panics inside") = Some(passes);
            sender
        });
        sender.send_replace(Some(value));
    });
    (progress, passing)
}

async fn pass<F>(mut receiver: watch::Receiver<Option<Value>>, pass_on: Arc<F>)
where
    F: Fn(Value) -> BoxFuture<'static, ()>,
{
    while receiver.changed().await.is_ok() {
        let newest = receiver.borrow_and_update().clone();
        if let Some(value) = newest {
            pass_on(value).await;
        }
    }
}
