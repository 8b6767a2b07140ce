//! Groups: turns, limits, pauses, what every other verb does to their jobs, and what tending makes good.

mod books;
mod parents;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::*;
use crate::queue::{
    AddError, Bulk, Change, Counts, Error, Finished, GroupChange, GroupDefaults, GroupRate, Keep, Move, RateLimit,
    Removal, Retention, Retry, State, Terms,
};

fn of(group: &str) -> Add {
    job(JobOptions { group: Some(group.to_owned()), ..Default::default() })
}

fn own(id: &str, group: &str) -> Add {
    Add { id: Some(id.to_owned()), ..of(group) }
}

fn rate(max: u32, duration: u32) -> RateLimit {
    RateLimit { max: NonZeroU32::new(max).unwrap(), duration: NonZeroU32::new(duration).unwrap() }
}

fn at_most(concurrency: u32) -> GroupChange {
    GroupChange { concurrency: Some(Some(concurrency)), ..Default::default() }
}

fn paused(is_paused: bool) -> GroupChange {
    GroupChange { paused: Some(is_paused), ..Default::default() }
}

fn group_of(record: &Record) -> String {
    readable(record).group.clone().unwrap_or_default()
}

impl World {
    async fn set(&self, group: &str, change: GroupChange) {
        self.queue.set_group(group, change, NOW).await.expect("the script answers");
    }

    /// `n` jobs of a group.
    async fn fill(&self, group: &str, n: usize) {
        self.queue.add((0..n).map(|_| of(group)).collect(), NOW).await.expect("they can be added");
    }

    /// Takes one job; its group.
    async fn turn(&self) -> String {
        let taken = self.take(1).await;
        taken.jobs.first().map(group_of).unwrap_or_else(|| "nothing".to_owned())
    }

    /// Whatever is told of groups.
    async fn private(&self) -> BTreeSet<String> {
        self.redis.scan(None, "onetake:*", 10_000).await.expect("it answers").items.into_iter().collect()
    }

    /// As a stock worker takes: from the tail of `wait`, with a lock of its own.
    async fn take_as_stranger(&self) -> Option<String> {
        let id = self.see("RPOPLPUSH bull:q:wait bull:q:active").await;
        if id == "-" {
            return None;
        }
        self.run(&["HINCRBY", &format!("bull:q:{id}"), "ats", "1"]).await;
        self.run(&["SET", &format!("bull:q:{id}:lock"), "strange", "PX", "30000"]).await;
        Some(id)
    }

    /// As a stock worker ends a job.
    async fn complete_as_stranger(&self, id: &str) {
        self.run(&["LREM", "bull:q:active", "1", id]).await;
        self.run(&["DEL", &format!("bull:q:{id}:lock")]).await;
        self.run(&["ZADD", "bull:q:completed", "1", id]).await;
        self.run(&["HSET", &format!("bull:q:{id}"), "finishedOn", "1", "returnvalue", "null"]).await;
    }
}

#[tokio::test]
async fn groups_are_served_in_turn() {
    let world = World::new().await;
    world.fill("a", 4).await;
    world.fill("b", 2).await;
    world.fill("c", 1).await;
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.push(world.turn().await);
    }
    assert_eq!(turns, ["a", "b", "c", "a", "b", "a", "a", "nothing"]);
    // The same in one call, and inside a group in the order of adding.
    world.fill("a", 3).await;
    world.fill("b", 2).await;
    assert_eq!(ids(&world.take(4).await), ["8", "11", "9", "12"]);
}

