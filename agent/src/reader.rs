//! Reads one log file from a place on, record by record. Keeps no line that was taken and opens no file.

use std::time::Instant;

use crate::{
    assemble::{Assembler, Begin, FileNumber, Record, Taken},
    cri::{self, Line, Stream},
    cursor::Position,
    process::multiline::{Joiner, Joining, Multiline},
    timestamp::{TimeParser, Timestamp},
};

/// A file that can be read anywhere.
pub trait ReadAt {
    /// Reads into `buffer` from `offset`; 0 at the end.
    ///
    /// # Errors
    /// Those of the file system.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

/// Size of the buffer for reading: a longer raw line is read in pieces.
pub const BUFFER: usize = 64 << 10;

/// How a reading ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reached {
    /// A record was not taken.
    Full,
    /// Nothing more is there.
    End,
}

/// Whether more can be expected after the end of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AtEnd {
    /// A line that has begun may still be completed.
    Wait,
    /// The container has long been quiet: what it has begun is delivered, but not half a line of the runtime's.
    Idle,
    /// The file was rotated away and is complete; a line that has begun may go on in the next one.
    Rotated,
    /// What has begun is all there will be.
    Flush,
}

/// The state of reading a file.
#[derive(Debug, Default)]
pub struct Reader {
    file: FileNumber,
    offset: u64,
    /// Where reading began: up to there everything but the open lines has been taken before.
    from: Position,
    begun: Begun,
    /// Where what has not ended begins that was handed to the reader of the next file.
    handed: Places,
    times: TimeParser,
    last_time: Timestamp,
    /// Set inside a raw line that is longer than the buffer.
    inside: Option<Inside>,
    is_short: bool,
}

/// What has begun and not ended.
#[derive(Debug, Default)]
pub struct Begun {
    /// Lines of which parts are missing.
    assembler: Assembler,
    /// Records of joined lines; none before there is one.
    joiner: Option<Box<Joiner>>,
}

/// Where a stream has a record of joined lines begin, and where the line after it; for each stream.
type Places = [[Option<Begin>; 2]; 2];

impl Begun {
    fn places(&self) -> Places {
        let lines = self.assembler.open();
        let joined = self.joiner.as_ref().map(|joiner| joiner.open());
        let joined = joined.unwrap_or_default();
        [[joined[0], lines[0]], [joined[1], lines[1]]]
    }

    fn is_empty(&self) -> bool {
        self.places() == Places::default()
    }
}

/// What a raw line ends with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Newline,
    /// It goes on: it is longer than the buffer.
    Buffer,
    /// The file ends, and nobody will add anything.
    File,
}

#[derive(Clone, Copy, Debug)]
struct Inside {
    time: Timestamp,
    stream: Stream,
    partial: bool,
}

impl Reader {
    /// Reads from an acknowledged place on. A line that says no time has that of the line before, the first `time`.
    pub fn at(file: FileNumber, position: Position, time: Timestamp) -> Self {
        Self {
            file,
            offset: position.start(),
            last_time: time,
            from: position,
            ..Self::default()
        }
    }

    /// Where reading would have to begin again if everything that was taken is delivered.
    pub fn position(&self) -> Position {
        // Of a line that began in an earlier file, all that is in this one is still to be read.
        let here = |begin: Begin| {
            if begin.file == self.file {
                begin.offset
            } else {
                0
            }
        };
        let next = self.offset.max(self.from.next);
        let mut open = self.begun().map(|begin| begin.map(here));
        for stream in Stream::ALL {
            // On the way through what one stream has behind it, the other has read up to here.
            let read_to = self.offset.max(self.from.resume(stream.index()));
            let open = &mut open[stream.index()];
            *open = open.or((read_to < next).then_some(read_to));
        }
        Position { next, open }
    }

    /// Where the line of each stream begins that has not ended, here or in a later file.
    fn begun(&self) -> [Option<Begin>; 2] {
        let here = self.begun.places();
        [0, 1].map(|stream| {
            let mut places = self.handed[stream].into_iter().chain(here[stream]);
            places.find_map(|place| place)
        })
    }

