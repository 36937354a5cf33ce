//! One generation of a container's log, whatever it is called and whether or not it is compressed. Looks for no other.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    fmt,
    fs::{self, File, Metadata},
    io,
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    descriptors::{Descriptors, Slot},
    name::{Generation, Name},
    unpack::{Unpacker, unpacked_size},
};
use crate::{
    assemble::FileNumber,
    cursor::{Beginning, FileKey},
    reader::ReadAt,
    timestamp::Timestamp,
};

/// How much of a file's beginning sets it apart: the time and stream of its first line and some of its text.
const BEGINNING: usize = 256;

/// One generation of a container's log. While it is held open it can be read to its end, also after it was deleted.
#[derive(Debug)]
pub struct LogFile {
    /// What it is, whatever its name.
    pub key: FileKey,
    /// Sets it apart within this process.
    pub number: FileNumber,
    /// Of the pod's logs.
    pod: Rc<Path>,
    descriptors: Rc<Descriptors>,
    name: RefCell<Name>,
    /// What the file system said of it last, as it was written and compressed.
    plain: Cell<Option<Stamp>>,
    /// Elsewhere, because few are compressed.
    packed: RefCell<Option<Box<Stamp>>>,
    held: RefCell<Option<Held>>,
    length: Cell<u64>,
    /// When its size changed last, as far as was seen. Not by the wall clock, which may be set.
    changed: Cell<Instant>,
    finished: Cell<bool>,
    deleted: Cell<bool>,
    abandoned: Cell<bool>,
    cut: Cell<bool>,
    /// Whether the run begins with it; none: nobody has seen what came before.
    begins: Cell<Option<bool>>,
    readers: Cell<u32>,
}

/// What the file system says of a file; the same again means that nothing was done to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An open file.
#[derive(Debug)]
struct Held {
    file: Rc<File>,
    packed: bool,
    _slot: Slot,
}

/// What is in a log file, compressed or not.
#[derive(Debug)]
pub struct Content(Inner);

#[derive(Debug)]
enum Inner {
    Plain(Rc<File>),
    Packed(Box<Unpacker>),
    /// It is gone.
    Nothing,
}

/// A log file that somebody still has to read: as long as there is one of these, it is held open.
#[derive(Debug)]
pub struct Reading(Rc<LogFile>);