#[tokio::test]
async fn a_noisy_group_delays_a_quiet_one_by_no_more_than_one_round() {
    let world = World::new().await;
    let noisy: Vec<Add> = (0..10_000).map(|_| of("noisy")).collect();
    for _ in 0..10 {
        world.queue.add(noisy.clone(), NOW).await.unwrap();
    }
    assert_eq!(world.queue.group("noisy").await.unwrap().waiting, 99_999);
    for round in 0..5 {
        for group in ["quiet", "calm"] {
            world.queue.add(vec![of(group)], NOW).await.unwrap();
        }
        // One of each other group stands before it at most.
        let turns = [world.turn().await, world.turn().await, world.turn().await];
        let turns: BTreeSet<&str> = turns.iter().map(String::as_str).collect();
        assert_eq!(turns, BTreeSet::from(["calm", "noisy", "quiet"]), "round {round}");
    }
    // With many takers as well: what is taken in one call is shared out.
    world.fill("quiet", 10).await;
    let taken = world.take(20).await;
    let quiet = taken.jobs.iter().filter(|job| group_of(job) == "quiet").count();
    assert_eq!((taken.jobs.len(), quiet), (20, 10));
    assert_eq!(world.queue.counts().await.unwrap().waiting, 100_000 - 5 - 10);
}

