//! A Postgres cluster of the test's own.
//!
//! `initdb` takes seconds, so one cluster is made per machine and Postgres version, and each test starts a copy.
//! Postgres refuses to run as root: there it runs as the user `postgres`, or `nobody`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use tempfile::TempDir;

use super::port::Port;
use super::process::{Launch, Process};
use super::wait::PATIENCE;

/// Unlike SIGKILL it frees the server's shared memory segment, of which a machine has few.
const IMMEDIATE_SHUTDOWN: Signal = Signal::SIGQUIT;

/// A Postgres process on a port that stays its own over kills and restarts.
pub struct PostgresServer {
    port: Port,
    folder: TempDir,
    durable: bool,
    process: Process,
}

impl PostgresServer {
    /// An empty database. What was committed survives [`PostgresServer::kill`], as the operating system lives on.
    pub async fn start() -> Self {
        Self::start_as(false).await
    }

    /// If `durable`, a commit waits for the disk, as in production: for measuring.
    pub async fn start_as(durable: bool) -> Self {
        let folder = copy_of_template(durable);
        for _ in 0..10 {
            let port = Port::reserve();
            let process = launch(&port, &folder, durable);
            if is_ready(&process).await {
                return Self { port, folder, durable, process };
            }
            eprintln!("Postgres did not start on port {}: {:?}", port.number, process.log());
        }
        panic!("Postgres does not start on any of ten ports");
    }

    pub fn url(&self) -> String {
        format!("postgres://onetake@127.0.0.1:{}/postgres", self.port.number)
    }

    /// Everything that the server logged since it was started last.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// SIGKILL to the server and all its backends at one moment, as in a power cut.
    pub fn kill(&mut self) {
        // Stopped first: a server that still runs would start new backends while the old ones are killed.
        self.process.signal(Signal::SIGSTOP);
        let backends = children(self.process.pid());
        for backend in &backends {
            let _ = kill(*backend, Signal::SIGKILL);
        }
        self.process.kill();
        // One that is still dying holds the shared memory, and the next server refuses to start beside it.
        let deadline = Instant::now() + PATIENCE;
        while backends.iter().any(|backend| is_alive(*backend)) {
            assert!(Instant::now() < deadline, "a backend outlives SIGKILL");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it if it runs, and starts it again with its data on the same port.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.port, &self.folder, self.durable);
        assert!(is_ready(&self.process).await, "Postgres does not come back: {:?}", self.process.log());
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.process.end(IMMEDIATE_SHUTDOWN, PATIENCE);
    }
}

fn launch(port: &Port, folder: &TempDir, durable: bool) -> Process {
    let data = folder.path().join("data");
    let port = format!("port={}", port.number);
    let settings = [port.as_str(), "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60"];
    let of_kind: &[&str] = match durable {
        true => &["shared_buffers=128MB", "max_wal_size=1GB"],
        false => &["shared_buffers=16MB", "fsync=off"],
    };
    Launch::new("postgres", program("postgres"))
        .user(user().map(|user| user.name))
        .death(IMMEDIATE_SHUTDOWN)
        .args(["-D", plain(&data)])
        .args(settings.iter().chain(of_kind).flat_map(|setting| ["-c", *setting]))
        .spawn()
}

/// True when it accepts connections, false when it has given up.
async fn is_ready(process: &Process) -> bool {
    process.find_in_log(|line| line.contains("ready to accept connections").then_some(())).await.is_some()
}

fn copy_of_template(durable: bool) -> TempDir {
    let template = template(durable);
    let folder = TempDir::with_prefix("onetake-postgres-").expect("the temporary folder can be written");
    give_to_user(folder.path());
    run("cp", &["-a", "--reflink=auto", plain(&template), plain(&folder.path().join("data"))]);
    folder
}

/// The cluster that all copies are made from. The first test to ask makes it while the others wait at the lock file.
fn template(durable: bool) -> PathBuf {
    let initdb = program("initdb");
    let version = Path::new(&initdb).ancestors().nth(2).and_then(Path::file_name).and_then(|name| name.to_str());
    let kind = if durable { "durable-" } else { "" };
    let name = format!("onetake-postgres-template-{kind}{}-{}", version.unwrap_or("path"), Uid::current());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let lock = File::create(folder.join("lock")).expect("the template's lock file can be written");
    lock.lock().expect("files can be locked");
    let data = folder.join("data");
    if !data.exists() {
        give_to_user(&folder);
        let unfinished = folder.join("unfinished");
        let _ = std::fs::remove_dir_all(&unfinished);
        // Small log files make small copies; where the disk counts they are as large as in production.
        let log_files = if durable { "--wal-segsize=16" } else { "--wal-segsize=1" };
        let options = ["--username=onetake", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", log_files];
        run(&initdb, &[&["-D", plain(&unfinished)], &options[..]].concat());
        std::fs::rename(unfinished, &data).expect("both lie in the same folder");
    }
    data
}

/// The unprivileged user to run as, if we are root.
fn user() -> Option<User> {
    if !Uid::current().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(known.expect("root needs a user postgres or nobody to run Postgres as"))
}

fn give_to_user(folder: &Path) {
    if let Some(user) = user() {
        chown(folder, Some(user.uid), Some(user.gid)).expect("root may give folders away");
    }
}

/// Where Debian keeps the servers' programs, the newest version first; elsewhere `PATH` has them.
pub fn program(name: &str) -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort_by_key(|path| {
        path.ancestors().nth(2).and_then(|folder| folder.file_name()?.to_str()?.parse::<u32>().ok())
    });
    found.pop().map_or_else(|| name.to_owned(), |path| plain(&path).to_owned())
}

fn run(program: &str, args: &[&str]) {
    let mut command = Command::new("setpriv");
    if let Some(user) = user() {
        command.args(["--reuid", &user.name, "--regid", &user.name, "--clear-groups"]);
    }
    let output = command.arg("--").arg(program).args(args).current_dir("/").output().expect("setpriv is installed");
    assert!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn children(parent: Pid) -> Vec<Pid> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

/// A process that nobody has buried yet is not alive: its memory is gone.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("the temporary folder has a plain name")
}