impl Stamp {
    /// Which file it is on its disk; may be another one's later.
    pub(super) fn inode(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(self) -> bool {
        self.size == 0
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl LogFile {
    /// The file behind a name, which was opened to see what it is.
    pub(super) fn new(
        key: FileKey,
        number: FileNumber,
        pod: &Rc<Path>,
        descriptors: &Rc<Descriptors>,
        name: Name,
        found: Identified,
    ) -> io::Result<Self> {
        let Identified { file, stamp, .. } = found;
        let packed = name.packed;
        let length = if packed {
            unpacked_size(&file, stamp.size)?
        } else {
            stamp.size
        };
        let held = descriptors.take().map(|slot| Held {
            file: Rc::new(file),
            packed,
            _slot: slot,
        });
        descriptors.ask_review();
        Ok(Self {
            key,
            number,
            pod: Rc::clone(pod),
            descriptors: Rc::clone(descriptors),
            name: RefCell::new(name),
            plain: Cell::new((!packed).then_some(stamp)),
            packed: RefCell::new(packed.then(|| Box::new(stamp))),
            held: RefCell::new(held),
            length: Cell::new(length),
            changed: Cell::new(Instant::now()),
            finished: Cell::new(false),
            deleted: Cell::new(false),
            abandoned: Cell::new(false),
            cut: Cell::new(false),
            begins: Cell::new(None),
            readers: Cell::new(0),
        })
    }

    /// Its size before compression when it was last looked at.
    pub fn length(&self) -> u64 {
        self.length.get()
    }

    /// Whether nothing more will be written to it.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// Whether it has no name any more: once it has been read, nothing is left of it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Whether it is given up, because too much of the node's disk is held by files that were deleted.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Whether it was truncated: what was not read of it is lost.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// When it was last written to.
    pub fn modified(&self) -> Timestamp {
        let stamp = self.plain.get().or_else(|| self.stamp(true));
        stamp.map_or_else(Timestamp::default, |stamp| Timestamp {
            seconds: stamp.modified.0,
            nanos: u32::try_from(stamp.modified.1).unwrap_or_default(),
        })
    }

    /// How long nothing was seen to be written to it.
    pub fn quiet_for(&self) -> Duration {
        self.changed.get().elapsed()
    }

    /// What is in it; `kept` is what was in use when it was read last, if that was this file.
    ///
    /// # Errors
    /// Those of the file system; also when the name says another file by now.
    pub fn content(&self, kept: Option<Content>) -> io::Result<Content> {
        if self.cut.get() {
            return Ok(Content(Inner::Nothing));
        }
        if let Some(Content(Inner::Packed(unpacker))) = kept {
            return Ok(Content(Inner::Packed(unpacker)));
        }
        let (file, packed) = self.open()?;
        Ok(Content(if packed {
            Inner::Packed(Box::new(Unpacker::new(file)))
        } else {
            Inner::Plain(file)
        }))
    }

    /// The open file, and whether it is compressed; opens it when it is not held.
    fn open(&self) -> io::Result<(Rc<File>, bool)> {
        if let Some(held) = &*self.held.borrow() {
            return Ok((Rc::clone(&held.file), held.packed));
        }
        let packed = self.name.borrow().packed;
        let found = identify(&self.path(), packed, true)?;
        if found.beginning != Some(self.key.beginning) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Rc::new(found.file);
        self.held.replace(self.descriptors.take().map(|slot| Held {
            file: Rc::clone(&file),
            packed,
            _slot: slot,
        }));
        Ok((file, packed))
    }

    /// Holds it open, if there is room: then it can be deleted.
    pub(super) fn hold(&self) -> io::Result<()> {
        if self.cut.get() || self.deleted.get() {
            return Ok(());
        }
        self.open().map(drop)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// Whether it is held as it was written.
    pub(super) fn is_held_plain(&self) -> bool {
        self.held.borrow().as_ref().is_some_and(|held| !held.packed)
    }

    /// Lets go of it; it is opened again if somebody wants to read it.
    pub(super) fn release(&self) {
        self.held.take();
    }

    fn path(&self) -> PathBuf {
        let mut path = self.pod.join(&*self.key.container);
        path.push(self.name.borrow().to_string());
        path
    }

    /// Whether it was found there.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.path() == path
    }

    /// Whether a stamp is that of this file as it was last seen.
    pub(super) fn stamp(&self, packed: bool) -> Option<Stamp> {
        if packed {
            self.packed.borrow().as_deref().copied()
        } else {
            self.plain.get()
        }
    }

    /// Whether it still begins as it did: an inode is used again, and a file can be truncated.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        let held = match &*self.held.borrow() {
            Some(held) if !held.packed => Some(Rc::clone(&held.file)),
            _ => None,
        };
        let beginning = match held {
            Some(file) => beginning(&*file, false)?,
            None => identify(&self.path(), false, false)?.beginning,
        };
        Ok(beginning == Some(self.key.beginning))
    }

    /// Asks for its size, if it can grow.
    pub(super) fn look(&self) -> Look {
        let metadata = match &*self.held.borrow() {
            Some(held) if !held.packed => held.file.metadata(),
            Some(_) => return Look::Same,
            None if self.readers.get() == 0 || self.name.borrow().packed => return Look::Same,
            None => fs::metadata(self.path()),
        };
        match metadata {
            Ok(metadata) => self.observe(Stamp::from(&metadata)),
            // The next look at the directory says what has become of it.
            Err(_) => Look::Same,
        }
    }

    /// Takes over what the file system says of it.
    pub(super) fn observe(&self, stamp: Stamp) -> Look {
        let before = self.plain.get();
        if before.is_some_and(|before| before.inode() != stamp.inode()) {
            return Look::Same;
        }
        let length = self.length.get();
        // Truncated, and perhaps already written to again: then it begins with another line.
        if stamp.size < length || before != Some(stamp) && !self.is_unchanged().unwrap_or(true) {
            return Look::Cut;
        }
        self.plain.set(Some(stamp));
        if stamp.size == length {
            return Look::Same;
        }
        self.length.set(stamp.size);
        self.changed.set(Instant::now());
        // Perhaps somebody still writes to it, against all expectation.
        if self.finished.replace(false) {
            Look::Reopened
        } else {
            Look::Grown
        }
    }

    /// Whether the run of its container begins with it; none: nobody has seen what came before.
    pub fn begins(&self) -> Option<bool> {
        self.begins.get()
    }

    pub(super) fn set_begins(&self, begins: Option<bool>) {
        self.begins.set(begins);
    }

    /// Whether both are generations of the same run of a container.
    pub fn is_of_the_run_of(&self, other: &Self) -> bool {
        self.key.restart == other.key.restart && self.key.container == other.key.container
    }

    /// Whether its length says how much there is to read: not that of one that was compressed or truncated.
    pub fn can_grow(&self) -> bool {
        self.plain.get().is_some() && !self.cut.get()
    }

    pub(super) fn is_rotated(&self) -> bool {
        matches!(self.name.borrow().generation, Generation::Rotated(_))
    }

    pub(super) fn is_packed(&self) -> bool {
        self.name.borrow().packed
    }

    /// It was found under this name; says whether that is another one.
    pub(super) fn found(&self, name: Name, stamp: Stamp) -> bool {
        let mut reopened = false;
        if name.packed {
            self.packed.replace(Some(Box::new(stamp)));
        } else {
            let before = self.plain.replace(Some(stamp));
            if before.is_some_and(|before| before.inode() != stamp.inode()) {
                self.release();
            }
            if stamp.size > self.length.get() {
                self.length.set(stamp.size);
                self.changed.set(Instant::now());
                reopened = self.finished.replace(false);
            }
        }
        let renamed = *self.name.borrow() != name;
        if renamed {
            self.name.replace(name);
        }
        let changed = self.deleted.replace(false) || renamed || reopened;
        if changed {
            self.descriptors.ask_review();
        }
        changed
    }

    /// It has no name any more; says whether that is news.
    pub(super) fn lose_name(&self) -> bool {
        !self.deleted.replace(true)
    }

    /// Whether the file system has forgotten it: only being held keeps it.
    pub(super) fn is_unlinked(&self) -> bool {
        let held = self.held.borrow();
        let metadata = held.as_ref().map(|held| held.file.metadata());
        metadata.is_some_and(|metadata| metadata.is_ok_and(|metadata| metadata.nlink() == 0))
    }

    /// Whether being held is all that keeps its bytes on the disk.
    pub(super) fn keeps_disk(&self) -> bool {
        let compressed = self.is_packed();
        let held = self.held.borrow();
        held.as_ref()
            .is_some_and(|held| self.deleted.get() || compressed && !held.packed)
    }

    /// Nothing more will be written to it; says whether that is news.
    pub(super) fn finish(&self) -> bool {
        self.descriptors.ask_review();
        !self.finished.replace(true)
    }

    /// Its content was taken away; says whether that is news.
    pub(super) fn cut(&self) -> bool {
        self.finish();
        self.release();
        !self.cut.replace(true)
    }

    /// It is given up as soon as it was counted; what is still there in another form under a name is read from there.
    pub(super) fn abandon(&self) {
        if self.deleted.get() {
            self.abandoned.set(true);
        } else {
            self.release();
        }
    }

    /// Whether somebody has to read it.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.get() > 0
    }

