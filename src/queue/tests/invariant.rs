//! Random verbs in random order: whatever happens, a job is in one state, and only a running one is locked.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::queue::{
    Bulk, Cancelled, Finished, Flow, Keep, Move, OnFailure, ParkedEnd, ParkedHow, Plan, Removal, Retry, State,
};

const LISTS: [&str; 2] = ["wait", "active"];
const SETS: [&str; 5] = ["prioritized", "delayed", "waiting-children", "completed", "failed"];

/// The state of every id that is in one; fails if one is in two, or has no hash, or is locked without being active.
async fn states(world: &World) -> BTreeMap<String, &'static str> {
    let mut states = BTreeMap::new();
    for state in LISTS.into_iter().chain(SETS) {
        let range = if LISTS.contains(&state) { "LRANGE" } else { "ZRANGE" };
        let members = raw(&world.redis, &[range, &format!("bull:q:{state}"), "0", "-1"]).await.texts().unwrap();
        for id in members {
            assert_eq!(states.insert(id.clone(), state), None, "{id} is in {state} and elsewhere");
        }
    }
    for (id, state) in &states {
        assert_eq!(world.see(&format!("EXISTS bull:q:{id}")).await, "1", "{id} in {state} has no hash");
        let locked = world.see(&format!("EXISTS bull:q:{id}:lock")).await == "1";
        assert_eq!(locked, *state == "active", "{id} in {state}");
    }
    states
}

fn any_options(rng: &mut StdRng) -> JobOptions {
    JobOptions {
        priority: if rng.random_bool(0.3) { rng.random_range(1..4) } else { 0 },
        delay_ms: if rng.random_bool(0.3) { rng.random_range(1..50) } else { 0 },
        lifo: rng.random_bool(0.2),
        attempts: rng.random_range(0..4),
        remove_on_complete: rng.random_bool(0.3).then(|| Keep::last(rng.random_range(0..3))),
        remove_on_fail: rng.random_bool(0.2).then_some(Keep::NONE),
        ..Default::default()
    }
}

fn any_end(queue: &Queue, id: &str, rng: &mut StdRng, now: Millis) -> How {
    let moved = |to| How::Move { to, data: Some(json("[1]")), step: 1 };
    match rng.random_range(0..14) {
        10..13 => given_children(queue, id, rng, now),
        0 => fail("no"),
        1 => retry(0),
        2 => retry(rng.random_range(1..20)),
        3 => How::Delay { until_ms: now + rng.random_range(-5..20) },
        4 => How::Wait,
        6 => moved(Move::Delayed { until_ms: now + rng.random_range(-5..20) }),
        7 => moved(Move::Wait),
        8 => moved(Move::Children),
        9 => moved(Move::Limited { for_ms: 1 }),
        5 => How::Park { fields: vec![("ot:mark".to_owned(), "m".to_owned())] },
        _ => complete("1"),
    }
}

/// New children, or jobs that are there already and may be anything, even what this job is a child of.
fn given_children(queue: &Queue, id: &str, rng: &mut StdRng, now: Millis) -> How {
    let on_failure = [OnFailure::Wait, OnFailure::FailParent, OnFailure::ContinueParent, OnFailure::IgnoreDependency];
    let flows: Vec<Flow> = (0..rng.random_range(1..3))
        .map(|_| Flow {
            queue: queue.clone(),
            job: Add {
                id: rng.random_bool(0.3).then(|| format!("own{}", rng.random_range(0..8))),
                ..job(any_options(rng))
            },
            on_failure: on_failure[rng.random_range(0..on_failure.len())],
            children: Vec::new(),
        })
        .collect();
    match Plan::of_children(queue, id, &flows, &format!("of-{id}-{}", rng.random_range(0..1_000_000)), now) {
        Ok(children) => How::Branch { children, data: None, step: 1 },
        Err(_) => How::Wait, // one id twice
    }
}

async fn change_any(queue: &Queue, rng: &mut StdRng, now: Millis) {
    let id = format!("own{}", rng.random_range(0..8));
    match rng.random_range(0..4) {
        0 => queue.retry(&id, Retry::default()).await,
        1 => queue.promote(&id).await,
        2 => queue.change_delay(&id, rng.random_range(0..50), now).await,
        _ => queue.change_priority(&id, rng.random_range(0..4), rng.random_bool(0.5)).await,
    }
    .unwrap();
}

fn any_bulk(rng: &mut StdRng, now: Millis) -> Bulk {
    let state = State::ALL[rng.random_range(0..State::ALL.len())];
    match rng.random_range(0..4) {
        0 => Bulk::Retry { from: Finished::Failed, until: now },
        1 => Bulk::Promote,
        2 => Bulk::Drain { delayed: rng.random_bool(0.5) },
        _ => Bulk::Clean { state, grace_ms: rng.random_range(0..30), most: rng.random_bool(0.5).then_some(2) },
    }
}

