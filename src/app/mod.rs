//! Builds, starts and stops everything that a process consists of.

use std::path::PathBuf;

use crate::config::Settings;
use crate::lock::ForeignNamespace;

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
    let shows = dev.demo;
    let ended = serve::run(settings.clone(), move |address| async move {
        if shows {
            demo::show(address, &settings).await;
        }
    })
    .await;
    redis.stop().await;
    ended.map_err(|error| match error.downcast_ref::<ForeignNamespace>() {
        // Nobody can run redis-cli against a child that has just been stopped.
        Some(_) => error.context(format!(
            "the Redis in {0} was used with another database; bring that back, or remove {0} to begin anew",
            dev.data.display()
        )),
        None => error,
    })
}
