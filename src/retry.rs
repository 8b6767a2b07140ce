//! When to try again: policies and delays, without sleeping and without chance of their own.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::clock::Span;

/// How long to wait between attempts. The formulas are BullMQ's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Backoff {
    /// The same delay each time.
    Fixed {
        delay: Span,
        #[serde(default)]
        jitter: f64,
    },
    /// `delay` doubled with each attempt.
    Exponential {
        delay: Span,
        #[serde(default)]
        jitter: f64,
    },
}

impl Backoff {
    pub const NONE: Self = Self::Fixed { delay: Span(Duration::ZERO), jitter: 0.0 };
}

/// No wait is longer. Producers may ask for more than a point in time can hold.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The wait after failed attempt number `attempt` (the first is 1), a year at most. `jitter` 0.3 takes up to 30 % off.
pub fn delay(backoff: Backoff, attempt: u32, rng: &mut impl Rng) -> Duration {
    let (plain, jitter) = match backoff {
        Backoff::Fixed { delay, jitter } => (delay.0, jitter),
        Backoff::Exponential { delay, jitter } => {
            let doublings = attempt.saturating_sub(1).min(30);
            (delay.0.saturating_mul(1 << doublings), jitter)
        }
    };
    let plain = plain.min(LONGEST);
    if jitter <= 0.0 {
        return plain;
    }
    let jitter = jitter.min(1.0);
    let kept = 1.0 - jitter + jitter * rng.random::<f64>();
    Duration::from_millis((plain.as_millis() as f64 * kept) as u64)
}

/// The wait after failed attempt number `attempt` by a table, whose last wait goes on. An empty one has no waits.
pub fn nth(waits: &[Span], attempt: u32) -> Duration {
    let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    waits.get(at).or(waits.last()).map_or(Duration::ZERO, |wait| wait.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn exponential_doubles_and_fixed_stays() {
        let mut rng = rand::rng();
        let exponential = Backoff::Exponential { delay: Span(ms(100)), jitter: 0.0 };
        let delays: Vec<_> = (1..=4).map(|n| delay(exponential, n, &mut rng)).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(400), ms(800)]);
        let fixed = Backoff::Fixed { delay: Span(ms(50)), jitter: 0.0 };
        assert_eq!(delay(fixed, 9, &mut rng), ms(50));
    }

    #[test]
    fn jitter_only_shortens_and_never_beyond_its_share() {
        let mut rng = rand::rng();
        let jittered = Backoff::Fixed { delay: Span(ms(1000)), jitter: 0.25 };
        for _ in 0..200 {
            let d = delay(jittered, 1, &mut rng);
            assert!((ms(750)..=ms(1000)).contains(&d), "{d:?}");
        }
    }

    #[test]
    fn the_last_wait_of_a_table_goes_on() {
        let table = [Span(ms(5)), Span(ms(70))];
        assert_eq!([1, 2, 3, u32::MAX].map(|attempt| nth(&table, attempt)), [ms(5), ms(70), ms(70), ms(70)]);
        assert_eq!(nth(&[], 1), Duration::ZERO);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        let exponential = Backoff::Exponential { delay: Span(Duration::from_secs(3600)), jitter: 0.0 };
        assert!(delay(exponential, u32::MAX, &mut rand::rng()) > Duration::from_secs(3600));
        let endless = Backoff::Fixed { delay: Span(ms(u64::MAX)), jitter: 0.0 };
        assert_eq!(delay(endless, 1, &mut rand::rng()), LONGEST);
        let endless = Backoff::Exponential { delay: Span(ms(u64::MAX)), jitter: 0.5 };
        assert!(delay(endless, 9, &mut rand::rng()) <= LONGEST);
    }
}
