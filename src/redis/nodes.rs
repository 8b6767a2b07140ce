//! A cluster's masters: which one owns a key, and questions that must be asked of each of them.
//!
//! Outside a cluster there is one server, and all of this is one plain command.

use bytes::Bytes;
use fred::interfaces::{ClientLike, ClusterInterface};
use fred::types::config::{Options, Server};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::client::OPTIONS;
use super::{Error, Redis, Reply};

/// One of a cluster's masters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node(pub(super) Server);

impl Node {
    /// Address and port, for people and cursors.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.0.host, self.0.port)
    }
}

impl Redis {
    /// Whether keys lie on several servers, so that a script's keys must share a hash tag.
    pub fn is_cluster(&self) -> bool {
        self.client().is_clustered()
    }

    /// Whether one script may use all of these keys: outside a cluster always.
    pub fn is_one_slot(&self, keys: &[String]) -> bool {
        let slot = |key: &String| fred::util::redis_keyslot(key.as_bytes());
        !self.is_cluster() || keys.iter().all(|key| slot(key) == slot(&keys[0]))
    }

    /// The masters that are known now, in a fixed order. Empty outside a cluster.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let Some(state) = self.is_cluster().then(|| self.client().cached_cluster_state()).flatten() else {
            return Vec::new();
        };
        let mut servers = state.unique_primary_nodes();
        servers.sort();
        servers.into_iter().map(Node).collect()
    }

    /// The master that owns `key`; `None` outside a cluster.
    ///
    /// # Errors
    /// `Unreachable` while nobody is known to own it.
    pub(super) fn owner(&self, key: &str) -> Result<Option<Node>, Error> {
        if !self.is_cluster() {
            return Ok(None);
        }
        let slot = fred::util::redis_keyslot(key.as_bytes());
        let owner = self.client().cached_cluster_state().and_then(|state| state.get_server(slot).cloned());
        owner.map(|server| Some(Node(server))).ok_or_else(|| Error::unreachable("no master owns this key's slot"))
    }

    /// Learns anew which master owns what: after one of them did not answer.
    pub(super) async fn look_for_owners(&self) {
        if self.is_cluster() {
            // What cannot be learnt now is learnt with the next try.
            let _ = self.client().sync_cluster().await;
        }
    }

    /// A command for one node, or for the only server.
    pub(super) async fn command_at(
        &self,
        node: Option<&Node>,
        name: &'static str,
        args: Vec<Bytes>,
    ) -> Result<Reply, Error> {
        let Some(Node(server)) = node else { return self.command(name, args).await };
        self.check_up()?;
        let options = Options { cluster_node: Some(server.clone()), ..OPTIONS };
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        Ok(self.client().with_options(&options).custom::<Value, _>(command, args).await?.into())
    }

    /// The answers of all masters, or that of the only server.
    pub(super) async fn command_everywhere(&self, name: &'static str, args: Vec<Bytes>) -> Result<Vec<Reply>, Error> {
        let nodes = self.nodes();
        if nodes.is_empty() {
            return Ok(vec![self.command(name, args).await?]);
        }
        let mut replies = Vec::with_capacity(nodes.len());
        for node in &nodes {
            replies.push(self.command_at(Some(node), name, args.clone()).await?);
        }
        Ok(replies)
    }
}
