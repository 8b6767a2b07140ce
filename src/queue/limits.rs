//! A queue's own settings, which hold for all its workers: pause, concurrency, rate.

use std::num::NonZeroU32;

use serde::Serialize;

use super::{Error, Queue, plain, scripts};

/// What the queue's `meta` says. Odd values count as not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub is_paused: bool,
    /// How many jobs may be active in the whole queue.
    pub concurrency: Option<NonZeroU32>,
    pub rate: Option<RateLimit>,
}

/// At most `max` jobs are taken in each `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    pub max: NonZeroU32,
    /// In milliseconds.
    pub duration: NonZeroU32,
}

/// Every method may be repeated; its error is `Redis`. What gives room wakes a worker.
impl Queue {
    pub async fn limits(&self) -> Result<Limits, Error> {
        let values = self.run(&scripts::LIMITS, Vec::new()).await?.items()?;
        let number = |at: usize| values.get(at)?.text().ok()?.parse().ok();
        let rate = || Some(RateLimit { max: number(2)?, duration: number(3)? });
        let is_paused = values.first().is_some_and(|value| !value.is_nil());
        Ok(Limits { is_paused, concurrency: number(1), rate: rate() })
    }

    /// How many jobs may be active in the whole queue; `None` for no limit.
    pub async fn set_concurrency(&self, limit: Option<NonZeroU32>) -> Result<(), Error> {
        self.run(&scripts::SET_CONCURRENCY, vec![limit.map_or_else(Default::default, plain)]).await.map(drop)
    }

    /// How fast jobs may be taken in the whole queue; `None` for no limit. The present window goes on.
    pub async fn set_rate_limit(&self, limit: Option<RateLimit>) -> Result<(), Error> {
        let args = limit.map_or_else(Default::default, |limit| [plain(limit.max), plain(limit.duration)]);
        self.run(&scripts::SET_RATE_LIMIT, args.to_vec()).await.map(drop)
    }

    /// Ends the present rate window, so that jobs are taken at once. `false` if there was none.
    pub async fn remove_rate_limit(&self) -> Result<bool, Error> {
        Ok(self.run(&scripts::REMOVE_RATE_LIMIT, Vec::new()).await?.int()? == 1)
    }
}
