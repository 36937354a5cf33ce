//! Which part of a refused batch is sent next, until the record is found that the sink refuses. Sends nothing.

use crate::batch::Limits;

/// A record is not cut below this; a sink that refuses even that refuses the record.
const SHORTEST: usize = 1 << 10;

/// What is done about a batch that the sink did not take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It is sent again, in smaller pieces.
    Smaller,
    /// Its only record is put aside.
    Reject,
}

/// The search for a record that the sink refuses, and what the sink has taught about sizes.
#[derive(Debug, Default)]
pub struct Splitting {
    limits: Limits,
    /// Numbers of records of the next batches, the next one last; empty when nothing is suspected.
    pieces: Vec<usize>,
}

impl Splitting {
    /// What the next batch may hold.
    pub fn limits(&self) -> Limits {
        Limits {
            records: self.pieces.last().copied().unwrap_or(usize::MAX),
            ..self.limits
        }
    }

    /// A batch was delivered.
    pub fn delivered(&mut self, records: usize) {
        self.limits.content = usize::MAX;
        self.take(records);
    }

    /// A record of a batch was refused; `at` is its place, if the sink said.
    pub fn refused(&mut self, records: usize, at: Option<usize>) -> Step {
        if records <= 1 {
            self.delivered(1);
            return Step::Reject;
        }
        self.take(records);
        let (before, suspect) = match at {
            Some(at) if at < records => (at, 1),
            _ => (records / 2, records - records / 2),
        };
        let after = records - before - suspect;
        self.pieces.extend(
            [after, suspect, before]
                .into_iter()
                .filter(|piece| *piece > 0),
        );
        Step::Smaller
    }

    /// A batch of this size before compression was too large.
    pub fn too_large(&mut self, records: usize, size: usize) -> Step {
        if records > 1 {
            self.limits.bytes = (size / 2).max(1);
            return Step::Smaller;
        }
        let content = self.limits.content.min(size) / 2;
        if content < SHORTEST {
            self.delivered(1);
            return Step::Reject;
        }
        self.limits.content = content;
        Step::Smaller
    }

    /// The next records are spoken for.
    fn take(&mut self, records: usize) {
        if let Some(piece) = self.pieces.last_mut() {
            *piece = piece.saturating_sub(records);
            if *piece == 0 {
                self.pieces.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends `records` records to a sink that refuses some of them; gives those that were rejected and how often was
    /// sent.
    fn send(records: usize, poison: &[usize], tells: bool) -> (Vec<usize>, usize) {
        let mut splitting = Splitting::default();
        let (mut next, mut sent, mut rejected) = (0, 0, Vec::new());
        while next < records {
            let length = splitting.limits().records.min(records - next);
            sent += 1;
            let batch = next..next + length;
            match poison.iter().find(|bad| batch.contains(bad)) {
                None => {
                    splitting.delivered(length);
                    next += length;
                }
                Some(bad) => {
                    if splitting.refused(length, tells.then_some(bad - next)) == Step::Reject {
                        rejected.push(next);
                        next += 1;
                    }
                }
            }
        }
        (rejected, sent)
    }

    #[test]
    fn a_sink_that_names_the_record_costs_four_requests() {
        assert_eq!(send(2000, &[1234], true), (vec![1234], 4));
    }

    #[test]
    fn a_sink_that_does_not_is_searched_by_halves() {
        let (rejected, sent) = send(2000, &[1234], false);
        assert_eq!(rejected, [1234]);
        assert!(sent <= 2 * 11 + 1, "{sent} requests");
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_and_a_record_is_cut() {
        let mut splitting = Splitting::default();
        assert_eq!(splitting.too_large(10, 800_000), Step::Smaller);
        assert_eq!(splitting.limits().bytes, 400_000);
        assert_eq!(splitting.too_large(1, 100_000), Step::Smaller);
        assert_eq!(splitting.limits().content, 50_000);
        splitting.delivered(1);
        assert_eq!(splitting.limits().content, usize::MAX);
        assert_eq!(
            splitting.limits().bytes,
            400_000,
            "the sink's limit is remembered"
        );
    }

    #[test]
    fn a_record_that_cannot_be_small_enough_is_put_aside() {
        let mut splitting = Splitting::default();
        let mut steps = 0;
        while splitting.too_large(1, 1 << 20) == Step::Smaller {
            steps += 1;
            assert!(steps < 20);
        }
        assert_eq!(splitting.limits().content, usize::MAX);
    }

    proptest! {
        #[test]
        fn exactly_the_refused_records_are_rejected(
            records in 1_usize..300,
            poison in proptest::collection::btree_set(0_usize..300, 0..12),
            tells: bool,
        ) {
            let poison: Vec<_> = poison.into_iter().filter(|bad| *bad < records).collect();
            prop_assert_eq!(send(records, &poison, tells).0, poison);
        }
    }
}
