//! One log file on its way to one sink. Knows no policy and makes no batch.

use std::{
    collections::HashMap,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    FileHeads,
    age::Age,
    room::{Room, Share},
    trouble::{Kind, Trouble},
};
use crate::{
    assemble::{FileNumber, Record, Taken},
    cursor::{FileKey, Place, Position},
    files::{Content, LogFile, Reading},
    process::{
        Ready,
        filter::{RecordId, Scratch},
        multiline::{Joining, Multiline},
        trail::Memory,
    },
    reader::{AtEnd, ReadAt, Reader},
};

/// A line that was begun is delivered as it stands when its file was quiet for this long.
const IDLE: Duration = Duration::from_secs(10);

/// A log file on its way to a sink, until everything in it is acknowledged and nothing will be added.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) file: Reading,
    /// The next generation of the same run of the container.
    pub(super) next: Option<FileNumber>,
    /// None where it has read nothing that is not acknowledged: of many files few are being read.
    reader: Option<Box<Reader>>,
    /// What its reader holds.
    pub(super) share: Share,
    pub(super) committed: Position,
    /// The file's size when it was last read to its end, and whether that was the end of it all.
    pub(super) seen: Option<(u64, AtEnd)>,
    /// It could not be read, and waits for its next chance; later files of the container do not wait for it.
    pub(super) failed: bool,
    /// What was told of it, which is not told again.
    pub(super) told: Option<String>,
    pub(super) heads: Option<Box<FileHeads>>,
    /// For how long what is not acknowledged has been there.
    pub(super) age: Age,
    /// Since when something of it waits to be archived.
    pub(super) waiting: Option<Instant>,
    /// Everything in it is acknowledged and nothing will be added.
    pub(super) done: bool,
}

/// How far a file is settled once a batch is acknowledged.
#[derive(Debug)]
pub(super) struct End {
    /// By file, not by place among the tracks: those may be others by the time of the answer.
    pub(super) file: FileNumber,
    pub(super) position: Position,
    pub(super) done: bool,
}

impl Track {
    /// Begins to read a file where its cursor is.
    pub(super) fn new(file: &Rc<LogFile>, committed: Position, room: &Rc<Room>) -> Self {
        Self {
            share: Share::new(room),
            reader: None,
            file: Reading::new(file),
            next: None,
            committed,
            seen: None,
            failed: false,
            told: None,
            heads: None,
            age: Age::default(),
            waiting: None,
            done: false,
        }
    }

    /// What reads on in it.
    pub(super) fn reader(&mut self) -> &mut Reader {
        let reader = self.take_reader();
        self.reader.insert(reader)
    }

    /// The same, to be given back to [`Self::put_reader`].
    pub(super) fn take_reader(&mut self) -> Box<Reader> {
        self.reader.take().unwrap_or_else(|| {
            let (number, modified) = (self.file.number, self.file.modified());
            Box::new(Reader::at(number, self.committed, modified))
        })
    }

    /// It has read on.
    pub(super) fn put_reader(&mut self, reader: Box<Reader>) {
        self.share.hold(reader.held());
        self.reader = Some(reader);
    }

    /// What has read in it and is not at rest.
    pub(super) fn reading(&self) -> Option<&Reader> {
        self.reader.as_deref()
    }

    /// Whether a line has begun that has not ended.
    pub(super) fn has_open_line(&self) -> bool {
        self.reading().is_some_and(Reader::has_open_line)
    }

    /// Whether lines that go on in later files are still this one's to acknowledge.
    pub(super) fn has_handed_over(&self) -> bool {
        self.reading().is_some_and(Reader::has_handed_over)
    }

    /// First byte that has not been read.
    pub(super) fn offset(&self) -> u64 {
        self.reading()
            .map_or_else(|| self.committed.start(), Reader::offset)
    }

    /// Lets go of its reader, if that knows nothing but how far the file is acknowledged.
    pub(super) fn rest(&mut self) {
        let committed = self.committed;
        self.reader
            .take_if(|reader| reader.is_at_rest() && reader.position() == committed);
    }

    pub(super) fn at_end(&self) -> AtEnd {
        if self.file.is_finished() {
            AtEnd::Flush
        } else if self.has_open_line() && self.file.quiet_for() >= IDLE {
            AtEnd::Idle
        } else {
            AtEnd::Wait
        }
    }

