//! The lines of one container that were shown, from one opening of its log to the next, and from one run to the next.
//!
//! A log is opened again when its connection breaks, and by the name of the container, not of a run. So a node that has
//! restarted the container already gives the log of the next run, and the API tells of that run later. Its lines were then
//! shown; when its turn comes they are not shown again. Which log it was is told by its first line: two logs do not
//! begin with the same words in the same nanosecond.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use k8s_openapi::jiff::Timestamp;

use super::{Seam, Tail, seam::Line};

/// How many logs are remembered: the API may be several restarts behind the node.
const REMEMBERED: usize = 4;

/// Tells which lines of a container's logs were shown, or are in the archive.
#[derive(Clone, Debug)]
pub struct Succession {
    /// What is known of the run: records of the archive and lines that were shown.
    tail: Tail,
    seam: Seam,
    /// How the log begins that is open, or was.
    begins: Option<Mark>,
    /// The logs that were open before the run's turn came.
    before: VecDeque<(Mark, Tail)>,
    /// Whether the log that is open is one of them.
    is_known: bool,
}

/// How a log begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Mark {
    time: Timestamp,
    text: u64,
}

impl Default for Succession {
    fn default() -> Self {
        Self::new(Tail::default())
    }
}

impl Succession {
    /// After these records of a run.
    pub fn new(tail: Tail) -> Self {
        Self {
            seam: Seam::new(&tail),
            tail,
            begins: None,
            before: VecDeque::new(),
            is_known: false,
        }
    }

    /// Whether nothing is known of the container yet.
    pub fn is_empty(&self) -> bool {
        self.begins.is_none() && self.before.is_empty() && self.newest().is_none()
    }

    /// The time from which on the log of the run is needed; none: from its beginning.
    pub fn since(&self) -> Option<Timestamp> {
        self.tail.since()
    }

    /// The time of the newest record or line of the run.
    pub fn newest(&self) -> Option<Timestamp> {
        self.tail.newest()
    }

    /// The log of the run is opened, for the first time or again.
    pub fn open(&mut self) {
        self.seam = Seam::new(&self.tail);
        self.is_known = false;
    }

    /// What is known of the run is in these records instead: the archive has got more.
    pub fn archived(&mut self, tail: Tail) {
        self.tail = tail;
    }

    /// The next run of the container has its turn.
    #[must_use]
    pub fn next_run(mut self) -> Self {
        self.before
            .extend(self.begins.map(|mark| (mark, self.tail)));
        while self.before.len() > REMEMBERED {
            self.before.pop_front();
        }
        Self {
            before: self.before,
            ..Self::default()
        }
    }

    /// What the next line is.
    pub fn take(&mut self, time: Timestamp, text: &str) -> Line {
        let here = Mark::of(time, text);
        if self.begins.is_none()
            && let Some(place) = self.before.iter().position(|(mark, _)| *mark == here)
            && let Some((_, tail)) = self.before.remove(place)
        {
            self.seam = Seam::new(&tail);
            self.tail = tail;
            self.is_known = true;
        }
        let line = self.seam.take(time, text);
        // Nothing joins it to what was known: it may be the log of another run.
        if self.begins.is_none() || line == Line::Apart {
            self.begins = Some(here);
        }
        line
    }

    /// Whether what is known of the log that is open was shown as lines of an earlier run.
    pub fn is_of_run_before(&self) -> bool {
        self.is_known
    }

    /// What the rest of the last line is, where it is read in pieces.
    pub fn rest(&self) -> Line {
        self.seam.rest()
    }

    /// Takes every line from here on for a new one, although there may be a gap.
    pub fn accept(&mut self) {
        self.seam.accept();
    }

    /// A line was shown.
    pub fn shown(&mut self, time: Timestamp, text: &str, continues: bool) {
        self.tail.push(time, text, continues);
    }
}

impl Mark {
    fn of(time: Timestamp, text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self {
            time,
            text: hasher.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_428_907_000 + milliseconds).unwrap()
    }

    fn line(time: i64) -> String {
        format!("line of {time}")
    }

