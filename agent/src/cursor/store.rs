//! The files that hold the cursors, and their form.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Beginning, FileKey, Place, Position, Progress, RouteKey, State};
use crate::{archive::ledger::Ledger, counts::Counts};

/// As it is written: there can be many files, so theirs is the short form.
#[derive(Deserialize, Serialize)]
struct Saved {
    sequence: u64,
    retired: Counts,
    routes: Vec<SavedRoute>,
}

#[derive(Deserialize, Serialize)]
struct SavedRoute {
    route: RouteKey,
    counts: Counts,
    files: Vec<SavedFile>,
    #[serde(default, skip_serializing_if = "Ledger::is_empty")]
    ledger: Ledger,
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
        let mut newest: Option<State> = None;
        let mut problem = None;
        for crash in Crash::ALL {
            let loaded = match fs::read(self.directory.join(crash.file())) {
                Ok(bytes) => State::decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(LoadError::Read(error)),
            };
            match loaded {
                Ok(state)
                    if newest
                        .as_ref()
                        .is_none_or(|newest| newest.sequence < state.sequence) =>
                {
                    newest = Some(state);
                }
                Ok(_) => {}
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
        let bytes = state.encode()?;
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(against.file());
        let temporary = path.with_extension("new");
        let written = write(&temporary, &bytes, against).and_then(|()| {
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

fn write(path: &Path, bytes: &[u8], against: Crash) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    match against {
        Crash::Process => Ok(()),
        Crash::Node => file.sync_all(),
    }
}

impl State {
    /// Reads what [`State::encode`] has written.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LoadError> {
        let (digest, json) = bytes
            .split_first_chunk::<DIGEST>()
            .ok_or(LoadError::Damaged)?;
        if Sha256::digest(json).as_slice() != digest {
            return Err(LoadError::Damaged);
        }
        let saved: Saved = serde_json::from_slice(json).map_err(|_| LoadError::Damaged)?;
        let route = |saved: SavedRoute| {
            let progress = Progress {
                counts: saved.counts,
                files: saved.files.into_iter().map(Into::into).collect(),
                ledger: saved.ledger,
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
        let route = |(route, progress): (&RouteKey, &Progress)| SavedRoute {
            route: route.clone(),
            counts: progress.counts,
            files: progress.files.iter().map(Into::into).collect(),
            ledger: progress.ledger.clone(),
        };
        let json = serde_json::to_vec(&Saved {
            sequence: self.sequence,
            retired: self.retired,
            routes: self.cursors.iter().map(route).collect(),
        })?;
        let mut bytes = Sha256::digest(&json).to_vec();
        bytes.extend(json);
        Ok(bytes)
    }
}

/// Length of a SHA-256.
const DIGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::{super::Cursors, *};

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
        let progress = Progress {
            counts: Counts {
                delivered: 3,
                lost: 4,
                ..Counts::default()
            },
            files: vec![(key, place)],
            ledger: Ledger {
                objects: 9,
                runs: Vec::new(),
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