    pub(super) fn is_pending(&self, joining: Option<Joining<'_>>) -> bool {
        if self.failed {
            return false;
        }
        let Some((length, at_end)) = self.seen else {
            return true;
        };
        length != self.file.length()
            || self.is_overdue(joining)
            || match self.at_end() {
                AtEnd::Wait => false,
                AtEnd::Idle => at_end == AtEnd::Wait,
                AtEnd::Rotated | AtEnd::Flush => matches!(at_end, AtEnd::Wait | AtEnd::Idle),
            }
    }

    /// Whether a record of joined lines has waited for long enough.
    pub(super) fn is_overdue(&self, joining: Option<Joining<'_>>) -> bool {
        joining.is_some_and(|Joining { multiline, now }| {
            let due = self.due(multiline);
            !self.failed && due.is_some_and(|due| due <= now)
        })
    }

    /// When a record of joined lines has waited for long enough.
    pub(super) fn due(&self, multiline: &Multiline) -> Option<Instant> {
        self.reading()?.due(multiline)
    }

    /// Whether the next file of the same container must wait: its lines are later.
    pub(super) fn blocks_later_files(&self) -> bool {
        let is_read = matches!(self.seen, Some((_, AtEnd::Rotated | AtEnd::Flush)));
        !self.failed && (!is_read || self.is_pending(None))
    }

    /// Whether `next` holds the lines that come after this file's.
    pub(super) fn goes_on_in(&self, next: &Self) -> bool {
        self.next == Some(next.file.number)
    }

    /// Whether nothing was read, so that the lines of the file before can go on here.
    fn is_at_the_beginning(&self) -> bool {
        self.reading()
            .map_or_else(|| self.committed.start() == 0, Reader::is_at_the_beginning)
    }

    /// How far it has been read.
    pub(super) fn end(&self, done: bool) -> End {
        End {
            file: self.file.number,
            position: self.reading().map_or(self.committed, Reader::position),
            done,
        }
    }

    /// It could not be read; later files of the container do not wait for it.
    pub(super) fn fail(&mut self, error: io::Error, troubles: &mut Vec<Trouble>) {
        self.failed = true;
        let reason = error.to_string();
        // The same again and again is told once.
        if self.told.as_ref() != Some(&reason) {
            troubles.push(Trouble::new(&self.file.key, Kind::Unreadable(error)));
            self.told = Some(reason);
        }
    }

    /// How many records, at least, are missing after its content was read to its end.
    pub(super) fn missing(&mut self, content: &Content, troubles: &mut Vec<Trouble>) -> u64 {
        let unread = self.unread();
        let kind = if content.is_damaged() {
            Kind::Damaged
        } else if self.file.is_cut() && unread > 0 {
            Kind::Gone(unread)
        } else {
            return 0;
        };
        // After a refusal it is read again.
        if self.told.is_none() {
            self.told = Some(String::new());
            troubles.push(Trouble::new(&self.file.key, kind));
        }
        1
    }

    /// It is acknowledged up to here; `done` says that nothing is left of it.
    pub(super) fn settle_at(&mut self, position: Position, done: bool) {
        self.committed = position;
        // It can have grown since, against all expectation.
        self.done = done && !(self.file.can_grow() && self.file.length() > position.next);
    }

    /// How far it is acknowledged.
    pub(super) fn place(&self, done: bool) -> Place {
        Place {
            position: self.committed,
            size: self.file.length(),
            done,
            declined: None,
        }
    }

    pub(super) fn rewind(&mut self) {
        self.reader = None;
        self.begin_again();
        self.failed = false;
    }

    /// Reads on from a place that is not yet acknowledged.
    pub(super) fn read_from(&mut self, position: Position) {
        *self.reader() = Reader::at(self.file.number, position, self.file.modified());
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.share.hold(0);
        self.seen = None;
    }

    /// About how many bytes there are to read.
    pub(super) fn unread(&self) -> u64 {
        self.file.length().saturating_sub(self.offset())
    }
}

/// What the end of a file means, which depends on whether its lines can go on in the next one.
pub(super) fn end_of(tracks: &[Track], index: usize) -> AtEnd {
    let track = &tracks[index];
    match track.at_end() {
        AtEnd::Flush
            if !track.file.is_cut()
                && tracks.get(index + 1).is_some_and(|next| {
                    track.goes_on_in(next) && !next.failed && next.is_at_the_beginning()
                }) =>
        {
            AtEnd::Rotated
        }
        other => other,
    }
}