    /// Reads a log as a follower does; gives the times of the lines that it shows.
    fn read(succession: &mut Succession, log: impl IntoIterator<Item = i64>) -> Vec<i64> {
        succession.open();
        let mut shown = Vec::new();
        for time in log {
            match succession.take(at(time), &line(time)) {
                Line::Archived => continue,
                Line::New => {}
                Line::Apart => succession.accept(),
            }
            succession.shown(at(time), &line(time), false);
            shown.push(time);
        }
        shown
    }

    fn times(range: Range<i64>) -> Vec<i64> {
        range.collect()
    }

    #[test]
    fn a_log_that_is_opened_again_goes_on_where_it_was() {
        let mut followed = Succession::default();
        assert_eq!(read(&mut followed, 0..100), times(0..100));
        assert_eq!(read(&mut followed, 0..150), times(100..150));
        // From the second of the oldest line that is remembered.
        assert_eq!(read(&mut followed, 50..200), times(150..200));
    }

    #[test]
    fn a_run_whose_log_came_as_that_of_the_one_before_it_is_shown_once() {
        let mut followed = Succession::default();
        read(&mut followed, 0..100);
        // The container was restarted, and the API does not tell of it.
        assert_eq!(read(&mut followed, 2_000..2_700), times(2_000..2_700));
        assert_eq!(read(&mut followed, 2_600..2_800), times(2_700..2_800));
        let mut next = followed.next_run();
        assert_eq!(read(&mut next, 2_000..3_000), times(2_800..3_000));
        let mut next = next.next_run();
        assert_eq!(read(&mut next, 4_000..4_010), times(4_000..4_010));
    }

    #[test]
    fn a_run_that_is_followed_from_its_first_line_on_under_the_name_of_another_is_shown_once() {
        let mut followed = Succession::default();
        assert_eq!(read(&mut followed, 2_000..2_700), times(2_000..2_700));
        let mut next = followed.next_run();
        assert_eq!(read(&mut next, 2_000..2_710), times(2_700..2_710));
    }

    /// Whatever a clock does between two runs.
    #[test]
    fn no_line_of_another_log_is_taken_for_one_that_was_shown() {
        let mut followed = Succession::default();
        read(&mut followed, 1_000..2_000);
        let mut next = followed.next_run();
        assert_eq!(read(&mut next, 500..1_500), times(500..1_500));
        let mut next = next.next_run();
        assert_eq!(read(&mut next, 0..10), times(0..10));
    }

    #[test]
    fn runs_that_print_nothing_stand_between_others() {
        let mut followed = Succession::default();
        read(&mut followed, 0..10);
        // The run after the next one.
        assert_eq!(read(&mut followed, 20..30), times(20..30));
        let mut next = followed.next_run();
        assert_eq!(read(&mut next, []), times(0..0));
        let mut next = next.next_run();
        assert_eq!(read(&mut next, 15..16), times(15..16));
        assert_eq!(read(&mut next.next_run(), 20..40), times(30..40));
    }

    proptest! {
        /// Runs that are told late, again and again, with connections that break at any line.
        #[test]
        fn every_line_is_shown_once(runs in proptest::collection::vec((1_i64..400, any::<bool>(), any::<prop::sample::Index>()), 1..6)) {
            let mut followed = Succession::default();
            let mut shown = Vec::new();
            let mut all = Vec::new();
            for (number, (lines, is_told_late, cut)) in runs.iter().enumerate() {
                let begin = i64::try_from(number).unwrap() * 100_000;
                let log = begin..begin + lines;
                all.extend(log.clone());
                if *is_told_late {
                    // It is read as the log of the run before it, up to where the API tells.
                    let cut = begin + i64::try_from(cut.index(usize::try_from(*lines).unwrap())).unwrap();
                    shown.extend(read(&mut followed, begin..cut));
                }
                followed = followed.next_run();
                let cut = begin + i64::try_from(cut.index(usize::try_from(*lines).unwrap())).unwrap();
                shown.extend(read(&mut followed, begin..cut));
                shown.extend(read(&mut followed, log));
            }
            prop_assert_eq!(shown, all);
        }
    }
}
