//! Keeping the locks of what is in hand.

use std::sync::Arc;

use tracing::debug;

use super::Limits;
use crate::clock::millis;
use crate::queue::Queue;
use crate::runner::control::Control;
use crate::runner::{Handler, Stopped};

/// T4 in Redis: keeps the locks of what is in hand.
pub(super) async fn keep(queue: Queue, handler: Arc<dyn Handler>, control: Control, limits: Limits) {
    loop {
        tokio::time::sleep(limits.renew).await;
        let held = control.held();
        if held.is_empty() {
            continue;
        }
        match queue.extend(&held, millis(limits.lease)).await {
            Ok(lost) if !handler.is_durable() => {
                for id in lost {
                    control.stop(&id, Stopped::Lost);
                }
                // Whatever was published and not heard is found here.
                control.stop_cancelled(&control.in_hand()).await;
            }
            Ok(_) => {}
            Err(error) => debug!(queue = %queue.name(), %error, "could not renew locks"),
        }
    }
}
