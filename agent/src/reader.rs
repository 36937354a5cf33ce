//! Reads one log file from a place on, record by record. Keeps no line that was taken and opens no file.

use crate::{
    assemble::{Assembler, Record, Taken},
    cri::{self, Line, Stream},
    cursor::Position,
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
    /// What has begun is all there will be.
    Flush,
}

/// The state of reading a file.
#[derive(Debug, Default)]
pub struct Reader {
    offset: u64,
    /// Where reading began: up to there everything but the open lines has been taken before.
    from: Position,
    assembler: Assembler,
    times: TimeParser,
    last_time: Timestamp,
    /// Set inside a raw line that is longer than the buffer.
    inside: Option<Inside>,
}

#[derive(Clone, Copy, Debug)]
struct Inside {
    time: Timestamp,
    stream: Stream,
    partial: bool,
}

impl Reader {
    /// Reads from an acknowledged place on. A line that says no time has that of the line before, the first `time`.
    pub fn at(position: Position, time: Timestamp) -> Self {
        Self {
            offset: position.start(),
            last_time: time,
            from: position,
            ..Self::default()
        }
    }

    /// Where reading would have to begin again if everything that was taken is delivered.
    pub fn position(&self) -> Position {
        if self.offset < self.from.next {
            return self.from;
        }
        Position {
            next: self.offset,
            open: self.assembler.open(),
        }
    }

    /// Where a stream has something that was not taken before.
    fn resume(&self, stream: Stream) -> u64 {
        self.from.open[stream.index()].unwrap_or(self.from.next)
    }

    /// First byte that has not been read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a line has begun that has not ended.
    pub fn has_open_line(&self) -> bool {
        self.assembler.open() != [None, None]
    }

    /// Offers records until one is not taken or the file ends.
    ///
    /// # Errors
    /// Those of the file system; reading can go on where it stopped.
    pub fn read(
        &mut self,
        file: &impl ReadAt,
        at_end: AtEnd,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(&Record<'_>) -> Taken,
    ) -> std::io::Result<Reached> {
        buffer.resize(BUFFER, 0);
        loop {
            let got = file.read_at(buffer, self.offset)?;
            let chunk = &buffer[..got];
            let mut begin = 0;
            for newline in memchr::memchr_iter(b'\n', chunk) {
                if self.line(&chunk[begin..newline], true, &mut take) == Taken::No {
                    return Ok(Reached::Full);
                }
                begin = newline + 1;
            }
            let ended = got < BUFFER;
            if (begin == 0 && !ended) || (ended && at_end == AtEnd::Flush && begin < got) {
                // A line too long for the buffer, or the last one of the file, which nobody will complete.
                if self.line(&chunk[begin..], false, &mut take) == Taken::No {
                    return Ok(Reached::Full);
                }
            }
            if ended {
                break;
            }
        }
        if at_end != AtEnd::Wait && self.assembler.flush(&mut take) == Taken::No {
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

    /// Consumes a raw line, or a piece of one that is not `complete`.
    fn line(
        &mut self,
        raw: &[u8],
        complete: bool,
        take: &mut impl FnMut(&Record<'_>) -> Taken,
    ) -> Taken {
        let end = self.offset + raw.len() as u64 + u64::from(complete);
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
            partial: parsed.partial || !complete,
            ..parsed
        };
        let taken = if self.offset < self.resume(line.stream) {
            Taken::Yes
        } else {
            self.assembler.push(&line, self.offset, take)
        };
        if taken == Taken::Yes {
            self.last_time = line.time;
            self.offset = end;
            self.inside = (!complete).then_some(Inside {
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
    use proptest::prelude::*;

    use super::*;

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
        let reached = reader.read(file, at_end, &mut Vec::new(), |record| {
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
            &mut Reader::at(position, Timestamp::default()),
            &file,
            AtEnd::Flush,
        );
        assert_eq!(contents(flushed), [b"a"]);
        file.extend_from_slice(b"2026-11-23T10:15:07.3Z stdout F b\n");
        let rest = read_all(
            &mut Reader::at(position, Timestamp::default()),
            &file,
            AtEnd::Wait,
        );
        assert_eq!(contents(rest), [b"ab"]);
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
                let mut reader = Reader::at(position, Timestamp::default());
                let mut left = stops.next().unwrap();
                let reached = reader.read(&file, AtEnd::Flush, &mut Vec::new(), |record| {
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
    }
}
