//! A Redis server of the test's own.

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::port::Port;
use super::process::{Launch, Process};
use super::resp::{self, Reply};

/// A Redis process on a port that stays its own over kills and restarts.
pub struct RedisServer {
    port: Port,
    folder: TempDir,
    kind: Kind,
    process: Process,
}

/// Which server, and how it is started.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// With an append-only file.
    pub durable: bool,
    /// Another program than `redis-server`.
    pub program: Option<&'static str>,
    /// More of its command line.
    pub args: Vec<String>,
}

impl RedisServer {
    /// A Redis that forgets everything when it is killed.
    pub async fn start() -> Self {
        Self::start_as(Kind::default()).await
    }

    /// A Redis with an append-only file: [`RedisServer::restart`] finds all that was acknowledged.
    pub async fn start_durable() -> Self {
        Self::start_as(Kind { durable: true, ..Kind::default() }).await
    }

    pub async fn start_as(kind: Kind) -> Self {
        let folder = TempDir::with_prefix("onetake-redis-").expect("the temporary folder can be written");
        for _ in 0..10 {
            let port = Port::reserve();
            let process = launch(&port, &folder, &kind);
            if is_ready(&process).await {
                return Self { port, folder, kind, process };
            }
            eprintln!("port {} was taken: {:?}", port.number, process.log());
        }
        panic!("redis-server does not start on any of ten ports; is it installed?");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port.number)
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Asks what `redis-cli` would: `redis.ask(&["LLEN", "bull:video:wait"])`.
    ///
    /// # Panics
    /// If Redis is down.
    pub async fn ask(&self, command: &[&str]) -> Reply {
        resp::ask(self.port.number, command).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Forgets everything, as FLUSHALL and SCRIPT FLUSH do; connections stay.
    pub async fn wipe(&self) {
        for command in [&["FLUSHALL"][..], &["SCRIPT", "FLUSH"]] {
            assert_eq!(self.ask(command).await.text(), Some("OK"));
        }
    }

    /// SIGKILL. Connections are reset, later ones are refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it if it runs, and starts it again on the same port with the data that its append-only file has.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.port, &self.folder, &self.kind);
        assert!(is_ready(&self.process).await, "Redis does not come back: {:?}", self.process.log());
    }

    /// Kills it if it runs, and starts a new, empty one on the same port.
    pub async fn replace(&mut self) {
        self.kill();
        self.folder = TempDir::with_prefix("onetake-redis-").expect("the temporary folder can be written");
        self.restart().await;
    }

    /// Redis hangs: connections stay open and nothing is answered, until [`RedisServer::thaw`].
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}

fn launch(port: &Port, folder: &TempDir, kind: &Kind) -> Process {
    let folder = folder.path().to_str().expect("the temporary folder has a plain name");
    let durable = kind.durable;
    Launch::new("redis", kind.program.unwrap_or("redis-server"))
        .args(["--bind", "127.0.0.1", "--port", &port.number.to_string(), "--dir", folder])
        .args(["--save", "", "--appendonly", if durable { "yes" } else { "no" }, "--maxmemory-policy", "noeviction"])
        .args(kind.args.iter().cloned())
        .spawn()
}

/// True when it accepts connections, false when it has given up.
async fn is_ready(process: &Process) -> bool {
    process.find_in_log(|line| line.contains("Ready to accept connections").then_some(())).await.is_some()
}
