//! A real redis-server of a test's own, which it may kill, stop and start again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use tempfile::TempDir;

use super::{Redis, Reply};
use crate::config::{self, Eviction, Span, Tls};

/// Names another program than `redis-server`: so all tests may be run on another release.
pub(crate) const PROGRAM: &str = "ONETAKE_TEST_REDIS_SERVER";

/// Dies with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    password: Option<&'static str>,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    pub(crate) fn start_with(password: Option<&'static str>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let child = spawn(port, password, &folder);
        Self { child, port, password, folder }
    }

    pub(crate) fn settings(&self) -> config::Redis {
        let secret = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        config::Redis {
            url: SecretString::from(format!("redis://{secret}127.0.0.1:{}/3", self.port)),
            prefix: "bull".to_owned(),
            namespace: "onetake".to_owned(),
            command_timeout: Span(Duration::from_secs(5)),
            eviction: Eviction::Refuse,
            tls: Tls::default(),
        }
    }

    pub(crate) async fn connect(&self) -> Redis {
        Redis::connect(&self.settings()).await.expect("the server was just started")
    }

    /// As `kill -9`, `-STOP` or `-CONT`.
    pub(crate) fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the server is our child");
        if signal == Signal::SIGKILL {
            let _ = self.child.wait();
        }
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, self.password, &self.folder);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, password: Option<&str>, folder: &TempDir) -> Child {
    let mut command = Command::new(std::env::var(PROGRAM).unwrap_or_else(|_| "redis-server".to_owned()));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always"]);
    command.arg("--dir").arg(folder.path());
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server is installed")
}

/// Any command, for what tests look at or break.
pub(crate) async fn raw(redis: &Redis, words: &[&str]) -> Reply {
    let args = words[1..].iter().map(|word| word.as_bytes().to_vec()).collect();
    raw_bytes(redis, words[0], args).await
}

/// As [`raw`], where the words need not be texts.
pub(crate) async fn raw_bytes(redis: &Redis, name: &str, args: Vec<Vec<u8>>) -> Reply {
    let name: &'static str = name.to_owned().leak();
    let sent = args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
    redis.command(name, sent).await.unwrap_or_else(|error| panic!("{name} {args:?}: {error:?}"))
}

/// As [`raw`], with the answer as one readable text: lists in brackets, nil as `-`.
pub(crate) async fn shown(redis: &Redis, words: &[&str]) -> String {
    fn show(reply: &Reply) -> String {
        match reply {
            Reply::Nil => "-".to_owned(),
            Reply::Int(n) => n.to_string(),
            Reply::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        }
    }
    show(&raw(redis, words).await)
}