    /// Gives away the lines that have begun, for [`Reader::inherit`]; they are still this file's to acknowledge until
    /// [`Reader::settle`].
    pub fn hand_over(&mut self) -> Begun {
        self.handed = self.begun.places();
        std::mem::take(&mut self.begun)
    }

    /// Goes on with the lines that began in the file before.
    pub fn inherit(&mut self, begun: Begun) {
        self.begun = begun;
    }

    /// Whether nothing was read, so that the lines of the file before can go on here.
    pub fn is_at_the_beginning(&self) -> bool {
        self.offset == 0 && !self.has_begun()
    }

    /// Whether it has nothing but a place: nothing has begun, nor is it in the middle of a line.
    pub fn is_at_rest(&self) -> bool {
        let begun = &self.begun;
        !self.has_begun()
            && !self.has_handed_over()
            && self.inside.is_none()
            && begun.joiner.is_none()
            && !begun.assembler.is_in_the_middle()
    }

    /// Forgets the lines that were handed over and that no later file has open any more; says whether there were any.
    pub fn settle(&mut self, is_open: impl Fn(Begin) -> bool) -> bool {
        let mut settled = false;
        for handed in self.handed.as_flattened_mut() {
            if handed.is_some_and(|begin| !is_open(begin)) {
                *handed = None;
                settled = true;
            }
        }
        settled
    }

    /// Whether lines that were handed over have not been settled.
    pub fn has_handed_over(&self) -> bool {
        self.handed != Places::default()
    }

    /// The files in which the lines begin that have not ended here.
    pub fn files(&self) -> impl Iterator<Item = FileNumber> {
        let places = self.begun.places();
        places
            .into_iter()
            .flatten()
            .flatten()
            .map(|begin| begin.file)
    }

    /// Whether the line that begins there has not ended here.
    pub fn is_open(&self, begin: Begin) -> bool {
        self.begun.places().as_flattened().contains(&Some(begin))
    }

    /// When a record of joined lines has waited for long enough.
    pub fn due(&self, multiline: &Multiline) -> Option<Instant> {
        self.begun.joiner.as_ref()?.due(multiline)
    }

    /// First byte that has not been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether lines that have begun are sent in shorter pieces, because memory is short.
    pub fn shorten(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// Bytes of lines and records that have begun and not ended.
    pub fn held(&self) -> usize {
        let joined = self.begun.joiner.as_ref().map_or(0, |joiner| joiner.held());
        self.begun.assembler.held() + joined
    }

    /// Whether a line has begun that has not ended.
    pub fn has_open_line(&self) -> bool {
        self.begun.assembler.open() != [None, None]
    }

    /// Whether a line or a record of several lines has begun that has not ended.
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Offers records until one is not taken or the file ends. Joined lines end by the time, not by the file, unless
    /// nothing more will come.
    ///
    /// # Errors
    /// Those of the file system; reading can go on where it stopped.
    pub fn read(
        &mut self,
        file: &impl ReadAt,
        at_end: AtEnd,
        joining: Option<Joining<'_>>,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&Record<'_>) -> Taken,
    ) -> std::io::Result<Reached> {
        let Some(joining) = joining else {
            return self.read_lines(file, at_end, buffer, take);
        };
        let mut joiner = self.begun.joiner.take().unwrap_or_default();
        joiner.shorten(self.is_short);
        let join = |line: &Record<'_>| joiner.push(joining, line, &mut take);
        let mut reached = self.read_lines(file, at_end, buffer, join);
        if matches!(reached, Ok(Reached::End)) {
            let taken = match at_end {
                AtEnd::Flush => joiner.flush(&mut take),
                AtEnd::Wait | AtEnd::Idle => joiner.expire(joining, &mut take),
                AtEnd::Rotated => Taken::Yes,
            };
            if taken == Taken::No {
                reached = Ok(Reached::Full);
            }
        }
        self.begun.joiner = (!joiner.is_idle()).then_some(joiner);
        reached
    }

