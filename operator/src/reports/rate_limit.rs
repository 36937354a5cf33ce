//! A token bucket: so many at once, and so many a second.

use std::time::Instant;

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
}