/// Settles the files whose last lines have ended in later ones.
pub(super) fn settle(tracks: &mut [Track], ends: &mut Vec<End>) {
    for index in 0..tracks.len() {
        if !tracks[index].has_handed_over() {
            continue;
        }
        let (before, later) = tracks.split_at_mut(index + 1);
        let track = &mut before[index];
        let open = later.iter().filter_map(Track::reading);
        let is_open = |begin| open.clone().any(|later| later.is_open(begin));
        if track.reader().settle(is_open) {
            // Of each file there is one: `Ends::then` replaces it.
            ends.retain(|end| end.file != track.file.number);
            ends.push(track.end(!track.has_handed_over()));
        }
    }
}

/// What decides which records there are.
#[derive(Debug)]
pub(super) struct View<'a, I, P> {
    /// What is done with lines.
    pub(super) ready: &'a Ready,
    /// Whether records are filtered.
    pub(super) filtered: bool,
    /// Gives the number of a file in the ids of its records.
    pub(super) id: I,
    /// Gives what is remembered of a container.
    pub(super) passed: P,
    /// When to stop, wherever that is.
    pub(super) until: Option<Instant>,
}

/// What was not shown.
#[derive(Debug, Default)]
pub(super) struct Unshown {
    /// Records that the policy's filters left out.
    pub(super) dropped: u64,
    /// Files for whose rest there was no time, and where that begins.
    pub(super) rest: Vec<(FileNumber, u64)>,
}

/// A file that is read as long as there is time.
struct Timed<'a, F>(&'a F, Option<Instant>);

impl<F: ReadAt> ReadAt for Timed<'_, F> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.1.is_some_and(|until| Instant::now() >= until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.read_at(buffer, offset)
    }
}

/// Shows every record that is not acknowledged, with the file in which it begins; no record stands for what cannot be
/// read any more, which is at least one.
pub(super) fn for_each_unsent(
    tracks: &[Track],
    view: &View<'_, impl Fn(&FileKey) -> u64, impl Fn(&str) -> Memory>,
    mut each: impl FnMut(FileNumber, Option<&Record<'_>>),
) -> Unshown {
    let mut rest = Vec::new();
    let mut scratch = Scratch::default();
    let mut sieve = view
        .filtered
        .then(|| view.ready.sieve(&mut scratch, usize::MAX))
        .flatten();
    let mut ids: HashMap<FileNumber, u64> = HashMap::new();
    let mut limited: (&str, Memory) = Default::default();
    let joining = view.ready.joining();
    let mut buffer = Vec::new();
    let mut begun = None;
    for (index, track) in tracks.iter().enumerate() {
        let mut reader = Reader::at(track.file.number, track.committed, track.file.modified());
        if let Some(begun) = begun.take() {
            reader.inherit(begun);
        }
        let goes_on = tracks
            .get(index + 1)
            .is_some_and(|next| track.goes_on_in(next));
        let at_end = if goes_on {
            AtEnd::Rotated
        } else {
            AtEnd::Flush
        };
        if sieve.is_some() {
            ids.insert(track.file.number, (view.id)(&track.file.key));
            let container = &*track.file.key.container;
            if limited.0 != container {
                limited = (container, (view.passed)(container));
            }
        }
        let mut show = |record: &Record<'_>| {
            each(record.file, Some(record));
            Taken::Yes
        };
        let whole = track.file.content(None).and_then(|content| {
            let timed = Timed(&content, view.until);
            reader.read(&timed, at_end, joining, &mut buffer, |record| {
                let Some(sieve) = &mut sieve else {
                    return show(record);
                };
                let id = RecordId {
                    file: ids.get(&record.file).copied().unwrap_or_default(),
                    offset: record.offset,
                };
                sieve.offer(record, id, &mut limited.1, &mut show)
            })?;
            Ok(!content.is_damaged())
        });
        if matches!(&whole, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            rest.push((track.file.number, reader.offset()));
            continue;
        }
        let whole = whole.unwrap_or(false);
        let gone = track.file.is_cut() && reader.offset() < track.file.length();
        if !whole || gone {
            each(track.file.number, None);
        }
        begun = goes_on.then(|| reader.hand_over());
    }
    Unshown {
        dropped: sieve.map_or(0, |sieve| sieve.dropped.total()),
        rest,
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
