//! The queue `slots`: jobs named `book`, `cancel` or `sync`.

use async_trait::async_trait;

use super::{Slots, Sync};
use crate::idempotency::Answered;
use crate::workloads::verbs::{Caller, Data, Failed, Verbs};

#[async_trait]
impl Verbs for Slots {
    const NAMES: &'static [&'static str] = &["book", "cancel", "sync"];

    async fn act(&self, verb: &str, data: Data, caller: Caller) -> Result<Answered, Failed> {
        let Caller { by, key } = caller;
        Ok(match verb {
            "book" => self.book(data.read()?, &by, Some(key)).await?,
            "cancel" => self.cancel(data.read()?, &by, Some(key)).await?,
            _ => {
                let list: Sync = data.read()?;
                list.check().map_err(|unfit| Failed::Data(unfit.to_string()))?;
                self.sync(list, &by, Some(key)).await?
            }
        })
    }
}
