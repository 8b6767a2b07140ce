//! Processes of ours die, hang, stop, or are one too many.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Gate, all_served, is_gone};
use crate::support::making::{Making, ask, until_delivered, until_settled};
use crate::support::on_each_store;
use crate::support::process::Process;
use crate::support::server::{Onetake, Setup};
use crate::support::store::StoreKind;
use crate::support::wait::{self, PATIENCE};
use crate::support::world::World;

on_each_store!(
    a_killed_program_is_an_attempt_that_failed,
    a_killed_server_takes_its_programs_along,
    a_stopping_server_finishes_what_it_holds,
    a_stopping_server_hands_back_what_does_not_finish,
);

mod on_postgres_roles {
    mod on_postgres {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn another_runner_takes_over_from_a_killed_one() {
            super::super::takes_over().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_result_that_comes_too_late_is_refused() {
            super::super::too_late().await;
        }
    }
}

/// A process of the role `runner`, which has no address.
async fn runner(setup: &Setup) -> Process {
    let process = Onetake::spawn(&setup.clone().env("ONETAKE_ROLE", "runner"));
    process.find_in_log(|line| line.contains("running jobs").then_some(())).await.expect("it starts");
    process
}

async fn takes_over() {
    let gate = Gate::new();
    let mut world = World::new(StoreKind::Postgres).await;
    world.setup = world.setup.config(&gate.config(""));
    let front = world.setup.clone().env("ONETAKE_ROLE", "http");
    let (server, mut first) = tokio::join!(Onetake::start(&front), runner(&world.setup));

    let names = 5;
    for n in 0..names {
        ask(&server, &format!("anna {n}"), &format!("user-{n}")).await;
    }
    let holders = gate.until_begun(names).await;
    assert_eq!(holders, vec![first.pid().as_raw(); names]);
    let second = runner(&world.setup).await;
    first.kill();
    gate.open_for(second.pid().as_raw());
    all_served(&world, gate.making(), names, names).await;
    assert_eq!(gate.holders()[names..], vec![second.pid().as_raw(); names]);
    let results = world.store.texts("select result from runs").await;
    assert_eq!(results, vec![json!({"made": second.pid().as_raw()}).to_string(); names]);
}

async fn too_late() {
    let gate = Gate::new();
    let mut world = World::new(StoreKind::Postgres).await;
    world.setup = world.setup.config(&gate.config(""));
    let frozen = world.server().await;
    ask(&frozen, "Anna", "olga").await;
    let late = gate.until_begun(1).await[0];
    let other = world.server().await;
    frozen.freeze();
    // Longer than Postgres leaves row locks to a transaction that the frozen server may have open.
    let taken_over = async || Some(gate.holders()).filter(|holders| holders.len() >= 2);
    let holders = wait::until("the other server to take over", 2 * PATIENCE, taken_over).await;
    assert_ne!(holders[1], late, "the other server has taken over");

    // The late one's program ends first, and its server wakes to report that.
    gate.open_for(late);
    frozen.thaw();
    wait::until_true("the frozen server to answer", PATIENCE, async || frozen.get("/livez").await.status == 200).await;
    let lost = async || frozen.get("/metrics").await.text.contains("onetake_runs_lost_total");
    wait::until_true("the late server to learn that it lost the run", PATIENCE, lost).await;
    let running = "select count(*) from flights where state = 'running'";
    assert_eq!(world.store.numbers(running).await, [1], "the late result changed nothing");
    gate.open();
    until_delivered(&other, "olga", 1).await;
    all_served(&world, gate.making(), 1, 1).await;
    assert_eq!(world.store.texts("select result from runs").await, [json!({"made": holders[1]}).to_string()]);
}

async fn a_killed_program_is_an_attempt_that_failed(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 2\nbackoff = { kind = \"fixed\", delay = \"20ms\" }"));
    let server = world.server().await;

    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    kill(Pid::from_raw(gate.program()), Signal::SIGKILL).expect("the program runs");
    gate.until_begun(2).await;
    let error = "select error from flights where error is not null";
    assert!(world.store.texts(error).await[0].contains("signal"), "{:?}", world.store.texts(error).await);
    gate.open();
    until_delivered(&server, "olga", 1).await;
    all_served(&world, gate.making(), 1, 1).await;
    assert_eq!(world.store.numbers("select attempts from runs").await, [2]);
}

async fn a_killed_server_takes_its_programs_along(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config(""));
    let mut server = world.server().await;

    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    let program = gate.program();
    assert!(!is_gone(program));
    server.kill();
    wait::until_true("the program to go", PATIENCE, async || is_gone(program)).await;
    gate.open();
    let server = world.server().await;
    until_delivered(&server, "olga", 1).await;
    all_served(&world, gate.making(), 1, 1).await;
}

async fn a_stopping_server_finishes_what_it_holds(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("")).env("ONETAKE_RUNNER__SHUTDOWN_GRACE", "30s");
    let server = world.server().await;
    ask(&server, "Anna", "olga").await;
    let pid = gate.until_begun(1).await[0];

    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the server runs");
    let stopping = async || server.log().iter().any(|line| line.contains("stopping: finishing"));
    wait::until_true("the server to stop", PATIENCE, stopping).await;
    gate.open();
    assert_eq!(server.wait_exit().await.code(), Some(0));
    assert_eq!(world.store.texts("select state from flights").await, ["succeeded"]);
    let server = world.server().await;
    until_delivered(&server, "olga", 1).await;
    all_served(&world, gate.making(), 1, 1).await;
    assert_eq!(gate.making().runs().len(), 1);
}

async fn a_stopping_server_hands_back_what_does_not_finish(kind: StoreKind) {
    let gate = Gate::new();
    let mut world = World::new(kind).await;
    world.setup = world.setup.config(&gate.config("attempts = 1")).env("ONETAKE_RUNNER__SHUTDOWN_GRACE", "500ms");
    let server = world.server().await;
    ask(&server, "Anna", "olga").await;
    gate.until_begun(1).await;
    let program = gate.program();

    assert_eq!(server.stop().await.code(), Some(0));
    assert!(is_gone(program));
    assert_eq!(world.store.texts("select state from flights").await, ["pending"]);
    assert_eq!(world.store.numbers("select attempt from flights").await, [0], "it was no attempt");
    gate.open();
    let server = world.server().await;
    until_delivered(&server, "olga", 1).await;
    until_settled(&world.store).await;
    assert_eq!(world.store.numbers("select attempts from runs").await, [1]);
}

#[tokio::test]
async fn a_second_server_on_one_sqlite_file_is_refused() {
    let making = Making::new();
    let world = World::new(StoreKind::Sqlite).await.making(&making);
    let server = world.server().await;
    let second = Onetake::spawn(&world.setup);
    assert_eq!(second.wait_exit(Duration::from_secs(30)).await.code(), Some(1));
    let said = second.log().join("\n");
    assert!(said.contains("another server process has") && said.contains("use Postgres"), "{said}");
    // A link is another name of the same file.
    let file = world.store.url().trim_start_matches("sqlite://").to_owned();
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(file, &link).expect("our folder can be written");
    let linked = world.setup.clone().env("DATABASE_URL", format!("sqlite://{}", link.display()));
    let third = Onetake::spawn(&linked);
    assert_eq!(third.wait_exit(Duration::from_secs(30)).await.code(), Some(1));
    assert!(third.log().join("\n").contains("another server process has"), "{:?}", third.log());
    ask(&server, "Anna", "olga").await;
    until_delivered(&server, "olga", 1).await;
}
