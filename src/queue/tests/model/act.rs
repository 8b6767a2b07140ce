//! What clients do, drawn at random: few ids, few clients and short times, so that they meet.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::clock::Millis;
use crate::queue::{Finished, State};

/// One verb of one client.
#[derive(Clone, Debug)]
pub enum Act {
    Pass {
        ms: Millis,
    },
    Add {
        id: String,
        priority: u32,
        delay: Millis,
        lifo: bool,
        forget: bool,
    },
    Take {
        client: String,
        most: u32,
    },
    Settle {
        id: String,
        client: String,
        end: End,
        take: Option<u32>,
    },
    Extend {
        ids: Vec<String>,
        client: String,
    },
    /// The lock of a job ends by its time.
    Expire {
        id: String,
    },
    Scan,
    Reclaim {
        client: String,
        held: Vec<String>,
    },
    Remove {
        id: String,
    },
    Retry {
        id: String,
        from: Option<Finished>,
        anew: bool,
    },
    Promote {
        id: String,
    },
    ChangeDelay {
        id: String,
        delay: Millis,
    },
    ChangePriority {
        id: String,
        priority: u32,
        lifo: bool,
    },
    FinishParked {
        id: String,
    },
    Pause,
    Resume,
    Concurrency {
        limit: Option<u32>,
    },
    Drain {
        delayed: bool,
    },
    Clean {
        state: State,
        grace: Millis,
    },
    RetryAll {
        from: Finished,
    },
    PromoteAll,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Complete,
    Fail,
    Retry { delay: Millis },
    Delay { from_now: Millis },
    Wait,
    Park,
}

pub fn walk(steps: usize) -> impl Strategy<Value = Vec<Act>> {
    vec(act(), steps / 2..=steps)
}

fn id() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn client() -> impl Strategy<Value = String> {
    // Mostly the same one, which then mostly holds what it ends.
    prop_oneof![4 => Just("one".to_owned()), 1 => Just("two".to_owned())]
}

fn ms() -> impl Strategy<Value = Millis> {
    0..30_i64
}

fn finished() -> impl Strategy<Value = Finished> {
    prop::sample::select(vec![Finished::Completed, Finished::Failed])
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Complete),
        3 => Just(End::Fail),
        3 => prop_oneof![Just(0), ms()].prop_map(|delay| End::Retry { delay }),
        1 => (-5..20_i64).prop_map(|from_now| End::Delay { from_now }),
        1 => Just(End::Wait),
        1 => Just(End::Park),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let rarely = |each: f64| prop::bool::weighted(each);
    let priority = || prop_oneof![2 => Just(0), 1 => 1..3_u32];
    prop_oneof![
        3 => ms().prop_map(|ms| Act::Pass { ms }),
        8 => (id(), priority(), prop_oneof![2 => Just(0), 1 => ms()], rarely(0.2), rarely(0.1))
            .prop_map(|(id, priority, delay, lifo, forget)| Act::Add { id, priority, delay, lifo, forget }),
        6 => (client(), 0..4_u32).prop_map(|(client, most)| Act::Take { client, most }),
        9 => (id(), client(), end(), prop::option::of(0..3_u32))
            .prop_map(|(id, client, end, take)| Act::Settle { id, client, end, take }),
        2 => (vec(id(), 0..4), client()).prop_map(|(ids, client)| Act::Extend { ids, client }),
        3 => id().prop_map(|id| Act::Expire { id }),
        4 => Just(Act::Scan),
        1 => (client(), vec(id(), 0..3)).prop_map(|(client, held)| Act::Reclaim { client, held }),
        2 => id().prop_map(|id| Act::Remove { id }),
        3 => (id(), prop::option::of(finished()), rarely(0.3))
            .prop_map(|(id, from, anew)| Act::Retry { id, from, anew }),
        2 => id().prop_map(|id| Act::Promote { id }),
        2 => (id(), ms()).prop_map(|(id, delay)| Act::ChangeDelay { id, delay }),
        3 => (id(), priority(), rarely(0.3))
            .prop_map(|(id, priority, lifo)| Act::ChangePriority { id, priority, lifo }),
        1 => id().prop_map(|id| Act::FinishParked { id }),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        2 => prop::option::of(1..3_u32).prop_map(|limit| Act::Concurrency { limit }),
        1 => rarely(0.5).prop_map(|delayed| Act::Drain { delayed }),
        1 => (prop::sample::select(State::ALL.to_vec()), ms()).prop_map(|(state, grace)| Act::Clean { state, grace }),
        1 => finished().prop_map(|from| Act::RetryAll { from }),
        1 => Just(Act::PromoteAll),
    ]
}
