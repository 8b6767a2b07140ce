//! Waiting for a queue's marker: `BZPOPMIN` on a connection of its own.
//!
//! A blocking pop is never cancelled: an abandoned one would swallow the next marker. It runs to its end in a task that
//! owns the connection, and is ended early by `CLIENT UNBLOCK` alone. Connections come from a pool and go back to it;
//! one that misbehaved is closed instead, which the server notices. A cluster has a pool for each master: the connection
//! goes to the one that owns the marker, and to no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::ErrorKind;
use fred::interfaces::{ClientInterface, ClientLike, SortedSetsInterface};
use fred::types::config::{ReconnectPolicy, ServerConfig, UnresponsiveConfig};
use fred::types::{Builder, ConnectHandle, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::commands::number;
use super::nodes::Node;
use super::{Error, Redis, Reply};
use crate::clock::Millis;

/// One per watched queue.
const POOL_SIZE: u32 = 256;
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const PING_PATIENCE: Duration = Duration::from_millis(500);
/// Shorter blocks cost more than they save, and 0 would block for ever.
const SHORTEST_BLOCK: Duration = Duration::from_millis(10);
const LONGEST_BLOCK: Duration = Duration::from_secs(60);
/// How far a server may overrun the timeout that it was given before its connection counts as dead.
const OVERRUN: Duration = Duration::from_secs(1);
/// Before a lost connection is told, so that its reader cannot spin.
const LOST_PAUSE: Duration = Duration::from_millis(200);

/// How a wait for the marker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be a job to take now.
    Ready,
    /// The next delayed job is due then.
    Due { at_ms: Millis },
    /// The time passed, or [`MarkerWatch::stop`] ended the wait.
    Quiet,
    /// Redis or the connection went away.
    Lost,
}

/// Watches one queue's marker. Arm it, wait for the wake, take jobs, arm it again.
pub struct MarkerWatch {
    arm: mpsc::Sender<Duration>,
    armed: bool,
    wakes: mpsc::Receiver<Wake>,
    blocked: Blocked,
    stop: CancellationToken,
    task: JoinHandle<()>,
    redis: Redis,
    key: String,
}

/// The connection that is blocked now, as `CLIENT UNBLOCK` wants it, and at which node.
#[derive(Clone, Default)]
struct Blocked(Arc<Mutex<Option<At>>>);

#[derive(Clone)]
struct At {
    node: Option<Node>,
    client_id: i64,
}

impl Blocked {
    fn set(&self, blocked: Option<At>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = blocked;
    }

    fn get(&self) -> Option<At> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl MarkerWatch {
    /// Starts the task. `client_name` is what `CLIENT LIST` shows while the watch lives.
    pub fn start(redis: &Redis, key: String, client_name: String) -> Self {
        let (arm, arms) = mpsc::channel(1);
        let (wake, wakes) = mpsc::channel(1);
        let (blocked, stop) = (Blocked::default(), CancellationToken::new());
        let waiter = Waiter { redis: redis.clone(), key: key.clone(), client_name, blocked: blocked.clone() };
        let task = tokio::spawn(waiter.run(arms, wake, stop.clone()));
        Self { arm, armed: false, wakes, blocked, stop, task, redis: redis.clone(), key }
    }

    /// Begins to wait, for at most `timeout` (made to lie between 10 ms and a minute). Does nothing to an armed watch.
    pub fn arm(&mut self, timeout: Duration) {
        if !self.armed {
            self.armed = self.arm.try_send(timeout.clamp(SHORTEST_BLOCK, LONGEST_BLOCK)).is_ok();
        }
    }

    /// The wake that ends the armed wait. Never returns on a watch that is not armed.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the watch stays armed, and the wake is there for the next call.
    pub async fn wait(&mut self) -> Wake {
        if !self.armed {
            std::future::pending::<()>().await;
        }
        let wake = self.wakes.recv().await.unwrap_or(Wake::Lost);
        self.armed = false;
        wake
    }

    /// Ends the wait and the task, and hands the connection back. A marker popped meanwhile is put back for others.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for _ in 0..50 {
            if let Some(At { node, client_id }) = self.blocked.get() {
                // It may come before the block that it is to end: hence again, until the task has ended.
                let _ = self.redis.unblock(node.as_ref(), client_id).await;
            }
            if tokio::time::timeout(Duration::from_millis(20), &mut self.task).await.is_ok() {
                break;
            }
        }
        self.task.abort();
        if let Ok(Wake::Ready) = self.wakes.try_recv() {
            let zero = Bytes::from_static(b"0");
            let args = vec![Bytes::from(self.key.clone()), zero.clone(), zero];
            let _ = self.redis.command("ZADD", args).await;
        }
    }
}