    /// Files of one container, from the oldest to the newest.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let generation = || {
            let (one, other) = (self.name.borrow(), other.name.borrow());
            one.generation.cmp(&other.generation)
        };
        self.key
            .restart
            .cmp(&other.key.restart)
            .then_with(generation)
            .then_with(|| self.number.0.cmp(&other.number.0))
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.key.container, self.name.borrow())
    }
}

/// What a look at a file has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    Same,
    Grown,
    /// It has grown though nothing more was expected of it.
    Reopened,
    /// It is shorter than it was.
    Cut,
}

impl Reading {
    /// Somebody has to read it: from now on it can be deleted.
    pub fn new(file: &Rc<LogFile>) -> Self {
        file.readers.set(file.readers.get() + 1);
        // Between two names, perhaps.
        if !file.is_held() && file.descriptors.has_room() && file.hold().is_err() {
            file.descriptors.ask_again();
        }
        Self(Rc::clone(file))
    }
}

impl Deref for Reading {
    type Target = LogFile;

    fn deref(&self) -> &LogFile {
        &self.0
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.set(self.readers.get() - 1);
        self.descriptors.ask_review();
    }
}

impl Content {
    /// Goes on towards a place, but not for long; says whether it is worth reading from there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn approach(&self, offset: u64) -> io::Result<bool> {
        match &self.0 {
            Inner::Packed(unpacker) => unpacker.approach(offset),
            Inner::Plain(_) | Inner::Nothing => Ok(true),
        }
    }

    /// Whether it ends too early: what comes after is lost.
    pub fn is_damaged(&self) -> bool {
        match &self.0 {
            Inner::Packed(unpacker) => unpacker.is_damaged(),
            Inner::Plain(_) | Inner::Nothing => false,
        }
    }

    /// Whether it is worth keeping for the next time: reading would begin at the beginning of the file otherwise.
    pub fn is_packed(&self) -> bool {
        matches!(self.0, Inner::Packed(_))
    }
}

