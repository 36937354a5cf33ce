//! Chooses a part of the records by their ids. Keeps no state: a record is chosen or not however often it is read.

use katonic_log_config::Percent;

/// How many of a hundred are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(u64);

/// What sets a record apart, as in its id: a digest for the log file in which it begins, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordId {
    /// Of the log file.
    pub file: u64,
    /// Offset in it.
    pub offset: u64,
}

impl From<Percent> for Share {
    fn from(percent: Percent) -> Self {
        Self(percent.get().into())
    }
}

impl Share {
    /// Whether the record belongs to the part that is sent.
    pub(super) fn takes(self, id: RecordId) -> bool {
        let spread = mix(id.file ^ mix(id.offset));
        // The upper half: the product cannot overflow.
        (spread >> 32) * 100 < self.0 << 32
    }
}

/// Spreads numbers evenly that differ little (the finalizer of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_was_asked_for() {
        for percent in [1_u64, 10, 50, 99, 100] {
            // As ids are: lines of equal length, one after the other.
            let taken = (0..100_000_u64)
                .filter(|line| {
                    Share(percent).takes(RecordId {
                        file: 42,
                        offset: line * 189,
                    })
                })
                .count();
            let expected = usize::try_from(percent).unwrap() * 1000;
            assert!(
                taken.abs_diff(expected) <= 400,
                "{taken} of 100,000 for {percent} %"
            );
        }
    }

    #[test]
    fn a_record_that_a_smaller_share_takes_is_taken_by_a_larger_one() {
        for offset in 0..10_000 {
            let id = RecordId { file: 7, offset };
            assert!(!Share(10).takes(id) || Share(20).takes(id));
            assert!(Share(100).takes(id));
        }
    }

    #[test]
    fn files_are_chosen_from_by_themselves() {
        let chosen = |file| {
            (0..1000)
                .filter(|offset| {
                    Share(50).takes(RecordId {
                        file,
                        offset: *offset,
                    })
                })
                .collect::<Vec<_>>()
        };
        assert_ne!(chosen(1), chosen(2));
        assert_eq!(chosen(1), chosen(1));
    }
}
