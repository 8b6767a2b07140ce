//! Random verbs on jobs of groups; after each, every job is in one place, and the books say so.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// What must hold whatever was done: every job of a group is in one place, and the books say so.
async fn check(world: &World, step: usize) {
    let list = async |words: &[&str]| raw(&world.redis, words).await.texts().unwrap();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |id: String, place: &str| {
        assert_eq!(places.insert(id.clone(), place.to_owned()), None, "step {step}: {id} is in {place} and elsewhere");
    };
    for state in ["wait", "active"] {
        list(&["LRANGE", &format!("bull:q:{state}"), "0", "-1"]).await.into_iter().for_each(|id| put(id, state));
    }
    for state in ["prioritized", "delayed", "waiting-children", "completed", "failed"] {
        list(&["ZRANGE", &format!("bull:q:{state}"), "0", "-1"]).await.into_iter().for_each(|id| put(id, state));
    }
    let groups = world.queue.groups(None, 100).await.unwrap();
    let mut in_line = 0;
    for group in &groups {
        let line = list(&["ZRANGE", &format!("onetake:groups:bull:q:line:{}", group.id), "0", "-1"]).await;
        in_line += line.len();
        line.into_iter().for_each(|id| put(id, &format!("line of {}", group.id)));
    }
    let counts = world.queue.counts().await.unwrap();
    let in_wait = places.values().filter(|place| *place == "wait").count();
    assert_eq!(counts.waiting as usize, in_wait + in_line, "step {step}");
    // Who is released runs or is ready to, and the other way round.
    let released: BTreeMap<String, String> = world
        .redis
        .hgetall("onetake:groups:bull:q:released")
        .await
        .unwrap()
        .into_iter()
        .map(|(id, group)| (id, String::from_utf8_lossy(&group).into_owned()))
        .collect();
    for (id, place) in &places {
        let hash = world.redis.hget(&format!("bull:q:{id}"), "onetake:group").await.unwrap();
        let group = hash.map(|group| String::from_utf8_lossy(&group).into_owned());
        let out = matches!(place.as_str(), "wait" | "active");
        let counted = released.get(id);
        assert_eq!(counted, group.as_ref().filter(|_| out), "step {step}: {id} in {place}");
        assert!(place != "prioritized" || group.is_none(), "step {step}: {id} waits outside its line");
    }
    assert!(released.keys().all(|id| places.contains_key(id)), "step {step}: {released:?}");
    for group in &groups {
        let running = released.values().filter(|of| **of == group.id).count();
        assert_eq!(group.released as usize, running, "step {step}: {}", group.id);
        assert!(group.ready <= 1, "step {step}: {group:?}");
        assert!(group.waiting > 0 || group.released > 0 || group.is_paused || group.concurrency.is_some(), "{group:?}");
    }
}

#[tokio::test]
async fn the_books_are_right_whatever_happens() {
    let world = World::keeping(Retention { completed: Keep::last(4), failed: Keep::last(4) }).await;
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let mut now = NOW;
    let mut held: Vec<String> = Vec::new();
    const GROUPS: [&str; 4] = ["a", "b", "c:{d}", "e"];
    for step in 0..400 {
        now += rng.random_range(0..10);
        let id = format!("own{}", rng.random_range(0..10));
        match rng.random_range(0..12) {
            0..=2 => {
                let any = |rng: &mut StdRng| Add {
                    id: rng.random_bool(0.3).then(|| format!("own{}", rng.random_range(0..10))),
                    ..job(JobOptions {
                        group: rng.random_bool(0.8).then(|| GROUPS[rng.random_range(0..4)].to_owned()),
                        priority: if rng.random_bool(0.3) { rng.random_range(1..4) } else { 0 },
                        delay_ms: if rng.random_bool(0.2) { rng.random_range(1..50) } else { 0 },
                        remove_on_complete: rng.random_bool(0.3).then_some(Keep::NONE),
                        ..Default::default()
                    })
                };
                let jobs = (0..rng.random_range(1..5)).map(|_| any(&mut rng)).collect();
                world.queue.add(jobs, now).await.unwrap();
            }
            3..=5 => {
                let count = held.len().min(rng.random_range(0..4));
                let end = |rng: &mut StdRng| match rng.random_range(0..6) {
                    0 => fail("no"),
                    1 => retry(0),
                    2 => retry(rng.random_range(1..20)),
                    3 => How::Delay { until_ms: now + 5 },
                    4 => How::Wait,
                    _ => complete("1"),
                };
                let ends: Vec<Ended> = held.drain(..count).map(|id| ended(&id, end(&mut rng))).collect();
                let take = rng.random_bool(0.8).then(|| by("t", rng.random_range(0..6)));
                let (_, taken) = world.queue.settle(&ends, take.as_ref(), now).await.unwrap();
                held.extend(taken.jobs.iter().map(|record| record.id().to_owned()));
            }
            6 => {
                let group = GROUPS[rng.random_range(0..3)];
                let change = match rng.random_range(0..4) {
                    0 => paused(true),
                    1 => paused(false),
                    2 => at_most(rng.random_range(0..4)),
                    _ => GroupChange::FORGET,
                };
                world.queue.set_group(group, change, now).await.unwrap();
            }
            7 => {
                match rng.random_range(0..4) {
                    0 => world.queue.retry(&id, Retry::default()).await,
                    1 => world.queue.promote(&id).await,
                    2 => world.queue.change_delay(&id, rng.random_range(0..50), now).await,
                    _ => world.queue.change_priority(&id, rng.random_range(0..4), rng.random_bool(0.5)).await,
                }
                .unwrap();
            }
            8 if rng.random_bool(0.3) => {
                let state = State::ALL[rng.random_range(0..State::ALL.len())];
                let bulk = match rng.random_range(0..4) {
                    0 => Bulk::Retry { from: Finished::Failed, until: now },
                    1 => Bulk::Promote,
                    2 => Bulk::Drain { delayed: rng.random_bool(0.5) },
                    _ => Bulk::Clean { state, grace_ms: 20, most: rng.random_bool(0.5).then_some(2) },
                };
                world.queue.run_to_end(&bulk, now).await.unwrap();
            }
            9 => {
                let keep = held.len().min(2);
                world.queue.reclaim("t", &known_by(&held[..keep], "t")).await.unwrap();
                held.truncate(keep);
            }
            10 => {
                world.queue.tend(std::slice::from_ref(&id), now).await.unwrap();
                world.queue.tend_all(now).await.unwrap();
            }
            _ => {
                world.queue.remove(&id, now).await.unwrap();
            }
        }
        check(&world, step).await;
    }
    // Everything ends, and then nothing is left.
    for group in GROUPS {
        world.queue.set_group(group, GroupChange::FORGET, now).await.unwrap();
    }
    for _ in 0..2_000 {
        now += 10;
        let ends: Vec<Ended> = held.drain(..).map(|id| ended(&id, complete("1"))).collect();
        let (_, taken) = world.queue.settle(&ends, Some(&by("t", 10)), now).await.unwrap();
        held.extend(taken.jobs.iter().map(|record| record.id().to_owned()));
        if held.is_empty() && taken.next_due_ms.is_none() {
            break;
        }
    }
    let counts = world.queue.counts().await.unwrap();
    assert_eq!((counts.waiting, counts.active, counts.delayed, counts.prioritized), (0, 0, 0, 0));
    assert_eq!(world.private().await, BTreeSet::new());
}
