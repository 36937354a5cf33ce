//! For how long the bytes of a log file wait that its sink has not acknowledged. Reads nothing.

use std::time::{Duration, Instant};

/// So many moments are remembered of a file that waits.
const MOMENTS: usize = 32;

/// Two of them that follow one another are at least this part of the whole wait apart, so that few reach far back.
const LEAST_SHARE: u32 = 16;

/// The moments at which a file was seen to grow, as far as what it grew by waits.
///
/// A byte counts from the first remembered moment at which it was there. The oldest byte that waits is always counted from the
/// moment at which it was seen, so a sink that takes nothing, and one that keeps up, is told to within the time between two
/// looks. Of a sink that catches up, what it has come to may be up to an eighth of the whole wait older; never is it younger.
#[derive(Debug, Default)]
pub(super) struct Age {
    /// When, and how large the file was; both grow, and the first size is more than what is acknowledged.
    moments: Vec<(Instant, u64)>,
}

impl Age {
    /// The file is of this size now, and acknowledged so far.
    pub(super) fn look(&mut self, now: Instant, size: u64, acknowledged: u64) {
        self.settle(acknowledged);
        let last = self.moments.last();
        if size <= last.map_or(acknowledged, |(_, seen)| *seen) {
            return;
        }
        if let (Some((first, _)), Some((last, _))) = (self.moments.first(), last) {
            let whole = now.saturating_duration_since(*first);
            let since = now.saturating_duration_since(*last);
            if since < whole / LEAST_SHARE {
                return;
            }
        }
        if self.moments.len() == MOMENTS {
            self.thin();
        }
        self.moments.push((now, size));
    }

    /// For how long the oldest byte waits that is not acknowledged.
    pub(super) fn of_oldest(&self, now: Instant, acknowledged: u64) -> Duration {
        let waiting = self.moments.iter().find(|(_, size)| *size > acknowledged);
        waiting.map_or(Duration::ZERO, |(seen, _)| {
            now.saturating_duration_since(*seen)
        })
    }

    fn settle(&mut self, acknowledged: u64) {
        let settled = self.moments.iter();
        let settled = settled.take_while(|(_, size)| *size <= acknowledged);
        let settled = settled.count();
        if settled == self.moments.len() {
            // Also its memory: of many files few wait.
            self.moments = Vec::new();
        } else {
            self.moments.drain(..settled);
        }
    }

    /// Forgets every second moment, but not the first.
    fn thin(&mut self) {
        let mut index = 0;
        self.moments.retain(|_| {
            index += 1;
            index == 1 || index % 2 == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_secs(1);
    const HOUR: u64 = 3600;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_file_that_was_silent_and_is_written_to_has_not_waited() {
        let begun = Instant::now();
        let mut age = Age::default();
        age.look(begun, 100, 0);
        age.look(begun + LOOK, 100, 100);
        for second in 2..HOUR {
            age.look(begun + seconds(second), 100, 100);
        }
        let now = begun + seconds(HOUR);
        age.look(now, 150, 100);
        assert_eq!(age.of_oldest(now, 100), Duration::ZERO);
        assert_eq!(age.of_oldest(now + seconds(3), 100), seconds(3));
        assert_eq!(age.of_oldest(now + seconds(3), 150), Duration::ZERO);
    }

    #[test]
    fn a_sink_that_acknowledges_within_a_look_is_never_far_behind() {
        let begun = Instant::now();
        let mut age = Age::default();
        for second in 0..2 * HOUR {
            let now = begun + seconds(second);
            // Everything but what was written within the last second.
            let (size, acknowledged) = ((second + 1) * 1000, second * 1000);
            age.look(now, size, acknowledged);
            assert!(age.of_oldest(now, acknowledged) <= LOOK);
        }
        assert!(age.moments.len() <= 2);
    }

    #[test]
    fn a_sink_that_takes_nothing_is_told_exactly_and_costs_little() {
        let begun = Instant::now();
        let mut age = Age::default();
        for second in 0..48 * HOUR {
            let now = begun + seconds(second);
            age.look(now, (second + 1) * 1000, 0);
            assert_eq!(age.of_oldest(now, 0), seconds(second));
            assert!(age.moments.len() <= MOMENTS);
        }
    }

    #[test]
    fn a_sink_that_catches_up_is_told_to_within_a_part_of_what_it_was_behind() {
        let begun = Instant::now();
        let mut age = Age::default();
        for second in 0..HOUR {
            age.look(begun + seconds(second), (second + 1) * 1000, 0);
        }
        let now = begun + seconds(HOUR);
        for second in 0..HOUR {
            // What was written in this second is the oldest that waits.
            let told = age.of_oldest(now, second * 1000).as_secs();
            let truth = HOUR - second;
            assert!(told <= truth, "{told} of {truth}");
            assert!(truth - told <= HOUR / 8, "{told} of {truth}");
        }
        age.look(now, HOUR * 1000, HOUR * 1000);
        assert_eq!(age.moments.capacity(), 0);
    }

    #[test]
    fn what_is_read_again_waits_again() {
        let begun = Instant::now();
        let mut age = Age::default();
        age.look(begun, 100, 100);
        // As when an object that was written down is older than what was acknowledged after it.
        age.look(begun + LOOK, 100, 50);
        assert_eq!(age.of_oldest(begun + seconds(5), 50), seconds(4));
    }
}
