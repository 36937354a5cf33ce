//! Joins the parts of a line, for each stream of a container by itself. Reads no file and decodes no text.

use crate::{
    cri::{Line, Stream},
    process::audit::{Audited, Fault, Verdict, is_meant},
    timestamp::Timestamp,
};

/// Most content that one record holds, in bytes; a longer line goes on in the next record.
pub const MAX_RECORD: usize = 1 << 20;

/// The same where memory is short.
pub const SHORT_RECORD: usize = 64 << 10;

/// A whole line, ready to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Time of its first part.
    pub time: Timestamp,
    /// Where it comes from.
    pub stream: Stream,
    /// The log file in which it begins: an earlier one than the one being read when a rotation cut the line.
    pub file: FileNumber,
    /// Where its first part begins in that file.
    pub offset: u64,
    /// What the container wrote.
    pub content: &'a [u8],
    /// Whether the line goes on in the next record.
    pub continues: bool,
    /// Whether it is a further part of a line that is meant as an audit event.
    pub continued: bool,
    /// What it is to an audit policy; none: nothing was asked of it.
    pub audit: Option<Audited>,
}

impl Record<'_> {
    /// Why it is no audit event, though it is meant as one.
    pub fn fault(&self) -> Option<Fault> {
        match self.audit?.verdict {
            Verdict::Faulty(fault) => Some(fault),
            Verdict::Event => None,
        }
    }
}

/// Sets the log files that one process reads apart from each other.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct FileNumber(pub u32);

/// Where a line begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Begin {
    /// In which file.
    pub file: FileNumber,
    /// Where in it.
    pub offset: u64,
}

/// Whether a record was taken by its consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Taken {
    /// It was.
    Yes,
    /// It was not: it will be offered again, and nothing after it has been consumed.
    No,
}

/// The lines that have begun and not ended.
#[derive(Debug, Default)]
pub struct Assembler {
    open: [Option<Open>; 2],
    /// Whether what comes next is a further part of a line that is meant as an audit event.
    goes_on: [bool; 2],
    is_short: bool,
}

#[derive(Debug)]
struct Open {
    time: Timestamp,
    begin: Begin,
    content: Vec<u8>,
}

impl Open {
    fn new(line: &Line<'_>, begin: Begin) -> Self {
        Self {
            time: line.time,
            begin,
            content: line.content.to_vec(),
        }
    }

    fn record(&self, stream: Stream, continues: bool, goes_on: bool) -> Record<'_> {
        Record {
            time: self.time,
            stream,
            file: self.begin.file,
            offset: self.begin.offset,
            content: &self.content,
            continues,
            continued: goes_on,
            audit: None,
        }
    }
}

