//! A request's body while it is made: records in their frame, compressed as they come. Knows no file and no sink.

mod compress;
mod spill;

use std::rc::Rc;

use bytes::Bytes;
use compress::Compressor;
use katonic_log_config::Compression;
pub use spill::{Spill, Spilled};

use crate::assemble::Taken;

/// Records are gathered up to this size before they are compressed: small enough for the processor's cache.
const PIECE: usize = 32 << 10;

/// A packed body larger than this does not leave its buffer behind.
const KEPT: usize = 1_000_000;

/// A record is not cut more finely than to this part of its content: the search for its length has to end.
const FINENESS: usize = 256;

/// What a body may hold. One record always fits, so that nothing is ever stuck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes before compression, frame included.
    pub bytes: usize,
    /// Records.
    pub records: usize,
    /// Bytes of one record's content; a longer one is cut.
    pub content: usize,
    /// Bytes that a body with one record alone may have; a record that would make it larger is cut until it fits,
    /// also where it is not alone.
    pub single: usize,
}

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self {
        bytes: usize::MAX,
        records: usize::MAX,
        content: usize::MAX,
        single: usize::MAX,
    };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            records: self.records.min(other.records),
            content: self.content.min(other.content),
            single: self.single.min(other.single),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

/// What stands around records: a body holds groups, a group the records of one log file.
///
/// Where a form has no groups, all records are in one whose head is empty.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Before the first group.
    pub open: &'static [u8],
    /// Between groups.
    pub between: &'static [u8],
    /// Between the records of a group.
    pub separator: &'static [u8],
    /// After the last record of a group.
    pub end: &'static [u8],
    /// After the last group.
    pub close: &'static [u8],
    /// For a form in which a length comes before the content.
    pub counted: Option<Counted>,
}

/// A group whose head depends on how much it holds. A body may have several of the same log file then.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Bytes of a group with such a head, in bytes, and so much content.
    pub size: fn(head: usize, content: usize) -> usize,
    /// Appends what stands before so many bytes of content.
    pub begin: fn(head: &[u8], content: usize, out: &mut Vec<u8>),
}

impl Frame {
    /// Records and nothing else.
    pub const NONE: Self = Self {
        open: b"",
        between: b"",
        separator: b"",
        end: b"",
        close: b"",
        counted: None,
    };
}

/// A finished body.
#[derive(Clone, Debug)]
pub struct Body {
    /// As it is sent.
    pub bytes: Bytes,
    /// How many records it holds.
    pub records: usize,
    /// Its size before compression.
    pub size: usize,
}

/// Makes bodies one after the other, keeping its buffers and the state of its compressors.
pub struct Packer {
    compressor: Compressor,
    /// What is not compressed yet; of a counted form, the content of the open group.
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// The head of a counted group while it is written.
    scratch: Vec<u8>,
    /// Where what is compressed goes instead of into memory.
    spill: Option<Spill>,
    frame: Frame,
    limits: Limits,
    group: Rc<[u8]>,
    /// Whether the group has a record in this body.
    in_group: bool,
    /// Bytes so far; of a counted form, of the groups that are closed.
    total: usize,
    records: usize,
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

impl Default for Packer {
    fn default() -> Self {
        Self {
            compressor: Compressor::default(),
            plain: Vec::new(),
            packed: Vec::new(),
            scratch: Vec::new(),
            spill: None,
            frame: Frame::NONE,
            limits: Limits::NONE,
            group: Rc::default(),
            in_group: false,
            total: 0,
            records: 0,
        }
    }
}

impl Packer {
    /// Begins a body; what was not finished is dropped.
    pub fn begin(&mut self, frame: &Frame, compression: Compression, limits: Limits) {
        self.compressor.begin(compression);
        self.plain.clear();
        self.packed.clear();
        self.spill = None;
        self.frame = *frame;
        self.limits = limits;
        self.group = Rc::default();
        self.in_group = false;
        self.total = 0;
        self.records = 0;
    }

    /// Writes the body that was begun to a file instead of keeping it.
    pub fn spill_to(&mut self, spill: Spill) {
        self.spill = Some(spill);
    }

    /// What was written to a file, once the body is finished.
    pub fn take_spill(&mut self) -> Option<Spill> {
        self.spill.take()
    }