#[tokio::test]
async fn a_job_in_line_is_told_once_it_may_run() {
    let world = World::new().await;
    world.add(of("a")).await;
    world.add(of("a")).await;
    assert_eq!(world.news().await, ["added jobId=1 name=n", "waiting jobId=1", "added jobId=2 name=n"]);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[1]");
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert!(world.hash("2").await.contains("onetake:group=a\nopts={\"group\":{\"id\":\"a\"}}"));
    world.take(1).await;
    assert_eq!(world.news().await, ["waiting jobId=2", "active jobId=1 prev=waiting"]);
    let counts = world.queue.counts().await.unwrap();
    assert_eq!(counts, Counts { waiting: 1, active: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_group_runs_no_more_than_its_concurrency() {
    let world = World::new().await;
    world.set("a", at_most(2)).await;
    world.fill("a", 5).await;
    world.fill("b", 2).await;
    assert_eq!(ids(&world.take(10).await), ["1", "6", "2", "7"]);
    assert!(world.take(10).await.jobs.is_empty());
    world.settle("1", complete("1")).await;
    assert_eq!(ids(&world.take(10).await), ["3"]);
    // However an attempt ends, there is room again.
    world.settle("2", fail("no")).await;
    world.settle("3", retry(50)).await;
    assert_eq!(ids(&world.take_at(10, NOW + 10).await), ["4", "5"]);
    let (_, taken) = world.queue.settle(&[ended("4", retry(0))], Some(&by("t", 9)), NOW + 60).await.unwrap();
    assert_eq!(ids(&taken), ["4"], "what is due stands behind in the line");
    world.set("a", at_most(0)).await;
    assert_eq!(ids(&world.take_at(10, NOW + 60).await), ["3"]);
}

#[tokio::test]
async fn a_job_keeps_its_group_whatever_happens_to_it() {
    let world = World::new().await;
    world.set("a", at_most(1)).await;
    world.queue.add(vec![own("x", "a"), own("y", "a")], NOW).await.unwrap();
    let put_back = async |how: How| {
        assert_eq!(world.settle("x", how).await, Settlement::Settled);
        assert_eq!(world.queue.group("a").await.unwrap().waiting, 1);
    };
    assert_eq!(ids(&world.take(5).await), ["x"]);
    put_back(How::Wait).await;
    assert_eq!(ids(&world.take(5).await), ["x"]);
    assert_eq!(world.queue.reclaim("t", &[]).await.unwrap(), ["x"]);
    assert_eq!(ids(&world.take(5).await), ["x"]);
    // Stalled: it takes two scans, and it still counts.
    world.run(&["DEL", "bull:q:x:lock"]).await;
    for expected in [0, 1] {
        world.run(&["DEL", "bull:q:stalled-check"]).await;
        assert_eq!(world.queue.recover_stalled(NOW, 1, 1).await.unwrap().len(), expected);
    }
    assert_eq!(ids(&world.take(5).await), ["x"]);
    world.settle("x", fail("no")).await;
    assert_eq!(ids(&world.take(5).await), ["y"]);
    // A retry and a promotion lead into the line.
    assert_eq!(world.queue.retry("x", Retry::default()).await.unwrap(), Change::Made);
    let delayed = Add { options: JobOptions { delay_ms: 500, ..of("a").options }, ..named("z") };
    world.add(delayed).await;
    assert_eq!(world.queue.state("z").await.unwrap(), Some(State::Delayed));
    assert_eq!(world.queue.promote("z").await.unwrap(), Change::Made);
    assert!(world.take(5).await.jobs.is_empty());
    for id in ["x", "z"] {
        assert_eq!(world.queue.state(id).await.unwrap(), Some(State::Waiting));
    }
    world.settle("y", complete("1")).await;
    assert_eq!(ids(&world.take(5).await), ["x"]);
}

#[tokio::test]
async fn priorities_order_the_jobs_of_one_group() {
    let world = World::new().await;
    let urgent = |priority| Add { options: JobOptions { priority, ..of("a").options }, ..plain() };
    world.set("a", paused(true)).await;
    world.queue.add(vec![urgent(5), urgent(2), of("a"), urgent(2), urgent(9)], NOW).await.unwrap();
    world.queue.change_priority("5", 1, false).await.unwrap();
    world.set("a", paused(false)).await;
    assert_eq!(ids(&world.take(9).await), ["3", "5", "2", "4", "1"]);
    assert_eq!(world.see("EXISTS bull:q:prioritized").await, "0");
}

#[tokio::test]
async fn a_rate_holds_by_the_callers_clock() {
    let world = World::new().await;
    let limited = GroupChange { rate: Some(Some(GroupRate::Limit(rate(2, 1_000)))), ..Default::default() };
    world.set("a", limited).await;
    world.fill("a", 7).await;
    world.fill("b", 1).await;
    let first = world.take(10).await;
    assert_eq!((ids(&first), first.next_due_ms), (vec!["1", "8", "2"], Some(NOW + 1_000)));
    assert_eq!(world.queue.group("a").await.unwrap().held_until, Some(NOW + 1_000));
    assert!(world.take_at(10, NOW + 999).await.jobs.is_empty());
    let second = world.take_at(10, NOW + 1_000).await;
    assert_eq!((ids(&second), second.next_due_ms), (vec!["3", "4"], Some(NOW + 2_000)));
    // One that came out in time and is taken late runs in the window in which it is taken.
    world.queue.tend(&[], NOW + 2_000).await.unwrap();
    assert_eq!(world.see("LLEN bull:q:wait").await, "1");
    assert_eq!(ids(&world.take_at(10, NOW + 5_000).await), ["5", "6"]);
    assert!(world.take_at(10, NOW + 5_999).await.jobs.is_empty());
    // A clock that is set back waits no longer than a window from its own now.
    assert_eq!(world.take_at(10, NOW + 5_500).await.next_due_ms, Some(NOW + 6_000));
    world.set("a", GroupChange { rate: Some(Some(GroupRate::None)), ..Default::default() }).await;
    assert_eq!(ids(&world.take_at(10, NOW + 5_500).await), ["7"]);
}

#[tokio::test]
async fn a_paused_group_gives_nothing_out() {
    let world = World::new().await;
    world.fill("a", 3).await;
    assert_eq!(ids(&world.take(1).await), ["1"]);
    world.set("a", paused(true)).await;
    assert_eq!(world.see("LLEN bull:q:wait").await, "0", "what stood ready is back in the line");
    world.fill("b", 1).await;
    assert_eq!(ids(&world.take(5).await), ["4"]);
    assert_eq!(world.settle("1", retry(0)).await, Settlement::Settled);
    assert!(world.take(5).await.jobs.is_empty());
    world.run(&["DEL", "bull:q:marker"]).await;
    world.set("a", paused(false)).await;
    assert_eq!(world.see("ZRANGE bull:q:marker 0 -1").await, "[0]");
    assert_eq!(ids(&world.take(5).await), ["2", "3", "1"]);
}

#[tokio::test]
async fn the_queues_own_limits_hold_unless_a_group_has_its_own() {
    let server = Server::start();
    let redis = server.connect().await;
    let ahead = NonZeroU32::new(3).unwrap();
    let groups = GroupDefaults { concurrency: NonZeroU32::new(1), rate: Some(rate(9, 1_000)), ahead };
    let name = QueueName::parse("q").unwrap();
    let queue = Queue::on_terms(redis.clone(), "bull", name, Terms { groups, ..Terms::default() });
    let world = World { server, redis, queue };
    world.fill("a", 3).await;
    world.set("b", GroupChange { rate: Some(Some(GroupRate::None)), ..at_most(0) }).await;
    world.fill("b", 5).await;
    assert_eq!(world.see("LLEN bull:q:wait").await, "4", "three stand ready, where the limits allow it");
    assert_eq!(world.take(10).await.jobs.len(), 6);
    world.set("b", GroupChange::FORGET).await;
    assert_eq!(world.queue.groups(None, 10).await.unwrap().len(), 2);
    let b = world.queue.group("b").await.unwrap();
    assert_eq!((b.concurrency, b.rate, b.released), (None, None, 5));
}

#[tokio::test]
async fn groups_are_listed_by_pages_and_leave_nothing_behind() {
    let world = World::new().await;
    for n in 0..5 {
        world.fill(&format!("g{n}"), n + 1).await;
    }
    world.set("settings only", at_most(3)).await;
    let names = async |after: Option<&str>| {
        let page = world.queue.groups(after, 4).await.unwrap();
        page.into_iter().map(|group| (group.id, group.waiting, group.released, group.ready)).collect::<Vec<_>>()
    };
    let row = |id: &str, waiting, released, ready| (id.to_owned(), waiting, released, ready);
    assert_eq!(names(None).await, [row("g0", 0, 1, 1), row("g1", 1, 1, 1), row("g2", 2, 1, 1), row("g3", 3, 1, 1)]);
    assert_eq!(names(Some("g3")).await, [row("g4", 4, 1, 1), row("settings only", 0, 0, 0)]);
    loop {
        let taken = world.take(4).await;
        if taken.jobs.is_empty() {
            break;
        }
        for id in ids(&taken) {
            world.settle(id, complete("1")).await;
        }
    }
    assert_eq!(names(None).await, [row("settings only", 0, 0, 0)]);
    world.set("settings only", GroupChange::FORGET).await;
    assert_eq!(world.private().await, BTreeSet::new());
}

#[tokio::test]
async fn jobs_in_line_are_listed_counted_and_found() {
    let world = World::new().await;
    world.add(plain()).await;
    world.fill("a", 3).await;
    world.fill("b", 2).await;
    assert_eq!(world.queue.counts().await.unwrap().waiting, 6);
    assert_eq!(world.queue.ids(State::Waiting, 0, 10).await.unwrap(), ["1", "2", "5", "3", "4", "6"]);
    assert_eq!(world.queue.ids(State::Waiting, 4, 1).await.unwrap(), ["4"]);
    assert_eq!(world.queue.ids(State::Waiting, 5, 3).await.unwrap(), ["6"]);
    for id in ["2", "4"] {
        assert_eq!(world.queue.state(id).await.unwrap(), Some(State::Waiting));
    }
    assert_eq!(world.queue.state("wait").await.unwrap(), None);
}

#[tokio::test]
async fn removing_takes_jobs_out_of_their_line() {
    let world = World::new().await;
    world.fill("a", 3).await;
    world.news().await;
    assert_eq!(world.queue.remove("2", NOW).await.unwrap(), Removal::Removed);
    assert_eq!(world.news().await, ["removed jobId=2 prev=wait"]);
    // The one that stood ready makes room for the next.
    assert_eq!(world.queue.remove("1", NOW).await.unwrap(), Removal::Removed);
    assert_eq!(ids(&world.take(1).await), ["3"]);
    assert_eq!(world.queue.remove("3", NOW).await.unwrap(), Removal::Locked);
    world.run(&["DEL", "bull:q:3:lock"]).await;
    assert_eq!(world.queue.remove("3", NOW).await.unwrap(), Removal::Removed);
    assert_eq!(world.private().await, BTreeSet::new());
}

#[tokio::test]
async fn bulk_verbs_reach_into_the_lines() {
    let world = World::new().await;
    let fill = async || {
        world.fill("a", 1_500).await;
        world.fill("b", 3).await;
        world.set("c", paused(true)).await;
        world.fill("c", 2).await;
        world.add(plain()).await;
    };
    fill().await;
    assert_eq!(world.queue.run_to_end(&Bulk::Drain { delayed: false }, NOW).await.unwrap(), 1_506);
    assert_eq!(world.queue.counts().await.unwrap(), Counts::default());
    world.set("c", paused(false)).await;
    assert_eq!(world.private().await, BTreeSet::new());

    fill().await;
    let clean = |most| Bulk::Clean { state: State::Waiting, grace_ms: 0, most };
    assert_eq!(world.queue.run_to_end(&clean(Some(4)), NOW).await.unwrap(), 4);
    assert_eq!(world.queue.run_to_end(&clean(None), NOW).await.unwrap(), 1_502);
    assert_eq!(world.queue.counts().await.unwrap(), Counts::default());

    fill().await;
    let taken = world.take(3).await.jobs.len();
    assert_eq!(taken, 3);
    world.queue.pause().await.unwrap();
    assert_eq!(world.queue.run_to_end(&Bulk::Obliterate { force: true }, NOW).await.unwrap(), 1_506);
    assert_eq!(world.private().await, BTreeSet::new());
    assert_eq!(world.redis.scan(None, "bull:*", 10_000).await.unwrap().items, Vec::<String>::new());
}

#[tokio::test]
async fn retrying_all_leads_into_the_lines() {
    let world = World::new().await;
    world.set("a", at_most(1)).await;
    world.fill("a", 3).await;
    for _ in 0..3 {
        let taken = world.take(1).await;
        world.settle(ids(&taken)[0], fail("no")).await;
    }
    let retry = Bulk::Retry { from: Finished::Failed, until: NOW };
    assert_eq!(world.queue.run_to_end(&retry, NOW).await.unwrap(), 3);
    assert_eq!(world.take(9).await.jobs.len(), 1);
    assert_eq!(world.queue.group("a").await.unwrap().waiting, 2);
}

#[tokio::test]
async fn what_cannot_be_in_a_group_is_refused() {
    let world = World::new().await;
    let refused = async |add: Add| match world.queue.add(vec![of("a"), add], NOW).await {
        Err(Error::Add { index: 1, source }) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(of("")).await, AddError::GroupId(128));
    assert_eq!(refused(of(&"x".repeat(300))).await, AddError::GroupId(128));
    assert_eq!(refused(of("a\u{0}b")).await, AddError::GroupId(128));
    let lifo = job(JobOptions { lifo: true, ..of("a").options });
    assert!(matches!(refused(lifo).await, AddError::GroupTogether(_)));
    assert!(matches!(world.queue.ensure(vec![own("x", "a")], NOW).await, Err(Error::Add { .. })));
    assert!(matches!(world.queue.set_group("", at_most(1), NOW).await, Err(Error::Unfit(_))));
    assert!(world.private().await.is_empty());
    assert_eq!(world.see("KEYS *").await, "[]");
}

#[tokio::test]
async fn ids_without_a_job_are_passed_over() {
    let world = World::new().await;
    world.queue.add((0..60).map(|n| own(&format!("x{n}"), "a")).collect(), NOW).await.unwrap();
    // As BullMQ's own remove does, which knows of no line.
    for n in 0..55 {
        world.run(&["DEL", &format!("bull:q:x{n}")]).await;
    }
    // One of the ids is used anew, for another group; its old place counts for nothing.
    world.add(own("x3", "b")).await;
    let mut seen = Vec::new();
    for _ in 0..10 {
        world.queue.tend_all(NOW).await.unwrap();
        seen.extend(ids(&world.take(10).await).into_iter().map(str::to_owned));
    }
    seen.sort();
    assert_eq!(seen, ["x3", "x55", "x56", "x57", "x58", "x59"]);
    assert_eq!(world.queue.counts().await.unwrap().waiting, 0);
}

#[tokio::test]
async fn what_stock_workers_take_and_end_is_made_good() {
    let world = World::new().await;
    world.set("a", at_most(2)).await;
    world.fill("a", 4).await;
    assert_eq!(world.take_as_stranger().await.as_deref(), Some("1"));
    assert_eq!(world.take_as_stranger().await, None, "nobody let the next one out yet");
    let told = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    for _ in 0..2 {
        world.queue.tend(&told(&["1"]), NOW).await.unwrap(); // twice is as good as once
    }
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[2]");
    assert_eq!(world.take_as_stranger().await.as_deref(), Some("2"));
    world.queue.tend(&told(&["2"]), NOW).await.unwrap();
    assert_eq!(world.see("LLEN bull:q:wait").await, "0", "two run");
    // Ended with its record, and without; found by its event, and by looking at everything.
    world.complete_as_stranger("1").await;
    world.queue.tend(&told(&["1"]), NOW).await.unwrap();
    assert_eq!(world.take_as_stranger().await.as_deref(), Some("3"));
    world.complete_as_stranger("2").await;
    world.run(&["DEL", "bull:q:2"]).await;
    let tended = world.queue.tend_all(NOW).await.unwrap();
    assert!(tended.has_groups);
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[4]");
    // A job that a stock worker promotes or retries comes back into its line.
    world.run(&["ZREM", "bull:q:completed", "1"]).await;
    world.run(&["HDEL", "bull:q:1", "finishedOn"]).await;
    world.run(&["LPUSH", "bull:q:wait", "1"]).await;
    world.queue.tend(&told(&["1"]), NOW).await.unwrap();
    assert_eq!(world.see("LRANGE bull:q:wait 0 -1").await, "[4]");
    assert_eq!(world.queue.group("a").await.unwrap().waiting, 1);
    // Or, if nobody told, it is put there by our own take.
    world.set("a", at_most(1)).await;
    world.run(&["ZADD", "bull:q:delayed", "0", "5"]).await;
    world.run(&["HSET", "bull:q:5", "name", "n", "onetake:group", "a"]).await;
    world.run(&["ZREM", "bull:q:delayed", "5"]).await;
    world.run(&["LPUSH", "bull:q:wait", "5"]).await;
    assert!(world.take(5).await.jobs.is_empty());
    assert_eq!(world.queue.group("a").await.unwrap().waiting, 3);
}

#[tokio::test]
async fn an_id_that_is_used_anew_counts_in_its_new_group_alone() {
    let world = World::new().await;
    world.add(own("x", "a")).await;
    // Removed as BullMQ does it, then added for later, and promoted by a stock worker.
    world.run(&["LREM", "bull:q:wait", "1", "x"]).await;
    world.run(&["DEL", "bull:q:x"]).await;
    world.add(Add { options: JobOptions { delay_ms: 500, ..of("b").options }, ..named("x") }).await;
    world.run(&["ZREM", "bull:q:delayed", "x"]).await;
    world.run(&["LPUSH", "bull:q:wait", "x"]).await;
    assert_eq!(ids(&world.take(5).await), ["x"]);
    let released = async |group: &str| world.queue.group(group).await.unwrap().released;
    assert_eq!((released("a").await, released("b").await), (0, 1));
    world.settle("x", complete("1")).await;
    assert_eq!(world.private().await, BTreeSet::new());
}

#[tokio::test]
async fn one_server_tends_at_a_time() {
    let world = World::new().await;
    assert!(world.queue.lead_tending("one", 60_000).await.unwrap());
    assert!(!world.queue.lead_tending("two", 60_000).await.unwrap());
    assert!(world.queue.lead_tending("one", 60_000).await.unwrap());
    world.queue.leave_tending("two").await.unwrap();
    assert!(!world.queue.lead_tending("two", 60_000).await.unwrap());
    world.queue.leave_tending("one").await.unwrap();
    assert!(world.queue.lead_tending("two", 60_000).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_takers_on_two_servers_never_exceed_a_groups_concurrency() {
    const GROUPS: [(&str, u32); 4] = [("one", 1), ("two", 2), ("five", 5), ("any", 0)];
    const EACH: usize = 150;
    let world = World::new().await;
    let other = Queue::new(world.server.connect().await, "bull", world.queue.name().clone());
    for (group, limit) in GROUPS {
        world.set(group, at_most(limit)).await;
        world.fill(group, EACH).await;
    }
    // How many of each group are held, and how many were ever ended.
    let running = std::sync::Arc::new(GROUPS.map(|_| std::sync::atomic::AtomicU32::new(0)));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut takers = tokio::task::JoinSet::new();
    for n in 0..50 {
        let queue = if n % 2 == 0 { world.queue.clone() } else { other.clone() };
        let (running, done, token) = (running.clone(), done.clone(), format!("t{n}"));
        takers.spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            let mut now = NOW;
            while done.load(SeqCst) < EACH * GROUPS.len() {
                now += 1;
                let taken = queue.take(&by(&token, 1 + n % 4), now).await.unwrap();
                let of = |record: &Record| GROUPS.iter().position(|(name, _)| *name == group_of(record)).unwrap();
                for record in &taken.jobs {
                    let (_, limit) = GROUPS[of(record)];
                    // It was held from before this line to after the one below, so that this counts too few, never too many.
                    let now_running = running[of(record)].fetch_add(1, SeqCst) + 1;
                    assert!(limit == 0 || now_running <= limit, "{now_running} of {limit}");
                }
                tokio::task::yield_now().await;
                for record in &taken.jobs {
                    running[of(record)].fetch_sub(1, SeqCst);
                    let how = if record.id().len() == 2 && readable(record).attempts_made == 0 {
                        retry(0)
                    } else {
                        done.fetch_add(1, SeqCst);
                        complete("1")
                    };
                    let end = Ended { id: record.id().to_owned(), token: token.clone(), how };
                    let (settled, _) = queue.settle(&[end], None, now).await.unwrap();
                    assert_eq!(settled, [Settlement::Settled]);
                }
            }
        });
    }
    let all = async {
        while let Some(ended) = takers.join_next().await {
            ended.expect("no taker saw too many")
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), all).await.expect("all jobs end");
    assert_eq!(world.queue.counts().await.unwrap().completed, 600);
    for (group, _) in GROUPS {
        world.set(group, GroupChange::FORGET).await;
    }
    assert_eq!(world.private().await, BTreeSet::new());
}

#[tokio::test]
async fn a_queue_without_groups_makes_one_call_for_them() {
    let world = World::new().await;
    let calls = async || -> i64 {
        let text = world.see("INFO commandstats").await;
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<i64>().ok();
        text.lines().filter(|line| line.starts_with("cmdstat_exists:")).filter_map(calls).sum()
    };
    world.queue.add((0..50).map(|_| plain()).collect(), NOW).await.unwrap();
    let before = calls().await;
    let taken = world.take(50).await;
    assert_eq!(
        (taken.jobs.len(), calls().await - before),
        (50, 1 + 2),
        "one for groups; one for delays and limits, one for the marker"
    );
    assert_eq!(world.private().await, BTreeSet::new());
}
