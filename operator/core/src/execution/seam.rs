//! Where the archive of a run ends and the log of the running container goes on.
//!
//! The kubelet shows of a container's log the file that is being written, each line with its time to the nanosecond, which
//! is the time that the agent has archived. So a line is in the archive when a record has its time; and when the last
//! records of the archive are found in the file, everything after them is in the file too.
//!
//! # Assumptions
//! Two lines of a container rarely have the same time; those that have are counted. Filters change what a record says or
//! leave it out, and never its time. Joined lines are one record with the time of the first; the others are known by
//! what they say.

use std::{
    collections::{BTreeMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How many times of records at the end are remembered.
const ENTRIES: usize = 256;

/// How far back. The two streams of a container can be out of order by moments, and a line that is joined, or long, waits for
/// its end while others are archived; lines from before that were left out by a filter are not looked for.
const WINDOW: SignedDuration = SignedDuration::from_secs(10);

/// The last records of a run, in the order of its log.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    entries: VecDeque<Entry>,
    newest: Option<Timestamp>,
    /// Whether the next record is the rest of a line.
    continues: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    time: Timestamp,
    /// Records with this time, one after the other.
    count: u32,
    /// Digests of the lines that are joined to the first.
    joined: Vec<u64>,
}

/// What a line of the running container is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line {
    /// The archive has it.
    Archived,
    /// The archive does not have it.
    New,
    /// It comes later than everything in the archive, and nothing shows that no line was between them.
    Apart,
}

/// Tells the lines of a running container that the archive has from those that it has not.
#[derive(Clone, Debug)]
pub struct Seam {
    archived: BTreeMap<Timestamp, u32>,
    joined: BTreeMap<Timestamp, Vec<u64>>,
    expected: VecDeque<u64>,
    newest: Option<Timestamp>,
    is_found: bool,
    last: Line,
}

impl Tail {
    /// Adds the next record, or the next line that was shown.
    pub fn push(&mut self, time: Timestamp, message: &str, continues: bool) {
        // The rest of a line has no time of its own in the file.
        if std::mem::replace(&mut self.continues, continues) {
            return;
        }
        let newest = self.newest.map_or(time, |newest| newest.max(time));
        self.newest = Some(newest);
        let mut lines = message.split('\n');
        lines.next();
        let joined: Vec<u64> = lines.map(digest).collect();
        match self.entries.back_mut() {
            Some(last) if last.time == time && joined.is_empty() && last.joined.is_empty() => {
                last.count = last.count.saturating_add(1);
            }
            _ => self.entries.push_back(Entry {
                time,
                count: 1,
                joined,
            }),
        }
        let is_old = |entry: &Entry| newest.duration_since(entry.time) > WINDOW;
        while self.entries.len() > ENTRIES
            || (self.entries.len() > 1 && self.entries.front().is_some_and(is_old))
        {
            self.entries.pop_front();
        }
    }

    /// The time from which on the log of the container is needed; none: from its beginning.
    pub fn since(&self) -> Option<Timestamp> {
        self.entries.iter().map(|entry| entry.time).min()
    }

    /// The time of the newest record.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }
}

impl Seam {
    /// A seam after these records.
    pub fn new(tail: &Tail) -> Self {
        let mut archived = BTreeMap::new();
        let mut joined = BTreeMap::new();
        for entry in &tail.entries {
            *archived.entry(entry.time).or_insert(0) += entry.count;
            if !entry.joined.is_empty() {
                joined.insert(entry.time, entry.joined.clone());
            }
        }
        Self {
            is_found: archived.is_empty(),
            last: Line::New,
            newest: tail.newest,
            expected: VecDeque::new(),
            archived,
            joined,
        }
    }

    /// What the next line is, by its time and its beginning.
    pub fn take(&mut self, time: Timestamp, text: &str) -> Line {
        self.last = self.judge(time, text);
        self.last
    }

    /// What the rest of the last line is, where it is read in pieces.
    pub fn rest(&self) -> Line {
        self.last
    }

    fn judge(&mut self, time: Timestamp, text: &str) -> Line {
        if let Some(count) = self.archived.get_mut(&time) {
            *count -= 1;
            if *count == 0 {
                self.archived.remove(&time);
            }
            self.is_found = true;
            self.expected
                .extend(self.joined.remove(&time).unwrap_or_default());
            return Line::Archived;
        }
        if !self.is_found {
            return if self.newest.is_some_and(|newest| time > newest) {
                Line::Apart
            } else {
                Line::Archived
            };
        }
        if let Some(next) = self.expected.front()
            && *next == digest(text)
        {
            self.expected.pop_front();
            return Line::Archived;
        }
        Line::New
    }