impl Drop for MarkerWatch {
    /// Without [`MarkerWatch::stop`] the task ends when its present wait does.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Waiter {
    redis: Redis,
    key: String,
    client_name: String,
    blocked: Blocked,
}

pub(super) type Pooled = bb8::PooledConnection<'static, Connector>;

impl Waiter {
    async fn run(self, mut arms: mpsc::Receiver<Duration>, wake: mpsc::Sender<Wake>, stop: CancellationToken) {
        // Connected before the first wait, so that the worker is seen in CLIENT LIST while it is busy, too.
        let mut connection = self.connection().await.ok();
        loop {
            let timeout = tokio::select! {
                armed = arms.recv() => match armed {
                    Some(timeout) => timeout,
                    None => break,
                },
                () = stop.cancelled() => break,
            };
            let outcome = self.block(&mut connection, timeout).await.unwrap_or(Wake::Lost);
            if outcome == Wake::Lost {
                connection = None;
                tokio::time::sleep(LOST_PAUSE).await;
                // Perhaps another master has the marker now.
                self.redis.look_for_owners().await;
            }
            if wake.send(outcome).await.is_err() {
                break;
            }
        }
        if let Some(blocker) = connection {
            // The pool keeps it: without the name nobody counts it as a worker.
            let _ = blocker.rename("").await;
        }
    }

    async fn connection(&self) -> Result<Pooled, Error> {
        let blocker = self.redis.blocker(&self.key).await?;
        if let Err(error) = blocker.rename(&self.client_name).await {
            tracing::warn!(name = self.client_name, %error, "the worker stays without a name in CLIENT LIST");
        }
        Ok(blocker)
    }

    async fn block(&self, connection: &mut Option<Pooled>, timeout: Duration) -> Result<Wake, Error> {
        let blocker = match connection {
            Some(blocker) => blocker,
            None => connection.insert(self.connection().await?),
        };
        self.blocked.set(Some(At { node: blocker.node.clone(), client_id: blocker.id }));
        let popped = blocker.bzpopmin(&self.key, timeout).await;
        self.blocked.set(None);
        Ok(match popped? {
            None => Wake::Quiet,
            Some((_, score)) if score <= 0.0 => Wake::Ready,
            Some((_, score)) => Wake::Due { at_ms: score as Millis },
        })
    }
}

/// A connection that may block.
pub(super) struct Blocker {
    pub(super) client: Client,
    connection: ConnectHandle,
    node: Option<Node>,
    id: i64,
    pub(super) broken: bool,
}

impl Blocker {
    async fn connect(builder: &Builder, node: Option<Node>) -> Result<Self, Error> {
        let client = builder.build()?;
        let connection = client.connect();
        let mut blocker = Self { client, connection, node, id: 0, broken: true };
        blocker.client.wait_for_connect().await?;
        blocker.id = blocker.client.client_id().await?;
        blocker.broken = false;
        Ok(blocker)
    }

    async fn rename(&self, name: &str) -> Result<(), Error> {
        Ok(tokio::time::timeout(PING_PATIENCE, self.client.client_setname(name))
            .await
            .map_err(|_| Error::unreachable("no answer to CLIENT SETNAME"))??)
    }

