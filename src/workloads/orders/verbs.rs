//! The queue `orders`: jobs named `create` or `cancel`. Giving money back is an operator's, not a bot's.

use async_trait::async_trait;
use serde::Deserialize;

use super::{Cancel, Orders, Wish};
use crate::id::Name;
use crate::idempotency::Answered;
use crate::text::Reason;
use crate::workloads::verbs::{Caller, Data, Failed, Verbs};

/// A bot cancels in the name of its user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelWish {
    order: String,
    user: Name,
    reason: Option<Reason>,
}

#[async_trait]
impl Verbs for Orders {
    const NAMES: &'static [&'static str] = &["create", "cancel"];

    async fn act(&self, verb: &str, data: Data, caller: Caller) -> Result<Answered, Failed> {
        let Caller { by, key } = caller;
        if verb == "create" {
            let wish: Wish = data.read()?;
            let order = wish.read(self.settings()).map_err(|wrong| Failed::Data(wrong.to_string()))?;
            return Ok(self.create(order, by, Some(key)).await?);
        }
        let CancelWish { order, user: Name(user), reason } = data.read()?;
        let actor = format!("user:{user}");
        Ok(self
            .cancel(Cancel { id: order, user: Some(user), actor, reason: reason.map(|reason| reason.0) }, Some(key))
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_bot_gives_a_reason_as_everybody_does() {
        let read = |reason: Value| {
            let wish = json!({"order": "o", "user": 7, "reason": reason});
            serde_json::from_value::<CancelWish>(wish).map(|wish| wish.reason.map(|reason| reason.0))
        };
        assert_eq!(read(json!(" too late ")).unwrap().as_deref(), Some("too late"));
        assert_eq!(read(Value::Null).unwrap(), None);
        for bad in ["", " ", "a\u{0}b", &"x".repeat(501)] {
            assert!(read(json!(bad)).is_err(), "{bad}");
        }
    }
}
