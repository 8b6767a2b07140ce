//! A child process that never outlives its test, with what it wrote.
//!
//! The kernel kills it when the test process dies, by whatever signal. That signal fires when the *thread* that spawned the
//! child ends, so all children are spawned from one thread that lives as long as the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{mpsc, watch};

use super::wait::PATIENCE;

/// How long output is read after the end of its process.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to start.
pub struct Launch {
    name: &'static str,
    death: Signal,
    user: Option<String>,
    command: Vec<String>,
    env: Vec<(String, String)>,
    without: Vec<String>,
    folder: Option<PathBuf>,
    talks: bool,
}

impl Launch {
    pub fn new(name: &'static str, program: impl Into<String>) -> Self {
        Self {
            name,
            death: Signal::SIGKILL,
            user: None,
            command: vec![program.into()],
            env: Vec::new(),
            without: Vec::new(),
            folder: None,
            talks: false,
        }
    }

    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.command.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Hides variables that start like this and that a developer may have set.
    pub fn without(mut self, prefix: &str) -> Self {
        self.without.extend(std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with(prefix)));
        self
    }

    /// Runs in this folder.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Runs as this user; needs root.
    pub fn user(mut self, user: Option<String>) -> Self {
        self.user = user;
        self
    }

    /// The signal that the kernel sends when the test dies; SIGKILL where not said.
    pub fn death(mut self, signal: Signal) -> Self {
        self.death = signal;
        self
    }

    /// Keeps stdin open for [`Process::write`] and hands out stdout line by line with [`Process::read`].
    pub fn talks(mut self) -> Self {
        self.talks = true;
        self
    }

    /// The process runs from here on.
    ///
    /// # Panics
    /// If there is no such program.
    pub fn spawn(self) -> Process {
        let name = self.name;
        let talks = self.talks;
        let mut child = spawn_from_lasting_thread(self.into_command())
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let pid = Pid::from_raw(child.id().try_into().expect("process ids fit into 31 bits"));
        let (log_sender, log) = watch::channel(Vec::new());
        let (said, answers) = mpsc::unbounded_channel();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let out_log = log_sender.clone();
        let (reading, readers) = sync::channel();
        read_lines(stdout, reading.clone(), move |line| {
            if talks {
                let _ = said.send(line);
            } else {
                out_log.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        read_lines(stderr, reading, move |line| log_sender.send_modify(|lines| lines.push(line)));
        let (exit_sender, exit) = watch::channel(None);
        let (running, ended) = sync::channel();
        std::thread::spawn(move || {
            let status = child.wait().expect("nobody else waits for this child");
            let _ = exit_sender.send(Some(status));
            drop::<sync::Sender<()>>(running);
        });
        Process { name, pid, log, exit, stdin, answers, ended, readers }
    }

    fn into_command(self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", self.death.as_str().trim_start_matches("SIG")]);
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.arg("--").args(self.command);
        for name in self.without {
            command.env_remove(name);
        }
        command.envs(self.env);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        command.stdin(if self.talks { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A running child. Dropped: killed, and its last lines are shown if the test has failed.
pub struct Process {
    name: &'static str,
    pid: Pid,
    log: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    stdin: Option<ChildStdin>,
    answers: mpsc::UnboundedReceiver<String>,
    /// Disconnected when the process has ended.
    ended: sync::Receiver<()>,
    /// Disconnected when all output has been read.
    readers: sync::Receiver<()>,
}

impl Process {
    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Sends a signal; nothing if the process has ended.
    pub fn signal(&self, signal: Signal) {
        if self.is_running() {
            let _ = kill(self.pid, signal);
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.ended.recv();
    }

    /// Asks the process to end with `signal`, and kills it if it still runs after `patience`.
    pub fn end(&mut self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(patience) {
            self.kill();
        }
    }

    /// Waits for the end of the process and for what it wrote last.
    ///
    /// # Panics
    /// If it still runs after `patience`.
    pub async fn wait_exit(&self, patience: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(patience, exit.wait_for(Option::is_some)).await;
        let ended = ended.unwrap_or_else(|_| panic!("{} still runs after {patience:?}", self.name));
        let status = ended.expect("the waiter sends before it ends").expect("just seen");
        drop(exit);
        // Its last words may still be in the pipe, which a grandchild may hold open for longer.
        let mut log = self.log.clone();
        let _ = tokio::time::timeout(LAST_WORDS, log.wait_for(|_| false)).await;
        status
    }

    /// Everything written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// The first line for which `find` finds something, of those written and to come; `None` if the process closes its
    /// output before.
    ///
    /// # Panics
    /// If nothing is found within [`PATIENCE`].
    pub async fn find_in_log<T>(&self, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let mut log = self.log.clone();
        let mut found = None;
        let seen = log.wait_for(|lines| {
            found = lines.iter().find_map(|line| find(line));
            found.is_some()
        });
        let seen = tokio::time::timeout(PATIENCE, seen).await.map(|seen| seen.is_ok());
        seen.unwrap_or_else(|_| panic!("{} did not say it within {PATIENCE:?}", self.name));
        found
    }

    /// Ends the process's stdin.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Writes a line to the process's stdin.
    ///
    /// # Panics
    /// If it was not started with [`Launch::talks`], or has ended.
    pub fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the process was started to talk");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{} does not listen: {error}", self.name));
    }

    /// The next line of the process's stdout; `None` when it has closed it.
    ///
    /// # Cancel safety
    /// Dropped, it loses no line.
    pub async fn read(&mut self) -> Option<String> {
        self.answers.recv().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // Until both readers have ended, but a grandchild may hold the pipes open.
            let _ = self.readers.recv_timeout(LAST_WORDS);
            let log = self.log();
            let tail = &log[log.len().saturating_sub(200)..];
            eprintln!("---- last lines of {} (pid {}) ----\n{}\n----", self.name, self.pid, tail.join("\n"));
        }
    }
}

/// Takes each line until the end of `source`, then lets go of `reading`.
fn read_lines(
    source: impl Read + Send + 'static,
    reading: sync::Sender<()>,
    mut take: impl FnMut(String) + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            take(String::from_utf8_lossy(&line).into_owned());
        }
        drop(reading);
    });
}

type Order = (Command, sync::Sender<std::io::Result<Child>>);

fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<sync::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = sync::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = sync::channel();
    spawner.send((command, reply)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers each order")
}
