//! Which part of a refused batch is sent next, until the record is found that the sink refuses, and how large batches
//! may be for it. Sends nothing.

use crate::batch::Limits;

/// A record is not cut below this; what is around it takes more room then.
const SHORTEST: usize = 64;

/// How often a record is sent again as it is, before it is cut though the sink took larger ones: for about a minute.
const DOUBTS: u32 = 8;

/// A record of at most this size is never cut if the sink took larger ones: no log server is so small.
const SMALL: usize = 4 << 10;

/// One part in so many of the largest size is what a size that the sink takes grows by.
const GROWTH: usize = 32;

/// After so many full batches a size is tried again that the sink did not take.
const PATIENCE: u32 = 64;

/// What is done about a batch that the sink did not take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It is sent again, in smaller pieces.
    Smaller,
    /// Its only record is put aside.
    Reject,
    /// It is sent again as it is, after a while: the sink takes records of that size.
    Wait,
}

/// The search for a record that the sink refuses, and what the sink has taught about sizes.
#[derive(Debug)]
pub struct Splitting {
    most: Limits,
    /// Bytes of a batch, before compression.
    bytes: usize,
    /// Smallest size of a batch that the sink did not take.
    too_large: Option<usize>,
    /// Largest size that it did take, and takes as far as is known.
    taken: usize,
    /// Whether the last batch was too large.
    shrinking: bool,
    /// Full batches that were taken just below the size that was not.
    patience: u32,
    /// How often the only record of a batch was too large though larger ones were not.
    doubts: u32,
    content: usize,
    /// Numbers of records of the next batches, the next one last; empty when nothing is suspected.
    pieces: Vec<usize>,
}

impl Splitting {
    /// Begins with the most that a batch may hold.
    pub fn new(most: Limits) -> Self {
        Self {
            most,
            bytes: most.bytes,
            too_large: None,
            taken: 0,
            shrinking: false,
            patience: 0,
            doubts: 0,
            content: most.content,
            pieces: Vec::new(),
        }
    }

    /// What the next batch may hold.
    pub fn limits(&self) -> Limits {
        let piece = self.pieces.last().copied().unwrap_or(usize::MAX);
        Limits {
            bytes: self.bytes,
            records: piece.min(self.most.records),
            content: self.content,
            ..self.most
        }
    }

    /// A batch of this size before compression was taken.
    pub fn delivered(&mut self, records: usize, size: usize) {
        self.done(records);
        self.taken = self.taken.max(size);
        self.shrinking = false;
        // Only a batch that would have been larger says that larger ones may be tried.
        if size < self.bytes - self.bytes / 4 || self.bytes == self.most.bytes {
            return;
        }
        let grown = (self.bytes + (self.most.bytes / GROWTH).max(1)).min(self.most.bytes);
        if self.too_large.is_none_or(|too_large| grown < too_large) {
            self.bytes = grown;
            return;
        }
        self.patience += 1;
        if self.patience >= PATIENCE {
            self.patience = 0;
            self.too_large = None;
        }
    }