    /// Adds a record to the group with this head, if there is room for it.
    ///
    /// `write` appends the record with at most so many bytes of its content, of which there are `length`.
    pub fn add(
        &mut self,
        group: &Rc<[u8]>,
        length: usize,
        write: impl Fn(usize, &mut Vec<u8>),
    ) -> Taken {
        if self.records >= self.limits.records {
            return Taken::No;
        }
        if !Rc::ptr_eq(&self.group, group) {
            self.change_group(group);
        }
        let before = self.plain.len();
        if self.in_group {
            self.plain.extend_from_slice(self.frame.separator);
        } else {
            self.open_group();
        }
        let start = self.plain.len();
        write(self.limits.content, &mut self.plain);
        if self.alone(self.plain.len() - start) > self.limits.single {
            self.cut(start, length, &write);
        }
        let added = self.plain.len() - before;
        if self.records > 0 && self.size_with(added) > self.limits.bytes {
            self.plain.truncate(before);
            return Taken::No;
        }
        if self.frame.counted.is_none() {
            self.total += added;
        }
        self.in_group = true;
        self.records += 1;
        if self.plain.len() >= PIECE {
            self.flush(false);
        }
        Taken::Yes
    }

    /// The finished body, whose bytes are in the file if it was spilled; none when nothing was added.
    pub fn finish(&mut self) -> Option<Body> {
        if self.records == 0 {
            return None;
        }
        if self.frame.counted.is_some() {
            self.flush(false);
        } else {
            self.plain.extend_from_slice(self.frame.end);
            self.plain.extend_from_slice(self.frame.close);
            self.total += self.frame.end.len() + self.frame.close.len();
        }
        self.flush(true);
        // A very long record must not leave its buffer behind.
        self.plain.shrink_to(2 * PIECE);
        let bytes = Bytes::copy_from_slice(&self.packed);
        self.packed.clear();
        self.packed.shrink_to(KEPT);
        Some(Body {
            bytes,
            records: self.records,
            size: self.total,
        })
    }

    /// The next record belongs to another group, unless the heads are equal.
    #[cold]
    fn change_group(&mut self, group: &Rc<[u8]>) {
        if *self.group != **group {
            if self.frame.counted.is_some() {
                self.flush(false);
            }
            self.in_group = false;
        }
        self.group = Rc::clone(group);
    }

    /// Appends what stands before the first record of a group.
    #[cold]
    fn open_group(&mut self) {
        if self.frame.counted.is_some() {
            return;
        }
        if self.records == 0 {
            self.plain.extend_from_slice(self.frame.open);
        } else {
            self.plain.extend_from_slice(self.frame.end);
            self.plain.extend_from_slice(self.frame.between);
        }
        self.plain.extend_from_slice(&self.group);
    }

    /// Bytes of a body that holds nothing but one record of this size.
    fn alone(&self, record: usize) -> usize {
        let Frame {
            open, end, close, ..
        } = self.frame;
        match self.frame.counted {
            Some(counted) => (counted.size)(self.group.len(), record),
            None => open.len() + self.group.len() + record + end.len() + close.len(),
        }
    }

    /// Bytes of this body if it were finished now, with `added` bytes that are not counted yet.
    fn size_with(&self, added: usize) -> usize {
        match self.frame.counted {
            Some(counted) => self.total + (counted.size)(self.group.len(), self.plain.len()),
            None => self.total + added + self.frame.end.len() + self.frame.close.len(),
        }
    }

    /// Writes the record at `start` again with about as much of its content as is possible.
    #[cold]
    fn cut(&mut self, start: usize, length: usize, write: &impl Fn(usize, &mut Vec<u8>)) {
        let (mut fits, mut too_long) = (0, length.min(self.limits.content));
        let fine = too_long / FINENESS;
        while too_long - fits > fine + 1 {
            let middle = usize::midpoint(fits, too_long);
            self.plain.truncate(start);
            write(middle, &mut self.plain);
            if self.alone(self.plain.len() - start) > self.limits.single {
                too_long = middle;
            } else {
                fits = middle;
            }
        }
        self.plain.truncate(start);
        write(fits, &mut self.plain);
    }

    /// Compresses what there is; closes the open group of a counted form.
    fn flush(&mut self, finish: bool) {
        if let Some(counted) = self.frame.counted
            && !self.plain.is_empty()
        {
            self.scratch.clear();
            (counted.begin)(&self.group, self.plain.len(), &mut self.scratch);
            self.compressor
                .write(&self.scratch, false, &mut self.packed);
            self.total += self.scratch.len() + self.plain.len();
            self.in_group = false;
        }
        self.compressor.write(&self.plain, finish, &mut self.packed);
        self.plain.clear();
        if let Some(spill) = &mut self.spill {
            spill.write(&self.packed);
            self.packed.clear();
        }
    }
}

#[cfg(test)]
mod tests;
