//! With a real `redis-server`; where none is installed, nothing can be shown and the tests say so.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret;

use super::*;

/// One command to the child, its raw answer back.
async fn call(redis: &ManagedRedis, command: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port)).await.unwrap();
    let text = format!("AUTH {}\r\n{command}\r\nQUIT\r\n", redis.password);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.strip_prefix("+OK\r\n").unwrap().strip_suffix("+OK\r\n").unwrap().to_owned()
}

/// Starts a child in a new folder, or says why the test is left out.
async fn start() -> Option<(tempfile::TempDir, ManagedRedis)> {
    if find_program("redis-server").is_none() {
        eprintln!("skipped: no redis-server");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let redis = ManagedRedis::start(dir.path()).await.unwrap();
    Some((dir, redis))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_gone(pid: u32, dir: &Path) -> bool {
    let config = dir.canonicalize().unwrap().join("redis/redis.conf");
    !supervisor::is_ours(Pid::from_raw(pid.cast_signed()), &config)
}

#[tokio::test]
async fn a_killed_child_comes_back_on_its_port_with_its_data() {
    let Some((dir, redis)) = start().await else { return };
    assert_eq!(call(&redis, "SET kept yes").await, "+OK\r\n");
    let killed = redis.pid().unwrap();
    kill(Pid::from_raw(killed.cast_signed()), Signal::SIGKILL).unwrap();

    until("another child runs", async || redis.pid().is_some_and(|pid| pid != killed)).await;
    until("it answers", async || ping(redis.port, &redis.password).await.is_ok()).await;
    assert_eq!(call(&redis, "GET kept").await, "$3\r\nyes\r\n");
    redis.stop().await;
    assert!(is_gone(killed, dir.path()));
}

#[tokio::test]
async fn a_stopped_child_is_gone_and_the_next_has_its_data_port_and_password() {
    let Some((dir, redis)) = start().await else { return };
    call(&redis, "SET kept yes").await;
    let (url, pid) = (redis.url(), redis.pid().unwrap());
    redis.stop().await;
    assert!(is_gone(pid, dir.path()));

    let redis = ManagedRedis::start(dir.path()).await.unwrap();
    assert_eq!(redis.url().expose_secret(), url.expose_secret());
    assert_eq!(call(&redis, "GET kept").await, "$3\r\nyes\r\n");
    redis.stop().await;
}

#[tokio::test]
async fn the_child_is_safe_for_jobs_and_closed_to_others() {
    let Some((dir, redis)) = start().await else { return };
    for (setting, value) in [("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("bind", "127.0.0.1")] {
        let answer = call(&redis, &format!("CONFIG GET {setting}")).await;
        assert!(answer.contains(&format!("\r\n{value}\r\n")), "{setting}: {answer}");
    }
    assert!(ping(redis.port, "wrong").await.is_err());
    let mode = |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    let modes = [mode("redis"), mode("redis/redis.conf"), mode("redis/password"), mode("redis/redis.log")];
    assert_eq!(modes, [0o700, 0o600, 0o600, 0o600]);
    redis.stop().await;
}

#[tokio::test]
async fn a_folder_has_one_instance() {
    let Some((dir, redis)) = start().await else { return };
    let error = ManagedRedis::start(dir.path()).await.err().unwrap();
    assert!(error.to_string().contains("in use by another onetake"), "{error}");
    redis.stop().await;
}

#[tokio::test]
async fn a_stray_of_a_killed_parent_is_stopped_by_the_next_start() {
    let Some((dir, redis)) = start().await else { return };
    call(&redis, "SET kept yes").await;
    redis.stop().await;
    // As a parent without setpriv leaves it behind when it is killed.
    let program = find_program("redis-server").unwrap();
    let config = dir.path().canonicalize().unwrap().join("redis/redis.conf");
    let mut stray =
        std::process::Command::new(program).arg(config).stdout(std::process::Stdio::null()).spawn().unwrap();
    let folder = Folder::prepare(dir.path()).unwrap();
    let (port, password) = (std::fs::read_to_string(folder.file("port")).unwrap(), folder.password().unwrap());
    until("the stray answers", async || ping(port.parse().unwrap(), &password).await.is_ok()).await;

    let redis = ManagedRedis::start(dir.path()).await.unwrap();
    assert!(is_gone(stray.id(), dir.path()));
    assert_eq!(redis.port().to_string(), port);
    assert_eq!(call(&redis, "GET kept").await, "$3\r\nyes\r\n");
    redis.stop().await;
    stray.wait().unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_harms_nobody() {
    let Some((dir, redis)) = start().await else { return };
    redis.stop().await;
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    std::fs::write(dir.path().join("redis/redis.pid"), stranger.id().to_string()).unwrap();
    let redis = ManagedRedis::start(dir.path()).await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger still runs");
    redis.stop().await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_exchanged_for_another() {
    let Some((dir, redis)) = start().await else { return };
    let port = redis.port();
    redis.stop().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let redis = ManagedRedis::start(dir.path()).await.unwrap();
    assert_ne!(redis.port(), port);
    redis.stop().await;
    drop(taken);
}
