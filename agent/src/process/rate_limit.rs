//! How many records of a container have passed for each second of its log. Knows no clock: the second is a record's own.

/// So many seconds are told apart: a record of joined lines has the time of its first line and comes a minute later at
/// most.
const SECONDS: usize = 64;

/// What has passed the rate limits of a policy, for one container.
///
/// A value, so that it can be kept with a batch and gone back to.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// One for each limit, in the policy's order; made when first needed.
    limits: Vec<[Second; SECONDS]>,
    newest: i64,
    /// The second of the record that was dropped last.
    exceeded: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// Since 1970.
    second: i64,
    records: u32,
}

impl Passed {
    /// How many records of this second have passed this limit.
    pub(super) fn records(&self, limit: usize, second: i64) -> u32 {
        self.limits
            .get(limit)
            .map(|seconds| seconds[place(second)])
            .filter(|slot| slot.second == second)
            .map_or(0, |slot| slot.records)
    }

    /// A record of this second has passed so many limits.
    pub(super) fn add(&mut self, limits: usize, second: i64) {
        self.newest = second;
        if self.limits.len() < limits {
            self.limits.resize(limits, [Second::default(); SECONDS]);
        }
        for seconds in &mut self.limits[..limits] {
            let slot = &mut seconds[place(second)];
            if slot.second != second {
                *slot = Second { second, records: 0 };
            }
            slot.records += 1;
        }
    }

    /// A record of this second has not passed.
    pub(super) fn exceed(&mut self, second: i64) {
        self.newest = second;
        self.exceeded = Some(second);
    }

    /// Whether a record was dropped within the last minute of the log.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
            .is_some_and(|second| second.abs_diff(self.newest) < 60)
    }
}

fn place(second: i64) -> usize {
    // Of a power of two the last bits are the remainder, also of what is negative.
    usize::try_from(second.cast_unsigned() % SECONDS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_and_each_limit_is_counted_by_itself() {
        let mut passed = Passed::default();
        passed.add(1, 100);
        passed.add(2, 100);
        passed.add(1, 101);
        let counted = [(0, 100), (1, 100), (0, 101), (1, 101), (0, 164)]
            .map(|(limit, second)| passed.records(limit, second));
        assert_eq!(counted, [2, 1, 1, 0, 0]);
    }

    #[test]
    fn a_record_that_comes_late_counts_for_its_own_second() {
        let mut passed = Passed::default();
        for second in [100, 101, 100, 163, 100] {
            passed.add(1, second);
        }
        assert_eq!(passed.records(0, 100), 3);
        // A clock that was set back a day blocks nothing.
        passed.add(1, 100 - 86_400);
        assert_eq!(passed.records(0, 100 - 86_400), 1);
    }

    #[test]
    fn a_limit_is_exceeded_until_a_minute_of_the_log_is_without() {
        let mut passed = Passed::default();
        assert!(!passed.is_exceeded());
        passed.exceed(100);
        passed.add(1, 159);
        assert!(passed.is_exceeded());
        passed.add(1, 160);
        assert!(!passed.is_exceeded());
    }
}
