//! A Redis Cluster of three masters.

use super::port::Port;
use super::redis::{Kind, RedisServer};
use super::resp::Reply;
use super::wait::{self, PATIENCE};

const SLOTS: u32 = 16_384;

pub struct Cluster {
    pub nodes: Vec<RedisServer>,
    /// Where the nodes talk to each other.
    _buses: Vec<Port>,
}

impl Cluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..3 {
            let bus = Port::reserve();
            let args =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "15000", "--cluster-port"].map(str::to_owned);
            let args = args.into_iter().chain([bus.number.to_string()]).collect();
            nodes.push(RedisServer::start_as(Kind { durable: true, args, ..Kind::default() }).await);
            buses.push(bus);
        }
        let cluster = Self { nodes, _buses: buses };
        cluster.join().await;
        cluster
    }

    /// Gives each node its third of the slots, and introduces them to each other.
    async fn join(&self) {
        let third = SLOTS / 3;
        for (place, node) in self.nodes.iter().enumerate() {
            let place = u32::try_from(place).expect("three nodes");
            let last = if place == 2 { SLOTS - 1 } else { (place + 1) * third - 1 };
            let range = [(place * third).to_string(), last.to_string()];
            ok(node, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            ok(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
        }
        for (node, bus) in self.nodes.iter().zip(&self._buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.number.to_string());
            ok(&self.nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        for node in &self.nodes {
            wait::until_true("the cluster to know itself", PATIENCE, async || {
                let info = node.ask(&["CLUSTER", "INFO"]).await;
                let info = info.text().unwrap_or_default();
                ["cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3", "cluster_slots_ok:16384"]
                    .iter()
                    .all(|fact| info.contains(fact))
            })
            .await;
        }
    }

    pub fn url(&self) -> String {
        let [one, two, three] = [0, 1, 2].map(|place| self.nodes[place].port());
        format!("redis-cluster://127.0.0.1:{one}?node=127.0.0.1:{two}&node=127.0.0.1:{three}")
    }

    /// Asks whichever node owns the key.
    pub async fn ask(&self, command: &[&str]) -> Reply {
        let answer = self.nodes[0].ask(command).await;
        let Reply::Error(text) = &answer else { return answer };
        let Some(owner) = text.strip_prefix("MOVED ").and_then(|rest| rest.rsplit(':').next()) else { return answer };
        let owner = self.nodes.iter().find(|node| node.port().to_string() == owner).expect("a node of this cluster");
        owner.ask(command).await
    }

    /// How many keys each node has.
    pub async fn sizes(&self) -> Vec<i64> {
        let mut sizes = Vec::new();
        for node in &self.nodes {
            sizes.push(node.ask(&["DBSIZE"]).await.number());
        }
        sizes
    }
}

async fn ok(node: &RedisServer, command: &[&str]) {
    assert_eq!(node.ask(command).await.text(), Some("OK"), "{command:?}");
}
