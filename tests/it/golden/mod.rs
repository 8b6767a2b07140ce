//! Golden files: what our engine leaves in Redis is, field by field, what Node `bullmq` leaves for the same input.
//!
//! `tests/golden/scenes` holds the input: scenes, each of them a list of steps. `tests/golden/node5` and `node6` hold what
//! the two majors of npm `bullmq` left after each step: what they answered, the events, and every key that changed. Their
//! clock stood still (`tests/node/golden.mjs`), so nothing but the ends of spans of time is left out. `make golden`
//! records them anew; a test here finds out when they are not what the installed packages leave.
//!
//! Where we differ on purpose, [`differences`] says why; each entry there must be needed.

mod compare;
mod differences;
mod dump;
mod ours;
mod theirs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::node::BullMq;
use compare::Discrepancy;

/// When each scene begins: a time with thirteen digits, 200 ms after a full second.
pub const BEGIN_MS: i64 = 1_800_000_000_200;

pub const TOPICS: [&str; 9] = ["add", "dedupe", "walk", "stalled", "change", "bulk", "limits", "schedulers", "flows"];

/// A verb and what it is done to.
pub type Step = Value;
/// By their names.
pub type Scenes<T> = BTreeMap<String, Vec<T>>;
/// Every key below `bull:`, without that, and what it holds.
pub type Keys = BTreeMap<String, Value>;

/// What a step left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// `done`, `refused`, or the id of the job that was added or taken.
    pub said: Value,
    /// `<queue>: <event> <field>=<value> ...`
    pub events: Vec<String>,
    /// The keys that it changed; null for those that are gone.
    pub keys: Keys,
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden"].iter().collect()
}

pub fn scenes(topic: &str) -> Scenes<Step> {
    let file = folder().join("scenes").join(format!("{topic}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A step whose verb we do not have, or which is not ours to do: its outcome is given.
pub fn is_given(step: &Step) -> bool {
    step["by"] == "node"
}

/// The time after a step.
pub fn time_after(now: i64, step: &Step) -> i64 {
    if step["do"] == "clock" { now + step["ms"].as_i64().expect("a clock moves by ms") } else { now }
}

/// The state of all keys after one more step.
pub fn apply(keys: &mut Keys, left: &Left) {
    for (key, value) in &left.keys {
        if value.is_null() {
            keys.remove(key);
        } else {
            keys.insert(key.clone(), value.clone());
        }
    }
}

#[tokio::test]
async fn our_engine_leaves_what_node_leaves() {
    let stage = ours::Stage::new().await;
    let mut found: Vec<Discrepancy> = Vec::new();
    for version in [BullMq::V6, BullMq::V5] {
        for topic in TOPICS {
            let recorded = theirs::recorded(version, topic);
            for (scene, steps) in scenes(topic) {
                let theirs = recorded.get(&scene).unwrap_or_else(|| panic!("\"{scene}\" is not recorded: make golden"));
                let ours = stage.play(&steps, theirs).await;
                found.extend(compare::scene(version, &format!("{topic}: {scene}"), &steps, &ours, theirs));
            }
        }
    }
    differences::judge(&found);
}

mod node_records {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_golden_files_are_what_node_leaves() {
        super::theirs::check_or_record().await;
    }
}
