//! Subscriptions: one connection for all channels of this process, subscribed again after every reconnect.
//!
//! What is published while the connection is away is missed, as Redis keeps nothing; whoever listens looks for itself
//! from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::{Builder, ClusterHash, CustomCommand, RespVersion, Value};
use tokio::sync::{OnceCell, broadcast};
use tokio_util::sync::CancellationToken;

use super::{Error, Redis, Reply};

/// Payloads that may wait for a slow listener; older ones are dropped for it.
const BACKLOG: usize = 256;
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

type Channels = Arc<Mutex<HashMap<String, broadcast::Sender<Bytes>>>>;

/// The payloads published to one channel, from the moment of subscribing.
pub struct Subscription {
    payloads: broadcast::Receiver<Bytes>,
}

impl Subscription {
    /// The next payload; `None` when the connection was closed for good. Those missed by being slow are skipped.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.payloads.recv().await {
                Ok(payload) => return Some(payload),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Redis {
    /// Listens to `channel`.
    ///
    /// # Errors
    /// `Unreachable` if Redis is away now. Later absences heal by themselves.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription, Error> {
        self.check_up()?;
        self.subscriber().subscribe(channel).await
    }
}

/// The connection behind all subscriptions, made at the first.
pub(super) struct Subscriber {
    builder: Builder,
    stop: CancellationToken,
    client: OnceCell<Client>,
    channels: Channels,
    /// One at a time: who finds a channel in `channels` may trust that the server knows of it.
    turn: tokio::sync::Mutex<()>,
}

impl Subscriber {
    pub(super) fn new(builder: Builder, stop: CancellationToken) -> Self {
        Self { builder, stop, client: OnceCell::new(), channels: Channels::default(), turn: Default::default() }
    }

    async fn subscribe(&self, channel: &str) -> Result<Subscription, Error> {
        let _turn = self.turn.lock().await;
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        let (payloads, abandoned, is_new) = {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            let abandoned: Vec<String> = channels
                .extract_if(|name, sender| sender.receiver_count() == 0 && name != channel)
                .map(|(name, _)| name)
                .collect();
            let is_new = !channels.contains_key(channel);
            let sender = channels.entry(channel.to_owned()).or_insert_with(|| broadcast::channel(BACKLOG).0);
            (sender.subscribe(), abandoned, is_new)
        };
        if !abandoned.is_empty() {
            client.unsubscribe(abandoned).await?;
        }
        if is_new && let Err(error) = listen(client, channel).await {
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(channel);
            return Err(error);
        }
        Ok(Subscription { payloads })
    }

    async fn connect(&self) -> Result<Client, Error> {
        let mut builder = self.builder.clone();
        // With the older protocol a connection that subscribes cannot ping, and `listen` needs to.
        builder.with_config(|config| config.version = RespVersion::RESP3);
        let client = builder.build()?;
        let messages = client.message_rx();
        tokio::spawn(hand_out(messages, self.channels.clone(), self.stop.clone()));
        tokio::spawn(listen_again(client.clone(), client.reconnect_rx(), self.channels.clone(), self.stop.clone()));
        client.connect();
        let (closing, stop) = (client.clone(), self.stop.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            let _ = closing.quit().await;
        });
        match tokio::time::timeout(CONNECT_PATIENCE, client.wait_for_connect()).await {
            Ok(connected) => connected?,
            Err(_) => {
                let _ = client.quit().await;
                return Err(Error::unreachable("no connection for subscriptions"));
            }
        }
        Ok(client)
    }
}

/// Returns when the server knows of the subscription: fred's own call returns when it was sent, and a message published
/// then may pass it by. The server answers in order, so an answered ping says that it has subscribed.
async fn listen(client: &Client, channel: &str) -> Result<(), Error> {
    client.subscribe(channel).await?;
    // In a cluster fred sends all subscriptions of a client to the node that its name hashes to.
    let there = ClusterHash::Custom(fred::util::redis_keyslot(client.id().as_bytes()));
    let ping = CustomCommand::new_static("PING", there, false);
    client.custom::<Value, Bytes>(ping, Vec::new()).await?;
    Ok(())
}

/// Subscribes all channels anew after each reconnect. (fred's own way sends an empty SUBSCRIBE when there are none, whose
/// error then answers the next command.)
async fn listen_again<T: Clone>(
    client: Client,
    mut reconnects: broadcast::Receiver<T>,
    channels: Channels,
    stop: CancellationToken,
) {
    loop {
        let reconnected = tokio::select! {
            reconnected = reconnects.recv() => reconnected,
            () = stop.cancelled() => return,
        };
        if let Err(broadcast::error::RecvError::Closed) = reconnected {
            return;
        }
        let names: Vec<String> = channels.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        if !names.is_empty()
            && let Err(error) = client.subscribe(names).await
        {
            // The connection broke again; so there will be another reconnect.
            tracing::warn!(%error, "the channels could not be subscribed again");
        }
    }
}

async fn hand_out(
    mut messages: broadcast::Receiver<fred::types::Message>,
    channels: Channels,
    stop: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            () = stop.cancelled() => break,
        };
        match message {
            Ok(message) => {
                let Ok(payload) = Reply::from(message.value).bytes() else { continue };
                let channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = channels.get(&*message.channel) {
                    // An error means that nobody listens any more; the next subscriber unsubscribes the channel.
                    let _ = sender.send(payload);
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => break,
        }
    }
    channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
