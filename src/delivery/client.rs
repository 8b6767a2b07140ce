//! What the HTTP clients of this module share: how they connect, and how they read what strangers answer.
//!
//! Answers are bounded in size and errors carry no address: Telegram's holds the bot token.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Response};

/// No answer may put a delivery off for longer; the longest step of the Standard Webhooks schedule.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Shorter than servers keep idle connections: a request into one that was just closed has an unknown end.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A client that follows no redirect: one would repeat the body, or the bot token, somewhere else.
pub fn builder() -> ClientBuilder {
    // Fails only where a provider is installed already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .pool_idle_timeout(IDLE_LIMIT)
        .user_agent(concat!("onetake/", env!("CARGO_PKG_VERSION")))
}

/// The error with its causes on one line, without the address.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let clause = inner.to_string();
        if !text.ends_with(&clause) {
            text = format!("{text}: {clause}");
        }
        cause = inner.source();
    }
    text
}

/// The body, if it arrives whole and within `limit` bytes.
pub(crate) async fn read_at_most(mut response: Response, limit: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > limit {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// How long `Retry-After` asks to wait: seconds, or a date seen from `now_s` (seconds since 1970).
pub(super) fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
            u64::try_from(at.saturating_sub(now_s)).unwrap_or(0)
        }
    };
    Some(wait(seconds))
}

/// A wait that someone else asked for, within reason.
pub(super) fn wait(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date_and_bounded() {
        let asked = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers, 784_111_767)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1993 08:49:37 GMT"), None, "that day was no Sunday");
        assert_eq!(asked("Sat, 06 Nov 1993 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), 0), None);
    }
}
