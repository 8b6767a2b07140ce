//! The model of leases: a row with a fencing token, holders that trust it until shortly before its end, writes that are
//! checked where they are made, and a mirror in Redis that may be stale.
//!
//! Time goes on in steps, for all alike (the speed of clocks is what the margin is for). Answers may take any time, and a
//! party may be paused at any point: it then acts on what it knew.

use super::search::{Go, Model, search};

const PARTIES: usize = 2;
const TTL: u8 = 3;
/// So long before the end a holder stops to trust.
const MARGIN: u8 = 1;
const END: u8 = 6;
/// Leases can be given back and taken again without time passing: so many grants in all.
const GRANTS: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Design {
    /// As built.
    Ours,
    /// A write is not checked.
    Unchecked,
    /// A grant after an end does not raise the token.
    SameToken,
    /// The holder counts from when the answer came.
    TrustFromAnswer,
    /// Where the mirror shows nobody, the lease is granted without SQL.
    MirrorGrants,
    /// A release does not look whose the lease is.
    ReleaseAnybody,
    /// A renewal does not look whose the lease is.
    RenewAnybody,
    /// The mirror lives for a full time from when Redis is told, however late.
    MirrorFromArrival,
    /// A request that is repeated is granted anew instead of again.
    RepeatIsNew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    holder: u8,
    token: u8,
    until: u8,
    /// As granted or renewed last; a release ends it before.
    planned: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Asked at this time; SQL has not decided.
    Asked(u8),
    /// SQL granted this token; the answer is on its way. Asked at.
    Granted(u8, u8),
    /// Believes to hold this token, and trusts it until then.
    Holds(u8, u8),
    /// The same, and asked for a renewal at this time.
    Renewing(u8, u8, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    at: [At; PARTIES],
    row: Option<Row>,
    /// Shows a lease until then.
    mirror: Option<u8>,
    /// Told to Redis and not arrived: the end of the lease.
    on_the_way: Option<u8>,
    /// The token of the last write that was accepted.
    written: u8,
    /// The last token that was granted.
    granted: u8,
    wrong: Option<&'static str>,
    repeats: u8,
}

struct Leases(Design);

impl Model for Leases {
    type State = State;

    fn first(&self) -> State {
        State {
            now: 0,
            at: [At::Idle; PARTIES],
            row: None,
            mirror: None,
            on_the_way: None,
            written: 0,
            granted: 0,
            wrong: None,
            repeats: 0,
        }
    }

    fn next(&self, state: &State) -> Vec<(String, State)> {
        let mut next = Vec::new();
        let mut go = |step: String, change: &dyn Fn(&mut State)| {
            let mut state = state.clone();
            change(&mut state);
            next.push((step, state));
        };
        if state.now < END {
            go(format!("it is {}", state.now + 1), &|s| {
                s.now += 1;
                s.mirror = s.mirror.filter(|until| *until > s.now);
            });
        }
        if let Some(until) = state.on_the_way {
            go("Redis hears of the lease".into(), &|s| {
                let until = if self.0 == Design::MirrorFromArrival { s.now + TTL } else { until };
                s.on_the_way = None;
                s.mirror = (until > s.now).then_some(until);
            });
        }
        if state.mirror.is_some() {
            go("Redis forgets".into(), &|s| s.mirror = None);
        }
        for party in 0..PARTIES {
            self.steps(state, party, &mut go);
        }
        next
    }

    fn wrong(&self, state: &State) -> Option<String> {
        if let Some(wrong) = state.wrong {
            return Some(wrong.into());
        }
        let trusted = |at: &At| match *at {
            At::Holds(token, until) | At::Renewing(token, until, _) if until > state.now => Some(token),
            _ => None,
        };
        let trusting: Vec<u8> = state.at.iter().filter_map(trusted).collect();
        if trusting.len() > 1 {
            return Some("two trust their lease at once".into());
        }
        let newest = state.row.map(|row| row.token);
        if trusting.iter().any(|token| Some(*token) != newest) {
            return Some("somebody trusts a token that is not the newest".into());
        }
        let planned = state.row.map_or(0, |row| row.planned);
        if state.mirror.is_some_and(|until| until > planned) {
            return Some("the mirror says no for longer than the lease".into());
        }
        None
    }
}

impl Leases {
    fn steps(&self, state: &State, party: usize, go: &mut Go<'_, State>) {
        let me = party as u8;
        let design = self.0;
        match state.at[party] {
            At::Idle => {
                // The mirror may say no; with nothing to say, it says nothing.
                if state.mirror.is_none() && state.granted < GRANTS {
                    go(format!("{party}: asks"), &|s| s.at[party] = At::Asked(s.now));
                    if design == Design::MirrorGrants {
                        go(format!("{party}: finds nobody in the mirror"), &|s| {
                            let token = s.granted + 1;
                            s.granted = token;
                            s.at[party] = At::Holds(token, s.now + TTL - MARGIN);
                        });
                    }
                }
            }
            At::Asked(asked) => {
                let is_free = state.row.is_none_or(|row| row.until <= state.now);
                if is_free {
                    go(format!("{party}: is granted"), &|s| {
                        let last = s.row.map_or(0, |row| row.token);
                        let token = if design == Design::SameToken && last > 0 { last } else { last + 1 };
                        if s.granted >= token {
                            s.wrong = Some("a token was granted twice");
                        }
                        s.granted = s.granted.max(token);
                        s.row = Some(Row { holder: me, token, until: s.now + TTL, planned: s.now + TTL });
                        // Redis's time was read before SQL was asked.
                        s.on_the_way = Some(asked + TTL);
                        s.at[party] = At::Granted(token, asked);
                    });
                } else {
                    go(format!("{party}: is refused"), &|s| s.at[party] = At::Idle);
                }
            }
            At::Granted(token, asked) => {
                go(format!("{party}: hears of its grant"), &|s| {
                    let from = if design == Design::TrustFromAnswer { s.now } else { asked };
                    s.at[party] = At::Holds(token, from + TTL - MARGIN);
                });
                // The answer was lost: the request is repeated, and SQL knows it.
                if state.repeats < 1 {
                    go(format!("{party}: repeats its request"), &|s| {
                        s.repeats += 1;
                        let is_mine = s.row.is_some_and(|row| row.holder == me && row.until > s.now);
                        if design == Design::RepeatIsNew && is_mine {
                            // The first answer is still on its way, and has an old token already when it arrives.
                            s.granted += 1;
                            let until = s.now + TTL;
                            s.row = Some(Row { holder: me, token: s.granted, until, planned: until });
                        }
                    });
                }
            }
            At::Holds(token, until) => {
                let is_newest = state.row.is_some_and(|row| row.token == token && row.until > state.now);
                // A paused holder writes late: nobody tells it that time has passed.
                if design == Design::Unchecked || is_newest {
                    go(format!("{party}: writes under {token}"), &|s| {
                        if s.written > token {
                            s.wrong = Some("a write under an older token came after one under a newer");
                        }
                        s.written = s.written.max(token);
                    });
                }
                go(format!("{party}: asks for a renewal"), &|s| s.at[party] = At::Renewing(token, until, s.now));
                for redis_hears in [true, false] {
                    go(format!("{party}: releases; Redis hears of it: {redis_hears}"), &|s| {
                        let is_mine = s.row.is_some_and(|row| row.holder == me && row.token == token);
                        if is_mine || design == Design::ReleaseAnybody {
                            if let Some(row) = &mut s.row {
                                row.until = row.until.min(s.now);
                            }
                            if redis_hears {
                                (s.mirror, s.on_the_way) = (None, None);
                            }
                        }
                        s.at[party] = At::Idle;
                    });
                }
            }
            At::Renewing(token, until, asked) => {
                let is_mine = state.row.is_some_and(|row| row.holder == me && row.token == token);
                let stands = state.row.is_some_and(|row| row.until > state.now);
                if (is_mine && stands) || design == Design::RenewAnybody {
                    go(format!("{party}: is renewed"), &|s| {
                        if let Some(row) = &mut s.row {
                            (row.until, row.planned) = (s.now + TTL, s.now + TTL);
                        }
                        s.on_the_way = Some(asked + TTL);
                        s.at[party] = At::Holds(token, asked + TTL - MARGIN);
                    });
                } else {
                    go(format!("{party}: is told that it lost"), &|s| s.at[party] = At::Idle);
                }
                // No answer comes: it trusts what it had.
                go(format!("{party}: hears nothing"), &|s| s.at[party] = At::Holds(token, until));
            }
        }
    }
}

#[test]
fn no_order_of_steps_lets_an_old_holder_in() {
    let states = search(&Leases(Design::Ours)).unwrap_or_else(|way| panic!("{way:#?}"));
    assert!(states > 1_000, "only {states} states: the model does not move");
}

#[test]
fn each_broken_design_is_caught() {
    for design in [
        Design::Unchecked,
        Design::SameToken,
        Design::TrustFromAnswer,
        Design::MirrorGrants,
        Design::ReleaseAnybody,
        Design::RenewAnybody,
        Design::MirrorFromArrival,
        Design::RepeatIsNew,
    ] {
        let Err(way) = search(&Leases(design)) else { panic!("{design:?} was not caught") };
        println!("{design:?}: {way:#?}");
    }
}