#[tokio::test]
async fn a_job_is_in_one_state_whatever_happens() {
    let world = World::keeping(Retention { completed: Keep::last(4), failed: Keep::last(4) }).await;
    let mut rng = StdRng::seed_from_u64(20_261_120);
    let mut now = NOW;
    let mut held: Vec<String> = Vec::new();
    let mut given = 0;
    for step in 0..500 {
        now += rng.random_range(0..10);
        match rng.random_range(0..10) {
            0 | 1 => {
                let id = rng.random_bool(0.3).then(|| format!("own{}", rng.random_range(0..8)));
                let jobs = (0..rng.random_range(1..4)).map(|_| Add { id: id.clone(), ..job(any_options(&mut rng)) });
                world.queue.add(jobs.collect(), now).await.unwrap();
            }
            2 => {
                let jobs = (0..2).map(|n| Add { id: Some(format!("own{n}")), ..job(any_options(&mut rng)) });
                world.queue.ensure(jobs.collect(), now).await.unwrap();
            }
            3 | 4 => {
                let count = held.len().min(rng.random_range(0..4));
                let mut ends: Vec<Ended> =
                    held.drain(..count).map(|id| ended(&id, any_end(&world.queue, &id, &mut rng, now))).collect();
                ends.push(ended("none", complete("1")));
                let take = rng.random_bool(0.7).then(|| by("t", rng.random_range(0..5)));
                let (settled, taken) = world.queue.settle(&ends, take.as_ref(), now).await.unwrap();
                assert_eq!(settled.iter().filter(|s| **s == Settlement::Lost).count(), 1, "step {step}");
                let is_given = |(end, settled): &(&Ended, &Settlement)| {
                    matches!((&end.how, settled), (How::Branch { .. }, Settlement::Settled))
                };
                given += ends.iter().zip(&settled).filter(is_given).count();
                // What may not end so because of its children is held still.
                let refused =
                    ends.iter().zip(&settled).filter(|(_, s)| !matches!(s, Settlement::Settled | Settlement::Lost));
                held.extend(refused.map(|(end, _)| end.id.clone()));
                held.extend(taken.jobs.iter().map(|record| record.id().to_owned()));
            }
            5 => {
                let parked = raw(&world.redis, &["ZRANGE", "bull:q:waiting-children", "0", "1"]).await.texts().unwrap();
                let end = |id| ParkedEnd {
                    id,
                    timestamp: 0,
                    mark_field: "ot:mark".to_owned(),
                    mark_value: "m".to_owned(),
                    how: ParkedHow::Fail { reason: "no".to_owned() },
                };
                let mut ends: Vec<ParkedEnd> = parked.into_iter().map(end).collect();
                for end in &mut ends {
                    let key = world.queue.keys().job(&end.id);
                    let timestamp = world.redis.hget(&key, "timestamp").await.unwrap().expect("it has one");
                    end.timestamp = String::from_utf8_lossy(&timestamp).parse().unwrap();
                }
                world.queue.finish_parked(&ends, now).await.unwrap();
            }
            7 => {
                let id = format!("own{}", rng.random_range(0..8));
                let cancelled = world.queue.cancel(&id, "no", "w", now).await.unwrap();
                assert_eq!(cancelled == Cancelled::Marked, held.contains(&id), "step {step}: {id}");
            }
            8 => change_any(&world.queue, &mut rng, now).await,
            9 if rng.random_bool(0.3) => {
                world.queue.run_to_end(&any_bulk(&mut rng, now), now).await.unwrap();
            }
            6 if rng.random_bool(0.5) => {
                let keep = held.len().min(2);
                let back = world.queue.reclaim("t", &known_by(&held[..keep], "t")).await.unwrap();
                assert_eq!(back.len(), held.len() - keep);
                held.truncate(keep);
            }
            _ => {
                let id = format!("own{}", rng.random_range(0..8));
                let removed = world.queue.remove(&id, now).await.unwrap();
                assert_eq!(removed == Removal::Locked, held.contains(&id), "step {step}: {id}");
            }
        }
        let states = states(&world).await;
        let mut active: Vec<&String> =
            states.iter().filter(|(_, state)| **state == "active").map(|(id, _)| id).collect();
        let mut expected: Vec<&String> = held.iter().collect();
        active.sort();
        expected.sort();
        assert_eq!(active, expected, "step {step}");
    }
    // A hash without a state would be a lost job.
    let hashes = world.redis.scan(None, "bull:q:[o0-9]*", 10_000).await.unwrap().items;
    let jobs = hashes.iter().filter(|key| key.matches(':').count() == 2).count();
    assert_eq!(jobs, states(&world).await.len(), "no hash is without a state: {hashes:?}");
    assert!(given >= 10, "{given} jobs were given children");
}
