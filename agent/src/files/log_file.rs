//! One generation of a container's log, held open. Looks for no other file.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use crate::{cursor::FileKey, reader::ReadAt, timestamp::Timestamp};

/// How much of a file's beginning sets it apart: the time and stream of its first line and some of its text.
const BEGINNING: usize = 256;

/// One generation of a container's log, held open: it can be read to its end after it was renamed or deleted.
#[derive(Debug)]
pub struct LogFile {
    /// What it is, whatever its name.
    pub key: FileKey,
    file: File,
    generation: RefCell<Generation>,
    length: Cell<u64>,
    modified: Cell<Option<SystemTime>>,
    finished: Cell<bool>,
    deleted: Cell<bool>,
    abandoned: Cell<bool>,
}

/// Order of the generations of one container's log; the live one is the last.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Generation {
    /// Renamed by rotation; the kubelet appends a time that sorts as text.
    Rotated(String),
    /// Being written.
    Live,
}

impl LogFile {
    /// Its size when it was last looked at.
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

    /// When it was last written to.
    pub fn modified(&self) -> Timestamp {
        self.modified.get().map(Timestamp::from).unwrap_or_default()
    }

    /// How long nothing was written to it.
    pub fn quiet_for(&self) -> Duration {
        self.modified
            .get()
            .and_then(|modified| modified.elapsed().ok())
            .unwrap_or_default()
    }

    /// Opens the file behind a path; none while it is too young to be told apart.
    pub(super) fn open(container: &str, restart: u32, path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        // Of the file that was opened: the path may name another one by now.
        let metadata = file.metadata()?;
        let Some(beginning) = beginning(&file)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            key: FileKey {
                container: container.to_owned(),
                restart,
                device: metadata.dev(),
                inode: metadata.ino(),
                beginning,
            },
            file,
            generation: RefCell::new(Generation::Live),
            length: Cell::new(metadata.len()),
            modified: Cell::new(metadata.modified().ok()),
            finished: Cell::new(false),
            deleted: Cell::new(false),
            abandoned: Cell::new(false),
        }))
    }

    /// Whether it still begins as it did: an inode is used again, and a file can be truncated.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        Ok(beginning(&self.file)?.as_ref() == Some(&self.key.beginning))
    }

    /// Whether it has a name but no longer all of its content.
    pub(super) fn is_truncated(&self) -> bool {
        let shorter = |now: Metadata| now.len() < self.length() && now.nlink() > 0;
        self.file.metadata().is_ok_and(shorter)
    }

    /// Asks for its size; says whether that has changed.
    pub(super) fn look(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| self.observe(&metadata))
    }

    /// Takes over what the file system says of it; says whether its size has changed.
    pub(super) fn observe(&self, metadata: &Metadata) -> bool {
        let length = self.length.replace(metadata.len());
        self.modified.set(metadata.modified().ok());
        if length < metadata.len() {
            // Somebody still writes to it, against all expectation.
            self.finished.set(false);
        }
        length != metadata.len()
    }

    /// Which generation its name says that it is.
    pub(super) fn generation(&self) -> Generation {
        self.generation.borrow().clone()
    }

    /// It has another name.
    pub(super) fn rename(&self, generation: Generation) {
        self.generation.replace(generation);
    }

    /// Whether it has a name; says whether it has just lost it.
    pub(super) fn set_named(&self, named: bool) -> bool {
        !self.deleted.replace(!named) && !named
    }

    /// Nothing more will be written to it; says whether that is news.
    pub(super) fn finish(&self) -> bool {
        !self.finished.replace(true)
    }

    /// It is given up.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
    }

    /// Files of one container together, from the oldest to the newest.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let rank = |file: &Self| {
            (
                file.key.container.clone(),
                file.key.restart,
                file.generation(),
            )
        };
        rank(self).cmp(&rank(other))
    }
}

impl ReadAt for LogFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

/// Digest of a file's first line or of its first [`BEGINNING`] bytes; none while it has neither.
fn beginning(file: &File) -> io::Result<Option<String>> {
    let mut buffer = [0; BEGINNING];
    let got = file.read_at(&mut buffer, 0)?;
    let end = match memchr::memchr(b'\n', &buffer[..got]) {
        Some(newline) => newline,
        None if got == BEGINNING => got,
        None => return Ok(None),
    };
    Ok(Some(short_digest(&buffer[..end])))
}

/// The first eight bytes of SHA-256, in hex.
pub fn short_digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let start = digest.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(start))
}

/// Takes a file's name apart: `<restart>.log`, or `<restart>.log.<time>` once it was rotated.
pub(super) fn parse_name(name: &str) -> Option<(u32, Generation)> {
    let (restart, rest) = name.split_once(".log")?;
    let restart = restart.parse().ok()?;
    if rest.is_empty() {
        return Some((restart, Generation::Live));
    }
    // `.gz` and `.tmp` have another dot.
    let time = rest.strip_prefix('.')?;
    let is_time = !time.is_empty()
        && time
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_time.then(|| (restart, Generation::Rotated(time.to_owned())))
}
