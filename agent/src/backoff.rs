//! How long to wait before the next attempt. Never gives up: the log file keeps what is not delivered.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(200);

/// Longest wait that we choose ourselves.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Longest wait that a sink may ask for: its `Retry-After` could be a mistake, and a new attempt costs little.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// The standard library's only source of chance.
pub fn chance() -> u64 {
    RandomState::new().hash_one(())
}

/// How long waits are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The first one at most.
    pub first: Duration,
    /// Any of those that we choose ourselves.
    pub longest: Duration,
    /// Any that the other side asks for.
    pub longest_asked: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            first: FIRST,
            longest: LONGEST,
            longest_asked: LONGEST_ASKED,
        }
    }
}

/// Waits that double, with half of each left to chance, so that agents that failed together do not return together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    bounds: Bounds,
}

impl Backoff {
    /// Waits other than for a sink.
    pub fn within(bounds: Bounds) -> Self {
        Self {
            failures: 0,
            bounds,
        }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let full = self
            .bounds
            .first
            .saturating_mul(1 << self.failures.min(16))
            .min(self.bounds.longest);
        self.failures += 1;
        let chance = chance() % 1000;
        let half = full / 2;
        let jittered = half + half * u32::try_from(chance).unwrap_or_default() / 1000;
        match asked {
            Some(asked) => asked.min(self.bounds.longest_asked).max(jittered),
            None => jittered,
        }
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let mut backoff = Backoff::default();
        let mut full = FIRST;
        for _ in 0..40 {
            let wait = backoff.next(None);
            assert!((full / 2..=full).contains(&wait), "{wait:?} of {full:?}");
            full = (full * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn a_sink_may_ask_for_more_but_not_for_hours() {
        let mut backoff = Backoff::default();
        assert_eq!(
            backoff.next(Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert_eq!(backoff.next(Some(Duration::from_hours(24))), LONGEST_ASKED);
    }
}
