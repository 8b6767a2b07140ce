//! Group commit: writes of one kind that arrive together ride in one transaction.
//!
//! One batch is under way at a time; whatever arrives meanwhile rides in the next. A lone write goes at once. If a batch
//! fails, each of its items is tried by itself, so that one bad item does not take its neighbours along.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use metrics::histogram;
use tokio::sync::{mpsc, oneshot};

use super::{Error, Store};

type Work<I, O> = Arc<dyn Fn(Vec<I>) -> BoxFuture<'static, Result<Vec<O>, Error>> + Send + Sync>;

struct Item<I, O> {
    input: I,
    answer: oneshot::Sender<Result<O, Error>>,
}

/// A group commit of one verb. Cheap to clone; its task ends when the last clone is dropped.
pub struct Batch<I, O> {
    sender: mpsc::Sender<Item<I, O>>,
}

impl<I, O> Clone for Batch<I, O> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<I, O> Batch<I, O>
where
    I: Clone + Send + 'static,
    O: Send + 'static,
{
    /// `work` gets at most the configured number of items and answers each, in order, in one unit of work.
    pub fn new<F>(store: &Store, name: &'static str, work: F) -> Self
    where
        F: Fn(Vec<I>) -> BoxFuture<'static, Result<Vec<O>, Error>> + Send + Sync + 'static,
    {
        let (sender, receiver) = mpsc::channel(store.inner.batch * 16);
        let most = store.inner.batch;
        let wait = store.inner.batch_wait;
        tokio::spawn(drive(receiver, Arc::new(work), name, most, wait));
        Self { sender }
    }

    /// Hands one item to the next batch and waits for its answer.
    ///
    /// # Errors
    /// What the batch failed with; [`Error::Unreachable`] when the server is stopping.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the item back: it may be committed.
    pub async fn run(&self, input: I) -> Result<O, Error> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Error::Unreachable(sqlx::Error::PoolClosed);
        self.sender.send(Item { input, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

async fn drive<I, O>(
    mut receiver: mpsc::Receiver<Item<I, O>>,
    work: Work<I, O>,
    name: &'static str,
    most: usize,
    wait: Duration,
) where
    I: Clone + Send + 'static,
    O: Send + 'static,
{
    let mut items = Vec::with_capacity(most);
    let mut expected = 0;
    while receiver.recv_many(&mut items, most).await > 0 {
        // Those who were answered last are likely to come again: a moment for them makes one batch out of two halves that
        // would take turns, and ends when they are all here. A lone write goes at once.
        let deadline = tokio::time::Instant::now() + wait;
        while items.len() < expected {
            let room = most - items.len();
            match tokio::time::timeout_at(deadline, receiver.recv_many(&mut items, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let answered = items.len();
        histogram!("onetake_store_batch_items", "name" => name).record(answered as f64);
        settle(std::mem::take(&mut items), &work).await;
        expected = (answered + receiver.len()).min(most);
    }
}

async fn settle<I: Clone, O>(items: Vec<Item<I, O>>, work: &Work<I, O>) {
    let inputs: Vec<I> = items.iter().map(|item| item.input.clone()).collect();
    let count = inputs.len();
    match work(inputs).await {
        Ok(outputs) => {
            assert_eq!(outputs.len(), count, "a batch answers each of its items");
            for (item, output) in items.into_iter().zip(outputs) {
                // An asker that has gone needs no answer.
                let _ = item.answer.send(Ok(output));
            }
        }
        Err(error) if error.is_unreachable() => {
            let mut items = items.into_iter();
            if let Some(last) = items.next_back() {
                for item in items {
                    let _ = item.answer.send(Err(Error::Unreachable(sqlx::Error::PoolTimedOut)));
                }
                let _ = last.answer.send(Err(error));
            }
        }
        Err(_) => {
            for item in items {
                let result = work(vec![item.input.clone()]).await.and_then(|mut outputs| {
                    outputs.pop().ok_or_else(|| Error::Setup("a batch answers each of its items".into()))
                });
                let _ = item.answer.send(result);
            }
        }
    }
}
