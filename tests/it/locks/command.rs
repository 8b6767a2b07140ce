//! `onetake lock`: a command runs while its lock is held, and not a moment longer.

use std::path::Path;
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::process::{Launch, Process};
use crate::support::server::Onetake;
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

fn onetake(server: &Onetake, args: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_onetake"))
        .args(args)
        .env("ONETAKE_SERVER", server.base_url())
        .output()
        .expect("the binary runs")
}

/// In the background.
fn start(server: &Onetake, args: &[&str]) -> Process {
    Launch::new("lock", env!("CARGO_BIN_EXE_onetake"))
        .args(args.iter().copied())
        .env("ONETAKE_SERVER", server.base_url())
        .spawn()
}

fn said(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn state(server: &Onetake, name: &str) -> Value {
    server.get(&format!("/v1/locks/{name}")).await.json()["state"].clone()
}

/// The process id that a script writes into a file.
async fn pid_in(file: &Path) -> i32 {
    wait::until("the command to say its process id", PATIENCE, async || {
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    })
    .await
}

fn is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_err()
}

#[tokio::test]
async fn a_command_runs_under_its_lock_and_its_exit_code_is_passed_on() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let script = "echo $ONETAKE_LOCK $ONETAKE_FENCING_TOKEN; cat; exit 7";
    let output = onetake(&server, &["lock", "run", "nightly", "--note", "a test", "--", "sh", "-c", script]);
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(7), "{err}");
    let shown = server.get("/v1/locks/nightly").await.expect(200);
    assert_eq!(out, format!("nightly {}\n", shown["fencing_token"]));
    assert_eq!((&shown["state"], &shown["note"]), (&json!("free"), &json!("a test")), "given back");

    assert_eq!(onetake(&server, &["lock", "run", "nightly", "--", "true"]).status.code(), Some(0));
    let missing = onetake(&server, &["lock", "run", "nightly", "--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).1.contains("cannot start /no/such/program"), "{missing:?}");
    assert_eq!(state(&server, "nightly").await, "free");
    let killed = onetake(&server, &["lock", "run", "nightly", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
    let wrong = onetake(&server, &["lock", "run", "a b", "--", "true"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).1.contains("invalid_field"), "{wrong:?}");
}

#[tokio::test]
async fn a_second_command_is_told_busy_or_waits() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let go = folder.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    // Held for longer than its time to live: it is renewed.
    let first = start(&server, &["lock", "run", "a", "--ttl", "3s", "--", "sh", "-c", &script]);
    wait::until_true("the lock to be held", PATIENCE, async || state(&server, "a").await == "held").await;
    let token = server.get("/v1/locks/a").await.expect(200)["fencing_token"].clone();
    let busy = onetake(&server, &["lock", "run", "a", "--", "true"]);
    assert_eq!(busy.status.code(), Some(75));
    assert!(said(&busy).1.contains("held by"), "{busy:?}");
    let busy = onetake(&server, &["lock", "run", "a", "--json", "--", "true"]);
    assert!(said(&busy).1.contains("\"code\":\"lock_busy\""), "{busy:?}");
    let late = onetake(&server, &["lock", "run", "a", "--wait", "4s", "--", "true"]);
    assert_eq!(late.status.code(), Some(75), "its time to live has passed, and it is still held");
    assert_eq!(server.get("/v1/locks/a").await.expect(200)["fencing_token"], token);
    let waiting = start(&server, &["lock", "run", "a", "--wait", "1m", "--", "sh", "-c", "exit 3"]);
    std::fs::write(&go, "").expect("our folder can be written");
    assert_eq!(first.wait_exit(PATIENCE).await.code(), Some(0));
    assert_eq!(waiting.wait_exit(PATIENCE).await.code(), Some(3));
}

/// Stopped, it would renew nothing, and the command (in a group of its own) would go on without the lock.
#[tokio::test]
async fn it_is_not_stopped_from_the_keyboard_while_it_holds_the_lock() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let (file, go) = (folder.path().join("pid"), folder.path().join("go"));
    let script = format!("echo $$ > {}; while [ ! -e {} ]; do sleep 0.02; done", file.display(), go.display());
    let running = start(&server, &["lock", "run", "a", "--ttl", "3s", "--", "sh", "-c", &script]);
    pid_in(&file).await;
    kill(running.pid(), Signal::SIGTSTP).expect("it runs");
    running.find_in_log(|line| line.contains("not stopped").then_some(())).await.expect("it says so");
    let before = server.get("/v1/locks/a").await.expect(200)["expires_at"].clone();
    wait::until_true("the lock to be renewed", PATIENCE, async || {
        server.get("/v1/locks/a").await.expect(200)["expires_at"].as_str() > before.as_str()
    })
    .await;
    std::fs::write(&go, "").expect("our folder can be written");
    assert_eq!(running.wait_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_lost_lock_kills_the_command_with_its_children() {
    let world = World::new(StoreKind::Sqlite).await;
    let mut server = world.server().await;
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    for by in ["force", "death of the server"] {
        let file = folder.path().join(by.replace(' ', "-"));
        // A grandchild that outlives its parent, unless it is killed with it.
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let running = start(&server, &["lock", "run", "a", "--ttl", "1s", "--wait", "20s", "--", "sh", "-c", &script]);
        let sleeper = pid_in(&file).await;
        assert!(!is_gone(sleeper));
        if by == "force" {
            let taken = onetake(&server, &["lock", "release", "a", "--force", "--reason", "a test"]);
            assert_eq!(taken.status.code(), Some(0), "{taken:?}");
            assert_eq!(said(&taken).0, "took a from open\n");
        } else {
            server.kill();
        }
        assert_eq!(running.wait_exit(PATIENCE).await.code(), Some(76), "{by}: {:?}", running.log());
        wait::until_true("the child to go", PATIENCE, async || is_gone(sleeper)).await;
        assert!(running.log().join("\n").contains("lost the lock a"), "{:?}", running.log());
    }
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_lock_given_back_when_the_command_has_ended() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let file = folder.path().join("pid");
    let script = format!("trap 'exit 5' TERM; echo $$ > {}; while :; do sleep 0.05; done", file.display());
    let running = start(&server, &["lock", "run", "a", "--", "sh", "-c", &script]);
    let command = pid_in(&file).await;
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit(PATIENCE).await.code(), Some(5));
    assert!(is_gone(command));
    assert_eq!(state(&server, "a").await, "free");

    // Killed itself, it takes the command along; the lock ends by itself.
    std::fs::remove_file(&file).expect("it is there");
    let mut running = start(&server, &["lock", "run", "b", "--ttl", "1s", "--", "sh", "-c", &script]);
    let command = pid_in(&file).await;
    // Somebody keeps the lock: so the command is being watched over.
    let ends = async || server.get("/v1/locks/b").await.json()["expires_at"].clone();
    let first = ends().await;
    wait::until_true("a renewal", PATIENCE, async || ends().await != first).await;
    running.kill();
    wait::until_true("the command to go", PATIENCE, async || is_gone(command)).await;
    wait::until_true("the lock to end", PATIENCE, async || state(&server, "b").await == "free").await;
}

#[tokio::test]
async fn locks_are_listed_shown_and_given_back() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let grant = server.post("/v1/locks/a", json!({"ttl": "5m", "note": "host 7"})).await.expect(200);
    server.post("/v1/locks/b", json!({"ttl": "5m"})).await.expect(200);
    let listed = onetake(&server, &["lock", "ls", "--prefix", "a"]);
    let (out, _) = said(&listed);
    assert!(out.contains("host 7") && out.contains("held") && !out.contains("\nb"), "{out}");
    let json: Value = serde_json::from_slice(&onetake(&server, &["lock", "ls", "--json"]).stdout).expect("JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(2));
    let shown = said(&onetake(&server, &["lock", "show", "a"])).0;
    assert!(shown.contains("host 7") && !shown.contains(grant["owner_token"].as_str().expect("a text")), "{shown}");
    let wrong = onetake(&server, &["lock", "release", "a", "--owner-token", "abc", "--json"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).1.contains("\"code\":\"lock_lost\""), "{wrong:?}");
    let token = grant["owner_token"].as_str().expect("a text");
    let released = onetake(&server, &["lock", "release", "a", "--owner-token", token]);
    assert_eq!(said(&released).0, "released a\n");
    assert_eq!(state(&server, "a").await, "free");
    let unknown = onetake(&server, &["lock", "show", "c"]);
    assert!(said(&unknown).1.contains("lock_unknown"), "{unknown:?}");
}
