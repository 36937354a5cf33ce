//! What became of records, in numbers. Counts nothing itself.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// How many records had which fate. Every record that was written has exactly one for each sink.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Counts {
    /// Acknowledged by the sink.
    pub delivered: u64,
    /// Refused by the sink for their content.
    pub rejected: u64,
    /// Left out because the policy's filters say so, or because it no longer takes them.
    pub dropped: u64,
    /// Given up: at the end of the pod, or because too much had to be kept for a sink that takes nothing, or because
    /// a log was gone before it was read.
    pub lost: u64,
    /// Acknowledged by the policy's fallback instead of the sink, at the end of the pod.
    pub fallback: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            delivered,
            rejected,
            dropped,
            lost,
            fallback,
        } = other;
        self.delivered += delivered;
        self.rejected += rejected;
        self.dropped += dropped;
        self.lost += lost;
        self.fallback += fallback;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_added_up_by_itself() {
        let one = Counts {
            delivered: 1,
            rejected: 2,
            dropped: 3,
            lost: 4,
            fallback: 5,
        };
        let mut sum = one;
        sum += one;
        let twice = Counts {
            delivered: 2,
            rejected: 4,
            dropped: 6,
            lost: 8,
            fallback: 10,
        };
        assert_eq!(sum, twice);
    }
}