    /// A record of a batch was refused; `at` is its place, if the sink said.
    pub fn refused(&mut self, records: usize, at: Option<usize>) -> Step {
        if records <= 1 {
            self.done(1);
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
    ///
    /// A record that would fit alone is never rejected: [`Step::Reject`] is for one that cannot be cut any further and
    /// is larger than everything that the sink has taken.
    pub fn too_large(&mut self, records: usize, size: usize) -> Step {
        if records > 1 {
            self.too_large = Some(self.too_large.map_or(size, |known| known.min(size)));
            self.patience = 0;
            // One step too far goes back to what was taken; what was taken may no longer be.
            let back = !self.shrinking && ((size / 2).max(1)..size).contains(&self.taken);
            self.bytes = if back { self.taken } else { (size / 2).max(1) };
            self.shrinking = true;
            self.taken = self.taken.min(size.saturating_sub(1));
            return Step::Smaller;
        }
        let fits = size <= self.taken;
        let content = self.content.min(size) / 2;
        if content < SHORTEST {
            if fits {
                return Step::Wait;
            }
            self.done(1);
            return Step::Reject;
        }
        if fits && (size <= SMALL || self.doubts < DOUBTS) {
            self.doubts += 1;
            return Step::Wait;
        }
        // It does take less by now.
        self.taken = self.taken.min(size.saturating_sub(1));
        self.content = content;
        Step::Smaller
    }

    /// The next batch does not begin where the search has come to.
    pub fn forget_search(&mut self) {
        self.pieces.clear();
        self.content = self.most.content;
        self.doubts = 0;
    }

    /// The next records are dealt with.
    fn done(&mut self, records: usize) {
        self.content = self.most.content;
        self.doubts = 0;
        self.take(records);
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

    const MOST: Limits = Limits {
        bytes: 1_000_000,
        ..Limits::NONE
    };

    fn splitting() -> Splitting {
        Splitting::new(MOST)
    }

    /// Sends `records` records to a sink that refuses some of them; gives those that were rejected and how often was
    /// sent.
    fn send(records: usize, poison: &[usize], tells: bool) -> (Vec<usize>, usize) {
        let mut splitting = splitting();
        let (mut next, mut sent, mut rejected) = (0, 0, Vec::new());
        while next < records {
            let length = splitting.limits().records.min(records - next);
            sent += 1;
            let batch = next..next + length;
            match poison.iter().find(|bad| batch.contains(bad)) {
                None => {
                    splitting.delivered(length, length);
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
        let mut splitting = splitting();
        assert_eq!(splitting.too_large(10, 800_000), Step::Smaller);
        assert_eq!(splitting.limits().bytes, 400_000);
        assert_eq!(splitting.too_large(1, 100_000), Step::Smaller);
        assert_eq!(splitting.limits().content, 50_000);
        splitting.delivered(1, 50_100);
        assert_eq!(splitting.limits().content, usize::MAX);
        assert_eq!(
            splitting.limits().bytes,
            400_000,
            "the sink's limit is remembered"
        );
    }

    #[test]
    fn a_size_grows_back_below_what_was_too_large_and_beyond_it_now_and_then() {
        let mut splitting = splitting();
        let limit = 500_000;
        let mut refused = 0;
        let mut sizes = Vec::new();
        for _ in 0..1000 {
            let size = splitting.limits().bytes;
            if size > limit {
                refused += 1;
                assert_eq!(splitting.too_large(100, size), Step::Smaller);
            } else {
                sizes.push(size);
                splitting.delivered(100, size);
            }
        }
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!(mean > limit * 3 / 4, "{mean} of {limit} in the mean");
        assert!(refused < 20, "{refused} of 1000 batches were too large");
        // It was only for a while.
        for _ in 0..1000 {
            splitting.delivered(100, splitting.limits().bytes);
        }
        assert_eq!(splitting.limits().bytes, MOST.bytes);
    }

    #[test]
    fn a_batch_that_was_not_full_says_nothing_about_larger_ones() {
        let mut splitting = splitting();
        let _ = splitting.too_large(100, 800_000);
        for _ in 0..100 {
            splitting.delivered(1, 200);
        }
        assert_eq!(splitting.limits().bytes, 400_000);
    }

    #[test]
    fn a_record_that_cannot_be_small_enough_is_put_aside() {
        let mut splitting = splitting();
        let mut steps = 0;
        while splitting.too_large(1, 1 << 20) == Step::Smaller {
            steps += 1;
            assert!(steps < 20);
        }
        assert_eq!(splitting.limits().content, usize::MAX);
    }

    #[test]
    fn a_limit_that_was_lowered_is_learned() {
        let mut splitting = splitting();
        splitting.delivered(1, 800_000);
        for _ in 0..DOUBTS {
            assert_eq!(splitting.too_large(1, 500_000), Step::Wait);
        }
        assert_eq!(splitting.too_large(1, 500_000), Step::Smaller);
        assert_eq!(splitting.limits().content, 250_000);
        splitting.delivered(1, 250_100);
        // The next one does not have to be doubted again.
        assert_eq!(splitting.too_large(1, 600_000), Step::Smaller);
    }

    /// Something on the way that answers 413 to everything for a while.
    #[test]
    fn a_record_that_fits_is_never_put_aside() {
        let mut splitting = splitting();
        splitting.delivered(1000, 300_000);
        let mut records = 1000;
        while records > 1 {
            assert_eq!(splitting.too_large(records, records * 300), Step::Smaller);
            records /= 2;
        }
        for _ in 0..100 {
            let step = splitting.too_large(1, 100);
            assert_eq!(step, Step::Wait);
        }
        splitting.delivered(1, 100);
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

        /// A sink with a limit, which now and then says 413 for no reason: every record that fits arrives.
        #[test]
        fn what_fits_is_never_rejected(
            sizes in proptest::collection::vec(1_usize..3000, 1..200),
            limit in 500_usize..20_000,
            moods in proptest::collection::vec(proptest::bool::weighted(0.2), 0..400),
        ) {
            let mut splitting = splitting();
            let mut moods = moods.into_iter();
            let (mut next, mut rejected) = (0, Vec::new());
            let mut requests = 0;
            // It has taken something before, or nobody could tell it from a wrong address.
            splitting.delivered(1, limit);
            while next < sizes.len() {
                requests += 1;
                prop_assert!(requests < 5000);
                let limits = splitting.limits();
                let (mut records, mut size) = (0, 0);
                for record in &sizes[next..] {
                    // 100 bytes of it are not content and cannot be cut.
                    let record = (*record).min(limits.content.saturating_add(100));
                    if records > 0 && (records == limits.records || size + record > limits.bytes) {
                        break;
                    }
                    records += 1;
                    size += record;
                }
                if size <= limit && !moods.next().unwrap_or(false) {
                    splitting.delivered(records, size);
                    next += records;
                } else if splitting.too_large(records, size) == Step::Reject {
                    rejected.push(sizes[next]);
                    next += 1;
                }
            }
            prop_assert!(rejected.is_empty(), "{rejected:?} with a limit of {limit}");
        }
    }
}
