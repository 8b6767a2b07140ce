//! The workloads from the command line.

use std::process::{Command, Output};

use super::LATER;
use crate::support::store::StoreKind;
use crate::support::world::World;

fn onetake(server: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onetake"));
    command.args(words).args(["--server", server]).output().expect("the binary runs")
}

/// What it prints, if it says that all went well.
fn said(server: &str, words: &[&str]) -> String {
    let output = onetake(server, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn slots_and_orders_are_looked_after_from_the_command_line() {
    let world = World::new(StoreKind::Sqlite).await;
    let server = world.server().await;
    let base = server.base_url();
    let folder = tempfile::tempdir().expect("the temporary folder can be written");
    let file = folder.path().join("list.json");
    std::fs::write(&file, format!(r#"{{"slots":[{{"id":"mon","starts_at":"{LATER}"}}]}}"#)).expect("it can be written");
    let file = file.to_str().expect("a plain name");
    let report = said(base, &["slot", "sync", file, "--json"]);
    assert!(report.contains(r#""added":1"#), "{report}");
    assert_eq!(said(base, &["slot", "book", "mon", "--user", "olga"]), "booked slot mon for olga\n");
    let refused = onetake(base, &["slot", "book", "mon", "--user", "ivan"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("Somebody else has just booked this time") && told.contains("slot_taken"), "{told}");
    assert!(said(base, &["slot", "bookings", "olga"]).contains("booked"));
    assert_eq!(said(base, &["slot", "cancel", "mon", "--user", "olga"]), "gave slot mon of olga back\n");
    assert!(said(base, &["slot", "ls", "--free"]).contains("mon"));

    let accept = ["pickup", "accept", "17", "--user", "olga", "--until", LATER];
    assert_eq!(said(base, &accept), "accepted order 17 of olga\n");
    let issued = onetake(base, &["pickup", "issue", "17", "18", "--user", "olga"]);
    let outcomes = String::from_utf8_lossy(&issued.stdout);
    assert!(outcomes.contains("issued") && outcomes.contains("order_unknown"), "{outcomes}");
    assert_eq!(issued.status.code(), Some(1), "not all that was asked for was done");
    assert!(String::from_utf8_lossy(&issued.stderr).contains("1 of 2 were refused"), "{issued:?}");
    assert!(said(base, &["pickup", "ls", "olga"]).contains("issued"));
    assert!(said(base, &["pickup", "history", "olga", "--json"]).contains(r#""event":"issued""#));
    assert!(said(base, &["pickup", "show", "17"]).contains("order.state"));
    let early = onetake(base, &["pickup", "return-to-courier", "17", "--json"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains(r#""code":"order_not_returned""#), "{early:?}");
}
