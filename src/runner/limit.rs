//! How long an attempt may take.

use std::future::Future;
use std::time::Duration;

use crate::processor::{Failure, ReturnValue};

/// The shorter of two bounds, of which either may be missing: a producer may ask for less than the queue allows.
pub(super) fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// Drops an attempt that takes longer: it has failed and may be repeated.
pub(super) async fn within(
    limit: Option<Duration>,
    attempt: impl Future<Output = Result<ReturnValue, Failure>>,
) -> Result<ReturnValue, Failure> {
    let Some(limit) = limit else { return attempt.await };
    match tokio::time::timeout(limit, attempt).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::retry(format!("took longer than {limit:?} and was stopped"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shorter_bound_counts_and_none_is_none() {
        let ms = Duration::from_millis;
        assert_eq!(shorter(Some(ms(5)), Some(ms(4))), Some(ms(4)));
        assert_eq!((shorter(None, Some(ms(4))), shorter(Some(ms(5)), None)), (Some(ms(4)), Some(ms(5))));
        assert_eq!(shorter(None, None), None);
        let quick = || std::future::ready(Ok(ReturnValue::null()));
        assert_eq!(within(None, quick()).await, Ok(ReturnValue::null()));
        assert_eq!(within(Some(ms(60_000)), quick()).await, Ok(ReturnValue::null()));
        let late = within(Some(ms(5)), std::future::pending()).await;
        assert_eq!(late, Err(Failure::retry("took longer than 5ms and was stopped")));
    }
}