    fn read_lines(
        &mut self,
        file: &impl ReadAt,
        at_end: AtEnd,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&Record<'_>) -> Taken,
    ) -> std::io::Result<Reached> {
        buffer.resize(BUFFER, 0);
        self.begun.assembler.shorten(self.is_short);
        loop {
            let got = file.read_at(buffer, self.offset)?;
            let chunk = &buffer[..got];
            let mut begin = 0;
            for newline in memchr::memchr_iter(b'\n', chunk) {
                if self.line(&chunk[begin..newline], Ending::Newline, &mut take) == Taken::No {
                    return Ok(Reached::Full);
                }
                begin = newline + 1;
            }
            let ended = got < BUFFER;
            let last = ended && matches!(at_end, AtEnd::Rotated | AtEnd::Flush);
            if begin < got && (begin == 0 && !ended || last) {
                // A line too long for the buffer, or the last one of the file, which nobody will complete.
                let ending = if last { Ending::File } else { Ending::Buffer };
                if self.line(&chunk[begin..], ending, &mut take) == Taken::No {
                    return Ok(Reached::Full);
                }
            }
            if ended {
                break;
            }
        }
        if matches!(at_end, AtEnd::Idle | AtEnd::Flush)
            && self.begun.assembler.flush(&mut take) == Taken::No
        {
            return Ok(Reached::Full);
        }
        Ok(Reached::End)
    }

    /// The stream of a line that does not say it: reading may have begun again in the middle of a very long one.
    fn unnamed_stream(&self) -> Stream {
        if self.from.open[Stream::Stderr.index()] == Some(self.offset) {
            Stream::Stderr
        } else {
            Stream::Stdout
        }
    }

    /// Consumes a raw line, or a piece of one.
    fn line(
        &mut self,
        raw: &[u8],
        ending: Ending,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        let end = self.offset + raw.len() as u64 + u64::from(ending == Ending::Newline);
        let unnamed = self.unnamed_stream();
        let parsed = match self.inside {
            Some(Inside {
                time,
                stream,
                partial,
            }) => Line {
                time,
                stream,
                partial,
                content: raw,
            },
            None => cri::parse(raw, &mut self.times).unwrap_or(Line {
                // Not written by a runtime: better with the time of the line before than not at all.
                time: self.last_time,
                stream: unnamed,
                partial: false,
                content: raw,
            }),
        };
        let line = Line {
            partial: parsed.partial || ending == Ending::Buffer,
            ..parsed
        };
        let taken = if self.offset < self.from.resume(line.stream.index()) {
            Taken::Yes
        } else {
            let begin = Begin {
                file: self.file,
                offset: self.offset,
            };
            self.begun.assembler.push(&line, begin, take)
        };
        if taken == Taken::Yes {
            self.last_time = line.time;
            self.offset = end;
            self.inside = (ending != Ending::Newline).then_some(Inside {
                time: line.time,
                stream: line.stream,
                partial: parsed.partial,
            });
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use katonic_log_config::{Multiline, MultilineRule, Pattern, Policy};
    use proptest::prelude::*;

    use super::*;
    use crate::process::Processing;

    impl ReadAt for Vec<u8> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            let rest = &self[self.len().min(usize::try_from(offset).unwrap())..];
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        }
    }

