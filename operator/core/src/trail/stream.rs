//! Follows the audit events of one container, as one sink has them, from the first to the last.

use std::{cmp::Ordering, collections::VecDeque};

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{
    archive::{Completeness, Folder, Top},
    audit::{Fingerprint, Link, Said},
};

use crate::execution::line::InvalidRecord;

use super::{
    Entry, Findings,
    entry::micros,
    finding::{Finding, Spot, shown},
};

/// Gaps that are remembered, in case that what is missing stands elsewhere.
const GAPS: usize = 1_000;

/// A stream as far as it was followed.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    last: Option<Last>,
    gaps: VecDeque<Gap>,
    /// The last event, if its place is not made of what it says: perhaps it was put before the one that has this place.
    doubtful: Option<Doubt>,
    /// The run that is read.
    run: Option<Run>,
    /// Whether events before the first are not asked for, or may have expired.
    is_later_part: bool,
    /// The first event, where others were before it that are not read.
    cut: Option<u64>,
    findings: Findings,
}

#[derive(Clone, Debug)]
struct Run {
    /// Namespace, pod and container.
    origin: [String; 3],
    restart: u32,
    /// The last event that its completeness record speaks of.
    recorded: Option<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    link: Link,
    time: Timestamp,
}

/// Numbers that were not there when their turn was.
#[derive(Clone, Debug)]
struct Gap {
    first: u64,
    last: u64,
    /// The place before the first, and when that event was written; none where it is not known.
    before: Option<Last>,
    after: Seen,
}

/// An event whose place could not be checked when it was read.
#[derive(Clone, Debug)]
struct Seen {
    spot: Spot,
    link: Link,
    fault: Option<String>,
    text: Fingerprint,
}

#[derive(Clone, Debug)]
struct Doubt {
    before: Link,
    spot: Spot,
}

impl Seen {
    fn of(entry: &Entry<'_>, link: Link) -> Self {
        Self {
            spot: spot(entry),
            link,
            // An agent's own are the same when they are shown.
            fault: entry.fault.as_deref().map(shown),
            text: entry.fingerprint(),
        }
    }

    /// Whether its place follows this one.
    fn follows(&self, before: Link) -> bool {
        let said = Said {
            record_id: &self.spot.id,
            written: micros(self.spot.time),
            fault: self.fault.as_deref(),
            text: self.text,
        };
        before.next(&said) == self.link
    }

    fn last(&self) -> Last {
        Last {
            link: self.link,
            time: self.spot.time,
        }
    }
}

fn spot(entry: &Entry<'_>) -> Spot {
    Spot {
        sequence: entry.link.map_or(0, |link| link.sequence),
        id: shown(&entry.id),
        time: entry.time,
    }
}

impl Stream {
    /// A stream of which the beginning is not read.
    pub fn later_part() -> Self {
        Self {
            is_later_part: true,
            ..Self::default()
        }
    }

    /// The event that stands next; whether it is bound to the one before it, so that its time can be believed.
    pub fn entry(&mut self, entry: &Entry<'_>) -> bool {
        let is_elsewhere = |run: &Run| run.origin != entry.origin || run.restart != entry.restart;
        if self.run.as_ref().is_some_and(is_elsewhere) {
            self.findings.add(Finding::Elsewhere(spot(entry)));
        }
        let is_bound = self.place(entry);
        self.meet();
        is_bound
    }

    /// The place of the last event; none: it is not read.
    fn found(&self) -> Option<Link> {
        match self.last {
            Some(last) => Some(last.link),
            None => (!self.is_later_part).then(Link::default),
        }
    }

    /// Compares the last event with the one that the completeness record speaks of, where they have the same number.
    fn meet(&mut self) {
        let recorded = self.run.as_ref().and_then(|run| run.recorded);
        if let Some(recorded) = recorded
            && let Some(found) = self.found()
            && recorded.sequence == found.sequence
            && recorded != found
        {
            self.contradict(found.sequence);
        }
    }

    fn contradict(&mut self, sequence: u64) {
        self.findings.add(Finding::Contradiction { sequence });
        if let Some(run) = &mut self.run {
            run.recorded = None;
        }
    }

