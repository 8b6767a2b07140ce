//! A Redis Cluster of three masters, and a replica of one of them if the test wants it.

use super::certificates::Certificates;
use super::port::Port;
use super::redis::{Kind, RedisServer};
use super::resp::Reply;
use super::wait::{self, PATIENCE};

const SLOTS: u32 = 16_384;

pub struct Cluster {
    pub nodes: Vec<RedisServer>,
    /// Where the nodes talk to each other.
    buses: Vec<Port>,
    /// Where they are reached by TLS, if they are.
    tls: Vec<Port>,
}

pub struct Replica {
    pub redis: RedisServer,
    _bus: Port,
}

impl Replica {
    /// Waits until it has been elected in its dead master's place.
    pub async fn until_master(&self) {
        wait::until_true("the replica to be elected", 2 * PATIENCE, async || {
            self.redis.ask(&["INFO", "replication"]).await.text().unwrap_or_default().contains("role:master")
        })
        .await;
    }
}

/// A node that knows of no other; `bus` is where others talk to it.
async fn node(bus: &Port, more: Vec<String>) -> RedisServer {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "15000", "--cluster-port"].map(str::to_owned);
    // A replica that cannot follow at once is to be sent everything anew: with so little, that is quicker.
    let soon = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"].map(str::to_owned);
    let args = args.into_iter().chain([bus.number.to_string()]).chain(soon).chain(more).collect();
    RedisServer::start_as(Kind { durable: true, args, ..Kind::default() }).await
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With certificates, the nodes talk to each other and to clients over TLS, and ask for the clients' own.
    pub async fn start_with(certificates: Option<&Certificates>) -> Self {
        let mut cluster = Self { nodes: Vec::new(), buses: Vec::new(), tls: Vec::new() };
        for _ in 0..3 {
            let bus = Port::reserve();
            let mut more = Vec::new();
            if let Some(certificates) = certificates {
                let port = Port::reserve();
                more = certificates.args(&port, "yes");
                more.extend(["--tls-cluster", "yes"].map(str::to_owned));
                cluster.tls.push(port);
            }
            cluster.nodes.push(node(&bus, more).await);
            cluster.buses.push(bus);
        }
        cluster.join().await;
        cluster
    }

    /// Where a node is reached by clients.
    fn port(&self, place: usize) -> u16 {
        self.tls.get(place).map_or_else(|| self.nodes[place].port(), |port| port.number)
    }

    /// The place among the nodes of the master that owns the key.
    pub async fn owner(&self, key: &str) -> usize {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await.number();
        usize::try_from(slot * 3 / i64::from(SLOTS)).expect("a place")
    }

    /// A replica of the master at this place, which will take over some seconds after that one is gone.
    pub async fn replica_of(&self, place: usize) -> Replica {
        let bus = Port::reserve();
        let replica = node(&bus, Vec::new()).await;
        let (port, bus_port) = (replica.port().to_string(), bus.number.to_string());
        ok(&self.nodes[0], &["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]).await;
        let master = self.nodes[place].ask(&["CLUSTER", "MYID"]).await.text().expect("an id").to_owned();
        wait::until_true("the replica to know its master", PATIENCE, async || {
            !matches!(replica.ask(&["CLUSTER", "REPLICATE", &master]).await, Reply::Error(_))
        })
        .await;
        for node in self.nodes.iter().chain([&replica]) {
            ok(node, &["CONFIG", "SET", "cluster-node-timeout", "3000"]).await;
            wait::until_true("the cluster to know the replica", PATIENCE, async || {
                let known = node.ask(&["CLUSTER", "NODES"]).await;
                known.text().unwrap_or_default().contains(&format!("slave {master}"))
            })
            .await;
        }
        wait::until_true("the replica to follow", PATIENCE, async || {
            replica.ask(&["INFO", "replication"]).await.text().unwrap_or_default().contains("master_link_status:up")
        })
        .await;
        Replica { redis: replica, _bus: bus }
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
        for (place, bus) in self.buses.iter().enumerate().skip(1) {
            let (port, bus) = (self.port(place).to_string(), bus.number.to_string());
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
        let [one, two, three] = [0, 1, 2].map(|place| self.port(place));
        let scheme = if self.tls.is_empty() { "redis-cluster" } else { "rediss-cluster" };
        format!("{scheme}://127.0.0.1:{one}?node=127.0.0.1:{two}&node=127.0.0.1:{three}")
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
