//! A master with one replica, watched by three sentinels.

use tempfile::TempDir;

use super::certificates::Certificates;
use super::port::Port;
use super::process::{Launch, Process};
use super::redis::{Kind, RedisServer};
use super::resp::{self, Reply};
use super::wait::{self, PATIENCE};

/// How the sentinels call the master.
pub const SERVICE: &str = "jobs";

/// The master and the replica are the test's to kill.
pub struct Sentinels {
    pub replica: RedisServer,
    ports: Vec<Port>,
    /// Where the master and the sentinels are reached by TLS, if they are: the master first.
    tls: Vec<Port>,
    _folder: TempDir,
    _processes: Vec<Process>,
}

impl Sentinels {
    /// The master, and what stands around it.
    pub async fn start() -> (RedisServer, Self) {
        Self::start_with(None).await
    }

    /// With certificates, all of them talk to each other and to clients over TLS, and ask for the clients' own.
    pub async fn start_with(certificates: Option<&Certificates>) -> (RedisServer, Self) {
        let secure = |port: &Port| match certificates {
            Some(certificates) => {
                let replication = ["--tls-replication", "yes"].map(str::to_owned);
                certificates.args(port, "yes").into_iter().chain(replication).collect()
            }
            None => Vec::new(),
        };
        // A replica that cannot follow at once is to be sent everything anew: with so little, that is quicker.
        let kind = |more: Vec<String>| Kind { durable: true, args: soon().chain(more).collect(), ..Kind::default() };
        let tls: Vec<Port> = certificates.iter().flat_map(|_| (0..5).map(|_| Port::reserve())).collect();
        let master = RedisServer::start_as(kind(tls.first().map(secure).unwrap_or_default())).await;
        let master_port = tls.first().map_or_else(|| master.port(), |port| port.number);
        let of = ["--replicaof".to_owned(), "127.0.0.1".to_owned(), master_port.to_string()];
        let more = tls.last().map(secure).unwrap_or_default().into_iter().chain(of).collect();
        let replica = RedisServer::start_as(kind(more)).await;
        wait::until_true("the replica to follow", PATIENCE, async || {
            replica.ask(&["INFO", "replication"]).await.text().unwrap_or_default().contains("master_link_status:up")
        })
        .await;
        let folder = TempDir::with_prefix("onetake-sentinels-").expect("the temporary folder can be written");
        let ports: Vec<Port> = (0..3).map(|_| Port::reserve()).collect();
        let processes = ports.iter().enumerate().map(|(place, port)| {
            let more = certificates.map(|files| files.lines(&tls[place + 1]) + "tls-replication yes\n");
            sentinel(port, &folder, master_port, &more.unwrap_or_default())
        });
        let processes = processes.collect();
        let sentinels = Self { replica, ports, tls, _folder: folder, _processes: processes };
        sentinels.until_they_agree().await;
        (master, sentinels)
    }

    /// All three know each other and the replica.
    async fn until_they_agree(&self) {
        for port in &self.ports {
            wait::until_true("the sentinels to know each other", PATIENCE, async || {
                let master = resp::ask(port.number, &["SENTINEL", "MASTER", SERVICE]).await;
                let Ok(Reply::List(_)) = &master else { return false };
                let fields = master.as_ref().expect("just seen").texts();
                let of = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
                of("num-other-sentinels") == Some("2") && of("num-slaves") == Some("1") && of("flags") == Some("master")
            })
            .await;
        }
    }

    pub fn url(&self) -> String {
        let (scheme, ports) =
            if self.tls.is_empty() { ("redis-sentinel", &self.ports[..]) } else { ("rediss-sentinel", &self.tls[1..]) };
        let [one, two, three] = [0, 1, 2].map(|place| ports[place].number);
        format!(
            "{scheme}://127.0.0.1:{one}/0?node=127.0.0.1:{two}&node=127.0.0.1:{three}&sentinelServiceName={SERVICE}"
        )
    }

    /// Has the replica made master though nothing has died, as for the upkeep of a machine.
    pub async fn fail_over(&self) {
        let told = resp::ask(self.ports[0].number, &["SENTINEL", "FAILOVER", SERVICE]).await;
        assert_eq!(told.expect("the sentinel answers").text(), Some("OK"));
        self.until_failed_over().await;
    }

    /// Waits until the replica has been made the master.
    pub async fn until_failed_over(&self) {
        wait::until_true("the replica to be made master", 2 * PATIENCE, async || {
            // Who becomes master is told to close the connections of its clients.
            let told = resp::ask(self.replica.port(), &["INFO", "replication"]).await;
            told.is_ok_and(|told| told.text().unwrap_or_default().contains("role:master"))
        })
        .await;
    }
}

fn soon() -> impl Iterator<Item = String> {
    ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"].into_iter().map(str::to_owned)
}

fn sentinel(port: &Port, folder: &TempDir, master: u16, more: &str) -> Process {
    // A sentinel writes what it learns into its file.
    let file = folder.path().join(format!("{}.conf", port.number));
    let config = format!(
        "bind 127.0.0.1\nport {}\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {SERVICE} 3000\nsentinel failover-timeout {SERVICE} 10000\n{more}",
        port.number,
        folder.path().display()
    );
    std::fs::write(&file, config).expect("our folder can be written");
    Launch::new("sentinel", "redis-server").args([file.display().to_string(), "--sentinel".to_owned()]).spawn()
}
