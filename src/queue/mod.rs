//! Skeleton.
use crate::id::QueueName;
use crate::redis::{Error, Redis};

#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    pub id: Option<String>,
    pub delay_ms: i64,
    pub priority: u32,
    pub attempts: u32,
    pub remove_on_complete: Option<Keep>,
    pub remove_on_fail: Option<Keep>,
}
#[derive(Clone, Debug)]
pub struct Keep;
impl Keep {
    pub fn newest(_: u64) -> Self {
        Keep
    }
}
#[derive(Clone, Debug)]
pub struct Add {
    pub name: String,
    pub data: String,
    pub options: AddOptions,
}
#[derive(Clone)]
pub struct Queue;
impl Queue {
    pub fn new(_: Redis, _: &str, _: QueueName) -> Self {
        Queue
    }
    pub async fn ensure(&self, _: Vec<Add>, _: i64) -> Result<(), Error> {
        unimplemented!()
    }
    pub async fn position(&self, _: &str) -> Result<Option<i64>, Error> {
        unimplemented!()
    }
}