impl Assembler {
    /// Whether a line goes on in the next record at [`SHORT_RECORD`] already.
    pub fn shorten(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// Whether what comes next is a further part of a line that is meant as an audit event.
    pub fn is_in_the_middle(&self) -> bool {
        self.goes_on != [false; 2]
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        let open = self.open.iter().flatten();
        open.map(|open| open.content.capacity()).sum()
    }

    fn longest(&self) -> usize {
        if self.is_short {
            SHORT_RECORD
        } else {
            MAX_RECORD
        }
    }

    /// Adds a line, and offers the record that it completes, if any.
    ///
    /// # Guarantees
    /// When `take` answers [`Taken::No`], nothing of this line has been consumed, and it is to be added again.
    pub fn push(
        &mut self,
        line: &Line<'_>,
        begin: Begin,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        let longest = self.longest();
        let slot = &mut self.open[line.stream.index()];
        let goes_on = &mut self.goes_on[line.stream.index()];
        let Some(open) = slot else {
            if line.partial {
                *slot = Some(Open::new(line, begin));
                return Taken::Yes;
            }
            let taken = take(&Record {
                time: line.time,
                stream: line.stream,
                file: begin.file,
                offset: begin.offset,
                content: line.content,
                continues: false,
                continued: *goes_on,
                audit: None,
            });
            *goes_on &= taken == Taken::No;
            return taken;
        };
        let before = open.content.len();
        if before + line.content.len() > longest {
            if take(&open.record(line.stream, true, *goes_on)) == Taken::No {
                return Taken::No;
            }
            *goes_on |= is_meant(&open.content);
            *slot = None;
            return self.push(line, begin, take);
        }
        open.content.extend_from_slice(line.content);
        if line.partial {
            return Taken::Yes;
        }
        if take(&open.record(line.stream, false, *goes_on)) == Taken::No {
            open.content.truncate(before);
            return Taken::No;
        }
        *goes_on = false;
        *slot = None;
        Taken::Yes
    }

    /// Offers the lines that have begun as they stand, because nothing more of them will come.
    pub fn flush(&mut self, take: &mut impl FnMut(&Record<'_>) -> Taken) -> Taken {
        let mut streams = Stream::ALL;
        // A line that began in an earlier file has a place in that file.
        streams.sort_by_key(|stream| {
            let open = self.open[stream.index()].as_ref();
            open.map(|open| (open.time, open.begin.offset))
        });
        for stream in streams {
            let slot = &mut self.open[stream.index()];
            if let Some(open) = slot {
                let goes_on = &mut self.goes_on[stream.index()];
                if take(&open.record(stream, false, *goes_on)) == Taken::No {
                    return Taken::No;
                }
                *goes_on = false;
                *slot = None;
            }
        }
        Taken::Yes
    }

    /// Where the line of each stream begins that has not ended.
    pub fn open(&self) -> [Option<Begin>; 2] {
        self.open
            .each_ref()
            .map(|open| open.as_ref().map(|open| open.begin))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(stream: Stream, partial: bool, content: &[u8]) -> Line<'_> {
        Line {
            time: Timestamp::default(),
            stream,
            partial,
            content,
        }
    }

    fn at(offset: u64) -> Begin {
        Begin {
            file: FileNumber(1),
            offset,
        }
    }

    /// What comes out, as stream, offset, content and whether it goes on.
    type Out = Vec<(Stream, u64, Vec<u8>, bool)>;

    fn collect(out: &mut Out) -> impl FnMut(&Record<'_>) -> Taken {
        |record| {
            out.push((
                record.stream,
                record.offset,
                record.content.to_vec(),
                record.continues,
            ));
            Taken::Yes
        }
    }

    fn full(stream: Stream, offset: u64, content: &[u8]) -> (Stream, u64, Vec<u8>, bool) {
        (stream, offset, content.to_vec(), false)
    }

    #[test]
    fn parts_are_joined_by_stream() {
        let mut assembler = Assembler::default();
        let mut out = Out::new();
        let lines = [
            line(Stream::Stdout, true, b"a"),
            line(Stream::Stderr, true, b"1"),
            line(Stream::Stdout, true, b"b"),
            line(Stream::Stderr, false, b"2"),
            line(Stream::Stdout, false, b"c"),
        ];
        for (offset, line) in (0..).zip(&lines) {
            assert_eq!(
                assembler.push(line, at(offset), &mut collect(&mut out)),
                Taken::Yes
            );
        }
        let expected = [
            full(Stream::Stderr, 1, b"12"),
            full(Stream::Stdout, 0, b"abc"),
        ];
        assert_eq!(out, expected);
        assert_eq!(assembler.open(), [None, None]);
    }

    #[test]
    fn a_refused_record_is_offered_again() {
        let mut assembler = Assembler::default();
        let (first, last) = (
            line(Stream::Stdout, true, b"a"),
            line(Stream::Stdout, false, b"b"),
        );
        assert_eq!(
            assembler.push(&first, at(7), &mut |_| Taken::No),
            Taken::Yes
        );
        assert_eq!(assembler.push(&last, at(8), &mut |_| Taken::No), Taken::No);
        assert_eq!(assembler.open(), [Some(at(7)), None]);
        let mut out = Out::new();
        assert_eq!(
            assembler.push(&last, at(8), &mut collect(&mut out)),
            Taken::Yes
        );
        assert_eq!(out, [full(Stream::Stdout, 7, b"ab")]);
    }

    #[test]
    fn a_flush_ends_what_is_open_in_order() {
        let mut assembler = Assembler::default();
        let mut out = Out::new();
        let _ = assembler.push(&line(Stream::Stderr, true, b"x"), at(1), &mut |_| Taken::No);
        let _ = assembler.push(&line(Stream::Stdout, true, b"y"), at(2), &mut |_| Taken::No);
        assert_eq!(assembler.flush(&mut collect(&mut out)), Taken::Yes);
        assert_eq!(
            out,
            [full(Stream::Stderr, 1, b"x"), full(Stream::Stdout, 2, b"y")]
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_record() {
        let mut assembler = Assembler::default();
        let mut out = Out::new();
        let half = vec![b'x'; MAX_RECORD / 2];
        let _ = assembler.push(&line(Stream::Stdout, true, &half), at(0), &mut |_| {
            Taken::No
        });
        let _ = assembler.push(
            &line(Stream::Stdout, false, &half),
            at(1),
            &mut collect(&mut out),
        );
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].2.len(), out[0].3), (MAX_RECORD, false));
    }

    #[test]
    fn a_longer_line_goes_on_in_the_next_record_and_loses_nothing() {
        let mut assembler = Assembler::default();
        let mut out = Out::new();
        let part = vec![b'x'; 1 << 14];
        for offset in 0..65 {
            let _ = assembler.push(
                &line(Stream::Stdout, offset < 64, &part),
                at(offset),
                &mut collect(&mut out),
            );
        }
        let shape: Vec<_> = out.iter().map(|one| (one.1, one.2.len(), one.3)).collect();
        assert_eq!(shape, [(0, MAX_RECORD, true), (64, 1 << 14, false)]);
    }

    #[test]
    fn further_parts_of_a_line_are_told_from_lines() {
        let mut assembler = Assembler::default();
        let mut part = br#"{"audit":1,"#.to_vec();
        part.resize(1 << 19, b'x');
        let mut shape = Vec::new();
        for (number, partial) in [true, true, true, true, false, false, true, false]
            .into_iter()
            .enumerate()
        {
            let line = line(Stream::Stdout, partial, &part);
            // Each record is refused once.
            let mut refused = false;
            let mut take = |record: &Record<'_>| {
                if !std::mem::replace(&mut refused, true) {
                    return Taken::No;
                }
                refused = false;
                shape.push((record.continued, record.continues));
                Taken::Yes
            };
            while assembler.push(&line, at(number as u64), &mut take) == Taken::No {}
        }
        let expected = [
            (false, true),
            (true, true),
            (true, false),
            (false, false),
            (false, false),
        ];
        assert_eq!(shape, expected);
        // Of any other line nobody asks.
        shape.clear();
        let mut take = |record: &Record<'_>| {
            shape.push((record.continued, record.continues));
            Taken::Yes
        };
        let other = vec![b'x'; MAX_RECORD];
        for partial in [true, false] {
            let _ = assembler.push(&line(Stream::Stdout, partial, &other), at(9), &mut take);
        }
        assert_eq!(shape, [(false, true), (false, false)]);
    }

    proptest! {
        /// Lines of both streams, cut into parts anywhere and interleaved, come out as they went in, whichever
        /// offers are refused on the way.
        #[test]
        fn what_goes_in_comes_out(
            parts in proptest::collection::vec((any::<bool>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..60),
            refusals in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut assembler = Assembler::default();
            let mut refusals = refusals.into_iter();
            let mut out: [Vec<u8>; 2] = Default::default();
            let mut expected: [Vec<u8>; 2] = Default::default();
            for (offset, (stderr, partial, content)) in (0..).zip(&parts) {
                let stream = Stream::ALL[usize::from(*stderr)];
                expected[stream.index()].extend_from_slice(content);
                if !partial {
                    expected[stream.index()].push(b'\n');
                }
                let mut take = |record: &Record<'_>| {
                    if refusals.next().unwrap_or(false) {
                        return Taken::No;
                    }
                    let text = &mut out[record.stream.index()];
                    text.extend_from_slice(record.content);
                    text.push(b'\n');
                    Taken::Yes
                };
                let line = line(stream, *partial, content);
                while assembler.push(&line, at(offset), &mut take) == Taken::No {}
            }
            let mut take = |record: &Record<'_>| {
                out[record.stream.index()].extend_from_slice(record.content);
                Taken::Yes
            };
            prop_assert_eq!(assembler.flush(&mut take), Taken::Yes);
            prop_assert_eq!(out, expected);
        }
    }
}
