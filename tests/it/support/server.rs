//! The server under test: the real binary in a process of its own.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::http::Api;
use super::process::{Launch, Process};
use super::wait::PATIENCE;

/// Leases and pauses short enough that a test can wait for what production does in half a minute.
const QUICK: &[(&str, &str)] = &[
    ("ONETAKE_HTTP__BIND", "127.0.0.1:0"),
    ("ONETAKE_HTTP__SHUTDOWN_GRACE", "5s"),
    ("ONETAKE_RUNNER__LEASE", "2s"),
    ("ONETAKE_RUNNER__RENEW", "400ms"),
    ("ONETAKE_RUNNER__STALLED_INTERVAL", "500ms"),
    ("ONETAKE_RUNNER__DRAIN_DELAY", "500ms"),
    ("ONETAKE_RUNNER__SHUTDOWN_GRACE", "5s"),
    ("ONETAKE_RECONCILE__INTERVAL", "200ms"),
    ("ONETAKE_RECONCILE__UNTOUCHED", "500ms"),
    ("ONETAKE_REDIS__COMMAND_TIMEOUT", "1500ms"),
    ("ONETAKE_DELIVERY__BACKOFF", r#"{kind="fixed", delay="100ms"}"#),
    ("ONETAKE_VIDEOS__WIDTH", "160"),
    ("ONETAKE_VIDEOS__HEIGHT", "90"),
    ("ONETAKE_VIDEOS__SECONDS", "1"),
];

/// How to start servers. Servers of one setup share Redis, store and files; a clone with more settings is another setup.
#[derive(Clone)]
pub struct Setup {
    env: BTreeMap<String, String>,
    /// Files of the setup: rendered videos, and the configuration.
    folder: Arc<TempDir>,
}

impl Setup {
    pub fn new(redis_url: &str, database_url: &str) -> Self {
        let folder = TempDir::with_prefix("onetake-files-").expect("the temporary folder can be written");
        let mut setup = Self { env: BTreeMap::new(), folder: Arc::new(folder) };
        for (name, value) in QUICK {
            setup = setup.env(name, *value);
        }
        // The only setting of the machine's that counts: it may have no font but an unpacked one.
        if let Ok(font) = std::env::var("ONETAKE_VIDEOS__FONT") {
            setup = setup.env("ONETAKE_VIDEOS__FONT", font);
        }
        let files = setup.folder.path().join("files").display().to_string();
        setup.env("REDIS_URL", redis_url).env("DATABASE_URL", database_url).env("ONETAKE_FILES_DIR", files)
    }

    /// Sets one setting: `setup.env("ONETAKE_ROLE", "http")`.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A configuration file with this text (TOML), for queues and processors of the test's own.
    pub fn config(self, toml: &str) -> Self {
        let folder = tempfile::tempdir_in(self.folder.path()).expect("our folder can be written").keep();
        let file = folder.join("onetake.toml");
        std::fs::write(&file, toml).expect("our folder can be written");
        self.env("ONETAKE_CONFIG", file.display().to_string())
    }

    /// What servers of this setup find in their environment.
    pub fn settings(&self) -> impl Iterator<Item = (&String, &String)> {
        self.env.iter()
    }

    /// The server dies by SIGKILL when it first passes this point (see `onetake::fault::POINTS`).
    pub fn fault(self, point: &str) -> Self {
        self.env("ONETAKE_FAULT", point)
    }
}

/// A running server. It is also its [`Api`]: `server.get("/livez")`.
pub struct Onetake {
    process: Process,
    api: Api,
    base_url: String,
}

impl Onetake {
    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// If it ends before, or does not listen in time; what it logged is shown.
    pub async fn start(setup: &Setup) -> Self {
        let process = Self::spawn(setup);
        let url = process.find_in_log(|line| listening_on(line).map(str::to_owned)).await;
        let base_url = url.expect("the server listens");
        Self { process, api: Api::new(&base_url), base_url }
    }

    /// Starts a server that is expected to fail, or to die on the way.
    pub fn spawn(setup: &Setup) -> Process {
        let mut launch = Launch::new("onetake", env!("CARGO_BIN_EXE_onetake"))
            .args(["serve"])
            .without("ONETAKE_")
            .without("TELEGRAM_")
            // Away from the repository, whose own onetake.toml must not count.
            .folder(setup.folder.path());
        for (name, value) in &setup.env {
            launch = launch.env(name, value);
        }
        launch.spawn()
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// SIGKILL: no goodbye, no cleaning up.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The process hangs, as a paused virtual machine does, until [`Onetake::thaw`].
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// SIGTERM, and waits for the graceful end.
    pub async fn stop(self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.wait_exit().await
    }

    /// Waits for an end that something else causes, such as a fault.
    pub async fn wait_exit(&self) -> ExitStatus {
        self.process.wait_exit(PATIENCE).await
    }
}

impl Deref for Onetake {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// `http://127.0.0.1:PORT` out of the line that says so; colours and what follows are left out.
fn listening_on(line: &str) -> Option<&str> {
    let url = line.split_once("listening on ")?.1;
    let end = url.find(|c: char| !c.is_ascii_alphanumeric() && !":/.".contains(c)).unwrap_or(url.len());
    Some(&url[..end])
}
