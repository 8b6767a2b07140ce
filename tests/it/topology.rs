//! Where Redis stands, and who we are to it: users with few rights, TLS, a cluster, a master that fails over, other releases.

mod acl;
mod cluster;
mod sentinel;
mod tls;
mod versions;

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::server::Setup;

/// Runs the command line with the settings of `setup`.
fn onetake(setup: &Setup, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onetake"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ONETAKE_")) {
        command.env_remove(name);
    }
    command.args(words).envs(setup.settings()).output().expect("the binary runs")
}

/// What the doctor finds about Redis first: its verdict, and its words with its advice.
fn redis_finding(setup: &Setup) -> (String, String) {
    let told = onetake(setup, &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let found = findings.into_iter().find(|finding| finding["name"] == "redis").expect("the doctor looks at Redis");
    (found["verdict"].as_str().expect("a word").to_owned(), format!("{} {}", found["detail"], found["advice"]))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
