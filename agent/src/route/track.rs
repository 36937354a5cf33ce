//! One log file on its way to one sink. Knows no policy and makes no batch.

use std::{rc::Rc, time::Duration};

use crate::{
    assemble::Taken,
    cursor::Position,
    encode::Head,
    files::LogFile,
    reader::{AtEnd, Reader},
};

/// A line that was begun is delivered as it stands when its file was quiet for this long.
const IDLE: Duration = Duration::from_secs(10);

/// A log file on its way to a sink.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) file: Rc<LogFile>,
    pub(super) reader: Reader,
    pub(super) committed: Position,
    /// The file's size when it was last read to its end, and whether that was the end of it all.
    pub(super) seen: Option<(u64, AtEnd)>,
    /// It could not be read, and waits for its next chance; later files of the container do not wait for it.
    pub(super) failed: bool,
    /// Everything in it is acknowledged and nothing will be added.
    pub(super) done: bool,
    pub(super) heads: Option<[Head; 2]>,
}

impl Track {
    /// Begins to read a file where its cursor is.
    pub(super) fn new(file: Rc<LogFile>, committed: Position) -> Self {
        Self {
            reader: Reader::at(committed, file.modified()),
            file,
            committed,
            seen: None,
            failed: false,
            done: false,
            heads: None,
        }
    }

    pub(super) fn at_end(&self) -> AtEnd {
        if self.file.is_finished() {
            AtEnd::Flush
        } else if self.file.quiet_for() >= IDLE {
            AtEnd::Idle
        } else {
            AtEnd::Wait
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        if self.done || self.failed {
            return false;
        }
        let Some((length, at_end)) = self.seen else {
            return true;
        };
        length != self.file.length()
            || match self.at_end() {
                AtEnd::Wait => false,
                AtEnd::Idle => at_end == AtEnd::Wait && self.reader.has_open_line(),
                AtEnd::Flush => at_end != AtEnd::Flush,
            }
    }

    /// How many records are not acknowledged.
    pub(super) fn unsent(&self) -> u64 {
        if self.done {
            return 0;
        }
        let mut records = 0;
        let mut reader = Reader::at(self.committed, self.file.modified());
        let read = reader.read(&*self.file, AtEnd::Flush, &mut Vec::new(), |_| {
            records += 1;
            Taken::Yes
        });
        // What cannot even be read is at least one record.
        records + u64::from(read.is_err())
    }

    pub(super) fn rewind(&mut self) {
        self.reader = Reader::at(self.committed, self.file.modified());
        self.seen = None;
        self.failed = false;
    }

    /// A file that was taken for finished and grew after all has more to read.
    pub(super) fn reopen(&mut self) {
        if self.done && self.file.length() > self.committed.next {
            self.done = false;
            self.rewind();
        }
    }

    /// Whether the next file of the same container must wait: its lines are later.
    pub(super) fn blocks_later_files(&self) -> bool {
        !self.done && !self.failed
    }

    /// About how many bytes there are to read.
    pub(super) fn unread(&self) -> u64 {
        self.file.length().saturating_sub(self.reader.offset())
    }
}

/// All tracks, those of a container together, another container first at each turn.
pub(super) fn order(tracks: &[Track], turn: usize) -> Vec<usize> {
    let starts: Vec<usize> = (0..tracks.len())
        .filter(|index| {
            *index == 0 || tracks[index - 1].file.key.container != tracks[*index].file.key.container
        })
        .collect();
    let first = starts
        .get(turn % starts.len().max(1))
        .copied()
        .unwrap_or_default();
    (first..tracks.len()).chain(0..first).collect()
}
