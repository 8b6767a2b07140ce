//! Builds, starts and stops everything that a process consists of.

use std::path::PathBuf;

use crate::config::Settings;

pub mod doctor;
pub mod managed_redis;

/// What `onetake dev` adds to the settings.
#[derive(Clone, Debug)]
pub struct Dev {
    /// The folder of everything that this instance keeps: Redis, SQLite, files.
    pub data: PathBuf,
    /// Show the main job once the server is up.
    pub demo: bool,
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn serve(_settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("the server is not built in")
}

/// Runs a server that needs nothing else: a `redis-server` child and SQLite. `settings.store.url`, `files_dir` and
/// `http.bind` are set already; `redis.url` is the child's.
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn dev(_settings: Settings, _dev: Dev) -> anyhow::Result<()> {
    anyhow::bail!("the server is not built in")
}
