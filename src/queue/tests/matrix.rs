//! Every verb in every state, the refused ones too: what it says, and where the job is then. Whatever is refused has
//! changed nothing: no key, no event.
//!
//! The table is `matrix.txt`. After a change that is meant, `ONETAKE_MATRIX=write` writes it anew, for a person to read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::queue::{Bulk, Finished, ParkedEnd, ParkedHow, Retry, State};

/// Read when the test runs, so that a new one needs no new build.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/queue/tests/matrix.txt");

/// Where the job `j` is before.
const PLACES: [&str; 13] = [
    "absent",
    "waiting",
    "prioritized",
    "delayed",
    "active",
    "elsewhere", // active, in the hands of somebody else
    "silent",    // active, in nobody's hands
    "suspect",   // the same, and seen so by a scan
    "parked",    // in waiting-children without children
    "parent",    // in waiting-children with a child that waits
    "completed",
    "failed",
    "put-aside", // waiting in a queue that BullMQ 5 has paused
];

const VERBS: [&str; 37] = [
    "add",
    "ensure",
    "take",
    "complete",
    "fail",
    "retry-now",
    "retry-later",
    "delay",
    "wait",
    "park",
    "extend",
    "scan",
    "reclaim",
    "finish-parked",
    "remove",
    "remove-family",
    "retry",
    "retry-completed",
    "retry-failed",
    "promote",
    "change-delay",
    "change-priority",
    "priority-front",
    "update-data",
    "progress",
    "log",
    "pause",
    "resume",
    "drain",
    "drain-delayed",
    "clean-waiting",
    "clean-active",
    "clean-finished",
    "retry-all",
    "promote-all",
    "obliterate",
    "force",
];

/// Brings `j` to its place in an empty queue.
async fn place(world: &World, place: &str) {
    world.run(&["FLUSHALL"]).await;
    world.run(&["HSET", "bull:q:meta", "opts.maxLenEvents", "10000"]).await;
    let options = match place {
        "absent" => return,
        "prioritized" => JobOptions { priority: 2, ..Default::default() },
        "delayed" => JobOptions { delay_ms: 5000, ..Default::default() },
        _ => JobOptions::default(),
    };
    world.add(Add { id: Some("j".into()), ..job(options) }).await;
    if matches!(place, "waiting" | "prioritized" | "delayed") {
        return;
    } else if place == "put-aside" {
        world.run(&["RENAME", "bull:q:wait", "bull:q:paused"]).await;
        world.run(&["HSET", "bull:q:meta", "paused", "1"]).await;
        world.run(&["DEL", "bull:q:marker"]).await;
        return;
    }
    let token = if place == "elsewhere" { "other" } else { "t" };
    world.queue.take(&by(token, 1), NOW).await.unwrap();
    match place {
        "active" | "elsewhere" => {}
        "silent" => world.run(&["DEL", "bull:q:j:lock"]).await,
        "suspect" => {
            world.run(&["DEL", "bull:q:j:lock"]).await;
            world.queue.recover_stalled(NOW, 1000, 1).await.unwrap();
            world.run(&["DEL", "bull:q:stalled-check"]).await;
        }
        "completed" => assert_eq!(world.settle("j", complete("1")).await, Settlement::Settled),
        "failed" => assert_eq!(world.settle("j", fail("no")).await, Settlement::Settled),
        _ => {
            let fields = vec![("ot:mark".to_owned(), "m".to_owned())];
            assert_eq!(world.settle("j", How::Park { fields }).await, Settlement::Settled);
            if place == "parent" {
                world.run(&["SADD", "bull:q:j:dependencies", "bull:q:child"]).await;
                world.run(&["HSET", "bull:q:child", "name", "c", "parentKey", "bull:q:j"]).await;
            }
        }
    }
}

