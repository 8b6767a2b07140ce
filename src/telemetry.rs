//! Logs on stderr, so that stdout stays for answers, and what Prometheus is to be told to watch.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Alert rules for Prometheus, as a rule file.
pub const ALERTS: &str = include_str!("telemetry/alerts.yml");

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.filter: \"{filter}\" is not a filter such as \"info,onetake::runner=debug\": {message}")]
    Filter { filter: String, message: String },
    #[error("logging was set up before")]
    Twice,
}

/// Sends the logs of this process to stderr from now on.
///
/// # Errors
/// A filter that is none, or a second call.
pub fn init(log: &Log) -> Result<(), Error> {
    let filter = filter(&log.filter)?;
    let in_colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match log.format {
        LogFormat::Text => lines.with_ansi(in_colour).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    begun.map_err(|_| Error::Twice)
}

/// Whether [`init`] will take this.
///
/// # Errors
/// A filter that is none.
pub fn check(log: &Log) -> Result<(), Error> {
    filter(&log.filter).map(drop)
}

fn filter(text: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(text).map_err(|e| Error::Filter { filter: text.to_owned(), message: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_told_with_an_example() {
        assert!(filter("info,onetake::runner=debug").is_ok());
        let message = filter("onetake=loudly").unwrap_err().to_string();
        assert!(message.starts_with("log.filter: \"onetake=loudly\""), "{message}");
    }
}
