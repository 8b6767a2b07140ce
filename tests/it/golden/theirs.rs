//! What Node leaves: recorded, read back, and checked.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{BEGIN_MS, Keys, Left, Scenes, Step, TOPICS, dump, folder, scenes, time_after};
use crate::support::node::{BullMq, Peer, Player};
use crate::support::redis::RedisServer;

/// Stands for a scene that the older major leaves as the newer does.
const SAME: &str = "as in node6";

fn file(version: BullMq, topic: &str) -> PathBuf {
    let major = if version == BullMq::V5 { "node5" } else { "node6" };
    folder().join(major).join(format!("{topic}.json"))
}

/// What was recorded of a topic's scenes.
pub fn recorded(version: BullMq, topic: &str) -> Scenes<Left> {
    let file = file(version, topic);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let scenes: std::collections::BTreeMap<String, Value> =
        serde_json::from_str(&text).expect("it was written as JSON");
    let newer = if version == BullMq::V5 { recorded(BullMq::V6, topic) } else { Scenes::new() };
    let read = |(scene, left): (String, Value)| match left {
        Value::String(_) => (scene.clone(), newer[&scene].clone()),
        left => (scene, serde_json::from_value(left).expect("it was written as a list of what steps left")),
    };
    scenes.into_iter().map(read).collect()
}

/// Plays all scenes with both majors. With `ONETAKE_GOLDEN=record` the files are written anew; otherwise they must be as
/// they are.
pub async fn check_or_record() {
    let is_recording = std::env::var("ONETAKE_GOLDEN").is_ok_and(|value| value == "record");
    for version in [BullMq::V6, BullMq::V5] {
        let redis = RedisServer::start().await;
        let mut player = Player::start(&Peer::new(version, &redis, "q")).await;
        for topic in TOPICS {
            let mut played = Scenes::new();
            for (scene, steps) in scenes(topic) {
                let left = play(&redis, &mut player, &steps).await;
                played.insert(scene, left);
            }
            if is_recording {
                write(version, topic, &played);
                continue;
            }
            let recorded = recorded(version, topic);
            for (scene, left) in &played {
                assert_eq!(Some(left), recorded.get(scene), "{version:?}, \"{topic}: {scene}\": make golden, and look");
            }
            assert_eq!(recorded.len(), played.len(), "{version:?}, {topic}: there are records of scenes that are gone");
        }
    }
}

async fn play(redis: &RedisServer, player: &mut Player, steps: &[Step]) -> Vec<Left> {
    redis.ask(&["FLUSHALL"]).await;
    let mut now = BEGIN_MS;
    player.act(&serde_json::json!({"do": "begin"}), now).await;
    let (mut before, mut all) = (Keys::new(), Vec::new());
    for step in steps {
        now = time_after(now, step);
        let said = match step["do"] == "redis" {
            true => by_hand(redis, step).await,
            false => player.act(step, now).await,
        };
        let (after, events) = dump::look(redis).await;
        all.push(dump::left(said, events, &before, &after));
        before = after;
    }
    all
}

/// Somebody does something to a key, or time passes for one.
pub async fn by_hand(redis: &RedisServer, step: &Step) -> Value {
    let words: Vec<_> = step["command"].as_array().expect("a command").iter().filter_map(Value::as_str).collect();
    redis.ask(&words).await;
    "done".into()
}

/// One step a line.
fn write(version: BullMq, topic: &str, played: &Scenes<Left>) {
    let newer = if version == BullMq::V5 { recorded(BullMq::V6, topic) } else { Scenes::new() };
    let mut text = String::from("{");
    for (at, (scene, left)) in played.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\n  {}: ", Value::from(scene.as_str()));
        if newer.get(scene) == Some(left) {
            let _ = write!(text, "{}", Value::from(SAME));
            continue;
        }
        let lines: Vec<_> = left.iter().map(|left| serde_json::to_string(left).expect("it is JSON")).collect();
        let _ = write!(text, "[\n    {}\n  ]", lines.join(",\n    "));
    }
    text.push_str("\n}\n");
    let file = file(version, topic);
    std::fs::create_dir_all(file.parent().expect("it has a folder")).expect("the repository can be written");
    std::fs::write(&file, text).expect("the repository can be written");
}