    /// Takes every line from here on for a new one, although there may be a gap.
    pub fn accept(&mut self) {
        self.is_found = true;
        self.last = Line::New;
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanoseconds: i64) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(nanoseconds) + 1_800_000_000_000_000_000).unwrap()
    }

    fn tail(records: &[(i64, &str)]) -> Tail {
        let mut tail = Tail::default();
        for (time, message) in records {
            tail.push(at(*time), message, message.ends_with('…'));
        }
        tail
    }

    fn taken(records: &[(i64, &str)], lines: &[(i64, &str)]) -> Vec<Line> {
        let mut seam = Seam::new(&tail(records));
        lines
            .iter()
            .map(|(time, text)| seam.take(at(*time), text))
            .collect()
    }

    use Line::{Apart, Archived, New};

    #[test]
    fn what_comes_after_the_last_record_is_new() {
        let lines = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
        assert_eq!(taken(&lines[..2], &lines), [Archived, Archived, New, New]);
        assert_eq!(taken(&lines[..2], &lines[1..]), [Archived, New, New]);
        assert_eq!(taken(&[], &lines), [New; 4]);
        assert_eq!(taken(&lines, &lines), [Archived; 4]);
    }

    #[test]
    fn lines_with_the_same_time_are_counted() {
        let lines = [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (3, "c")];
        assert_eq!(
            taken(&lines[..3], &lines),
            [Archived, Archived, Archived, New, New]
        );
    }

    /// Each stream takes its time before both write into one file.
    #[test]
    fn a_line_that_is_written_after_a_later_one_is_not_lost() {
        let lines = [(1, "a"), (5, "err"), (4, "out"), (6, "b")];
        assert_eq!(taken(&lines[..2], &lines), [Archived, Archived, New, New]);
        assert_eq!(
            taken(&lines[..3], &lines),
            [Archived, Archived, Archived, New]
        );
    }

    #[test]
    fn what_filters_have_changed_is_known_by_its_time() {
        let lines = [(1, "a"), (2, "password=x"), (3, "c")];
        assert_eq!(
            taken(&[(1, "a"), (2, "password=***")], &lines),
            [Archived, Archived, New]
        );
    }

    #[test]
    fn joined_lines_are_known_by_what_they_say() {
        let lines = [
            (1, "Error"),
            (2, "  at a"),
            (3, "err"),
            (4, "  at b"),
            (5, "c"),
        ];
        assert_eq!(
            taken(&[(1, "Error\n  at a\n  at b"), (3, "err")], &lines),
            [Archived, Archived, Archived, Archived, New]
        );
        assert_eq!(
            taken(&[(1, "Error\n  at a")], &lines),
            [Archived, Archived, New, New, New]
        );
    }

    #[test]
    fn the_rest_of_a_long_line_is_not_looked_for() {
        let mut tail = Tail::default();
        tail.push(at(1), "a", false);
        tail.push(at(2), "long", true);
        tail.push(at(3), "rest", false);
        let mut seam = Seam::new(&tail);
        assert_eq!(seam.take(at(2), "longrest"), Archived);
        assert_eq!(seam.take(at(4), "b"), New);
    }

    #[test]
    fn a_file_that_begins_after_the_last_record_is_apart_from_it() {
        assert_eq!(taken(&[(1, "a")], &[(2, "b")]), [Apart]);
        let mut seam = Seam::new(&tail(&[(1, "a")]));
        assert_eq!(seam.take(at(2), "b"), Apart);
        seam.accept();
        assert_eq!(seam.take(at(2), "b"), New);
    }

    #[test]
    fn what_was_left_out_long_before_does_not_come_back() {
        let second = 1_000_000_000;
        let records = [(0, "a"), (20 * second, "b")];
        let tail = tail(&records);
        assert_eq!(tail.since(), Some(at(20 * second)));
        let lines = [
            (5 * second, "left out"),
            (20 * second, "b"),
            (21 * second, "c"),
        ];
        assert_eq!(taken(&records, &lines), [Archived, Archived, New]);
    }

    proptest! {
        /// Any log, cut anywhere, read from any line that the archive has: each line once.
        #[test]
        fn nothing_is_missing_and_nothing_twice(steps in proptest::collection::vec(0_i64..3, 1..600), cut in any::<proptest::sample::Index>(),
                                                from in any::<proptest::sample::Index>()) {
            let mut time = 0;
            let lines: Vec<(i64, &str)> = steps.iter().map(|step| { time += step; (time, "x") }).collect();
            let cut = cut.index(lines.len()) + 1;
            let tail = tail(&lines[..cut]);
            // As the log is asked for: from the second of the oldest record that is remembered.
            let since = tail.since().unwrap();
            let first = lines[..cut].iter().position(|(time, _)| at(*time) == since).unwrap();
            let from = from.index(first + 1);
            let mut seam = Seam::new(&tail);
            let mut new = 0;
            for (time, text) in &lines[from..] {
                match seam.take(at(*time), text) {
                    New => new += 1,
                    Archived => prop_assert_eq!(new, 0),
                    Apart => prop_assert!(false),
                }
            }
            prop_assert_eq!(new, lines.len() - cut);
        }
    }
}
