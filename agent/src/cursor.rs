//! How far each sink has acknowledged each log file, and how that survives a restart. Reads no log file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A place in a log file: everything that was complete before `next` is acknowledged.
///
/// A line of one stream can still be open while the other stream goes on. Reading therefore begins again where the
/// earliest open line begins, and passes over what each stream has behind it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Position {
    /// The first byte that was not read.
    pub next: u64,
    /// Where the open line of each stream begins, by [`Stream::index`](crate::cri::Stream::index).
    pub open: [Option<u64>; 2],
}

impl Position {
    /// Where reading begins again.
    pub fn start(&self) -> u64 {
        self.open
            .iter()
            .flatten()
            .fold(self.next, |start, open| start.min(*open))
    }
}

/// What makes a log file the same file after a restart, whatever it is called by then.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct FileKey {
    /// Name of the container.
    pub container: String,
    /// How often the container had been restarted.
    pub restart: u32,
    /// Device.
    pub device: u64,
    /// Inode: may be used again for another file.
    pub inode: u64,
    /// Digest of the beginning, which holds the time of the first line to the nanosecond.
    pub beginning: String,
}

/// What one sink of one policy has acknowledged.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// Records acknowledged.
    pub delivered: u64,
    /// Records refused for their content.
    pub rejected: u64,
    /// Places by file.
    pub files: Vec<(FileKey, Position)>,
}

/// A sink of a policy. The sink's address and credentials are not part of it: they may change.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RouteKey {
    /// UID of the policy.
    pub policy_uid: String,
    /// Name of the sink.
    pub sink: String,
}

/// Everything that is saved.
pub type Cursors = BTreeMap<RouteKey, Progress>;

#[derive(Deserialize, Serialize)]
struct Entry {
    route: RouteKey,
    progress: Progress,
}

/// The file that holds the cursors.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

const FILE: &str = "cursors";

/// What saved cursors must survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Of the agent. Enough at the end of the pod, which must not wait for a busy disk.
    Process,
    /// Of the node, too.
    Node,
}

/// Why there are no cursors to begin with. Reading then begins at the start of every file: twice rather than never.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is there and cannot be read.
    #[error("failed to read the cursors")]
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

    /// What was saved last; nothing where nothing was.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self) -> Result<Cursors, LoadError> {
        let bytes = match fs::read(self.directory.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cursors::new()),
            Err(error) => return Err(LoadError::Read(error)),
        };
        let (digest, json) = bytes
            .split_first_chunk::<DIGEST>()
            .ok_or(LoadError::Damaged)?;
        if Sha256::digest(json).as_slice() != digest {
            return Err(LoadError::Damaged);
        }
        let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|_| LoadError::Damaged)?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.route, entry.progress))
            .collect())
    }

    /// Saves the cursors: after a crash of the process at any moment either these or the last ones are there.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, cursors: &Cursors, against: Crash) -> io::Result<()> {
        let entries: Vec<Entry> = cursors
            .iter()
            .map(|(route, progress)| Entry {
                route: route.clone(),
                progress: progress.clone(),
            })
            .collect();
        let json = serde_json::to_vec(&entries)?;
        fs::create_dir_all(&self.directory)?;
        let temporary = self.directory.join("cursors.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&Sha256::digest(&json))?;
        file.write_all(&json)?;
        if against == Crash::Process {
            return fs::rename(&temporary, self.directory.join(FILE));
        }
        file.sync_all()?;
        fs::rename(&temporary, self.directory.join(FILE))?;
        File::open(&self.directory)?.sync_all()
    }
}

/// Length of a SHA-256.
const DIGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn cursors() -> Cursors {
        let route = RouteKey {
            policy_uid: "uid".into(),
            sink: "splunk".into(),
        };
        let key = FileKey {
            container: "web".into(),
            restart: 1,
            device: 2,
            inode: u64::MAX,
            beginning: "00ff".into(),
        };
        let progress = Progress {
            delivered: 3,
            rejected: 4,
            files: vec![(
                key,
                Position {
                    next: 6,
                    open: [None, Some(5)],
                },
            )],
        };
        Cursors::from([(route, progress)])
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("made"));
        assert_eq!(store.load().unwrap(), Cursors::new());
        for against in [Crash::Process, Crash::Node] {
            store.save(&cursors(), against).unwrap();
            assert_eq!(store.load().unwrap(), cursors());
        }
    }

    #[test]
    fn a_torn_file_is_never_believed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        store.save(&cursors(), Crash::Node).unwrap();
        let whole = fs::read(directory.path().join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(directory.path().join(FILE), &whole[..length]).unwrap();
            assert!(matches!(store.load(), Err(LoadError::Damaged)), "{length}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(directory.path().join(FILE), &flipped).unwrap();
        assert!(matches!(store.load(), Err(LoadError::Damaged)));
    }
}