impl ReadAt for Content {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            Inner::Plain(file) => FileExt::read_at(&**file, buffer, offset),
            Inner::Packed(unpacker) => unpacker.read_at(buffer, offset),
            Inner::Nothing => Ok(0),
        }
    }
}

/// A file that was opened to see what it is.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) file: File,
    pub(super) stamp: Stamp,
    /// None while it is too young to be told apart.
    pub(super) beginning: Option<Beginning>,
}

/// Opens the file behind a path; `young` says whether half a first line is enough to know it by.
pub(super) fn identify(path: &Path, packed: bool, young: bool) -> io::Result<Identified> {
    let file = File::open(path)?;
    // Of the file that was opened: the path may name another one by now.
    let stamp = Stamp::from(&file.metadata()?);
    if !packed {
        let beginning = beginning(&file, young)?;
        return Ok(Identified {
            file,
            stamp,
            beginning,
        });
    }
    let file = Rc::new(file);
    let unpacker = Unpacker::new(Rc::clone(&file));
    // Nothing will be added to it.
    let beginning = beginning(&unpacker, true)?;
    drop(unpacker);
    let file = Rc::into_inner(file).ok_or_else(|| io::Error::other("the file is in use"))?;
    Ok(Identified {
        file,
        stamp,
        beginning,
    })
}

/// Digest of a file's first line or of its first [`BEGINNING`] bytes; none while it has neither.
fn beginning(file: &impl ReadAt, young: bool) -> io::Result<Option<Beginning>> {
    let mut buffer = [0; BEGINNING];
    let got = file.read_at(&mut buffer, 0)?;
    let end = match memchr::memchr(b'\n', &buffer[..got]) {
        Some(newline) => newline,
        None if got == BEGINNING || young && got > 0 => got,
        None => return Ok(None),
    };
    Ok(Some(Beginning::of(&buffer[..end])))
}
