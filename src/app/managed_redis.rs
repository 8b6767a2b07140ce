//! The `redis-server` child of `onetake dev`: found, configured, kept running, and ended with its parent.
//!
//! One instance per data folder, held by a locked file. The child lives in a process group of its own, so that Ctrl-C
//! reaches us alone and we stop it last. It ends with us even when we are killed: the kernel signals it (`setpriv
//! --pdeathsig`), and where there is no setpriv the next start stops the stray by its pid file.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::RngExt;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use supervisor::Supervisor;

mod supervisor;

/// A large append-only file takes its time to load; longer than this is not starting.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a child may take to write its file and end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A port that looked free may be taken by the time that Redis binds it; then another is tried.
const PORTS_TRIED: u32 = 5;

/// Below those that kernels give to outgoing connections. One of these could sit on the port while a crashed child is
/// away; even a client's own attempt to connect to it again may (it then talks to itself).
const PORTS: Range<u16> = 20_000..32_000;

/// A running `redis-server`. Dropping it asks the child to end; [`ManagedRedis::stop`] waits for that too.
pub struct ManagedRedis {
    port: u16,
    password: String,
    supervisor: Arc<Supervisor>,
    _lock: Arc<Lock>,
}

/// Keeps a second instance out of the folder while it is held.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being spawned by another thread has the file open too until it execs.
        let _ = self.0.unlock();
    }
}

impl ManagedRedis {
    /// Starts a child that keeps its data in `dir`/redis, and returns when it answers.
    ///
    /// Password and port stay the same from start to start (the port: if it is free).
    ///
    /// # Errors
    /// No `redis-server` on this machine, a folder that is in use or not writable, or a child that does not start: then
    /// with the last lines of its log.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let program = find_program("redis-server").or_else(|| find_program("valkey-server")).context(
            "redis-server is not installed. Install it (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install \
             redis; macOS: brew install redis), or run `onetake serve` with REDIS_URL of a Redis that you have",
        )?;
        let folder = Folder::prepare(dir)?;
        let lock = Arc::new(folder.lock()?);
        let (pid_file, config) = (folder.file("redis.pid"), folder.file("redis.conf"));
        tokio::task::spawn_blocking(move || supervisor::stop_stray(&pid_file, &config, STOP_WITHIN)).await??;
        let password = folder.password()?;

        let mut tried = 0;
        loop {
            tried += 1;
            let port = folder.port(tried > 1)?;
            folder.write("redis.conf", &folder.config(port, &password))?;
            let supervisor = Supervisor::start(&program, &folder.file("redis.conf"), &folder.file("redis.log"))?;
            let this = Self { port, password: password.clone(), supervisor, _lock: Arc::clone(&lock) };
            match this.until_ready().await {
                Ok(()) => return Ok(this),
                Err(error) => {
                    let log = folder.log_tail();
                    this.stop().await;
                    if tried == PORTS_TRIED || !log.contains("already in use") {
                        return Err(error.context(format!("redis-server did not start; its log ends with:\n{log}")));
                    }
                }
            }
        }
    }

    /// The address with its password, for `redis.url`.
    pub fn url(&self) -> SecretString {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port).into()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The child's process id; `None` for the moment between a crash and the next start.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid().map(|pid| pid.as_raw().unsigned_abs())
    }

    /// Ends the child: it is asked, and killed if it has not ended after 10 s.
    pub async fn stop(self) {
        let supervisor = Arc::clone(&self.supervisor);
        let stopped = tokio::task::spawn_blocking(move || supervisor.stop(STOP_WITHIN)).await;
        if let Err(e) = stopped {
            tracing::error!("stopping redis-server failed: {e}");
        }
    }

    /// Waits until the child answers, bounded by time and by the child's own end.
    async fn until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(1), ping(self.port, &self.password)).await;
            // Somebody else's Redis on that port knows another password, so an answer is the child's.
            if matches!(answer, Ok(Ok(()))) {
                return Ok(());
            }
            if self.supervisor.has_crashed() {
                bail!("the child ended at once");
            }
            if Instant::now() >= deadline {
                bail!("no answer within {} s", READY_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for ManagedRedis {
    fn drop(&mut self) {
        self.supervisor.ask_to_end();
    }
}

/// AUTH and PING in Redis's own protocol: no client is needed to see that it is there, and that it is ours.
async fn ping(port: u16, password: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let length = password.len();
    let call = format!("*2\r\n$4\r\nAUTH\r\n${length}\r\n{password}\r\n*1\r\n$4\r\nPING\r\n");
    stream.write_all(call.as_bytes()).await?;
    let expected = b"+OK\r\n+PONG\r\n";
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    // While it loads its file it says -LOADING.
    if answer == *expected { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Where `name` is on the PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(is_program)
}

/// The 0700 folder of one instance.
struct Folder(PathBuf);

impl Folder {
    fn prepare(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("redis");
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        // Absolute: the child and the pid check compare whole paths.
        Ok(Self(path.canonicalize()?))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn lock(&self) -> anyhow::Result<Lock> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.file("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(std::fs::TryLockError::WouldBlock) => bail!("{} is in use by another onetake", self.0.display()),
            Err(std::fs::TryLockError::Error(e)) => Err(e).context("cannot lock the data folder"),
        }
    }

    /// Kept, so that a `redis-cli` line in somebody's notes works tomorrow. Only this user can read it.
    fn password(&self) -> anyhow::Result<String> {
        match std::fs::read_to_string(self.file("password")) {
            Ok(password) if is_password(&password) => return Ok(password),
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).context("cannot read the password of redis-server");
            }
            _ => {}
        }
        let password = crate::id::new_token();
        self.write("password", &password)?;
        Ok(password)
    }

    /// The port of last time, if it is free and no `other` one is wanted; else any free one.
    fn port(&self, other: bool) -> anyhow::Result<u16> {
        let kept = std::fs::read_to_string(self.file("port")).ok().and_then(|text| text.trim().parse::<u16>().ok());
        let is_free = |port: &u16| *port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let mut rng = rand::rng();
        let mut candidates = std::iter::repeat_with(|| rng.random_range(PORTS)).take(100);
        if let Some(port) = kept.filter(|port| !other && is_free(port)) {
            return Ok(port);
        }
        let port = candidates.find(is_free).context("no free port on 127.0.0.1")?;
        self.write("port", &port.to_string())?;
        Ok(port)
    }

    /// A file of 0600, replaced in one step: a crash leaves the old one or the new one.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let (path, draft) = (self.file(name), self.file(&format!("{name}.new")));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn config(&self, port: u16, password: &str) -> String {
        let (dir, pid) = (quoted(&self.0), quoted(&self.file("redis.pid")));
        // everysec: a killed child loses nothing either way, because Redis hands its file to the kernel before it answers;
        // only a power cut costs up to a second or two of plain jobs, and requests are in SQL. `always` would cost every
        // job a disk flush for that.
        // set-proc-title no: the command line keeps naming this file, and by it a stray is known.
        format!(
            "# Written by onetake at each start.\n\
             bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\n\
             dir {dir}\npidfile {pid}\ndaemonize no\nset-proc-title no\n\
             appendonly yes\nappendfsync everysec\nsave \"\"\nmaxmemory-policy noeviction\n"
        )
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.file("redis.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

fn is_password(text: &str) -> bool {
    text.len() >= 32 && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// As redis.conf wants it: a folder's name may hold blanks and quotes.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests;
