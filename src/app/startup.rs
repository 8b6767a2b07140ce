//! What is looked at before a server starts: whether this Redis can be trusted with jobs.

use std::time::Duration;

use anyhow::{Context, bail};
use tracing::{info, warn};

use crate::config;
use crate::lock::{self, Locks};
use crate::redis::{Redis, ServerInfo};

/// How long a start waits for Redis.
const PATIENCE: Duration = Duration::from_secs(2);
/// The oldest Redis whose commands the scripts use.
pub(super) const OLDEST: (u32, u32) = (6, 2);

/// Refuses a Redis that would lose jobs, and says what to do. One that is away is waited for later: accepting goes on.
///
/// # Errors
/// Too old, or it may evict keys (unless the settings allow that).
pub async fn check_redis(redis: &Redis, settings: &config::Redis) -> anyhow::Result<()> {
    // The connection is being made; a Redis that is up answers well before this.
    let mut up = redis.watch();
    let _ = tokio::time::timeout(PATIENCE, up.wait_for(|is_up| *is_up)).await;
    let info = match redis.info().await {
        Ok(info) => info,
        Err(error) if error.is_unreachable() => {
            warn!(%error, "Redis cannot be reached; accepting requests over SQL until it can");
            return Ok(());
        }
        Err(error) => return Err(error).context("cannot ask Redis about itself"),
    };
    if version(&info) < OLDEST {
        bail!("Redis {} is too old; Onetake needs 6.2 or later", info.version);
    }
    if info.maxmemory_policy != "noeviction" {
        let problem = format!(
            "Redis may evict keys (maxmemory-policy is {}): locks and jobs would vanish. Run `redis-cli config set \
             maxmemory-policy noeviction`, and write it into redis.conf",
            info.maxmemory_policy
        );
        match settings.eviction {
            config::Eviction::Refuse => bail!("{problem}; or set redis.eviction = \"warn\""),
            config::Eviction::Warn => warn!("{problem}"),
        }
    }
    if !info.aof_enabled {
        warn!(
            "Redis has no append-only file: plain jobs that were added since its last snapshot are lost when it dies. \
             Run `redis-cli config set appendonly yes`, and write it into redis.conf"
        );
    }
    info!(version = %info.version, role = %info.role, "using Redis {}", info.version);
    Ok(())
}

/// Refuses a namespace that belongs to another store. While Redis is away that cannot be seen; the keeper of the locks looks
/// again when it is there.
///
/// # Errors
/// It is another store's; or the store does not answer.
pub async fn claim_namespace(locks: &Locks) -> anyhow::Result<()> {
    match locks.claim_namespace().await {
        Ok(claimed) => claimed.context("redis.namespace"),
        Err(lock::Error::Redis(error)) if error.is_unreachable() => Ok(()),
        Err(error) => Err(error).context("cannot look whose the namespace in Redis is"),
    }
}

pub(super) fn version(info: &ServerInfo) -> (u32, u32) {
    let mut parts = info.version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
