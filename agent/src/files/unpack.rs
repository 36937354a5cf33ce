//! A compressed log file, read as if it were not. Goes forward only; going back begins anew.

use std::{cell::RefCell, fs::File, io, os::unix::fs::FileExt, rc::Rc};

use flate2::{Decompress, FlushDecompress, Status};

use crate::reader::{BUFFER, ReadAt};

/// How much is read from disk at a time.
const INPUT: usize = 32 << 10;

/// So much of what is only passed over is decoded at once, some milliseconds' work: there is one thread for all sinks.
const AT_ONCE: u64 = 4 << 20;

/// The window of gzip: 2^15 bytes.
const WINDOW_BITS: u8 = 15;

/// A decoder of one file. Holds what was asked for last, so that a reader that takes only part of it can ask again.
#[derive(Debug)]
pub(super) struct Unpacker(RefCell<State>);

struct State {
    file: Rc<File>,
    decompress: Decompress,
    input: Vec<u8>,
    /// What of `input` has been decoded.
    used: usize,
    /// Where in the compressed file `input` ends.
    input_end: u64,
    /// Decoded bytes, and where in the log they begin.
    output: Vec<u8>,
    output_start: u64,
    /// How many bytes the current member of the file gave.
    end: Option<End>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("State")
            .field("output_start", &self.output_start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// How the decoding has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Whole,
    /// The file is cut off or damaged: what comes after is lost.
    Damaged,
}

impl Unpacker {
    pub(super) fn new(file: Rc<File>) -> Self {
        Self(RefCell::new(State {
            file,
            decompress: Decompress::new_gzip(WINDOW_BITS),
            input: Vec::new(),
            used: 0,
            input_end: 0,
            output: Vec::new(),
            output_start: 0,
            end: None,
        }))
    }

    /// Goes on towards a place, but not for long; says whether it is there, or can come no further.
    pub(super) fn approach(&self, offset: u64) -> io::Result<bool> {
        let state = &mut *self.0.borrow_mut();
        if offset < state.output_start {
            state.restart();
        }
        let begun = state.output_start;
        loop {
            state.forget_before(offset);
            if state.output_start == offset || state.end.is_some() {
                return Ok(true);
            }
            if state.output_start - begun >= AT_ONCE {
                return Ok(false);
            }
            state.decode()?;
        }
    }

    /// Whether decoding ended before the file did, or the file before its end.
    pub(super) fn is_damaged(&self) -> bool {
        self.0.borrow().end == Some(End::Damaged)
    }
}

impl ReadAt for Unpacker {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.0.borrow_mut();
        if offset < state.output_start {
            state.restart();
        }
        loop {
            state.forget_before(offset);
            let have = if state.output_start == offset {
                state.output.len()
            } else {
                0
            };
            if have >= buffer.len() || state.end.is_some() {
                let length = have.min(buffer.len());
                buffer[..length].copy_from_slice(&state.output[..length]);
                return Ok(length);
            }
            state.decode()?;
        }
    }
}

impl State {
    fn restart(&mut self) {
        *self = Self {
            file: Rc::clone(&self.file),
            decompress: Decompress::new_gzip(WINDOW_BITS),
            input: std::mem::take(&mut self.input),
            used: 0,
            input_end: 0,
            output: std::mem::take(&mut self.output),
            output_start: 0,
            end: None,
        };
        self.input.clear();
        self.output.clear();
    }

    /// Drops what was decoded before a place.
    fn forget_before(&mut self, offset: u64) {
        let ahead = offset.saturating_sub(self.output_start);
        let drop =
            usize::try_from(ahead).map_or(self.output.len(), |ahead| ahead.min(self.output.len()));
        if drop > 0 {
            self.output.drain(..drop);
            self.output_start += drop as u64;
        }
    }

    /// Decodes some more.
    fn decode(&mut self) -> io::Result<()> {
        if self.used == self.input.len() {
            self.input.resize(INPUT, 0);
            let got = FileExt::read_at(&*self.file, &mut self.input, self.input_end);
            self.input
                .truncate(got.as_ref().copied().unwrap_or_default());
            self.used = 0;
            if got? == 0 {
                let between_members = self.decompress.total_in() == 0
                    && (self.input_end > 0 || self.output_start > 0);
                self.end = Some(if between_members {
                    End::Whole
                } else {
                    End::Damaged
                });
                return Ok(());
            }
            self.input_end += self.input.len() as u64;
        }
        self.output.reserve(BUFFER);
        let before = self.decompress.total_in();
        let status = self.decompress.decompress_vec(
            &self.input[self.used..],
            &mut self.output,
            FlushDecompress::None,
        );
        self.used += usize::try_from(self.decompress.total_in() - before).unwrap_or_default();
        match status {
            Ok(Status::Ok | Status::BufError) => {}
            // There may be another member after this one.
            Ok(Status::StreamEnd) => self.decompress = Decompress::new_gzip(WINDOW_BITS),
            Err(_) => self.end = Some(End::Damaged),
        }
        Ok(())
    }
}