/// What it says; with a `!` in front where it says that nothing was done.
async fn act(world: &World, verb: &str) -> String {
    let queue = &world.queue;
    let settled = async |how| match world.settle("j", how).await {
        Settlement::Settled => "settled".to_owned(),
        other => format!("!{other:?}"),
    };
    let said = |is_done: bool, what: String| if is_done { what } else { format!("!{what}") };
    let ids = |ids: Vec<String>| said(!ids.is_empty(), format!("{ids:?}"));
    let changed = |change: Result<super::super::Change, super::super::Error>| {
        let change = change.unwrap();
        said(change == super::super::Change::Made, format!("{change:?}"))
    };
    let steps = async |bulk: Bulk| match queue.run_to_end(&bulk, NOW).await {
        Ok(count) => count.to_string(),
        Err(error) => format!("!{error}"),
    };
    let retry_from = async |from| queue.retry("j", Retry { from, anew: false }).await;
    match verb {
        "add" => {
            let added = queue.add(vec![named("j")], NOW).await.unwrap();
            format!("{:?}", added[0].outcome)
        }
        "ensure" => {
            let ensured = queue.ensure(vec![named("j")], NOW).await.unwrap();
            format!("{:?}", ensured[0].outcome)
        }
        "take" => {
            let taken = world.take(2).await;
            ids(super::ids(&taken).into_iter().map(str::to_owned).collect())
        }
        "complete" => settled(complete("1")).await,
        "fail" => settled(fail("no")).await,
        "retry-now" => settled(super::retry(0)).await,
        "retry-later" => settled(super::retry(9)).await,
        "delay" => settled(How::Delay { until_ms: NOW + 9 }).await,
        "wait" => settled(How::Wait).await,
        "park" => settled(How::Park { fields: Vec::new() }).await,
        "extend" => {
            let lost = queue.extend(&[("j".into(), "t".into())], 60_000).await.unwrap();
            said(lost.is_empty(), if lost.is_empty() { "extended" } else { "lost" }.to_owned())
        }
        "scan" => format!("{:?}", queue.recover_stalled(NOW, 1000, 1).await.unwrap()),
        "reclaim" => ids(queue.reclaim("t", &[]).await.unwrap()),
        "finish-parked" => {
            let end = ParkedEnd {
                id: "j".into(),
                timestamp: NOW,
                mark_field: "ot:mark".into(),
                mark_value: "m".into(),
                how: ParkedHow::Complete { value: json("1") },
            };
            let outcome = queue.finish_parked(&[end], NOW).await.unwrap()[0];
            said(outcome == super::super::ParkedOutcome::Finished, format!("{outcome:?}"))
        }
        "remove" | "remove-family" => {
            let removal = match verb {
                "remove" => queue.remove("j", NOW).await.unwrap(),
                _ => queue.remove_with_children("j", NOW).await.unwrap(),
            };
            said(removal == super::super::Removal::Removed, format!("{removal:?}"))
        }
        "retry" => changed(retry_from(None).await),
        "retry-completed" => changed(retry_from(Some(Finished::Completed)).await),
        "retry-failed" => changed(retry_from(Some(Finished::Failed)).await),
        "promote" => changed(queue.promote("j").await),
        "change-delay" => changed(queue.change_delay("j", 9000, NOW).await),
        "change-priority" => changed(queue.change_priority("j", 3, false).await),
        "priority-front" => changed(queue.change_priority("j", 0, true).await),
        "update-data" => changed(queue.update_data("j", &json("2")).await),
        "progress" => {
            let is_told = queue.progress("j", &json("2")).await.unwrap();
            said(is_told, if is_told { "told" } else { "none" }.to_owned())
        }
        "log" => match queue.log("j", "x", None).await.unwrap() {
            Some(count) => count.to_string(),
            None => "!none".into(),
        },
        "pause" => said(queue.pause().await.is_ok(), "paused".into()),
        "resume" => said(queue.resume().await.is_ok(), "resumed".into()),
        "drain" => steps(Bulk::Drain { delayed: false }).await,
        "drain-delayed" => steps(Bulk::Drain { delayed: true }).await,
        "clean-waiting" => steps(Bulk::Clean { state: State::Waiting, grace_ms: 0, most: None }).await,
        "clean-active" => steps(Bulk::Clean { state: State::Active, grace_ms: 0, most: None }).await,
        "clean-finished" => {
            let clean = |state| Bulk::Clean { state, grace_ms: 0, most: None };
            format!("{}+{}", steps(clean(State::Completed)).await, steps(clean(State::Failed)).await)
        }
        "retry-all" => {
            let retry = |from| Bulk::Retry { from, until: NOW };
            format!("{}+{}", steps(retry(Finished::Completed)).await, steps(retry(Finished::Failed)).await)
        }
        "promote-all" => steps(Bulk::Promote).await,
        "obliterate" => steps(Bulk::Obliterate { force: false }).await,
        "force" => {
            world.run(&["HSET", "bull:q:meta", "paused", "1"]).await;
            steps(Bulk::Obliterate { force: true }).await
        }
        other => panic!("there is no verb {other}"),
    }
}

