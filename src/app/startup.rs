//! What is looked at before a server starts: whether this Redis can be trusted with jobs.

use std::time::Duration;

use anyhow::{Context, bail};
use tracing::{info, warn};

use crate::access;
use crate::catalog::Catalog;
use crate::config::{self, Settings};
use crate::lock::{self, Locks};
use crate::queue::Keys;
use crate::redis::Redis;
use crate::store::Store;

/// How long a start waits for Redis.
const PATIENCE: Duration = Duration::from_secs(2);
/// The oldest Redis whose commands the scripts use.
pub(super) const OLDEST: (u32, u32) = (6, 2);

/// Refuses a Redis that would lose jobs, and says what to do. One that is away is waited for later: accepting goes on.
///
/// # Errors
/// Its user may not do what is needed; too old; a node of a cluster that the address does not call one; or it may evict
/// keys (unless the settings allow that).
pub async fn check_redis(redis: &Redis, settings: &config::Redis, catalog: &Catalog) -> anyhow::Result<()> {
    // The connection is being made; a Redis that is up answers well before this.
    let mut up = redis.watch();
    let _ = tokio::time::timeout(PATIENCE, up.wait_for(|is_up| *is_up)).await;
    let missing = async {
        match lacks_cluster_address(redis).await {
            Some(problem) => Ok(Err(problem)),
            None => redis.missing_rights(settings, &bases(settings, catalog)).await.map(Ok),
        }
    };
    let info = match missing.await {
        Ok(Err(problem)) => bail!("{problem}"),
        Ok(Ok(missing)) if !missing.is_empty() => bail!("{}", too_few(settings, &missing)),
        Ok(Ok(_)) => redis.info().await,
        Err(error) => Err(error),
    };
    let info = match info {
        Ok(info) => info,
        Err(error) if error.is_unreachable() => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            warn!(%error, %cause, "Redis cannot be reached; accepting requests over SQL until it can");
            return Ok(());
        }
        Err(error) => return Err(error).context("cannot ask Redis about itself"),
    };
    if info.release() < OLDEST {
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

/// Refuses an address that others can reach while nobody has a key: they would all be turned away.
///
/// # Errors
/// There is no key; or the store does not answer.
pub async fn check_keys(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    if settings.needs_key() && !access::has_key(store).await.context("cannot look for API keys")? {
        bail!(
            "others can reach http.bind ({}), and there is no API key. Set http.admin_key (ONETAKE_HTTP__ADMIN_KEY) to a \
             long random text; with it `onetake key create` makes others",
            settings.http.bind
        );
    }
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

/// How the keys of all that this server works on begin.
pub(super) fn bases(settings: &config::Redis, catalog: &Catalog) -> Vec<String> {
    let queues =
        catalog.entries().map(|entry| Keys::new(&settings.namespace, &settings.prefix, &entry.name).base().to_owned());
    queues.chain([format!("{}:", settings.namespace)]).collect()
}

/// What to tell of a user that may not do all that is needed.
pub(super) fn too_few(settings: &config::Redis, missing: &[String]) -> String {
    let user = crate::redis::Rights::user(settings);
    format!(
        "the Redis user \"{user}\" may not use {}. Give it the rights that `onetake config acl` prints",
        missing.join(", ")
    )
}

/// A node of a cluster that is reached by a plain address answers for its own slots only.
pub(super) async fn lacks_cluster_address(redis: &Redis) -> Option<String> {
    let info = redis.info().await.ok()?;
    (info.is_cluster_node && !redis.is_cluster()).then(|| {
        "this Redis is a node of a cluster: write its address as redis-cluster://host:port (rediss-cluster:// with TLS), \
         and give redis.prefix a hash tag, such as \"{bull}\""
            .to_owned()
    })
}
