//! Logs on stderr, so that stdout stays for answers; what is measured, and what Prometheus is to be told to watch.

mod help;

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Alert rules for Prometheus, as a rule file.
pub const ALERTS: &str = include_str!("telemetry/alerts.yml");

/// From a look into Redis to a long render.
const SECONDS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
/// What rides together in one call or transaction.
const ITEMS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// Measures for `/metrics` from now on, in the whole process.
///
/// What has a spread is a histogram with fixed bounds: those of several servers can be added up, and it takes no more memory
/// the longer a server runs.
///
/// # Errors
/// A second call.
pub fn measure() -> Result<PrometheusHandle, BuildError> {
    let recorded = histograms()?.install_recorder()?;
    help::describe();
    Ok(recorded)
}

fn histograms() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS)
}

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
    fn what_has_a_spread_is_a_histogram() {
        let recorder = histograms().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            help::describe();
            metrics::histogram!("onetake_queue_settle_seconds", "queue" => "mail").record(0.002);
            metrics::histogram!("onetake_batch_items", "name" => "accept").record(7.0);
        });
        let page = recorder.handle().render();
        for line in [
            "# HELP onetake_queue_settle_seconds Time of a call that ends jobs and takes the next.",
            "# TYPE onetake_queue_settle_seconds histogram",
            r#"onetake_queue_settle_seconds_bucket{queue="mail",le="0.001"} 0"#,
            r#"onetake_queue_settle_seconds_bucket{queue="mail",le="0.0025"} 1"#,
            r#"onetake_queue_settle_seconds_bucket{queue="mail",le="+Inf"} 1"#,
            r#"onetake_batch_items_bucket{name="accept",le="5"} 0"#,
            r#"onetake_batch_items_bucket{name="accept",le="10"} 1"#,
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_told_with_an_example() {
        assert!(filter("info,onetake::runner=debug").is_ok());
        let message = filter("onetake=loudly").unwrap_err().to_string();
        assert!(message.starts_with("log.filter: \"onetake=loudly\""), "{message}");
    }
}