    fn read_all(reader: &mut Reader, file: &Vec<u8>, at_end: AtEnd) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        let reached = reader.read(file, at_end, None, &mut Vec::new(), |record| {
            out.push((record.offset, record.content.to_vec()));
            Taken::Yes
        });
        assert_eq!(reached.unwrap(), Reached::End);
        out
    }

    fn contents(records: Vec<(u64, Vec<u8>)>) -> Vec<Vec<u8>> {
        records.into_iter().map(|(_, content)| content).collect()
    }

    const FIRST: &[u8] = b"2026-11-23T10:15:07.1Z stdout F one\n";

    #[test]
    fn an_unfinished_line_waits_for_its_end() {
        let mut file = FIRST.to_vec();
        file.extend_from_slice(b"2026-11-23T10:15:07.2Z stdout F tw");
        let mut reader = Reader::default();
        assert_eq!(
            contents(read_all(&mut reader, &file, AtEnd::Wait)),
            [b"one"]
        );
        assert_eq!(reader.offset(), FIRST.len() as u64);
        file.extend_from_slice(b"o\n");
        assert_eq!(
            contents(read_all(&mut reader, &file, AtEnd::Wait)),
            [b"two"]
        );
        assert_eq!(reader.offset(), file.len() as u64);
    }

    #[test]
    fn the_last_line_of_a_finished_file_needs_no_end() {
        let mut file = FIRST.to_vec();
        file.extend_from_slice(b"2026-11-23T10:15:07.2Z stdout P two");
        let mut reader = Reader::default();
        let records = read_all(&mut reader, &file, AtEnd::Flush);
        assert_eq!(contents(records), [b"one", b"two"]);
        let end = file.len() as u64;
        assert_eq!(
            reader.position(),
            Position {
                next: end,
                open: [None, None]
            }
        );
    }

    #[test]
    fn what_is_no_cri_line_is_delivered_as_it_is() {
        let mut file = FIRST.to_vec();
        file.extend_from_slice(b"\xff garbage\n\n");
        let records = read_all(&mut Reader::default(), &file, AtEnd::Wait);
        assert_eq!(contents(records), [&b"one"[..], b"\xff garbage", b""]);
    }

    #[test]
    fn a_raw_line_longer_than_the_buffer_is_one_record() {
        let long = vec![b'x'; 3 * BUFFER + 17];
        let mut file = b"2026-11-23T10:15:07.1Z stderr F ".to_vec();
        file.extend_from_slice(&long);
        file.push(b'\n');
        file.extend_from_slice(FIRST);
        let records = read_all(&mut Reader::default(), &file, AtEnd::Wait);
        assert_eq!(contents(records), [long, b"one".to_vec()]);
    }

    #[test]
    fn an_open_line_holds_the_place_back_but_nothing_is_delivered_twice() {
        let mut file = b"2026-11-23T10:15:07.1Z stdout P a\n".to_vec();
        file.extend_from_slice(b"2026-11-23T10:15:07.2Z stderr F other\n");
        let next = file.len() as u64;
        let mut reader = Reader::default();
        assert_eq!(
            contents(read_all(&mut reader, &file, AtEnd::Wait)),
            [b"other"]
        );
        let position = reader.position();
        assert_eq!(
            position,
            Position {
                next,
                open: [Some(0), None]
            }
        );
        // A flush after a restart: the open line had not been delivered.
        let flushed = read_all(
            &mut Reader::at(FileNumber(1), position, Timestamp::default()),
            &file,
            AtEnd::Flush,
        );
        assert_eq!(contents(flushed), [b"a"]);
        file.extend_from_slice(b"2026-11-23T10:15:07.3Z stdout F b\n");
        let rest = read_all(
            &mut Reader::at(FileNumber(1), position, Timestamp::default()),
            &file,
            AtEnd::Wait,
        );
        assert_eq!(contents(rest), [b"ab"]);
    }

    #[test]
    fn where_memory_is_short_a_line_goes_on_in_the_next_record_sooner_and_loses_nothing() {
        let part = "x".repeat(16 << 10);
        let mut file = Vec::new();
        for _ in 0..9 {
            file.extend(format!("2026-11-23T10:15:07.1Z stdout P {part}\n").bytes());
        }
        let mut reader = Reader::default();
        assert!(read_all(&mut reader, &file, AtEnd::Wait).is_empty());
        assert!(reader.held() >= 9 * part.len());
        let mut short = Reader::at(FileNumber(1), reader.position(), Timestamp::default());
        short.shorten(true);
        let records = read_all(&mut short, &file, AtEnd::Wait);
        let lengths: Vec<_> = records.iter().map(|(_, content)| content.len()).collect();
        assert_eq!(lengths, [4 * part.len(), 4 * part.len()]);
        assert!(short.held() < 3 * part.len());
        file.extend(b"2026-11-23T10:15:07.2Z stdout F end\n");
        let rest = contents(read_all(&mut short, &file, AtEnd::Wait));
        assert_eq!(rest, [format!("{part}end").into_bytes()]);
        assert_eq!(short.held(), 0);
    }

    proptest! {
        /// However often reading is interrupted, and wherever it starts again from an acknowledged place, every
        /// record is read exactly once.
        #[test]
        fn restarts_neither_lose_nor_repeat(
            lines in proptest::collection::vec((any::<bool>(), any::<bool>(), "[a-z]{0,6}"), 1..40),
            stops in proptest::collection::vec(0_usize..5, 1..40),
        ) {
            let mut file = Vec::new();
            for (stderr, partial, content) in &lines {
                let (stream, tag) = (Stream::ALL[usize::from(*stderr)].as_str(), if *partial { 'P' } else { 'F' });
                file.extend(format!("2026-11-23T10:15:07.1Z {stream} {tag} {content}\n").bytes());
            }
            let expected = read_all(&mut Reader::default(), &file, AtEnd::Flush);
            let mut out = Vec::new();
            let mut position = Position::default();
            let mut stops = stops.into_iter().chain(std::iter::repeat(usize::MAX));
            loop {
                let mut reader = Reader::at(FileNumber(1), position, Timestamp::default());
                let mut left = stops.next().unwrap();
                let reached = reader.read(&file, AtEnd::Flush, None, &mut Vec::new(), |record| {
                    if left == 0 {
                        return Taken::No;
                    }
                    left -= 1;
                    out.push((record.offset, record.content.to_vec()));
                    Taken::Yes
                });
                position = reader.position();
                if reached.unwrap() == Reached::End {
                    break;
                }
            }
            prop_assert_eq!(out, expected);
        }

        /// Whatever lines are taken for one record, and whenever that changes, each line of a stream comes exactly once.
        #[test]
        fn a_change_of_what_belongs_together_neither_loses_nor_repeats(
            lines in proptest::collection::vec((any::<bool>(), any::<bool>(), "[a-c]{0,2}"), 1..40),
            readings in proptest::collection::vec((0_usize..4, proptest::option::of("[abc]")), 1..20),
        ) {
            let mut file = Vec::new();
            let mut expected: [Vec<u8>; 2] = Default::default();
            for (stderr, partial, content) in &lines {
                let (stream, tag) = (Stream::ALL[usize::from(*stderr)].as_str(), if *partial { 'P' } else { 'F' });
                file.extend(format!("2026-11-23T10:15:07.1Z {stream} {tag} {content}\n").bytes());
                expected[usize::from(*stderr)].extend(content.bytes());
            }
            let mut out: [Vec<u8>; 2] = Default::default();
            let mut position = Position::default();
            let mut readings = readings.into_iter().chain(std::iter::repeat((usize::MAX, None)));
            loop {
                let (mut left, first_line) = readings.next().unwrap();
                let mut policy = Policy::of_everything("p", "u", Vec::new());
                policy.multiline = first_line.map(|first_line| Multiline {
                    rule: MultilineRule::FirstLine(Pattern::try_from(first_line).unwrap()),
                    timeout_ms: NonZeroU32::MAX,
                    max_bytes: NonZeroU32::MAX,
                });
                let processing = Processing::of(&policy).unwrap();
                let mut reader = Reader::at(FileNumber::default(), position, Timestamp::default());
                let reached = reader.read(&file, AtEnd::Flush, processing.joining(), &mut Vec::new(), |record| {
                    if left == 0 {
                        return Taken::No;
                    }
                    left -= 1;
                    out[record.stream.index()].extend(record.content.iter().filter(|byte| **byte != b'\n'));
                    Taken::Yes
                });
                position = reader.position();
                if reached.unwrap() == Reached::End {
                    break;
                }
            }
            prop_assert_eq!(out, expected);
        }
    }
}
