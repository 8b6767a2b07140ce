//! The tests of everything that talks to Redis, once more on another release: the oldest that we promise, and a later one.

use std::process::Command;

use crate::redis::testing::PROGRAM;

/// The tests that stand on a Redis of their own.
const ALL: &[&str] =
    &["queue::tests", "redis::tests", "redis::rights", "lock::gate", "--skip", "versions", "--skip", "noticed"];

/// This very test program again, on another server.
fn again(program: &str, what: &[&str]) -> (bool, String) {
    let this = std::env::current_exe().expect("we run from a file");
    let run = Command::new(this).args(what).args(["--test-threads", "2"]).env(PROGRAM, program).output();
    let run = run.expect("it can be started again");
    let told = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (run.status.success(), told)
}

fn all_is_well_on(program: &str) {
    let (is_well, told) = again(program, ALL);
    let (_, summary) = told.rsplit_once("test result: ").unwrap_or_else(|| panic!("{program}: {told}"));
    let passed = summary.split(' ').nth(1).and_then(|count| count.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed >= 60), "{program}: {told}");
    if is_well {
        return;
    }
    // Nobody ends them singly when they take long, and a busy machine may have spoilt some: those have a second try.
    let (_, failures) = told.rsplit_once("\nfailures:\n").unwrap_or_else(|| panic!("{program}: {told}"));
    let failed: Vec<&str> = failures.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let (is_well, told) = again(program, &[&["--exact"], failed.as_slice()].concat());
    assert!(!failed.is_empty() && is_well, "{program}: {told}");
}

mod on_redis_6 {
    #[test]
    fn the_engine_does_what_its_tests_say() {
        super::all_is_well_on("redis-server-6.2");
    }
}

mod on_valkey_9 {
    #[test]
    fn the_engine_does_what_its_tests_say() {
        super::all_is_well_on("valkey-server-9");
    }
}
