//! The queue `pickup`: jobs named `accept`, `issue`, `take_back` or `return_to_courier`.

use async_trait::async_trait;

use super::{Pickup, Several};
use crate::idempotency::Answered;
use crate::workloads::verbs::{Caller, Data, Failed, Verbs};

#[async_trait]
impl Verbs for Pickup {
    const NAMES: &'static [&'static str] = &["accept", "issue", "take_back", "return_to_courier"];

    async fn act(&self, verb: &str, data: Data, caller: Caller) -> Result<Answered, Failed> {
        let Caller { by, key } = caller;
        Ok(match verb {
            "accept" => self.accept(data.read()?, &by, Some(key)).await?,
            "issue" => self.issue(several(data)?, &by, Some(key)).await?,
            "take_back" => self.take_back(several(data)?, &by, Some(key)).await?,
            _ => self.return_to_courier(data.read()?, &by, Some(key)).await?,
        })
    }
}

fn several(data: Data) -> Result<Several, Failed> {
    let several: Several = data.read()?;
    several.check().map_err(|unfit| Failed::Data(unfit.to_string()))?;
    Ok(several)
}
