//! Time, as an argument: production reads the system's clock, tests move a manual one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as in BullMQ's keys and in our columns.
pub type Millis = i64;

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    /// The system's clock and an offset: a server whose clock is wrong, for tests.
    Skewed(i64),
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The system's clock, wrong by `offset_ms`.
    pub fn skewed(offset_ms: i64) -> Self {
        Self(Source::Skewed(offset_ms))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(start_ms: Millis) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start_ms))))
    }

    pub fn now_ms(&self) -> Millis {
        match &self.0 {
            Source::System => system_ms(),
            Source::Skewed(offset_ms) => system_ms() + offset_ms,
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// Moves a manual clock; does nothing to another.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(millis(by), Ordering::SeqCst);
        }
    }
}

fn system_ms() -> Millis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    millis(since_epoch)
}

/// A duration in whole milliseconds; what does not fit is the largest that does.
pub fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
