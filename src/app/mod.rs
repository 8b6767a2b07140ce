//! Builds, starts and stops everything that a process consists of.

use std::path::PathBuf;

use crate::config::Settings;

mod demo;
pub mod doctor;
pub mod managed_redis;
mod parts;
mod serve;
mod startup;

pub use serve::serve;

/// What `onetake dev` adds to the settings.
#[derive(Clone, Debug)]
pub struct Dev {
    /// The folder of everything that this instance keeps: Redis, SQLite, files.
    pub data: PathBuf,
    /// Show the main job once the server is up.
    pub demo: bool,
}

/// Runs a server that needs nothing else: a `redis-server` child and SQLite. `settings.store.url`, `files_dir` and
/// `http.bind` are set already; `redis.url` is the child's.
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn dev(mut settings: Settings, dev: Dev) -> anyhow::Result<()> {
    let redis = managed_redis::ManagedRedis::start(&dev.data).await?;
    settings.redis.url = redis.url();
    let ended = serve::run(settings.clone(), move |address| async move {
        if dev.demo {
            demo::show(address, &settings).await;
        }
    })
    .await;
    redis.stop().await;
    ended
}
