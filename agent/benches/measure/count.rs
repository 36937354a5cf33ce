//! Which lines came: by their numbers, whatever form the record around a line has.

use std::{io::Read, time::Instant};

use flate2::read::GzDecoder;
use memchr::memmem;
use ruzstd::decoding::StreamingDecoder;

use super::{
    Outcome,
    lines::{DIGITS, MARK, SECRET},
};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Something that a receiver took.
#[derive(Debug)]
pub struct Taken {
    /// When it was complete.
    pub at: Instant,
    /// How it is compressed.
    pub encoding: Encoding,
    /// As it came over the wire.
    pub bytes: Vec<u8>,
}

/// The lines that came.
#[derive(Debug)]
pub struct Lines {
    /// When each line came for the first time.
    pub arrived: Vec<Option<Instant>>,
    /// How many different ones came.
    pub unique: usize,
    /// How many came once more.
    pub duplicates: usize,
    /// Size on the wire.
    pub bytes: usize,
    /// How often what should be redacted was seen.
    pub secrets: usize,
}

impl Lines {
    /// Expects lines from 0 to `lines`.
    pub fn expected(lines: u32) -> Outcome<Self> {
        Ok(Self {
            arrived: vec![None; usize::try_from(lines)?],
            unique: 0,
            duplicates: 0,
            bytes: 0,
            secrets: 0,
        })
    }

    /// Whether each came.
    pub fn complete(&self) -> bool {
        self.unique == self.arrived.len()
    }

    /// How many did not come.
    pub fn missing(&self) -> usize {
        self.arrived.len() - self.unique
    }

    /// When the last of those that came did so.
    pub fn last(&self) -> Option<Instant> {
        self.arrived.iter().flatten().max().copied()
    }

    /// Lines per second of the clock, from `begun` until 99 of 100 had come: the last batch waits to be filled.
    pub fn pace(&self, begun: Instant) -> Option<f64> {
        let mut arrived: Vec<Instant> = self.arrived.iter().flatten().copied().collect();
        arrived.sort_unstable();
        let count = arrived.len() / 100 * 99;
        let at = arrived.get(count.checked_sub(1)?)?;
        let count = u32::try_from(count).ok()?;
        Some(f64::from(count) / at.duration_since(begun).as_secs_f64())
    }

    /// Counts what was taken.
    pub fn add(&mut self, taken: &[Taken]) -> Outcome<()> {
        let mut plain = Vec::new();
        for one in taken {
            self.bytes += one.bytes.len();
            plain.clear();
            let body = match one.encoding {
                Encoding::Plain => &one.bytes[..],
                Encoding::Gzip => {
                    GzDecoder::new(&one.bytes[..]).read_to_end(&mut plain)?;
                    &plain
                }
                Encoding::Zstd => {
                    StreamingDecoder::new(&one.bytes[..])?.read_to_end(&mut plain)?;
                    &plain
                }
            };
            self.secrets += memmem::find_iter(body, SECRET).count();
            for number in numbers(body) {
                match self.arrived.get_mut(number) {
                    Some(Some(_)) => self.duplicates += 1,
                    Some(first) => {
                        *first = Some(one.at);
                        self.unique += 1;
                    }
                    None => return Err(format!("line {number} was never written").into()),
                }
            }
        }
        Ok(())
    }

    /// Lines per second in slices of `slice` seconds from `begun` to the last line.
    pub fn rates(&self, begun: Instant, slice: f64) -> Vec<(f64, f64)> {
        let mut slices: Vec<u32> = Vec::new();
        for at in self.arrived.iter().flatten() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some hundred slices from 0 on"
            )]
            let index = (at.duration_since(begun).as_secs_f64() / slice) as usize;
            if slices.len() <= index {
                slices.resize(index + 1, 0);
            }
            slices[index] += 1;
        }
        let mut time = 0.0;
        slices
            .into_iter()
            .map(|lines| {
                time += slice;
                (time, f64::from(lines) / slice)
            })
            .collect()
    }
}

/// The numbers of the lines in a body.
fn numbers(body: &[u8]) -> impl Iterator<Item = usize> {
    memmem::find_iter(body, MARK).filter_map(|at| {
        let digits = body.get(at + MARK.len()..at + MARK.len() + DIGITS)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// How much of a stream ends with a whole number of a line: what comes after belongs to the next piece.
pub fn whole(stream: &[u8]) -> usize {
    memmem::rfind_iter(stream, MARK)
        .map(|at| at + MARK.len() + DIGITS)
        .find(|end| *end <= stream.len())
        .unwrap_or_default()
}
