//! A request's body while it is made: records, compressed as they come. Knows no file and no sink.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::assemble::Taken;

/// Most bytes of a body before compression, unless a sink asks for less.
pub const MAX_BODY: usize = 1_000_000;

/// Records are gathered up to this size before they are compressed: small enough for the processor's cache.
const PIECE: usize = 32 << 10;

/// What a body may hold. One record always fits, so that nothing is ever stuck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes before compression.
    pub bytes: usize,
    /// Records.
    pub records: usize,
    /// Bytes of one record's content; a longer one is cut.
    pub content: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: MAX_BODY,
            records: usize::MAX,
            content: usize::MAX,
        }
    }
}

/// Makes bodies one after the other, keeping its buffers and the state of the compressor.
pub struct Packer {
    compress: Compress,
    plain: Vec<u8>,
    packed: Vec<u8>,
    total: usize,
    records: usize,
    limits: Limits,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Packer")
            .field("total", &self.total)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

/// A finished body.
#[derive(Clone, Debug)]
pub struct Body {
    /// gzip.
    pub bytes: Bytes,
    /// How many records it holds.
    pub records: usize,
    /// Its size before compression.
    pub size: usize,
}

/// The window of gzip: 2^15 bytes.
const WINDOW_BITS: u8 = 15;

impl Default for Packer {
    fn default() -> Self {
        Self {
            // The fastest level: repeated metadata shrinks by any, and a sidecar must not cost a core.
            compress: Compress::new_gzip(Compression::fast(), WINDOW_BITS),
            plain: Vec::new(),
            packed: Vec::new(),
            total: 0,
            records: 0,
            limits: Limits::default(),
        }
    }
}

impl Packer {
    /// Begins a body; what was not finished is dropped.
    pub fn begin(&mut self, limits: Limits) {
        self.compress.reset();
        self.plain.clear();
        self.packed.clear();
        self.total = 0;
        self.records = 0;
        self.limits = limits;
    }

    /// Adds the record that `write` appends, if there is room for it.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Taken {
        if self.records >= self.limits.records {
            return Taken::No;
        }
        let before = self.plain.len();
        write(&mut self.plain);
        let size = self.plain.len() - before;
        if self.records > 0 && self.total + size > self.limits.bytes {
            self.plain.truncate(before);
            return Taken::No;
        }
        self.total += size;
        self.records += 1;
        if self.plain.len() >= PIECE {
            self.compress(FlushCompress::None);
        }
        Taken::Yes
    }

    /// Longest content that a record may have.
    pub fn longest(&self) -> usize {
        self.limits.content
    }

    /// The finished body; none when nothing was added.
    pub fn finish(&mut self) -> Option<Body> {
        if self.records == 0 {
            return None;
        }
        self.compress(FlushCompress::Finish);
        // A very long record must not leave its buffer behind.
        self.plain.shrink_to(2 * PIECE);
        let bytes = Bytes::copy_from_slice(&self.packed);
        self.packed.clear();
        self.packed.shrink_to(MAX_BODY);
        Some(Body {
            bytes,
            records: self.records,
            size: self.total,
        })
    }

    fn compress(&mut self, flush: FlushCompress) {
        let mut done = 0;
        loop {
            self.packed.reserve(PIECE);
            let before = self.compress.total_in();
            let status = self
                .compress
                .compress_vec(&self.plain[done..], &mut self.packed, flush);
            done += usize::try_from(self.compress.total_in() - before).unwrap_or_default();
            let finished = match flush {
                FlushCompress::Finish => matches!(status, Ok(Status::StreamEnd)),
                _ => done == self.plain.len(),
            };
            // Deflate has no error for valid calls; a broken stream would be refused by the sink and told.
            if finished || status.is_err() {
                break;
            }
        }
        self.plain.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(bytes);
        decoder.read_to_end(&mut plain).unwrap();
        plain
    }

    fn limits(bytes: usize, records: usize) -> Limits {
        Limits {
            bytes,
            records,
            ..Limits::default()
        }
    }

    #[test]
    fn a_body_never_exceeds_its_limits() {
        let mut packer = Packer::default();
        packer.begin(limits(10, 100));
        assert_eq!(
            packer.add(|out| out.extend_from_slice(b"12345")),
            Taken::Yes
        );
        assert_eq!(
            packer.add(|out| out.extend_from_slice(b"123456")),
            Taken::No
        );
        assert_eq!(
            packer.add(|out| out.extend_from_slice(b"67890")),
            Taken::Yes
        );
        let body = packer.finish().unwrap();
        assert_eq!(
            (unpack(&body.bytes), body.records, body.size),
            (b"1234567890".to_vec(), 2, 10)
        );
        packer.begin(limits(100, 1));
        assert_eq!(packer.add(|out| out.push(b'x')), Taken::Yes);
        assert_eq!(packer.add(|out| out.push(b'x')), Taken::No);
    }

    #[test]
    fn a_record_larger_than_the_limit_goes_alone() {
        let mut packer = Packer::default();
        packer.begin(limits(3, 100));
        assert_eq!(
            packer.add(|out| out.extend_from_slice(b"12345")),
            Taken::Yes
        );
        assert_eq!(packer.add(|out| out.push(b'x')), Taken::No);
        assert_eq!(unpack(&packer.finish().unwrap().bytes), b"12345");
    }

    #[test]
    fn nothing_is_no_body() {
        let mut packer = Packer::default();
        packer.begin(Limits::default());
        assert!(packer.finish().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn bodies_of_any_bytes_are_valid_gzip(bodies in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50_000), 1..6), 1..4)) {
            let mut packer = Packer::default();
            for records in bodies {
                packer.begin(Limits::default());
                for record in &records {
                    prop_assert_eq!(packer.add(|out| out.extend_from_slice(record)), Taken::Yes);
                }
                prop_assert_eq!(unpack(&packer.finish().unwrap().bytes), records.concat());
            }
        }
    }
}
