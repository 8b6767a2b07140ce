//! The model of guarded units of work: a gate in Redis that may run out or be forgotten, the database's lock, and units that
//! read a counter and write it back plus one.
//!
//! Any party may be paused at any point for any time: the search goes on with the others. A connection may break at any
//! point: the database then rolls back and frees what it held, and the unit learns it only when it goes on.

use super::search::{Go, Model, search};

const PARTIES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Design {
    /// As built.
    Ours,
    /// Redis grants where it answers; where it does not, the database does.
    RedisElseDatabase,
    /// Redis alone: a lock that runs out.
    RedisAlone,
    /// The database's lock is taken after the reading statement has its snapshot.
    LockAfterRead,
    /// The database's lock belongs to the session, and is given back before the commit.
    UnlockBeforeCommit,
    /// The lock is held on another connection than the transaction.
    OtherConnection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Passed the gate; whether it has it, or found Redis away.
    Gated,
    /// Inside the transaction with the lock.
    Locked,
    /// Has read this.
    Read(u8),
    /// Has written this, not committed.
    Written(u8),
    /// Gave the lock back before the commit (broken design only).
    Unlocked(u8),
    Done,
    /// Its transaction was rolled back; it would begin again.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    at: [At; PARTIES],
    /// Who has the gate, as far as Redis knows.
    gate: Option<u8>,
    /// Who has the database's lock.
    lock: Option<u8>,
    /// Who has written the row without having committed: the row's own lock.
    row: Option<u8>,
    counter: u8,
    commits: u8,
    /// Connections that were broken, bounded so that the model ends.
    breaks: u8,
}

struct Units(Design);

impl Model for Units {
    type State = State;

    fn first(&self) -> State {
        State { at: [At::Idle; PARTIES], gate: None, lock: None, row: None, counter: 0, commits: 0, breaks: 0 }
    }

    fn next(&self, state: &State) -> Vec<(String, State)> {
        let mut next = Vec::new();
        let mut go = |step: String, change: &dyn Fn(&mut State)| {
            let mut state = state.clone();
            change(&mut state);
            next.push((step, state));
        };
        if state.gate.is_some() {
            go("the gate runs out, or Redis forgets".into(), &|s| s.gate = None);
        }
        for party in 0..PARTIES {
            let me = Some(party as u8);
            self.steps(state, party, &mut go);
            // What it holds on the server goes with its connection; it itself believes what it did.
            let is_inside = matches!(state.at[party], At::Locked | At::Read(_) | At::Written(_) | At::Unlocked(_));
            if is_inside && state.breaks < 2 {
                go(format!("{party}: its connection breaks"), &|s| {
                    s.breaks += 1;
                    if s.lock == me {
                        s.lock = None;
                    }
                    // On another connection the transaction lives on without its lock.
                    if self.0 != Design::OtherConnection {
                        if s.row == me {
                            s.row = None;
                        }
                        s.at[party] = At::Broken;
                    }
                });
            }
        }
        next
    }

    fn wrong(&self, state: &State) -> Option<String> {
        (state.counter != state.commits)
            .then(|| format!("{} commits, and the counter says {}", state.commits, state.counter))
    }
}

impl Units {
    fn steps(&self, state: &State, party: usize, go: &mut Go<'_, State>) {
        let me = Some(party as u8);
        let design = self.0;
        match state.at[party] {
            At::Idle | At::Broken => {
                if state.gate.is_none() {
                    go(format!("{party}: passes the gate"), &|s| {
                        s.gate = me;
                        s.at[party] = match design {
                            // Redis has granted: straight on.
                            Design::RedisElseDatabase | Design::RedisAlone => At::Locked,
                            _ => At::Gated,
                        };
                    });
                }
                // Redis is away, for this one at least.
                if design != Design::RedisAlone {
                    go(format!("{party}: does not reach Redis"), &|s| s.at[party] = At::Gated);
                }
            }
            At::Gated if design == Design::LockAfterRead => {
                // The statement's snapshot is taken, then it waits for the lock inside.
                let seen = state.counter;
                go(format!("{party}: takes its snapshot"), &|s| s.at[party] = At::Unlocked(seen));
            }
            At::Gated => {
                if state.lock.is_none() {
                    go(format!("{party}: begins with the database's lock"), &|s| {
                        s.lock = me;
                        s.at[party] = At::Locked;
                    });
                }
            }
            At::Locked => {
                let seen = state.counter;
                go(format!("{party}: reads {seen}"), &|s| s.at[party] = At::Read(seen));
            }
            At::Read(seen) => {
                if state.row.is_none() {
                    go(format!("{party}: writes {}", seen + 1), &|s| {
                        s.row = me;
                        s.at[party] = At::Written(seen + 1);
                    });
                }
            }
            At::Written(value) if design == Design::UnlockBeforeCommit => {
                go(format!("{party}: unlocks"), &|s| {
                    if s.lock == me {
                        s.lock = None;
                    }
                    s.at[party] = At::Unlocked(value);
                });
            }
            At::Unlocked(seen) if design == Design::LockAfterRead => {
                if state.lock.is_none() {
                    go(format!("{party}: is given the lock, and reads by the old snapshot"), &|s| {
                        s.lock = me;
                        s.at[party] = At::Read(seen);
                    });
                }
            }
            At::Written(value) | At::Unlocked(value) => {
                go(format!("{party}: commits {value}"), &|s| {
                    s.counter = value;
                    s.commits += 1;
                    s.row = None;
                    if s.lock == me {
                        s.lock = None;
                    }
                    if s.gate == me {
                        s.gate = None;
                    }
                    s.at[party] = At::Done;
                });
            }
            At::Done => {}
        }
    }
}

#[test]
fn no_order_of_steps_loses_an_update() {
    let states = search(&Units(Design::Ours)).unwrap_or_else(|way| panic!("{way:#?}"));
    assert!(states > 1_000, "only {states} states: the model does not move");
}

#[test]
fn each_broken_design_is_caught() {
    for design in [
        Design::RedisElseDatabase,
        Design::RedisAlone,
        Design::LockAfterRead,
        Design::UnlockBeforeCommit,
        Design::OtherConnection,
    ] {
        let Err(way) = search(&Units(design)) else { panic!("{design:?} was not caught") };
        println!("{design:?}: {way:#?}");
        assert!(way.len() > 5, "{design:?}: {way:#?}");
    }
}
