//! One batch while it is made: what becomes of each record that is read. Chooses no file.

use std::{io, sync::Arc, time::SystemTime};

use super::{Ends, FileHeads, Filled, Workshop, track::End};
use crate::{
    assemble::{FileNumber, Record, Taken},
    batch::{Limits, Packer, Spill},
    encode::Heads,
    files::Content,
    process::{
        Ready,
        filter::{RecordId, Sieve},
        multiline::Joining,
        trail::Memory,
    },
    reader::{AtEnd, Reached, Reader},
    sink::packing::Packing,
    timestamp::Timestamp,
};

/// So many bytes of records that filters drop are read at once: other sinks have their turn after that.
const MOST_DROPPED: usize = 2 << 20;

/// A batch while it is made.
#[derive(Debug)]
pub(super) struct Making<'a> {
    /// How lines are joined.
    pub(super) joining: Option<Joining<'a>>,
    buffer: &'a mut Vec<u8>,
    sieve: Option<Sieve<'a>>,
    remembers: bool,
    passed: Vec<(Arc<str>, Memory)>,
    pack: Pack<'a>,
}

/// The last step: a record as the sink takes it.
#[derive(Debug)]
struct Pack<'a> {
    packer: &'a mut Packer,
    now: Timestamp,
    horizon: Timestamp,
    stale: u64,
}

impl<'a> Making<'a> {
    /// Begins a batch.
    pub(super) fn new(
        workshop: &'a mut Workshop,
        ready: &'a Ready,
        packing: &Packing,
        limits: Limits,
    ) -> Self {
        let Workshop {
            packer,
            buffer,
            scratch,
        } = workshop;
        packer.begin(
            packing.format.frame(),
            packing.compression,
            packing.limits.and(limits),
        );
        let now = SystemTime::now();
        // Nothing is older than the beginning of 1970 where nothing is too old.
        let horizon = packing.horizon.and_then(|age| now.checked_sub(age));
        Self {
            joining: ready.joining(),
            buffer,
            sieve: ready.sieve(scratch, MOST_DROPPED),
            remembers: ready.remembers(),
            passed: Vec::new(),
            pack: Pack {
                packer,
                now: now.into(),
                horizon: horizon.map(Timestamp::from).unwrap_or_default(),
                stale: 0,
            },
        }
    }

    /// Whether what becomes of a record depends on those before it.
    pub(super) fn remembers(&self) -> bool {
        self.remembers
    }

    /// Writes the batch to a file while it is made.
    pub(super) fn spill_to(&mut self, spill: Spill) {
        self.pack.packer.spill_to(spill);
    }

    /// Reads on in a file of a container.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn read<'h>(
        &mut self,
        reader: &mut Reader,
        content: &Content,
        at_end: AtEnd,
        heads: impl Fn(FileNumber) -> &'h FileHeads,
        (container, passing): (&Arc<str>, &mut Memory),
    ) -> io::Result<Reached> {
        let Self {
            joining,
            buffer,
            sieve,
            pack,
            ..
        } = self;
        let Some(sieve) = sieve else {
            return reader.read(content, at_end, *joining, buffer, |record| {
                pack.add(&heads(record.file).heads, record)
            });
        };
        let reached = reader.read(content, at_end, *joining, buffer, |record| {
            let FileHeads { heads, id } = heads(record.file);
            let id = RecordId {
                file: *id,
                offset: record.offset,
            };
            sieve.offer(record, id, passing, |record| pack.add(heads, record))
        });
        if self.remembers {
            self.passed.retain(|(known, _)| known != container);
            self.passed.push((Arc::clone(container), passing.clone()));
        }
        reached
    }

    /// The finished batch.
    pub(super) fn finish(self, places: Vec<End>, lost: u64) -> Filled {
        let body = self.pack.packer.finish();
        let (dropped, faults) = self
            .sieve
            .map(|mut sieve| (sieve.dropped, std::mem::take(&mut sieve.faults)))
            .unwrap_or_default();
        let ends = Ends {
            records: body.as_ref().map_or(0, |body| body.records as u64),
            stale: self.pack.stale,
            lost,
            dropped,
            faults,
            passed: self.passed,
            places,
        };
        Filled { body, ends }
    }
}

impl Pack<'_> {
    fn add(&mut self, heads: &Heads, record: &Record<'_>) -> Taken {
        let now = self.now;
        let taken = self
            .packer
            .add(&heads.group, record.content.len(), |longest, out| {
                heads.write(record, longest, now, out);
            });
        if taken == Taken::Yes && record.time < self.horizon {
            self.stale += 1;
        }
        taken
    }
}
