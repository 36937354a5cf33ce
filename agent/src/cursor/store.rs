//! The files that hold the cursors, and their form.

use std::{
    cmp::Reverse,
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use sha2::{Digest, Sha256};

use super::{Beginning, Cursors, FileKey, Place, Position, Progress, RouteKey, State};
use crate::{archive::ledger::Ledger, counts::Counts, process::trail::Trail};

/// As it is read: there can be many files, so theirs is the short form.
#[derive(Deserialize)]
struct Saved {
    sequence: u64,
    retired: Counts,
    routes: Vec<SavedRoute>,
}

#[derive(Deserialize)]
struct SavedRoute {
    route: RouteKey,
    counts: Counts,
    files: SavedFiles,
    #[serde(default)]
    ledger: Ledger,
    #[serde(default)]
    trails: Vec<(Arc<str>, Trail)>,
}

/// How often they had been saved.
#[derive(Deserialize)]
struct Saves {
    sequence: u64,
}

/// Taken over one by one: all of them in two forms would be the most that the process ever holds.
struct SavedFiles(Vec<(FileKey, Place)>);

impl<'de> Deserialize<'de> for SavedFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Files;

        impl<'de> Visitor<'de> for Files {
            type Value = SavedFiles;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("places by file")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut saved: A) -> Result<SavedFiles, A::Error> {
                let mut files = Vec::new();
                while let Some(file) = saved.next_element::<SavedFile>()? {
                    files.push(file.into());
                }
                files.shrink_to_fit();
                Ok(SavedFiles(files))
            }
        }

        deserializer.deserialize_seq(Files)
    }
}

/// The same as it is written, without a copy of what there are many of.
#[derive(Serialize)]
struct Saving<'a> {
    sequence: u64,
    retired: Counts,
    routes: SavingRoutes<'a>,
}

struct SavingRoutes<'a>(&'a Cursors);

#[derive(Serialize)]
struct SavingRoute<'a> {
    route: &'a RouteKey,
    counts: Counts,
    files: SavingFiles<'a>,
    #[serde(skip_serializing_if = "is_empty")]
    ledger: &'a Ledger,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    trails: &'a [(Arc<str>, Trail)],
}

struct SavingFiles<'a>(&'a [(FileKey, Place)]);

impl Serialize for SavingRoutes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(route, progress)| SavingRoute {
            route,
            counts: progress.counts,
            files: SavingFiles(&progress.files),
            ledger: &progress.ledger,
            trails: &progress.trails,
        }))
    }
}

impl Serialize for SavingFiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SavedFile::from))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_empty(ledger: &&Ledger) -> bool {
    ledger.is_empty()
}

/// Container, restart, beginning; next, open, size, done, declined.
#[derive(Deserialize, Serialize)]
struct SavedFile(
    Arc<str>,
    u32,
    Beginning,
    u64,
    [Option<u64>; 2],
    u64,
    bool,
    Option<u64>,
);

impl From<&(FileKey, Place)> for SavedFile {
    fn from((key, place): &(FileKey, Place)) -> Self {
        Self(
            Arc::clone(&key.container),
            key.restart,
            key.beginning,
            place.position.next,
            place.position.open,
            place.size,
            place.done,
            place.declined,
        )
    }
}

impl From<SavedFile> for (FileKey, Place) {
    fn from(saved: SavedFile) -> Self {
        let SavedFile(container, restart, beginning, next, open, size, done, declined) = saved;
        let key = FileKey {
            container,
            restart,
            beginning,
        };
        let place = Place {
            position: Position { next, open },
            size,
            done,
            declined,
        };
        (key, place)
    }
}

/// Where the cursors are saved.
///
/// There are two files. One is written often and survives a crash of the agent; the other is written through to the
/// disk now and then and survives one of the node. The newer whole one counts.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// What saved cursors must survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Of the agent. Waits for no disk.
    Process,
    /// Of the node.
    Node,
}

impl Crash {
    const ALL: [Self; 2] = [Self::Process, Self::Node];

    fn file(self) -> &'static str {
        match self {
            Self::Process => "cursors",
            Self::Node => "cursors.synced",
        }
    }
}

/// Why cursors cannot be used. Without any, reading begins at the start of every file: twice rather than never.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is there and cannot be read.
    #[error("failed to read the cursors: {0}")]
    Read(#[source] io::Error),
    /// Its digest is not that of its content, or the content is of another form.
    #[error("the saved cursors are damaged")]
    Damaged,
}

