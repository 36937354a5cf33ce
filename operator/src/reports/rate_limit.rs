//! A token bucket: so many at once, and so many a second.

use std::{collections::HashMap, time::Instant};

/// What may happen no more often than that. Keeps no clock.
#[derive(Debug)]
pub(super) struct RateLimit {
    rate: f64,
    burst: f64,
    left: f64,
    since: Instant,
}

impl RateLimit {
    /// `burst` at once, and `rate` a second in the long run.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        Self {
            rate: rate.into(),
            burst: burst.into(),
            left: burst.into(),
            since: now,
        }
    }

    /// Whether it may happen once more.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (passed.mul_add(self.rate, self.left)).min(self.burst);
        self.since = self.since.max(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// Whether nothing is left of what has happened.
    fn is_full(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        passed.mul_add(self.rate, self.left) >= self.burst
    }
}

/// A bucket for each of many.
#[derive(Debug)]
pub(super) struct Paces {
    rate: u32,
    burst: u32,
    room: usize,
    limits: HashMap<String, RateLimit>,
}

impl Paces {
    /// For so many at a time.
    pub(super) fn new((rate, burst): (u32, u32), room: usize) -> Self {
        Self {
            rate,
            burst,
            room,
            limits: HashMap::new(),
        }
    }

    /// Whether it may happen once more to this one.
    pub(super) fn take(&mut self, name: &str, now: Instant) -> bool {
        if let Some(limit) = self.limits.get_mut(name) {
            return limit.take(now);
        }
        if self.limits.len() >= self.room {
            // One that is full again is as good as none.
            self.limits.retain(|_, limit| !limit.is_full(now));
            if self.limits.len() >= self.room {
                return false;
            }
        }
        let limit = RateLimit::new(self.rate, self.burst, now);
        let limit = self.limits.entry(name.to_owned()).or_insert(limit);
        limit.take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(50, 200, start);
        let mut taken = |after: f64, asked: usize| {
            let now = start + Duration::from_secs_f64(after);
            (0..asked).filter(|_| limit.take(now)).count()
        };
        assert_eq!(taken(0.0, 1000), 200);
        assert_eq!(taken(0.1, 1000), 5);
        assert_eq!(taken(1.1, 1000), 50);
        // Whoever waits for long has no more than the burst, and a clock that seems to go back gives nothing.
        assert_eq!(taken(100.0, 1000), 200);
        assert_eq!(taken(99.0, 1000), 0);
        assert_eq!(taken(100.0, 1000), 0);
    }

    #[test]
    fn each_has_its_own_pace_and_whoever_rests_makes_room() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut paces = Paces::new((1, 3), 2);
        let mut taken = |name: &str, now| (0..10).filter(|_| paces.take(name, now)).count();
        assert_eq!(taken("one", start), 3);
        assert_eq!(taken("two", start), 3);
        // There is no room for a third as long as the others have not rested.
        assert_eq!(taken("three", after(2)), 0);
        assert_eq!(taken("one", after(2)), 2);
        assert_eq!(taken("three", after(3)), 3);
        assert_eq!(taken("one", after(3)), 1);
        assert_eq!(taken("two", after(3)), 0);
    }
}
