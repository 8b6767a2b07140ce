//! Keeps one child process running from a thread of its own, and knows whose pid is whose.
//!
//! The thread matters: the kernel sends the parent-death signal when the *thread* that spawned the child ends, and the
//! threads of an async runtime come and go. A pid is only ever signalled under the mutex that also guards its reaping,
//! so that a signal cannot reach a stranger who was given the number since.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::find_program;

/// The wait before a crashed child is started again: doubled with each crash, back to the first after a good while.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const GOOD_WHILE: Duration = Duration::from_secs(30);

pub(super) struct Supervisor {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
    /// Told of every change of `state`.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// `Some` from spawn to reaping.
    pid: Option<Pid>,
    /// Set by `stop` and `ask_to_end`: the child is not started again.
    stopping: bool,
    /// Set by the thread: it has ended, and with it the child.
    over: bool,
    crashes: u32,
}

impl Supervisor {
    /// Spawns `program config` and goes on doing so whenever it ends by itself. The log begins anew.
    pub fn start(program: &Path, config: &Path, log: &Path) -> anyhow::Result<Arc<Self>> {
        let this = Arc::new(Self {
            program: program.to_owned(),
            config: config.to_owned(),
            log: log.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(log)?;
        let for_thread = Arc::clone(&this);
        std::thread::Builder::new().name("redis-server".to_owned()).spawn(move || for_thread.keep_running())?;
        Ok(this)
    }

    pub fn pid(&self) -> Option<Pid> {
        self.state().pid
    }

    pub fn has_crashed(&self) -> bool {
        self.state().crashes > 0
    }

    /// Tells the child to end and keeps it from being started again. Returns at once.
    pub fn ask_to_end(&self) {
        let mut state = self.state();
        state.stopping = true;
        self.changed.notify_all();
        signal(state.pid, Signal::SIGTERM);
    }

    /// Ends the child and returns when it is gone; after `grace` it is killed.
    pub fn stop(&self, grace: Duration) {
        self.ask_to_end();
        let (state, waited) = self
            .changed
            .wait_timeout_while(self.state(), grace, |state| !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            tracing::warn!("redis-server did not end within {} s and is killed", grace.as_secs());
            signal(state.pid, Signal::SIGKILL);
            // Nothing survives SIGKILL, so this wait is short; its bound is for a machine that hangs.
            let _ = self.changed.wait_timeout_while(state, grace, |state| !state.over);
        }
    }

    fn keep_running(&self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let began = Instant::now();
            let ended = self.run_once();
            let mut state = self.state();
            if state.stopping {
                break;
            }
            state.crashes += 1;
            self.changed.notify_all();
            if began.elapsed() >= GOOD_WHILE {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!("redis-server {ended}; it is started again in {} ms", backoff.as_millis());
            let waited = self.changed.wait_timeout_while(state, backoff, |state| !state.stopping);
            if waited.unwrap_or_else(PoisonError::into_inner).0.stopping {
                break;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Runs the child from spawn to reaping; says how it ended.
    fn run_once(&self) -> String {
        let mut child = {
            let mut state = self.state();
            if state.stopping {
                return "was not started".to_owned();
            }
            match self.spawn() {
                Ok(child) => {
                    state.pid = Some(pid_of(&child));
                    child
                }
                Err(e) => return format!("could not be started: {e:#}"),
            }
        };
        // Waits for the end without reaping: until the next lines hold the mutex, the pid stays the child's.
        while let Err(nix::errno::Errno::EINTR) =
            waitid(Id::Pid(pid_of(&child)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        {}
        let mut state = self.state();
        state.pid = None;
        child.wait().map_or_else(|e| format!("ended: {e}"), |status| format!("ended ({status})"))
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let mut command = match find_program("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM", "--"]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        command.arg(&self.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        command.spawn().with_context(|| format!("cannot run {}", self.program.display()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops what an earlier run has left behind, if its pid file still tells the truth.
///
/// # Errors
/// A stray that does not end.
pub(super) fn stop_stray(pid_file: &Path, config: &Path, grace: Duration) -> anyhow::Result<()> {
    let Some(pid) = std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()) else {
        return Ok(());
    };
    let pid = Pid::from_raw(pid);
    for (ask, patience) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, grace)] {
        if !is_ours(pid, config) {
            let _ = std::fs::remove_file(pid_file);
            return Ok(());
        }
        tracing::info!("stopping redis-server {pid}, left behind by an earlier run");
        signal(Some(pid), ask);
        let deadline = Instant::now() + patience;
        while is_ours(pid, config) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if is_ours(pid, config) {
        bail!("redis-server {pid} of an earlier run does not end; stop it by hand");
    }
    let _ = std::fs::remove_file(pid_file);
    Ok(())
}

/// Whether `pid` is a Redis that runs with our configuration file: numbers are given out anew.
pub(super) fn is_ours(pid: Pid, config: &Path) -> bool {
    if pid.as_raw() <= 1 {
        return false;
    }
    let words = command_line(pid);
    let Some((program, arguments)) = words.split_first() else { return false };
    let is_redis = program.contains("redis-server") || program.contains("valkey-server");
    is_redis && arguments.iter().any(|argument| Path::new(argument) == config)
}

/// Empty for a process that is gone (or a zombie, which is as good).
fn command_line(pid: Pid) -> Vec<String> {
    let words = |text: &str, separator: char| {
        text.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(bytes) => words(&String::from_utf8_lossy(&bytes), '\0'),
        Err(_) if Path::new("/proc/self").exists() => Vec::new(),
        // Where there is no /proc. A folder's name with blanks is not recognised there; its stray keeps the port then.
        Err(_) => Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
            .output()
            .map(|output| words(&String::from_utf8_lossy(&output.stdout), ' '))
            .unwrap_or_default(),
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn signal(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is what was wanted.
        let _ = kill(pid, signal);
    }
}