/// Where the id is: the names of all keys that have it, and `hash` if there is one.
async fn whereabouts(world: &World) -> String {
    const LOOK: &str = r"
local found = {}
for _, list in ipairs({ 'wait', 'paused', 'active' }) do
  for _, id in ipairs(redis.call('LRANGE', 'bull:q:' .. list, 0, -1)) do
    if id == 'j' then found[#found + 1] = list end
  end
end
for _, set in ipairs({ 'prioritized', 'delayed', 'waiting-children', 'completed', 'failed' }) do
  if redis.call('ZSCORE', 'bull:q:' .. set, 'j') then found[#found + 1] = set end
end
if redis.call('EXISTS', 'bull:q:j') == 0 then found[#found + 1] = 'gone' end
if redis.call('EXISTS', 'bull:q:j:lock') == 1 then found[#found + 1] = 'locked' end
return table.concat(found, '+')";
    raw(&world.redis, &["EVAL", LOOK, "0"]).await.text().unwrap()
}

/// Every key with what it holds, but for the time that is left to it.
async fn everything(world: &World) -> String {
    const LOOK: &str = r"
local all, keys = {}, redis.call('KEYS', '*')
table.sort(keys)
for _, key in ipairs(keys) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then value = redis.call('SORT', key, 'ALPHA')
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  else value = redis.call('XLEN', key) end
  all[#all + 1] = key .. ' ' .. cjson.encode(value)
end
return table.concat(all, '\n')";
    raw(&world.redis, &["EVAL", LOOK, "0"]).await.text().unwrap()
}

#[tokio::test]
async fn every_verb_in_every_state() {
    let world = World::new().await;
    raw(&world.redis, &["CONFIG", "SET", "appendonly", "no"]).await;
    let mut cells = BTreeMap::new();
    for verb in VERBS {
        for at in PLACES {
            place(&world, at).await;
            let (stood, before) = (whereabouts(&world).await, everything(&world).await);
            let said = act(&world, verb).await;
            if said.starts_with('!') {
                assert_eq!(everything(&world).await, before, "{verb} of {at} was refused: {said}");
            }
            let (said, stands) = (said.trim_start_matches('!'), whereabouts(&world).await);
            let cell = if stands == stood { format!("{said}, stays") } else { format!("{said} > {stands}") };
            // The places at which a verb does the same share a line.
            let rows: &mut Vec<(String, Vec<&str>)> = cells.entry(verb).or_default();
            match rows.iter_mut().find(|(there, _)| *there == cell) {
                Some((_, places)) => places.push(at),
                None => rows.push((cell, vec![at])),
            }
        }
    }
    let mut table = String::new();
    for verb in VERBS {
        let _ = writeln!(table, "{verb}");
        for (cell, places) in &cells[verb] {
            let _ = writeln!(table, "    {cell:<32} {}", places.join(" "));
        }
    }
    if std::env::var("ONETAKE_MATRIX").is_ok_and(|value| value == "write") {
        std::fs::write(TABLE, &table).expect("the repository can be written");
        return;
    }
    let wanted = std::fs::read_to_string(TABLE).expect("the table is in the repository");
    let wrong: Vec<_> = table.lines().zip(wanted.lines()).filter(|(is, should)| is != should).collect();
    assert!(table == wanted, "not as in matrix.txt: {wrong:#?}");
}