/// What a compressed file says of its size before compression: its last four bytes (RFC 1952), so modulo 2^32.
pub(super) fn unpacked_size(file: &File, size: u64) -> io::Result<u64> {
    let mut last = [0; 4];
    let Some(offset) = size.checked_sub(last.len() as u64) else {
        return Ok(0);
    };
    file.read_exact_at(&mut last, offset)?;
    Ok(u32::from_le_bytes(last).into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn file(bytes: &[u8]) -> Rc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Rc::new(file)
    }

    /// What does not compress to nothing.
    fn noise(length: usize) -> Vec<u8> {
        (0..length as u64)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
            .collect()
    }

    fn read(unpacker: &Unpacker, offset: usize, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        let got = unpacker.read_at(&mut buffer, offset as u64).unwrap();
        buffer.truncate(got);
        buffer
    }

    #[test]
    fn what_is_left_of_a_file_that_was_cut_off_is_read() {
        let content = noise(200_000);
        let packed = pack(&content);
        let unpacker = Unpacker::new(file(&packed[..packed.len() / 2]));
        let got = read(&unpacker, 0, content.len());
        assert!(got.len() > 10_000, "{}", got.len());
        assert_eq!(got, content[..got.len()]);
        assert!(unpacker.is_damaged());
    }

    #[test]
    fn a_wrong_byte_is_noticed() {
        let content = noise(200_000);
        let mut packed = pack(&content);
        let last = packed.len() - 6;
        packed[last] ^= 1;
        let unpacker = Unpacker::new(file(&packed));
        assert_eq!(read(&unpacker, 0, content.len() + 1), content);
        assert!(unpacker.is_damaged(), "the checksum at the end is wrong");
        let unpacker = Unpacker::new(file(b"not gzip at all"));
        assert_eq!(read(&unpacker, 0, 10), b"");
        assert!(unpacker.is_damaged());
        assert!({
            let unpacker = Unpacker::new(file(b""));
            read(&unpacker, 0, 10).is_empty() && unpacker.is_damaged()
        });
    }

    #[test]
    fn a_place_far_away_is_approached_in_steps() {
        let content = noise(9 << 20);
        let place = content.len() - 10;
        let unpacker = Unpacker::new(file(&pack(&content)));
        let approach =
            |place| -> Vec<bool> { (0..3).map(|_| unpacker.approach(place).unwrap()).collect() };
        assert_eq!(approach(place as u64), [false, false, true]);
        assert_eq!(read(&unpacker, place, 100), content[place..]);
        // Back, and to where nothing is.
        assert!(unpacker.approach(0).unwrap());
        assert_eq!(read(&unpacker, 0, 100), content[..100]);
        assert_eq!(approach(u64::MAX), [false, false, true]);
        assert!(!unpacker.is_damaged());
    }

    #[test]
    fn the_size_before_compression_is_known() {
        let packed = pack(&noise(12_345));
        let size = unpacked_size(&file(&packed), packed.len() as u64).unwrap();
        assert_eq!(size, 12_345);
        assert_eq!(unpacked_size(&file(b"x"), 1).unwrap(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_reads_like_the_file_that_was_compressed(
            members in proptest::collection::vec(0_usize..150_000, 1..4),
            reads in proptest::collection::vec((0_usize..400_000, 1_usize..100_000), 1..12),
        ) {
            let contents: Vec<Vec<u8>> = members.into_iter().map(noise).collect();
            let packed: Vec<u8> = contents.iter().flat_map(|content| pack(content)).collect();
            let content = contents.concat();
            let unpacker = Unpacker::new(file(&packed));
            for (offset, length) in reads {
                let start = offset.min(content.len());
                let end = (offset + length).min(content.len()).max(start);
                prop_assert_eq!(read(&unpacker, offset, length), &content[start..end]);
            }
            prop_assert!(!unpacker.is_damaged());
        }
    }
}
