//! The connection: how it is configured, made, kept and used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::config::{Options, ReconnectPolicy, UnresponsiveConfig};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::blocking::BlockerPools;
use super::monitor::Trouble;
use super::subscribe::Subscriber;
use super::{Error, Reply, Script, address, monitor};
use crate::config;

/// Commands that wait in memory for the connection, at most.
const BUFFERED_COMMANDS: usize = 20_000;
/// Between two attempts to connect again: first and longest, in milliseconds.
const RECONNECT_MS: (u32, u32) = (50, 1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer is waited for after the server has stopped answering pings.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Of each command: fail at once without a connection, one attempt.
pub(super) const OPTIONS: Options = Options {
    fail_fast: true,
    max_attempts: Some(1),
    max_redirections: None,
    timeout: None,
    cluster_node: None,
    cluster_hash: None,
};

/// A handle on one Redis server, cluster or sentinel group. Cheap to clone; the connection is shared and multiplexed.
///
/// The last clone that goes ends the connection and the tasks behind it.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    client: Client,
    /// The same with our options.
    commands: WithOptions<Client>,
    /// What our own keys begin with.
    namespace: String,
    up: watch::Receiver<bool>,
    /// Why it is not up, as far as known.
    trouble: Trouble,
    /// Ends the keeper, the monitor and the subscriber when the last handle goes.
    stop: CancellationToken,
    subscriber: Subscriber,
    blockers: BlockerPools,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Redis {
    /// Connects, and waits until the server answers.
    ///
    /// # Errors
    /// `Settings` for a bad address; `Unreachable` if no answer came within the command timeout.
    pub async fn connect(settings: &config::Redis) -> Result<Self, Error> {
        let redis = Self::connect_lazy(settings)?;
        let mut up = redis.watch();
        let patience = settings.command_timeout.0;
        match tokio::time::timeout(patience, up.wait_for(|up| *up)).await {
            Ok(Ok(_)) => Ok(redis),
            _ => Err(Error::unreachable(redis.0.trouble.explain(format!("no answer within {patience:?}")))),
        }
    }

    /// Starts connecting in the background, for ever. Until the server answers, commands are `Unreachable` at once.
    ///
    /// Needs to be called inside a tokio runtime.
    ///
    /// # Errors
    /// `Settings` for a bad address.
    pub fn connect_lazy(settings: &config::Redis) -> Result<Self, Error> {
        let mut config = address::read(settings)?;
        config.fail_fast = false;
        let command_timeout = settings.command_timeout.0;
        let mut builder = Builder::from_config(config);
        builder
            .with_performance_config(|performance| performance.default_command_timeout = command_timeout)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT_TIMEOUT;
                connection.internal_command_timeout = CONNECT_TIMEOUT;
                // The default repeats a script whose reply was lost: it would run three times.
                connection.max_command_attempts = 1;
                // Nor is a redirection followed behind our back: see `Redis::once_more`.
                connection.max_redirections = 0;
                connection.max_command_buffer_len = BUFFERED_COMMANDS;
                connection.reconnect_on_auth_error = true;
                connection.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(command_timeout), interval: Duration::from_millis(500) };
            })
            .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2));
        let client = builder.build()?;
        let stop = CancellationToken::new();
        let trouble = Trouble::default();
        tokio::spawn(keep_connected(client.clone(), trouble.clone(), stop.clone()));
        let up = monitor::start(client.clone(), trouble.clone(), stop.clone());
        let subscriber = Subscriber::new(builder.clone(), stop.clone());
        let blockers = BlockerPools::new(&builder);
        let commands = client.with_options(&OPTIONS);
        let namespace = settings.namespace.clone();
        Ok(Self(Arc::new(Inner { client, commands, namespace, up, trouble, stop, subscriber, blockers })))
    }

    /// What Onetake's own keys begin with, outside the queues.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Whether the server answered the last ping.
    pub fn is_up(&self) -> bool {
        *self.0.up.borrow()
    }

    /// Follows [`Redis::is_up`].
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.up.clone()
    }

    /// Runs `script`, which all of its keys' server must own (one hash tag).
    ///
    /// # Errors
    /// `Unreachable`: whether it ran is unknown. `Refused`: the script raised an error.
    pub async fn run(&self, script: &Script, keys: Vec<String>, args: Vec<Bytes>) -> Result<Reply, Error> {
        self.check_up()?;
        let by_digest = || self.0.commands.evalsha::<Value, _, _, _>(script.sha1.clone(), keys.clone(), args.clone());
        match self.answered(once_more(by_digest)).await {
            // It did not run, so running it now is its first time. EVAL also teaches the server the script, and goes
            // to the keys' node where SCRIPT LOAD could go to another.
            Err(error) if error.is_no_script() => {
                let by_text =
                    || self.0.commands.eval::<Value, _, _, _>(script.text.clone(), keys.clone(), args.clone());
                Ok(self.answered(once_more(by_text)).await?.into())
            }
            answered => Ok(answered?.into()),
        }
    }

    /// One plain command, whose first argument is its key (if it has one).
    pub(super) async fn command(&self, name: &'static str, args: Vec<Bytes>) -> Result<Reply, Error> {
        self.check_up()?;
        let hash = if args.is_empty() { ClusterHash::Random } else { ClusterHash::FirstKey };
        let command = CustomCommand::new_static(name, hash, false);
        let send = || self.0.commands.custom::<Value, _>(command.clone(), args.clone());
        Ok(self.answered(once_more(send)).await?.into())
    }

    /// Waits for an answer no longer than somebody may be there to give it: what was sent just before the connection broke
    /// may wait in fred for the next one.
    async fn answered(&self, sent: impl Future<Output = Result<Value, Error>>) -> Result<Value, Error> {
        let mut up = self.0.up.clone();
        tokio::select! {
            biased;
            // Dropped: unknown is whether it ran, as with any answer that is lost.
            answer = sent => answer,
            // Dropped: a look only.
            () = async {
                let _ = up.wait_for(|up| !*up).await;
                tokio::time::sleep(LAST_WORD).await;
            } => Err(Error::unreachable(self.0.trouble.explain("no answer, nor to a ping"))),
        }
    }

    /// fred's client, without our options.
    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn subscriber(&self) -> &Subscriber {
        &self.0.subscriber
    }

    pub(super) fn blockers(&self) -> &BlockerPools {
        &self.0.blockers
    }

    pub(super) fn check_up(&self) -> Result<(), Error> {
        if self.is_up() {
            Ok(())
        } else {
            Err(Error::unreachable(self.0.trouble.explain("no answer to the last ping")))
        }
    }
}

/// Sends, and sends once more what a cluster's node refused because another owns the slot: fred has asked who by then, and
/// what was refused did not run.
///
/// A slot that is just moving (ASK) stays refused, and that is `Unreachable`: on its new node a script would find some of
/// its queue's keys and not the others. Until the move is over the queue stands still.
async fn once_more<F, R>(send: F) -> Result<Value, Error>
where
    F: Fn() -> R,
    R: Future<Output = Result<Value, fred::error::Error>>,
{
    match send().await {
        Err(error) if *error.kind() == ErrorKind::Routing => Ok(send().await?),
        answered => Ok(answered?),
    }
}

/// Makes the connection again whenever fred gives it up for good, until stopped.
async fn keep_connected(client: Client, trouble: Trouble, stop: CancellationToken) {
    loop {
        let connection = client.connect();
        tokio::select! {
            ended = connection => {
                if let Ok(Err(error)) = &ended {
                    trouble.set(Some(error.to_string()));
                }
                tracing::warn!(cause = ?ended, "the connection to redis ended; connecting again");
            }
            // dropped: only the handle of the connection's task; `quit` ends the task itself.
            () = stop.cancelled() => {
                let _ = client.quit().await;
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return,
        }
    }
}