    fn place(&mut self, entry: &Entry<'_>) -> bool {
        let Some(link) = entry.link else {
            self.findings.add(Finding::Unnumbered(spot(entry)));
            return false;
        };
        let seen = Seen::of(entry, link);
        let Some(last) = self.last else {
            return self.first(seen);
        };
        let sequence = link.sequence;
        let expected = last.link.sequence.saturating_add(1);
        match sequence.cmp(&expected) {
            Ordering::Equal => return self.next(&seen, last),
            Ordering::Less => self.earlier(seen, last),
            Ordering::Greater => {
                self.doubtful = None;
                let next = seen.last();
                self.gap(Gap {
                    first: expected,
                    last: sequence - 1,
                    before: Some(last),
                    after: seen,
                });
                self.last = Some(next);
            }
        }
        false
    }

    fn first(&mut self, seen: Seen) -> bool {
        self.last = Some(seen.last());
        if seen.link.sequence == 1 {
            let is_bound = seen.follows(Link::default());
            if !is_bound {
                self.findings.add(Finding::Changed(seen.spot));
            }
            return is_bound;
        }
        if self.is_later_part {
            self.cut = Some(seen.link.sequence);
        } else {
            self.gap(Gap {
                first: 1,
                last: seen.link.sequence - 1,
                before: None,
                after: seen,
            });
        }
        false
    }

    fn next(&mut self, seen: &Seen, last: Last) -> bool {
        self.doubtful = None;
        let is_bound = seen.follows(last.link);
        if !is_bound {
            let spot = seen.spot.clone();
            self.findings.add(Finding::Changed(spot.clone()));
            self.doubtful = Some(Doubt {
                before: last.link,
                spot,
            });
        }
        self.last = Some(seen.last());
        is_bound
    }

    /// An event with a number that was passed before.
    fn earlier(&mut self, seen: Seen, last: Last) {
        let sequence = seen.link.sequence;
        if let Some(doubt) = &self.doubtful
            && doubt.spot.sequence == sequence
            && seen.follows(doubt.before)
        {
            let changed = Finding::Changed(doubt.spot.clone());
            let inserted = Finding::Inserted(doubt.spot.clone());
            self.findings.replace(&changed, inserted);
            self.doubtful = None;
            if last.link.sequence == sequence {
                self.last = Some(seen.last());
            }
            return;
        }
        let is_in = |gap: &Gap| (gap.first..=gap.last).contains(&sequence);
        if let Some(index) = self.gaps.iter().position(is_in)
            && let Some(gap) = self.gaps.remove(index)
        {
            return self.fill(gap, seen);
        }
        if sequence == 1 && seen.follows(Link::default()) {
            self.findings.add(Finding::Anew(seen.spot.clone()));
            self.doubtful = None;
            self.last = Some(seen.last());
            return;
        }
        self.findings.add(Finding::Inserted(seen.spot));
    }

