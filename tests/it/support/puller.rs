//! The workers in `tests/pull`, which claim jobs over HTTP: one process each.

use super::process::{Launch, Process};
use super::server::Onetake;
use super::wait::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Node,
    Python,
}

pub struct Puller(Process);

impl Puller {
    /// `lease` is in seconds.
    pub fn start(language: Language, server: &Onetake, queue: &str, lease: u32) -> Self {
        let (program, script) = match language {
            Language::Node => ("node", "worker.mjs"),
            Language::Python => ("python3", "worker.py"),
        };
        let script = format!("{}/tests/pull/{script}", env!("CARGO_MANIFEST_DIR"));
        let launch = Launch::new(program, program)
            .args([script, queue.to_owned()])
            .without("ONETAKE_")
            .env("ONETAKE_URL", server.base_url())
            .env("LEASE", lease.to_string())
            // The servers of tests are on this machine, whatever its proxy is.
            .env("no_proxy", "*")
            .talks();
        Self(launch.spawn())
    }

    /// The id of the next job that it took.
    ///
    /// # Panics
    /// If it ends, or takes none within [`PATIENCE`].
    pub async fn took(&mut self) -> String {
        let heard = async {
            loop {
                let line = self.0.read().await.expect("the worker still runs");
                if let Some(id) = line.strip_prefix("took ") {
                    return id.to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("the worker takes a job in time")
    }

    /// Dies with its job in hand.
    pub fn kill(&mut self) {
        self.0.kill();
    }
}
