//! From a queue's setting to its processor.

use std::sync::Arc;

use reqwest::Client;

use super::Processor;
use super::builtin::Builtins;
use super::command::Command;
use super::http::HttpEndpoint;
use crate::clock::Clock;
use crate::config;

/// The processor that `settings` names. `client` is for endpoints; its process has installed a crypto provider.
///
/// # Errors
/// What is wrong with the setting, in words for whoever wrote it.
pub fn build(
    settings: &config::Processor,
    builtins: &Builtins,
    client: &Client,
    clock: &Clock,
) -> Result<Arc<dyn Processor>, String> {
    match settings {
        config::Processor::Builtin { name } => builtins.get(name.as_str()).cloned().ok_or_else(|| {
            let known: Vec<_> = builtins.keys().copied().collect();
            format!("there is no builtin processor \"{name}\"; there are {}", known.join(", "))
        }),
        config::Processor::Command { program, .. } if program.is_empty() => Err("the program has no name".into()),
        config::Processor::Command { program, args, time_limit } => {
            Ok(Arc::new(Command::new(program.clone(), args, time_limit.0)))
        }
        config::Processor::Pull {} => Err("its jobs are claimed: nothing of this server processes them".into()),
        config::Processor::Http { url, time_limit } => {
            Ok(Arc::new(HttpEndpoint::new(client.clone(), url, time_limit.0, clock.clone())?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::builtin;

    fn made(settings: serde_json::Value) -> Result<(), String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings: config::Processor = serde_json::from_value(settings).unwrap();
        build(&settings, &builtin::standard(), &Client::new(), &Clock::system()).map(|_| ())
    }

    #[test]
    fn each_kind_is_built_and_mistakes_are_named() {
        use serde_json::json;
        assert_eq!(made(json!({"kind": "builtin", "name": "echo"})), Ok(()));
        assert_eq!(made(json!({"kind": "command", "program": "cat"})), Ok(()));
        assert_eq!(made(json!({"kind": "http", "url": "http://localhost/", "time_limit": "5s"})), Ok(()));
        assert_eq!(
            made(json!({"kind": "builtin", "name": "eko"})).unwrap_err(),
            "there is no builtin processor \"eko\"; there are echo, fail, noop, sleep"
        );
        assert!(made(json!({"kind": "http", "url": "localhost"})).is_err());
        assert!(made(json!({"kind": "command", "program": ""})).is_err());
    }
}