    /// What was missing stands here.
    fn fill(&mut self, gap: Gap, seen: Seen) {
        let sequence = seen.link.sequence;
        self.findings.add(Finding::OutOfOrder(seen.spot.clone()));
        let place = seen.last();
        if sequence > gap.first {
            self.gap(Gap {
                last: sequence - 1,
                after: seen,
                ..gap
            });
        } else {
            let before = gap.before.map(|before| before.link);
            let before = before.or_else(|| (sequence == 1).then(Link::default));
            if before.is_some_and(|before| !seen.follows(before)) {
                self.findings.add(Finding::Changed(seen.spot));
            }
        }
        if sequence < gap.last {
            self.gap(Gap {
                first: sequence + 1,
                before: Some(place),
                ..gap
            });
        } else if !gap.after.follows(place.link) {
            self.findings.add(Finding::Changed(gap.after.spot));
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.gaps.push_back(gap);
        if self.gaps.len() > GAPS
            && let Some(oldest) = self.gaps.pop_front()
        {
            self.findings.add(oldest.missing());
        }
    }

    /// A record is there that is none of audit events.
    pub fn refused(&mut self, time: Timestamp, reason: InvalidRecord) {
        self.findings.add(Finding::Refused { time, reason });
    }

    /// A run begins, whose folder this is.
    pub fn begin(&mut self, folder: &Folder, restart: u32, record: Option<&Completeness>) {
        let namespace = match &folder.top {
            Top::Audit(name)
            | Top::Application(name)
            | Top::Execution(name)
            | Top::Unidentified(name) => name,
        };
        self.run = Some(Run {
            origin: [namespace, &folder.pod, &folder.container].map(Clone::clone),
            restart,
            recorded: record.map(|record| record.audit.unwrap_or_default()),
        });
        self.meet();
    }

    /// The run was read to its end; `is_whole` where its completeness record speaks of everything.
    pub fn end(&mut self, is_whole: bool) {
        let recorded = self.run.as_ref().and_then(|run| run.recorded);
        let Some((link, found)) = recorded.zip(self.found()) else {
            return;
        };
        let last = self.last;
        match found.sequence.cmp(&link.sequence) {
            Ordering::Less => {
                self.findings.add(Finding::Missing {
                    numbers: (found.sequence + 1, link.sequence),
                    between: (last.map(|last| last.time), None),
                });
                // What follows is judged by what there was.
                let time = last.map_or(Timestamp::MIN, |last| last.time);
                self.last = Some(Last { link, time });
            }
            Ordering::Greater if is_whole => self.contradict(link.sequence),
            // A run that goes on has another record later.
            Ordering::Greater | Ordering::Equal => {}
        }
    }

    /// The number of the first event that was read, if others were before it and the stream was not to be followed from its beginning.
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// Everything that is wrong with it.
    pub fn finish(mut self) -> Findings {
        for gap in std::mem::take(&mut self.gaps) {
            self.findings.add(gap.missing());
        }
        self.findings
    }
}

impl Gap {
    fn missing(&self) -> Finding {
        Finding::Missing {
            numbers: (self.first, self.last),
            between: (
                self.before.map(|before| before.time),
                Some(self.after.spot.time),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::entry::tests::{line, lines},
        *,
    };
    use crate::execution::proof::tests::record;

    /// Where the records of these tests stand.
    fn folder() -> Folder {
        Folder::parse("audit/platform/tracker-1_u-1/event-tracker/").unwrap()
    }

    fn record_of(last: Link) -> Completeness {
        Completeness {
            audit: Some(last),
            ..record(&[])
        }
    }

    fn follow(lines: &[String]) -> Findings {
        let mut stream = Stream::default();
        for line in lines {
            stream.entry(&Entry::read(line.as_bytes()).unwrap());
        }
        stream.finish()
    }

    fn told(lines: &[String]) -> Vec<String> {
        follow(lines)
            .told()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_stream_that_nobody_has_touched_is_intact() {
        assert_eq!(told(&lines(50)), Vec::<String>::new());
        assert_eq!(told(&[]), Vec::<String>::new());
    }

    #[test]
    fn what_was_removed_is_named() {
        let mut removed = lines(9);
        removed.remove(3);
        assert_eq!(
            told(&removed),
            ["event 4 is missing, between 2026-11-30T09:12:03.5Z and 2026-11-30T09:12:05.5Z"]
        );
        removed.drain(5..7);
        removed.remove(0);
        assert_eq!(follow(&removed).missing, 4);
        assert_eq!(
            told(&removed)[0],
            "event 1 is missing, before 2026-11-30T09:12:02.5Z"
        );
    }

    #[test]
    fn what_was_changed_is_named_and_nothing_else_is() {
        for (from, to) in [
            ("ada", "eve"),
            ("f00d-400", "f00d-401"),
            ("\"e-4\"", "\"e-5\""),
            (
                "\"time\":\"2026-11-30T09:12:04.5Z\"",
                "\"time\":\"2099-11-30T09:12:04.5Z\"",
            ),
            ("\"chain\"", "\"audit_fault\":\"missing actor\",\"chain\""),
        ] {
            let mut changed = lines(9);
            changed[3] = changed[3].replace(from, to);
            let told = told(&changed);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].starts_with("changed: event 4, record f00d-40"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn only_a_time_that_is_bound_is_believed() {
        let mut lines = lines(4);
        lines[2] = lines[2].replace("2026-11-30T09:12:03.5Z", "2099-11-30T09:12:03.5Z");
        lines.remove(0);
        let mut stream = Stream::default();
        let bound = lines
            .iter()
            .map(|line| stream.entry(&Entry::read(line.as_bytes()).unwrap()));
        assert_eq!(bound.collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn what_was_inserted_is_named_and_nothing_else_is() {
        let forged = |sequence: u64| {
            let (record, place) = line(77, Link::default());
            record.replace(
                &format!("\"sequence\":{}", place.sequence),
                &format!("\"sequence\":{sequence}"),
            )
        };
        for (at, sequence) in [(4, 5), (4, 4), (4, 2), (5, 5)] {
            let mut inserted = lines(9);
            inserted.insert(at, forged(sequence));
            let told = told(&inserted);
            let expected = format!("inserted: event {sequence}, record f00d-7700");
            assert!(
                told.len() == 1 && told[0].starts_with(&expected),
                "{told:?}"
            );
        }
        let mut twice = lines(9);
        twice.insert(4, twice[3].clone());
        assert!(told(&twice)[0].starts_with("inserted: event 4, record f00d-400"));
        let mut unnumbered = lines(3);
        unnumbered.insert(1, unnumbered[1].replace("sequence", "number"));
        assert!(told(&unnumbered)[0].starts_with("without a place in the chain"));
        assert_eq!(follow(&unnumbered).inserted, 1);
    }

    #[test]
    fn what_stands_elsewhere_is_named_and_is_not_missing() {
        let mut swapped = lines(9);
        swapped.swap(3, 4);
        let findings = follow(&swapped);
        assert_eq!(
            (findings.moved, findings.missing, findings.changed),
            (1, 0, 0)
        );
        assert!(
            findings.told()[0]
                .to_string()
                .starts_with("out of order: event 4, ")
        );
        let mut moved = lines(9);
        let event = moved.remove(1);
        moved.push(event);
        let findings = follow(&moved);
        assert_eq!((findings.moved, findings.told().len()), (1, 1));
        let mut reversed = lines(9);
        reversed.reverse();
        let findings = follow(&reversed);
        assert_eq!((findings.moved, findings.missing), (8, 0));
        let mut changed = lines(9);
        changed.swap(3, 4);
        changed[4] = changed[4].replace("ada", "eve");
        let findings = follow(&changed);
        assert_eq!((findings.moved, findings.changed), (1, 1));
    }

    #[test]
    fn an_id_that_somebody_has_chosen_forges_no_line() {
        let mut inserted = lines(2);
        let forged = inserted[1].replace("f00d-200", r"x\ncomplete: 9 events, chain intact");
        inserted.push(forged);
        let told = told(&inserted);
        assert!(
            told.len() == 1
                && told[0].contains("x\u{fffd}complete")
                && told[0].lines().count() == 1,
            "{told:?}"
        );
    }

    #[test]
    fn a_stream_that_is_read_from_its_middle_needs_no_beginning() {
        let mut stream = Stream::later_part();
        for line in &lines(9)[4..] {
            stream.entry(&Entry::read(line.as_bytes()).unwrap());
        }
        assert_eq!(stream.cut(), Some(5));
        assert!(stream.finish().is_empty());
        let mut whole = Stream::later_part();
        whole.entry(&Entry::read(lines(1)[0].as_bytes()).unwrap());
        assert_eq!(whole.cut(), None);
    }

    #[test]
    fn numbers_that_begin_anew_are_told() {
        let mut anew = lines(4);
        anew.extend(lines(3));
        let findings = follow(&anew);
        assert_eq!((findings.broken, findings.told().len()), (1, 1));
    }

    #[test]
    fn a_completeness_record_shows_that_the_last_events_are_gone() {
        let all = lines(9);
        let last = Entry::read(all[8].as_bytes()).unwrap().link.unwrap();
        let follow = |kept: &[String], recorded: Link, is_whole: bool| {
            let mut stream = Stream::default();
            stream.begin(&folder(), 0, Some(&record_of(recorded)));
            for line in kept {
                stream.entry(&Entry::read(line.as_bytes()).unwrap());
            }
            stream.end(is_whole);
            let told = stream.finish();
            told.told()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert!(follow(&all, last, true).is_empty());
        assert_eq!(
            follow(&all[..7], last, true),
            ["events 8 to 9 are missing, after 2026-11-30T09:12:07.5Z"]
        );
        assert_eq!(follow(&[], last, true), ["events 1 to 9 are missing"]);
        let contradicted = |number| {
            [format!(
                "event {number} is not the one that the completeness record speaks of"
            )]
        };
        let other = Link::read(9, &"0".repeat(64)).unwrap();
        assert_eq!(follow(&all, other, true), contradicted(9));
        // One that could not be replaced says less than there is, and must say it of what is there.
        let earlier = Entry::read(all[6].as_bytes()).unwrap().link.unwrap();
        assert!(follow(&all, earlier, false).is_empty());
        assert_eq!(follow(&all, earlier, true), contradicted(7));
        let other = Link::read(7, &"0".repeat(64)).unwrap();
        assert_eq!(follow(&all, other, false), contradicted(7));
    }

    #[test]
    fn the_record_of_a_run_without_events_speaks_of_the_last_one_before_it() {
        let all = lines(3);
        let last = Entry::read(all[2].as_bytes()).unwrap().link.unwrap();
        let follow = |recorded: Link| {
            let mut stream = Stream::default();
            stream.begin(&folder(), 0, Some(&record_of(last)));
            for line in &all {
                stream.entry(&Entry::read(line.as_bytes()).unwrap());
            }
            stream.end(true);
            stream.begin(&folder(), 1, Some(&record_of(recorded)));
            stream.end(true);
            stream.finish()
        };
        assert!(follow(last).is_empty());
        let removed = Link::read(5, &"0".repeat(64)).unwrap();
        assert_eq!(follow(removed).missing, 2);
        let other = Link::read(3, &"0".repeat(64)).unwrap();
        assert_eq!(follow(other).broken, 1);
        // Of a later part, what comes before it is not there to be compared.
        let mut later = Stream::later_part();
        later.begin(&folder(), 0, Some(&record_of(other)));
        later.end(true);
        assert!(later.finish().is_empty());
        // But what is read is.
        let mut later = Stream::later_part();
        later.begin(&folder(), 0, Some(&record_of(removed)));
        later.entry(&Entry::read(all[2].as_bytes()).unwrap());
        later.end(true);
        assert_eq!(later.finish().missing, 2);
    }

    #[test]
    fn a_record_that_says_that_it_is_from_elsewhere_is_named() {
        for (from, to) in [
            ("\"pod\":\"tracker-1\"", "\"pod\":\"tracker-2\""),
            ("\"namespace\":\"platform\"", "\"namespace\":\"compute\""),
            ("\"restart\":0", "\"restart\":1"),
        ] {
            let mut moved = lines(3);
            moved[1] = moved[1].replace(from, to);
            let mut stream = Stream::default();
            stream.begin(&folder(), 0, None);
            for line in &moved {
                stream.entry(&Entry::read(line.as_bytes()).unwrap());
            }
            stream.end(false);
            let findings = stream.finish();
            assert_eq!((findings.changed, findings.told().len()), (1, 1));
            let told = findings.told()[0].to_string();
            assert!(
                told.starts_with("changed: it says that another container wrote it")
                    && told.contains("event 2"),
                "{told}"
            );
        }
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Remove(prop::sample::Index),
        Change(prop::sample::Index),
        Swap(prop::sample::Index),
        Repeat(prop::sample::Index),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            at().prop_map(Deed::Remove),
            at().prop_map(Deed::Change),
            at().prop_map(Deed::Swap),
            at().prop_map(Deed::Repeat),
        ]
    }

    proptest! {
        /// No single deed goes unseen, but for the removal of the last ones, which a completeness record shows.
        #[test]
        fn whatever_is_done_is_seen(count in 2_u64..20, deed in deed()) {
            let mut lines = lines(count);
            let length = lines.len();
            match deed {
                Deed::Remove(at) => { lines.remove(at.index(length - 1)); }
                Deed::Change(at) => { let at = at.index(length); lines[at] = lines[at].replace("ada", "adb"); }
                Deed::Swap(at) => { let at = at.index(length - 1); lines.swap(at, at + 1); }
                Deed::Repeat(at) => { let at = at.index(length); lines.insert(at, lines[at].clone()); }
            }
            prop_assert_eq!(follow(&lines).told().len(), 1);
        }

        #[test]
        fn any_order_of_any_part_is_followed_to_its_end(order in Just((0_usize..12).collect::<Vec<_>>()).prop_shuffle(), kept in 1_usize..12) {
            let lines = lines(12);
            let shuffled: Vec<String> = order[..kept].iter().map(|at| lines[*at].clone()).collect();
            let findings = follow(&shuffled);
            let highest = order[..kept].iter().max().unwrap() + 1;
            prop_assert_eq!(findings.missing, (highest - kept) as u64);
            prop_assert_eq!((findings.changed, findings.inserted), (0, 0));
        }
    }
}