    /// The lowest member of the sorted set `key`, with its score; `None` if none came in time or the wait was ended.
    async fn bzpopmin(&mut self, key: &str, timeout: Duration) -> Result<Option<(String, f64)>, Error> {
        // Until the answer is there the connection is of no use to anybody else.
        self.broken = true;
        let pop = self.client.bzpopmin::<Value, _>(key, timeout.as_secs_f64());
        let answer = match tokio::time::timeout(timeout + OVERRUN, pop).await {
            Ok(Ok(answer)) => Reply::from(answer),
            // So fred tells a nil. It cannot be a timeout of its own: these connections have none.
            Ok(Err(error)) if *error.kind() == ErrorKind::Timeout => Reply::Nil,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::unreachable("a blocking wait overran its time")),
        };
        self.broken = false;
        match answer.items()?.as_slice() {
            [] => Ok(None),
            [_, member, score] => Ok(Some((member.text()?, number(score)?))),
            _ => Err(Error::protocol("BZPOPMIN answers key, member and score")),
        }
    }
}

impl Drop for Blocker {
    /// Closes the socket: fred's task would otherwise keep it, and a blocked one would swallow a marker.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The blocking connections of one [`Redis`], by node.
pub(super) struct BlockerPools {
    builder: Builder,
    /// One for each node that was ever asked for; nodes that went away leave an empty one.
    pools: Mutex<HashMap<Option<Node>, bb8::Pool<Connector>>>,
}

impl BlockerPools {
    pub(super) fn new(builder: &Builder) -> Self {
        let mut builder = builder.clone();
        builder
            .with_config(|config| config.fail_fast = true)
            .with_performance_config(|performance| performance.default_command_timeout = Duration::ZERO)
            .with_connection_config(|connection| connection.unresponsive = UnresponsiveConfig::default())
            // A connection that broke is replaced by the pool: a new one needs a new name and id anyway.
            .set_policy(ReconnectPolicy::new_constant(1, 100));
        Self { builder, pools: Mutex::default() }
    }

    fn of(&self, node: Option<Node>) -> bb8::Pool<Connector> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.entry(node.clone()).or_insert_with(|| self.pool(node)).clone()
    }

    fn pool(&self, node: Option<Node>) -> bb8::Pool<Connector> {
        let mut builder = self.builder.clone();
        if let Some(Node(server)) = &node {
            let server = ServerConfig::Centralized { server: server.clone() };
            builder.with_config(|config| config.server = server);
        }
        bb8::Pool::builder()
            .max_size(POOL_SIZE)
            .connection_timeout(CONNECT_PATIENCE)
            .retry_connection(false)
            .build_unchecked(Connector { builder, node })
    }
}

impl Redis {
    /// A connection that may block, to the server that has `key`.
    pub(super) async fn blocker(&self, key: &str) -> Result<Pooled, Error> {
        let pool = self.blockers().of(self.owner(key)?);
        pool.get_owned().await.map_err(|error| match error {
            bb8::RunError::User(error) => error,
            bb8::RunError::TimedOut => Error::unreachable("no connection for a blocking wait"),
        })
    }
}

pub(super) struct Connector {
    builder: Builder,
    node: Option<Node>,
}

impl bb8::ManageConnection for Connector {
    type Connection = Blocker;
    type Error = Error;

    async fn connect(&self) -> Result<Blocker, Error> {
        tokio::time::timeout(CONNECT_PATIENCE, Blocker::connect(&self.builder, self.node.clone()))
            .await
            .map_err(|_| Error::unreachable("no connection for a blocking wait"))?
    }

    /// A ping: fred's own flag says connected long after a server has gone silent.
    async fn is_valid(&self, blocker: &mut Blocker) -> Result<(), Error> {
        match tokio::time::timeout(PING_PATIENCE, blocker.client.ping::<String>(None)).await {
            Ok(answer) => Ok(answer.map(drop)?),
            Err(_) => Err(Error::unreachable("no answer to a ping")),
        }
    }

    fn has_broken(&self, blocker: &mut Blocker) -> bool {
        blocker.broken || !blocker.client.is_connected()
    }
}
