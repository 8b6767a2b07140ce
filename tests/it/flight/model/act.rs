//! What may happen, first as chance has it ([`Step`]), then with names ([`Act`]).

use proptest::collection::vec;
use proptest::prelude::*;

/// A step of a walk. Small numbers choose among what exists when it is taken.
#[derive(Clone, Debug)]
pub enum Step {
    Accept(Vec<Wanted>),
    Claim {
        key: u8,
        behind: bool,
    },
    Renew {
        worker: u8,
    },
    Finish {
        worker: u8,
        ending: End,
    },
    /// A worker dies: nobody will report with its token.
    Crash {
        worker: u8,
    },
    Pass {
        ms: i64,
    },
    Rescue,
    /// The only server of the store starts again.
    Restart,
    Leave {
        request: u8,
    },
    Release {
        key: u8,
    },
    Lease {
        request: u8,
    },
    Mark {
        sender: u8,
        mark: Mark,
    },
    Replay {
        request: u8,
    },
}

#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: u8,
    pub subscriber: u8,
    pub polls: bool,
    pub refresh: bool,
    pub strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Succeeded,
    Failed,
    FailedForGood,
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    Delivered,
    Again { counts: bool, ambiguous: bool },
    Suppressed,
    Dead,
}

/// A step with the names of those that it concerns.
#[derive(Clone, Debug)]
pub enum Act {
    Accept(Vec<Wish>),
    Claim { key: String, generation: i64, token: String },
    Renew { key: String, token: String },
    Finish { key: String, token: String, ending: End, value: String },
    Pass { ms: i64 },
    Rescue,
    Restart,
    Leave { request: String },
    Release { key: String },
    Lease { request: String, token: String },
    Mark { request: String, token: String, mark: Mark },
    Replay { request: String },
}

#[derive(Clone, Debug)]
pub struct Wish {
    pub id: String,
    pub key: String,
    pub subscriber: String,
    pub polls: bool,
    pub refresh: bool,
    /// Wants a result that is not older than [`super::reference::AGE_MS`].
    pub strict: bool,
}

/// A walk of at most `steps` steps.
pub fn walk(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=steps)
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..2u8;
    let ending = prop_oneof![
        4 => Just(End::Succeeded),
        3 => Just(End::Failed),
        1 => Just(End::FailedForGood),
        1 => Just(End::Later),
    ];
    let mark = prop_oneof![
        3 => Just(Mark::Delivered),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(counts, ambiguous)| Mark::Again { counts, ambiguous }),
        1 => Just(Mark::Suppressed),
        1 => Just(Mark::Dead),
    ];
    prop_oneof![
        6 => vec(wanted(), 1..4).prop_map(Step::Accept),
        6 => (key(), prop::bool::weighted(0.1)).prop_map(|(key, behind)| Step::Claim { key, behind }),
        1 => any::<u8>().prop_map(|worker| Step::Renew { worker }),
        6 => (any::<u8>(), ending).prop_map(|(worker, ending)| Step::Finish { worker, ending }),
        1 => any::<u8>().prop_map(|worker| Step::Crash { worker }),
        4 => prop_oneof![Just(100i64), Just(300), Just(700), Just(1000), Just(2000)].prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::Rescue),
        1 => Just(Step::Restart),
        2 => any::<u8>().prop_map(|request| Step::Leave { request }),
        1 => key().prop_map(|key| Step::Release { key }),
        4 => any::<u8>().prop_map(|request| Step::Lease { request }),
        4 => (any::<u8>(), mark).prop_map(|(sender, mark)| Step::Mark { sender, mark }),
        1 => any::<u8>().prop_map(|request| Step::Replay { request }),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let seldom = || prop::bool::weighted(0.25);
    (0..2u8, 0..4u8, seldom(), seldom(), seldom()).prop_map(|(key, subscriber, polls, refresh, strict)| Wanted {
        key,
        subscriber,
        polls,
        refresh,
        strict,
    })
}