impl Store {
    /// The cursors below a directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// What was saved last, if anything was, and what is wrong with what was saved, if anything is.
    pub fn load(&self) -> (Option<State>, Option<LoadError>) {
        let mut problem = None;
        let mut saved = Vec::new();
        for crash in Crash::ALL {
            let read = match fs::read(self.directory.join(crash.file())) {
                Ok(bytes) => saves(&bytes).map(|saves| (saves, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(LoadError::Read(error)),
            };
            match read {
                Ok(read) => saved.push(read),
                Err(error) => problem = Some(error),
            }
        }
        saved.sort_by_key(|(saves, _)| Reverse(*saves));
        let mut newest = None;
        for (_, bytes) in saved {
            match State::decode(&bytes) {
                Ok(state) => {
                    newest = Some(state);
                    break;
                }
                Err(error) => problem = Some(error),
            }
        }
        (newest, problem)
    }

    /// Saves the cursors: after a crash at any moment either these or earlier ones are there.
    ///
    /// # Errors
    /// When the directory cannot be written; then what was saved before is still there.
    pub fn save(&self, state: &State, against: Crash) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(against.file());
        let temporary = path.with_extension("new");
        let written = write(&temporary, state, against).and_then(|()| {
            fs::rename(&temporary, path)?;
            if against == Crash::Node {
                File::open(&self.directory)?.sync_all()?;
            }
            Ok(())
        });
        if written.is_err() {
            // Where the disk is full, half a file is in the way of the next attempt.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

fn write(path: &Path, state: &State, against: Crash) -> io::Result<()> {
    let file = state.write_to(File::create(path)?)?;
    match against {
        Crash::Process => Ok(()),
        Crash::Node => file.sync_all(),
    }
}

/// Digests what it writes.
struct Sealing<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl State {
    /// Reads what [`State::encode`] has written.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LoadError> {
        let saved: Saved = serde_json::from_slice(whole(bytes)?).map_err(|_| LoadError::Damaged)?;
        let route = |saved: SavedRoute| {
            let progress = Progress {
                counts: saved.counts,
                files: saved.files.0,
                ledger: saved.ledger,
                trails: saved.trails,
            };
            (saved.route, progress)
        };
        Ok(Self {
            sequence: saved.sequence,
            cursors: saved.routes.into_iter().map(route).collect(),
            retired: saved.retired,
        })
    }

    /// A digest, so that a torn write is noticed, and then JSON.
    ///
    /// # Errors
    /// None for what this type can hold.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let written = self.write_to(io::Cursor::new(Vec::new()))?;
        Ok(written.into_inner())
    }

    /// Writes the same piece by piece: of many files it is as large as everything else that is known of them.
    fn write_to<W: Write + Seek>(&self, mut out: W) -> io::Result<W> {
        // Known when all is written.
        out.write_all(&[0; DIGEST])?;
        let sealing = Sealing {
            out,
            digest: Sha256::new(),
        };
        let mut buffered = BufWriter::with_capacity(PIECE, sealing);
        let saving = Saving {
            sequence: self.sequence,
            retired: self.retired,
            routes: SavingRoutes(&self.cursors),
        };
        serde_json::to_writer(&mut buffered, &saving)?;
        let Sealing { mut out, digest } = buffered
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        out.rewind()?;
        out.write_all(&digest.finalize())?;
        Ok(out)
    }
}

/// The JSON behind its digest.
fn whole(bytes: &[u8]) -> Result<&[u8], LoadError> {
    let (digest, json) = bytes
        .split_first_chunk::<DIGEST>()
        .ok_or(LoadError::Damaged)?;
    if Sha256::digest(json).as_slice() == digest {
        Ok(json)
    } else {
        Err(LoadError::Damaged)
    }
}

/// How often it had been saved, without taking over the rest.
fn saves(bytes: &[u8]) -> Result<u64, LoadError> {
    let saves: Saves = serde_json::from_slice(whole(bytes)?).map_err(|_| LoadError::Damaged)?;
    Ok(saves.sequence)
}

/// How much is written at a time.
const PIECE: usize = 16 << 10;

/// Length of a SHA-256.
const DIGEST: usize = 32;

#[cfg(test)]
mod tests {
    use katonic_log_config::audit::{Fingerprint, Link, Said};

    use super::*;

    fn state(sequence: u64) -> State {
        let route = RouteKey {
            policy_uid: "uid".into(),
            sink: "splunk".into(),
        };
        let key = FileKey {
            container: "web".into(),
            restart: 1,
            beginning: Beginning::of(b"first line"),
        };
        let place = Place {
            position: Position {
                next: u64::MAX,
                open: [None, Some(5)],
            },
            size: 8,
            done: true,
            declined: Some(9),
        };
        let trail = Trail {
            link: Link::default().next(&Said {
                record_id: "f00d-0",
                written: 0,
                fault: None,
                text: Fingerprint::of("{}"),
            }),
            newest: Some(1_795_428_907),
            faults: [("missing actor".into(), 3)].into(),
        };
        let progress = Progress {
            trails: vec![("web".into(), trail)],
            counts: Counts {
                delivered: 3,
                lost: 4,
                ..Counts::default()
            },
            files: vec![(key, place)],
            ledger: Ledger {
                objects: 9,
                runs: Vec::new(),
                starts: Vec::new(),
            },
        };
        State {
            sequence,
            cursors: Cursors::from([(route, progress)]),
            retired: Counts {
                rejected: 7,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn what_is_saved_last_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("made"));
        assert!(matches!(store.load(), (None, None)));
        let saves = [Crash::Process, Crash::Node, Crash::Node, Crash::Process];
        for (sequence, against) in (1..).zip(saves) {
            store.save(&state(sequence), against).unwrap();
            let (loaded, problem) = store.load();
            assert_eq!(loaded, Some(state(sequence)));
            assert!(problem.is_none());
        }
    }

    #[test]
    fn a_torn_file_is_never_believed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        store.save(&state(1), Crash::Process).unwrap();
        let path = directory.path().join(Crash::Process.file());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let torn = store.load();
            assert!(matches!(torn, (None, Some(LoadError::Damaged))), "{length}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(matches!(store.load(), (None, Some(LoadError::Damaged))));
    }

    #[test]
    fn of_a_torn_file_and_an_older_one_the_older_one_is_used_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        store.save(&state(1), Crash::Node).unwrap();
        store.save(&state(2), Crash::Process).unwrap();
        fs::write(directory.path().join(Crash::Process.file()), b"torn").unwrap();
        let (loaded, problem) = store.load();
        assert_eq!(loaded, Some(state(1)));
        assert!(matches!(problem, Some(LoadError::Damaged)));
    }

    #[test]
    fn what_cannot_be_saved_leaves_what_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        store.save(&state(1), Crash::Process).unwrap();
        // Its temporary file cannot be made.
        fs::create_dir(directory.path().join("cursors.new")).unwrap();
        assert!(store.save(&state(2), Crash::Process).is_err());
        assert_eq!(store.load().0, Some(state(1)));
    }
}
