//! What follows from an answer: the whole policy of sagas in two functions without effects.

use std::time::Duration;

use rand::Rng;

use super::{Asked, Called};
use crate::config;
use crate::retry;

/// The next step of a saga.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Confirm { receipt: String },
    Compensate { reason: String },
    Call { after: Duration, reason: String },
    Ask { after: Duration, reason: String },
    Park { reason: String },
}

/// After call number `calls`.
pub(super) fn after_call(called: Called, calls: i64, policy: &config::Saga, rng: &mut impl Rng) -> Next {
    match called {
        Called::Done { receipt } => Next::Confirm { receipt },
        Called::Refused { reason } => Next::Compensate { reason },
        Called::NotSent { reason } => again_or_not(reason, calls, policy, rng),
        Called::Unknown { reason } => Next::Ask { after: retry::delay(policy.ask_backoff, 1, rng), reason },
    }
}

/// After question number `asks`. `is_known`: the other side still knows the id of the earlier call, so that repeating it
/// is safe even if that one is under way there.
pub(super) fn after_ask(
    asked: Asked,
    (calls, asks): (i64, i64),
    is_known: bool,
    policy: &config::Saga,
    rng: &mut impl Rng,
) -> Next {
    match asked {
        Asked::Done { receipt } => Next::Confirm { receipt },
        Asked::Refused { reason } => Next::Compensate { reason },
        Asked::NotDone if is_known => again_or_not("it was not performed".into(), calls, policy, rng),
        Asked::NotDone => Next::Park { reason: "it was not performed, and its id is too old to repeat it".into() },
        Asked::CannotTell { reason } if asks >= i64::from(policy.asks) => {
            Next::Park { reason: format!("asked {asks} times: {reason}") }
        }
        Asked::CannotTell { reason } => {
            Next::Ask { after: retry::delay(policy.ask_backoff, nth(asks) + 1, rng), reason }
        }
    }
}

/// It surely was not performed: again, while attempts are left.
fn again_or_not(reason: String, calls: i64, policy: &config::Saga, rng: &mut impl Rng) -> Next {
    if calls >= i64::from(policy.attempts) {
        return Next::Compensate { reason: format!("gave up after {calls} attempts: {reason}") };
    }
    Next::Call { after: retry::delay(policy.backoff, nth(calls), rng), reason }
}

fn nth(count: i64) -> u32 {
    u32::try_from(count.clamp(1, 30)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;
    use crate::retry::Backoff;

    fn policy() -> config::Saga {
        let fixed = |seconds| Backoff::Fixed { delay: Span(Duration::from_secs(seconds)), jitter: 0.0 };
        config::Saga {
            attempts: 3,
            backoff: fixed(1),
            asks: 2,
            ask_backoff: fixed(5),
            lease: Span(Duration::from_secs(120)),
            time_limit: Span(Duration::from_secs(30)),
            concurrency: 8,
            interval: Span(Duration::from_secs(1)),
        }
    }

    fn called(called: Called, calls: i64) -> Next {
        after_call(called, calls, &policy(), &mut rand::rng())
    }

    fn asked(asked: Asked, calls: i64, asks: i64) -> Next {
        after_ask(asked, (calls, asks), true, &policy(), &mut rand::rng())
    }

    #[test]
    fn what_surely_was_not_performed_is_tried_three_times_then_given_up() {
        let not_sent = || Called::NotSent { reason: "refused".into() };
        for calls in [1, 2] {
            assert!(matches!(called(not_sent(), calls), Next::Call { .. }));
        }
        assert!(matches!(called(not_sent(), 3), Next::Compensate { .. }));
        assert!(matches!(asked(Asked::NotDone, 2, 1), Next::Call { .. }));
        assert!(matches!(asked(Asked::NotDone, 3, 1), Next::Compensate { .. }));
    }

    #[test]
    fn an_unknown_end_is_asked_about_and_never_called_again_by_itself() {
        for calls in 1..=5 {
            assert!(matches!(called(Called::Unknown { reason: "reset".into() }, calls), Next::Ask { .. }));
        }
        let cannot_tell = || Asked::CannotTell { reason: "503".into() };
        assert!(matches!(asked(cannot_tell(), 1, 1), Next::Ask { .. }));
        assert!(matches!(asked(cannot_tell(), 1, 2), Next::Park { .. }), "a person decides");
    }

    #[test]
    fn an_id_that_the_other_side_has_forgotten_is_not_sent_again() {
        let next = after_ask(Asked::NotDone, (1, 1), false, &policy(), &mut rand::rng());
        assert!(matches!(next, Next::Park { .. }));
    }
}
