//! Group commit: calls of one kind that arrive together ride in one.
//!
//! One batch is under way at a time; whatever arrives meanwhile rides in the next. So batches form by themselves under
//! load, and a lone item goes at once. If a batch fails, each of its items is tried by itself, so that one bad item does not
//! take its neighbours along.

use std::sync::Arc;

use futures::future::BoxFuture;
use metrics::histogram;
use tokio::sync::{mpsc, oneshot};

/// What a batch can fail with.
pub trait Failure: Clone + Send + 'static {
    /// It would meet every item alike: trying them one by one is of no use.
    fn is_of_all(&self) -> bool;
    /// The server is stopping, and takes nothing more.
    fn stopping() -> Self;
}

/// How much rides together.
#[derive(Clone, Copy, Debug)]
pub struct Ride {
    /// Labels metrics.
    pub name: &'static str,
    /// Items in one call, at most.
    pub most: usize,
}

type Work<I, O, E> = Arc<dyn Fn(Arc<Vec<I>>) -> BoxFuture<'static, Result<Vec<O>, E>> + Send + Sync>;

struct Item<I, O, E> {
    input: I,
    answer: oneshot::Sender<Result<O, E>>,
}

/// A group commit of one verb. Cheap to clone; its task ends when the last clone is dropped.
pub struct Batch<I, O, E> {
    sender: mpsc::Sender<Item<I, O, E>>,
}

impl<I, O, E> Clone for Batch<I, O, E> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<I, O, E> Batch<I, O, E>
where
    I: Clone + Send + Sync + 'static,
    O: Send + 'static,
    E: Failure,
{
    /// `work` gets at most `ride.most` items and answers each, in order.
    pub fn new<F>(ride: Ride, work: F) -> Self
    where
        F: Fn(Arc<Vec<I>>) -> BoxFuture<'static, Result<Vec<O>, E>> + Send + Sync + 'static,
    {
        let (sender, receiver) = mpsc::channel(ride.most * 16);
        tokio::spawn(drive(receiver, Arc::new(work), ride));
        Self { sender }
    }

    /// Hands one item to the next batch and waits for its answer.
    ///
    /// # Errors
    /// What the batch failed with; [`Failure::stopping`] when the server is stopping.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the item back: its work may be done.
    pub async fn run(&self, input: I) -> Result<O, E> {
        let (answer, answered) = oneshot::channel();
        self.sender.send(Item { input, answer }).await.map_err(|_| E::stopping())?;
        answered.await.map_err(|_| E::stopping())?
    }
}

async fn drive<I, O, E>(mut receiver: mpsc::Receiver<Item<I, O, E>>, work: Work<I, O, E>, ride: Ride)
where
    I: Clone + Send + Sync + 'static,
    O: Send + 'static,
    E: Failure,
{
    let mut items = Vec::new();
    while receiver.recv_many(&mut items, ride.most).await > 0 {
        histogram!("onetake_batch_items", "name" => ride.name).record(items.len() as f64);
        settle(std::mem::take(&mut items), &work).await;
    }
}

async fn settle<I: Clone, O, E: Failure>(items: Vec<Item<I, O, E>>, work: &Work<I, O, E>) {
    let (inputs, answers): (Vec<I>, Vec<_>) = items.into_iter().map(|item| (item.input, item.answer)).unzip();
    let inputs = Arc::new(inputs);
    match work(inputs.clone()).await {
        Ok(outputs) => {
            assert_eq!(outputs.len(), answers.len(), "a batch answers each of its items");
            for (answer, output) in answers.into_iter().zip(outputs) {
                // An asker that has gone needs no answer.
                let _ = answer.send(Ok(output));
            }
        }
        Err(error) if error.is_of_all() || answers.len() == 1 => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
        Err(_) => {
            for (input, answer) in inputs.iter().zip(answers) {
                let output = work(Arc::new(vec![input.clone()])).await.map(|mut outputs| outputs.pop());
                let output = output.map(|output| output.expect("a batch answers each of its items"));
                let _ = answer.send(output);
            }
        }
    }
}
